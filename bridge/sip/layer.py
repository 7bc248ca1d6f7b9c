"""The transaction layer: the transactions of all flows.

What they bring is told to a `TransactionUser` (RFC 3261 5: "transaction user");
how messages find a flow is in `courier`. RFC 3261 17, 18; RFC 6026.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import assert_never

from bridge.sip.courier import AgendaKey, Courier
from bridge.sip.delivery import (
    OUTSIDE,
    Acknowledgement,
    Delivery,
    Letter,
    Packet,
    Repeat,
    Reply,
)
from bridge.sip.flow import Flow
from bridge.sip.headers import parse_retry_after
from bridge.sip.matching import TransactionKey, client_key, server_key
from bridge.sip.message import Request, Response
from bridge.sip.parameters import EndpointConfig
from bridge.sip.records import Client, SentAck, Server, TransactionUser
from bridge.sip.standing import target_of
from bridge.sip.target import (
    FlowHop,
    Hop,
    HostHop,
    is_secure,
    is_symmetric,
    is_too_large,
    new_branch,
    peer_hop,
    reply_hops,
    write_contact,
    write_via,
)
from bridge.sip.transaction import (
    InviteClient,
    InviteServer,
    NonInviteClient,
    NonInviteServer,
    TxDone,
    TxOutput,
    TxPass,
    TxSend,
    TxTimeout,
    TxTransportError,
)


class TransactionLayer:
    """All transactions of an endpoint."""

    def __init__(
        self,
        config: EndpointConfig,
        user: TransactionUser,
        *,
        tokens: Callable[[], str],
        next_hop_allowed: Callable[[str, str], bool],
    ) -> None:
        self.config = config
        self.user = user
        self.tokens = tokens
        self.courier = Courier(
            self,
            next_hop_allowed=next_hop_allowed,
            patience=config.timers.patience,
            max_deliveries=4 * config.max_flow_transactions,
        )
        self.agenda = self.courier.agenda
        self.clients: dict[TransactionKey, Client] = {}
        self.servers: dict[TransactionKey, Server] = {}
        self.servers_on: Counter[int] = Counter()

    def flow_failed(self, flow: Flow, now: float) -> None:
        """Forget a connection, or take the news that UDP did not get through.

        Requests that nobody has answered are repeated, on a new connection to the
        same peer or elsewhere; responses find their way when they are due.
        """
        self.courier.lost(flow)
        if not flow.reliable:
            self.courier.standings.failed(target_of(flow), now)
        for client in [c for c in self.clients.values() if c.flow.id == flow.id]:
            if client.awaits_first_answer:
                self._repeat(client, now)

    # Requests of ours

    def send(self, letter: Letter, hops: Iterable[Hop], now: float) -> None:
        """Send a request by the first of *hops* that works; the user is told the rest."""
        self.courier.dispatch(letter, letter.trunk, hops, now)

    def acknowledge(
        self, client: Client, tag: str, letter: Letter, hops: Iterable[Hop], now: float
    ) -> None:
        """Send the first ACK of a 2xx; it is remembered for the copies of that 2xx."""
        ack = SentAck(letter=letter, hops=list(hops), on_its_way=True)
        client.acks[tag] = ack
        payload = Acknowledgement(letter=letter, key=client.key, tag=tag)
        self.courier.dispatch(payload, letter.trunk, ack.hops, now)

    def acknowledge_again(self, client: Client, tag: str, flow: Flow, now: float) -> None:
        """Acknowledge a copy of a 2xx, which came by *flow*."""
        ack = client.acks[tag]
        if ack.on_its_way:
            return
        if ack.data and ack.flow is not None and self.courier.is_alive(ack.flow):
            if flow.reliable and flow.remote[0] == ack.flow.remote[0]:
                # The peer has moved: its old connection may be half dead.
                ack.flow = flow
            self.courier.write(ack.flow, ack.data)
        elif ack.data:
            hops = (FlowHop(flow), *ack.hops)
            self.courier.dispatch(Packet(ack.data), ack.letter.trunk, hops, now)
        else:
            ack.on_its_way = True
            payload = Acknowledgement(letter=ack.letter, key=client.key, tag=tag)
            self.courier.dispatch(payload, ack.letter.trunk, (FlowHop(flow), *ack.hops), now)

    def ways_of(self, client: Client) -> list[Hop]:
        """Return the ways to where a request of ours went: its flow, then the same peer."""
        again = peer_hop(client.flow)
        return [FlowHop(client.flow), again, *client.hops]

    def note_rest(self, client: Client, response: Response, now: float) -> None:
        """Remember that the target of a request wants to be left alone (503, Retry-After)."""
        seconds = parse_retry_after(response.headers)
        if seconds is not None:
            self.courier.standings.rest(target_of(client.flow), seconds, now)

    def drop_client(self, client: Client) -> None:
        """Forget a transaction of ours."""
        if self.clients.get(client.key) is client:
            del self.clients[client.key]
            self.agenda.set(("client", client.key), None)

    def receive_response(self, response: Response, flow: Flow, now: float) -> None:
        """Give a response to its transaction; a stray one is dropped."""
        client = self.clients.get(client_key(response))
        if client is None:
            return
        client.status = max(client.status, response.status)
        self.courier.standings.answered(target_of(client.flow))
        self._run_client(client, client.machine.receive(response, now), flow, now)

    # Requests of the peer

    def has_room(self, flow: Flow) -> bool:
        """Whether another server transaction is accepted from *flow*."""
        limit = self.config.max_flow_transactions
        return self.servers_on[flow.id] < limit and len(self.servers) < 16 * limit

    def begin_server(
        self, request: Request, flow: Flow, session: int, to_tag: str, now: float
    ) -> Server:
        """Make the server transaction of a new request."""
        kind = InviteServer if request.method == "INVITE" else NonInviteServer
        server = Server(
            key=server_key(request),
            machine=kind(request, flow, now, self.config.timers),
            request=request,
            flow=flow,
            session=session,
            to_tag=to_tag,
            symmetric=is_symmetric(request, flow),
        )
        self.servers[server.key] = server
        self.servers_on[flow.id] += 1
        server.machine.start(now)
        self._schedule_server(server)
        return server

    def retire(self, server: Server) -> None:
        """Forget a transaction whose branch the peer has given to another request."""
        server.away = False
        self._drop_server(server)

    def respond(self, server: Server, response: Response, now: float) -> None:
        """Send a response; one that comes too late is dropped."""
        if not server.machine.done:
            self._run_server(server, server.machine.respond(response, now), server.flow, now)

    def respond_stateless(
        self, request: Request, response: Response, flow: Flow, now: float
    ) -> None:
        """Answer without a transaction (RFC 3261 8.2.7): a copy gets the same answer."""
        data = response.encode()
        if is_symmetric(request, flow):
            self.courier.write(flow, data)
        else:
            self.courier.dispatch(Packet(data), "", reply_hops(request, flow)[:1], now)

    def receive_again(self, server: Server, request: Request, flow: Flow, now: float) -> None:
        """Give a retransmission or an ACK to its transaction.

        It may come on another connection than the request: then responses go there.
        """
        if flow.reliable and flow.id != server.flow.id:
            self._count_server(server, -1)
            server.flow = flow
            server.machine.flow = flow
            self._count_server(server, 1)
        self._run_server(server, server.machine.receive(request, now), flow, now)

    # Time

    def expire(self, due: AgendaKey, now: float) -> None:
        """Handle a deadline of this layer."""
        kind, key = due
        if isinstance(key, int):
            self.courier.expire(key, now)
        elif kind == "client" and (client := self.clients.get(key)) is not None:
            self._run_client(client, client.machine.tick(now), client.flow, now)
        elif kind == "server" and (server := self.servers.get(key)) is not None:
            self._run_server(server, server.machine.tick(now), server.flow, now)

    # Machines

    def _run_client(
        self, client: Client, outputs: Sequence[TxOutput], flow: Flow, now: float
    ) -> None:
        for output in outputs:
            match output:
                case TxSend(data):
                    self._send_by(client, data, now)
                case TxPass(message) if isinstance(message, Response):
                    self.user.on_response(client, message, flow, now)
                case TxTimeout():
                    self._timed_out(client, now)
                case TxTransportError():
                    self.user.on_unreachable(client.letter.errand, now)
                case TxDone():
                    self.drop_client(client)
                case TxPass():
                    pass
                case _:
                    assert_never(output)
        if self.clients.get(client.key) is client:
            self.agenda.set(("client", client.key), client.machine.next_deadline())

    def _timed_out(self, client: Client, now: float) -> None:
        """Tell that nobody answered, after another target or connection was tried.

        RFC 3263 4.3: a time-out is a failure, upon which the next element is tried.
        """
        if client.status == 0:
            self.courier.standings.failed(target_of(client.flow), now)
        if client.hops and client.may_be_half_dead:
            self._repeat(client, now, spent=client.flow.id)
        elif client.status or not self.try_next(client, now):
            self.user.on_timeout(client.letter.errand, now)

    def try_next(self, client: Client, now: float) -> bool:
        """Send a request outside dialogs to the next target; tell whether there may be one.

        RFC 3263 4.3: the client "SHOULD create a new request, which is identical to the
        previous, but has a different value of the Via branch ID than the previous (and
        therefore constitutes a new SIP transaction)."
        """
        errand = client.letter.errand
        target = target_of(client.flow)
        others = [hop for hop in client.hops if not _leads_to(hop, client.flow)]
        if errand.purpose not in OUTSIDE or not others or not self.user.may_go_elsewhere(errand):
            return False
        letter = replace(client.letter, tried=client.letter.tried | {target})
        self.courier.dispatch(letter, letter.trunk, others, now)
        return True

    def _send_by(self, client: Client, data: bytes, now: float) -> None:
        """Write what a client machine sends: a retransmission, or the ACK of a refusal."""
        if self.courier.is_alive(client.flow):
            self.courier.write(client.flow, data)
        else:
            self.courier.dispatch(Packet(data), client.letter.trunk, self.ways_of(client), now)

    def _run_server(
        self, server: Server, outputs: Sequence[TxOutput], flow: Flow, now: float
    ) -> None:
        for output in outputs:
            match output:
                case TxSend(data):
                    self._reply_by(server, data, now)
                case TxPass(message) if isinstance(message, Request):
                    self.user.on_ack(message, flow, now)
                case TxDone():
                    self._drop_server(server)
                case TxPass() | TxTimeout() | TxTransportError():
                    pass
                case _:
                    assert_never(output)
        self._schedule_server(server)

    def _schedule_server(self, server: Server) -> None:
        if self.servers.get(server.key) is server:
            self.agenda.set(("server", server.key), server.machine.next_deadline())

    def _reply_by(self, server: Server, data: bytes, now: float) -> None:
        if server.symmetric and self.courier.is_alive(server.flow):
            self.courier.write(server.flow, data)
            return
        server.pending = data
        if not server.away:
            server.away = True
            hops = reply_hops(server.request, server.flow)
            self.courier.dispatch(Reply(server.key), "", hops, now)

    def forget_server(self, key: TransactionKey) -> None:
        """Forget a request of the peer that will not be answered."""
        server = self.servers.get(key)
        if server is not None:
            server.away = False
            self._drop_server(server)

    def _drop_server(self, server: Server) -> None:
        # A reply still on its way is sent from what is remembered here.
        if server.away:
            return
        if self.servers.get(server.key) is server:
            del self.servers[server.key]
            self._count_server(server, -1)
            self.agenda.set(("server", server.key), None)
            self.user.on_server_done(server)

    def _count_server(self, server: Server, change: int) -> None:
        self.servers_on[server.flow.id] += change
        if not self.servers_on[server.flow.id]:
            del self.servers_on[server.flow.id]

    def _repeat(self, client: Client, now: float, *, spent: int = 0) -> None:
        """Send an unanswered request again by the hops that are left."""
        self.drop_client(client)
        peer = (client.flow.transport, client.flow.remote)
        payload = Repeat(letter=client.letter, key=client.key, peer=peer, spent=spent)
        self.courier.dispatch(payload, client.letter.trunk, client.hops, now)

    # What the courier tells (`Recipient`)

    def on_arrived(self, delivery: Delivery, flow: Flow, now: float) -> None:
        """There is a flow for what was sent."""
        payload = delivery.payload
        match payload:
            case Packet(data):
                self.courier.write(flow, data)
            case Reply(key):
                self._deliver_reply(key, flow)
            case Repeat() if payload.spent == flow.id:
                self.user.on_timeout(payload.letter.errand, now)
            case Letter() | Repeat() if self._goes_by_tcp(delivery, payload, flow, now):
                pass
            case Letter():
                self._begin_client(payload, new_branch(self.tokens()), delivery, flow, now)
            case Repeat():
                same = (flow.transport, flow.remote) == payload.peer
                branch = payload.key[0] if same else new_branch(self.tokens())
                self._begin_client(payload.letter, branch, delivery, flow, now)
            case Acknowledgement():
                self._deliver_ack(payload, flow)
            case _:
                assert_never(payload)

    def on_undeliverable(self, delivery: Delivery, now: float) -> None:
        """Nothing worked."""
        payload = delivery.payload
        match payload:
            case Letter(errand=errand) if delivery.rests is not None:
                self.user.on_resting(errand, delivery.rests, now)
            case Letter(errand=errand):
                self.user.on_unreachable(errand, now)
            case Repeat(letter=letter) if payload.spent:
                self.user.on_timeout(letter.errand, now)
            case Repeat(letter=letter):
                self.user.on_unreachable(letter.errand, now)
            case Reply(key):
                server = self.servers.get(key)
                if server is not None:
                    # The next response or copy of the request tries again.
                    server.away = False
                    if server.machine.done:
                        self._drop_server(server)
            case Acknowledgement():
                ack = self._ack(payload)
                if ack is not None:
                    ack.on_its_way = False  # the next copy of the 2xx asks again
            case Packet():
                pass
            case _:
                assert_never(payload)

    def _deliver_ack(self, payload: Acknowledgement, flow: Flow) -> None:
        # RFC 3261 13.2.2.4, 17: the ACK of a 2xx has a branch of its own.
        data = self._addressed(payload.letter, flow, new_branch(self.tokens())).encode()
        ack = self._ack(payload)
        if ack is not None:
            ack.data, ack.flow, ack.on_its_way = data, flow, False
        self.courier.write(flow, data)

    def _ack(self, payload: Acknowledgement) -> SentAck | None:
        client = self.clients.get(payload.key)
        return None if client is None else client.acks.get(payload.tag)

    def _deliver_reply(self, key: TransactionKey, flow: Flow) -> None:
        server = self.servers.get(key)
        if server is None:
            return
        server.away = False
        server.symmetric = True
        self._count_server(server, -1)
        server.flow = flow
        self._count_server(server, 1)
        if server.pending is not None:
            self.courier.write(flow, server.pending)
            server.pending = None
        if server.machine.done:
            self._drop_server(server)

    def _addressed(self, letter: Letter, flow: Flow, branch: str) -> Request:
        """Return the request as it leaves by *flow*."""
        source = letter.request
        request = Request(source.method, source.uri, source.headers.copy(), source.body)
        if not letter.keeps_via:
            request.headers.prepend("Via", write_via(self.config, flow, branch))
        if letter.contact_user is not None:
            route = request.headers.get("Route") or ""
            secure = is_secure(request.uri, route)
            contact = write_contact(self.config, flow, letter.contact_user, secure=secure)
            request.headers.set("Contact", contact)
        return request

    def _goes_by_tcp(
        self, delivery: Delivery, payload: Letter | Repeat, flow: Flow, now: float
    ) -> bool:
        """Send a request that is too large for UDP to the same target by TCP, if that may work.

        RFC 3261 18.1.1: "If a request is within 200 bytes of the path MTU, or if it is larger
        than 1300 bytes and the path MTU is unknown, the request MUST be sent using an RFC 2914
        [43] congestion controlled transport protocol, such as TCP. If this causes a change in
        the transport protocol from the one indicated in the top Via, the value in the top Via
        MUST be changed." "[...] if the attempt to establish the connection generates either an
        ICMP Protocol Not Supported, or results in a TCP reset, the element SHOULD retry the
        request, using UDP." The Contact stays that of UDP.
        """
        letter = payload if isinstance(payload, Letter) else payload.letter
        if flow.reliable or delivery.at_any_size or letter.keeps_via:
            return False
        if self.courier.standings.is_cooling(("tcp", *flow.remote), now):
            return False  # it has no TCP, or had none a moment ago
        written = self._addressed(letter, flow, new_branch(_SOME_TOKEN))
        if not is_too_large(written):
            return False
        if letter.contact_user is not None:
            written.headers.remove("Via")
            letter = replace(letter, request=written, contact_user=None)
        again: Letter | Repeat = letter
        if isinstance(payload, Repeat):
            again = replace(payload, letter=letter)
        hops = [
            HostHop("tcp", *flow.remote, trusted=True),
            FlowHop(flow, at_any_size=True),
            *_hops_left(delivery, flow),
        ]
        self.courier.dispatch(again, delivery.trunk, hops, now)
        return True

    def _begin_client(
        self, letter: Letter, branch: str, delivery: Delivery, flow: Flow, now: float
    ) -> None:
        request = self._addressed(letter, flow, branch)
        kind = InviteClient if request.method == "INVITE" else NonInviteClient
        client = Client(
            key=client_key(request),
            machine=kind(request, flow, now, self.config.timers),
            letter=letter,
            flow=flow,
            hops=_hops_left(delivery, flow),
            repeated=isinstance(delivery.payload, Repeat),
        )
        self.clients[client.key] = client
        self.user.on_sent(client, now)
        self._run_client(client, client.machine.start(now), flow, now)


_SOME_TOKEN = "0" * 24  # as long as a branch's


def _leads_to(hop: Hop, flow: Flow) -> bool:
    """Whether *hop* leads to the peer of *flow* and nowhere else, by any transport."""
    match hop:
        case FlowHop():
            return hop.flow.remote == flow.remote
        case HostHop():
            return (hop.host, hop.port) == flow.remote
        case _:
            assert_never(hop)


def _hops_left(delivery: Delivery, flow: Flow) -> list[Hop]:
    """Return where to go when *flow*, which *delivery* has found, fails.

    A connection we made is made once more; the other addresses of the host and
    the other hops follow.
    """
    hop = delivery.hop
    if hop is None:
        return list(delivery.hops)
    again = peer_hop(flow)
    payload = delivery.payload
    tried = isinstance(payload, Repeat) and payload.peer == (flow.transport, flow.remote)
    name = hop.name or hop.host
    others = [
        HostHop(hop.transport, *address, trusted=True, name=name) for address in delivery.addresses
    ]
    first: list[Hop] = [again] if flow.reliable and not tried else []
    return [*first, *others, *delivery.hops]

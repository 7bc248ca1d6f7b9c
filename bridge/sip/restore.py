"""Putting the snapshot of an endpoint into a fresh one.

`bridge.sip.take.take` and `put` are a pair: what was taken from one endpoint and put into
a fresh one goes on with the same outputs for the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from bridge.errors import MisuseError
from bridge.sip import referral
from bridge.sip.authentication import Authentication
from bridge.sip.core import UserAgentCore
from bridge.sip.courier import AgendaKey
from bridge.sip.delivery import (
    Acknowledgement,
    Delivery,
    Letter,
    Packet,
    Payload,
    Repeat,
    Reply,
)
from bridge.sip.dialog import Dialog
from bridge.sip.digest import Credentials
from bridge.sip.events import SessionId
from bridge.sip.keepalive import KeepAliveCore
from bridge.sip.layer import TransactionLayer
from bridge.sip.message import Request, Response, read
from bridge.sip.records import Client, SentAck, Server
from bridge.sip.registrar import RegistrarCore
from bridge.sip.registration import read_back
from bridge.sip.session import (
    Cancelling,
    Early,
    Phase,
    Reliable,
    Reoffer,
    Role,
    Session,
    Unacked,
)
from bridge.sip.session_timer import Refresher, SessionTimer
from bridge.sip.snapshot import (
    VERSION,
    ClientSnapshot,
    DeliverySnapshot,
    DialogSnapshot,
    EarlySnapshot,
    EndpointSnapshot,
    LetterSnapshot,
    PayloadSnapshot,
    ReliableSnapshot,
    ReofferSnapshot,
    ServerSnapshot,
    SessionSnapshot,
    TimerSnapshot,
    UnackedSnapshot,
)
from bridge.sip.standing import Standing
from bridge.sip.transaction import InviteClient, InviteServer, NonInviteClient, NonInviteServer
from bridge.sip.transaction import restore as restore_transaction
from sdp.model import Direction
from sdp.negotiate import OfferAnswer, OfferAnswerSnapshot

RestoreOfferAnswer = Callable[[str, OfferAnswerSnapshot], OfferAnswer]
"""Makes the offer/answer machine of a session again, given its trunk: the policy about
destinations is code and is not written down."""


class Reader:
    """Makes live state of snapshots; the counterpart of `Writer`.

    Raises ParseError or MisuseError when a snapshot is not one of ours.
    """

    def __init__(
        self,
        now: float,
        wall: float,
        offer_answer: RestoreOfferAnswer,
        credentials: Callable[[str], Credentials | None],
    ) -> None:
        self.now = now
        self.wall = wall
        self.offer_answer = offer_answer
        self.credentials = credentials

    def session(self, kept: SessionSnapshot) -> Session:
        """Return the session that *kept* describes."""
        oa = kept.offer_answer
        return Session(
            id=SessionId(kept.id),
            role=Role(kept.role),
            phase=Phase(kept.phase),
            call_id=kept.call_id,
            local_tag=kept.local_tag,
            trunk=kept.trunk,
            trunks=frozenset(kept.trunks),
            hosts=kept.hosts,
            flow=kept.flow,
            next_hop=kept.next_hop,
            contact_user=kept.contact_user,
            invite=None if kept.invite is None else _request(kept.invite),
            invite_key=kept.invite_key,
            offer_answer=None if oa is None else self.offer_answer(kept.trunk, oa),
            answer=kept.answer,
            dialog=None if kept.dialog is None else _live_dialog(kept.dialog),
            early={early.tag: self._early(kept.trunk, early) for early in kept.early},
            remote_headers=kept.remote_headers,
            rang=kept.rang,
            provisional=kept.provisional,
            cancelling=Cancelling(kept.cancelling),
            cancel_by=self._now(kept.cancel_by),
            ring_again_at=self._now(kept.ring_again_at),
            unacked=self._unacked(kept.unacked),
            reliable=self._reliable(kept.reliable),
            reoffer=self._reoffer(kept.reoffer),
            referral=referral.revive(kept.referral, self.now - self.wall),
            refer_in=kept.refer_in,
            referred=referral.revive_referred(kept.referred, self.now - self.wall),
            probing=kept.probing,
            missed_probes=kept.missed_probes,
            refused_offer_at=self._now(kept.refused_offer_at),
            quiet=kept.quiet,
            farewell=kept.farewell,
            authentication=Authentication.restore(
                self.credentials(kept.trunk), kept.authentication
            ),
            turned_away=kept.turned_away,
            timer=self._timer(kept.timer),
        )

    def client(self, kept: ClientSnapshot, layer: TransactionLayer) -> Client:
        """Return the client transaction that *kept* describes."""
        timers = layer.config.timers
        machine = restore_transaction(kept.machine, kept.flow, self.now, self.wall, timers)
        if not isinstance(machine, InviteClient | NonInviteClient):
            raise MisuseError("Snapshot is of another kind of transaction")
        return Client(
            key=kept.key,
            machine=machine,
            letter=_live_letter(kept.letter),
            flow=kept.flow,
            hops=list(kept.hops),
            status=kept.status,
            acks={
                ack.tag: SentAck(
                    letter=_live_letter(ack.letter),
                    hops=list(ack.hops),
                    data=ack.data,
                    flow=ack.flow,
                    on_its_way=ack.on_its_way,
                )
                for ack in kept.acks
            },
            repeated=kept.repeated,
        )

    def server(self, kept: ServerSnapshot, layer: TransactionLayer) -> Server:
        """Return the server transaction that *kept* describes."""
        timers = layer.config.timers
        machine = restore_transaction(kept.machine, kept.flow, self.now, self.wall, timers)
        if not isinstance(machine, InviteServer | NonInviteServer):
            raise MisuseError("Snapshot is of another kind of transaction")
        return Server(
            key=kept.key,
            machine=machine,
            request=machine.request,
            flow=kept.flow,
            session=kept.session,
            to_tag=kept.to_tag,
            symmetric=kept.symmetric,
            pending=kept.pending,
            away=kept.away,
        )

    def delivery(self, kept: DeliverySnapshot) -> Delivery:
        """Return the delivery that *kept* describes."""
        return Delivery(
            id=kept.id,
            payload=_live_payload(kept.payload),
            trunk=kept.trunk,
            hops=list(kept.hops),
            until=self.now + (kept.until - self.wall),
            hop=kept.hop,
            addresses=list(kept.addresses),
            waiting=kept.waiting,
            trying=kept.trying,
            attempt_until=self._now(kept.attempt_until),
            rests=kept.rests,
        )

    def standing(self, kept: Standing) -> Standing:
        """Return the standing that *kept* describes."""
        return replace(
            kept,
            cool_at=self.now + (kept.cool_at - self.wall),
            rest_until=self.now + (kept.rest_until - self.wall),
        )

    def _now(self, at: float | None) -> float | None:
        return None if at is None else self.now + (at - self.wall)

    def _unacked(self, kept: UnackedSnapshot | None) -> Unacked | None:
        if kept is None:
            return None
        return Unacked(
            cseq=kept.cseq,
            server=kept.server,
            response=_response(kept.response),
            offers=kept.offers,
            resend_at=self.now + (kept.resend_at - self.wall),
            interval=kept.interval,
            give_up_at=self.now + (kept.give_up_at - self.wall),
        )

    def _early(self, trunk: str, kept: EarlySnapshot) -> Early:
        oa = kept.offer_answer
        return Early(
            dialog=_live_dialog(kept.dialog),
            sdp=kept.sdp,
            rseq=kept.rseq,
            offer_answer=None if oa is None else self.offer_answer(trunk, oa),
        )

    def _reliable(self, kept: ReliableSnapshot | None) -> Reliable | None:
        if kept is None:
            return None
        return Reliable(
            rseq=kept.rseq,
            response=None if kept.response is None else _response(kept.response),
            offers=kept.offers,
            resend_at=self._now(kept.resend_at),
            interval=kept.interval,
            give_up_at=self._now(kept.give_up_at),
            answering=kept.answering,
        )

    def _timer(self, kept: TimerSnapshot) -> SessionTimer:
        return SessionTimer(
            wish=kept.wish,
            floor=kept.floor,
            min_se=kept.min_se,
            interval=kept.interval,
            refresher=Refresher(kept.refresher),
            updates=kept.updates,
            refreshing=kept.refreshing,
            tries=kept.tries,
            refresh_at=self._now(kept.refresh_at),
            give_up_at=self._now(kept.give_up_at),
        )

    def _reoffer(self, kept: ReofferSnapshot | None) -> Reoffer | None:
        if kept is None:
            return None
        return Reoffer(
            direction=Direction(kept.direction),
            method=kept.method,
            refresh=kept.refresh,
            stale=kept.stale,
            attempts=kept.attempts,
            again_at=self._now(kept.again_at),
        )


def put(
    snapshot: EndpointSnapshot,
    core: UserAgentCore,
    registrar: RegistrarCore,
    keepalive: KeepAliveCore,
    reader: Reader,
) -> None:
    """Fill a fresh endpoint; the flows of the snapshot count as alive until they are lost."""
    if snapshot.version != VERSION:
        raise MisuseError("Snapshot is of another version")
    layer = core.layer
    core.draining = snapshot.draining
    layer.courier.counter = snapshot.counter
    for flow in snapshot.flows:
        layer.courier.opened(flow)
    for session in snapshot.sessions:
        core.add(reader.session(session))
    for kept in snapshot.clients:
        client = reader.client(kept, layer)
        owner = core.sessions.get(SessionId(client.letter.errand.session))
        if owner is not None:
            client.letter = replace(client.letter, authentication=owner.authentication)
        layer.clients[client.key] = client
    for server in snapshot.servers:
        layer.servers[server.key] = reader.server(server, layer)
        layer.servers_on[server.flow.id] += 1
    for delivery in snapshot.deliveries:
        live = reader.delivery(delivery)
        layer.courier.enter(live)
        layer.courier.waiting[live.waiting] = live.id
    for target, standing in snapshot.standings:
        layer.courier.standings.known[target] = reader.standing(standing)
    for kept_one in snapshot.registrations:
        credentials = reader.credentials(kept_one.settings.trunk)
        registrar.enter(read_back(kept_one, credentials, reader.now, reader.wall))
    for key in snapshot.agenda:
        layer.agenda.set(key, _deadline(key, core, registrar, keepalive))


def _deadline(
    key: AgendaKey, core: UserAgentCore, registrar: RegistrarCore, keepalive: KeepAliveCore
) -> float | None:
    kind, name = key
    if isinstance(name, int):
        if kind == "session":
            return core.sessions[SessionId(name)].next_deadline()
        if kind == "keepalive":
            return keepalive.beats[name].deadline
        if kind == "registration":
            return registrar.registrations[name].next_deadline()
        return core.layer.courier.deliveries[name].due
    table = core.layer.clients if kind == "client" else core.layer.servers
    return table[name].machine.next_deadline()


def _live_dialog(kept: DialogSnapshot) -> Dialog:
    return Dialog(**{f.name: getattr(kept, f.name) for f in fields(Dialog)})


def _live_letter(kept: LetterSnapshot) -> Letter:
    return Letter(
        request=_request(kept.request),
        errand=kept.errand,
        trunk=kept.trunk,
        contact_user=kept.contact_user,
        keeps_via=kept.keeps_via,
        attempts=kept.attempts,
        tried=frozenset(kept.tried),
    )


def _request(data: bytes) -> Request:
    request = read(data)
    if not isinstance(request, Request):
        raise MisuseError("Snapshot of a request is a response")
    request.headers.remove("Content-Length")  # written anew, last, as the first time
    return request


def _response(data: bytes) -> Response:
    response = read(data)
    if not isinstance(response, Response):
        raise MisuseError("Snapshot of a response is a request")
    response.headers.remove("Content-Length")  # written anew, last, as the first time
    return response


def _live_payload(kept: PayloadSnapshot) -> Payload:
    if kept.letter is None:
        return Reply(kept.key) if kept.kind == "reply" else Packet(kept.data)
    letter = _live_letter(kept.letter)
    if kept.kind == "ack":
        return Acknowledgement(letter=letter, key=kept.key, tag=kept.tag)
    if kept.peer is not None:
        return Repeat(letter=letter, key=kept.key, peer=kept.peer, spent=kept.spent)
    return letter

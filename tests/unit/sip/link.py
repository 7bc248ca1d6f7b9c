"""A virtual network in virtual time: SIP endpoints and scripted peers, back to back.

UDP can lose, duplicate and reorder; streams can be cut. Nothing here waits.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from typing import TypeVar

from bridge.sip.digest import Credentials
from bridge.sip.endpoint import Endpoint
from bridge.sip.events import (
    CloseFlow,
    Connect,
    IncomingInvite,
    Output,
    PassUp,
    Resolve,
    Send,
    SessionId,
    SipEvent,
)
from bridge.sip.flow import Flow
from bridge.sip.framing import StreamFramer
from bridge.sip.message import Headers, Request, Response, parse, read, response_to
from bridge.sip.parameters import EndpointConfig, OutgoingInvite
from bridge.sip.uri import write_hostport
from sdp.negotiate import LocalMedia, OfferAnswer
from sdp.negotiated import Negotiated

TRUNK = "carrier"
TRUNKS = frozenset((TRUNK,))
E = TypeVar("E")


def counter_tokens(prefix: str) -> Callable[[], str]:
    """Tokens that tell who made them, for readable failures."""
    numbers = count(1)
    return lambda: f"{prefix}{next(numbers):05d}"


def media(host: str, port: int = 20000, codecs: tuple[str, ...] = ("PCMA", "PCMU")) -> OfferAnswer:
    """An offer/answer machine of *host* that may send anywhere."""
    local = LocalMedia(address=host, port=port, codecs=codecs, session_id=1)
    return OfferAnswer(local, destination_allowed=lambda _address, _port: True)


def sdp(
    host: str,
    *lines: str,
    port: int = 30000,
    address: str | None = None,
    version: int = 1,
    session_lines: tuple[str, ...] = (),
) -> bytes:
    """An SDP body of a peer, PCMA and telephone-event."""
    text = [
        "v=0",
        f"o=- 7 {version} IN IP4 {host}",
        "s=-",
        f"c=IN IP4 {address or host}",
        "t=0 0",
        *session_lines,
        f"m=audio {port} RTP/AVP 8 101",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        *lines,
    ]
    return ("\r\n".join(text) + "\r\n").encode()


@dataclass
class Wire:
    """One message as it was sent."""

    at: float
    source: str
    target: str
    flow: int
    data: bytes

    @property
    def message(self) -> Request | Response:
        return parse(self.data)

    @property
    def label(self) -> str:
        if not self.data.strip():
            return "CRLF"
        message = self.message
        if isinstance(message, Request):
            return message.method
        return f"{message.status} {message.cseq.method}"


@dataclass
class Node:
    """A host on the network."""

    net: Net
    host: str
    port: int = 5060
    listens: bool = True
    flows: dict[int, Flow] = field(default_factory=dict)
    trunks: frozenset[str] = TRUNKS
    new_call_trunks: frozenset[str] = TRUNKS

    def take(self, data: bytes, flow: Flow) -> None:
        raise NotImplementedError

    def lost(self, flow: Flow) -> None:
        """A connection is gone."""

    def opened(self, flow: Flow) -> None:
        """A peer connected."""

    def run(self) -> None:
        """Carry out what is wanted now."""

    def deadline(self) -> float | None:
        return None

    def tick(self) -> None:
        """Time passed."""


class Agent(Node):
    """A node with an endpoint. ``on_event`` may be replaced; events are kept."""

    def __init__(self, net: Net, host: str, **options: object) -> None:
        super().__init__(net, host)
        config = options.pop("config", None) or EndpointConfig(
            listen_ports={"tcp": 5060, "udp": 5060, "tls": 5061}
        )
        options.setdefault("tokens", counter_tokens(host.replace(".", "") + "x"))
        self.endpoint = Endpoint(config, **options)  # type: ignore[arg-type]
        self.events: list[SipEvent] = []
        self.outputs: list[Output] = []
        self.on_event: Callable[[SipEvent], None] = lambda _event: None

    def take(self, data: bytes, flow: Flow) -> None:
        self.endpoint.receive(data, flow, self.net.now)

    def lost(self, flow: Flow) -> None:
        self.endpoint.flow_lost(flow, self.net.now)

    def opened(self, flow: Flow) -> None:
        self.endpoint.flow_opened(flow, self.net.now)

    def deadline(self) -> float | None:
        return self.endpoint.next_deadline()

    def tick(self) -> None:
        self.endpoint.tick(self.net.now)

    def run(self) -> None:
        while outputs := self.endpoint.poll(self.net.now):
            for output in outputs:
                self.outputs.append(output)
                self._do(output)

    def _do(self, output: Output) -> None:
        match output:
            case Send():
                self.net.send(self, output.flow, output.data)
            case Resolve():
                self.net.asked(lambda: self._resolve(output))
            case Connect():
                self.net.asked(lambda: self._connect(output))
            case CloseFlow():
                flow = output.flow
                self.net._later(2 * self.net.delay, lambda: self.net.cut(flow))
            case PassUp():
                self.events.append(output.event)
                self.on_event(output.event)

    def _resolve(self, output: Resolve) -> None:
        found = self.net.names.get(output.host, [])
        self.endpoint.resolved(output.query, found, self.net.now)
        self.run()

    def _connect(self, output: Connect) -> None:
        target = (output.address, output.port)
        flow = self.net.connect(self, output.transport, target)
        if flow is None:
            self.endpoint.connect_failed(output.attempt, self.net.now)
        else:
            flow = replace(flow, name=output.name)
            self.endpoint.connected(output.attempt, flow, self.net.now)
        self.run()

    # What a call layer would do

    def dial(
        self,
        to: str,
        *,
        transport: str = "tcp",
        offer_answer: OfferAnswer | None = None,
        request_uri: str | None = None,
        port: int | None = None,
        credentials: Credentials | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        reliable: bool = False,
        delayed: bool = False,
        session_timer: int = 0,
    ) -> SessionId:
        invite = OutgoingInvite(
            trunk=TRUNK,
            next_hop=(transport, to, port),
            request_uri=request_uri or f"sip:bob@{write_hostport(to, None)}",
            from_=f"<sip:alice@{write_hostport(self.host, None)}>",
            to=f"<sip:bob@{write_hostport(to, None)}>",
            offer_answer=offer_answer or media(self.host),
            contact_user="alice",
            credentials=credentials,
            headers=headers,
            reliable=reliable,
            delayed=delayed,
            session_timer=session_timer,
        )
        session = self.endpoint.dial(invite, self.net.now)
        self.run()
        return session

    def answers(
        self,
        *,
        after_ring: bool = True,
        credentials: Credentials | None = None,
        session_timer: int = 0,
    ) -> None:
        """Adopt, ring and answer every call that comes."""

        def accept(event: SipEvent) -> None:
            if isinstance(event, IncomingInvite):
                now = self.net.now
                self.endpoint.adopt(
                    event.session, media(self.host), TRUNK, now, credentials, session_timer
                )
                if after_ring:
                    self.endpoint.ring(event.session, now)
                self.endpoint.answer(event.session, now)

        self.on_event = accept

    def of(self, kind: type[E]) -> list[E]:
        """Every event of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def only(self, kind: type[E]) -> E:
        """The one event of a kind."""
        found = self.of(kind)
        assert len(found) == 1, self.events
        return found[0]


class Peer(Node):
    """A scripted far end: raw messages, nothing automatic."""

    def __init__(self, net: Net, host: str) -> None:
        super().__init__(net, host)
        self.received: list[Request | Response] = []
        self.arrivals: list[tuple[Request | Response, Flow]] = []
        self.framers: dict[int, StreamFramer] = {}
        self.numbers = count(1)

    def take(self, data: bytes, flow: Flow) -> None:
        frames: list[object] = [data]
        if flow.reliable:
            frames = list(self.framers.setdefault(flow.id, StreamFramer()).feed(data))
        for frame in frames:
            if isinstance(frame, bytes) and frame.strip():
                message = read(frame)
                self.received.append(message)
                self.arrivals.append((message, flow))

    # Looking

    def requests(self, method: str) -> list[Request]:
        return [m for m in self.received if isinstance(m, Request) and m.method == method]

    def request(self, method: str) -> Request:
        found = self.requests(method)
        assert found, [getattr(m, "method", getattr(m, "status", None)) for m in self.received]
        return found[-1]

    def statuses(self, method: str) -> list[int]:
        return [
            m.status for m in self.received if isinstance(m, Response) and m.cseq.method == method
        ]

    def response(self, method: str, status: int | None = None) -> Response:
        found = [
            m
            for m in self.received
            if isinstance(m, Response) and m.cseq.method == method and status in (None, m.status)
        ]
        assert found, self.statuses(method)
        return found[-1]

    # Speaking

    def flow_to(self, agent: Agent, transport: str = "tcp") -> Flow:
        flow = self.net.connect(self, transport, (agent.host, agent.port))
        assert flow is not None
        return flow

    def fresh_flow(self, agent: Agent) -> Flow:
        return self.net.open(self, "tcp", agent)

    def say(self, message: Request | Response | bytes, flow: Flow) -> None:
        data = message if isinstance(message, bytes) else message.encode()
        self.net.send(self, flow, data)
        self.net.settle()

    def new_via(self, flow: Flow, branch: str | None = None) -> str:
        branch = branch or f"z9hG4bKpeer{next(self.numbers)}"
        return f"SIP/2.0/{flow.transport.upper()} {self.host}:{self.port};branch={branch}"

    def invite(
        self,
        agent: Agent,
        flow: Flow,
        *,
        body: bytes = b"",
        call_id: str = "call-1",
        headers: tuple[tuple[str, str], ...] = (),
        branch: str | None = None,
        cseq: int = 1,
        contact: str | None = None,
    ) -> Request:
        fields = Headers(
            [
                ("Via", self.new_via(flow, branch)),
                ("Max-Forwards", "70"),
                ("From", f"<sip:carol@{self.host}>;tag=peertag"),
                ("To", f"<sip:5551@{agent.host}>"),
                ("Call-ID", call_id),
                ("CSeq", f"{cseq} INVITE"),
                ("Contact", contact or f"<sip:carol@{self.host}:5060;transport={flow.transport}>"),
                *headers,
            ]
        )
        if body:
            fields.add("Content-Type", "application/sdp")
        return Request("INVITE", f"sip:5551@{agent.host}", fields, body)

    def in_dialog(
        self,
        method: str,
        accepted: Response,
        flow: Flow,
        *,
        cseq: int,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        branch: str | None = None,
        contact: bool = True,
    ) -> Request:
        """A request of the caller in the dialog that *accepted* (their response) made."""
        fields = Headers(
            [
                ("Via", self.new_via(flow, branch)),
                ("Max-Forwards", "70"),
                ("From", accepted.headers.get("From") or ""),
                ("To", accepted.headers.get("To") or ""),
                ("Call-ID", accepted.call_id),
                ("CSeq", f"{cseq} {method}"),
                *headers,
            ]
        )
        if contact and method in ("INVITE", "UPDATE"):
            fields.add("Contact", f"<sip:carol@{self.host}:5060;transport={flow.transport}>")
        if body and "Content-Type" not in fields:
            fields.add("Content-Type", "application/sdp")
        target = accepted.contact
        uri = str(target.uri) if target is not None else f"sip:{flow.remote[0]}"
        return Request(method, uri, fields, body)

    def from_callee(
        self,
        method: str,
        invite: Request,
        flow: Flow,
        *,
        tag: str,
        cseq: int,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Request:
        """A request of the callee in the dialog of an INVITE it answered with *tag*."""
        to = invite.headers.get("To") or ""
        fields = Headers(
            [
                ("Via", self.new_via(flow)),
                ("Max-Forwards", "70"),
                ("From", f"{to};tag={tag}" if tag else to),
                ("To", invite.headers.get("From") or ""),
                ("Call-ID", invite.call_id),
                ("CSeq", f"{cseq} {method}"),
                *headers,
            ]
        )
        if method in ("INVITE", "UPDATE"):
            fields.add("Contact", f"<sip:bob@{self.host}:5060;transport={flow.transport}>")
        if body and "Content-Type" not in fields:
            fields.add("Content-Type", "application/sdp")
        contact = invite.contact
        assert contact is not None
        return Request(method, str(contact.uri), fields, body)

    def reply(
        self,
        request: Request,
        status: int,
        flow: Flow,
        *,
        tag: str | None = "bobtag",
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
        contact: str | None = "",
    ) -> Response:
        fields = list(headers)
        if request.method == "INVITE" and status > 100 and status < 300 and contact is not None:
            fields.append(
                ("Contact", contact or f"<sip:bob@{self.host}:5060;transport={flow.transport}>")
            )
        if body:
            fields.append(("Content-Type", "application/sdp"))
        response = response_to(request, status, to_tag=tag, headers=fields, body=body)
        self.say(response, flow)
        return response


class Net:
    """The network and its clock."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 1000.0
        self.nodes: dict[str, Node] = {}
        self.names: dict[str, list[tuple[str, int]]] = {}
        self.wires: list[Wire] = []
        self.ends: dict[int, tuple[Node, Flow]] = {}  # flow id -> the other side
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.ids = count(1)
        self.random = random.Random(seed)
        self.loss = 0.0
        self.duplication = 0.0
        self.delay = 0.01
        self.jitter = 0.0
        self.set_up = 0.0  # seconds that resolving or connecting takes
        self.drop: Callable[[Wire], bool] = lambda _wire: False
        self.down: set[str] = set()
        self.ephemeral = count(40000)

    def agent(self, host: str, **options: object) -> Agent:
        node = Agent(self, host, **options)
        self.nodes[host] = node
        return node

    def peer(self, host: str) -> Peer:
        node = Peer(self, host)
        self.nodes[host] = node
        return node

    # Flows

    def connect(self, node: Node, transport: str, target: tuple[str, int]) -> Flow | None:
        for flow in node.flows.values():
            if flow.transport == transport and flow.remote == target:
                return flow
        other = self.nodes.get(target[0])
        if transport == "udp":
            return self._datagram_flow(node, target)
        if other is None or not other.listens or target[0] in self.down:
            return None
        if target[1] not in (other.port, 5061):
            return None
        return self.open(node, transport, other, target[1])

    def _datagram_flow(self, node: Node, target: tuple[str, int]) -> Flow:
        flow = self._flow(node, "udp", (node.host, node.port), target)
        node.flows[flow.id] = flow
        return flow

    def _flow(
        self, node: Node, transport: str, local: tuple[str, int], remote: tuple[str, int]
    ) -> Flow:
        return Flow(
            id=next(self.ids),
            transport=transport,
            local=local,
            remote=remote,
            trunks=node.trunks,
            new_call_trunks=node.new_call_trunks,
        )

    def open(self, node: Node, transport: str, other: Node, port: int | None = None) -> Flow:
        """Make a new connection from *node* to *other*."""
        here = (node.host, next(self.ephemeral))
        there = (other.host, port or other.port)
        ours = self._flow(node, transport, here, there)
        theirs = self._flow(other, transport, there, here)
        node.flows[ours.id] = ours
        other.flows[theirs.id] = theirs
        self.ends[ours.id] = (other, theirs)
        self.ends[theirs.id] = (node, ours)
        other.opened(theirs)
        return ours

    def cut(self, flow: Flow) -> None:
        """Break a connection; both sides learn of it."""
        end = self.ends.pop(flow.id, None)
        if end is None:
            return
        other, theirs = end
        here = self.ends.pop(theirs.id, None)
        other.flows.pop(theirs.id, None)
        other.lost(theirs)
        if here is not None:
            here[0].flows.pop(flow.id, None)
            here[0].lost(flow)

    def cut_all(self) -> None:
        """Break every connection."""
        for flow_id in list(self.ends):
            end = self.ends.get(flow_id)
            if end is not None:
                self.cut(end[1])

    # Messages

    def send(self, node: Node, flow: Flow, data: bytes) -> None:
        wire = Wire(self.now, node.host, flow.remote[0], flow.id, data)
        self.wires.append(wire)
        if self.drop(wire):
            return
        if flow.reliable:
            self._later(self.delay, lambda: self._arrive(flow.id, data))
            return
        copies = 1 + (self.random.random() < self.duplication)
        for _ in range(copies):
            if self.random.random() >= self.loss:
                late = self.delay + self.random.random() * self.jitter
                self._later(late, lambda: self._arrive_datagram(node, flow, data))

    def asked(self, action: Callable[[], None]) -> None:
        """Resolve or connect: at once, or after `set_up` seconds."""
        if self.set_up:
            self._later(self.set_up, action)
        else:
            action()

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        heappush(self.queue, (self.now + delay, next(self.order), action))

    def _arrive(self, flow_id: int, data: bytes) -> None:
        end = self.ends.get(flow_id)
        if end is not None:
            end[0].take(data, end[1])
            end[0].run()

    def _arrive_datagram(self, node: Node, flow: Flow, data: bytes) -> None:
        other = self.nodes.get(flow.remote[0])
        if other is None or flow.remote[1] != other.port or flow.remote[0] in self.down:
            return
        theirs = self.connect(other, "udp", flow.local)
        assert theirs is not None
        other.take(data, theirs)
        other.run()

    # Time

    def settle(self, seconds: float = 0.2) -> None:
        """Let what is on the way arrive."""
        self.run(seconds)

    def run(self, seconds: float) -> None:
        """Let time pass, event by event."""
        end = self.now + seconds
        for node in self.nodes.values():
            node.run()
        while True:
            upcoming = [
                (at, node) for node in self.nodes.values() if (at := node.deadline()) is not None
            ]
            timer = min((at for at, _ in upcoming), default=None)
            arrival = self.queue[0][0] if self.queue else None
            at = min((t for t in (timer, arrival) if t is not None), default=None)
            if at is None or at > end:
                break
            self.now = max(self.now, at)
            if arrival is not None and arrival <= self.now:
                heappop(self.queue)[2]()
            else:
                for due, node in upcoming:
                    if due <= self.now:
                        node.tick()
                        node.run()
        self.now = end

    def labels(self, source: str | None = None) -> list[str]:
        """What was sent, in order: methods, and statuses with their method."""
        return [w.label for w in self.wires if source in (None, w.source)]

    def sent(self, source: str, label: str) -> list[Request | Response]:
        """Every message with a label that a host sent."""
        return [w.message for w in self.wires if w.source == source and w.label == label]


def established(
    net: Net, caller: Agent, callee: Agent, *, transport: str = "tcp"
) -> tuple[SessionId, SessionId]:
    """Make a call; return the sessions of both sides."""
    callee.answers()
    session = caller.dial(callee.host, transport=transport)
    net.run(2)
    return session, callee.of(IncomingInvite)[-1].session


def negotiated_of(event: object) -> Negotiated:
    """The session that an event tells of."""
    found = getattr(event, "negotiated", None)
    assert isinstance(found, Negotiated)
    return found

"""One endpoint between a hostile far end and a driver whose network may fail.

The far end knows what a real one would: every message we sent. So most of what
it says belongs to a transaction or dialog of ours before it is mutated.
"""

from __future__ import annotations

from collections import deque

from bridge.sip.digest import Credentials
from bridge.sip.endpoint import Endpoint
from bridge.sip.events import (
    CloseFlow,
    Connect,
    IncomingInvite,
    PassUp,
    RegistrationChanged,
    Resolve,
    Send,
    SessionId,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Headers, ParseError, Request, Response, parse, response_to
from bridge.sip.parameters import EndpointConfig, OutgoingInvite
from bridge.sip.registration import RegistrationSettings
from bridge.sip.session import MAX_EARLY, MAX_HOSTS, Role
from sdp.model import Direction
from sdp.negotiate import LocalMedia, OfferAnswer, Rejected
from tests.unit.fuzz.corpus import EXOTEL_OFFER, SDP
from tests.unit.fuzz.mutate import Script
from tests.unit.sip.link import counter_tokens

TRUNK = "exotel"
PEER = "182.76.143.61"
US = "52.66.10.20"
MAX_SESSIONS = 12
MAX_ON_FLOW = 40
STATUSES = (
    100,
    180,
    183,
    200,
    200,
    202,
    302,
    401,
    401,
    407,
    408,
    481,
    487,
    488,
    491,
    500,
    503,
    603,
)
SECRET = Credentials(username="us", password="open sesame")
CHALLENGES = (
    'Digest realm="r", nonce="n", qop="auth"',
    'Digest realm="r", nonce="m", qop="auth,auth-int", stale=true, algorithm=SHA-256-sess',
    'Digest realm="s", nonce="n"',
    'Digest realm="r", nonce="n", algorithm=SHA3-256, Basic realm="r"',
)
SESSION_TIMERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("Supported", "timer"), ("Session-Expires", "90;refresher=uac"), ("Allow", "INVITE, UPDATE")),
    (),
    (("Supported", "timer"), ("Session-Expires", "1800;refresher=uas"), ("Min-SE", "120")),
    (("x", "99999999999;refresher=;refresher=uas"), ("Min-SE", "x"), ("Allow", "")),
    (("Require", "timer"), ("Session-Expires", "0")),
)
METHODS = (
    *("INVITE", "INVITE", "ACK", "ACK", "BYE", "UPDATE", "INFO", "OPTIONS", "CANCEL"),
    *("REFER", "NOTIFY"),
)
FRAGMENTS = (b"SIP/2.0 100 Trying", b"SIP/2.0 180 Ringing", b"SIP/2.0 200 OK", b"SIP/2.0 603 No")
SUBSCRIPTIONS = ("active;expires=60", "active;expires=1", "terminated;reason=noresource", "")
STEPS = (0.0, 0.001, 0.01, 0.5, 0.5, 2.0, 4.0, 33.0, 61.0)


def media() -> OfferAnswer:
    local = LocalMedia(address=US, port=20000, codecs=("PCMA", "PCMU"), session_id=7)
    return OfferAnswer(local, destination_allowed=lambda address, _port: address != "10.0.0.1")


class Rig:
    """See the module. *transport* is the one the far end speaks first."""

    def __init__(self, script: Script, transport: str) -> None:
        self.script = script
        self.transport = transport
        self.now = 1000.0
        self.flow_ids = 0
        self.living: dict[int, Flow] = {}
        config = EndpointConfig(
            listen_ports={"tcp": 5060, "udp": 5060},
            max_sessions=MAX_SESSIONS,
            max_flow_transactions=MAX_ON_FLOW,
        )
        self.config = config
        self.tokens = counter_tokens("t")
        self.endpoint = Endpoint(
            config,
            tokens=self.tokens,
            next_hop_allowed=lambda host, _trunk: host != "10.0.0.1",
            unknown_reject=lambda flow: flow.remote[1] % 2 == 0,
        )
        self.sessions: deque[SessionId] = deque(maxlen=MAX_SESSIONS)
        self.requests: deque[Request] = deque(maxlen=8)  # of ours
        self.accepted: deque[Response] = deque(maxlen=8)  # of ours, to INVITE
        self.said: deque[bytes] = deque(maxlen=8)  # by the far end
        self.flow = self.new_flow(transport)
        self.other = self.new_flow("udp" if transport == "tcp" else "tcp")
        self.stranger = self.new_flow(transport, trunks=frozenset())
        self.answering = True
        self.network = True
        self.numbers = 0

    # Flows and the driver's part

    def new_flow(self, transport: str, *, trunks: frozenset[str] = frozenset((TRUNK,))) -> Flow:
        self.flow_ids += 1
        host = PEER if trunks else "203.0.113.66"
        flow = Flow(
            id=self.flow_ids,
            transport=transport,
            local=(US, 5060),
            remote=(host, 5060 if transport == "udp" else 40000 + self.flow_ids),
            trunks=trunks,
            new_call_trunks=trunks,
        )
        if transport == "tcp":
            self.living[flow.id] = flow
            self.endpoint.flow_opened(flow, self.now)
        return flow

    def lose(self, flow: Flow) -> None:
        if flow.transport == "udp":
            self.endpoint.send_failed(flow, self.now)
            return
        if self.living.pop(flow.id, None) is not None:
            self.endpoint.flow_lost(flow, self.now)
        for name in ("flow", "other", "stranger"):
            if getattr(self, name).id == flow.id:
                setattr(self, name, self.new_flow("tcp", trunks=flow.trunks))

    def run(self) -> None:
        """Carry out what the endpoint wants."""
        for _ in range(200):
            outputs = self.endpoint.poll(self.now)
            if not outputs:
                return
            for output in outputs:
                match output:
                    case Send():
                        self.sent(output.data)
                    case Resolve():
                        found = [("192.0.2.9", 5060), ("10.0.0.1", 5060)] if self.network else []
                        self.endpoint.resolved(output.query, found, self.now)
                    case Connect() if self.network:
                        new = self.new_flow(output.transport)
                        self.endpoint.connected(output.attempt, new, self.now)
                    case Connect():
                        self.endpoint.connect_failed(output.attempt, self.now)
                    case CloseFlow():
                        self.lose(output.flow)
                    case PassUp(event=RegistrationChanged()):
                        pass
                    case PassUp(event=event):
                        self.sessions.append(event.session)
                        if isinstance(event, IncomingInvite) and self.answering:
                            self.take_call(event.session)
        raise AssertionError("the endpoint never comes to rest")

    def sent(self, data: bytes) -> None:
        if not data.strip():
            return
        try:
            message = parse(data)
        except ParseError:
            assert data.startswith(b"SIP/2.0 "), data  # it repeats the fields that were broken
            return
        if isinstance(message, Request):
            self.requests.append(message)
        elif message.cseq.method == "INVITE" and message.to.tag:
            self.accepted.append(message)

    def take_call(self, session: SessionId) -> None:
        """What a call layer does with a new call."""
        wish = 90 * (self.numbers % 3)
        result = self.endpoint.adopt(session, media(), TRUNK, self.now, SECRET, wish)
        if isinstance(result, Rejected):
            self.endpoint.reject(session, result.status, self.now)
            return
        match self.script.below(4):
            case 0:
                self.endpoint.ring(session, self.now)
                self.endpoint.answer(session, self.now)
            case 1:
                self.endpoint.ring(session, self.now)
            case 2:
                self.endpoint.answer(session, self.now)
            case _:
                pass

    def receive(self, data: bytes, flow: Flow) -> None:
        self.endpoint.receive(data, flow, self.now)
        self.run()

    def command(self) -> None:
        """Do one thing that a call layer may do at any time."""
        endpoint, now = self.endpoint, self.now
        session = self.script.one_of(self.sessions) if self.sessions else SessionId(1)
        details = endpoint.core.sessions.get(session)
        adopted = details is not None and details.offer_answer is not None
        match self.script.below(15):
            case 13:
                self.register()
            case 14:
                endpoint.keep_alive(self.script.one_of((frozenset(), frozenset((TRUNK,)))))
            case 9:
                endpoint.refer(session, "sip:5551@carrier.example", now)
            case 10:
                endpoint.allow_refer(session, now)
            case 11:
                endpoint.answer_refer(session, self.script.one_of((202, 202, 603)), now)
            case 12:
                endpoint.tell_referred(session, self.script.one_of((180, 200, 486)), now)
            case 0 if adopted:
                endpoint.answer(session, now)
            case 1:
                endpoint.ring(session, now)
            case 2:
                endpoint.bye(session, now, (("Reason", "Q.850;cause=16"),))
            case 3:
                endpoint.reoffer(session, self.script.one_of(tuple(Direction)), now)
            case 4:
                endpoint.probe(session, now)
            case 5:
                endpoint.cancel(session, now)
            case 6:
                self.dial()
            case 7:
                self.restart()
            case _:
                endpoint.details(session)
                endpoint.update(session, now)
        self.run()

    def register(self) -> None:
        """Register, in one of two ways, or take that back."""
        user = self.script.one_of(("", "line1", "line2"))
        if not user:
            self.endpoint.unregister(TRUNK, self.now)
            return
        settings = RegistrationSettings(
            trunk=TRUNK,
            next_hop=(self.script.one_of(("tcp", "udp")), PEER, 5060),
            registrar="sip:carrier.example",
            address_of_record=f"<sip:{user}@carrier.example>",
            contact_user=user,
            credentials=SECRET,
        )
        self.endpoint.register(settings, self.now)

    def restart(self) -> None:
        """Go on in another process: half of the time without the old connections."""
        wall = 1.7e9
        old, self.now = self.endpoint.snapshot(self.now, wall), 50.0  # another steady clock
        self.endpoint = Endpoint.restore(
            old,
            self.config,
            tokens=self.tokens,
            offer_answer=lambda _trunk, kept: OfferAnswer.restore(
                kept, destination_allowed=lambda address, _port: address != "10.0.0.1"
            ),
            credentials=lambda _trunk: SECRET,
            now=self.now,
            wall=wall + self.script.one_of((0.1, 2.0, 40.0)),
            next_hop_allowed=lambda host, _trunk: host != "10.0.0.1",
            unknown_reject=lambda flow: flow.remote[1] % 2 == 0,
        )
        lost = list(self.living.values()) if self.script.below(2) else []
        for flow in lost:
            self.lose(flow)
        self.endpoint.ask_again(self.now)

    def dial(self) -> SessionId:
        invite = OutgoingInvite(
            trunk=TRUNK,
            next_hop=(self.transport, PEER, 5060),
            request_uri=f"sip:09812345678@{PEER}",
            from_=f"<sip:08040000000@{US}>",
            to=f"<sip:09812345678@{PEER}>",
            offer_answer=media(),
            contact_user="08040000000",
            credentials=SECRET,
            session_timer=90 * (self.numbers % 3),
        )
        session = self.endpoint.dial(invite, self.now)
        self.sessions.append(session)
        self.run()
        return session

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.endpoint.tick(self.now)
        self.run()

    # The far end's part

    def via(self) -> str:
        self.numbers += 1
        # Now and then one whose responses do not go back to where the request came from.
        port, rport = (5062, "") if self.numbers % 4 == 3 else (5060, ";rport")
        sent_by = f"{self.transport.upper()} {PEER}:{port}"
        return f"SIP/2.0/{sent_by};branch=z9hG4bKfar{self.numbers}{rport}"

    def invite(self, body: bytes = EXOTEL_OFFER) -> Request:
        fields = [
            ("Via", self.via()),
            ("Record-Route", f"<sip:{PEER};lr>"),
            ("From", f"<sip:09812345678@{PEER}>;tag=far"),
            ("To", f"<sip:08040000000@{US}>"),
            ("Call-ID", f"call{self.numbers}"),
            ("CSeq", "1 INVITE"),
            ("Contact", f"<sip:09812345678@{PEER}:5060;transport={self.transport}>"),
            ("Content-Type", "application/sdp"),
            *self.timer(),
        ]
        return Request("INVITE", f"sip:08040000000@{US}", Headers(fields), body)

    def timer(self) -> tuple[tuple[str, str], ...]:
        """What the far end says of session timers, now this, now that."""
        return SESSION_TIMERS[self.numbers % len(SESSION_TIMERS)]

    def body(self) -> bytes:
        return self.script.one_of((EXOTEL_OFFER, b"", EXOTEL_OFFER, self.script.one_of(SDP)))

    def in_dialog(self, method: str, *, cseq: int, body: bytes = b"") -> Request:
        """A request in the dialog of our latest 2xx or 18x; else in that of a call of ours."""
        script = self.script
        if self.accepted and (not self.requests or script.below(4)):
            answer = script.one_of(tuple(reversed(self.accepted)))
            ends = (answer.headers.get("From") or "", answer.headers.get("To") or "")
            call_id = answer.call_id
        elif self.requests:
            asked = script.one_of(tuple(reversed(self.requests)))
            to = asked.headers.get("To") or ""
            to = to if ";tag=" in to else f"{to};tag=bob"
            ends = (to, asked.headers.get("From") or "")
            call_id = asked.call_id
        else:
            return self.invite()
        fields = [
            ("Via", self.via()),
            ("From", ends[0]),
            ("To", ends[1]),
            ("Call-ID", call_id),
            ("CSeq", f"{cseq} {method}"),
            ("Contact", f"<sip:far@{PEER}:5060;transport={self.transport}>"),
            *self.timer(),
        ]
        kind = "application/dtmf-relay" if method == "INFO" else "application/sdp"
        if method == "NOTIFY":
            event = script.one_of(("refer", "refer;id=2", "refer;id=3", "presence"))
            fields += [("Event", event), ("Subscription-State", script.one_of(SUBSCRIPTIONS))]
            kind, body = "message/sipfrag;version=2.0", script.one_of(FRAGMENTS)
        if method == "REFER":
            fields.append(("Refer-To", script.one_of(("<sip:5@x>", "<sip:5@x?Replaces=a>", "x"))))
        if body:
            fields.append(("Content-Type", kind))
        return Request(method, f"sip:{US}", Headers(fields), body)

    def response(self, status: int, request: Request, body: bytes) -> Response:
        fields = [("Contact", f"<sip:far@{PEER}:5060;transport={self.transport}>"), *self.timer()]
        if body:
            fields.append(("Content-Type", "application/sdp"))
        if status in (401, 407):
            name = self.script.one_of(("WWW-Authenticate", "Proxy-Authenticate"))
            fields.append((name, self.script.one_of(CHALLENGES)))
        tag = self.script.one_of(("bob", "bob", "bob", "fork", None, f"f{self.numbers}"))
        return response_to(request, status, to_tag=tag, headers=fields, body=body)

    def proposal(self) -> bytes:
        """Something a far end would say now, well formed."""
        script = self.script
        match script.below(8):
            case 0 | 1 | 2 if self.requests:
                request = script.one_of(tuple(reversed(self.requests)))
                status = script.one_of(STATUSES)
                body = self.body() if request.method == "INVITE" and status < 300 else b""
                return self.response(status, request, body).encode()
            case 3 if self.said:
                return script.one_of(tuple(self.said))  # a retransmission
            case 4:
                return self.invite(self.body()).encode()
            case _:
                method = script.one_of(METHODS)
                cseq = script.one_of((1, 1, 2, 3, 5, 2 + self.numbers))
                body = self.body() if method in ("INVITE", "ACK", "UPDATE") else b""
                body = b"Signal=5\r\nDuration=160\r\n" if method == "INFO" else body
                return self.in_dialog(method, cseq=cseq, body=body).encode()

    # What must always hold

    def check(self) -> None:
        """Every table is bounded, whatever was said."""
        endpoint = self.endpoint
        core, layer, courier = endpoint.core, endpoint.layer, endpoint.layer.courier
        sessions = core.sessions.values()
        callees = sum(s.role is Role.CALLEE for s in sessions)
        assert callees <= MAX_SESSIONS + len(layer.clients) + len(courier.deliveries)
        assert len(core.dialogs) <= sum(len(s.dialogs()) for s in sessions)
        assert all(len(s.early) <= MAX_EARLY and len(s.hosts) <= MAX_HOSTS for s in sessions)
        assert len(layer.servers) <= 16 * MAX_ON_FLOW
        assert sum(layer.servers_on.values()) == len(layer.servers)
        assert all(count > 0 for count in layer.servers_on.values())
        assert len(endpoint.callee.merges) <= len(layer.servers)
        assert all(len(client.acks) <= MAX_EARLY for client in layer.clients.values())
        assert len(courier.deliveries) <= 4 * MAX_ON_FLOW
        assert len(courier.waiting) <= len(courier.deliveries)
        assert set(endpoint.framers) <= set(self.living)
        assert set(courier.flows) <= set(self.living)
        assert len(layer.agenda) <= (
            len(core.sessions)
            + len(layer.clients)
            + len(layer.servers)
            + len(courier.deliveries)
            + len(endpoint.registrar.registrations)
            + len(endpoint.keepalive.beats)
        )

    def finish(self) -> None:
        """Hang up everything; then time alone must empty every table."""
        self.answering = False
        self.network = self.script.below(2) == 0
        for session in list(self.endpoint.core.sessions):
            self.endpoint.bye(session, self.now)
        self.endpoint.unregister(TRUNK, self.now)
        self.endpoint.keep_alive(frozenset())
        self.run()
        for _ in range(5000):
            at = self.endpoint.next_deadline()
            if at is None:
                break
            self.now = max(self.now, at)
            self.endpoint.tick(self.now)
            self.run()
        endpoint = self.endpoint
        core, layer, courier = endpoint.core, endpoint.layer, endpoint.layer.courier
        tables: dict[str, object] = {
            "sessions": core.sessions,
            "dialogs": core.dialogs,
            "clients": layer.clients,
            "servers": layer.servers,
            "servers_on": layer.servers_on,
            "merges": endpoint.callee.merges,
            "deliveries": courier.deliveries,
            "waiting": courier.waiting,
            "registrations": endpoint.registrar.registrations,
            "ways out": core.ways_out,
            "beats": endpoint.keepalive.beats,
            "agenda": layer.agenda.keys(),
        }
        assert {name: kept for name, kept in tables.items() if kept} == {}

"""Bad networks, bad peers and many calls: nothing raises, nothing grows, nothing is left."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.sip.endpoint import Endpoint
from bridge.sip.events import (
    Answered,
    CloseFlow,
    Confirmed,
    Connect,
    Ended,
    Failed,
    IncomingInvite,
    PassUp,
    Resolve,
    SessionChanged,
    SessionId,
    SipEvent,
)
from bridge.sip.flow import Flow
from bridge.sip.parameters import EndpointConfig, OutgoingInvite
from sdp.model import Direction
from tests.unit.sip.link import TRUNK, TRUNKS, Agent, Net, counter_tokens, established, media, sdp

pytestmark = pytest.mark.unit

A, B, P = "192.0.2.1", "192.0.2.2", "198.51.100.7"


def assert_empty(agent: Agent) -> None:
    endpoint = agent.endpoint
    courier = endpoint.layer.courier
    assert endpoint.core.sessions == {}
    assert endpoint.core.dialogs == {}
    assert endpoint.layer.clients == {}
    assert endpoint.layer.servers == {}
    assert endpoint.callee.merges == {}
    assert courier.deliveries == courier.waiting == {}
    assert endpoint.layer.servers_on.total() == 0
    assert endpoint.next_deadline() is None


# Bad networks


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    loss=st.sampled_from([0.0, 0.1, 0.25]),
    duplication=st.sampled_from([0.0, 0.3]),
    jitter=st.sampled_from([0.0, 0.4]),
)
def test_calls_over_a_network_that_loses_duplicates_and_reorders(
    seed: int, loss: float, duplication: float, jitter: float
) -> None:
    net = Net(seed)
    net.loss, net.duplication, net.jitter = loss, duplication, jitter
    alice, bob = net.agent(A), net.agent(B)
    bob.answers()
    session = alice.dial(B, transport="udp")
    net.run(40)
    assert len(bob.of(IncomingInvite)) <= 1
    if alice.of(Answered):
        assert len(alice.of(Answered)) == 1
        alice.endpoint.reoffer(session, Direction.SENDONLY, net.now)
        net.run(40)
        assert len(bob.of(SessionChanged)) <= 1
        alice.endpoint.bye(session, net.now)
        net.run(40)
    net.run(150)
    assert len(bob.of(Confirmed)) <= 1
    assert len(bob.of(Ended)) + len(alice.of(Failed)) <= 2
    if loss == 0.0:
        assert bob.of(Confirmed)
        assert bob.of(SessionChanged)
        assert bob.of(Ended)
    assert_empty(alice)
    assert_empty(bob)


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.sampled_from([0.003, 0.012, 0.018, 0.021, 0.035, 0.3, 2.0]), max_size=8),
    hold=st.booleans(),
    caller_ends=st.booleans(),
    set_up=st.sampled_from([0.0, 0.015]),
)
def test_calls_over_connections_that_are_cut_at_any_moment(
    cuts: list[float], hold: bool, caller_ends: bool, set_up: float
) -> None:
    net = Net()
    net.set_up = set_up
    alice, bob = net.agent(A), net.agent(B)
    bob.answers()
    session = alice.dial(B)
    for seconds in cuts:
        net.run(seconds)
        net.cut_all()
    net.run(40)
    if alice.of(Answered) and bob.of(Confirmed) and not (alice.of(Ended) or bob.of(Ended)):
        if hold:
            alice.endpoint.reoffer(session, Direction.SENDONLY, net.now)
            net.run(1)
            assert bob.of(SessionChanged)
        enders = (alice, session), (bob, bob.only(IncomingInvite).session)
        ender, ended = enders[0] if caller_ends else enders[1]
        net.cut_all()
        ender.endpoint.bye(ended, net.now)
        net.run(1)
        assert (bob if caller_ends else alice).of(Ended)
    else:
        # The INVITE itself was lost too often: both sides agree that there is no call.
        assert alice.of(Failed) or alice.of(Ended) or bob.of(Ended)
    net.run(150)
    assert_empty(alice)
    assert_empty(bob)


def test_two_hundred_calls_on_one_connection_hold_and_end() -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    bob.answers()
    sessions = [alice.dial(B) for _ in range(200)]
    net.run(1)
    assert len(alice.of(Answered)) == len(bob.of(Confirmed)) == 200
    for session in sessions[::2]:
        alice.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    net.run(1)
    net.cut_all()
    assert len(bob.of(SessionChanged)) == 100
    for session in sessions:
        alice.endpoint.bye(session, net.now)
    net.run(1)
    assert len(bob.of(Ended)) == 200
    net.run(60)
    assert_empty(alice)
    assert_empty(bob)


# Bad peers


@cache
def corpus() -> tuple[bytes, ...]:
    """Every message of a busy conversation between *A* and a peer, both ways."""
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    ours, theirs = established(net, alice, bob)
    for agent, session in ((alice, ours), (bob, theirs)):
        agent.endpoint.reoffer(session, Direction.SENDONLY, net.now)
        net.run(1)
        agent.endpoint.probe(session, net.now)
        net.run(1)
    alice.endpoint.bye(ours, net.now)
    net.run(1)
    second = bob.dial(A)
    net.run(1)
    alice.endpoint.ring(alice.of(IncomingInvite)[-1].session, net.now)
    net.run(1)
    bob.endpoint.cancel(second, net.now)
    net.run(1)
    third = alice.dial(B, session_timer=90)
    net.run(50)
    alice.endpoint.bye(third, net.now)
    net.run(1)
    extra = [
        sdp(P, "a=sendonly"),
        b"INFO sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n",
        b"\r\n\r\n",
        b"\x00\xff" * 20,
    ]
    return (*dict.fromkeys(w.data for w in net.wires), *extra)


SWAPS = [
    (b"INVITE", b"UPDATE"),
    (b"INVITE", b"INFO"),
    (b"BYE", b"INVITE"),
    (b"OPTIONS", b"PRACK"),
    (b"tag=", b"tag=x"),
    (b"Contact: ", b"X: "),
    (b"Contact: <sip:", b"Contact: <sip:@@"),
    (b"Call-ID: ", b"Call-ID: other"),
    (b"CSeq: ", b"CSeq: 9"),
    (b"CSeq: ", b"CSeq: 0000000000000"),
    (b"branch=z9hG4bK", b"branch="),
    (b"branch=z9hG4bK", b"branch=z9hG4bK9"),
    (b"Content-Length: ", b"Content-Length: 1"),
    (b"application/sdp", b"multipart/mixed;boundary=q"),
    (b"Max-Forwards", b"Require"),
    (b"User-Agent: ", b"Record-Route: <sip:evil.example>, <"),
    (b"a=sendonly", b"a=inactive"),
    (b"c=IN IP4 192", b"c=IN IP4 0"),
    (b"m=audio 2", b"m=audio 0 "),
    (b"SIP/2.0 200", b"SIP/2.0 183"),
    (b"SIP/2.0 200", b"SIP/2.0 491"),
    (b"SIP/2.0 180", b"SIP/2.0 200"),
    (b"rport", b"rport=;received=[::"),
    (b"Session-Expires: ", b"Session-Expires: 9"),
    (b"Session-Expires: 90", b"Session-Expires: 1"),
    (b"refresher=uas", b"refresher=uac"),
    (b"Supported: ", b"x: 120\r\nMin-SE: 100\r\nSupported: "),
    (b"SIP/2.0 200", b"SIP/2.0 422"),
]

inputs = st.one_of(
    st.tuples(st.just("message"), st.integers(0, 60), st.integers(0, 4)),
    st.tuples(st.just("message"), st.integers(0, 60), st.integers(0, 4)),
    st.tuples(st.just("swap"), st.integers(0, 60), st.integers(0, len(SWAPS) * 5 - 1)),
    st.tuples(st.just("cut short"), st.integers(0, 60), st.integers(0, 2000)),
    st.tuples(st.just("flip"), st.integers(0, 60), st.integers(0, 200_000)),
    st.tuples(st.just("live"), st.integers(0, 60), st.integers(0, 4)),
    st.tuples(st.just("tick"), st.integers(0, 40), st.just(0)),
    st.tuples(st.just("lost"), st.integers(0, 4), st.just(0)),
    st.tuples(st.just("failed"), st.integers(0, 4), st.just(0)),
    st.tuples(st.just("connect"), st.integers(0, 4), st.just(0)),
    st.tuples(st.just("verb"), st.integers(0, 9), st.integers(0, 5)),
)


class Torture:
    """An endpoint with a driver and a call layer that do anything, in any order."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(
            EndpointConfig(listen_ports={"tcp": 5060, "udp": 5060}, max_sessions=5),
            tokens=counter_tokens("19202" + "1x"),
            next_hop_allowed=lambda host, _trunk: not host.startswith("evil"),
            unknown_reject=lambda flow: flow.id == 5,
        )
        self.flows = [self._flow(n) for n in range(5)]
        self.now = 1000.0
        self.asked: list[Connect | Resolve] = []
        self.sessions: list[SessionId] = []
        self.sent: list[bytes] = []
        self.ended: set[SessionId] = set()
        self.dialled: set[SessionId] = set()

    @staticmethod
    def _flow(number: int) -> Flow:
        known = frozenset() if number == 4 else TRUNKS
        return Flow(
            id=number + 1,
            transport="udp" if number == 3 else "tcp",
            local=(A, 5060),
            remote=(B, 5060 + number),
            trunks=known,
            new_call_trunks=known,
        )

    def step(self, kind: str, a: int, b: int) -> None:
        messages = corpus()
        data = messages[a % len(messages)]
        flow = self.flows[b % 5]
        match kind:
            case "message":
                self.endpoint.receive(data, flow, self.now)
            case "swap":
                old, new = SWAPS[b // 5]
                self.endpoint.receive(data.replace(old, new), flow, self.now)
            case "cut short":
                self.endpoint.receive(data[:b], self.flows[a % 5], self.now)
            case "flip":
                at = b % len(data)
                bad = data[:at] + bytes([(b * 7 + a) % 256]) + data[at + 1 :]
                self.endpoint.receive(bad, self.flows[a % 5], self.now)
            case "live" if self.sent:
                # What we sent ourselves comes back: our branches, our tags.
                self.endpoint.receive(self.sent[a % len(self.sent)], flow, self.now)
            case "tick":
                self.now += a
                self.endpoint.tick(self.now)
            case "lost":
                self._replace(a)
            case "failed":
                self.endpoint.send_failed(self.flows[a], self.now)
            case "connect" if self.asked:
                self._connect(self.asked.pop(), self.flows[a])
            case "verb":
                self._verb(a, b)
        self.drain()

    def _replace(self, number: int) -> None:
        self.endpoint.flow_lost(self.flows[number], self.now)
        fresh = self._flow(number)
        self.flows[number] = Flow(
            id=max(f.id for f in self.flows) + 1,
            transport=fresh.transport,
            local=fresh.local,
            remote=fresh.remote,
            trunks=fresh.trunks,
            new_call_trunks=fresh.new_call_trunks,
        )

    def _connect(self, output: Connect | Resolve, flow: Flow) -> None:
        match output:
            case Resolve() if flow.id % 2:
                self.endpoint.resolved(output.query, [(B, 5060), (P, 1)], self.now)
            case Resolve():
                self.endpoint.resolved(output.query, [], self.now)
            case Connect() if flow.id % 3:
                self.endpoint.connected(output.attempt, flow, self.now)
            case Connect():
                self.endpoint.connect_failed(output.attempt, self.now)

    def _verb(self, verb: int, which: int) -> None:
        endpoint, now = self.endpoint, self.now
        session = self.sessions[which % len(self.sessions)] if self.sessions else SessionId(0)
        match verb:
            case 0:
                invite = OutgoingInvite(
                    trunk=TRUNK,
                    next_hop=("tcp", B if which % 2 else "trunk.example", 5060),
                    request_uri=f"sip:bob@{B}",
                    from_=f"<sip:alice@{A}>",
                    to=f"<sip:bob@{B}>",
                    offer_answer=media(A),
                    session_timer=90 * (which % 3),
                )
                self.sessions.append(endpoint.dial(invite, now))
                self.dialled.add(self.sessions[-1])
            case 1:
                endpoint.ring(session, now)
            case 2 if session not in self.dialled:
                endpoint.answer(session, now)
            case 3:
                endpoint.reject(session, 486, now)
            case 4:
                endpoint.cancel(session, now)
            case 5:
                endpoint.bye(session, now)
            case 6:
                endpoint.probe(session, now)
            case 7:
                endpoint.reoffer(session, list(Direction)[which % 4], now)
            case 8:
                endpoint.set_draining(which % 2 == 0)
            case 9:
                endpoint.update(session, now)

    def drain(self) -> None:
        for output in self.endpoint.poll(self.now):
            match output:
                case Connect() | Resolve():
                    self.asked.append(output)
                case PassUp():
                    self._hear(output.event)
                case CloseFlow():
                    number = next(
                        (n for n, f in enumerate(self.flows) if f.id == output.flow.id), None
                    )
                    if number is not None:
                        self._replace(number)
                case _:
                    self.sent = [*self.sent[-30:], output.data]

    def _hear(self, event: SipEvent) -> None:
        assert event.session not in self.ended, "an event after the last one"
        if isinstance(event, Ended | Failed):
            self.ended.add(event.session)
        if isinstance(event, IncomingInvite):
            self.sessions = [*self.sessions[-5:], event.session]
            wish = 90 * (event.session % 2)
            self.endpoint.adopt(event.session, media(A), TRUNK, self.now, None, wish)

    def check(self) -> None:
        endpoint = self.endpoint
        courier = endpoint.layer.courier
        assert len(endpoint.core.dialogs) <= sum(
            len(s.dialogs()) for s in endpoint.core.sessions.values()
        )
        assert set(endpoint.core.dialogs.values()) <= set(endpoint.core.sessions)
        assert len(courier.waiting) == len(courier.deliveries)
        assert endpoint.layer.servers_on.total() == len(endpoint.layer.servers)
        assert len(endpoint.callee.merges) <= len(endpoint.layer.servers)
        assert len(endpoint.framers) <= 5 + len(self.flows)

    def finish(self) -> None:
        """End every call and let every timer run out."""
        for session in list(self.endpoint.core.sessions):
            self.endpoint.bye(session, self.now)
        for _ in range(200):
            self.now += 2
            self.endpoint.tick(self.now)
            self.drain()
        endpoint = self.endpoint
        assert endpoint.core.sessions == endpoint.core.dialogs == {}
        assert endpoint.layer.clients == {}
        assert endpoint.layer.servers == {}
        assert endpoint.layer.courier.deliveries == endpoint.layer.courier.waiting == {}
        assert endpoint.next_deadline() is None


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(inputs, min_size=5, max_size=60))
def test_no_sequence_of_inputs_raises_or_leaves_anything_behind(
    steps: list[tuple[str, int, int]],
) -> None:
    torture = Torture()
    for kind, a, b in steps:
        torture.step(kind, a, b)
        torture.check()
    torture.finish()


@pytest.mark.parametrize("cut", range(0, 700, 7))
def test_a_message_cut_anywhere_on_a_stream_is_one_message(cut: int) -> None:
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    data = peer.invite(agent, flow, body=sdp(P)).encode()
    peer.say(data[:cut], flow)
    peer.say(data[cut:], flow)
    agent.only(IncomingInvite)


def test_a_flood_of_strangers_allocates_nothing() -> None:
    """Threat 5.1: Scanners."""
    net = Net()
    agent = net.agent(A, unknown_reject=lambda _flow: True)
    agent.trunks = agent.new_call_trunks = frozenset()
    peer = net.peer(P)
    flow = peer.flow_to(agent, "udp")
    for n in range(500):
        peer.say(peer.invite(agent, flow, body=sdp(P), call_id=f"c{n}"), flow)
    assert peer.statuses("INVITE") == [403] * 500
    assert_empty(agent)

"""Snapshot and restore: from any moment on, the same inputs give the same outputs."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import MisuseError
from bridge.sip.digest import Credentials
from bridge.sip.endpoint import Endpoint
from bridge.sip.events import (
    Ended,
    IncomingInvite,
    Output,
    ReferProgressed,
    SessionChanged,
    SessionId,
)
from bridge.sip.parameters import EndpointConfig, OutgoingInvite
from sdp.model import Direction
from sdp.negotiate import OfferAnswer, OfferAnswerSnapshot, Rejected
from sdp.negotiated import Hold, Negotiated
from tests.unit.sip.link import Agent, Net, established, media

pytestmark = pytest.mark.unit

A, B = "192.0.2.1", "192.0.2.2"
WALL = 1.7e9


class Tokens:
    """Tokens whose next one is known, so that two endpoints draw the same."""

    def __init__(self, prefix: str, drawn: int = 0) -> None:
        self.prefix = prefix
        self.drawn = drawn

    def __call__(self) -> str:
        self.drawn += 1
        return f"{self.prefix}{self.drawn:05d}"


def again(_trunk: str, snapshot: OfferAnswerSnapshot) -> OfferAnswer:
    return OfferAnswer.restore(snapshot, destination_allowed=lambda _a, _p: True)


def twin_of(machine: OfferAnswer) -> OfferAnswer:
    return again("", machine.snapshot())


def rounded(value: object) -> object:
    """*value* with its times to the millisecond: the other clock has coarser numbers."""
    if isinstance(value, float):
        return round(value, 3)
    if is_dataclass(value) and not isinstance(value, type):
        return [(f.name, rounded(getattr(value, f.name))) for f in fields(value)]
    if isinstance(value, tuple):
        return [rounded(item) for item in value]
    return value


class Twin(Endpoint):
    """An endpoint with, from `fork` on, a restored twin that must do the same."""

    def __init__(self, config: EndpointConfig, tokens: Tokens) -> None:
        super().__init__(config, tokens=tokens)
        self.config = config
        self.own_tokens = tokens
        self.twin: Endpoint | None = None
        self.now = 0.0

    def fork(self, now: float) -> None:
        snapshot = self.snapshot(now, WALL)
        assert hash(snapshot) == hash(self.snapshot(now, WALL))
        self.twin = Endpoint.restore(
            snapshot,
            self.config,
            tokens=Tokens(self.own_tokens.prefix, self.own_tokens.drawn),
            offer_answer=again,
            now=now,
            wall=WALL,
        )
        assert rounded(self.twin.snapshot(now, WALL)) == rounded(snapshot)

    def poll(self, now: float) -> list[Output]:
        outputs = super().poll(now)
        if self.twin is not None:
            assert self.twin.poll(now) == outputs
        return outputs

    def next_deadline(self) -> float | None:
        deadline = super().next_deadline()
        if self.twin is not None:
            twins = self.twin.next_deadline()
            assert (twins is None) == (deadline is None)
            if twins is not None and deadline is not None:
                assert abs(twins - deadline) < 1e-4
        # A little late, as any timer: both clocks have passed the deadline then.
        return None if deadline is None else deadline + 1e-3

    def dial(self, invite: OutgoingInvite, now: float) -> SessionId:
        if self.twin is not None:
            self.twin.dial(replace(invite, offer_answer=twin_of(invite.offer_answer)), now)
        return super().dial(invite, now)

    def adopt(
        self,
        session: SessionId,
        offer_answer: OfferAnswer,
        trunk: str,
        now: float,
        credentials: Credentials | None = None,
        session_timer: int = 0,
    ) -> Negotiated | Rejected | None:
        if self.twin is not None:
            twin = twin_of(offer_answer)
            self.twin.adopt(session, twin, trunk, now, credentials, session_timer)
        return super().adopt(session, offer_answer, trunk, now, credentials, session_timer)


def _forward(name: str) -> None:
    def call(self: Twin, *args: object) -> object:
        if self.twin is not None:
            getattr(self.twin, name)(*args)
        return getattr(Endpoint, name)(self, *args)

    setattr(Twin, name, call)


VERBS = (
    *("receive", "flow_opened", "flow_lost", "send_failed", "resolved", "connected"),
    *("connect_failed", "tick", "ring", "answer", "reject", "cancel", "bye", "probe", "reoffer"),
    *("refer", "allow_refer", "answer_refer", "tell_referred"),
    "update",
)
for verb in VERBS:
    _forward(verb)


def twins(net: Net, host: str) -> Agent:
    agent = net.agent(host)
    config = EndpointConfig(listen_ports={"tcp": 5060, "udp": 5060}, min_session_expires=4)
    agent.endpoint = Twin(config, Tokens(host[-1] + "t"))
    return agent


OPS = (
    *("dial", "insist", "answer", "ring", "reject", "hold", "resume", "bye", "cancel", "probe"),
    *("refer", "take", "decline", "tell", "told"),
    *("update", "move", "cut", "lose", "run", "run", "run"),
)
ops = st.lists(
    st.tuples(
        st.sampled_from(OPS),
        st.booleans(),
        st.sampled_from([0.005, 0.02, 0.3, 1.1, 4.0, 33.0]),
    ),
    min_size=4,
    max_size=16,
)


def act(net: Net, agent: Agent, op: str, seconds: float, transport: str) -> None:
    """Do one thing; what makes no sense now is ignored by the endpoint."""
    endpoint, now = agent.endpoint, net.now
    sessions = list(endpoint.core.sessions)
    for session in sessions:
        endpoint.allow_refer(session, now)
    other = B if agent.host == A else A
    last = sessions[-1] if sessions else SessionId(0)
    match op:
        case "dial":
            agent.dial(other, transport=transport)
        case "insist":
            agent.dial(other, transport=transport, headers=(("Require", "100rel"),))
        case "answer":
            agent.endpoint.answer(last, now) if _adopted(agent, last) else None
        case "hold":
            endpoint.reoffer(last, Direction.SENDONLY, now)
        case "move":
            endpoint.reoffer(last, Direction.RECVONLY, now, "UPDATE")
        case "resume":
            endpoint.reoffer(last, Direction.SENDRECV, now)
        case "reject":
            endpoint.reject(last, 486, now)
        case "ring" | "bye" | "cancel" | "probe" | "update":
            getattr(endpoint, op)(last, now)
        case "refer":
            endpoint.refer(last, "sip:5551@carrier.example", now)
        case "take":
            endpoint.answer_refer(last, 202, now)
        case "decline":
            endpoint.answer_refer(last, 603, now)
        case "tell":
            endpoint.tell_referred(last, 180, now)
        case "told":
            endpoint.tell_referred(last, 200, now)
        case "cut":
            net.cut_all()
        case "lose":
            net.loss = 0.0 if net.loss else 0.4
        case _:
            net.run(seconds)
    agent.run()


def _adopted(agent: Agent, session: SessionId) -> bool:
    known = agent.endpoint.core.sessions.get(session)
    return known is not None and known.offer_answer is not None


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=ops,
    after=ops,
    seed=st.integers(0, 1000),
    answering=st.booleans(),
    insisting=st.booleans(),
    set_up=st.sampled_from([0.0, 0.03]),
    session_timer=st.sampled_from([0, 6, 40]),
)
def test_a_restored_endpoint_does_what_the_original_does(
    transport: str,
    before: list[tuple[str, bool, float]],
    after: list[tuple[str, bool, float]],
    seed: int,
    answering: bool,
    insisting: bool,
    set_up: float,
    session_timer: int,
) -> None:
    net = Net(seed)
    net.set_up = set_up
    agents = [twins(net, A), twins(net, B)]
    for agent in agents:
        if answering:
            agent.answers(session_timer=session_timer)
        else:
            adopts(agent)
    required = (("Require", "100rel"),) if insisting else ()
    agents[0].dial(B, transport=transport, headers=required, session_timer=session_timer)
    for op, first, seconds in before:
        act(net, agents[not first], op, seconds, transport)
    for agent in agents:
        assert isinstance(agent.endpoint, Twin)
        agent.run()
        agent.endpoint.fork(net.now)
    for op, first, seconds in after:
        act(net, agents[not first], op, seconds, transport)
    net.loss = 0.0
    net.run(100)


def adopts(agent: Agent) -> None:
    """Adopt every call, and leave it ringing."""

    def adopt(event: object) -> None:
        if isinstance(event, IncomingInvite):
            agent.endpoint.adopt(event.session, media(agent.host), "carrier", agent.net.now)

    agent.on_event = adopt


def test_a_call_goes_on_after_a_restart_that_lost_every_connection() -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    session, theirs = established(net, alice, bob)
    snapshot = bob.endpoint.snapshot(net.now, WALL)
    lost = list(bob.flows.values())
    net.cut_all()
    net.run(20)
    bob.endpoint = Endpoint.restore(
        snapshot,
        EndpointConfig(listen_ports={"tcp": 5060}),
        tokens=Tokens("new"),
        offer_answer=again,
        now=net.now,
        wall=WALL + 20,
    )
    for flow in lost:
        bob.endpoint.flow_lost(flow, net.now)
    alice.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    net.run(1)
    assert bob.only(SessionChanged).negotiated.hold is Hold.SENDONLY
    bob.endpoint.bye(theirs, net.now)
    net.run(1)
    assert alice.of(Ended)
    assert bob.endpoint.core.sessions == {}


def test_what_was_asked_of_the_driver_is_asked_again_after_a_restart() -> None:
    net = Net()
    net.set_up = 0.05
    alice, bob = net.agent(A), net.agent(B)
    session, _ = established(net, alice, bob)
    net.cut_all()
    alice.endpoint.bye(session, net.now)
    alice.run()
    snapshot = alice.endpoint.snapshot(net.now, WALL)
    net.queue.clear()
    alice.endpoint = Endpoint.restore(
        snapshot,
        EndpointConfig(listen_ports={"tcp": 5060}),
        tokens=Tokens("new"),
        offer_answer=again,
        now=net.now,
        wall=WALL + 1,
    )
    alice.endpoint.ask_again(net.now)
    net.run(1)
    assert bob.of(Ended)
    assert alice.endpoint.core.sessions == {}


def test_a_snapshot_of_another_version_is_our_own_bug() -> None:
    endpoint = Endpoint(EndpointConfig(), tokens=Tokens("t"))
    snapshot = replace(endpoint.snapshot(0.0, WALL), version=99)
    with pytest.raises(MisuseError):
        Endpoint.restore(
            snapshot,
            EndpointConfig(),
            tokens=Tokens("t"),
            offer_answer=again,
            now=0.0,
            wall=WALL,
        )


def test_a_transfer_goes_on_after_a_restart_on_both_sides() -> None:
    """Row 96. The subscriptions of a REFER, ours and theirs, are in the snapshot."""
    net = Net()
    agents = alice, bob = [twins(net, A), twins(net, B)]
    session, theirs = established(net, alice, bob)
    bob.endpoint.allow_refer(theirs, net.now)
    alice.endpoint.refer(session, "sip:5551@carrier.example", net.now)
    net.run(0.1)
    bob.endpoint.answer_refer(theirs, 202, net.now)
    net.run(0.1)
    bob.endpoint.tell_referred(theirs, 180, net.now)
    for agent in agents:
        assert isinstance(agent.endpoint, Twin)
        agent.run()
        agent.endpoint.fork(net.now)
    net.run(0.1)
    bob.endpoint.tell_referred(theirs, 200, net.now)
    net.run(1)
    told = [(event.status, event.over) for event in alice.of(ReferProgressed)]
    assert told == [(100, False), (180, False), (200, True)]

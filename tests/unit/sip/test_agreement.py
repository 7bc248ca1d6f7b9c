"""Two ends in random conversation agree on who may send, or that the call is over.

More examples: ``TRUNKBRIDGE_EXAMPLES=5000``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sip.delivery import Purpose
from bridge.sip.events import (
    Answered,
    Confirmed,
    Ended,
    Probed,
    Reoffered,
    SessionChanged,
    SessionId,
)
from bridge.sip.session import Phase, Session
from sdp.model import Direction
from sdp.negotiated import Negotiated
from tests.unit.sip.link import Agent, Net, established
from tests.unit.sip.test_stress import assert_empty

pytestmark = pytest.mark.unit

A, B = "192.0.2.1", "192.0.2.2"
EXAMPLES = int(os.environ.get("TRUNKBRIDGE_EXAMPLES", "60"))
WISHES = {
    "hold": Direction.SENDONLY,
    "resume": Direction.SENDRECV,
    "both ways off": Direction.INACTIVE,
}
PATIENCE = 400.0  # seconds: every timer has run out, every retry was made

verbs = st.sampled_from([*WISHES, "hold", "resume", "probe", "update", "cut"])
sides = st.sampled_from([(0,), (1,), (0, 1), (1, 0)])
pauses = st.sampled_from([0.0, 0.004, 0.011, 0.02, 0.3, 0.6, 2.5, 9.0])
steps = st.lists(st.tuples(sides, verbs, pauses), min_size=1, max_size=14)
networks = st.sampled_from(
    [
        # transport, loss, duplication, jitter in seconds
        ("tcp", 0.0, 0.0, 0.0),
        ("udp", 0.0, 0.0, 0.0),
        ("udp", 0.0, 0.3, 0.6),
        ("udp", 0.15, 0.0, 0.05),
        ("udp", 0.3, 0.3, 0.6),
    ]
)


@dataclass
class Side:
    """One end of the call, and what a call layer above it knows."""

    agent: Agent
    session: SessionId
    agreed: Negotiated | None = None
    heard: int = 0
    over: bool = False

    @property
    def state(self) -> Session | None:
        return self.agent.endpoint.core.sessions.get(self.session)

    @property
    def alive(self) -> bool:
        return self.state is not None and self.state.phase is Phase.CONFIRMED

    @property
    def holds(self) -> bool:
        """Whether its last wish that was agreed to was not to hear the other."""
        assert self.state is not None
        assert self.state.offer_answer is not None
        return self.state.offer_answer.wanted is not Direction.SENDRECV

    def act(self, verb: str, now: float) -> None:
        endpoint, state = self.agent.endpoint, self.state
        if verb in WISHES:
            endpoint.reoffer(self.session, WISHES[verb], now)
        elif verb == "probe":
            endpoint.probe(self.session, now)
        elif state is not None and state.phase is Phase.CONFIRMED:
            # A refresh without SDP. Nobody waits for its answer, as nobody does for a CANCEL's.
            endpoint.core.send(state, "UPDATE", Purpose.CANCEL, now)
        self.agent.run()

    def hear(self) -> None:
        """Follow the events as a call layer does."""
        for event in self.agent.events[self.heard :]:
            assert not self.over, "an event after the last one"
            match event:
                case Answered() | Confirmed():
                    assert self.agreed is None
                    self.agreed = event.negotiated
                case SessionChanged():
                    assert self.agreed is not None
                    assert event.negotiated != self.agreed, "a change that changes nothing"
                    self.agreed = event.negotiated
                case Ended():
                    self.over = True
                case Reoffered() | Probed():
                    pass
        self.heard = len(self.agent.events)


def agree(alice: Side, bob: Side) -> None:
    """Both ends say the same about the call."""
    assert alice.alive == bob.alive
    assert alice.over == bob.over
    if not alice.alive:
        return
    assert alice.agreed is not None
    assert bob.agreed is not None
    for one, other in ((alice, bob), (bob, alice)):
        state = one.state
        assert state is not None
        assert state.offer_answer is not None
        assert state.reoffer is None, "a wish that is never settled"
        assert state.unacked is None
        assert not state.offer_answer.pending
        assert state.offer_answer.active == one.agreed, "what was told is what is in force"
        assert one.agreed is not None
        assert other.agreed is not None
        assert one.agreed.send == other.agreed.receive
        assert (one.agreed.hold is not None) == other.holds


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    conversation=steps,
    network=networks,
    seed=st.integers(0, 10_000),
    enders=sides,
)
def test_whatever_two_ends_say_they_agree_who_may_send_and_that_it_is_over(
    conversation: list[tuple[tuple[int, ...], str, float]],
    network: tuple[str, float, float, float],
    seed: int,
    enders: tuple[int, ...],
) -> None:
    """Rows 52, 70. RFC 3261 14, RFC 3264 8: holds, resumes, glare, on good and bad networks."""
    net = Net(seed)
    transport, loss, duplication, jitter = network
    agents = net.agent(A), net.agent(B)
    ours, theirs = established(net, *agents, transport=transport)
    both = Side(agents[0], ours), Side(agents[1], theirs)
    net.loss, net.duplication, net.jitter = loss, duplication, jitter
    for who, verb, pause in conversation:
        if verb == "cut":
            net.cut_all()
        else:
            for side in who:
                both[side].act(verb, net.now)
        net.run(pause)
        for side in both:
            side.hear()
    net.run(PATIENCE)
    for side in both:
        side.hear()
    agree(*both)
    if loss == 0.0:
        assert both[0].alive, "nothing ends a call on a network that loses nothing"
    for index in enders:
        agents[index].endpoint.bye(both[index].session, net.now)
        agents[index].run()
    net.run(PATIENCE)
    for side in both:
        side.hear()
        assert_empty(side.agent)
    told = [side.over for side in both]
    assert all(over or index in enders for index, over in enumerate(told))

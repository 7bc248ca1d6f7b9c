"""Two endpoints and a session timer for a day of virtual time, over networks good and bad."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.sip.events import (
    Confirmed,
    EndCause,
    Ended,
    IncomingInvite,
    SessionId,
)
from bridge.sip.session_timer import Refresher, SessionTimer
from sdp.model import Direction
from tests.unit.sip.link import Agent, Net

pytestmark = pytest.mark.unit

A, B = "192.0.2.1", "192.0.2.2"
DAY = 86_400

Sides = tuple[tuple[Agent, SessionId], tuple[Agent, SessionId]]


def call(net: Net, transport: str, *, wishes: tuple[int, int]) -> Sides:
    """An established call whose sides want session timers of *wishes* seconds."""
    alice, bob = net.agent(A), net.agent(B)
    bob.answers(session_timer=wishes[1])
    session = alice.dial(B, transport=transport, session_timer=wishes[0])
    net.run(40)
    bob.only(Confirmed)
    return (alice, session), (bob, bob.only(IncomingInvite).session)


def timer(side: tuple[Agent, SessionId]) -> SessionTimer:
    return side[0].endpoint.core.sessions[side[1]].timer


def assert_agreed(sides: Sides) -> None:
    one, other = timer(sides[0]), timer(sides[1])
    assert one.interval == other.interval is not None
    assert {one.refresher, other.refresher} == {Refresher.US, Refresher.THEM}


def refuse_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SessionTimer, "learn", lambda _self, _headers: None)


@pytest.mark.parametrize("wishes", [(1800, 1800), (600, 1800), (0, 300)])
@pytest.mark.parametrize("update", [True, False], ids=["UPDATE", "re-INVITE"])
def test_a_live_session_is_refreshed_for_a_day_and_nobody_ends_it(
    wishes: tuple[int, int], update: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 64."""
    if not update:
        refuse_update(monkeypatch)
    net = Net()
    sides = call(net, "tcp", wishes=wishes)
    net.run(DAY)
    assert sides[0][0].of(Ended) == sides[1][0].of(Ended) == []
    assert_agreed(sides)
    interval = timer(sides[0]).interval or 0
    method = "UPDATE" if update else "INVITE"
    sent = net.labels().count(method) - (not update)
    assert abs(sent - DAY / (interval / 2)) < 0.02 * sent + 2


acts = st.lists(
    st.tuples(
        st.sampled_from(["hold", "resume", "inactive", "update", "probe", "wait"]),
        st.booleans(),
        st.sampled_from([0.0, 0.02, 0.6, 9.0, 44.9, 300.0]),
    ),
    max_size=14,
)
WISHES = {"hold": Direction.SENDONLY, "resume": Direction.SENDRECV, "inactive": Direction.INACTIVE}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    steps=acts,
    loss=st.sampled_from([0.0, 0.1]),
    jitter=st.sampled_from([0.0, 0.4]),
    wishes=st.sampled_from([(90, 0), (300, 90), (0, 120)]),
)
def test_both_sides_agree_who_refreshes_whatever_else_goes_on(
    seed: int,
    steps: list[tuple[str, bool, float]],
    loss: float,
    jitter: float,
    wishes: tuple[int, int],
) -> None:
    """Row 64. Refreshes among holds, glare, loss and reordering."""
    net = Net(seed)
    sides = call(net, "udp", wishes=wishes)
    net.loss, net.duplication, net.jitter = loss, loss, jitter
    for act, first, seconds in steps:
        agent, session = sides[not first]
        match act:
            case "update" | "probe":
                getattr(agent.endpoint, act)(session, net.now)
            case "wait":
                net.run(40)
            case _:
                agent.endpoint.reoffer(session, WISHES[act], net.now)
        agent.run()
        net.run(seconds)
    net.run(1200)
    net.loss = net.duplication = net.jitter = 0.0
    net.run(200)
    assert sides[0][0].of(Ended) == sides[1][0].of(Ended) == []
    assert_agreed(sides)


@settings(max_examples=12, deadline=None)
@given(
    wishes=st.sampled_from([(90, 0), (1800, 90), (0, 600)]),
    after=st.integers(0, 4000),
    first=st.booleans(),
    transport=st.sampled_from(["tcp", "udp"]),
)
def test_a_peer_that_dies_ends_the_session_in_time(
    wishes: tuple[int, int], after: int, first: bool, transport: str
) -> None:
    """Row 64. RFC 4028 10: whoever refreshes, the session ends before it expires."""
    net = Net()
    sides = call(net, transport, wishes=wishes)
    net.run(after)
    (agent, session), (dead, _) = sides if first else sides[::-1]
    interval = timer(sides[0]).interval or 0
    del net.nodes[dead.host]
    net.down.add(dead.host)
    net.cut_all()
    net.drop = lambda _wire: True
    net.run(interval)
    assert agent.only(Ended).cause is EndCause.SESSION_EXPIRED
    net.run(100)
    assert session not in agent.endpoint.core.sessions
    assert agent.endpoint.next_deadline() is None

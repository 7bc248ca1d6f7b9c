"""Two cores back to back with reliable provisional responses, over a link that fails them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.sip.events import Answered, Confirmed, Ended, Failed, IncomingInvite, SipEvent
from bridge.sip.message import Request, Response
from tests.unit.sip.link import TRUNK, Agent, Net, media

pytestmark = pytest.mark.unit

A, B = "192.0.2.1", "192.0.2.2"


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How the link treats datagrams; *cut* seconds after the start streams break once."""

    loss: float
    duplication: float
    jitter: float
    cut: float


weathers = st.builds(
    Weather,
    loss=st.sampled_from([0.0, 0.2, 0.5]),
    duplication=st.sampled_from([0.0, 0.3]),
    jitter=st.sampled_from([0.0, 0.4, 1.5]),
    cut=st.sampled_from([0.02, 0.4, 3.0, 500.0]),
)


def serves(net: Net, agent: Agent, *, ring_after: float, answer_after: float) -> None:
    """Adopt what comes, ring and answer later."""

    def take(event: SipEvent) -> None:
        if not isinstance(event, IncomingInvite):
            return
        session = event.session
        agent.endpoint.adopt(session, media(agent.host, 24000), TRUNK, net.now)

        def ring() -> None:
            agent.endpoint.ring(session, net.now)
            agent.run()

        def answer() -> None:
            agent.endpoint.answer(session, net.now)
            agent.run()

        net._later(ring_after, ring)
        net._later(ring_after + answer_after, answer)

    agent.on_event = take


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    weather=weathers,
    seed=st.integers(0, 10_000),
    delayed=st.booleans(),
    ring_after=st.sampled_from([0.0, 0.3, 5.0]),
    answer_after=st.sampled_from([0.0, 0.005, 1.0, 20.0, 70.0]),
)
def test_both_ends_agree_on_the_call_however_the_link_treats_them(
    transport: str,
    weather: Weather,
    seed: int,
    delayed: bool,
    ring_after: float,
    answer_after: float,
) -> None:
    """Row 55. RFC 3262 3, 4, 5: loss, copies and disorder change when, never what."""
    net = Net(seed)
    net.loss, net.duplication, net.jitter = weather.loss, weather.duplication, weather.jitter
    alice, bob = net.agent(A), net.agent(B)
    serves(net, bob, ring_after=ring_after, answer_after=answer_after)
    required = (("Require", "100rel"),)
    session = alice.dial(
        B, transport=transport, delayed=delayed, headers=required, offer_answer=media(A, 22000)
    )
    net._later(weather.cut, net.cut_all)
    net.run(ring_after + answer_after + 40)
    net.loss = 0.0
    net.run(70)

    check_agreement(alice, bob)
    check_order(net)
    alice.endpoint.bye(session, net.now)
    for kept in list(bob.endpoint.core.sessions):
        bob.endpoint.bye(kept, net.now)
    net.run(110)
    for agent in (alice, bob):
        assert agent.endpoint.core.sessions == {}
        assert agent.endpoint.core.dialogs == {}
        assert agent.endpoint.layer.clients == {}
        assert agent.endpoint.layer.servers == {}


def check_agreement(alice: Agent, bob: Agent) -> None:
    """Either both have the same session, or none has one that lives."""
    answered, confirmed = alice.of(Answered), bob.of(Confirmed)
    if answered and confirmed:
        ours, theirs = answered[0].negotiated, confirmed[0].negotiated
        assert (ours.remote_port, theirs.remote_port) == (24000, 22000)
        assert ours.codec == theirs.codec
        assert (ours.send, ours.receive) == (theirs.receive, theirs.send)
    elif answered:
        assert alice.of(Ended) or bob.of(Ended), "one end is left alone"
    else:
        assert confirmed == []
        assert bob.of(Ended) or alice.of(Failed)


def check_order(net: Net) -> None:
    """What RFC 3262 forbids was never sent."""
    acknowledged: set[str] = set()
    numbers: list[int] = []
    offered = False
    for wire in net.wires:
        message = wire.message if wire.data.strip() else None
        if isinstance(message, Request) and message.method == "PRACK":
            acknowledged.add((message.headers.get("RAck") or "").split()[0])
        elif isinstance(message, Response) and message.headers.get("RSeq"):
            number = int(message.headers.get("RSeq") or "")
            if number not in numbers:
                assert numbers[-1:] in ([], [number - 1])
                assert all(str(known) in acknowledged for known in numbers)
                numbers.append(number)
            offered = offered or bool(message.body)
        elif isinstance(message, Response) and wire.label == "200 INVITE" and offered:
            assert str(numbers[0]) in acknowledged
            assert message.body == b""
    assert {int(number) for number in acknowledged} <= set(numbers)

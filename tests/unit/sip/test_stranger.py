"""What a stranger who read the RFCs would try on a session."""

from __future__ import annotations

import pytest

from bridge.sip.events import Answered, EndCause, Ended, Probed, SessionChanged
from bridge.sip.session import MAX_EARLY
from bridge.sip.transaction import TIMER_C
from sdp.model import Direction
from tests.unit.sip.link import Agent, Net, Peer, sdp

pytestmark = pytest.mark.unit

US, THEM = "10.0.0.1", "10.0.0.2"


def answered(net: Net, transport: str = "tcp") -> tuple[Agent, Peer, int]:
    """A call of ours that a scripted peer has answered."""
    agent, peer = net.agent(US), net.peer(THEM)
    session = agent.dial(THEM, transport=transport)
    net.settle()
    invite, flow = peer.arrivals[-1]
    peer.reply(invite, 200, flow, body=sdp(THEM))  # type: ignore[arg-type]
    agent.only(Answered)
    return agent, peer, session


def empty(agent: Agent) -> bool:
    endpoint = agent.endpoint
    layer = endpoint.layer
    return not (
        endpoint.core.sessions
        or endpoint.core.dialogs
        or layer.clients
        or layer.servers
        or layer.courier.deliveries
        or len(layer.agenda)
    )


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_reinvite_that_proceeds_for_ever_ends_the_call_after_timer_c(transport: str) -> None:
    net = Net()
    agent, peer, session = answered(net, transport)
    agent.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    net.settle()
    reinvite, flow = peer.arrivals[-1]
    peer.reply(reinvite, 100, flow, tag=None)
    net.run(TIMER_C - 1)
    assert agent.of(Ended) == []
    net.run(2)
    assert agent.only(Ended).cause is EndCause.PEER_GONE
    assert peer.requests("BYE")
    net.run(100)
    assert empty(agent)


def test_a_call_that_ends_while_our_reinvite_proceeds_leaves_nothing() -> None:
    net = Net()
    agent, peer, session = answered(net)
    agent.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    net.settle()
    reinvite, flow = peer.arrivals[-1]
    peer.reply(reinvite, 100, flow, tag=None)
    invite = peer.requests("INVITE")[0]
    peer.say(peer.from_callee("BYE", invite, flow, tag="bobtag", cseq=1), flow)
    assert agent.only(Ended).cause is EndCause.BYE
    net.run(TIMER_C + 40)
    assert empty(agent)


def test_a_flood_of_forked_2xx_is_bounded() -> None:
    """Threat 5.1: Amplification and loops."""
    net = Net()
    agent, peer, _ = answered(net)
    invite, flow = peer.arrivals[0]
    for number in range(100):
        peer.reply(invite, 200, flow, tag=f"fork{number}", body=sdp(THEM))  # type: ignore[arg-type]
    assert len(agent.endpoint.core.sessions) <= MAX_EARLY
    assert all(len(c.acks) <= MAX_EARLY for c in agent.endpoint.layer.clients.values())
    net.run(100)
    assert len(agent.endpoint.core.sessions) == 1


def test_a_2xx_to_our_reinvite_with_another_tag_changes_nothing() -> None:
    net = Net()
    agent, peer, session = answered(net)
    agent.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    net.settle()
    reinvite, flow = peer.arrivals[-1]
    peer.reply(reinvite, 200, flow, body=sdp(THEM, "a=recvonly"))  # type: ignore[arg-type]
    acks = len(peer.requests("ACK"))
    changes = len(agent.of(SessionChanged))
    for number in range(50):
        stray = peer.reply(
            reinvite,  # type: ignore[arg-type]
            200,
            flow,
            tag=None,
            body=sdp(THEM, "a=inactive"),
        )
        stray.headers.set("To", f"<sip:bob@{THEM}>;tag=other{number}")
        peer.say(stray, flow)
    assert len(agent.of(SessionChanged)) == changes
    assert all(len(c.acks) <= MAX_EARLY for c in agent.endpoint.layer.clients.values())
    # The copies with the right tag are acknowledged each time (13.2.2.4).
    assert len(peer.requests("ACK")) == acks + 50


@pytest.mark.parametrize("request_", ["probe", "bye", "reoffer"])
def test_a_request_unanswered_on_a_half_dead_connection_is_sent_on_a_new_one(
    request_: str,
) -> None:
    # A NAT dropped the caller's connection: nobody told us, and nothing arrives there.
    net = Net()
    agent, peer = net.agent(US), net.peer(THEM)
    agent.answers()
    old = peer.flow_to(agent)
    peer.say(peer.invite(agent, old, body=sdp(THEM)), old)
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("ACK", accepted, old, cseq=1), old)
    session = next(iter(agent.endpoint.core.sessions))
    dead = next(iter(agent.flows))
    net.drop = lambda wire: wire.flow in (dead, old.id)
    match request_:
        case "probe":
            agent.endpoint.probe(session, net.now)
        case "bye":
            agent.endpoint.bye(session, net.now)
        case _:
            agent.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    net.run(31)
    if request_ == "probe":
        net.run(2)
        assert not agent.only(Probed).alive
        agent.endpoint.probe(session, net.now)
    method = {"probe": "OPTIONS", "bye": "BYE"}.get(request_, "INVITE")
    assert peer.requests(method) == []
    net.run(2)
    request, flow = peer.arrivals[-1]
    assert flow.id != old.id
    assert peer.request(method) is request
    assert agent.of(Ended) == []
    body = sdp(THEM, "a=recvonly") if method == "INVITE" else b""
    peer.reply(request, 200, flow, body=body)  # type: ignore[arg-type]
    if request_ == "probe":
        assert [probed.alive for probed in agent.of(Probed)] == [False, True]
    elif request_ == "bye":
        net.run(100)
        assert empty(agent)
    else:
        assert peer.requests("ACK")


def test_the_ack_of_a_copy_follows_the_peer_to_its_new_connection() -> None:
    net = Net()
    agent, peer, _ = answered(net)
    invite, old = peer.arrivals[0]
    dead = next(iter(agent.flows))
    net.drop = lambda wire: wire.flow in (dead, old.id)
    fresh = peer.fresh_flow(agent)
    before = len(peer.requests("ACK"))
    for copies in (1, 2):
        peer.reply(invite, 200, fresh, body=sdp(THEM))  # type: ignore[arg-type]
        assert len(peer.requests("ACK")) == before + copies
        assert peer.arrivals[-1][1] == fresh


def test_a_lost_dialog_is_not_taken_over_by_a_fork_that_answers_late() -> None:
    # The first 2xx was ended by their BYE; the second one's dialog gets ACK and BYE, no event.
    net = Net()
    agent, peer, _ = answered(net)
    invite, flow = peer.arrivals[0]
    peer.say(peer.from_callee("BYE", invite, flow, tag="bobtag", cseq=1), flow)  # type: ignore[arg-type]
    events = len(agent.events)
    peer.reply(invite, 200, flow, tag="late", body=sdp(THEM))  # type: ignore[arg-type]
    assert [m.to.tag for m in peer.received[-2:]] == ["late", "late"]
    assert len(agent.events) == events
    net.run(100)
    assert empty(agent)


@pytest.mark.parametrize("tag", ["bobtag", ""])
def test_a_bye_that_crosses_our_reinvite_ends_both(tag: str) -> None:
    net = Net()
    agent, peer = net.agent(US), net.peer(THEM)
    session = agent.dial(THEM)
    net.settle()
    invite, flow = peer.arrivals[-1]
    peer.reply(invite, 200, flow, tag=tag or None, body=sdp(THEM))  # type: ignore[arg-type]
    agent.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    net.settle()
    reinvite = peer.request("INVITE")
    peer.say(peer.from_callee("BYE", invite, flow, tag=tag, cseq=7), flow)  # type: ignore[arg-type]
    assert peer.response("BYE").status == 200
    peer.reply(reinvite, 487, flow, tag=None)
    assert peer.request("ACK").cseq == type(reinvite.cseq)(reinvite.cseq.number, "ACK")
    # Or a 2xx of a peer that saw no harm in it: acknowledged, by the dialog that was.
    agent.only(Ended)
    net.run(100)
    assert empty(agent)

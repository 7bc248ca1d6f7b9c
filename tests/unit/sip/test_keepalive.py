"""Double CRLFs by our own connections, and what their answers tell, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bridge.sip.endpoint import Endpoint
from bridge.sip.events import Answered, CloseFlow, EndCause, Ended
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from bridge.sip.parameters import EndpointConfig
from sdp.negotiate import OfferAnswer
from tests.unit.sip.link import TRUNK, TRUNKS, Agent, Net, Peer, counter_tokens, sdp

pytestmark = pytest.mark.unit

A, P = "192.0.2.1", "198.51.100.7"


def up(net: Net, transport: str = "tcp", trunks: frozenset[str] = TRUNKS) -> tuple[Agent, Peer]:
    """A call of ours that is up."""
    agent, peer = net.agent(A), net.peer(P)
    agent.endpoint.keep_alive(trunks)
    agent.dial(P, transport=transport)
    net.settle()
    peer.reply(*invite(peer)[:1], 200, invite(peer)[1], body=sdp(P))
    assert agent.of(Answered)
    return agent, peer


def invite(peer: Peer) -> tuple[Request, Flow]:
    found = [(m, f) for m, f in peer.arrivals if isinstance(m, Request) and m.method == "INVITE"]
    return found[-1]


def pings(net: Net) -> list[float]:
    return [wire.at for wire in net.wires if wire.source == A and wire.data == b"\r\n\r\n"]


@pytest.mark.parametrize(
    ("transport", "least", "most"), [("tcp", 95.0, 120.0), ("udp", 24.0, 29.0)]
)
def test_a_double_crlf_goes_out_again_and_again_at_the_pace_of_the_rfc(
    transport: str, least: float, most: float
) -> None:
    """Row 4. RFC 5626 4.4.1, 4.4.2: never all connections at once."""
    net = Net()
    up(net, transport)
    begin = net.now
    net.run(1000)
    times = [begin, *pings(net)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) >= 1000 // most - 1
    assert all(least - 1 <= gap <= most + 1 for gap in gaps)
    assert len({round(gap, 3) for gap in gaps}) > 2


def test_no_conclusion_is_drawn_from_a_peer_that_has_never_answered() -> None:
    """Row 4. Many carriers know no pong; their connection is not closed for that."""
    net = Net()
    agent, _ = up(net)
    net.run(2000)
    assert not [o for o in agent.outputs if isinstance(o, CloseFlow)]
    assert not agent.of(Ended)


def test_a_peer_that_answered_once_and_falls_silent_has_lost_its_connection() -> None:
    """Rows 4, 7. RFC 5626 4.4.1: no pong within 10 s, the flow has failed; the call goes on."""
    net = Net()
    agent, peer = up(net)
    flow = invite(peer)[1]
    while not pings(net):
        net.run(1)
    peer.say(b"\r\n", flow)
    while len(pings(net)) < 2:
        net.run(1)
    net.run(8)
    assert not [o for o in agent.outputs if isinstance(o, CloseFlow)]
    net.run(4)
    assert [o for o in agent.outputs if isinstance(o, CloseFlow)]
    assert not agent.of(Ended)
    sent = len(pings(net))
    net.run(300)
    assert len(pings(net)) == sent
    agent.endpoint.bye(agent.only(Answered).session, net.now)
    agent.run()
    net.settle()
    assert peer.requests("BYE")


def test_a_peer_that_goes_on_answering_keeps_its_connection() -> None:
    """Row 4."""
    net = Net()
    agent, peer = up(net)
    flow = invite(peer)[1]
    for _ in range(1200):
        before = len(pings(net))
        net.run(1)
        if len(pings(net)) > before:
            peer.say(b"\r\n", flow)
    assert len(pings(net)) >= 9
    assert not [o for o in agent.outputs if isinstance(o, CloseFlow)]


def test_a_crlf_that_answers_nothing_proves_nothing() -> None:
    """Rows 3, 4. Line ends between messages are no pongs."""
    net = Net()
    agent, peer = up(net)
    peer.say(b"\r\n", invite(peer)[1])
    net.run(400)
    assert not [o for o in agent.outputs if isinstance(o, CloseFlow)]


def test_other_trunks_and_a_trunk_that_wants_it_no_more_are_left_in_peace() -> None:
    """Row 4. A1: a bare CRLF makes some carriers drop the connection sooner."""
    net = Net()
    up(net, trunks=frozenset())
    net.run(500)
    assert not pings(net)
    again = Net()
    agent, _ = up(again)
    again.run(200)
    sent = len(pings(again))
    assert sent
    agent.endpoint.keep_alive(frozenset({"other"}))
    again.run(500)
    assert len(pings(again)) == sent


def test_a_connection_that_is_gone_is_pinged_no_more() -> None:
    """Rows 4, 7."""
    net = Net()
    agent, _ = up(net)
    net.cut_all()
    net.run(500)
    assert not pings(net)
    assert agent.endpoint.keepalive.beats == {}
    assert not agent.of(Ended)


def test_connections_that_a_peer_made_are_the_peers_to_keep() -> None:
    """Row 4. RFC 5626 4.4.1: the one who made the flow sends the pings."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.endpoint.keep_alive(TRUNKS)
    agent.answers()
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    peer.say(peer.in_dialog("ACK", peer.response("INVITE", 200), flow, cseq=1), flow)
    net.run(500)
    assert not pings(net)
    assert not [e for e in agent.of(Ended) if e.cause is not EndCause.BYE]


def test_many_targets_do_not_make_many_pings() -> None:
    """Row 4. Bounded for each trunk."""
    net = Net()
    agent = net.agent(A)
    agent.endpoint.keep_alive(TRUNKS)
    for number in range(40):
        agent.dial(f"198.51.100.{number}", transport="udp")
    assert len(agent.endpoint.keepalive.beats) == 16


def test_a_snapshot_goes_on_pinging_where_it_was_taken() -> None:
    """Row 4."""
    net = Net()
    agent, peer = up(net)
    while not pings(net):
        net.run(1)
    peer.say(b"\r\n", invite(peer)[1])
    kept = agent.endpoint.snapshot(net.now, 0.0)
    again = Endpoint.restore(
        kept,
        EndpointConfig(listen_ports={"tcp": 5060}),
        tokens=counter_tokens("again"),
        offer_answer=lambda _, body: OfferAnswer.restore(body, destination_allowed=lambda *_: True),
        now=net.now,
        wall=0.0,
    )
    again.keep_alive(frozenset({TRUNK}))
    assert again.keepalive.beats == agent.endpoint.keepalive.beats
    assert again.next_deadline() == agent.endpoint.next_deadline()

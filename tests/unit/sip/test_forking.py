"""Several early dialogs, several 2xx, and answers that come early."""

from __future__ import annotations

import pytest

from bridge.sip.events import (
    Answered,
    EndCause,
    Ended,
    Failed,
    FailureCause,
    KeyReported,
    Progressed,
    SessionId,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from tests.unit.sip.link import Agent, Net, Peer, sdp

pytestmark = pytest.mark.unit

A, P = "192.0.2.1", "198.51.100.7"


def dialled(net: Net, transport: str = "tcp") -> tuple[Agent, Peer, SessionId, Request, Flow]:
    agent, peer = net.agent(A), net.peer(P)
    session = agent.dial(P, transport=transport)
    net.settle()
    return agent, peer, session, peer.request("INVITE"), peer.arrivals[-1][1]


def test_the_first_2xx_wins_and_every_other_is_acknowledged_and_ended() -> None:
    """Row 29. RFC 3261 13.2.2.4."""
    net = Net()
    agent, peer, session, invite, flow = dialled(net)
    for tag in ("one", "two", "three"):
        peer.reply(invite, 180, flow, tag=tag)
    peer.reply(invite, 200, flow, tag="two", body=sdp(P))
    peer.reply(invite, 200, flow, tag="three", body=sdp(P, port=31000))
    peer.reply(invite, 200, flow, tag="four", body=sdp(P, port=32000))

    assert agent.only(Answered).negotiated.remote_port == 30000
    acks = {str(r.to.tag): r for r in peer.requests("ACK")}
    assert set(acks) == {"two", "three", "four"}
    assert len({r.top_via.branch for r in acks.values()} | {invite.top_via.branch}) == 4
    assert sorted(str(r.to.tag) for r in peer.requests("BYE")) == ["four", "three"]
    for bye in peer.requests("BYE"):
        assert bye.headers.get("Reason") == 'SIP;cause=200;text="Call completed elsewhere"'
        peer.reply(bye, 200, flow)
    assert agent.of(Failed) == []
    details = agent.endpoint.details(session)
    assert details is not None
    assert details.remote_tag == "two"
    assert len(agent.endpoint.core.sessions) == 1


def test_a_copy_of_each_2xx_is_given_the_same_ack_bytes() -> None:
    """Row 20. RFC 3261 13.2.2.4: every copy of a 2xx is acknowledged."""
    net = Net()
    _, peer, _, invite, flow = dialled(net, "udp")
    for _ in range(3):
        peer.reply(invite, 200, flow, tag="one", body=sdp(P))
        peer.reply(invite, 200, flow, tag="two", body=sdp(P))
    acks = [w.data for w in net.wires if w.source == A and w.label == "ACK"]
    assert len(acks) == 6
    assert len(set(acks)) == 2
    assert len(peer.requests("BYE")) >= 1
    assert len({r.top_via.branch for r in peer.requests("BYE")}) == 1


def test_a_late_2xx_is_ended_after_the_call_itself_is_over() -> None:
    """Row 29. RFC 3261 13.2.2.4: also when the call itself is over."""
    net = Net()
    agent, peer, session, invite, flow = dialled(net)
    peer.reply(invite, 200, flow, tag="one", body=sdp(P))
    agent.endpoint.bye(session, net.now)
    net.settle()
    peer.reply(peer.request("BYE"), 200, flow)
    peer.reply(invite, 200, flow, tag="two", body=sdp(P))
    assert [str(r.to.tag) for r in peer.requests("BYE")] == ["one", "two"]
    net.run(40)
    assert agent.endpoint.core.sessions == {}
    assert agent.endpoint.layer.clients == {}


def test_early_answers_are_passed_up_and_the_last_of_the_confirmed_dialog_wins() -> None:
    """Row 57. RFC 3261 13.2.1, RFC 6337 3.1.1."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, tag="one", body=sdp(P, port=31000))
    peer.reply(invite, 180, flow, tag="one")
    peer.reply(invite, 183, flow, tag="two", body=sdp(P, port=32000))
    progress = [(e.status, e.early and e.early.remote_port) for e in agent.of(Progressed)]
    assert progress == [(183, 31000), (180, None), (183, 32000)]
    peer.reply(invite, 200, flow, tag="one", body=sdp(P, port=33000))
    assert agent.only(Answered).negotiated.remote_port == 33000


def test_a_2xx_without_sdp_takes_the_early_answer_of_its_own_dialog() -> None:
    """Row 58. RFC 6337 2.2."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, tag="one", body=sdp(P, port=31000))
    peer.reply(invite, 183, flow, tag="two", body=sdp(P, port=32000))
    peer.reply(invite, 200, flow, tag="one")
    assert agent.only(Answered).negotiated.remote_port == 31000


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", sdp(P).replace(b" 8 101", b" 18").replace(b"8 PCMA/8000", b"18 G729/8000")],
    ids=["none", "nonsense", "no common codec"],
)
def test_a_2xx_without_usable_sdp_is_acknowledged_and_ended(body: bytes) -> None:
    """Row 58. RFC 3261 13.2.1."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 200, flow, body=body)
    assert peer.requests("ACK")
    assert peer.request("BYE").headers.get("Reason") == 'SIP;cause=488;text="Not Acceptable Here"'
    failed = agent.only(Failed)
    assert (failed.cause, failed.status) == (FailureCause.UNUSABLE_ANSWER, 200)
    assert agent.of(Answered) == []


def test_an_early_dialog_without_tags_is_tolerated() -> None:
    """Row 30. RFC 3261 12.1.2."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, tag=None, body=sdp(P, port=31000))
    peer.reply(invite, 200, flow, tag=None)
    assert agent.only(Answered).negotiated.remote_port == 31000
    assert peer.request("ACK").to.tag is None
    # Its own requests may carry a From tag all the same.
    peer.say(peer.from_callee("BYE", invite, flow, tag="late", cseq=1), flow)
    assert peer.statuses("BYE") == [200]
    assert agent.only(Ended).cause is EndCause.BYE


def test_requests_of_the_winning_dialog_are_known_and_those_of_losers_are_not() -> None:
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 180, flow, tag="one")
    peer.reply(invite, 180, flow, tag="two")
    peer.say(peer.from_callee("OPTIONS", invite, flow, tag="two", cseq=1), flow)
    assert peer.statuses("OPTIONS") == [200]
    peer.reply(invite, 200, flow, tag="one", body=sdp(P))
    info = [("Content-Type", "application/dtmf")]
    for tag in ("one", "two"):
        peer.say(
            peer.from_callee("INFO", invite, flow, tag=tag, cseq=2, body=b"5", headers=tuple(info)),
            flow,
        )
    assert peer.statuses("INFO") == [200, 481]
    assert len(agent.of(KeyReported)) == 1


def test_an_update_of_the_callee_before_its_answer_meets_our_open_offer() -> None:
    """Row 54. RFC 3311 5.2: early, and our offer is open."""
    net = Net()
    _, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, body=sdp(P))
    update = peer.from_callee("UPDATE", invite, flow, tag="bobtag", cseq=1, body=sdp(P, version=2))
    peer.say(update, flow)
    peer.say(peer.from_callee("UPDATE", invite, flow, tag="bobtag", cseq=2), flow)
    peer.say(
        peer.from_callee("INVITE", invite, flow, tag="bobtag", cseq=3, body=sdp(P, version=2)),
        flow,
    )
    assert peer.statuses("UPDATE") == [491, 200]
    assert peer.statuses("INVITE") == [491]


def test_the_route_set_of_the_2xx_replaces_that_of_its_18x_and_then_stays() -> None:
    """Row 24. Failure 7.2: route set overwritten by a later 2xx. RFC 3261 13.2.2.4, 12.2."""
    net = Net()
    agent, peer, session, invite, flow = dialled(net)
    peer.reply(invite, 180, flow, headers=(("Record-Route", f"<sip:{P};lr;n=1>"),))
    peer.reply(invite, 200, flow, body=sdp(P), headers=(("Record-Route", f"<sip:{P};lr;n=2>"),))
    assert peer.request("ACK").headers.all("Route") == [f"<sip:{P};lr;n=2>"]
    peer.reply(invite, 200, flow, body=sdp(P), headers=(("Record-Route", f"<sip:{P};lr;n=3>"),))
    agent.endpoint.bye(session, net.now)
    net.settle()
    assert peer.request("BYE").headers.all("Route") == [f"<sip:{P};lr;n=2>"]


def test_a_flood_of_forks_is_bounded() -> None:
    net = Net()
    agent, peer, session, invite, flow = dialled(net)
    for n in range(50):
        peer.reply(invite, 183, flow, tag=f"t{n}", body=sdp(P, port=20000 + 2 * n))
    known = agent.endpoint.core.sessions[session]
    assert len(known.early) == 16
    assert len(agent.endpoint.core.dialogs) == 16
    peer.reply(invite, 200, flow, tag="t49", body=sdp(P, port=40000))
    assert agent.only(Answered).negotiated.remote_port == 40000
    assert len(agent.endpoint.core.dialogs) == 1


def test_the_sequence_of_an_early_dialog_goes_on_when_it_is_confirmed() -> None:
    net = Net()
    _, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 180, flow)
    peer.say(peer.from_callee("UPDATE", invite, flow, tag="bobtag", cseq=10), flow)
    peer.reply(invite, 200, flow, body=sdp(P))
    for cseq in (9, 11):
        peer.say(peer.from_callee("OPTIONS", invite, flow, tag="bobtag", cseq=cseq), flow)
    assert peer.statuses("UPDATE") == [200]
    assert peer.statuses("OPTIONS") == [500, 200]


def test_the_events_of_a_call_carry_the_fields_of_the_messages_they_tell_of() -> None:
    """Row 44. Carriers put their own ids into responses and BYE."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 180, flow, headers=(("X-Exotel-CallSid", "ringing"),))
    peer.reply(invite, 200, flow, body=sdp(P), headers=(("X-Exotel-CallSid", "answered"),))
    fields = (("X-ZT-Hangup-Code", "3000"),)
    peer.say(peer.from_callee("BYE", invite, flow, tag="bobtag", cseq=1, headers=fields), flow)
    assert ("X-Exotel-CallSid", "ringing") in agent.only(Progressed).headers
    assert ("X-Exotel-CallSid", "answered") in agent.only(Answered).headers
    assert ("X-ZT-Hangup-Code", "3000") in agent.only(Ended).headers
    again = Net()
    agent, peer, _, invite, flow = dialled(again)
    peer.reply(invite, 403, flow, headers=(("X-Exotel-ErrorCode", "4001"),))
    assert ("X-Exotel-ErrorCode", "4001") in agent.only(Failed).headers

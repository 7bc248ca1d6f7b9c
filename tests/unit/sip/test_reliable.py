"""Reliable provisional responses: PRACK and 100rel in both roles."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bridge.sip.digest import Credentials
from bridge.sip.events import (
    Answered,
    Cancelled,
    Confirmed,
    EndCause,
    Ended,
    Failed,
    FailureCause,
    IncomingInvite,
    Progressed,
    SessionChanged,
    SessionId,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Request, Response
from sdp.model import Direction
from sdp.negotiated import Hold
from tests.unit.sip.link import TRUNK, Agent, Net, Peer, media, sdp

pytestmark = pytest.mark.unit

A, P = "192.0.2.1", "198.51.100.7"
REQUIRE = ("Require", "100rel")


# The callee: an INVITE that requires reliability


def called(
    net: Net, *, body: bytes = sdp(P), transport: str = "tcp", ring: bool = True
) -> tuple[Agent, Peer, Flow, SessionId]:
    """An INVITE with Require: 100rel that was adopted and rings."""
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent, transport)
    peer.say(peer.invite(agent, flow, body=body, headers=(REQUIRE,)), flow)
    session = agent.only(IncomingInvite).session
    agent.endpoint.adopt(session, media(A), TRUNK, net.now)
    if ring:
        agent.endpoint.ring(session, net.now)
    net.settle()
    return agent, peer, flow, session


def rseq_of(response: Response) -> int:
    return int(response.headers.get("RSeq") or "")


def prack(
    peer: Peer, ringing: Response, flow: Flow, *, cseq: int = 2, body: bytes = b"", rack: str = ""
) -> Request:
    rack = rack or f"{ringing.headers.get('RSeq')} 1 INVITE"
    headers = (("RAck", rack),)
    return peer.in_dialog("PRACK", ringing, flow, cseq=cseq, headers=headers, body=body)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_required_180_is_sent_reliably_and_again_until_its_prack_comes(transport: str) -> None:
    """Row 55. RFC 3262 3: from T1 on, doubling, on every transport; a PRACK ends it."""
    net = Net()
    _, peer, flow, _ = called(net, transport=transport)
    net.run(8)
    sent = [w for w in net.wires if w.label == "180 INVITE"]
    assert [round(b.at - a.at, 2) for a, b in pairwise(sent)] == [0.5, 1.0, 2.0, 4.0]
    assert len({w.data for w in sent}) == 1
    ringing = peer.response("INVITE", 180)
    assert ringing.headers.values("Require") == ["100rel"]
    assert 1 <= rseq_of(ringing) < 2**31
    assert ringing.body == b""
    peer.say(prack(peer, ringing, flow), flow)
    assert peer.statuses("PRACK") == [200]
    count = len(sent)
    net.run(30)
    assert len([w for w in net.wires if w.label == "180 INVITE"]) == count


def test_the_first_rseq_is_drawn_and_the_next_is_one_higher() -> None:
    """RFC 3262 3: the next reliable response waits for the PRACK of the one before."""
    net = Net()
    agent, peer, flow, session = called(net)
    first = peer.response("INVITE", 180)
    agent.endpoint.ring(session, net.now)
    net.run(0.3)
    assert {m.headers.get("RSeq") for m in peer.received if isinstance(m, Response)} == {
        None,
        first.headers.get("RSeq"),
    }
    peer.say(prack(peer, first, flow), flow)
    net.run(61)
    second = peer.response("INVITE", 180)
    assert rseq_of(second) == rseq_of(first) + 1
    peer.say(prack(peer, second, flow, cseq=3), flow)
    assert peer.statuses("PRACK") == [200, 200]


@pytest.mark.parametrize(
    "rack",
    [
        "7 1 INVITE",
        "{rseq} 2 INVITE",
        "{rseq} 1 UPDATE",
        "{rseq} 1",
        "",
        "x",
        "99999999999 1 INVITE",
    ],
)
def test_a_prack_that_matches_nothing_is_answered_481(rack: str) -> None:
    """RFC 3262 3: number, CSeq number and method have to match."""
    net = Net()
    _, peer, flow, _ = called(net)
    ringing = peer.response("INVITE", 180)
    rack = rack.format(rseq=rseq_of(ringing)) or " "
    peer.say(prack(peer, ringing, flow, rack=rack), flow)
    assert peer.statuses("PRACK") == [481]
    net.run(1)
    assert len(net.sent(A, "180 INVITE")) > 1
    peer.say(prack(peer, ringing, flow, cseq=3), flow)
    peer.say(prack(peer, ringing, flow, cseq=4), flow)
    assert peer.statuses("PRACK") == [481, 200, 481]


def test_a_copy_of_a_prack_is_given_the_same_200() -> None:
    net = Net()
    _, peer, flow, _ = called(net, transport="udp")
    request = prack(peer, peer.response("INVITE", 180), flow)
    peer.say(request, flow)
    peer.say(request, flow)
    assert peer.statuses("PRACK") == [200, 200]


def test_without_a_prack_the_invite_is_given_up_with_504() -> None:
    """RFC 3262 3: after 64*T1 without a PRACK the INVITE is rejected with a 5xx."""
    net = Net()
    agent, peer, _, _ = called(net)
    net.run(31)
    assert agent.of(Ended) == []
    net.run(2)
    assert peer.response("INVITE").status == 504
    ended = agent.only(Ended)
    assert (ended.cause, ended.status) == (EndCause.NO_ACK, 504)
    assert len(net.sent(A, "180 INVITE")) == 7
    assert agent.endpoint.core.sessions == {}


def test_a_200_with_the_answer_does_not_wait_for_the_prack_of_a_bare_180() -> None:
    """RFC 3262 3: the 180 is not repeated any more, its PRACK is taken all the same."""
    net = Net()
    agent, peer, flow, session = called(net)
    ringing = peer.response("INVITE", 180)
    agent.endpoint.answer(session, net.now)
    net.settle()
    accepted = peer.response("INVITE", 200)
    assert accepted.sdp is not None
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    peer.say(prack(peer, ringing, flow), flow)
    assert peer.statuses("PRACK") == [200]
    net.run(40)
    assert len(net.sent(A, "180 INVITE")) == 1
    agent.only(Confirmed)
    assert agent.of(Ended) == []


def test_an_offerless_invite_has_our_offer_in_the_180_and_its_answer_in_the_prack() -> None:
    """Rows 50, 55. RFC 3262 5: the offer is in the first reliable response, the 200 has none."""
    net = Net()
    agent, peer, flow, session = called(net, body=b"")
    ringing = peer.response("INVITE", 180)
    assert ringing.sdp is not None
    agent.endpoint.answer(session, net.now)
    net.run(1)
    # RFC 3262 3: no 2xx before the PRACK of a response with SDP.
    assert 200 not in peer.statuses("INVITE")
    peer.say(prack(peer, ringing, flow, body=sdp(P, port=31000)), flow)
    assert peer.statuses("PRACK") == [200]
    accepted = peer.response("INVITE", 200)
    assert accepted.body == b""
    assert "Content-Type" not in accepted.headers
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    assert agent.only(Confirmed).negotiated.remote_port == 31000


@pytest.mark.parametrize("body", [b"", b"v=nonsense"])
def test_a_prack_without_usable_answer_leaves_the_offer_to_the_200(body: bytes) -> None:
    net = Net()
    agent, peer, flow, session = called(net, body=b"")
    ringing = peer.response("INVITE", 180)
    agent.endpoint.answer(session, net.now)
    peer.say(prack(peer, ringing, flow, body=body), flow)
    assert peer.statuses("PRACK") == [200]
    accepted = peer.response("INVITE", 200)
    assert accepted.sdp == ringing.sdp
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1, body=sdp(P, port=32000)), flow)
    assert agent.only(Confirmed).negotiated.remote_port == 32000


def test_a_second_reliable_180_has_no_sdp_and_its_prack_may_bring_an_offer() -> None:
    """RFC 3262 5: the answer to an offer in a PRACK is in its 200."""
    net = Net()
    agent, peer, flow, session = called(net, body=b"")
    peer.say(prack(peer, peer.response("INVITE", 180), flow, body=sdp(P)), flow)
    net.run(61)
    second = peer.response("INVITE", 180)
    assert second.body == b""
    hold = sdp(P, "a=sendonly", port=33000, version=2)
    peer.say(prack(peer, second, flow, cseq=3, body=hold), flow)
    assert b"a=recvonly" in (peer.response("PRACK", 200).sdp or b"")
    agent.endpoint.answer(session, net.now)
    net.settle()
    peer.say(peer.in_dialog("ACK", peer.response("INVITE", 200), flow, cseq=1), flow)
    negotiated = agent.only(Confirmed).negotiated
    assert (negotiated.remote_port, negotiated.hold) == (33000, Hold.SENDONLY)


def test_an_offer_in_a_prack_before_ours_is_answered_is_met_with_500() -> None:
    """RFC 3311 5.2 by analogy: their INVITE's offer has no answer yet; the 180 is settled."""
    net = Net()
    _, peer, flow, _ = called(net)
    peer.say(prack(peer, peer.response("INVITE", 180), flow, body=sdp(P, version=2)), flow)
    assert peer.response("PRACK").status == 500
    assert "Retry-After" in peer.response("PRACK").headers
    net.run(40)
    assert len(net.sent(A, "180 INVITE")) == 1


def test_an_early_update_is_answered_once_the_prack_settled_the_offer() -> None:
    """Row 54. RFC 3311 5.1: while our offer waits 491, after the PRACK the answer."""
    net = Net()
    agent, peer, flow, session = called(net, body=b"")
    ringing = peer.response("INVITE", 180)
    peer.say(peer.in_dialog("UPDATE", ringing, flow, cseq=2, body=sdp(P)), flow)
    assert peer.statuses("UPDATE") == [491]
    peer.say(prack(peer, ringing, flow, cseq=3, body=sdp(P)), flow)
    moved = sdp(P, port=34000, version=2)
    peer.say(peer.in_dialog("UPDATE", ringing, flow, cseq=4, body=moved), flow)
    assert peer.statuses("UPDATE") == [491, 200]
    agent.endpoint.answer(session, net.now)
    net.settle()
    peer.say(peer.in_dialog("ACK", peer.response("INVITE", 200), flow, cseq=1), flow)
    assert agent.only(Confirmed).negotiated.remote_port == 34000


def test_a_cancel_and_our_refusal_end_the_repeating() -> None:
    net = Net()
    agent, peer, flow, session = called(net)
    agent.endpoint.reject(session, 486, net.now)
    net.run(40)
    assert len(net.sent(A, "180 INVITE")) == 1
    other = Net()
    agent, peer, flow, session = called(other)
    invite = next(w.message for w in other.wires if w.label == "INVITE")
    assert isinstance(invite, Request)
    fields = invite.headers.copied("Via", "From", "To", "Call-ID", "Max-Forwards")
    fields.add("CSeq", "1 CANCEL")
    peer.say(Request("CANCEL", invite.uri, fields), flow)
    assert agent.of(Cancelled)
    other.run(40)
    assert len(other.sent(A, "180 INVITE")) == 1


def test_a_prack_that_comes_after_our_refusal_is_answered_200() -> None:
    """RFC 3262 3: "it MUST be prepared to process PRACK requests" after a final response."""
    net = Net()
    agent, peer, flow, session = called(net, transport="udp")
    agent.endpoint.reject(session, 486, net.now)
    net.settle()
    ringing = peer.response("INVITE", 180)
    peer.say(prack(peer, ringing, flow), flow)
    other = prack(peer, ringing, flow, cseq=3)
    other.headers.set("To", "<sip:5551@192.0.2.1>;tag=unheard")
    peer.say(other, flow)
    assert peer.statuses("PRACK") == [200, 481]
    net.run(100)
    peer.say(prack(peer, ringing, flow, cseq=4), flow)
    assert peer.statuses("PRACK") == [200, 481, 481]


def test_without_require_a_180_is_a_plain_one() -> None:
    """RFC 3262 3: where it is only supported the callee may choose; we send it plainly."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    supported = (("Supported", "100rel, timer"),)
    peer.say(peer.invite(agent, flow, body=sdp(P), headers=supported), flow)
    agent.endpoint.adopt(agent.only(IncomingInvite).session, media(A), TRUNK, net.now)
    agent.endpoint.ring(agent.only(IncomingInvite).session, net.now)
    net.run(10)
    ringing = peer.response("INVITE", 180)
    assert "RSeq" not in ringing.headers
    assert "Require" not in ringing.headers
    assert len(net.sent(A, "180 INVITE")) == 1


# The caller


def dialled(
    net: Net, transport: str = "tcp", credentials: Credentials | None = None
) -> tuple[Agent, Peer, SessionId, Request, Flow]:
    agent, peer = net.agent(A), net.peer(P)
    session = agent.dial(P, transport=transport, credentials=credentials)
    net.settle()
    return agent, peer, session, peer.request("INVITE"), peer.arrivals[-1][1]


def reliably(rseq: int, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (REQUIRE, ("RSeq", str(rseq)), *more)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_reliable_18x_is_acknowledged_in_its_early_dialog(transport: str) -> None:
    """Row 55. RFC 3262 4, 7.2: PRACK with RAck, next CSeq, route set and remote target."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net, transport)
    route = ("Record-Route", f"<sip:{P};lr>, <sip:198.51.100.8;lr>")
    peer.reply(invite, 183, flow, body=sdp(P), headers=reliably(776, route))
    request = peer.request("PRACK")
    assert request.headers.get("RAck") == "776 1 INVITE"
    assert request.cseq.number == 2
    assert request.to.tag == "bobtag"
    assert request.headers.values("Route") == ["<sip:198.51.100.8;lr>", f"<sip:{P};lr>"]
    assert request.uri == f"sip:bob@{P}:5060;transport={transport}"
    assert request.body == b""
    assert request.top_via.branch != invite.top_via.branch
    peer.reply(request, 200, flow, tag=None)
    assert agent.only(Progressed).early is not None


def test_copies_gaps_and_old_numbers_are_neither_acknowledged_nor_heard() -> None:
    """RFC 3262 4: what is not one higher MUST NOT be acknowledged or processed further."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    for rseq in (10, 10, 12, 9, 11, 13, 12):
        peer.reply(invite, 180, flow, headers=reliably(rseq))
    racks = [r.headers.get("RAck") for r in peer.requests("PRACK")]
    assert racks == ["10 1 INVITE", "11 1 INVITE", "12 1 INVITE"]
    assert [r.cseq.number for r in peer.requests("PRACK")] == [2, 3, 4]
    assert len(agent.of(Progressed)) == 3


def test_each_fork_has_its_own_sequence_and_its_own_answer() -> None:
    """Rows 55, 57. RFC 3262 4: the sequence belongs to the early dialog, and so does the answer."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, tag="one", body=sdp(P, port=31000), headers=reliably(5))
    peer.reply(invite, 183, flow, tag="two", body=sdp(P, port=32000), headers=reliably(900))
    peer.reply(invite, 180, flow, tag="one", headers=reliably(6))
    pracks = [(str(r.to.tag), r.headers.get("RAck"), r.cseq.number) for r in peer.requests("PRACK")]
    assert pracks == [
        ("one", "5 1 INVITE", 2),
        ("two", "900 1 INVITE", 2),
        ("one", "6 1 INVITE", 3),
    ]
    early = [e.early and e.early.remote_port for e in agent.of(Progressed)]
    assert early == [31000, 32000, None]
    peer.reply(invite, 200, flow, tag="one")
    assert agent.only(Answered).negotiated.remote_port == 31000
    assert peer.request("ACK").body == b""
    for session in list(agent.endpoint.core.sessions):
        agent.endpoint.bye(session, net.now)
    net.settle()
    assert peer.request("BYE").cseq.number == 4


def test_the_answer_of_a_reliable_18x_is_final_whatever_comes_later() -> None:
    """Row 58. RFC 3261 13.2.1: SDP of later responses in that dialog is ignored."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, body=sdp(P, port=31000), headers=reliably(1))
    peer.reply(invite, 183, flow, body=sdp(P, port=35000))
    peer.reply(invite, 180, flow, headers=reliably(2), body=sdp(P, port=36000))
    assert [e.early and e.early.remote_port for e in agent.of(Progressed)] == [31000, None, None]
    peer.reply(invite, 200, flow, body=sdp(P, port=37000))
    assert agent.only(Answered).negotiated.remote_port == 31000


def test_the_other_forks_answer_is_taken_when_it_confirms() -> None:
    """Row 57. RFC 3960 3.1: the dialog that is confirmed wins over earlier early media."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, tag="one", body=sdp(P, port=31000), headers=reliably(1))
    peer.reply(invite, 180, flow, tag="two")
    peer.reply(invite, 200, flow, tag="two", body=sdp(P, port=38000))
    assert agent.only(Answered).negotiated.remote_port == 38000


def test_a_reliable_answer_replaces_an_unreliable_one_of_its_dialog() -> None:
    """Row 57. RFC 6337 2.2: what an unreliable 18x says is a preview of the answer to come."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, body=sdp(P, port=31000))
    peer.reply(invite, 183, flow, body=sdp(P, port=32000), headers=reliably(1))
    assert [e.early and e.early.remote_port for e in agent.of(Progressed)] == [31000, 32000]
    peer.reply(invite, 200, flow)
    assert agent.only(Answered).negotiated.remote_port == 32000


def test_what_happened_in_a_fork_that_is_not_confirmed_leaves_no_trace() -> None:
    """Row 57. RFC 3261 13.2.2.4, 3262 4: each early dialog has its own offers and numbers."""
    net = Net()
    agent, peer, session, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, tag="one", body=sdp(P, port=31000), headers=reliably(1))
    peer.reply(invite, 183, flow, tag="two", body=sdp(P, port=32000), headers=reliably(1))
    hold = sdp(P, "a=inactive", port=31000, version=2)
    peer.say(peer.from_callee("UPDATE", invite, flow, tag="one", cseq=1, body=hold), flow)
    peer.say(peer.from_callee("BYE", invite, flow, tag="one", cseq=2), flow)
    assert (peer.statuses("UPDATE"), peer.statuses("BYE")) == ([200], [200])
    peer.reply(invite, 200, flow, tag="two")
    negotiated = agent.only(Answered).negotiated
    assert (negotiated.remote_port, negotiated.hold) == (32000, None)
    agent.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    net.settle()
    offer = peer.requests("INVITE")[-1]
    assert (offer.to.tag, offer.cseq.number) == ("two", 3)


def test_an_unusable_reliable_answer_is_acknowledged_and_the_2xx_may_mend_it() -> None:
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, body=b"nonsense", headers=reliably(1))
    assert peer.requests("PRACK")
    assert agent.only(Progressed).early is None
    peer.reply(invite, 200, flow, body=sdp(P, port=31000))
    assert agent.only(Answered).negotiated.remote_port == 31000


def test_an_unusable_reliable_answer_and_a_bare_2xx_end_the_call() -> None:
    """Row 58. RFC 3261 13.2.2.4: a 2xx whose answer cannot be used is acknowledged and ended."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, body=b"nonsense", headers=reliably(1))
    peer.reply(invite, 200, flow)
    assert peer.requests("BYE")
    assert agent.only(Failed).cause is FailureCause.UNUSABLE_ANSWER


def test_an_update_in_an_early_dialog_with_a_reliable_answer_is_answered() -> None:
    """Row 54. RFC 3311 5.1, 5.2: an offer once ours is answered; before that 491."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 180, flow)
    peer.say(
        peer.from_callee("UPDATE", invite, flow, tag="bobtag", cseq=1, body=sdp(P, version=2)), flow
    )
    assert peer.statuses("UPDATE") == [491]
    peer.reply(invite, 183, flow, body=sdp(P, port=31000), headers=reliably(1))
    moved = sdp(P, port=39000, version=3)
    peer.say(peer.from_callee("UPDATE", invite, flow, tag="bobtag", cseq=2, body=moved), flow)
    assert peer.statuses("UPDATE") == [491, 200]
    assert peer.response("UPDATE", 200).sdp is not None
    assert agent.only(SessionChanged).negotiated.remote_port == 39000
    peer.reply(invite, 200, flow, body=sdp(P, port=31000))
    assert agent.only(Answered).negotiated.remote_port == 39000


def test_a_180_after_a_183_keeps_its_early_media() -> None:
    """Row 57. RFC 3960 3.2: a 180 without SDP takes nothing back."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, body=sdp(P, port=31000))
    peer.reply(invite, 180, flow)
    assert [e.early and e.early.remote_port for e in agent.of(Progressed)] == [31000, None]
    peer.reply(invite, 200, flow)
    assert agent.only(Answered).negotiated.remote_port == 31000


def test_the_prack_is_sent_again_over_udp_until_it_is_answered() -> None:
    net = Net()
    _, peer, _, invite, flow = dialled(net, "udp")
    peer.reply(invite, 180, flow, headers=reliably(1))
    net.run(4)
    assert len(peer.requests("PRACK")) == 4
    assert len({w.data for w in net.wires if w.label == "PRACK"}) == 1
    peer.reply(peer.request("PRACK"), 200, flow, tag=None)
    net.run(40)
    assert len(peer.requests("PRACK")) == 4


@pytest.mark.parametrize("status", [400, 405, 481, 500])
def test_a_refused_prack_ends_nothing(status: int) -> None:
    """The INVITE goes on: the far end gives it up itself when it has to (RFC 3262 3)."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 183, flow, body=sdp(P), headers=reliably(1))
    peer.reply(peer.request("PRACK"), status, flow, tag=None)
    peer.reply(invite, 200, flow)
    agent.only(Answered)
    assert agent.of(Failed) == []


def test_a_challenged_prack_is_sent_again_with_credentials_in_its_early_dialog() -> None:
    net = Net()
    _, peer, _, invite, flow = dialled(
        net, credentials=Credentials(username="alice", password="secret")
    )
    peer.reply(invite, 183, flow, body=sdp(P), headers=reliably(1))
    challenge = ("Proxy-Authenticate", 'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"')
    peer.reply(peer.request("PRACK"), 407, flow, tag=None, headers=(challenge,))
    first, second = peer.requests("PRACK")
    assert "Proxy-Authorization" in second.headers
    assert second.headers.get("RAck") == first.headers.get("RAck")
    assert (first.cseq.number, second.cseq.number) == (2, 3)


def test_without_tag_or_number_a_required_18x_is_not_acknowledged() -> None:
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 180, flow, tag=None, headers=reliably(1))
    peer.reply(invite, 180, flow, headers=(REQUIRE, ("RSeq", "none")))
    peer.reply(invite, 180, flow, headers=(("RSeq", "4"),))
    peer.reply(invite, 180, flow, headers=reliably(2**32))
    assert peer.requests("PRACK") == []
    assert len(agent.of(Progressed)) == 3


def test_our_invite_offers_100rel_only_where_the_trunk_says_so() -> None:
    """Row 55. Some peers refuse a call that offers 100rel (488); nothing is lost without."""
    net = Net()
    _, _, _, invite, _ = dialled(net)
    assert "100rel" not in invite.headers.values("Supported")
    assert "PRACK" in invite.headers.values("Allow")


def test_a_reliable_18x_after_our_cancel_is_acknowledged_all_the_same() -> None:
    net = Net()
    agent, peer, session, invite, flow = dialled(net)
    peer.reply(invite, 180, flow)
    agent.endpoint.cancel(session, net.now)
    net.settle()
    peer.reply(invite, 183, flow, headers=reliably(3))
    assert peer.request("PRACK").headers.get("RAck") == "3 1 INVITE"
    assert len(agent.of(Progressed)) == 1


def test_a_peer_that_will_not_do_without_is_offered_100rel_once() -> None:
    """RFC 3261 21.4.15: 421 with Require: 100rel; the INVITE goes again and lists it."""
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 421, flow, headers=(REQUIRE,))
    again = peer.request("INVITE")
    assert again.cseq.number == 2
    assert "100rel" in again.headers.values("Supported")
    assert (again.call_id, again.from_, again.body) == (invite.call_id, invite.from_, invite.body)
    peer.reply(again, 183, flow, tag="new", body=sdp(P), headers=reliably(1))
    assert peer.request("PRACK").headers.get("RAck") == "1 2 INVITE"
    assert peer.request("PRACK").cseq.number == 3
    peer.reply(again, 421, flow, headers=(REQUIRE,))
    assert len(peer.requests("INVITE")) == 2
    assert agent.only(Failed).status == 421


def test_a_421_for_what_we_do_not_have_ends_the_call() -> None:
    net = Net()
    agent, peer, _, invite, flow = dialled(net)
    peer.reply(invite, 421, flow, headers=(("Require", "100rel, precondition"),))
    assert agent.only(Failed).status == 421
    assert len(peer.requests("INVITE")) == 1


# An INVITE of ours without an offer


def offerless(net: Net) -> tuple[Agent, Peer, Request, Flow]:
    agent, peer = net.agent(A), net.peer(P)
    agent.dial(P, delayed=True, reliable=True)
    net.settle()
    invite = peer.request("INVITE")
    assert (invite.body, "Content-Type" in invite.headers) == (b"", False)
    assert "100rel" in invite.headers.values("Supported")
    return agent, peer, invite, peer.arrivals[-1][1]


def test_an_offer_in_a_reliable_18x_is_answered_in_the_prack() -> None:
    """Row 55. RFC 3262 5: "it MUST generate an answer in the PRACK"."""
    net = Net()
    agent, peer, invite, flow = offerless(net)
    peer.reply(invite, 183, flow, tag="one", body=sdp(P, port=31000), headers=reliably(1))
    peer.reply(invite, 183, flow, tag="two", body=sdp(P, port=32000), headers=reliably(1))
    bodies = [r.sdp for r in peer.requests("PRACK")]
    assert all(body is not None and b"a=sendrecv" in body for body in bodies)
    peer.reply(invite, 200, flow, tag="two")
    assert agent.only(Answered).negotiated.remote_port == 32000
    assert peer.request("ACK").body == b""


def test_an_offer_in_the_2xx_is_answered_in_the_ack_and_in_its_copies() -> None:
    """Row 50. RFC 3261 13.2.2.4: "the UAC MUST place an answer in the ACK"."""
    net = Net()
    agent, peer, invite, flow = offerless(net)
    peer.reply(invite, 180, flow)
    peer.reply(invite, 200, flow, body=sdp(P, port=31000))
    peer.reply(invite, 200, flow, body=sdp(P, port=31000))
    assert agent.only(Answered).negotiated.remote_port == 31000
    first, second = peer.requests("ACK")
    assert first.sdp == second.sdp is not None


def test_an_offerless_2xx_to_our_offerless_invite_ends_the_call() -> None:
    net = Net()
    agent, peer, invite, flow = offerless(net)
    peer.reply(invite, 200, flow)
    assert peer.requests("BYE")
    assert agent.only(Failed).cause is FailureCause.UNUSABLE_ANSWER


def test_the_bye_of_a_fork_that_was_pracked_has_a_cseq_above_that_prack() -> None:
    """RFC 3261 12.2.1.1: CSeq goes up within a dialog, and a losing fork has had our PRACK."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.dial(P, transport="tcp")
    net.settle()
    invite, flow = peer.request("INVITE"), peer.arrivals[-1][1]
    for tag, rseq in (("one", "7"), ("two", "9"), ("two", "10")):
        peer.reply(invite, 183, flow, tag=tag, headers=(REQUIRE, ("RSeq", rseq)))
    for one in peer.requests("PRACK"):
        peer.reply(one, 200, flow)
    peer.reply(invite, 200, flow, tag="one", body=sdp(P))
    peer.reply(invite, 200, flow, tag="two", body=sdp(P, port=31000))
    used = [r.cseq.number for r in peer.requests("PRACK") if r.to.tag == "two"]
    bye = peer.request("BYE")
    assert len(used) == 2
    assert bye.to.tag == "two"
    assert bye.cseq.number > max(used)

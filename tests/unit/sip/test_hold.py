"""Hold and resume in every dialect: inbound and outbound calls, the call's flow and a new one."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bridge.sip.events import (
    Answered,
    Confirmed,
    EndCause,
    Ended,
    IncomingInvite,
    Probed,
    Reoffered,
    SessionChanged,
    SessionId,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Request, Response
from sdp.model import Direction
from sdp.negotiated import Hold
from tests.unit.sip.link import Agent, Net, Peer, established, media, sdp

pytestmark = pytest.mark.unit

A, B, P = "192.0.2.1", "192.0.2.2", "198.51.100.7"

DIALECTS = [
    ("sendonly", lambda v: sdp(P, "a=sendonly", version=v), Hold.SENDONLY, b"a=recvonly"),
    ("inactive", lambda v: sdp(P, "a=inactive", version=v), Hold.INACTIVE, b"a=inactive"),
    (
        "session level",
        lambda v: sdp(P, version=v, session_lines=("a=sendonly",)),
        Hold.SENDONLY,
        b"a=recvonly",
    ),
    (
        "media level wins",
        lambda v: sdp(P, "a=inactive", version=v, session_lines=("a=sendrecv",)),
        Hold.INACTIVE,
        b"a=inactive",
    ),
    (
        "zero address",
        lambda v: sdp(P, version=v, address="0.0.0.0"),
        Hold.ZERO_ADDRESS,
        b"a=recvonly",
    ),
    ("port 0", lambda v: sdp(P, version=v, port=0), Hold.NO_MEDIA, b"m=audio 0 "),
]


class Call:
    """An established call between an endpoint and a scripted peer; either side may have dialled."""

    def __init__(self, net: Net, *, inbound: bool, transport: str = "tcp") -> None:
        self.net = net
        self.agent: Agent = net.agent(A)
        self.peer: Peer = net.peer(P)
        self.cseq = 1
        self.inbound = inbound
        if inbound:
            self.agent.answers()
            self.flow = self.peer.flow_to(self.agent, transport)
            self.peer.say(self.peer.invite(self.agent, self.flow, body=sdp(P)), self.flow)
            self.accepted = self.peer.response("INVITE", 200)
            self.session: SessionId = self.agent.only(IncomingInvite).session
            self.say("ACK", cseq=1)
            self.agent.only(Confirmed)
        else:
            self.session = self.agent.dial(P, transport=transport)
            net.settle()
            self.invite = self.peer.request("INVITE")
            self.flow = self.peer.arrivals[-1][1]
            self.peer.reply(self.invite, 200, self.flow, body=sdp(P))
            self.agent.only(Answered)

    def say(
        self,
        method: str,
        body: bytes = b"",
        *,
        flow: Flow | None = None,
        cseq: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Request:
        """Send a request of the peer in the dialog."""
        flow = flow or self.flow
        if cseq is None:
            self.cseq += method not in ("ACK", "CANCEL")
            cseq = self.cseq
        if self.inbound:
            request = self.peer.in_dialog(
                method, self.accepted, flow, cseq=cseq, body=body, headers=headers
            )
        else:
            request = self.peer.from_callee(
                method, self.invite, flow, tag="bobtag", cseq=cseq, body=body, headers=headers
            )
        self.peer.say(request, flow)
        return request

    def last(self, method: str) -> Response:
        return self.peer.response(method)

    @property
    def holds(self) -> list[Hold | None]:
        return [e.negotiated.hold for e in self.agent.of(SessionChanged)]


@pytest.mark.parametrize("fresh", [False, True], ids=["same flow", "new flow"])
@pytest.mark.parametrize("inbound", [True, False], ids=["inbound", "outbound"])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize(
    ("offer", "hold", "line"), [d[1:] for d in DIALECTS], ids=[d[0] for d in DIALECTS]
)
def test_each_dialect_holds_and_resumes(offer, hold, line, method, inbound, fresh) -> None:  # type: ignore[no-untyped-def]
    """Row 6. R1 7.1.2, 7.1.3 and 7.1.6. Hold rule 2.3: UPDATE. Failure 7.3: hold kills the call.

    RFC 3264 8.4, on the connection of the call and on a new one.
    """
    net = Net()
    call = Call(net, inbound=inbound)
    flow = call.peer.fresh_flow(call.agent) if fresh else call.flow

    call.say(method, offer(2), flow=flow)
    held = call.last(method)
    assert held.status == 200
    assert line in held.body
    assert b"c=IN IP4 0.0.0.0" not in held.body
    assert held.contact is not None
    assert len(held.headers.values("Via")) == 1
    if method == "INVITE":
        call.say("ACK", flow=flow)
    assert call.holds == [hold]

    call.say(method, sdp(P, version=3), flow=flow)
    assert call.last(method).status == 200
    if method == "INVITE":
        call.say("ACK", flow=flow)
    assert call.holds == [hold, None]
    net.run(60)
    assert call.agent.of(Ended) == []


@pytest.mark.parametrize("fresh", [False, True], ids=["same flow", "new flow"])
@pytest.mark.parametrize("inbound", [True, False], ids=["inbound", "outbound"])
@pytest.mark.parametrize(
    ("offer", "hold"), [(d[1], d[2]) for d in DIALECTS], ids=[d[0] for d in DIALECTS]
)
def test_an_offerless_reinvite_is_decided_by_the_answer_in_its_ack(
    offer, hold, inbound, fresh
) -> None:  # type: ignore[no-untyped-def]
    """Row 51. R1 7.1.4. Hold rule 2.3: offerless re-INVITE. Failure 7.4: 488 to an offerless
    re-INVITE. RFC 3261 14.2.
    """
    net = Net()
    call = Call(net, inbound=inbound)
    flow = call.peer.fresh_flow(call.agent) if fresh else call.flow

    call.say("INVITE", flow=flow)
    offered = call.last("INVITE")
    assert offered.status == 200
    assert b"a=sendrecv" in offered.body
    assert b"RTP/AVP 8 0 101" in offered.body
    assert call.holds == []

    call.say("ACK", offer(2), flow=flow)
    assert call.holds == [hold]

    call.say("INVITE", flow=flow)
    call.say("ACK", sdp(P, version=3), flow=flow)
    assert call.holds == [hold, None]


@pytest.mark.parametrize("inbound", [True, False])
def test_an_offerless_reinvite_that_changes_nothing_publishes_nothing(inbound: bool) -> None:
    """Row 51. RFC 6337 5.2.2."""
    net = Net()
    call = Call(net, inbound=inbound)
    for version in (8, 9):
        call.say("INVITE")
        call.say("ACK", sdp(P, version=version))
    # Our answer named one codec, our offer names both: after the first we may be sent either.
    changes = call.agent.of(SessionChanged)
    assert len(changes) == int(inbound)
    for change in changes:
        assert (change.negotiated.hold, change.negotiated.codec) == (None, "PCMA")
        assert {name for _, name in change.negotiated.receive_codecs} == {"PCMA", "PCMU"}


def test_an_offerless_reinvite_acknowledged_without_sdp_leaves_the_session() -> None:
    """Row 51. RFC 6337 3.3: the ACK brought no answer; nothing has changed."""
    net = Net()
    call = Call(net, inbound=True)
    call.say("INVITE")
    call.say("ACK")
    assert call.holds == []
    call.say("INVITE", sdp(P, "a=sendonly", version=2))
    assert call.last("INVITE").status == 200
    assert call.holds == [Hold.SENDONLY]


def test_a_refresh_with_a_new_version_publishes_nothing() -> None:
    """Row 63. R1 7.1.5. Hold rule 2.3: same content is a refresh. RFC 3264 8."""
    net = Net()
    call = Call(net, inbound=True)
    call.say("INVITE", sdp(P, version=2))
    call.say("ACK")
    call.say("UPDATE", sdp(P, version=3))
    call.say("UPDATE")
    assert [call.peer.statuses("UPDATE"), call.holds] == [[200, 200], []]


def test_a_refresh_while_held_keeps_the_hold() -> None:
    """Row 65. RFC 3264 8."""
    net = Net()
    call = Call(net, inbound=True)
    call.say("INVITE", sdp(P, "a=sendonly", version=2))
    call.say("ACK")
    call.say("INVITE", sdp(P, "a=sendonly", version=3))
    assert b"a=recvonly" in call.last("INVITE").body
    call.say("ACK")
    assert call.holds == [Hold.SENDONLY]


def test_unusable_offers_are_refused_and_leave_the_session() -> None:
    """Rows 67, 93. Hold rule 2.3: a refusal changes nothing. RFC 3261 14.2."""
    net = Net()
    call = Call(net, inbound=True)
    t38 = sdp(P, port=0, version=2).replace(b"m=audio 0 RTP/AVP 8 101", b"m=image 9 udptl t38")
    call.say("INVITE", t38)
    refused = call.last("INVITE")
    assert refused.status == 488
    assert "Warning" in refused.headers
    call.say("ACK", headers=(("Via", str(refused.top_via)),))
    call.say("UPDATE", t38)
    assert call.last("UPDATE").status == 488
    assert call.holds == []
    call.say("UPDATE", sdp(P, "a=inactive", version=3))
    assert call.holds == [Hold.INACTIVE]


def test_the_reinvite_200_is_sent_again_until_its_ack_comes_on_a_stream_too() -> None:
    """Row 20. RFC 3261 14.2: a re-INVITE's 2xx is sent as that of an INVITE."""
    net = Net()
    call = Call(net, inbound=True)
    call.say("INVITE", sdp(P, "a=sendonly", version=2))
    net.run(8)
    copies = [w for w in net.wires if w.source == A and w.label == "200 INVITE"][1:]
    waits = [round(b.at - a.at, 2) for a, b in pairwise(copies)]
    assert waits == [0.5, 1.0, 2.0, 4.0]
    assert len({w.data for w in copies}) == 1
    call.say("ACK")
    net.run(60)
    assert call.agent.of(Ended) == []
    assert len([w for w in net.wires if w.source == A and w.label == "200 INVITE"]) == 6


def test_a_reinvite_that_is_never_acknowledged_ends_the_call_with_a_bye() -> None:
    net = Net()
    call = Call(net, inbound=True)
    call.say("INVITE", sdp(P, "a=sendonly", version=2))
    net.run(40)
    assert call.agent.only(Ended).cause is EndCause.NO_ACK
    assert call.peer.requests("BYE")


def test_an_update_while_our_offer_waits_is_met_with_491_and_a_reinvite_with_500() -> None:
    """Rows 53, 54. RFC 3261 14.2, RFC 3311 5.2."""
    net = Net()
    call = Call(net, inbound=True)
    call.say("INVITE")
    call.say("UPDATE", sdp(P, "a=sendonly", version=2))
    assert call.last("UPDATE").status == 491
    call.say("INVITE", sdp(P, "a=sendonly", version=2))
    late = call.peer.response("INVITE", 500)
    assert 0 <= int(late.headers.get("Retry-After") or "-1") <= 10
    call.say("UPDATE")
    assert call.last("UPDATE").status == 200


def test_a_reinvite_before_the_first_ack_is_met_with_500() -> None:
    """Row 53. RFC 3261 14.2."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("INVITE", accepted, flow, cseq=2, body=sdp(P, version=2)), flow)
    late = peer.response("INVITE")
    assert (late.status, late.cseq.number) == (500, 2)
    assert "Retry-After" in late.headers
    # An UPDATE needs only that the first offer was answered, and 200 answered it.
    held = sdp(P, "a=sendonly", version=2)
    peer.say(peer.in_dialog("UPDATE", accepted, flow, cseq=3, body=held), flow)
    assert peer.response("UPDATE").status == 200
    assert agent.of(SessionChanged) == []
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    assert agent.only(Confirmed).negotiated.hold is Hold.SENDONLY


def test_an_update_before_our_answer_is_met_with_500() -> None:
    """Row 54. RFC 3311 5.2: early, and our answer is due."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P)), flow)
    session = agent.only(IncomingInvite).session
    agent.endpoint.adopt(session, media(A), "carrier", net.now)
    agent.endpoint.ring(session, net.now)
    net.settle()
    ringing = peer.response("INVITE", 180)
    peer.say(peer.in_dialog("UPDATE", ringing, flow, cseq=2, body=sdp(P, version=2)), flow)
    assert peer.response("UPDATE").status == 500
    peer.say(peer.in_dialog("INVITE", ringing, flow, cseq=3, body=sdp(P, version=2)), flow)
    assert peer.response("INVITE").status == 500


def test_reinvite_and_update_during_our_reinvite_are_met_with_491() -> None:
    """Row 52. RFC 3261 14.2, RFC 3311 5.2."""
    net = Net()
    call = Call(net, inbound=True)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    ours = call.peer.request("INVITE")
    call.say("INVITE", sdp(P, version=2))
    assert call.last("INVITE").status == 491
    call.say("UPDATE", sdp(P, version=2))
    assert call.last("UPDATE").status == 491
    call.peer.reply(ours, 200, call.flow, tag=None, body=sdp(P, "a=recvonly", version=2))
    assert call.peer.request("ACK").cseq.number == ours.cseq.number
    changed = call.agent.only(SessionChanged).negotiated
    assert (changed.hold, changed.send, changed.receive) == (None, True, False)
    assert call.agent.only(Reoffered).ok
    assert isinstance(call.agent.events[-1], Reoffered), "after what it changed"


@pytest.mark.parametrize(("inbound", "lowest", "highest"), [(True, 0.0, 2.0), (False, 2.1, 4.0)])
def test_our_reinvite_met_with_491_comes_again_after_the_wait_of_14_1(
    inbound: bool, lowest: float, highest: float
) -> None:
    """Row 52. Failure 7.2: 491 back-off ignores who owns the Call-ID. RFC 3261 14.1."""
    net = Net()
    call = Call(net, inbound=inbound)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    for _ in range(4):
        first = call.peer.requests("INVITE")[-1]
        call.peer.reply(first, 491, call.flow, tag=None)
        refused_at = net.now - 0.2 + net.delay
        net.run(4.5)
        again = call.peer.requests("INVITE")[-1]
        assert again.cseq.number == first.cseq.number + 1
        sent_at = [w.at for w in net.wires if w.source == A and w.label == "INVITE"][-1]
        assert lowest <= round(sent_at - refused_at, 3) <= highest
    assert call.agent.of(Reoffered) == [], "not settled while it is tried again"
    call.peer.reply(again, 200, call.flow, tag=None, body=sdp(P, "a=recvonly", version=2))
    assert len(call.agent.of(SessionChanged)) == 1
    assert call.agent.only(Reoffered).ok


def test_our_reinvite_that_always_meets_491_is_given_up() -> None:
    net = Net()
    call = Call(net, inbound=False)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    for _ in range(11):
        assert call.agent.of(Reoffered) == []
        call.peer.reply(call.peer.requests("INVITE")[-1], 491, call.flow, tag=None)
        net.run(4.5)
    assert call.agent.only(Reoffered).ok is False
    assert call.agent.of(SessionChanged) == []


def test_our_reinvite_that_changes_nothing_is_settled_all_the_same() -> None:
    net = Net()
    call = Call(net, inbound=False)
    call.agent.endpoint.reoffer(call.session, Direction.SENDRECV, net.now)
    net.settle()
    call.peer.reply(call.peer.requests("INVITE")[-1], 200, call.flow, tag=None, body=sdp(P))
    assert (call.agent.of(SessionChanged), call.agent.only(Reoffered).ok) == ([], True)


def test_an_unusable_answer_to_our_reinvite_leaves_the_session() -> None:
    """Row 70. RFC 3264 8.4."""
    net = Net()
    call = Call(net, inbound=False)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    call.peer.reply(call.peer.requests("INVITE")[-1], 200, call.flow, tag=None, body=b"v=1")
    assert call.peer.requests("ACK")
    assert (call.agent.of(SessionChanged), call.agent.only(Reoffered).ok) == ([], False)
    call.say("INVITE", sdp(P, "a=inactive", version=2))
    assert call.holds == [Hold.INACTIVE]


def test_a_wish_replaced_by_a_newer_one_is_not_settled_by_itself() -> None:
    net = Net()
    call = Call(net, inbound=False)
    for direction in (Direction.SENDONLY, Direction.SENDRECV):
        call.agent.endpoint.reoffer(call.session, direction, net.now)
    net.settle()
    first = call.peer.requests("INVITE")[-1]
    call.peer.reply(first, 200, call.flow, tag=None, body=sdp(P, "a=recvonly", version=2))
    assert call.agent.of(Reoffered) == []
    second = call.peer.requests("INVITE")[-1]
    assert second.cseq.number == first.cseq.number + 1
    call.peer.reply(second, 200, call.flow, tag=None, body=sdp(P, version=3))
    assert call.agent.only(Reoffered).ok


def test_an_answer_to_our_reinvite_between_two_missed_probes_keeps_the_call() -> None:
    net = Net()
    call = Call(net, inbound=True)
    call.agent.endpoint.probe(call.session, net.now)
    net.run(33)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    ours = call.peer.request("INVITE")
    call.peer.reply(ours, 200, call.flow, tag=None, body=sdp(P, "a=recvonly", version=2))
    call.agent.endpoint.probe(call.session, net.now)
    net.run(33)
    assert [probed.alive for probed in call.agent.of(Probed)] == [False, False]
    assert call.agent.of(Ended) == []


def test_a_request_of_the_peer_between_two_missed_probes_keeps_the_call() -> None:
    net = Net()
    call = Call(net, inbound=True)
    call.agent.endpoint.probe(call.session, net.now)
    net.run(33)
    assert call.agent.only(Probed).alive is False
    call.say("INFO")
    call.agent.endpoint.probe(call.session, net.now)
    net.run(33)
    assert len(call.agent.of(Probed)) == 2
    assert call.agent.of(Ended) == []
    call.agent.endpoint.probe(call.session, net.now)
    net.run(33)
    assert call.agent.only(Ended).cause is EndCause.PEER_GONE
    assert call.peer.requests("BYE")


@pytest.mark.parametrize("status", [488, 500, 415])
def test_a_refused_reinvite_of_ours_leaves_the_session(status: int) -> None:
    """Rows 36, 70. Failure 7.4: failed hold leaves the state held. RFC 3261 14.1."""
    net = Net()
    call = Call(net, inbound=False)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    call.peer.reply(call.peer.request("INVITE"), status, call.flow, tag=None)
    assert (call.agent.of(SessionChanged), call.agent.of(Ended)) == ([], [])
    assert call.agent.only(Reoffered).ok is False
    call.say("INVITE", sdp(P, "a=inactive", version=2))
    assert call.holds == [Hold.INACTIVE]


@pytest.mark.parametrize(("status", "byes"), [(408, 1), (481, 0)])
def test_408_and_481_to_our_reinvite_end_the_call(status: int, byes: int) -> None:
    """Row 36. RFC 3261 12.2.1.2."""
    net = Net()
    call = Call(net, inbound=True)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    call.peer.reply(call.peer.request("INVITE"), status, call.flow, tag=None)
    ended = call.agent.only(Ended)
    assert (ended.cause, ended.status) == (EndCause.PEER_GONE, status)
    assert call.agent.of(Reoffered) == []
    assert len(call.peer.requests("BYE")) == byes


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_two_endpoints_hold_and_resume_each_other(transport: str) -> None:
    net = Net()
    alice, bob = net.agent(A), net.agent(B)
    session, theirs = established(net, alice, bob, transport=transport)
    alice.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    net.run(1)
    assert bob.only(SessionChanged).negotiated.hold is Hold.SENDONLY
    alice.endpoint.reoffer(session, Direction.SENDRECV, net.now)
    net.run(1)
    assert [e.negotiated.hold for e in bob.of(SessionChanged)] == [Hold.SENDONLY, None]

    # Both at once: both meet 491, and each comes again at a time of its own.
    alice.endpoint.reoffer(session, Direction.SENDONLY, net.now)
    bob.endpoint.reoffer(theirs, Direction.SENDONLY, net.now)
    net.run(20)
    assert "491 INVITE" in net.labels(A)
    assert "491 INVITE" in net.labels(B)
    assert bob.of(SessionChanged)[-1].negotiated.hold is not None
    assert alice.of(SessionChanged)[-1].negotiated.hold is not None
    assert (alice.of(Ended), bob.of(Ended)) == ([], [])


def test_a_wish_that_changes_while_our_reinvite_is_out_is_sent_next() -> None:
    net = Net()
    call = Call(net, inbound=False)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    call.agent.endpoint.reoffer(call.session, Direction.SENDRECV, net.now)
    net.settle()
    first = call.peer.requests("INVITE")[-1]
    assert b"a=sendonly" in first.body
    call.peer.reply(first, 200, call.flow, tag=None, body=sdp(P, "a=recvonly", version=2))
    second = call.peer.requests("INVITE")[-1]
    assert second.cseq.number == first.cseq.number + 1
    assert b"a=sendrecv" in second.body
    call.peer.reply(second, 200, call.flow, tag=None, body=sdp(P, version=3))
    assert [e.negotiated.receive for e in call.agent.of(SessionChanged)] == [False, True]


def test_our_reinvite_waits_for_the_ack_of_theirs_and_gives_up_after_ten_tries() -> None:
    net = Net()
    call = Call(net, inbound=False)
    call.say("INVITE", sdp(P, version=2))
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.run(5)
    assert len(call.peer.requests("INVITE")) == 1
    call.say("ACK")
    net.run(5)
    for _ in range(12):
        call.peer.reply(call.peer.requests("INVITE")[-1], 491, call.flow, tag=None)
        net.run(5)
    assert 9 <= len(call.peer.requests("INVITE")) <= 11
    assert call.agent.of(Ended) == []


def test_a_2xx_to_our_reinvite_is_acknowledged_after_the_call_is_over() -> None:
    net = Net()
    call = Call(net, inbound=True)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    ours = call.peer.request("INVITE")
    call.say("BYE")
    assert call.agent.only(Ended).cause is EndCause.BYE
    for _ in range(2):
        call.peer.reply(ours, 200, call.flow, tag=None, body=sdp(P, version=2))
    first, second = call.peer.requests("ACK")
    assert first.encode() == second.encode()
    assert (first.cseq.number, first.to.tag) == (ours.cseq.number, "peertag")
    assert call.agent.of(SessionChanged) == []


def test_a_2xx_to_our_reinvite_without_usable_sdp_leaves_the_session() -> None:
    net = Net()
    call = Call(net, inbound=True)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    call.peer.reply(call.peer.request("INVITE"), 200, call.flow, tag=None)
    assert call.peer.requests("ACK")
    call.say("INVITE", sdp(P, "a=inactive", version=2))
    assert call.holds == [Hold.INACTIVE]


def test_the_target_is_refreshed_by_an_accepted_reinvite_only() -> None:
    """Row 24. RFC 3261 12.2.2."""
    net = Net()
    call = Call(net, inbound=True)
    for body, contact in ((b"nonsense", "192.0.2.98"), (sdp(P, version=2), "192.0.2.99")):
        call.cseq += 1
        request = call.peer.in_dialog(
            "INVITE", call.accepted, call.flow, cseq=call.cseq, body=body, contact=False
        )
        request.headers.add("Contact", f"<sip:carol@{contact}>")
        call.peer.say(request, call.flow)
        call.agent.endpoint.probe(call.session, net.now)
        net.settle()
        expected = "sip:carol@192.0.2.99" if contact.endswith("99") else f"sip:carol@{P}:5060"
        assert call.peer.request("OPTIONS").uri.startswith(expected)
        call.peer.reply(call.peer.request("OPTIONS"), 200, call.flow, tag=None)

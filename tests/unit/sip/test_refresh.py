"""Session timers between an endpoint and its peer: negotiated, refreshed, given up in time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from bridge.sip.digest import Credentials
from bridge.sip.endpoint import Endpoint
from bridge.sip.events import (
    Answered,
    Confirmed,
    EndCause,
    Ended,
    Failed,
    FailureCause,
    IncomingInvite,
    Probed,
    Reoffered,
    SessionChanged,
    SessionId,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Request, Response, response_to
from bridge.sip.parameters import EndpointConfig
from sdp.model import Direction
from sdp.negotiate import OfferAnswer
from sdp.negotiated import Hold
from tests.unit.sip.link import TRUNK, Agent, Net, Peer, counter_tokens, media, sdp

pytestmark = pytest.mark.unit

A, P = "192.0.2.1", "198.51.100.7"
INTERVAL = 1800
ABLE = (("Supported", "timer"),)
UPDATES = (("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE"),)
NO_UPDATES = (("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS"),)
Fields = tuple[tuple[str, str], ...]


def expires(text: str) -> Fields:
    return (("Session-Expires", text),)


class Call:
    """A call with a session timer between an endpoint and a scripted peer."""

    def __init__(
        self,
        net: Net,
        *,
        inbound: bool = False,
        we_refresh: bool = True,
        headers: Fields = UPDATES,
        seconds: int = INTERVAL,
        credentials: Credentials | None = None,
    ) -> None:
        self.net = net
        self.inbound = inbound
        self.agent: Agent = net.agent(A)
        self.peer: Peer = net.peer(P)
        self.cseq = 1
        role = "uas" if we_refresh is inbound else "uac"
        agreed = (*ABLE, *expires(f"{seconds};refresher={role}"), *headers)
        if inbound:
            self.agent.answers(credentials=credentials, session_timer=INTERVAL)
            self.flow = self.peer.flow_to(self.agent)
            invite = self.peer.invite(self.agent, self.flow, body=sdp(P), headers=agreed)
            self.peer.say(invite, self.flow)
            self.accepted = self.peer.response("INVITE", 200)
            self.session: SessionId = self.agent.only(IncomingInvite).session
            self.say("ACK", cseq=1)
            self.agent.only(Confirmed)
        else:
            self.session = self.agent.dial(P, credentials=credentials, session_timer=INTERVAL)
            net.settle()
            self.invite = self.peer.request("INVITE")
            self.flow = self.peer.arrivals[-1][1]
            self.peer.reply(self.invite, 200, self.flow, body=sdp(P), headers=agreed)
            self.agent.only(Answered)
        self.began = net.now
        self.peer.received.clear()

    def say(
        self, method: str, body: bytes = b"", *, cseq: int | None = None, headers: Fields = ()
    ) -> Request:
        """Send a request of the peer in the dialog."""
        if cseq is None:
            self.cseq += method not in ("ACK", "CANCEL")
            cseq = self.cseq
        if self.inbound:
            request = self.peer.in_dialog(
                method, self.accepted, self.flow, cseq=cseq, body=body, headers=headers
            )
        else:
            request = self.peer.from_callee(
                method, self.invite, self.flow, tag="bobtag", cseq=cseq, body=body, headers=headers
            )
        self.peer.say(request, self.flow)
        return request

    def reply(
        self, request: Request, status: int = 200, headers: Fields = (), body: bytes = b""
    ) -> Response:
        return self.peer.reply(request, status, self.flow, tag=None, headers=headers, body=body)

    def agree(self, request: Request, *, body: bytes = b"") -> None:
        """Answer a refresh with what it asks for."""
        asked = request.headers.get("Session-Expires") or ""
        self.reply(request, 200, expires(asked), body)

    def half(self, seconds: int = INTERVAL) -> None:
        """Let time pass until a refresh is due."""
        self.net.run(seconds / 2 + 1)

    @property
    def kinds(self) -> list[str]:
        return [m.method for m in self.peer.received if isinstance(m, Request)]

    @property
    def ended(self) -> Ended:
        return self.agent.only(Ended)


def body_of(request: Request) -> bytes:
    assert request.sdp is not None
    return request.sdp


# Negotiation on the wire


@pytest.mark.parametrize(("seconds", "said"), [(1800, "1800"), (0, None)])
def test_our_invite_says_what_the_trunk_wants_and_that_we_know_timers(
    seconds: int, said: str | None
) -> None:
    """Row 64. R1 7.1.13. Supported lists timer in every request but ACK, and it is meant."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    session = agent.dial(P, session_timer=seconds)
    net.settle()
    invite = peer.request("INVITE")
    assert invite.headers.get("Session-Expires") == said
    assert invite.headers.values("Supported") == ["timer"]
    flow = peer.arrivals[-1][1]
    peer.reply(invite, 200, flow, body=sdp(P), headers=expires("600;refresher=uac"))
    agent.endpoint.bye(session, net.now)
    net.settle()
    assert "Supported" not in peer.request("ACK").headers
    assert peer.request("BYE").headers.values("Supported") == ["timer"]


def test_422_to_our_invite_is_tried_once_more_with_the_interval_it_names() -> None:
    """Row 64. Status 422. RFC 4028 7.3: the same call, a new CSeq, their Min-SE."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.dial(P, session_timer=90)
    net.settle()
    first, flow = peer.request("INVITE"), peer.arrivals[-1][1]
    peer.reply(first, 422, flow, headers=(("Min-SE", "1200"),))
    second = peer.request("INVITE")
    assert second.headers.get("Session-Expires") == second.headers.get("Min-SE") == "1200"
    assert (second.call_id, second.from_.tag) == (first.call_id, first.from_.tag)
    assert second.to.tag is None
    assert (first.cseq.number, second.cseq.number) == (1, 2)
    assert second.sdp == first.sdp
    peer.reply(second, 200, flow, body=sdp(P), headers=expires("1200;refresher=uac"))
    agent.only(Answered)


@pytest.mark.parametrize("fields", [(), (("Min-SE", "90"),), (("Min-SE", "later"),)])
def test_422_without_a_larger_interval_ends_the_attempt(fields: Fields) -> None:
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.dial(P, session_timer=1800)
    net.settle()
    peer.reply(peer.request("INVITE"), 422, peer.arrivals[-1][1], headers=fields)
    assert agent.only(Failed).status == 422
    assert len(peer.requests("INVITE")) == 1


def test_422_after_our_cancel_ends_the_attempt() -> None:
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    session = agent.dial(P, session_timer=1800)
    net.settle()
    invite, flow = peer.request("INVITE"), peer.arrivals[-1][1]
    peer.reply(invite, 180, flow)
    agent.endpoint.cancel(session, net.now)
    net.settle()
    peer.reply(invite, 422, flow, headers=(("Min-SE", "3600"),))
    assert agent.only(Failed).cause is FailureCause.CANCELLED
    assert len(peer.requests("INVITE")) == 1


def test_too_brief_an_interval_is_refused_with_ours_and_is_no_call_yet() -> None:
    """Row 64. Status 422. RFC 4028 9."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    flow = peer.flow_to(agent)
    fields = (*ABLE, *expires("30;refresher=uac"))
    peer.say(peer.invite(agent, flow, body=sdp(P), headers=fields), flow)
    assert peer.response("INVITE", 422).headers.get("Min-SE") == "90"
    assert agent.events == []
    fields = (*ABLE, *expires("90;refresher=uac"))
    peer.say(peer.invite(agent, flow, body=sdp(P), headers=fields, cseq=2, branch="z9hG4bKb"), flow)
    accepted = peer.response("INVITE", 200)
    assert accepted.headers.get("Session-Expires") == "90;refresher=uac"
    assert accepted.headers.get("Require") == "timer"


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_too_brief_an_interval_in_the_dialog_is_refused_and_nothing_changes(method: str) -> None:
    """Row 64. Status 422."""
    net = Net()
    call = Call(net)
    call.say(method, sdp(P, "a=sendonly", version=2), headers=(*ABLE, *expires("89")))
    assert call.peer.response(method, 422).headers.get("Min-SE") == "90"
    assert call.agent.of(SessionChanged) == []


@pytest.mark.parametrize("wish", [0, 1800])
def test_a_caller_that_requires_timers_gets_one(wish: int) -> None:
    """Row 64. Contract 3: with ``session_timer = 0`` we ask for none, and take theirs."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers(session_timer=wish)
    flow = peer.flow_to(agent)
    fields = (("Require", "timer"), *expires("600;refresher=uas"))
    peer.say(peer.invite(agent, flow, body=sdp(P), headers=fields), flow)
    accepted = peer.response("INVITE", 200)
    assert accepted.headers.get("Session-Expires") == "600;refresher=uas"
    assert accepted.headers.get("Require") == "timer"


@pytest.mark.parametrize(("wish", "said"), [(0, None), (1800, "1800;refresher=uas")])
def test_a_caller_that_knows_timers_is_offered_the_trunks(wish: int, said: str | None) -> None:
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers(session_timer=wish)
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P), headers=ABLE), flow)
    assert peer.response("INVITE", 200).headers.get("Session-Expires") == said
    assert "Session-Expires" not in peer.response("INVITE", 180).headers


# The refresh


@pytest.mark.parametrize("inbound", [True, False], ids=["inbound", "outbound"])
def test_where_update_is_allowed_it_refreshes_without_sdp(inbound: bool) -> None:
    """Row 64. RFC 4028 7.4: "it is RECOMMENDED that the UPDATE request not contain an offer"."""
    net = Net()
    call = Call(net, inbound=inbound)
    for turn in range(1, 4):
        call.half()
        assert call.kinds == ["UPDATE"] * turn
        update = call.peer.request("UPDATE")
        assert update.body == b""
        assert update.headers.get("Session-Expires") == "1800;refresher=uac"
        assert update.headers.values("Supported") == ["timer"]
        assert update.contact is not None
        call.agree(update)
    numbers = [m.cseq.number for m in call.peer.received]
    assert all(second == first + 1 for first, second in pairwise(numbers))
    assert [type(e) for e in call.agent.events][-1] in (Answered, Confirmed)


@pytest.mark.parametrize("inbound", [True, False], ids=["inbound", "outbound"])
def test_where_update_is_not_allowed_a_reinvite_says_the_same_again(inbound: bool) -> None:
    """Row 64. RFC 4028 7.4, RFC 3264 8: the same SDP has the same ``o=``; nobody is told."""
    net = Net()
    call = Call(net, inbound=inbound, headers=NO_UPDATES)
    before = body_of(call.invite) if not inbound else call.accepted.body
    for turn in range(1, 4):
        call.half()
        assert call.kinds.count("INVITE") == turn
        refresh = call.peer.request("INVITE")
        assert body_of(refresh) == before
        assert refresh.headers.get("Session-Expires") == "1800;refresher=uac"
        call.agree(refresh, body=sdp(P))
        assert call.peer.request("ACK").cseq.number == refresh.cseq.number
    assert call.agent.of(SessionChanged) == call.agent.of(Reoffered) == []


@pytest.mark.parametrize("fields", [UPDATES, NO_UPDATES], ids=["UPDATE", "re-INVITE"])
def test_our_refresh_while_they_hold_us_keeps_the_hold(fields: Fields) -> None:
    """Row 65. Our offer says our own wish, sendrecv; their answer holds us all the same."""
    net = Net()
    call = Call(net, inbound=True, headers=fields)
    held = sdp(P, "a=sendonly", version=2)
    call.say("INVITE", held, headers=(*ABLE, *expires("1800;refresher=uas")))
    assert b"a=recvonly" in call.peer.response("INVITE", 200).body
    call.say("ACK", cseq=call.cseq)
    call.agent.events.clear()
    versions = set()
    for _ in range(3):
        call.half()
        refresh = [m for m in call.peer.received if isinstance(m, Request)][-1]
        if refresh.method == "INVITE":
            assert b"a=sendrecv" in body_of(refresh)
            versions.add(next(ln for ln in body_of(refresh).split(b"\r\n") if ln[:2] == b"o="))
        call.agree(refresh, body=held if refresh.method == "INVITE" else b"")
    assert call.agent.events == []
    assert len(versions) <= 1
    call.say("INVITE", sdp(P, version=3), headers=ABLE)
    assert call.agent.only(SessionChanged).negotiated.hold is None


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_their_refresh_while_they_hold_us_keeps_the_hold(method: str) -> None:
    """Row 65. RFC 3264 8: the answer repeats the held direction, and nobody is told again."""
    net = Net()
    call = Call(net, we_refresh=False)
    held = sdp(P, "a=inactive", version=2)
    call.say("INVITE", held, headers=(*ABLE, *expires("1800;refresher=uac")))
    call.say("ACK", cseq=call.cseq)
    assert call.agent.only(SessionChanged).negotiated.hold is Hold.INACTIVE
    for _ in range(3):
        net.run(900)
        call.say(method, held, headers=(*ABLE, *expires("1800;refresher=uac")))
        answer = call.peer.response(method, 200)
        assert b"a=inactive" in answer.body
        assert answer.headers.get("Session-Expires") == "1800;refresher=uac"
        if method == "INVITE":
            call.say("ACK", cseq=call.cseq)
    assert len(call.agent.of(SessionChanged)) == 1
    assert call.agent.of(Ended) == []


def test_our_own_hold_is_kept_by_our_refresh() -> None:
    """Rows 65, 70. Our hold is our own wish."""
    net = Net()
    call = Call(net, headers=NO_UPDATES)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    hold = call.peer.request("INVITE")
    call.agree(hold, body=sdp(P, "a=recvonly", version=2))
    call.half()
    refresh = call.peer.request("INVITE")
    assert refresh.cseq.number > hold.cseq.number
    assert body_of(refresh) == body_of(hold)


def test_a_refresh_offers_media_again_where_they_had_taken_it_away() -> None:
    net = Net()
    call = Call(net, headers=NO_UPDATES)
    call.say("INVITE", sdp(P, port=0, version=2), headers=(*ABLE, *expires("1800;refresher=uas")))
    call.say("ACK", cseq=call.cseq)
    assert call.agent.only(SessionChanged).negotiated.hold is Hold.NO_MEDIA
    call.half()
    refresh = call.peer.request("INVITE")
    assert b"m=audio 20000 " in body_of(refresh)
    call.agree(refresh, body=sdp(P, port=0, version=2))
    call.agent.only(SessionChanged)


def test_update_that_is_refused_after_all_gives_way_to_a_reinvite() -> None:
    net = Net()
    call = Call(net)
    call.half()
    call.reply(call.peer.request("UPDATE"), 405, NO_UPDATES)
    refresh = call.peer.request("INVITE")
    call.agree(refresh, body=sdp(P))
    assert call.agent.of(Ended) == []


def test_a_challenged_refresh_is_sent_again_with_credentials() -> None:
    """Rows 42, 64."""
    net = Net()
    call = Call(net, credentials=Credentials(username="us", password="secret"))
    call.half()
    challenge = ("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"')
    call.reply(call.peer.request("UPDATE"), 401, (challenge,))
    first, second = call.peer.requests("UPDATE")
    assert "Authorization" in second.headers
    assert second.cseq.number == first.cseq.number + 1
    call.agree(second)
    call.half()
    assert "Authorization" in call.peer.request("UPDATE").headers


def test_their_answer_to_our_update_moves_the_remote_target() -> None:
    """Row 54. RFC 3311 5.3: UPDATE is a target refresh request."""
    net = Net()
    call = Call(net)
    call.agent.endpoint.update(call.session, net.now)
    net.settle()
    contact = (("Contact", f"<sip:moved@{P}:5060;transport=tcp>"), *expires("1800;refresher=uac"))
    call.reply(call.peer.request("UPDATE"), 200, contact)
    call.agent.endpoint.update(call.session, net.now)
    net.settle()
    assert call.peer.request("UPDATE").uri == f"sip:moved@{P}:5060;transport=tcp"


def test_an_update_that_is_not_allowed_becomes_a_reinvite() -> None:
    net = Net()
    call = Call(net, headers=NO_UPDATES)
    call.agent.endpoint.update(call.session, net.now)
    call.agent.endpoint.update(call.session, net.now)
    net.settle()
    assert call.kinds == ["INVITE"]
    call.agree(call.peer.request("INVITE"), body=sdp(P))
    assert call.agent.of(Reoffered) == []


def test_an_early_update_moves_the_remote_target_of_its_dialog() -> None:
    """Row 54. RFC 3311 5.1: early, in the dialog of each tag."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    session = agent.dial(P, session_timer=1800)
    agent.endpoint.update(session, net.now)
    net.settle()
    assert peer.requests("UPDATE") == []
    invite, flow = peer.request("INVITE"), peer.arrivals[-1][1]
    for tag in ("one", "two"):
        peer.reply(invite, 180, flow, tag=tag, headers=UPDATES)
    agent.endpoint.update(session, net.now)
    net.settle()
    one, two = peer.requests("UPDATE")
    assert (one.to.tag, two.to.tag) == ("one", "two")
    assert "Session-Expires" not in one.headers
    moved = (("Contact", f"<sip:moved@{P}:5060;transport=tcp>"),)
    peer.reply(two, 200, flow, tag=None, headers=moved)
    peer.reply(one, 481, flow, tag=None)
    agent.endpoint.update(session, net.now)
    net.settle()
    assert [m.uri for m in peer.requests("UPDATE")[-2:]] == [
        one.uri,
        f"sip:moved@{P}:5060;transport=tcp",
    ]
    agreed = (*ABLE, *expires("1800;refresher=uac"), *UPDATES)
    peer.reply(invite, 200, flow, tag="two", body=sdp(P), headers=agreed)
    agent.only(Answered)
    peer.reply(peer.requests("UPDATE")[-1], 200, flow, tag=None)  # late, and about no timer
    net.run(901)
    assert peer.request("UPDATE").headers.get("Session-Expires") == "1800;refresher=uac"


def test_an_early_update_of_a_callee_waits_for_its_180() -> None:
    """Row 54. RFC 3311 5.1."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    flow = peer.flow_to(agent)
    peer.say(peer.invite(agent, flow, body=sdp(P), headers=UPDATES), flow)
    session = agent.only(IncomingInvite).session
    agent.endpoint.adopt(session, media(A), TRUNK, net.now)
    agent.endpoint.update(session, net.now)
    net.settle()
    assert peer.requests("UPDATE") == []
    agent.endpoint.ring(session, net.now)
    agent.endpoint.update(session, net.now)
    net.settle()
    assert peer.request("UPDATE").cseq.number == 1
    assert peer.request("UPDATE").from_.tag == peer.response("INVITE", 180).to.tag


# UPDATE with an offer


def test_an_update_of_ours_may_carry_an_offer() -> None:
    """Row 54. RFC 3311 5.1, 5.3: its 2xx answers, and there is no ACK."""
    net = Net()
    call = Call(net)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now, "UPDATE")
    net.settle()
    update = call.peer.request("UPDATE")
    assert b"a=sendonly" in body_of(update)
    call.agree(update, body=sdp(P, "a=recvonly", version=2))
    net.run(5)
    assert call.kinds == ["UPDATE"]
    assert call.agent.only(Reoffered).ok
    assert call.agent.only(SessionChanged).negotiated.receive is False


def test_an_offer_by_update_goes_by_reinvite_where_update_is_not_allowed() -> None:
    net = Net()
    call = Call(net, headers=NO_UPDATES)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now, "UPDATE")
    net.settle()
    call.agree(call.peer.request("INVITE"), body=sdp(P, "a=recvonly", version=2))
    assert call.agent.only(Reoffered).ok


@pytest.mark.parametrize("status", [405, 501])
def test_an_offer_by_update_that_is_not_served_goes_by_reinvite(status: int) -> None:
    net = Net()
    call = Call(net)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now, "UPDATE")
    net.settle()
    update = call.peer.request("UPDATE")
    call.reply(update, status)
    invite = call.peer.request("INVITE")
    assert invite.sdp == update.sdp
    call.agree(invite, body=sdp(P, "a=recvonly", version=2))
    assert call.agent.only(Reoffered).ok


def test_an_offer_by_update_meets_offers_of_theirs_as_a_reinvite_does() -> None:
    """Rows 52, 54. RFC 3311 5.2: 491 while our offer is out; after 491 we come again."""
    net = Net()
    call = Call(net)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now, "UPDATE")
    net.settle()
    for method in ("INVITE", "UPDATE"):
        call.say(method, sdp(P, "a=sendonly", version=2))
        assert call.peer.statuses(method) == [491]
    call.reply(call.peer.request("UPDATE"), 491)
    net.run(5)
    assert len(call.peer.requests("UPDATE")) == 2
    call.reply(call.peer.request("UPDATE"), 488)
    assert not call.agent.only(Reoffered).ok
    call.say("UPDATE", sdp(P, "a=sendonly", version=2))
    assert call.agent.only(SessionChanged).negotiated.hold is Hold.SENDONLY


# Refused refreshes


@pytest.mark.parametrize("fields", [UPDATES, NO_UPDATES], ids=["UPDATE", "re-INVITE"])
@pytest.mark.parametrize("status", [408, 481])
def test_a_refresh_that_finds_no_session_ends_it(status: int, fields: Fields) -> None:
    """Rows 36, 64. RFC 4028 10: "then the UAC sends a BYE request"."""
    net = Net()
    call = Call(net, headers=fields)
    call.half()
    call.reply([m for m in call.peer.received if isinstance(m, Request)][-1], status)
    assert (call.ended.cause, call.ended.status) == (EndCause.SESSION_EXPIRED, status)
    assert "cause=408" in (call.peer.request("BYE").headers.get("Reason") or "")


@pytest.mark.parametrize("fields", [UPDATES, NO_UPDATES], ids=["UPDATE", "re-INVITE"])
def test_a_refresh_that_nobody_answers_ends_the_session_in_time(fields: Fields) -> None:
    net = Net()
    call = Call(net, headers=fields)
    net.run(INTERVAL - 32)
    assert call.ended.cause is EndCause.SESSION_EXPIRED
    assert "BYE" in call.kinds


@pytest.mark.parametrize("fields", [UPDATES, NO_UPDATES], ids=["UPDATE", "re-INVITE"])
@pytest.mark.parametrize("status", [500, 503, 488, 403])
def test_a_refused_refresh_is_none_and_the_session_lives_until_it_expires(
    status: int, fields: Fields
) -> None:
    """Row 64. Failure 7.2: refresh 422 or 503 taken for success."""
    net = Net()
    call = Call(net, headers=fields)
    call.peer.take = refusing(call, status)  # type: ignore[method-assign]
    net.run(INTERVAL - 34)
    assert call.agent.of(Ended) == []
    assert 3 <= call.kinds.count("UPDATE") + call.kinds.count("INVITE") <= 12
    net.run(3)
    assert call.ended.cause is EndCause.SESSION_EXPIRED
    assert call.kinds[-1] == "BYE"
    assert call.agent.of(Reoffered) == call.agent.of(SessionChanged) == []


def refusing(call: Call, status: int):  # type: ignore[no-untyped-def]
    """A peer that refuses every refresh, at once."""
    take = type(call.peer).take

    def answer(data: bytes, flow: Flow) -> None:
        take(call.peer, data, flow)
        request = call.peer.received[-1]
        if isinstance(request, Request) and request.method in ("INVITE", "UPDATE"):
            call.net.send(call.peer, flow, response_to(request, status).encode())

    return answer


@pytest.mark.parametrize("fields", [UPDATES, NO_UPDATES], ids=["UPDATE", "re-INVITE"])
def test_422_to_a_refresh_is_tried_again_with_the_larger_interval(fields: Fields) -> None:
    """Row 64. Status 422. Failure 7.2: refresh 422 or 503 taken for success."""
    net = Net()
    call = Call(net, headers=fields)
    call.half()
    first = [m for m in call.peer.received if isinstance(m, Request)][-1]
    call.reply(first, 422, (("Min-SE", "2400"),))
    second = call.peer.request(first.method)
    assert second.headers.get("Session-Expires") == "2400;refresher=uac"
    assert second.headers.get("Min-SE") == "2400"
    assert second.cseq.number == first.cseq.number + 1
    assert second.sdp == first.sdp
    call.agree(second, body=sdp(P) if first.method == "INVITE" else b"")
    net.run(1100)
    assert call.agent.of(Ended) == []
    net.run(150)
    assert call.peer.request(first.method).cseq.number == second.cseq.number + 1


@pytest.mark.parametrize("fields", [UPDATES, NO_UPDATES], ids=["UPDATE", "re-INVITE"])
@pytest.mark.parametrize(
    ("inbound", "least", "most"), [(False, 2.1, 4.0), (True, 0.0, 2.0)], ids=["owner", "other"]
)
def test_491_to_a_refresh_is_tried_again_after_the_back_off_of_our_role(
    inbound: bool, least: float, most: float, fields: Fields
) -> None:
    """Row 52. Failure 7.2: 491 back-off ignores who owns the Call-ID."""
    net = Net()
    call = Call(net, inbound=inbound, headers=fields)
    call.half()
    first = [m for m in call.peer.received if isinstance(m, Request)][-1]
    call.reply(first, 491)
    net.run(5)
    second = call.peer.request(first.method)
    assert second.cseq.number == first.cseq.number + 1
    sent = [w for w in net.wires if w.label == first.method and w.source == A][-2:]
    assert least <= sent[1].at - sent[0].at - 0.22 <= most + 0.02
    call.agree(second, body=sdp(P) if first.method == "INVITE" else b"")
    net.run(800)
    assert call.agent.of(Ended) == []


# Their refreshes


@pytest.mark.parametrize("inbound", [True, False], ids=["inbound", "outbound"])
@pytest.mark.parametrize(("seconds", "until"), [(1800, 1768), (90, 60)])
def test_a_session_that_they_do_not_refresh_ends_before_it_expires(
    seconds: int, until: int, inbound: bool
) -> None:
    """Row 64. RFC 4028 10: BYE "the minimum of 32 seconds and one third" before the end."""
    net = Net()
    call = Call(net, inbound=inbound, we_refresh=False, seconds=seconds)
    net.run(until - 1)
    assert call.kinds == []
    net.run(1)
    bye = call.peer.request("BYE")
    assert bye.headers.get("Reason") == 'SIP;cause=408;text="Session Expired"'
    assert (call.ended.cause, call.ended.status) == (EndCause.SESSION_EXPIRED, None)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_their_refreshes_keep_the_session(method: str) -> None:
    """Row 64."""
    net = Net()
    call = Call(net, we_refresh=False)
    body = sdp(P) if method == "INVITE" else b""
    for _ in range(5):
        net.run(1700)
        call.say(method, body, headers=(*ABLE, *expires("1800;refresher=uac")))
        answer = call.peer.response(method, 200)
        assert answer.headers.get("Session-Expires") == "1800;refresher=uac"
        assert answer.headers.get("Require") == "timer"
        if method == "INVITE":
            call.say("ACK", cseq=call.cseq)
    assert call.agent.of(Ended) == call.agent.of(SessionChanged) == []
    net.run(1790)
    assert call.ended.cause is EndCause.SESSION_EXPIRED


def test_a_2xx_without_session_expires_turns_the_timer_off() -> None:
    """Row 64. RFC 4028 7.2: then "no refreshes need to be sent"."""
    net = Net()
    call = Call(net)
    call.half()
    call.reply(call.peer.request("UPDATE"), 200)
    net.run(20_000)
    assert call.kinds == ["UPDATE"]
    assert call.agent.of(Ended) == []


# Collisions


def test_a_hold_that_is_asked_for_while_a_refresh_is_on_its_way_waits_for_it() -> None:
    """Failure 7.4: hold races a session refresh. No second INVITE while the first is open."""
    net = Net()
    call = Call(net, headers=NO_UPDATES)
    call.half()
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    [refresh] = call.peer.requests("INVITE")
    call.agree(refresh, body=sdp(P))
    hold = call.peer.request("INVITE")
    assert hold.cseq.number == refresh.cseq.number + 1
    assert b"a=sendonly" in body_of(hold)
    call.agree(hold, body=sdp(P, "a=recvonly", version=2))
    assert call.agent.only(Reoffered).ok


def test_a_hold_asked_for_during_a_refresh_that_meets_491_is_what_is_offered_next() -> None:
    """Failure 7.4: hold races a session refresh."""
    net = Net()
    call = Call(net, headers=NO_UPDATES)
    call.half()
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.settle()
    call.reply(call.peer.request("INVITE"), 491)
    net.run(5)
    assert len(call.peer.requests("INVITE")) == 2
    hold = call.peer.request("INVITE")
    assert b"a=sendonly" in body_of(hold)
    call.agree(hold, body=sdp(P, "a=recvonly", version=2))
    assert call.agent.only(Reoffered).ok


@pytest.mark.parametrize("fields", [UPDATES, NO_UPDATES], ids=["UPDATE", "re-INVITE"])
def test_a_refresh_that_falls_due_during_a_hold_of_ours_is_not_sent(fields: Fields) -> None:
    """Failure 7.4: hold races a session refresh. The re-INVITE refreshes as well."""
    net = Net()
    call = Call(net, headers=fields)
    net.run(INTERVAL / 2 - 1)
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, net.now)
    net.run(3)
    assert call.kinds == ["INVITE"]
    hold = call.peer.request("INVITE")
    assert hold.headers.get("Session-Expires") == "1800;refresher=uac"
    call.agree(hold, body=sdp(P, "a=recvonly", version=2))
    net.run(800)
    assert call.kinds == ["INVITE", "ACK"]
    net.run(120)
    assert len(call.kinds) == 3


@pytest.mark.parametrize("fields", [UPDATES, NO_UPDATES], ids=["UPDATE", "re-INVITE"])
def test_a_refresh_waits_for_the_ack_of_their_reinvite(fields: Fields) -> None:
    """Row 52. Never with a pending re-INVITE of either side."""
    net = Net()
    call = Call(net, headers=fields)
    net.run(INTERVAL / 2 - 1)
    call.say("INVITE", headers=(*ABLE, *expires("1800;refresher=uas")))
    net.run(10)
    assert call.kinds == []
    call.say("ACK", sdp(P), cseq=call.cseq)
    assert call.agent.of(Ended) == []
    net.run(895)
    assert len(call.kinds) == 1


@pytest.mark.parametrize("fields", [UPDATES, NO_UPDATES], ids=["UPDATE", "re-INVITE"])
def test_our_bye_and_a_refresh_do_not_collide(fields: Fields) -> None:
    """Failure 7.2: refresh and BYE collide."""
    net = Net()
    call = Call(net, headers=fields)
    call.half()
    refresh = [m for m in call.peer.received if isinstance(m, Request)][-1]
    call.agent.endpoint.bye(call.session, net.now)
    net.settle()
    assert call.kinds == [refresh.method, "BYE"]
    call.agree(refresh, body=sdp(P) if refresh.method == "INVITE" else b"")
    call.reply(call.peer.request("BYE"))
    net.run(5000)
    assert call.kinds == [refresh.method, "BYE"] + (["ACK"] if refresh.method == "INVITE" else [])
    assert call.agent.endpoint.core.sessions == {}
    assert call.agent.endpoint.next_deadline() is None


@pytest.mark.parametrize("fields", [UPDATES, NO_UPDATES], ids=["UPDATE", "re-INVITE"])
@pytest.mark.parametrize("status", [200, 481, 503])
def test_their_bye_and_our_refresh_may_cross(status: int, fields: Fields) -> None:
    """Failure 7.2: refresh and BYE collide."""
    net = Net()
    call = Call(net, headers=fields)
    call.half()
    refresh = [m for m in call.peer.received if isinstance(m, Request)][-1]
    call.say("BYE")
    assert call.ended.cause is EndCause.BYE
    body = sdp(P) if refresh.method == "INVITE" and status == 200 else b""
    call.reply(refresh, status, body=body)
    net.run(5000)
    assert "BYE" not in call.kinds
    assert call.agent.endpoint.next_deadline() is None


# Held calls


def test_a_held_call_with_a_session_timer_is_not_asked_by_options() -> None:
    """Row 90. Contract 4, Hold: OPTIONS only "without a negotiated session timer"."""
    net = Net()
    call = Call(net, we_refresh=False)
    call.agent.endpoint.probe(call.session, net.now)
    net.settle()
    assert call.kinds == []
    call.agent.endpoint.update(call.session, net.now)
    net.settle()
    call.reply(call.peer.request("UPDATE"), 200)  # turned off
    call.agent.endpoint.probe(call.session, net.now)
    net.settle()
    call.reply(call.peer.request("OPTIONS"), 200)
    assert call.agent.only(Probed).alive


# Restart


@pytest.mark.parametrize("we_refresh", [True, False])
def test_a_session_timer_survives_a_restart(we_refresh: bool) -> None:
    net = Net()
    call = Call(net, we_refresh=we_refresh)
    net.run(100)
    agent = call.agent
    snapshot = agent.endpoint.snapshot(net.now, 5e8)
    agent.endpoint = Endpoint.restore(
        snapshot,
        EndpointConfig(listen_ports={"tcp": 5060}),
        tokens=counter_tokens("new"),
        offer_answer=lambda _trunk, kept: OfferAnswer.restore(
            kept, destination_allowed=lambda _a, _p: True
        ),
        now=net.now,
        wall=5e8 + 30,
    )
    net.run(INTERVAL / 2 - 100 - 30 - 1)
    assert call.kinds == []
    net.run(2)
    assert call.kinds == (["UPDATE"] if we_refresh else [])
    net.run(INTERVAL / 2 - 32)
    assert agent.only(Ended).cause is EndCause.SESSION_EXPIRED

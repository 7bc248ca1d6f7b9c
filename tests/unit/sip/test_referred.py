"""Being referred: a REFER of the far end in a call, where that is allowed; INVITE with Replaces."""

from __future__ import annotations

import pytest

from bridge.sip.events import (
    Confirmed,
    Ended,
    IncomingInvite,
    ReferAsked,
    SessionId,
    SipEvent,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from bridge.sip.parameters import OutgoingInvite
from bridge.sip.referred import ANSWER_WITHIN, LIFETIME
from sdp.model import Direction
from tests.unit.sip.link import TRUNK, Agent, Net, Peer, media, sdp
from tests.unit.sip.test_session import in_call

pytestmark = pytest.mark.unit

A, P = "192.0.2.1", "198.51.100.7"
TARGET = "sip:+918045678900@carrier.example"


class Call:
    """A call of a scripted peer that we have answered and in which it may refer us."""

    def __init__(self, transport: str = "tcp", *, allowed: bool = True) -> None:
        self.net = Net()
        self.agent: Agent = self.net.agent(A)
        self.peer: Peer = self.net.peer(P)
        self.allowed = allowed
        self.agent.on_event = self._take
        self.flow: Flow = self.peer.flow_to(self.agent, transport)
        self.peer.say(self.peer.invite(self.agent, self.flow, body=sdp(P)), self.flow)
        self.accepted = self.peer.response("INVITE", 200)
        self.say("ACK", 1)
        self.session: SessionId = self.agent.only(Confirmed).session
        self.cseq = 1

    def _take(self, event: SipEvent) -> None:
        if isinstance(event, IncomingInvite):
            now = self.net.now
            if self.allowed:
                self.agent.endpoint.allow_refer(event.session, now)
            self.agent.endpoint.adopt(event.session, media(A), TRUNK, now)
            self.agent.endpoint.answer(event.session, now)

    def say(self, method: str, cseq: int, *headers: tuple[str, str]) -> None:
        request = self.peer.in_dialog(method, self.accepted, self.flow, cseq=cseq, headers=headers)
        self.peer.say(request, self.flow)

    def refer(self, *headers: tuple[str, str]) -> None:
        self.cseq += 1
        self.say("REFER", self.cseq, *(headers or (("Refer-To", f"<{TARGET}>"),)))

    def answer(self, status: int) -> None:
        self.agent.endpoint.answer_refer(self.session, status, self.net.now)
        self.net.settle()

    def tell(self, *statuses: int) -> None:
        for status in statuses:
            self.agent.endpoint.tell_referred(self.session, status, self.net.now)
            self.net.settle()

    def taken(self) -> Call:
        self.refer()
        self.answer(202)
        return self

    def reply(self, status: int = 200) -> None:
        self.peer.reply(self.peer.request("NOTIFY"), status, self.flow)

    @property
    def statuses(self) -> list[int]:
        return self.peer.statuses("REFER")

    @property
    def told(self) -> list[str]:
        return [notify.body.decode().strip() for notify in self.peer.requests("NOTIFY")]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_refer_is_passed_up_and_its_progress_is_notified(transport: str) -> None:
    """Row 95. RFC 3515 2.4."""
    call = Call(transport)
    assert "REFER" in call.accepted.headers.values("Allow")
    call.refer()
    asked = call.agent.only(ReferAsked)
    assert (asked.target, asked.plain) == (TARGET, True)
    assert call.statuses == []
    call.answer(202)
    assert call.statuses == [202]
    first = call.peer.request("NOTIFY")
    assert first.headers.get("Event") == "refer;id=2"
    assert first.headers.get("Subscription-State") == "active;expires=300"
    assert first.headers.get("Content-Type") == "message/sipfrag;version=2.0"
    assert first.contact is not None
    call.reply()
    call.tell(180)
    call.reply()
    call.tell(180, 200)
    assert call.told == ["SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK"]
    last = call.peer.request("NOTIFY")
    assert last.headers.get("Subscription-State") == "terminated;reason=noresource"
    call.reply()
    call.tell(603)
    assert len(call.told) == 3
    call.refer()
    assert len(call.agent.of(ReferAsked)) == 2, "another may follow"


def test_where_it_is_not_allowed_a_refer_gets_603() -> None:
    """Row 95. Threat 5.1: Toll fraud. Off by default. RFC 3515 2.4.2."""
    call = Call(allowed=False)
    assert "REFER" not in call.accepted.headers.values("Allow")
    call.refer()
    call.refer(("Refer-To", "nonsense"))
    assert call.statuses == [603, 603]
    assert call.agent.of(ReferAsked) == []
    assert call.agent.endpoint.occupied == 1


@pytest.mark.parametrize("status", [403, 603])
def test_the_call_layer_may_decline(status: int) -> None:
    """Row 95."""
    call = Call()
    call.refer()
    call.answer(status)
    assert call.statuses == [status]
    call.tell(180)
    assert call.told == []


def test_a_refer_that_nobody_decides_about_is_declined() -> None:
    call = Call()
    call.refer()
    call.net.run(ANSWER_WITHIN + 0.1)
    assert call.statuses == [603]
    call.answer(202)
    assert call.statuses == [603]


@pytest.mark.parametrize(
    "headers",
    [
        (("Subject", "x"),),
        (("Refer-To", f"<{TARGET}>"), ("Refer-To", f"<{TARGET}>")),
        (("Refer-To", f"<{TARGET}>, <{TARGET}>"),),
        (("Refer-To", "<sip:a"),),
        (("Refer-To", ""),),
    ],
)
def test_none_or_several_or_unreadable_targets_are_answered_400(
    headers: tuple[tuple[str, str], ...],
) -> None:
    """Row 95. RFC 3515 2.4.2."""
    call = Call()
    call.refer(*headers)
    assert call.statuses == [400]


def test_a_second_refer_meanwhile_is_answered_491() -> None:
    call = Call().taken()
    call.refer()
    assert call.statuses == [202, 491]


def test_a_target_with_replaces_is_told_as_such() -> None:
    """Row 95. RFC 5589 7: an attended transfer."""
    call = Call()
    call.refer(("Refer-To", f"<{TARGET}?Replaces=1%3Bto-tag%3Da%3Bfrom-tag%3Db>"))
    assert not call.agent.only(ReferAsked).plain


def test_without_a_subscription_nothing_is_notified() -> None:
    """Row 95. RFC 4488 4: Refer-Sub: false, granted."""
    call = Call()
    call.refer(("Refer-To", f"<{TARGET}>"), ("Refer-Sub", "false"))
    call.answer(202)
    assert call.peer.response("REFER").headers.get("Refer-Sub") == "false"
    call.tell(180, 200)
    assert call.told == []


def test_one_notify_at_a_time_and_the_last_state_is_the_one_that_counts() -> None:
    call = Call().taken()
    call.tell(180, 183, 200)
    assert call.told == ["SIP/2.0 100 Trying"]
    call.reply()
    assert call.told == ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"]


@pytest.mark.parametrize("status", [405, 408, 481, 489, 603])
def test_a_refused_notify_ends_the_subscription_and_nothing_else(status: int) -> None:
    """Row 95. RFC 6665 4.2.2."""
    call = Call().taken()
    call.reply(status)
    call.tell(180, 200)
    assert call.told == ["SIP/2.0 100 Trying"]
    assert call.agent.of(Ended) == []
    assert call.agent.endpoint.occupied == 1


def test_an_unanswered_notify_ends_the_subscription_and_nothing_else() -> None:
    call = Call().taken()
    call.net.run(40)
    call.tell(200)
    assert call.told == ["SIP/2.0 100 Trying"]
    assert call.agent.of(Ended) == []


def test_a_transfer_that_comes_to_no_end_is_told_so() -> None:
    call = Call().taken()
    call.reply()
    call.net.run(LIFETIME + 1)
    assert call.told[-1] == "SIP/2.0 408 Request Timeout"
    call.reply()
    assert call.agent.endpoint.next_deadline() is None


@pytest.mark.parametrize("who", ["us", "them"])
def test_a_bye_meanwhile_leaves_nothing_behind(who: str) -> None:
    call = Call().taken()
    if who == "us":
        call.agent.endpoint.bye(call.session, call.net.now)
        call.net.settle()
        call.peer.reply(call.peer.request("BYE"), 200, call.flow)
    else:
        call.say("BYE", 90)
    call.tell(200)
    call.net.run(100)
    assert call.told == ["SIP/2.0 100 Trying"]
    assert call.agent.endpoint.core.sessions == {}
    assert call.agent.endpoint.next_deadline() is None


# INVITE with Replaces or Join


def replacing(peer: Peer, agent: Agent, flow: Flow, *headers: tuple[str, str]) -> Request:
    return peer.invite(
        agent, flow, body=sdp(P), call_id="another", headers=headers, branch="z9hG4bKother"
    )


@pytest.mark.parametrize("name", ["Replaces", "Join"])
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("", 603),
        (";early-only", 486),
        ("call", 481),
        ("to", 481),
        ("from", 481),
        ("broken", 400),
        ("twice", 400),
    ],
)
def test_nobody_takes_a_call_over(name: str, change: str, status: int) -> None:
    """Row 100. RFC 3891 3; RFC 3911 4."""
    net = Net()
    agent, peer, flow = in_call(net)
    to = peer.response("INVITE", 200).to.tag
    value = {
        "call": f"unknown;to-tag={to};from-tag=peertag",
        "to": "call-1;to-tag=x;from-tag=peertag",
        "from": f"call-1;to-tag={to};from-tag=x",
        "broken": f"call-1;to-tag={to}",
    }.get(change, f"call-1;to-tag={to};from-tag=peertag{change if ';' in change else ''}")
    count = 2 if change == "twice" else 1
    peer.say(replacing(peer, agent, flow, *[(name, value)] * count), flow)
    assert peer.response("INVITE").status == status
    agent.only(IncomingInvite)
    assert agent.endpoint.occupied == 1


def test_a_stranger_to_the_call_is_not_told_that_there_is_one() -> None:
    """Row 100. The dialog of another trunk is none of its."""
    net = Net()
    agent, peer, _ = in_call(net)
    to = peer.response("INVITE", 200).to.tag
    other = net.peer("203.0.113.9")
    agent.trunks = agent.new_call_trunks = frozenset(("other",))
    flow = other.flow_to(agent)
    wish = ("Replaces", f"call-1;to-tag={to};from-tag=peertag")
    other.say(replacing(other, agent, flow, wish), flow)
    assert other.response("INVITE").status == 481


def test_an_invite_that_requires_replaces_gets_420() -> None:
    """Row 100. What is not in Supported is not pretended."""
    net = Net()
    agent, peer, flow = in_call(net)
    peer.say(replacing(peer, agent, flow, ("Require", "replaces")), flow)
    answer = peer.response("INVITE", 420)
    assert answer.headers.get("Unsupported") == "replaces"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_refer_that_waits_when_the_call_ends_leaves_nothing_behind(transport: str) -> None:
    """Row 95. Found by fuzzing: its transaction stayed for ever."""
    call = Call(transport)
    call.refer()
    call.say("BYE", call.cseq + 1)
    assert call.agent.of(Ended)
    call.answer(202)
    call.net.run(70)
    assert call.agent.endpoint.layer.servers == {}
    assert call.peer.statuses("REFER") == []


def test_allow_lists_refer_in_every_request_of_a_call_that_may_be_referred() -> None:
    """RFC 3261 20.5: what Allow leaves out the far end may not ask for, nor any longer."""
    call = Call()
    call.agent.endpoint.reoffer(call.session, Direction.SENDONLY, call.net.now)
    call.agent.run()
    call.net.settle()
    assert "REFER" in call.peer.request("INVITE").headers.values("Allow")


@pytest.mark.parametrize("allowed", [True, False])
def test_allow_of_a_call_of_ours_lists_refer_where_it_is_taken(allowed: bool) -> None:
    """RFC 3261 20.5."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    invite = OutgoingInvite(
        trunk=TRUNK,
        next_hop=("tcp", P, None),
        request_uri=f"sip:bob@{P}",
        from_=f"<sip:alice@{A}>",
        to=f"<sip:bob@{P}>",
        offer_answer=media(A),
        refer_in=allowed,
    )
    agent.endpoint.dial(invite, net.now)
    net.settle()
    assert ("REFER" in peer.request("INVITE").headers.values("Allow")) is allowed

"""Our REFER in a call, and every way its progress is told, or not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sip.digest import Credentials
from bridge.sip.events import (
    EndCause,
    Ended,
    Probed,
    ReferAnswered,
    ReferProgressed,
    SessionId,
)
from bridge.sip.flow import Flow
from bridge.sip.grammar import ParseError
from bridge.sip.message import Headers, Request, Response
from bridge.sip.refer import OUTLIVED_KEPT, write_refer_to
from bridge.sip.referral import LONGEST_SILENCE, TOLD_LIMIT, Referral
from bridge.sip.sipfrag import read_notice
from tests.unit.sip.link import Agent, Net, Peer, sdp

pytestmark = pytest.mark.unit

A, P = "192.0.2.1", "198.51.100.7"
TARGET = "sip:+918045678900@carrier.example;user=phone"
ACTIVE = "active;expires=60"
OVER = "terminated;reason=noresource"


class Call:
    """A call of ours that a scripted peer has answered."""

    def __init__(self, transport: str = "tcp", credentials: Credentials | None = None) -> None:
        self.net = Net()
        self.agent: Agent = self.net.agent(A)
        self.peer: Peer = self.net.peer(P)
        self.session: SessionId = self.agent.dial(P, transport=transport, credentials=credentials)
        self.net.settle()
        self.invite = self.peer.request("INVITE")
        self.peer.reply(self.invite, 200, self.flow, body=sdp(P))
        self.cseq = 100

    @property
    def flow(self) -> Flow:
        return self.peer.arrivals[-1][1]

    def refer(self, target: str = TARGET) -> Request:
        self.agent.endpoint.refer(self.session, target, self.net.now)
        self.net.settle()
        return self.peer.request("REFER")

    def answer(self, status: int, *headers: tuple[str, str]) -> None:
        self.peer.reply(self.peer.request("REFER"), status, self.flow, headers=headers)

    def notify(
        self,
        line: str | bytes = "",
        state: str = ACTIVE,
        *,
        event: str = "refer",
        kind: str = "message/sipfrag;version=2.0",
        cseq: int | None = None,
    ) -> Response:
        """Send a NOTIFY; return how it was answered."""
        self.cseq += 1
        body = line if isinstance(line, bytes) else f"{line}\r\n".encode() if line else b""
        fields = [("Event", event), ("Subscription-State", state), ("Content-Type", kind)]
        request = self.peer.from_callee(
            "NOTIFY",
            self.invite,
            self.flow,
            tag="bobtag",
            cseq=cseq or self.cseq,
            body=body,
            headers=tuple((name, value) for name, value in fields if value),
        )
        if not kind:
            request.headers.remove("Content-Type")
        self.peer.say(request, self.flow)
        return self.peer.response("NOTIFY")

    def accepted(self) -> Call:
        self.refer()
        self.answer(202)
        return self

    @property
    def told(self) -> list[object]:
        """What was passed up of the transfer: statuses answered, then (status, over)."""
        return [
            event.status if isinstance(event, ReferAnswered) else (event.status, event.over)
            for event in self.agent.events
            if isinstance(event, ReferAnswered | ReferProgressed)
        ]

    @property
    def up(self) -> bool:
        return self.agent.endpoint.occupied == 1


def test_a_refer_says_whom_to_call_and_who_asks() -> None:
    """Row 96. RFC 3515 2.1, 2.2; RFC 3892 2.1."""
    call = Call()
    request = call.refer()
    assert request.headers.get("Refer-To") == f"<{TARGET}>"
    assert request.headers.get("Referred-By") == f"<sip:alice@{A}>"
    assert request.contact is not None
    assert (request.to.tag, request.call_id) == ("bobtag", call.invite.call_id)
    assert str(request.cseq) == "2 REFER"
    assert "NOTIFY" in request.headers.values("Allow")


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("accepted", [200, 202])
def test_every_notify_of_an_accepted_transfer_is_answered_200_and_told(
    transport: str, accepted: int
) -> None:
    """Row 96. RFC 3515 2.4.4 to 2.4.7; RFC 3420."""
    call = Call(transport)
    call.refer()
    call.answer(accepted)
    assert call.told == [accepted]
    for line, state in [
        ("SIP/2.0 100 Trying", ACTIVE),
        ("SIP/2.0 180 Ringing", "active;expires=55"),
        ("SIP/2.0 180 Ringing", "active;expires=50"),
        ("SIP/2.0 200 OK", OVER),
    ]:
        assert call.notify(line, state).status == 200
    assert call.told == [accepted, (100, False), (180, False), (200, True)]
    assert call.up, "the far end hangs up, or the call layer does"
    assert call.notify("SIP/2.0 200 OK", OVER).status == 481, "the subscription is over"
    assert call.told[-1] == (200, True)


@pytest.mark.parametrize("status", [404, 405, 420, 480, 486, 501, 503, 603])
def test_a_refused_refer_leaves_the_call_as_it_was(status: int) -> None:
    """Row 96. RFC 3515 2.4.2: no subscription, no NOTIFY."""
    call = Call()
    call.refer()
    call.answer(status)
    assert call.told == [status]
    assert call.up
    assert call.notify("SIP/2.0 100 Trying").status == 481
    call.refer()
    call.answer(202)
    assert call.told == [status, 202], "it may be tried again"


def test_a_transfer_that_failed_leaves_the_call_and_may_be_tried_again() -> None:
    """Row 96. RFC 5589 6.4."""
    call = Call().accepted()
    call.notify("SIP/2.0 100 Trying")
    call.notify("SIP/2.0 486 Busy Here", OVER)
    assert call.told == [202, (100, False), (486, True)]
    assert call.up
    call.accepted()
    call.notify("SIP/2.0 200 OK", OVER, event="refer;id=3")
    assert call.told[-2:] == [202, (200, True)]


def test_a_notify_before_the_202_implies_it() -> None:
    """Row 96. RFC 3515 2.4.4: an agent must be prepared for it."""
    call = Call()
    call.refer()
    assert call.notify("SIP/2.0 100 Trying").status == 200
    call.answer(202)
    assert call.told == [(100, False), 202]
    call.notify("SIP/2.0 200 OK", OVER)
    assert call.told[-1] == (200, True)


def test_the_202_after_the_last_notify_changes_nothing() -> None:
    """Row 96. RFC 3515 2.4.4, at its extreme."""
    call = Call()
    call.refer()
    call.notify("SIP/2.0 200 OK", OVER)
    call.answer(202)
    call.net.run(40)
    assert call.told == [(200, True)]


@pytest.mark.parametrize("status", [404, 408, 481])
def test_a_refusal_after_a_notify_is_not_believed(status: int) -> None:
    call = Call()
    call.refer()
    call.notify("SIP/2.0 180 Ringing")
    call.answer(status)
    assert call.told == [(180, False)]
    call.notify("SIP/2.0 200 OK", OVER)
    assert call.told == [(180, False), (200, True)]


def test_a_notify_out_of_order_is_answered_500_and_tells_nothing() -> None:
    """Row 96. RFC 3261 12.2.2."""
    call = Call().accepted()
    call.notify("SIP/2.0 200 OK", OVER, cseq=50)
    assert call.notify("SIP/2.0 180 Ringing", cseq=49).status == 500
    assert call.told == [202, (200, True)]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ("refer;id=2", 200),
        ("REFER ; id=2", 200),
        ("refer", 200),
        ("refer;id=1", 481),
        ("refer;id=3", 481),
        ("refer;id=x", 481),
        ("refer;id=", 481),
        (f"refer;id={'9' * 500}", 481),
        ("", 481),
        ("message-summary", 489),
        ("presence;id=2", 489),
        ("refer.winfo", 489),
    ],
)
def test_a_notify_is_matched_by_its_event_and_id(event: str, status: int) -> None:
    """Row 96. RFC 3515 2.4.6; RFC 6665 4.1.3."""
    call = Call().accepted()
    answer = call.notify("SIP/2.0 180 Ringing", event=event)
    assert answer.status == status
    assert (answer.headers.get("Allow-Events") == "refer") is (status == 489)
    assert ((180, False) in call.told) is (status == 200)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"SIP/2.0 183 Session Progress\r\nTo: <sip:b@x>\r\n\r\n", 183),
        (b"\r\nsip/2.0 181\r\n", 181),
        (b"SIP/2.0 18 Short\r\n", None),
        (b"SIP/2.0 1801 Long\r\n", None),
        (b"SIP/2.0 999 What\r\n", None),
        (b"INVITE sip:b@x SIP/2.0\r\n", None),
        (b"To: <sip:b@x>\r\n", None),
        (b"\xff\x00\xfe", None),
        (b"SIP/2.0 " + b"9" * 4000, None),
        (b"", None),
    ],
)
def test_a_sipfrag_that_says_no_status_tells_nothing(body: bytes, status: int | None) -> None:
    """Row 96. RFC 3420 2: any part of a message; only a Status-Line is progress."""
    call = Call().accepted()
    assert call.notify(body).status == 200
    assert call.told == ([202] if status is None else [202, (status, False)])


def test_a_body_that_is_no_sipfrag_is_answered_415() -> None:
    """Row 96. RFC 3515 2.4.5."""
    call = Call().accepted()
    answer = call.notify("SIP/2.0 200 OK", OVER, kind="text/plain")
    assert (answer.status, answer.headers.get("Accept")) == (415, "message/sipfrag")
    assert call.notify("SIP/2.0 200 OK", OVER, kind="").status == 200
    assert call.told == [202, (200, True)]


def test_a_subscription_that_ends_without_a_last_word_is_told_as_unknown() -> None:
    """Row 96. RFC 6665 4.1.3: terminated before a final status."""
    call = Call().accepted()
    call.notify("SIP/2.0 100 Trying", "terminated;reason=timeout")
    assert call.told == [202, (None, True)]
    assert call.up


def test_no_notify_within_64_t1_is_told_as_unknown() -> None:
    """Row 96. RFC 6665 4.1.2.4, Timer N."""
    call = Call().accepted()
    call.net.run(31)
    assert call.told == [202]
    call.net.run(2)
    assert call.told == [202, (None, True)]
    assert call.up
    assert call.notify("SIP/2.0 200 OK", OVER).status == 481


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        ("active;expires=60", 60.0),
        ("active;expires=1", 32.0),
        ("active;expires=99999999999", LONGEST_SILENCE),
        ("active;expires=x", LONGEST_SILENCE),
        ("", LONGEST_SILENCE),
        (";;;", LONGEST_SILENCE),
    ],
)
def test_a_subscription_that_runs_out_is_told_as_unknown(state: str, seconds: float) -> None:
    """Row 96. RFC 3515 2.4.4: the NOTIFY says for how long."""
    call = Call().accepted()
    call.notify("SIP/2.0 180 Ringing", state)
    call.net.run(seconds - 1)
    assert call.told == [202, (180, False)]
    call.net.run(2)
    assert call.told == [202, (180, False), (None, True)]


def test_notifies_after_the_last_word_are_answered_until_the_subscription_ends() -> None:
    call = Call().accepted()
    call.notify("SIP/2.0 200 OK", ACTIVE)
    assert call.notify("SIP/2.0 180 Ringing", ACTIVE).status == 200
    assert call.notify("SIP/2.0 603 Decline", OVER).status == 200
    assert call.told == [202, (200, True)]


def test_a_flood_of_progress_is_bounded_and_the_last_word_is_told() -> None:
    call = Call().accepted()
    for number in range(3 * TOLD_LIMIT):
        call.notify(f"SIP/2.0 {180 + number % 2} Ringing")
    call.notify("SIP/2.0 200 OK", OVER)
    assert len(call.told) == 1 + TOLD_LIMIT + 1
    assert call.told[-1] == (200, True)


@pytest.mark.parametrize("field", ["false", "False ; x=1"])
def test_a_far_end_that_will_not_notify_is_taken_at_its_word(field: str) -> None:
    """Row 95. RFC 4488 4: Refer-Sub: false in the 2xx."""
    call = Call()
    call.refer()
    call.answer(202, ("Refer-Sub", field))
    assert call.told == [202, (202, True)]
    call.net.run(700)
    assert call.told == [202, (202, True)]


def test_refer_sub_true_changes_nothing() -> None:
    call = Call()
    call.refer()
    call.answer(202, ("Refer-Sub", "true"))
    assert call.told == [202]


@pytest.mark.parametrize("status", [408, 481])
def test_a_refer_that_may_have_met_no_dialog_asks_whether_it_is_there(status: int) -> None:
    """RFC 3261 12.2.1.2, and why a REFER alone does not end the call."""
    call = Call()
    call.refer()
    call.answer(status)
    assert call.told == [status]
    call.peer.reply(call.peer.request("OPTIONS"), 200, call.flow)
    assert call.agent.only(Probed).alive
    assert call.up
    call.refer()
    call.answer(status)
    call.peer.reply(call.peer.request("OPTIONS"), 481, call.flow)
    assert call.agent.only(Ended).cause is EndCause.PEER_GONE


def test_a_refer_that_nobody_answers_is_told_as_408() -> None:
    call = Call()
    call.refer()
    call.net.run(33)
    assert call.told == [408]
    assert call.up
    assert call.peer.requests("OPTIONS")


@pytest.mark.parametrize(
    ("status", "field", "answer"),
    [
        (401, "WWW-Authenticate", "Authorization"),
        (407, "Proxy-Authenticate", "Proxy-Authorization"),
    ],
)
def test_a_challenged_refer_is_sent_again_with_credentials(
    status: int, field: str, answer: str
) -> None:
    """Row 96. RFC 3261 22: a new CSeq, which is the new id of the NOTIFYs."""
    call = Call(credentials=Credentials(username="u", password="p"))
    call.refer()
    call.answer(status, (field, 'Digest realm="carrier", nonce="n1", qop="auth"'))
    again = call.peer.request("REFER")
    assert str(again.cseq) == "3 REFER"
    assert answer in again.headers
    assert again.headers.get("Refer-To") == f"<{TARGET}>"
    assert call.told == []
    call.answer(202)
    call.notify("SIP/2.0 200 OK", OVER, event="refer;id=3")
    assert call.told == [202, (200, True)]


def test_a_challenge_without_credentials_is_a_refusal() -> None:
    call = Call()
    call.refer()
    call.answer(401, ("WWW-Authenticate", 'Digest realm="carrier", nonce="n1"'))
    assert call.told == [401]


def test_a_second_refer_waits_for_the_end_of_the_first() -> None:
    call = Call().accepted()
    call.refer()
    assert len(call.peer.requests("REFER")) == 1
    assert call.told == [202, 491]


def test_their_bye_ends_a_transfer_that_is_pending() -> None:
    """Row 96. RFC 5589 6.1: no NOTIFY is awaited after it."""
    call = Call().accepted()
    call.notify("SIP/2.0 180 Ringing")
    call.peer.say(
        call.peer.from_callee("BYE", call.invite, call.flow, tag="bobtag", cseq=900), call.flow
    )
    assert call.agent.only(Ended).cause is EndCause.BYE
    call.net.run(700)
    assert call.told == [202, (180, False)]
    assert call.agent.endpoint.core.sessions == {}
    assert call.agent.endpoint.next_deadline() is None


@pytest.mark.parametrize("last", [True, False])
def test_notifies_after_their_bye_are_answered_until_the_last(last: bool) -> None:
    """Row 96. RFC 5057 4.1: the subscription outlives the session."""
    call = Call().accepted()
    call.peer.say(
        call.peer.from_callee("BYE", call.invite, call.flow, tag="bobtag", cseq=900), call.flow
    )
    call.cseq = 900
    assert call.notify("SIP/2.0 180 Ringing").status == 200
    assert call.notify("", event="presence").status == 481
    if last:
        assert call.notify("SIP/2.0 200 OK", OVER).status == 200
    else:
        call.net.run(LONGEST_SILENCE + 1)
    assert call.notify("SIP/2.0 200 OK", OVER).status == 481
    assert call.told == [202]


def test_what_outlives_calls_is_bounded() -> None:
    call = Call()
    session = call.agent.endpoint.core.sessions[call.session]
    session.referral = Referral(first=1, cseq=1)
    assert session.dialog is not None
    for number in range(OUTLIVED_KEPT + 5):
        session.dialog.call_id = f"call{number}"
        call.agent.endpoint.refers.outlive(session, call.net.now)
    outlived = call.agent.endpoint.refers.outlived
    assert len(outlived) == OUTLIVED_KEPT
    assert next(iter(outlived))[0] == "call5"


def test_our_bye_while_a_transfer_is_pending_leaves_nothing_behind() -> None:
    """Row 96. A NOTIFY that crosses our BYE is answered; nobody hears of it."""
    call = Call().accepted()
    call.agent.endpoint.bye(call.session, call.net.now)
    call.net.settle()
    assert call.notify("SIP/2.0 200 OK", OVER).status == 200
    call.peer.reply(call.peer.request("BYE"), 200, call.flow)
    call.net.run(100)
    assert call.told == [202]
    assert call.agent.endpoint.core.sessions == {}
    assert call.agent.endpoint.next_deadline() is None


def test_a_target_refresh_of_refer_and_notify_is_followed() -> None:
    """RFC 3515 2.2, RFC 6665 4.4.1: both are target refresh requests."""
    call = Call()
    call.refer()
    contact = f"<sip:moved@{P}:5060;transport=tcp>"
    call.answer(202, ("Contact", contact))
    call.agent.endpoint.probe(call.session, call.net.now)
    call.net.settle()
    assert call.peer.request("OPTIONS").uri == contact[1:-1]


def test_attended_the_other_call_is_named_as_its_far_end_knows_it() -> None:
    """RFC 5589 7.2; RFC 3891 3: to-tag is the tag of whom the INVITE with Replaces reaches."""
    call = Call()
    other = call.agent.dial(P)
    call.net.settle()
    invite = call.peer.request("INVITE")
    call.peer.reply(invite, 200, call.flow, body=sdp(P), tag="target")
    call.agent.endpoint.refer(call.session, "sip:bob@target.example", call.net.now, other)
    call.net.settle()
    tag, ours = "target", invite.from_.tag
    expected = f"{invite.call_id}%3Bto-tag%3D{tag}%3Bfrom-tag%3D{ours}"
    refer_to = call.peer.request("REFER").headers.get("Refer-To")
    assert refer_to == f"<sip:bob@{P}:5060;transport=tcp?Replaces={expected}>"


@pytest.mark.parametrize(
    "target",
    ["", "bob", "http://x/", "sip:", "sip:b@x?Replaces=y", "sip:b@x\r\nX: y", "sip:<b>@x"],
)
def test_what_cannot_be_called_is_our_own_bug(target: str) -> None:
    with pytest.raises(ParseError):
        write_refer_to(target, None)
    call = Call()
    with pytest.raises(ParseError):
        call.agent.endpoint.refer(call.session, target, call.net.now)


def test_a_tel_uri_may_be_called() -> None:
    assert write_refer_to("tel:+918045678900", None) == "<tel:+918045678900>"


@settings(max_examples=50, deadline=None)
@given(
    body=st.binary(max_size=64) | st.binary(max_size=32).map(lambda b: b"SIP/2.0 " + b),
    state=st.text(max_size=40),
    kind=st.text(max_size=40),
)
def test_no_notify_hurts(body: bytes, state: str, kind: str) -> None:
    request = Request("NOTIFY", "sip:x@y", Headers(), body)
    for name, value in (("Subscription-State", state), ("Content-Type", kind), ("Event", kind)):
        request.headers.add(name, "".join(char for char in value if char not in "\r\n\0"))
    notice = read_notice(request)
    assert notice.status is None or 100 <= notice.status < 700
    assert notice.expires is None or 0 <= notice.expires <= 86_400

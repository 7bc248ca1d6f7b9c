"""Our offers, their answers, and what becomes of an offer that fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdp.model import Direction
from sdp.negotiate import Answer, OfferAnswer, Rejected
from sdp.negotiated import Hold, Negotiated
from tests.unit.sdp.bodies import (
    FAR,
    LOCAL,
    answered,
    applied,
    body,
    direction,
    lines,
    machine,
    vector,
    version,
)

pytestmark = pytest.mark.unit


def called() -> OfferAnswer:
    """Return a machine whose first offer was answered."""
    us = machine()
    us.offer()
    applied(us, body())
    return us


def test_our_offer_lists_every_codec_of_the_trunk() -> None:
    us = machine()
    assert us.offer() == (
        b"v=0\r\no=- 4711 1 IN IP4 52.66.10.20\r\ns=-\r\nc=IN IP4 52.66.10.20\r\nt=0 0\r\n"
        b"m=audio 20000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
        b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n"
        b"a=maxptime:150\r\na=sendrecv\r\n"
    )
    assert us.pending
    assert us.active is None


def test_an_answer_settles_their_types_for_sending_and_ours_for_receiving() -> None:
    """Row 59. RFC 3264 5.1: theirs for sending."""
    us = machine()
    us.offer()
    negotiated = applied(us, vector("exotel-offer").replace(b"8 0 96", b"18 0 8 96"))
    assert negotiated == Negotiated(
        remote_address="182.76.143.61",
        remote_port=18342,
        remote_rtcp_port=18343,
        codec="PCMU",
        payload_type=0,
        receive_codecs=((8, "PCMA"), (0, "PCMU")),
        dtmf_payload_type=96,
        receive_dtmf_payload_type=101,
        ptime=20,
        send=True,
        receive=True,
        hold=None,
    )
    assert not us.pending
    assert us.active == negotiated


# offered, answer, hold, send, receive
ANSWERS = [
    (Direction.SENDRECV, body(), None, True, True),
    (Direction.SENDRECV, body("recvonly"), None, True, False),
    (Direction.SENDRECV, body("sendonly"), Hold.SENDONLY, False, True),
    (Direction.SENDRECV, body("inactive"), Hold.INACTIVE, False, False),
    (Direction.SENDRECV, body(address="0.0.0.0"), Hold.ZERO_ADDRESS, False, True),
    (Direction.SENDRECV, body(address="::"), Hold.ZERO_ADDRESS, False, True),
    (Direction.SENDRECV, body(before="a=sendonly"), Hold.SENDONLY, False, True),
    (Direction.SENDONLY, body("recvonly"), None, True, False),
    (Direction.SENDONLY, body("sendrecv"), None, True, False),
    (Direction.INACTIVE, body("inactive"), None, False, False),
    (Direction.INACTIVE, body("sendrecv"), None, False, False),
    (Direction.SENDONLY, body("inactive"), None, False, False),
    (Direction.SENDONLY, body("sendonly"), None, False, False),
    (Direction.RECVONLY, body("sendonly"), None, False, True),
]


@pytest.mark.parametrize(("offered", "answer", "hold", "send", "receive"), ANSWERS)
def test_every_answer_to_a_re_offer_settles_both_ways(
    offered: Direction, answer: bytes, hold: Hold | None, send: bool, receive: bool
) -> None:
    us = called()
    assert direction(us.offer(offered)) == offered.value
    negotiated = applied(us, answer)
    assert (negotiated.hold, negotiated.send, negotiated.receive) == (hold, send, receive)


@pytest.mark.parametrize(
    ("answer", "hold", "send", "receive"),
    [row[1:] for row in ANSWERS if row[0] is Direction.SENDRECV],
)
def test_the_first_answer_may_be_a_hold(
    answer: bytes, hold: Hold | None, send: bool, receive: bool
) -> None:
    us = machine()
    us.offer()
    negotiated = applied(us, answer)
    assert (negotiated.hold, negotiated.send, negotiated.receive) == (hold, send, receive)


def test_our_own_hold_neither_starts_nor_hides_theirs() -> None:
    us = called()
    us.offer(Direction.SENDONLY)
    assert applied(us, body("inactive", version=2)).hold is None
    refreshed = answered(us, body("inactive", version=2))
    assert (refreshed.changed, refreshed.negotiated.hold) == (False, None)
    us.offer()
    assert applied(us, body(version=3)).hold is None
    answered(us, body("sendonly", version=4))
    us.offer(Direction.SENDONLY)
    assert applied(us, body("inactive", version=5)).hold is Hold.INACTIVE


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (body(formats="18"), 488),
        (vector("t38-reinvite"), 488),
        (vector("exotel-srtp-offer"), 488),
        (body(address="host.example"), 488),
        (body(address="6.6.6.6"), 488),
        (b"v=0\r\n", 488),
        (b"", 400),
        (b"nonsense", 400),
    ],
)
@pytest.mark.parametrize("start", [machine, called])
def test_an_unusable_answer_changes_nothing(
    start: type[OfferAnswer], answer: bytes, status: int
) -> None:
    us = OfferAnswer.restore(
        start().snapshot(), destination_allowed=lambda address, port: address != "6.6.6.6"
    )
    active = us.active
    us.offer()
    before = us.snapshot()
    result = us.receive_answer(answer)
    assert isinstance(result, Rejected)
    assert result.status == status
    assert us.snapshot() == before
    us.rollback()
    assert us.active == active
    assert not us.pending


def test_all_ports_zero_refuses_a_first_offer_and_holds_later() -> None:
    us = machine()
    us.offer()
    assert isinstance(us.receive_answer(body(port=0)), Rejected)
    us = called()
    active = us.active
    assert active is not None
    us.offer()
    negotiated = applied(us, body(port=0))
    assert negotiated.hold is Hold.NO_MEDIA
    assert (negotiated.remote_address, negotiated.remote_port) == ("", 0)
    assert negotiated.codec == active.codec
    refreshed = answered(us, body(port=0))
    assert lines(refreshed.body, "m") == ["audio 0 RTP/AVP 8 101"]
    assert refreshed.changed is False
    assert lines(us.offer(), "m") == ["audio 20000 RTP/AVP 8 0 101"]


def test_an_answer_without_an_offer_changes_nothing() -> None:
    us = called()
    before = us.snapshot()
    assert us.receive_answer(body(port=4002)) == Rejected(
        status=488, reason="an answer without an offer"
    )
    assert us.snapshot() == before


def test_an_offer_repeated_before_its_answer_has_the_same_bytes() -> None:
    us = machine()
    assert us.offer() == us.offer()
    assert version(us.offer(Direction.INACTIVE)) == 2


def test_a_failed_offer_leaves_the_active_session_and_its_wish_untouched() -> None:
    us = called()
    active = us.active
    held = us.offer(Direction.SENDONLY)
    us.rollback()
    assert us.active == active
    assert us.wanted is Direction.SENDRECV
    assert us.offer(Direction.SENDONLY) == held
    us.rollback()
    us.rollback()
    refresh = answered(us, body(version=9))
    assert refresh.changed is False
    assert version(refresh.body) == 1
    later = answered(us, body("sendonly"))
    assert version(later.body) == 3


def test_a_first_offer_that_fails_leaves_nothing() -> None:
    us = machine()
    us.offer()
    applied(us, body(), early=True)
    us.rollback()
    assert us.active is None
    assert not us.pending


def test_an_early_answer_counts_until_the_final_one_replaces_it() -> None:
    us = machine()
    us.offer()
    early = applied(us, body("sendonly"), early=True)
    assert us.active == early
    assert early.hold is Hold.SENDONLY
    assert us.pending
    final = applied(us, body(port=6000, formats="0"))
    assert us.active == final
    assert (final.remote_port, final.codec, final.hold) == (6000, "PCMU", None)
    assert not us.pending


def test_a_failed_re_offer_undoes_its_early_answer() -> None:
    us = called()
    active = us.active
    us.offer()
    applied(us, body(port=6000), early=True)
    us.rollback()
    assert us.active == active


def test_delayed_offer_hold_then_offerless_resume() -> None:
    us = machine()
    first = us.offer()
    applied(us, body())
    again = us.offer()
    assert again == first
    held = applied(us, body(address="0.0.0.0", version=2))
    assert held.hold is Hold.ZERO_ADDRESS
    assert us.offer() == first
    assert applied(us, body(port=4444, version=3)).hold is None


def test_a_refresh_of_their_answer_gets_our_offer_back() -> None:
    us = machine()
    ours = us.offer()
    active = applied(us, body())
    assert answered(us, body(version=1)) == Answer(body=ours, negotiated=active, changed=False)


@pytest.mark.parametrize(
    ("attribute", "expected"), [("sendonly", "recvonly"), ("inactive", "inactive")]
)
def test_a_refresh_of_a_hold_they_answered_keeps_the_hold(attribute: str, expected: str) -> None:
    us = machine()
    us.offer()
    held = applied(us, body(attribute))
    refreshed = answered(us, body(attribute, version=5))
    assert direction(refreshed.body) == expected
    assert version(refreshed.body) == 2
    assert (refreshed.negotiated, refreshed.changed) == (held, False)
    assert answered(us, body(attribute)).body == refreshed.body


def test_our_re_offer_keeps_their_lines_and_payload_types() -> None:
    us = machine()
    answered(us, vector("softphone-many-lines"))
    text = us.offer()
    assert lines(text, "m") == [
        "video 0 RTP/AVP 96",
        "audio 20000 RTP/AVPF 8 0 99",
        "text 0 RTP/AVP 98 100",
        "audio 0 RTP/AVP 8",
    ]
    negotiated = applied(us, vector("softphone-many-lines"))
    assert negotiated.receive_dtmf_payload_type == 99


def test_our_re_offer_never_gives_their_dynamic_type_another_meaning() -> None:
    us = machine()
    taken = ("rtpmap:101 iLBC/8000", "rtpmap:96 opus/48000/2", "rtpmap:98 PCMA/8000")
    first = body(*taken, formats="101 98 96").replace(b"a=rtpmap:101 telephone-event/8000\r\n", b"")
    answered(us, first)
    assert lines(us.offer(), "m") == ["audio 20000 RTP/AVP 98 0 97"]


def test_our_payload_types_stay_distinct_when_they_use_all_dynamic_ones() -> None:
    us = machine()
    every = "\n".join(f"a=rtpmap:{number} opus/48000/2" for number in range(96, 128))
    formats = " ".join(map(str, range(96, 128)))
    hog = f"v=0\nc=IN IP4 {FAR}\nm=audio 4000 RTP/AVP 8 {formats}\n{every}\n"
    answered(us, hog.encode())
    formats_of_ours = lines(us.offer(), "m")[0].split()[3:]
    assert len(formats_of_ours) == len(set(formats_of_ours)) == 3


def test_a_lost_audio_line_is_offered_anew_after_the_others() -> None:
    us = machine()
    answered(us, b"v=0\r\nm=image 0 udptl t38\r\n")
    assert lines(us.offer(), "m") == ["image 0 udptl t38", "audio 20000 RTP/AVP 8 0 101"]


def test_a_trunk_with_one_codec_and_its_own_types_offers_just_that() -> None:
    us = machine(replace(LOCAL, codecs=("PCMU",), ptime=30, dtmf_payload_type=96))
    text = us.offer()
    assert lines(text, "m") == ["audio 20000 RTP/AVP 0 96"]
    assert "ptime:30" in lines(text, "a")
    assert applied(us, body(formats="0")).ptime == 30


def test_an_offer_made_again_after_an_early_answer_forgets_that_answer() -> None:
    us = machine()
    us.offer()
    applied(us, body(), early=True)
    us.offer(Direction.INACTIVE)
    assert us.active is None
    us.rollback()
    assert us.active is None


def test_a_final_answer_without_ports_refuses_a_first_offer_despite_an_early_one() -> None:
    us = machine()
    us.offer()
    early = applied(us, body(), early=True)
    assert isinstance(us.receive_answer(body(port=0)), Rejected)
    assert us.active == early


def test_our_payload_types_stay_distinct_even_when_two_must_be_shared() -> None:
    us = machine(replace(LOCAL, dtmf_payload_type=96))
    every = "\n".join(f"a=rtpmap:{number} opus/48000/2" for number in range(96, 128))
    formats = " ".join(map(str, range(96, 128)))
    hog = f"v=0\nc=IN IP4 {FAR}\nm=audio 4000 RTP/AVP 0 {formats}\na=rtpmap:0 PCMA/8000\n{every}\n"
    assert answered(us, hog.encode()).negotiated.codec == "PCMA"
    assert lines(us.offer(), "m") == ["audio 20000 RTP/AVP 0 96 97"]

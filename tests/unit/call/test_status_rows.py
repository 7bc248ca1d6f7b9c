"""Every row of carriers.md 4 by name: what a status, a cause or an end means for the call."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.call.commands import Bye, Cancel
from bridge.call.inputs import By, HangUp
from bridge.events import CallRinging
from bridge.media.seam import MediaTimedOut
from bridge.sip.events import EndCause, Ended, FailureCause
from sdp.negotiated import Hold
from tests.unit.call.kit import (
    SID,
    Bench,
    answered,
    bye,
    changed,
    inbound,
    negotiated,
    plan,
    progressed,
    refused,
)

pytestmark = pytest.mark.unit


def outcome_of(
    status: int, q850: int | None = None, *, phrase: str = "", rang: bool = True
) -> tuple[str, str]:
    """Return what an INVITE of ours that was refused with *status* comes to."""
    bench = Bench().dialing()
    if rang:
        bench.feed(progressed())
    bench.feed(refused(status, q850, phrase=phrase))
    assert bench.end.sip_status == status
    return bench.end.outcome, bench.end.reason


def test_busy_here_and_everywhere_are_busy() -> None:
    """Status 486, 600."""
    assert outcome_of(486) == outcome_of(600) == ("busy", "busy")


def test_decline_is_a_rejection_of_the_callee() -> None:
    """Status 603."""
    assert outcome_of(603) == ("rejected", "declined")
    assert Bench().dialing().feed(refused(603)).end.ended_by == "callee"


def test_unwanted_and_rejected_by_an_analytics_engine_are_blocked_spam() -> None:
    """Status 607, 608. RFC 8197, RFC 8688."""
    assert outcome_of(607) == outcome_of(608) == ("rejected", "blocked_spam")


@pytest.mark.parametrize(
    ("phrase", "headers"),
    [
        ("Network Blocked", ()),
        ("Decline", (("Reason", "Q.850;cause=21"), ("reason", 'SIP;cause=608;text="Rejected"'))),
        ("Decline", (("Reason", "SIP;cause=607"),)),
    ],
)
def test_a_decline_of_the_network_is_blocked_spam(
    phrase: str, headers: tuple[tuple[str, str], ...]
) -> None:
    """Status 603. By the network: ATIS-1000099; the cause 21 beside it is nobody's."""
    event = replace(refused(603, 21, phrase=phrase), headers=headers)
    assert Bench().dialing().feed(event).verdict()[:2] == ("rejected", "blocked_spam")


@pytest.mark.parametrize("reason", ["SIP;cause=200", "SIP", "Q.850;cause=608", "SIP;cause=x", ";"])
def test_another_reason_of_a_decline_is_no_block(reason: str) -> None:
    """Status 603."""
    event = replace(refused(603), headers=(("Reason", reason),))
    assert Bench().dialing().feed(event).verdict()[:2] == ("rejected", "declined")


def test_request_timeout_of_the_far_end_is_no_response() -> None:
    """Status 408."""
    assert outcome_of(408) == ("no_answer", "no_response")


@pytest.mark.parametrize(
    ("q850", "rang", "expected"),
    [
        (None, True, ("no_answer", "unavailable")),
        (None, False, ("unreachable", "unavailable")),
        (20, True, ("unreachable", "unavailable")),
        (18, True, ("unreachable", "unavailable")),
        (19, True, ("no_answer", "unavailable")),
    ],
)
def test_temporarily_unavailable_is_unreachable_when_quick_or_when_the_cause_says_so(
    q850: int | None, rang: bool, expected: tuple[str, str]
) -> None:
    """Status 480."""
    assert outcome_of(480, q850, rang=rang) == expected


def test_a_480_without_ringing_after_a_while_is_no_answer() -> None:
    """Status 480."""
    assert Bench().dialing().wait(10).feed(refused(480)).verdict()[0] == "no_answer"


def test_who_cancels_by_the_api_decides_and_not_the_487() -> None:
    """Status 487 after our cancel."""
    bench = Bench().dialing().feed(progressed(), HangUp(by=By.API))
    assert bench.has(Cancel)
    bench.feed(refused(487, cause=FailureCause.CANCELLED))
    assert bench.verdict() == ("cancelled", "api_hangup", "api")


def test_a_487_nobody_asked_for_is_the_carriers() -> None:
    """Status 487 without our cancel. Airtel without ``user=phone``."""
    assert outcome_of(487) == ("failed", "carrier_terminated")


@pytest.mark.parametrize("status", [404, 410, 484, 485, 604])
def test_a_number_that_is_none_is_unreachable(status: int) -> None:
    """Status 404, 410, 484, 485, 604."""
    assert outcome_of(status) == ("unreachable", "invalid_number")


def test_forbidden_is_the_carriers_and_no_rejection_of_the_callee() -> None:
    """Status 403. R1 7.1.24. Address list, caller id or domain."""
    assert outcome_of(403) == ("failed", "carrier_auth")


@pytest.mark.parametrize("status", [401, 407, 494])
def test_a_challenge_that_was_not_met_is_a_failure_of_ours(status: int) -> None:
    """Status 401, 407, 494."""
    assert outcome_of(status) == ("failed", "auth")


def test_payment_required_is_no_credit() -> None:
    """Status 402."""
    assert outcome_of(402) == ("failed", "no_credit")


@pytest.mark.parametrize("status", [415, 488, 606])
def test_what_cannot_be_agreed_is_media_incompatible(status: int) -> None:
    """Status 415, 488, 606."""
    assert outcome_of(status) == ("failed", "media_incompatible")


@pytest.mark.parametrize("status", [420, 421, 422, 416, 400, 413, 513, 405, 501, 505])
def test_what_is_wrong_with_our_request_is_protocol(status: int) -> None:
    """Status 420, 421, 422, 416, 400, 413, 513, 405, 501, 505."""
    assert outcome_of(status) == ("failed", "protocol")


@pytest.mark.parametrize(
    ("status", "phrase"),
    [(429, ""), (503, "CPS limit exceeded"), (500, "Concurrent call limit exceeded")],
)
def test_limits_of_the_carrier_are_rate_limited(status: int, phrase: str) -> None:
    """Status 429 and limits."""
    assert outcome_of(status, phrase=phrase) == ("failed", "rate_limited")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 580])
def test_trouble_of_a_server_is_the_carriers_failure(status: int) -> None:
    """Status 500, 502, 503, 504, 580."""
    assert outcome_of(status) == ("failed", "carrier_failure")


@pytest.mark.parametrize("status", [482, 483])
def test_a_loop_is_a_routing_loop(status: int) -> None:
    """Status 482, 483."""
    assert outcome_of(status) == ("failed", "routing_loop")


@pytest.mark.parametrize("status", [300, 301, 302, 305, 380])
def test_a_redirection_is_a_failure(status: int) -> None:
    """Status 3xx."""
    assert outcome_of(status) == ("failed", "redirected")


@pytest.mark.parametrize("cause", [FailureCause.NO_RESPONSE, FailureCause.UNREACHABLE])
def test_no_response_and_no_connection_are_carrier_unreachable(cause: FailureCause) -> None:
    """Status no response. TCP, TLS, DNS, Timer B."""
    bench = Bench().dialing().feed(replace(refused(408, cause=cause), status=None))
    assert bench.verdict()[:2] == ("failed", "carrier_unreachable")
    assert bench.end.sip_status is None


def test_ringing_without_end_is_cancelled_and_a_ring_timeout() -> None:
    """Status no final response, 487 after our ring timer."""
    bench = Bench(plan(ring_timeout=30)).dialing().feed(progressed()).wait(31)
    assert bench.has(Cancel)
    bench.feed(refused(487, cause=FailureCause.CANCELLED))
    assert bench.verdict() == ("no_answer", "ring_timeout", "timer")


def test_an_answer_without_any_rtp_fails_and_is_ended_by_us() -> None:
    """Status 200 without RTP."""
    bench = Bench().talking().feed(MediaTimedOut(ever=False))
    assert bench.has(Bye)
    assert bench.verdict()[:2] == ("failed", "no_media_after_answer")


@pytest.mark.parametrize("hold", [Hold.SENDONLY, Hold.INACTIVE])
def test_an_answer_that_is_a_hold_needs_no_rtp(hold: Hold) -> None:
    """Status 200 without RTP. Not when the first answer was a hold."""
    bench = Bench().talking(hold).feed(MediaTimedOut(ever=False))
    assert not bench.has(Bye)


def test_a_bye_right_after_the_answer_completes_a_call_that_was_short() -> None:
    """Status 200 then BYE. ``duration_ms`` says how short; contract 4 has no other flag."""
    bench = Bench().talking().wait(1).feed(bye())
    assert bench.verdict() == ("completed", "remote_hangup", "callee")
    assert 0 < bench.end.duration_ms < 2000


@pytest.mark.parametrize("q850", [None, 16, 31])
def test_a_bye_completes_the_call(q850: int | None) -> None:
    """Status BYE."""
    bench = Bench(inbound()).talking().wait(60).feed(bye(q850))
    assert bench.verdict() == ("completed", "remote_hangup", "caller")
    assert bench.end.q850 == q850


@pytest.mark.parametrize(
    ("q850", "expected"),
    [
        (17, ("completed", "remote_hangup")),
        (41, ("dropped", "carrier_failure")),
        (127, ("completed", "remote_hangup")),
    ],
)
def test_a_bye_with_another_cause_keeps_the_cause_and_is_dropped_when_the_network_failed(
    q850: int, expected: tuple[str, str]
) -> None:
    """Status BYE with another cause."""
    bench = Bench().talking().wait(60).feed(bye(q850))
    assert bench.verdict()[:2] == expected
    assert bench.end.q850 == q850


def test_rtp_that_stops_in_mid_call_is_dropped() -> None:
    """Status RTP lost."""
    bench = Bench().talking().feed(MediaTimedOut(ever=True))
    assert bench.has(Bye)
    assert bench.verdict()[:2] == ("dropped", "media_timeout")


def test_rtp_that_stops_on_hold_ends_nothing() -> None:
    """Status RTP lost. Not while held."""
    bench = Bench().talking().feed(changed(Hold.SENDONLY), MediaTimedOut(ever=True))
    assert not bench.has(Bye)


def test_a_session_that_is_not_refreshed_is_dropped() -> None:
    """Status session expired. RFC 4028 10."""
    event = Ended(session=SID, cause=EndCause.SESSION_EXPIRED, status=None, q850=None)
    assert Bench().talking().feed(event).verdict()[:2] == ("dropped", "session_expired")


def test_a_bye_over_an_offer_we_refused_is_dropped() -> None:
    """Status renegotiation failed. Plivo 3040."""
    event = Ended(session=SID, cause=EndCause.RENEGOTIATION_FAILED, status=None, q850=16)
    bench = Bench().talking().wait(60).feed(event)
    assert bench.verdict() == ("dropped", "renegotiation_failed", "carrier")
    assert bench.end.q850 == 16


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (480, ("no_answer", "unavailable")),
        (404, ("unreachable", "invalid_number")),
        (487, ("failed", "carrier_terminated")),
        (500, ("failed", "carrier_failure")),
    ],
)
def test_an_announcement_before_the_refusal_leaves_the_code_its_meaning(
    status: int, expected: tuple[str, str]
) -> None:
    """Status early announcement. Ringing told that there was early media."""
    bench = Bench().dialing().feed(progressed(183, negotiated()), refused(status))
    assert bench.of(CallRinging)[0].early_media
    assert bench.verdict()[:2] == expected


@pytest.mark.parametrize(
    ("status", "q850", "expected"),
    [
        (480, 17, ("busy", "busy")),
        (503, 1, ("unreachable", "invalid_number")),
        (486, 16, ("busy", "busy")),
        (486, 31, ("busy", "busy")),
        (404, 127, ("unreachable", "invalid_number")),
    ],
)
def test_a_specific_cause_goes_before_the_status(
    status: int, q850: int, expected: tuple[str, str]
) -> None:
    """Status Q850. RFC 3398 7.2.4.1; contract 5: not 0, 16, 31, 127."""
    assert outcome_of(status, q850) == expected
    bench = Bench().dialing().feed(refused(status, q850))
    assert bench.end.q850 == q850


def test_a_cause_in_the_answer_to_our_cancel_does_not_count() -> None:
    """Status Q850. Contract 5: never on the answer to our own CANCEL."""
    bench = Bench().dialing().feed(progressed(), HangUp(by=By.API))
    bench.feed(refused(487, 17, cause=FailureCause.CANCELLED))
    assert bench.verdict()[:2] == ("cancelled", "api_hangup")


def test_one_call_has_one_outcome_whatever_comes_after() -> None:
    """Status 486. Rule 4 of the table: emitted once."""
    bench = Bench().dialing().feed(refused(486), refused(503), answered(), bye())
    assert bench.verdict()[:2] == ("busy", "busy")

"""The outcome tables (contract 5; carriers.md 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.call.outcome import (
    BY_CAUSE,
    UNSPECIFIC_CAUSES,
    EndedBy,
    LocalEnd,
    Outcome,
    Refusal,
    Result,
    bye_reason,
    failure_outcome,
    far_end_outcome,
    local_outcome,
    refusal_outcome,
    refused_outcome,
    reject_status,
    status_of,
)
from bridge.call.plan import Direction
from bridge.sip.events import EndCause, FailureCause

pytestmark = pytest.mark.unit


def words(outcome: Outcome) -> str:
    return f"{outcome.outcome.value}/{outcome.reason}"


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((486, 600), "busy/busy"),
        ((603,), "rejected/declined"),
        ((607, 608), "rejected/blocked_spam"),
        ((408,), "no_answer/no_response"),
        ((487,), "failed/carrier_terminated"),
        ((404, 410, 484, 485, 604), "unreachable/invalid_number"),
        ((403,), "failed/carrier_auth"),
        ((401, 407, 494), "failed/auth"),
        ((402,), "failed/no_credit"),
        ((415, 488, 606), "failed/media_incompatible"),
        ((400, 405, 413, 416, 420, 421, 422, 501, 505, 513), "failed/protocol"),
        ((429,), "failed/rate_limited"),
        ((500, 502, 503, 504, 580), "failed/carrier_failure"),
        ((482, 483), "failed/routing_loop"),
        ((300, 302, 380), "failed/redirected"),
        ((499, 599, 699), None),
    ],
)
def test_every_status_has_its_outcome(statuses: tuple[int, ...], expected: str | None) -> None:
    for status in statuses:
        found = words(refused_outcome(status, None, rang=True))
        by_class = {4: "failed/protocol", 5: "failed/carrier_failure", 6: "rejected/declined"}
        assert found == (expected or by_class[status // 100])


@pytest.mark.parametrize(
    ("rang", "elapsed", "expected"),
    [
        (True, 1.0, "no_answer/unavailable"),
        (False, 7.0, "no_answer/unavailable"),
        (False, 1.0, "unreachable/unavailable"),
    ],
)
def test_480_says_unreachable_when_quick_and_silent(
    rang: bool, elapsed: float, expected: str
) -> None:
    assert words(refused_outcome(480, None, rang=rang, elapsed=elapsed)) == expected


@pytest.mark.parametrize(
    ("status", "cause", "expected"),
    [
        (480, 17, "busy/busy"),
        (503, 1, "unreachable/invalid_number"),
        (486, 21, "rejected/declined"),
        (603, 21, "rejected/declined"),
        (403, 21, "failed/carrier_auth"),
        (480, 20, "unreachable/unavailable"),
        (480, 18, "unreachable/unavailable"),
        (408, 18, "no_answer/no_response"),
        (480, 19, "no_answer/unavailable"),
        (404, 34, "failed/carrier_failure"),
        (500, 28, "unreachable/invalid_number"),
        (603, 88, "failed/carrier_failure"),
        (500, 65, "failed/media_incompatible"),
        (500, 57, "failed/carrier_auth"),
    ],
)
def test_specific_q850_cause_overrides_the_status(status: int, cause: int, expected: str) -> None:
    assert words(refused_outcome(status, cause)) == expected


@pytest.mark.parametrize("cause", [0, 16, 31, 127, 126, 9999, -1])
def test_unspecific_or_unknown_cause_leaves_the_status(cause: int) -> None:
    assert words(refused_outcome(486, cause)) == "busy/busy"


def test_unspecific_causes_have_no_outcome() -> None:
    assert not UNSPECIFIC_CAUSES & set(BY_CAUSE)
    assert {0, 16, 31, 127} == UNSPECIFIC_CAUSES


@pytest.mark.parametrize("phrase", ["CPS limit exceeded", "Concurrent call limit exceeded"])
def test_5xx_that_speaks_of_limits_is_rate_limited(phrase: str) -> None:
    assert words(refused_outcome(503, None, phrase=phrase)) == "failed/rate_limited"


@pytest.mark.parametrize("cause", [FailureCause.NO_RESPONSE, FailureCause.UNREACHABLE])
def test_no_response_is_carrier_unreachable(cause: FailureCause) -> None:
    assert words(failure_outcome(cause, None, None)) == "failed/carrier_unreachable"


def test_unusable_answer_is_media_incompatible() -> None:
    found = failure_outcome(FailureCause.UNUSABLE_ANSWER, 200, None)
    assert words(found) == "failed/media_incompatible"


@pytest.mark.parametrize("cause", [None, 0, 16, 17, 19, 21, 31, 127])
def test_ordinary_bye_completes(cause: int | None) -> None:
    found = far_end_outcome(EndCause.BYE, cause, Direction.INBOUND, answered=True)
    assert words(found) == "completed/remote_hangup"
    assert found.ended_by is EndedBy.CALLER


@pytest.mark.parametrize("cause", [38, 41, 47, 102])
def test_bye_of_a_failing_network_is_dropped(cause: int) -> None:
    found = far_end_outcome(EndCause.BYE, cause, Direction.OUTBOUND, answered=True)
    assert (words(found), found.ended_by) == ("dropped/carrier_failure", EndedBy.CARRIER)


@given(
    st.sampled_from(list(LocalEnd)),
    st.sampled_from(list(EndCause)),
    st.sampled_from(list(Direction)),
    st.integers(300, 699),
    st.one_of(st.none(), st.integers(-5, 300)),
)
def test_unanswered_call_is_never_completed(
    local: LocalEnd, cause: EndCause, direction: Direction, status: int, q850: int | None
) -> None:
    found = [
        local_outcome(local, direction, answered=False),
        far_end_outcome(cause, q850, direction, answered=False),
        refused_outcome(status, q850),
    ]
    assert all(outcome.outcome is not Result.COMPLETED for outcome in found)
    assert 400 <= reject_status(local) < 700


@pytest.mark.parametrize(
    ("refusal", "status", "reason"),
    [
        (Refusal.NO_ROUTE, 404, "no_route"),
        (Refusal.MEDIA_INCOMPATIBLE, 488, "media_incompatible"),
        (Refusal.TRUNK_FULL, 486, "capacity"),
        (Refusal.CAPACITY, 503, "capacity"),
        (Refusal.DRAINING, 503, "draining"),
        (Refusal.NO_LIVEKIT, 503, "room_unavailable"),
    ],
)
def test_refusals(refusal: Refusal, status: int, reason: str) -> None:
    found_status, outcome = refusal_outcome(refusal)
    assert (found_status, words(outcome)) == (status, f"failed/{reason}")


@pytest.mark.parametrize(
    ("result", "reason", "status"),
    [
        (Result.COMPLETED, "remote_hangup", "completed"),
        (Result.NO_ANSWER, "ring_timeout", "timeout"),
        (Result.NO_ANSWER, "no_response", "failed"),
        (Result.DROPPED, "media_timeout", "disconnected"),
        (Result.BUSY, "busy", "failed"),
        (Result.CANCELLED, "api_hangup", "failed"),
    ],
)
def test_seed_003_status(result: Result, reason: str, status: str) -> None:
    assert status_of(result, reason) == status


@pytest.mark.parametrize("why", list(LocalEnd))
def test_a_bye_says_normal_clearing_only_of_a_call_that_went_as_it_should(why: LocalEnd) -> None:
    outcome = local_outcome(why, Direction.OUTBOUND, answered=True)
    reason = bye_reason(why)
    assert reason.text == outcome.reason
    if why is not LocalEnd.RING_TIMEOUT:  # of an answered call there is none
        assert (reason.cause == 16) == (outcome.outcome is Result.COMPLETED)


@pytest.mark.parametrize(
    ("why", "written"),
    [
        (LocalEnd.API, 'Q.850;cause=16;text="api_hangup"'),
        (LocalEnd.MAX_DURATION, 'Q.850;cause=16;text="max_duration"'),
        (LocalEnd.MEDIA_TIMEOUT, 'Q.850;cause=102;text="media_timeout"'),
        (LocalEnd.NO_AGENT, 'Q.850;cause=41;text="no_agent"'),
        (LocalEnd.SHUTDOWN, 'Q.850;cause=41;text="shutdown"'),
    ],
)
def test_the_reason_of_a_bye_is_written_as_rfc_3326_wants_it(why: LocalEnd, written: str) -> None:
    assert str(bye_reason(why)) == written

"""What answers, and silence, say about a trunk."""

from __future__ import annotations

import pytest

from bridge.trunk.health import KEPT, By, Failure, TrunkHealth, Verdict, answer_says

pytestmark = pytest.mark.unit


def failure(at: float = 1.0, status: int | None = None) -> Failure:
    return Failure(at=at, by=By.PROBE, sip_status=status, reason="no_answer")


@pytest.mark.parametrize("by", By)
@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (None, Verdict.DOWN),
        (200, Verdict.UP),
        (302, Verdict.UP),
        (401, Verdict.UP),
        (404, Verdict.UP),
        (405, Verdict.UP),
        (408, Verdict.DOWN),
        (486, Verdict.UP),
        (487, Verdict.UP),
        (501, Verdict.UP),
        (503, Verdict.DOWN),
        (600, Verdict.UP),
        (603, Verdict.UP),
    ],
)
def test_a_status_says_the_same_to_calls_and_probes(
    status: int | None, verdict: Verdict, by: By
) -> None:
    assert answer_says(status, by) is verdict


@pytest.mark.parametrize("status", [500, 502, 504, 580])
def test_other_trouble_of_a_server_is_the_trunks_to_a_probe_only(status: int) -> None:
    assert answer_says(status, By.PROBE) is Verdict.DOWN
    assert answer_says(status, By.CALL) is Verdict.NOTHING


def test_nothing_is_known_until_something_was_asked() -> None:
    health = TrunkHealth()
    assert health.up is None
    health.failed(failure())
    assert health.up is None, "one failure may be bad luck"
    health.failed(failure())
    assert health.up is False


def test_one_answer_is_enough_to_be_up_and_two_failures_in_a_row_to_be_down() -> None:
    health = TrunkHealth()
    health.succeeded(10.0)
    assert (health.up, health.succeeded_at) == (True, 10.0)
    health.failed(failure(11.0))
    health.succeeded(12.0)
    health.failed(failure(13.0))
    assert health.up is True
    health.failed(failure(14.0))
    assert (health.up, health.succeeded_at) == (False, 12.0)
    health.succeeded(15.0)
    assert health.up is True


def test_what_is_only_noted_changes_nothing() -> None:
    health = TrunkHealth()
    health.succeeded(1.0)
    for at in range(5):
        health.noted(failure(float(at), 403))
    assert health.up is True
    assert len(health.failures) == 5


def test_the_last_failures_are_kept_newest_first_and_no_more() -> None:
    health = TrunkHealth()
    for at in range(3 * KEPT):
        health.failed(failure(float(at)))
    assert [item.at for item in health.failures] == [
        float(at) for at in range(3 * KEPT - 1, 2 * KEPT - 1, -1)
    ]

"""Who may be asked now: dead and slow receivers leave room for the others."""

from __future__ import annotations

import pytest

from bridge.webhook.pace import Limits, Pace

pytestmark = pytest.mark.unit

LIMITS = Limits(running=10, unproven=4, per_receiver=3, started=100)


def proven(*receivers: str) -> Pace:
    pace = Pace(LIMITS)
    for receiver in receivers:
        pace.started(receiver)
        pace.ended(receiver, worked=True)
    return pace


def started(pace: Pace, receivers: list[str]) -> list[str]:
    """Start what may be started of these, and return it."""
    chosen = [receivers[index] for index in pace.choose(receivers)]
    for receiver in chosen:
        pace.started(receiver)
    return chosen


def test_an_unknown_receiver_gets_one_connection() -> None:
    assert started(Pace(LIMITS), ["a", "a", "b", "a"]) == ["a", "b"]


def test_a_proven_receiver_gets_several() -> None:
    assert started(proven("a"), ["a"] * 5 + ["b"]) == ["a", "a", "a", "b"]


def test_unproven_receivers_share_less_than_all() -> None:
    pace = proven("good")
    assert started(pace, ["a", "b", "c", "d", "e", "good"]) == ["a", "b", "c", "d", "good"]
    wanted = pace.wanted(0.0)
    assert wanted is not None
    assert wanted.only == {"good"}


def test_all_together_are_bounded() -> None:
    pace = proven(*"abcdef")
    assert len(started(pace, list("abcdef") * 3)) == 10
    assert pace.running == 10
    assert pace.wanted(0.0) is None


def test_a_failure_makes_a_receiver_unproven_again() -> None:
    pace = proven("a")
    pace.started("a")
    pace.ended("a", worked=False)
    assert started(pace, ["a", "a"]) == ["a"]


def test_receivers_with_all_they_may_have_are_not_looked_for() -> None:
    pace = proven("a")
    started(pace, ["a", "b"])
    wanted = pace.wanted(0.0)
    assert wanted is not None
    assert (wanted.limit, wanted.without, wanted.only) == (8, {"b"}, None)


def test_one_that_asked_to_be_left_alone_is_until_then() -> None:
    pace = Pace(LIMITS)
    pace.started("a")
    pace.ended("a", worked=False, leave_alone_until=100.0)
    before, after = pace.wanted(99.9), pace.wanted(100.0)
    assert before is not None
    assert after is not None
    assert (before.without, after.without) == ({"a"}, frozenset())


def test_what_is_remembered_of_receivers_is_bounded() -> None:
    pace = Pace(LIMITS)
    for number in range(5000):
        pace.started(f"r{number}")
        pace.ended(f"r{number}", worked=number % 2 == 0, leave_alone_until=1e12)
    wanted = pace.wanted(0.0)
    assert wanted is not None
    assert len(wanted.without) <= 2000
    assert pace.running == 0


def test_a_backlog_is_begun_a_few_at_a_time() -> None:
    pace = Pace(Limits(started=2))
    assert started(pace, ["a", "b", "c"]) == ["a", "b"]
    assert started(pace, ["c", "d", "e"]) == ["c", "d"]

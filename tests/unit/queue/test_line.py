"""Whose turn it is."""

from __future__ import annotations

import pytest

from bridge.call.plan import CallPlan, Direction
from bridge.queue.line import Line, Waiter

pytestmark = pytest.mark.unit


def waiter(call_id: str, trunk: str = "a", at: float = 0.0) -> Waiter:
    plan = CallPlan(
        call_id=call_id, direction=Direction.OUTBOUND, trunk=trunk, room="r", created_at=at
    )
    return Waiter(plan=plan)


def test_trunks_take_turns() -> None:
    line = Line()
    line.seen({"a": 3, "b": 2})
    served = []
    while turns := line.turns():
        served.append(turns[0])
        line.served(turns[0])
    assert served == ["a", "b", "a", "b", "a"]


def test_a_trunk_that_comes_later_waits_for_its_turn_only() -> None:
    line = Line()
    line.seen({"a": 3})
    line.served("a")
    line.add(waiter("1", "b"))
    assert line.turns() == ("a", "b")


def test_what_was_added_here_counts_before_the_table_is_looked_at() -> None:
    line = Line()
    line.add(waiter("1"))
    line.add(waiter("2"))
    assert (line.waiting("a"), line.size) == (2, 2)
    line.seen({"a": 5})
    assert (line.waiting("a"), line.size) == (5, 5)


def test_own_calls_are_told_oldest_first_and_leave_once() -> None:
    line = Line()
    line.add(waiter("2", at=2.0))
    line.add(waiter("1", at=1.0))
    assert [one.call_id for one in line.own] == ["1", "2"]
    assert line.remove("1") is not None
    assert line.remove("1") is None
    assert line.waiting("a") == 1


def test_a_call_added_again_is_one_call() -> None:
    line = Line()
    line.add(waiter("1"))
    line.add(waiter("1"))
    assert line.waiting("a") == 1


def test_overdue_calls_are_those_made_before() -> None:
    line = Line()
    line.add(waiter("1", at=1.0))
    line.add(waiter("2", at=2.0))
    assert [one.call_id for one in line.overdue(1.5)] == ["1"]

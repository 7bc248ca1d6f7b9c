"""The verdict of a soak: what it forgives and what it does not."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.soak.census import (
    ABSOLUTE,
    BLOCKS_PER_CALL,
    BLOCKS_ROOM,
    RELATIVE,
    RSS_PER_CALL_KB,
    RSS_ROOM_MB,
    Census,
    kinds_verdict,
    memory_verdict,
    slope,
)

pytestmark = pytest.mark.unit

QUIET = {**dict.fromkeys(ABSOLUTE, 0), "tasks": 3, "fds": 40, "threads": 20}


def census(
    at: float = 0.0, rss: float = 100.0, blocks: int = 0, kinds: dict[str, int] | None = None
) -> Census:
    return Census(at=at, rss=rss, blocks=blocks, counts=QUIET, kinds=kinds or {})


@pytest.mark.parametrize("name", ABSOLUTE)
def test_what_must_be_nought_is_named_when_it_is_not(name: str) -> None:
    left = Census(at=0, rss=1, counts={**QUIET, name: 1})
    assert left.not_back(None) == [f"{name} 1"]
    assert left.not_back(census()) == [f"{name} 1"]


@pytest.mark.parametrize("name", RELATIVE)
def test_what_must_not_grow_is_named_when_it_grew(name: str) -> None:
    more = Census(at=0, rss=1, counts={**QUIET, name: QUIET[name] + 1})
    (text,) = more.not_back(census())
    assert text.startswith(f"{name} {QUIET[name]} -> {QUIET[name] + 1}")
    fewer = Census(at=0, rss=1, counts={**QUIET, name: QUIET[name] - 1})
    assert fewer.not_back(census()) == []


def test_threads_that_are_left_are_named() -> None:
    more = Census(at=0, rss=1, counts={**QUIET, "threads": 21}, threads=Counter(a=2, b=1))
    before = Census(at=0, rss=1, counts=QUIET, threads=Counter(a=1, b=1))
    assert more.not_back(before) == ["threads 20 -> 21 (a)"]


def test_a_server_that_does_not_answer_is_not_back() -> None:
    away = Census(at=0, rss=1, counts={**QUIET, "rooms": -1})
    assert away.not_back(None) == ["rooms -1"]


def test_memory_may_grow_by_the_room_and_by_so_much_a_call() -> None:
    calls = 100
    allowed = RSS_ROOM_MB + RSS_PER_CALL_KB * calls / 1024
    assert memory_verdict(census(), census(rss=100 + allowed - 1), calls) == []
    assert memory_verdict(census(), census(rss=100 + allowed + 1), calls)


def test_objects_of_python_that_calls_leave_are_told_however_small() -> None:
    most = BLOCKS_ROOM + 10 * BLOCKS_PER_CALL
    assert memory_verdict(census(), census(blocks=most), 10) == []
    (text,) = memory_verdict(census(), census(blocks=most + 1), 10)
    assert text == f"{most + 1} objects of Python are left by 10 calls"


def test_a_class_of_which_more_objects_live_is_named() -> None:
    before = census(kinds={"bridge.call.call.Call": 1})
    assert kinds_verdict(before, census(kinds={"bridge.call.call.Call": 4})) == []
    assert kinds_verdict(before, census(kinds={"bridge.call.call.Call": 9})) == [
        "8 more bridge.call.call.Call"
    ]


def test_the_slope_is_megabytes_a_minute() -> None:
    samples = [census(at=60.0 * minute, rss=100 + 2 * minute) for minute in range(5)]
    assert slope(samples) == pytest.approx(2.0)
    assert slope(samples[:2]) == 0

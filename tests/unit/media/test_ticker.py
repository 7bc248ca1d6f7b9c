"""The clock of all calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from bridge.media.ticker import EARLY, SLICE, Ticker

pytestmark = pytest.mark.unit


class Member:
    """Counts its ticks; ``beaten`` is set at the *wanted*-th."""

    def __init__(self, wanted: int = 1, then: Callable[[], None] = lambda: None) -> None:
        self.times: list[float] = []
        self.beaten = asyncio.Event()
        self._wanted = wanted
        self._then = then

    def tick(self, now: float) -> None:
        self.times.append(now)
        self._then()
        if len(self.times) == self._wanted:
            self.beaten.set()


async def test_members_are_dealt_over_the_slices_of_20_ms() -> None:
    ticker = Ticker(lambda: 100.0)
    phases = [round((ticker.add(Member()) - 100.0) / SLICE) % 4 for _ in range(8)]
    assert sorted(phases[:4]) == [0, 1, 2, 3]
    assert phases[4:] == phases[:4]


async def test_a_member_is_called_in_every_slice() -> None:
    ticker = Ticker(time.monotonic)
    member = Member(wanted=21)
    began = time.monotonic()
    ticker.add(member)
    ticker.start()
    async with asyncio.timeout(30):
        await member.beaten.wait()
    ticker.stop()
    lasted = member.times[-1] - EARLY - began
    assert lasted >= 20 * SLICE - 0.002
    # However slow the machine is: each slice that passed has had its turn or is counted.
    assert abs(ticker.turns + ticker.missed - lasted / SLICE) <= 1.1


async def test_the_clock_rests_without_members_and_starts_again_with_one() -> None:
    ticker = Ticker(time.monotonic)
    ticker.start()
    assert ticker.resting()
    assert not ticker.ought_to_turn()
    member = Member()
    ticker.add(member)
    assert not ticker.resting()
    assert ticker.ought_to_turn()
    ticker.remove(member)
    ticker.remove(member)
    last = Member(then=lambda: ticker.remove(last))
    ticker.add(last)
    async with asyncio.timeout(30):
        await last.beaten.wait()
    assert ticker.resting()
    again = Member()
    ticker.add(again)
    async with asyncio.timeout(30):
        await again.beaten.wait()
    ticker.stop()
    assert ticker.resting()


async def test_a_stall_is_not_made_up_for_by_more_turns() -> None:
    now = 100.0
    ticker = Ticker(lambda: now)
    member = Member(wanted=1)
    ticker.add(member)
    now += 1.0
    ticker.start()
    async with asyncio.timeout(30):
        await member.beaten.wait()
    assert ticker.turns == 1
    assert ticker.missed == 199
    assert ticker.late == pytest.approx(1.0 - SLICE)
    ticker.stop()

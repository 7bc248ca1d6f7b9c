"""How late the loop is."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from bridge.observe.lag import LoopLag, TurnLag

pytestmark = pytest.mark.unit


def stand_still(seconds: float) -> None:
    """Block the loop: that is what is measured."""
    time.sleep(seconds)


async def test_every_measurement_is_told_and_a_stall_is_among_them() -> None:
    heard: asyncio.Queue[float] = asyncio.Queue()
    lag = LoopLag(lambda late, _stolen: heard.put_nowait(late))
    lag.start()
    async with asyncio.timeout(30):
        assert await heard.get() >= 0
        stand_still(0.25)
        assert await heard.get() >= 0.1
    lag.stop()


@dataclass
class Turning:
    """A media clock."""

    turns: int = 0
    late: float = 0.0


def test_a_clock_that_is_late_is_not_hidden_by_one_that_turns_often_and_on_time() -> None:
    often, late = Turning(), Turning()
    lag = TurnLag([lambda: often, lambda: late])
    assert lag.since() == 0.0
    often.turns, late.turns, late.late = 40, 5, 0.2
    assert lag.since() == pytest.approx(0.04)
    often.turns, late.turns = 80, 10
    assert lag.since() == 0.0


def test_a_clock_that_stands_still_is_not_late() -> None:
    clock = Turning(turns=3, late=1.0)
    lag = TurnLag([lambda: clock])
    lag.since()
    assert lag.since() == 0.0

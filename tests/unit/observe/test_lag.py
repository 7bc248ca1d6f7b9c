"""How late the loop is."""

from __future__ import annotations

import asyncio
import time

import pytest

from bridge.observe.lag import LoopLag

pytestmark = pytest.mark.unit


def stand_still(seconds: float) -> None:
    """Block the loop: that is what is measured."""
    time.sleep(seconds)


async def test_every_measurement_is_told_and_a_stall_is_among_them() -> None:
    heard: asyncio.Queue[float] = asyncio.Queue()
    lag = LoopLag(lambda late, _stolen: heard.put_nowait(late))
    lag.start()
    async with asyncio.timeout(5):
        assert await heard.get() >= 0
        stand_still(0.25)
        assert await heard.get() >= 0.1
    lag.stop()

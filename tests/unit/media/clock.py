"""Time for tests of media: virtual seconds, and waiting for what real sockets do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Clock:
    """Virtual monotonic time."""

    def __init__(self, t: float = 1000.0) -> None:
        self.t = t

    def __call__(self) -> float:
        return self.t


async def until(happened: Callable[[], bool], seconds: float = 20.0) -> None:
    """Turn the loop until *happened*, for at most *seconds*."""
    async with asyncio.timeout(seconds):
        while not happened():  # noqa: ASYNC110 (a socket becomes readable; there is no event)
            await asyncio.sleep(0.001)

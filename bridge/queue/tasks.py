"""The end of a task that may be waiting for a database."""

from __future__ import annotations

import asyncio
from typing import Final

PATIENCE: Final = 3.0  # seconds a stop waits for what is under way


async def finish(task: asyncio.Task[None] | None) -> None:
    """Wait until *task*, which was told to stop, has; cancel it when it takes too long."""
    if task is None:
        return
    await asyncio.wait([task], timeout=PATIENCE)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

"""How late the loop's callbacks run."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

_log = structlog.get_logger(__name__)

PERIOD: Final = 0.1
LATE: Final = 0.05


class LoopLag:
    """Measures the lateness of a periodic callback, in seconds; logs above 50 ms."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.last = 0.0
        self.worst = 0.0

    def start(self) -> None:
        """Begin, on the running loop."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + PERIOD
        self._handle = loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        self.last = loop.time() - self._due
        self.worst = max(self.worst, self.last)
        if self.last > LATE:
            _log.warning("loop.late", ms=round(self.last * 1000))
        self._due = loop.time() + PERIOD
        self._handle = loop.call_at(self._due, self._measure)

    def stop(self) -> None:
        """End."""
        if self._handle is not None:
            self._handle.cancel()

"""How late the loop's callbacks run, and how much of that the machine owes us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

import structlog

_log = structlog.get_logger(__name__)

PERIOD: Final = 0.1
LATE: Final = 0.05
_SCHEDULER: Final = Path("/proc/thread-self/schedstat")


class Clock(Protocol):
    """What a media clock says of itself; both figures only grow."""

    @property
    def turns(self) -> int:
        """Turns so far."""

    @property
    def late(self) -> float:
        """Lateness of all turns, summed, in seconds."""


class TurnLag:
    """How late the turns of media clocks are. Each counts for itself: one that turns often
    and on time does not hide another that is late."""

    def __init__(self, clocks: Iterable[Callable[[], Clock]]) -> None:
        self._seen = dict.fromkeys(clocks, (0, 0.0))

    def since(self) -> float:
        """Return the mean lateness, in seconds, since the last look, of the clock that is worst."""
        return max((self._since(clock) for clock in self._seen), default=0.0)

    def _since(self, clock: Callable[[], Clock]) -> float:
        read = clock()
        before, late = self._seen[clock]
        self._seen[clock] = read.turns, read.late
        return (read.late - late) / (read.turns - before) if read.turns > before else 0.0


class LoopLag:
    """Measures the lateness of a periodic callback, in seconds; logs above 50 ms.

    ``waited_ms`` of the line is how long the thread was ready to run and had no
    processor: what remains of ``ms`` is ours. *heard* is given both, in seconds, every time.
    """

    def __init__(self, heard: Callable[[float, float], None] = lambda _, __: None) -> None:
        self._heard = heard
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.last = 0.0
        self.worst = 0.0
        self._waited = 0.0

    def start(self) -> None:
        """Begin, on the running loop."""
        loop = asyncio.get_running_loop()
        self._waited = _waited_for_processor()
        self._due = loop.time() + PERIOD
        self._handle = loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        self.last = loop.time() - self._due
        self.worst = max(self.worst, self.last)
        waited = _waited_for_processor()
        self._heard(max(0.0, self.last), waited - self._waited)
        if self.last > LATE:
            stolen = round((waited - self._waited) * 1000)
            _log.warning("loop.late", ms=round(self.last * 1000), waited_ms=stolen)
        self._waited = waited
        self._due = loop.time() + PERIOD
        self._handle = loop.call_at(self._due, self._measure)

    def stop(self) -> None:
        """End."""
        if self._handle is not None:
            self._handle.cancel()


def _waited_for_processor() -> float:
    """Return the seconds this thread has been runnable without running; 0 where unknown."""
    try:
        return int(_SCHEDULER.read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0

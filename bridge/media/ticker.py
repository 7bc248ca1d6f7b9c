"""One clock for the media of all calls: a callback every 5 ms on the main loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

SLICE = 0.005
"""Seconds between two turns. Calls spread over the slices by their phase."""
EARLY = 0.0015
"""Loops wake up to a millisecond early or late; a deadline this near is due."""


class Ticked(Protocol):
    """What has deadlines of its own, looked at in every slice."""

    def tick(self, now: float) -> None:
        """Do what is due at *now*; never raises."""


class Ticker:
    """Calls `Ticked.tick` of all members in slices of 5 ms; rests while there are none.

    *now* is monotonic seconds. The slices stand on a fixed grid; after a stall
    the missed ones are left out, the members' own clocks catch up.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.turns = 0  # slices so far: a watchdog looks whether it advances
        self.missed = 0  # slices left out after stalls
        self.late = 0.0  # lateness of all turns, seconds
        self._now = now
        self._members: dict[Ticked, None] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._next_at = 0.0
        self._running = False
        self._joined = 0

    def start(self) -> None:
        """Run from now on, on the running loop."""
        self._running = True
        self._schedule()

    def stop(self) -> None:
        """Stop; members stay but are not called."""
        self._running = False
        self._cancel()

    def resting(self) -> bool:
        """Whether no turn is scheduled: there are no members, or it is stopped."""
        return self._handle is None

    def ought_to_turn(self) -> bool:
        """Whether `turns` must advance: it was started and has members."""
        return self._running and bool(self._members)

    def add(self, member: Ticked) -> float:
        """Add *member*; return the time of its first deadline: slices are dealt in turn."""
        self._members[member] = None
        self._joined += 1
        if self._handle is None:
            self._next_at = self._now() + SLICE
            self._schedule()
        return self._next_at + (self._joined % 4) * SLICE

    def remove(self, member: Ticked) -> None:
        """Take *member* out; unknown ones are no error."""
        self._members.pop(member, None)
        if not self._members:
            self._cancel()

    def _schedule(self) -> None:
        if self._running and self._handle is None and self._members:
            delay = max(0.0, self._next_at - self._now())
            self._handle = asyncio.get_running_loop().call_later(delay, self._turn)

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _turn(self) -> None:
        now = self._now()
        self.turns += 1
        late = max(0.0, now - self._next_at)
        missed = int(late / SLICE)
        self.late += late
        self.missed += missed
        self._next_at += (missed + 1) * SLICE
        self._handle = None
        self._schedule()
        for member in tuple(self._members):
            member.tick(now + EARLY)

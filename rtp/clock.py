"""A steady packet clock: how many frames are due, whatever the loop was doing."""

from __future__ import annotations

from typing import NamedTuple

CATCH_UP = 3
"""Frames sent at once at most after a delay; the others are skipped."""


class Due(NamedTuple):
    """*skipped* frames passed unsent; after them *frames* are to be sent now."""

    frames: int
    skipped: int


_NOTHING = Due(0, 0)
_ONE = Due(1, 0)


class PacketClock:
    """Deadlines at ``start + n * period`` seconds that never drift.

    After a stall at most *catch_up* frames are due at once; the older ones are
    reported as skipped, so that timestamps advance over them.
    """

    __slots__ = ("catch_up", "next_at", "period")

    def __init__(self, *, start: float, period: float, catch_up: int = CATCH_UP) -> None:
        self.next_at = start
        self.period = period
        self.catch_up = catch_up

    def due(self, now: float) -> Due:
        """Return what is due at *now* and move on past it."""
        late = now - self.next_at
        if late < 0:
            return _NOTHING
        if late < self.period:
            self.next_at += self.period
            return _ONE
        passed = int(late / self.period) + 1
        self.next_at += passed * self.period
        frames = min(passed, self.catch_up)
        return Due(frames, passed - frames)

"""Whether the process has more to do than it can: new calls wait until it has caught up. Pure.

Judged by how late callbacks of the loop and turns of the media clock run. What is ours
counts at once; what a busy machine took from us only when it is much, for one more call
changes little about that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW: Final = 10  # measurements, of 100 ms each
AT_MOST: Final = 2.0  # shares of a threshold that one measurement counts: one stall is no load
RETRY_AFTER: Final = 5  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Mean lateness over the window that is too much, in seconds; see `AT_MOST`.

    ``enter`` of our own lag, ``stolen`` of all lag, ``media`` of the media clock's turns;
    below ``leave`` (a share of each) it is over.
    """

    enter: float = 0.05
    stolen: float = 0.5
    media: float = 0.02
    leave: float = 0.3


@dataclass(frozen=True, slots=True)
class _Measured:
    own: float
    total: float
    media: float


class Overload:
    """Follows the lateness of the loop and of the media clock."""

    def __init__(self, thresholds: Thresholds | None = None) -> None:
        self._thresholds = thresholds or Thresholds()
        self._last: deque[_Measured] = deque(maxlen=WINDOW)
        self.active = False

    def measured(self, lag: float, *, stolen: float = 0.0, media: float = 0.0) -> bool:
        """Take one measurement; return whether `active` has changed by it.

        *lag*: how late a callback of the loop ran; *stolen*: how much of that the thread
        waited for a processor; *media*: mean lateness of the media clock's turns since.
        """
        self._last.append(_Measured(max(0.0, lag - stolen), lag, media))
        share = self._pressure()
        before = self.active
        self.active = share >= 1.0 or (before and share >= self._thresholds.leave)
        return self.active != before

    def _pressure(self) -> float:
        """Return the worst lateness as a share of what is too much."""
        limits = self._thresholds
        return max(
            sum(min(one.own / limits.enter, AT_MOST) for one in self._last) / WINDOW,
            sum(min(one.total / limits.stolen, AT_MOST) for one in self._last) / WINDOW,
            sum(min(one.media / limits.media, AT_MOST) for one in self._last) / WINDOW,
        )

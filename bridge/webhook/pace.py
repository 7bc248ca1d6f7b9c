"""Which receivers may be asked now, and how many of them at the same time.

Pure: the time is given. A receiver whose last attempt worked is *proven* and gets several
connections; one that failed, or is new, gets one, out of a share that leaves room for the
proven ones. So however many receivers are dead or slow, the others are asked without delay.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_REMEMBERED: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many attempts run at the same time: in all, unproven ones, of one proven receiver.

    ``started`` begin in one turn: a backlog is sent at a pace that leaves the interpreter to
    the calls (about 2 ms of it for each attempt).
    """

    running: int = 256
    unproven: int = 160
    per_receiver: int = 8
    started: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to look for in the outbox: at most ``limit`` rows, ``only`` None: of everybody."""

    limit: int
    without: frozenset[str]
    only: frozenset[str] | None


class Pace:
    """The receivers as this process knows them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._running: Counter[str] = Counter()
        self._proven: OrderedDict[str, None] = OrderedDict()
        self._paused: dict[str, float] = {}

    @property
    def running(self) -> int:
        """Attempts under way."""
        return self._running.total()

    @property
    def _unproven(self) -> int:
        return sum(n for receiver, n in self._running.items() if receiver not in self._proven)

    def wanted(self, now: float) -> Wanted | None:
        """Return what could be started now; None when nothing could."""
        limit = self._limits.running - self.running
        if limit <= 0:
            return None
        self._paused = {who: until for who, until in self._paused.items() if until > now}
        busy = {receiver for receiver in self._running if not self._free(receiver)}
        full = self._unproven >= self._limits.unproven
        return Wanted(
            limit=limit,
            without=frozenset(busy | self._paused.keys()),
            only=frozenset(self._proven) if full else None,
        )

    def _free(self, receiver: str) -> int:
        most = self._limits.per_receiver if receiver in self._proven else 1
        return max(0, most - self._running[receiver])

    def choose(self, receivers: Iterable[str]) -> list[int]:
        """Return which of *receivers*, one for each row that is due, may be started now."""
        left = min(self._limits.started, self._limits.running - self.running)
        unproven = self._limits.unproven - self._unproven
        taken: Counter[str] = Counter()
        chosen: list[int] = []
        for index, receiver in enumerate(receivers):
            proven = receiver in self._proven
            if taken[receiver] >= self._free(receiver) or len(chosen) >= left:
                continue
            if not proven:
                if unproven <= 0:
                    continue
                unproven -= 1
            taken[receiver] += 1
            chosen.append(index)
        return chosen

    def started(self, receiver: str) -> None:
        """An attempt began."""
        self._running[receiver] += 1

    def ended(self, receiver: str, *, worked: bool, leave_alone_until: float = 0.0) -> None:
        """An attempt is over; the receiver may have asked to be left alone."""
        self._running[receiver] -= 1
        if self._running[receiver] <= 0:
            del self._running[receiver]
        self._proven.pop(receiver, None)
        if worked:
            self._proven[receiver] = None
            if len(self._proven) > _REMEMBERED:
                self._proven.popitem(last=False)
        if leave_alone_until and len(self._paused) < _REMEMBERED:
            self._paused[receiver] = max(leave_alone_until, self._paused.get(receiver, 0.0))

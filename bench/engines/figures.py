"""Ratios of what was measured in turns, with how far they can be trusted. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

SEED = 6
ROUNDS = 2000
WIDTH = 0.95


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Median over median, and the middle 95 % of what resampling both makes of it."""

    value: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether it is told from 1 at all."""
        return not self.low <= 1.0 <= self.high

    def __str__(self) -> str:
        text = f"{_short(self.value)} ({_short(self.low)} to {_short(self.high)})"
        return text if self.differs else f"{text}: no difference"


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio | None:
    """Return the ratio of medians with its bootstrap interval; None when a side is empty."""
    if not ours or not theirs or median(theirs) == 0:
        return None
    chance = random.Random(SEED)
    found = sorted(
        median(chance.choices(ours, k=len(ours))) / (median(chance.choices(theirs, k=len(theirs))))
        for _ in range(ROUNDS)
    )
    edge = (1 - WIDTH) / 2
    return Ratio(
        value=median(ours) / median(theirs),
        low=found[int(edge * ROUNDS)],
        high=found[int((1 - edge) * ROUNDS) - 1],
    )


def spread(values: Sequence[float]) -> float:
    """Return how far the extremes are apart, as a part of the median."""
    return (max(values) - min(values)) / median(values) if values else 0.0


def delays(marks: Sequence[int], heard: Sequence[int], *, most: float = 0.9) -> list[float]:
    """Return the seconds from each mark to the first burst heard after it (both in ns).

    A mark that nothing answers within *most* seconds is left out.
    """
    found = []
    for mark in marks:
        after = [at for at in heard if at >= mark - 1_000_000]
        if after and (min(after) - mark) / 1e9 < most:
            found.append((min(after) - mark) / 1e9)
    return found


def order(names: Sequence[str], turns: int) -> list[str]:
    """Return who is measured when: A B B A A B B A, so that a drift hits all alike."""
    found: list[str] = []
    for turn in range(turns):
        found += names if turn % 2 == 0 else reversed(names)
    return found

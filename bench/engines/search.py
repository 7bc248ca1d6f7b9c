"""The search for how many calls an arm carries: pure, told what each step showed."""

from __future__ import annotations

from dataclasses import dataclass, field

CLOSE = 1.08
"""The answer is known when the least that failed is within this of the most that passed."""
STEPS = 5
GATE_CORE = 0.80
PACKETS = 50


def guess(cpu_us: float) -> int:
    """Return how many calls fill the gate's part of a core at a cost per 20 ms."""
    return max(2, int(GATE_CORE * 1e6 / PACKETS / max(cpu_us, 1.0)))


@dataclass(kw_only=True)
class Search:
    """Begins at *first*, goes by a quarter until both sides are known, then halves between."""

    first: int
    most: int
    best: int = 0  # passed
    worst: int | None = None  # failed
    invalid: int | None = None  # our load was late: nothing above is known
    _steps: int = field(default=0)

    def next(self) -> int | None:
        """Return the calls of the next step; None when the answer is known."""
        if self._steps >= STEPS or self.invalid is not None:
            return None
        if self.best == 0:
            wanted = self.first if self.worst is None else int(self.worst / 1.25)
        elif self.worst is None:
            wanted = max(self.best + 1, int(self.best * 1.25))
        elif self.worst <= max(self.best * CLOSE, self.best + 1):
            return None
        else:
            wanted = (self.best + self.worst) // 2
        if self.best >= self.most:
            return None
        wanted = min(wanted, self.most)
        if wanted < 1:
            return None
        self._steps += 1
        return wanted

    def tell(self, calls: int, *, passed: bool, valid: bool) -> None:
        """Take what the step of *calls* showed."""
        if passed:
            self.best = max(self.best, calls)
        elif valid:
            self.worst = calls if self.worst is None else min(self.worst, calls)
        else:
            self.invalid = calls

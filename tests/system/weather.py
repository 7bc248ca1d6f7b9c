"""What a bad network does to packets, by seed: lost, late, in another order, twice. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """One direction of a path. Shares are of 1, times in seconds.

    ``loss`` is of each packet for itself. ``bad`` and ``good`` are the Gilbert-Elliott model:
    the chances to turn bad, and to turn good again, at each packet; what comes while it is
    bad is lost with the share ``bad_loss``. ``jitter`` delays by up to so much, in order;
    ``reordered`` packets wait for ``reorder`` and come after later ones; ``twice`` is what
    comes twice.
    """

    loss: float = 0.0
    bad: float = 0.0
    good: float = 1.0
    bad_loss: float = 1.0
    jitter: float = 0.0
    reordered: float = 0.0
    reorder: float = 0.045
    twice: float = 0.0


class Path:
    """Decides for one packet after another; the same seed decides the same."""

    def __init__(self, weather: Weather, seed: int) -> None:
        self._weather = weather
        self._random = random.Random(seed)
        self._is_bad = False
        self._free_at = 0.0

    def passes(self, now: float) -> list[float]:
        """Return when the copies of the next packet arrive, at or after *now*; [] if lost."""
        weather, draw = self._weather, self._random.random
        turned, lost, delay, late, twice = (draw() for _ in range(5))
        self._is_bad = turned >= weather.good if self._is_bad else turned < weather.bad
        if lost < (weather.bad_loss if self._is_bad else weather.loss):
            return []
        self._free_at = at = max(self._free_at, now + delay * weather.jitter)
        if late < weather.reordered:
            return [at + weather.reorder]
        return [at, at] if twice < weather.twice else [at]

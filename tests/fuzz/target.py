"""What a fuzz target is, and what one thing that a peer sent may cost."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MOST_CPU = 0.001
"""Seconds of CPU that one message, body, datagram or piece of a stream may take.

Of several looks the least counts: whatever else runs on the core makes it seem more.
"""

MOST_MEMORY = 16 << 20
"""Bytes that it may take at once; the largest message has 64 KiB."""


class Meter:
    """Measures each thing that a peer sent: ``with meter: endpoint.receive(...)``.

    CPU time of this thread, so the load of the machine does not count. Memory (the peak
    within one step) only while ``tracemalloc`` runs.
    """

    __slots__ = ("_before", "_started", "hungriest", "times")

    def __init__(self) -> None:
        self.times: list[float] = []  # of each step
        self.hungriest = 0
        self._started = 0
        self._before = 0

    def share(self, messages: int) -> None:
        """Say that the last step was *messages* glued together: each of them took its part."""
        self.times[-1] /= max(1, messages)

    @property
    def slowest(self) -> float:
        """Seconds of the step that took longest."""
        return max(self.times, default=0.0)

    def __enter__(self) -> None:
        if tracemalloc.is_tracing():
            tracemalloc.reset_peak()
            self._before = tracemalloc.get_traced_memory()[0]
        self._started = time.thread_time_ns()

    def __exit__(self, *_: object) -> None:
        self.times.append((time.thread_time_ns() - self._started) / 1e9)
        if tracemalloc.is_tracing():
            peak = tracemalloc.get_traced_memory()[1] - self._before
            self.hungriest = max(self.hungriest, peak)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One core under one kind of input.

    ``run`` feeds one input and raises (AssertionError or whatever escaped) when an oracle
    is not met. ``seeds`` are built from the vectors of this repository. ``dictionary`` are
    words that a mutation puts in. ``longest`` bounds an input, in bytes; ``share`` is the
    weight in the time there is.
    """

    name: str
    run: Callable[[bytes, Meter], None]
    seeds: Callable[[], list[bytes]]
    dictionary: Sequence[bytes] = ()
    longest: int
    share: int = 1

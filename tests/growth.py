"""How much longer a larger input takes: a ratio, thus the same on a slow machine."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

ROUNDS = 5


def growth(run: Callable[[int], object], size: int, factor: int) -> float:
    """Return how many times the CPU time of ``run(size // factor)`` ``run(size)`` takes.

    ``factor`` for what is linear, its square for what is quadratic. The smallest of five
    rounds counts, of this thread alone: other threads, other processes and the collector of
    the test runner's own garbage say nothing about `run`.
    """
    small = large = float("inf")
    collected = gc.isenabled()
    gc.disable()
    try:
        for _ in range(ROUNDS):
            small = min(small, _cpu_time(run, size // factor))
            large = min(large, _cpu_time(run, size))
    finally:
        if collected:
            gc.enable()
    return large / small


def _cpu_time(run: Callable[[int], object], size: int) -> float:
    began = time.thread_time()
    run(size)
    return time.thread_time() - began

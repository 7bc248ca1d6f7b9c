"""The kept corpus: which inputs are worth keeping, and what each of them costs.

An input is kept when it runs a line after another line that no smaller kept input runs in
that order. `tests/fuzz/corpus/README.md` says where they come from.
"""

from __future__ import annotations

import gc
import hashlib
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.fuzz.target import MOST_CPU, MOST_MEMORY, Meter, Target

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).parent / "corpus"
CORES = tuple(
    str(ROOT / part) + "/"
    for part in ("bridge/sip", "bridge/trunk", "bridge/room/signal", "sdp", "rtp")
)
LOOKS = 15  # at an input that seems dear
WARM_UP, ROUNDS = 2, 4  # of the look at what stays
MOST_GROWTH = 16 << 10  # bytes of a round that may stay: noise of caches and the allocator
LARGEST_KEPT = 3000  # bytes; a longer one only says that long inputs are refused

Arc = tuple[CodeType, int, int]


def kept(target: str) -> list[bytes]:
    """The kept corpus of a target."""
    return [path.read_bytes() for path in sorted((KEPT / target).glob("*")) if path.is_file()]


def arcs_of(run: Callable[[], None]) -> set[Arc]:
    """The steps from line to line that *run* takes in the cores."""
    found: set[Arc] = set()
    last: dict[int, int] = {}

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(CORES):
            return None
        if event == "call":
            last[id(frame)] = 0
        elif event == "line":
            found.add((code, last.get(id(frame), 0), frame.f_lineno))
            last[id(frame)] = frame.f_lineno
        elif event == "return":
            last.pop(id(frame), None)
        return trace

    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(None)
    return found


def minimised(target: Target, inputs: Iterable[bytes]) -> list[bytes]:
    """The small ones among *inputs* that together take every step the others take."""
    chosen: list[bytes] = []
    seen: set[Arc] = set()
    small = {data for data in inputs if len(data) <= LARGEST_KEPT}
    for data in sorted(small, key=lambda data: (len(data), data)):
        arcs = arcs_of(lambda data=data: target.run(data, Meter()))  # type: ignore[misc]
        if not arcs <= seen:
            seen |= arcs
            chosen.append(data)
    return chosen


def keep(target: Target, inputs: Iterable[bytes]) -> tuple[int, int]:
    """Make *inputs* and what was kept before the kept corpus; return its files and bytes."""
    chosen = minimised(target, [*kept(target.name), *inputs])
    folder = KEPT / target.name
    folder.mkdir(parents=True, exist_ok=True)
    names = {hashlib.sha256(data).hexdigest()[:16]: data for data in chosen}
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()
    for name, data in names.items():
        (folder / name).write_bytes(data)
    return len(chosen), sum(map(len, chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The most that one step of an input took: seconds of CPU, bytes."""

    cpu: float
    memory: int

    @property
    def too_much(self) -> bool:
        return self.cpu > MOST_CPU or self.memory > MOST_MEMORY

    def __str__(self) -> str:
        return f"{self.cpu * 1000:.2f} ms of CPU, {self.memory / 2**20:.1f} MiB"


def cpu_of(target: Target, data: bytes, *, looks: int = LOOKS) -> float:
    """Return the seconds of the step of *data* that takes longest, without tracing of edges.

    Of each step the least of *looks* runs counts; one run is enough when all is cheap.
    """
    least: list[float] = []
    collecting = gc.isenabled()
    gc.disable()  # a collection is no step's own
    try:
        for _ in range(looks):
            meter = Meter()
            target.run(data, meter)
            least = list(map(min, least, meter.times)) if least else meter.times
            if max(least, default=0.0) <= MOST_CPU:
                break
    finally:
        if collecting:
            gc.enable()
    return max(least, default=0.0)


def growth_of(target: Target, inputs: Sequence[bytes]) -> int:
    """Return the bytes that stay for each further round of *inputs*, after a warm-up.

    The least of several rounds: what is kept once is no growth.
    """
    sizes: list[int] = []
    tracemalloc.start()
    try:
        for _ in range(WARM_UP + ROUNDS):
            for data in inputs:
                with suppress(Exception):  # an escape is a finding of its own
                    target.run(data, Meter())
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    flat = sizes[WARM_UP - 1 :]
    return max(0, min(later - earlier for earlier, later in pairwise(flat)))


def cost_of(target: Target, data: bytes) -> Cost:
    """What *data* costs without any tracing of edges: see `cpu_of`, and the memory at once."""
    cpu = cpu_of(target, data)
    hungry = Meter()
    tracemalloc.start()
    try:
        target.run(data, hungry)
    finally:
        tracemalloc.stop()
    return Cost(cpu=cpu, memory=hungry.hungriest)

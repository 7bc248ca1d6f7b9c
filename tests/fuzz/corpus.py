"""The kept corpus: which inputs are worth keeping, and what each of them costs.

An input is kept when it runs a line after another line that no smaller kept input runs in
that order. `tests/fuzz/corpus/README.md` says where they come from.
"""

from __future__ import annotations

import hashlib
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.fuzz.target import MOST_CPU, MOST_MEMORY, Meter, Target

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).parent / "corpus"
CORES = tuple(str(ROOT / part) + "/" for part in ("bridge/sip", "bridge/trunk", "sdp", "rtp"))
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
        return f"{self.cpu * 1000:.1f} ms of CPU, {self.memory / 2**20:.1f} MiB"


def cost_of(target: Target, data: bytes) -> Cost:
    """What *data* costs without any tracing of edges: the best of three runs."""
    meters = [Meter() for _ in range(3)]
    for meter in meters:
        target.run(data, meter)
        if meter.slowest <= MOST_CPU:
            break
    hungry = Meter()
    tracemalloc.start()
    try:
        target.run(data, hungry)
    finally:
        tracemalloc.stop()
    return Cost(cpu=min(meter.slowest for meter in meters if meter.steps), memory=hungry.hungriest)

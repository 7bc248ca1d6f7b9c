"""One block: an arm with so many calls, warmed up, then counted for some seconds."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.engines import figures, machine
from bench.engines.tools import Answer, Tool

GATE_GAP = 5.0  # ms, p99 of |gap - 20 ms| towards the phones
GATE_CORE = 0.80  # of the measured core
OWN = 1.0  # ms, p99 of our own lateness; above it we were the bottleneck
PACKETS = 50  # a second


@dataclass(kw_only=True)
class Running:
    """An arm with its calls up and both loads running."""

    calls: int
    phones: Tool
    far: Tool
    measured: Sequence[int]  # processes
    beside: Sequence[int] = ()  # servers whose use is shown, not counted
    passes: bool = False  # payloads arrive untouched, so stamps tell the delay
    control: Tool | None = None  # the measured process, where it takes orders
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one block showed. Times in ms, processor time in us per 20 ms and call."""

    arm: str
    calls: int
    seconds: float
    cpu_us: float
    core: float  # part of one core
    gap: dict[str, Any]  # towards the phones
    lost_to_phone: int
    lost_to_room: int
    silent: int
    own: dict[str, float]  # p99 of our own lateness
    up: list[float]  # phone to room
    down: list[float]  # room to phone
    load_core: float  # part of a core that our loads used
    beside_core: float
    stolen: float  # part of all cores
    others_core: float
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether the load was on time: else nothing is said of who was measured."""
        return all(late < OWN for late in self.own.values())

    @property
    def passed(self) -> bool:
        """Whether the gate of the capacity search holds."""
        return (
            self.lost_to_phone + self.lost_to_room + self.silent == 0
            and self.gap["p99"] <= GATE_GAP
            and self.core <= GATE_CORE
        )

    @property
    def why(self) -> str:
        """Say what failed."""
        found = []
        if self.lost_to_phone or self.lost_to_room or self.silent:
            lost = f"lost {self.lost_to_room} up, {self.lost_to_phone} down"
            found.append(f"{lost}, {self.silent} silent")
        if self.gap["p99"] > GATE_GAP:
            found.append(f"p99 {self.gap['p99']:.1f} ms")
        if self.core > GATE_CORE:
            found.append(f"{100 * self.core:.0f} % of the core")
        return "; ".join(found) or "passed"


async def measure(
    name: str,
    running: Running,
    *,
    warm: float,
    seconds: float,
    during: Callable[[], Awaitable[None]] | None = None,
) -> Sample:
    """Count what *running* does for *seconds*, after *warm*; *during* is done meanwhile."""
    await asyncio.sleep(warm)
    loads = [running.phones.pid, running.far.pid]
    running.phones.order("zero")
    running.far.order("zero")
    before = (machine.cpu(running.measured), machine.cpu(loads), machine.cpu(running.beside))
    busy, since = machine.Busy.now(), time.monotonic()
    if during is not None:
        await during()
    await asyncio.sleep(max(0.0, since + seconds - time.monotonic()))
    used = [
        late - early
        for late, early in zip(
            (machine.cpu(running.measured), machine.cpu(loads), machine.cpu(running.beside)),
            before,
            strict=True,
        )
    ]
    took = time.monotonic() - since
    after = machine.Busy.now()
    phones, far = await running.phones.ask("stats"), await running.far.ask("stats")
    return Sample(
        arm=name,
        calls=running.calls,
        seconds=round(took, 3),
        cpu_us=1e6 * used[0] / took / PACKETS / running.calls,
        core=used[0] / took,
        gap=phones["gap"],
        lost_to_phone=_lost(phones, took, running.calls),
        lost_to_room=_lost(far, took, running.calls),
        silent=phones["silent"] + far["silent"],
        own={"phones": phones["own"]["p99"], "room": far["own"]["p99"]},
        up=_delays(phones, far, passes=running.passes),
        down=[1000 * delay for delay in figures.delays(far["marks"], phones["heard"])],
        load_core=used[1] / took,
        beside_core=used[2] / took,
        stolen=(after.stolen - busy.stolen) / took / (os.cpu_count() or 1),
        others_core=max(0.0, after.used - busy.used - sum(used)) / took,
        notes={
            **running.notes,
            "memory_mb": machine.memory(running.measured),
            "threads": machine.threads(running.measured),
        },
    )


def _lost(told: Answer, seconds: float, calls: int) -> int:
    """By sequence numbers, and what is missing without a gap in them (a stream that stood still).

    A packet or two of each stream are on their way at both ends of the time.
    """
    missing = int(seconds * PACKETS * calls) - int(told["received"]) - 3 * calls
    return max(int(told["lost"]), missing, 0)


def _delays(phones: Answer, far: Answer, *, passes: bool) -> list[float]:
    """Return p50 and p99 by stamps, or each marker's delay."""
    if passes and far["delay"]["n"]:
        return list(far["delay"]["curve"])
    return [1000 * delay for delay in figures.delays(phones["marks"], far["heard"])]

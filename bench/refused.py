"""2,000 INVITEs a second that are refused, on one TCP connection, the daemon on one core.

Two refusals: ``404`` for a number without a route, each with its record in the journal and
its log line; ``503`` over the rate of the source, without a record. From the writing of an
INVITE to its final answer as read; every answer is acknowledged. Interleaved, round by
round, with the floor: an event loop that frames the same bytes and writes one fixed answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf
from pathlib import Path

from bench import local
from bench.caller import Caller, Tally
from bench.table import Row, percentile, row
from bench.usage import cpu_seconds

FLOOR = "framing and a fixed answer"
ROUTES = [{"number": "+914440009999", "answer": "now"}]
UNLIMITED = {"rate": 1e6, "burst": 1e6}
OVER = {"rate": 0.001, "burst": 1}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured: INVITEs a second, seconds of a round, rounds."""

    rate: float = 2000.0
    seconds: float = 3.0
    rounds: int = 5


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Return the rows of this bench."""
    rows: list[Row] = []
    for name, limits in (("404, with a record", UNLIMITED), ("503, over the rate", OVER)):
        rows += _one(folder / name[:3], name, limits, scale)
    return rows


def _one(folder: Path, name: str, limits: dict[str, float], scale: Scale) -> list[Row]:
    status = int(name[:3])
    with (
        local.bridge(folder, trunk={}, routes=ROUTES, options=limits) as (port, pid),
        local.echo(status) as (floor_port, floor_pid),
        local.elsewhere(),
    ):
        caller, floor = Caller(port, "refused"), Caller(floor_port, "floor")
        for warm in (caller, floor):
            warm.run(scale.rate / 4, 1.0)
        ours, bare = Sum(), Sum()
        for _ in range(scale.rounds):
            ours.add(caller, pid, scale.rate, scale.seconds)
            bare.add(floor, floor_pid, scale.rate, scale.seconds)
        print(
            f"{name}: answers {ours.finals}, none {ours.unanswered};"
            f" the daemon used {ours.share:.0f} % of its core, the floor {bare.share:.0f} %;"
            f" the caller was late by p99 {percentile(ours.late, 0.99) * 1000:.2f} ms;"
            f" {local.load()}"
        )
        caller.close()
        floor.close()
    floor_name = f"{FLOOR} ({status})"
    beside = f"{scale.rate:g} INVITEs/s, {scale.rounds} rounds of {scale.seconds:g} s"
    return [
        row(f"INVITE -> {name}", ours.latency, beside=beside, floor=floor_name),
        row(floor_name, bare.latency, beside=f"{beside} between them"),
    ]


class Sum:
    """All rounds of one side."""

    def __init__(self) -> None:
        self.latency: list[float] = []
        self.late: list[float] = []
        self.finals: dict[int, int] = {}
        self.byes: dict[int, int] = {}
        self.unanswered = 0
        self._cpu = 0.0
        self._seconds = 0.0

    def add(
        self, caller: Caller, pid: int, rate: float, seconds: float, *, hold: float = inf
    ) -> None:
        """Run one round against the process *pid*."""
        before, since = cpu_seconds(pid), time.monotonic()
        tally: Tally = caller.run(rate, seconds, hold=hold)
        self._cpu += cpu_seconds(pid) - before
        self._seconds += time.monotonic() - since
        self.latency += tally.of()
        self.late += tally.late
        self.unanswered += tally.unanswered
        for status, count in tally.byes.items():
            self.byes[status] = self.byes.get(status, 0) + count
        for status, count in tally.finals().items():
            self.finals[status] = self.finals.get(status, 0) + count

    @property
    def share(self) -> float:
        """Percent of one core."""
        return 100 * self._cpu / self._seconds

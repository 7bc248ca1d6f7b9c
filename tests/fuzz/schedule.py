"""Who fuzzes what for how long: worker processes, one at a time on each core."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.corpus import KEPT, ROOT
from tests.fuzz.target import Target

CACHE = ROOT / ".cache" / "fuzz"
CRASHES = CACHE / "crashes"
GRACE_S = 120.0  # beyond its time, for a worker that reads its corpus on a busy machine
DONE = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
PEAK = re.compile(r"stat::peak_rss_mb:\s*(\d+)")
EDGES = re.compile(r"cov: (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where a target's inputs are: ``finds`` of all runs, its ``seeds``, and the ``kept``."""

    finds: Path
    seeds: Path
    kept: Path


def folders(name: str) -> Folders:
    return Folders(finds=CACHE / name, seeds=CACHE / "seeds" / name, kept=KEPT / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call of the command. ``started``: wall time."""

    started: float

    def artifacts(self) -> list[Path]:
        """What this run wrote of its findings."""
        new = (path for path in CRASHES.glob("*") if path.stat().st_mtime >= self.started)
        return sorted(new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A target on a core for a while."""

    target: str
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a slice. ``rss``: MB; ``status``: of the process."""

    target: str
    seconds: int
    runs: int
    edges: int
    rss: int
    status: int
    log: Path


def plan(targets: Sequence[Target], seconds: float, cores: int) -> list[list[Slice]]:
    """Return what each core does: every target by its share, each core beginning elsewhere."""
    shares = sum(target.share for target in targets)
    slices = [
        Slice(target=target.name, seconds=max(1, round(seconds * target.share / shares)))
        for target in targets
    ]
    starts = [len(slices) * core // cores for core in range(cores)]
    return [slices[start:] + slices[:start] for start in starts]


def run_slice(piece: Slice, seed: int) -> Result:
    where = folders(piece.target)
    job = {
        "target": piece.target,
        "seconds": piece.seconds,
        "seed": seed,
        "finds": str(where.finds),
        "seeds": str(where.seeds),
        "kept": str(where.kept),
        "crashes": str(CRASHES),
    }
    log = CACHE / "logs" / f"{piece.target}-{seed}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", json.dumps(job)],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        try:
            status = process.wait(piece.seconds + GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
    text = log.read_text(errors="replace")
    return Result(
        target=piece.target,
        seconds=piece.seconds,
        runs=largest(DONE, text),
        edges=largest(EDGES, text),
        rss=largest(PEAK, text),
        status=status,
        log=log,
    )


def largest(pattern: re.Pattern[str], text: str) -> int:
    return max(map(int, pattern.findall(text)), default=0)


def run_all(cores: list[list[Slice]], seed: int, say: Callable[[str], None]) -> list[Result]:
    """Run the plan, one worker process on each core at a time."""

    def run_core(number: int) -> list[Result]:
        results = []
        for piece in cores[number]:
            result = run_slice(piece, seed * len(cores) + number)
            say(
                f"core {number}: {piece.target} {piece.seconds} s, {result.runs:,} runs,"
                f" {result.edges:,} edges, {result.rss} MB"
            )
            results.append(result)
        return results

    with ThreadPoolExecutor(len(cores)) as pool:
        return [result for results in pool.map(run_core, range(len(cores))) for result in results]

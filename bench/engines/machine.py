"""What ran, on what, how busy it was, and what a process tree used of it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.engines.tools import ROOT
from bench.usage import busy_seconds, cpu_seconds

TICK = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return *pid* and all processes below it."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = thread.read_text().split()
        except OSError:
            continue
        for child in children:
            found += tree(int(child))
    return found


def cpu(pids: Iterable[int]) -> float:
    """Return the processor seconds (``utime + stime``) of the trees of *pids* so far."""
    return sum(_seconds(pid) for root in pids for pid in tree(root))


def _seconds(pid: int) -> float:
    """``utime + stime`` are cut to 10 ms; the scheduler's exact sums forget dead threads."""
    told = cpu_seconds(pid)
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        exact = sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9
    except (OSError, IndexError, ValueError):
        return told
    return max(told, exact)


def memory(pids: Iterable[int]) -> float:
    """Return the resident megabytes of the trees of *pids*."""
    pages = 0
    for root in pids:
        for pid in tree(root):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def threads(pids: Iterable[int]) -> int:
    """Return how many threads the trees of *pids* have."""
    return sum(len(os.listdir(f"/proc/{pid}/task")) for root in pids for pid in tree(root))


def descriptors(pids: Iterable[int]) -> int:
    """Return how many descriptors the trees of *pids* have open."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for root in pids for pid in tree(root))


def pin(pid: int, cores: set[int]) -> None:
    """Have all threads of *pid* run on *cores* only."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cores)


@dataclass(frozen=True, kw_only=True)
class Busy:
    """Seconds of all cores: used, and stolen by the host."""

    used: float
    stolen: float

    @classmethod
    def now(cls) -> Busy:
        """Read both."""
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
        return cls(used=busy_seconds(), stolen=int(fields[8]) / TICK)


def facts() -> dict[str, Any]:
    """Return what has to stand beside every figure."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "commit": commit or "unknown",
        "cpu": model[0] if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("livekit", "trunkbridge-native", "uvloop")},
        "load_before": round(os.getloadavg()[0], 2),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"

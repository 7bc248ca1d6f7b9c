"""Who used how much of the processor while something was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Usage:
    """Processor time of named groups of processes, and of all else of the machine."""

    def __init__(self, groups: Mapping[str, list[int]]) -> None:
        self._groups = groups
        self._since = time.monotonic()
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        used = {name: sum(map(cpu_seconds, pids)) for name, pids in self._groups.items()}
        return {**used, "the machine": busy_seconds()}

    def report(self) -> str:
        """Return one line: percent of a core since the start."""
        seconds = time.monotonic() - self._since
        after = self._now()
        shares = {name: after[name] - self._before[name] for name in after}
        ours = sum(used for name, used in shares.items() if name != "the machine")
        shares["others"] = max(0.0, shares.pop("the machine") - ours)
        told = ", ".join(f"{name} {100 * used / seconds:.0f} %" for name, used in shares.items())
        return f"of {os.cpu_count()} cores, {100}% = one: {told}"


def busy_seconds() -> float:
    """Return the processor time that all processes of the machine used, on all cores."""
    fields = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle, waiting = fields[3], fields[4]
    return (sum(fields) - idle - waiting) / os.sysconf("SC_CLK_TCK")

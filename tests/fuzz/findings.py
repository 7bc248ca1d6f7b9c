"""What a worker finds, written down at once: an escape, or an input that may be dear."""

from __future__ import annotations

import hashlib
import heapq
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.target import Meter, Target

SUSPECT = 0.002  # seconds of CPU with the tracing that counts edges; looked at without it later
MOST_SUSPECTS = 40  # the slowest


def place_of(error: BaseException) -> str:
    """Where an error comes from: one finding for each."""
    frames = traceback.extract_tb(error.__traceback__)
    return ">".join(f"{Path(frame.filename).name}:{frame.name}" for frame in frames[-2:])


class Findings:
    """What was found, written into *folder* when it is found."""

    def __init__(self, target: str, folder: Path) -> None:
        self.target = target
        self.folder = folder
        self.known: set[str] = set()
        self.suspects: list[tuple[float, Path]] = []  # a heap, the least slow first

    def escaped(self, data: bytes, error: BaseException) -> None:
        key = f"{type(error).__name__} {place_of(error)}"
        if key in self.known:
            return
        self.known.add(key)
        path = self.write("crash", data)
        lines = "".join(traceback.format_exception(error))
        path.with_suffix(".txt").write_text(f"{key}\n{lines}")

    def slow(self, data: bytes, seconds: float) -> None:
        if len(self.suspects) == MOST_SUSPECTS and seconds <= self.suspects[0][0]:
            return
        heapq.heappush(self.suspects, (seconds, self.write("slow", data)))
        if len(self.suspects) > MOST_SUSPECTS:
            least = heapq.heappop(self.suspects)[1]
            if all(path != least for _, path in self.suspects):
                least.unlink(missing_ok=True)

    def write(self, kind: str, data: bytes) -> Path:
        digest = hashlib.sha256(data).hexdigest()[:16]
        path = self.folder / f"{self.target}-{kind}-{digest}"
        path.write_bytes(data)
        return path


def one_input(target: Target, findings: Findings) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        meter = Meter()
        try:
            target.run(data, meter)
        except Exception as error:
            findings.escaped(data, error)
        if meter.slowest > SUSPECT:
            findings.slow(data, meter.slowest)

    return run

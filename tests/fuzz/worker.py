"""One process that fuzzes one target for a while: ``python -m tests.fuzz.worker``.

Whatever escapes is written down once for each place it comes from, and fuzzing goes on;
libFuzzer ends the process for an input that never comes back or takes too much memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import atheris

CORES = ["bridge.sip", "bridge.room.mix", "bridge.trunk.numbers", "sdp", "rtp"]
SUSPECT = 0.100  # seconds of CPU with the tracing that counts edges; looked at without it later
MOST_SUSPECTS = 20
RSS_LIMIT_MB = 700
HANG_S = 60  # of wall time, on a machine that may be busy

with atheris.instrument_imports(include=CORES):
    from tests.fuzz.target import Meter, Target
    from tests.fuzz.targets.registry import TARGETS


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
        self.suspects = 0

    def escaped(self, data: bytes, error: BaseException) -> None:
        key = f"{type(error).__name__} {place_of(error)}"
        if key in self.known:
            return
        self.known.add(key)
        path = self.write("crash", data)
        lines = "".join(traceback.format_exception(error))
        path.with_suffix(".txt").write_text(f"{key}\n{lines}")

    def slow(self, data: bytes) -> None:
        if self.suspects < MOST_SUSPECTS:
            self.suspects += 1
            self.write("slow", data)

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
            findings.slow(data)

    return run


def write_dictionary(path: Path, words: tuple[bytes, ...]) -> None:
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in words if 0 < len(word) < 60)
    path.write_text("".join(f'"{word}"\n' for word in dict.fromkeys(quoted)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", help="JSON: target, seconds, seed, finds, kept, seeds, crashes")
    job = json.loads(parser.parse_args().job)
    target = TARGETS[job["target"]]
    finds, seeds, crashes = Path(job["finds"]), Path(job["seeds"]), Path(job["crashes"])
    for folder in (finds, seeds, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / f"{number:04}").write_bytes(seed)
    dictionary = seeds.with_suffix(".dict")
    write_dictionary(dictionary, tuple(target.dictionary))
    options = [
        f"-max_total_time={job['seconds']}",
        f"-seed={job['seed']}",
        f"-max_len={target.longest}",
        f"-rss_limit_mb={RSS_LIMIT_MB}",
        f"-timeout={HANG_S}",
        f"-artifact_prefix={crashes}/{target.name}-",
        "-print_final_stats=1",
        *([f"-dict={dictionary}"] if target.dictionary else []),
    ]
    folders = [str(folder) for folder in (finds, Path(job["kept"]), seeds) if folder.is_dir()]
    findings = Findings(target.name, crashes)
    atheris.Setup([sys.argv[0], *options, *folders], one_input(target, findings))
    atheris.Fuzz()


if __name__ == "__main__":
    main()

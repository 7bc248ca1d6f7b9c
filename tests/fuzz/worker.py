"""One process that fuzzes one target for a while: ``python -m tests.fuzz.worker``.

Whatever escapes is written down once for each place it comes from, and fuzzing goes on;
libFuzzer ends the process for an input that never comes back or takes too much memory.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import atheris

CORES = [
    "bridge.sip",
    "bridge.room.mix",
    "bridge.room.signal",
    "bridge.trunk.numbers",
    "sdp",
    "rtp",
]
RSS_LIMIT_MB = 700
HANG_S = 60  # of wall time, on a machine that may be busy

with atheris.instrument_imports(include=CORES):
    from tests.fuzz.findings import Findings, one_input
    from tests.fuzz.targets.registry import TARGETS


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

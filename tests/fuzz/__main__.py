"""``make fuzz MINUTES=``: coverage-guided fuzzing of the pure cores, without a network.

Each core of the machine runs every target for its share of the minutes. Exit status 1 when
anything escaped, an oracle was not met, or an input cost too much; each finding is a file
and a command that repeats it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from pathlib import Path

from tests.fuzz.corpus import MOST_GROWTH, ROOT, Cost, cost_of, growth_of, keep, kept
from tests.fuzz.schedule import Result, Run, folders, plan, run_all
from tests.fuzz.target import Meter, Target
from tests.fuzz.targets.registry import TARGETS

PYTHON = Path(sys.executable)
MOST_PRICED = 400  # finds of a target whose cost is measured afterwards
MOST_REPEATED = 150  # inputs of a target that are run again and again for what stays


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def target_of(path: Path) -> Target:
    """The target that a file in the crash folder or in a corpus belongs to."""
    named = [name for name in TARGETS if path.name.startswith(f"{name}-crash")]
    named += [name for name in TARGETS if path.name.startswith(f"{name}-")]
    named += [part for part in reversed(path.parts[:-1]) if part in TARGETS]
    if not named:
        raise SystemExit(f"whose input is {path.name}? say --targets NAME")
    return TARGETS[named[0]]


def replay(path: Path, target: Target) -> int:
    """Run one input; return 1 when it still does what it was kept for."""
    data = path.read_bytes()
    try:
        target.run(data, Meter())
    except Exception:
        say(traceback.format_exc())
        return 1
    cost = cost_of(target, data)
    say(f"{path.name}: {cost}{' - too much' if cost.too_much else ''}")
    return int(cost.too_much)


def priced(target: Target, run: Run) -> tuple[list[str], Cost]:
    """What the new finds and suspects of *target* cost where it is too much; and the most."""
    found = folders(target.name).finds
    new = [path for path in found.glob("*") if path.stat().st_mtime >= run.started]
    new.sort(key=lambda path: path.stat().st_size, reverse=True)
    suspects = [path for path in run.artifacts() if path.name.startswith(f"{target.name}-slow")]
    dear = []
    most = Cost(cpu=0.0, memory=0)
    for path in [*suspects, *new[:MOST_PRICED]]:
        try:
            cost = cost_of(target, path.read_bytes())
        except Exception:
            continue  # an escape: a finding of its own
        most = Cost(cpu=max(most.cpu, cost.cpu), memory=max(most.memory, cost.memory))
        if cost.too_much:
            dear.append(f"{target.name}: {cost}\n    {repeat(path)}")
        elif path in suspects:
            path.unlink()
    return dear, most


def growing(target: Target, run: Run) -> tuple[list[str], int]:
    """Whether something stays of inputs of *target* that come again; and how many bytes."""
    found = folders(target.name).finds
    new = [path for path in found.glob("*") if path.stat().st_mtime >= run.started]
    new.sort(key=lambda path: path.stat().st_mtime)
    inputs = [path.read_bytes() for path in new[-MOST_REPEATED:]]
    inputs += kept(target.name)[: MOST_REPEATED - len(inputs)]
    grown = growth_of(target, inputs)
    if grown <= MOST_GROWTH:
        return [], grown
    return [f"{target.name}: {grown} bytes stay of each round of {len(inputs)} inputs"], grown


def repeat(path: Path) -> str:
    """The command that runs one input again, from the project's root."""
    python, shown = (p.relative_to(ROOT) if p.is_relative_to(ROOT) else p for p in (PYTHON, path))
    return f"{python} -m tests.fuzz --replay {shown}"


def conclude(run: Run, results: list[Result], names: list[str]) -> int:
    """Print what was found; return the exit status."""
    costs = {name: priced(TARGETS[name], run) for name in names}
    growths = {name: growing(TARGETS[name], run) for name in names}
    findings = [line for name in names for line in (*costs[name][0], *growths[name][0])]
    for path in run.artifacts():
        if path.suffix != ".txt" and "-slow" not in path.name:
            note = path.with_suffix(".txt")
            text = note.read_text().strip() if note.exists() else "never came back, or too large"
            findings.append(f"{path.name}: {text}\n    {repeat(path)}")
    findings += [
        f"{result.target}: the worker ended with {result.status}, see {result.log}"
        for result in results
        if result.status != 0
    ]
    for name in names:
        mine = [result for result in results if result.target == name]
        runs, seconds = sum(r.runs for r in mine), sum(r.seconds for r in mine)
        say(
            f"{name:<14}{runs:>12,} runs {runs / max(seconds, 1):>8,.0f}/s"
            f"  {max(r.edges for r in mine):>6,} edges  {max(r.rss for r in mine):>4} MB"
            f"  slowest {costs[name][1].cpu * 1000:.2f} ms  growth {growths[name][1]:,} B"
        )
    say(f"{sum(r.runs for r in results):,} runs, {len(findings)} findings")
    for finding in findings:
        say(f"FOUND {finding}")
    return 1 if findings else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="on each core")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="cores")
    parser.add_argument("--targets", default=",".join(TARGETS), help="comma-separated")
    parser.add_argument("--seed", type=int, default=0, help="0: a new one each time")
    parser.add_argument("--keep", action="store_true", help="merge the finds into the corpus")
    parser.add_argument("--replay", type=Path, help="run this input once and say what happens")
    options = parser.parse_args()
    names = options.targets.split(",")
    unknown = set(names) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if options.replay is not None:
        one = TARGETS[names[0]] if len(names) == 1 else target_of(options.replay)
        return replay(options.replay, one)
    if options.keep and options.minutes <= 0:
        return merge(names)
    run = Run(started=time.time())
    seed = options.seed or int(run.started)
    jobs = plan([TARGETS[name] for name in names], options.minutes * 60, options.jobs)
    say(
        f"{len(names)} targets, {options.minutes:g} min on each of {options.jobs} cores,"
        f" seed {seed}"
    )
    results = run_all(jobs, seed, say)
    status = conclude(run, results, names)
    if options.keep:
        merge(names)
    return status


def merge(names: list[str]) -> int:
    """Minimise what was kept, the seeds and all finds into the kept corpus."""
    for name in names:
        target = TARGETS[name]
        found = [path.read_bytes() for path in folders(name).finds.glob("*")]
        good = [data for data in [*target.seeds(), *found] if passes(target, data)]
        files, size = keep(target, good)
        say(f"{name:<14}{files:>6} files {size:>9,} bytes kept of {len(found)} finds")
    return 0


def passes(target: Target, data: bytes) -> bool:
    try:
        target.run(data, Meter())
    except Exception:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())

"""Minutes at a steady load: whether the media core stays what it was.

This engine with the stand-in SFU, as many calls as use `SHARE` of a core, and a line for each
minute: processor time, pacing, what was lost, memory, threads and descriptors. While they last,
other calls come and go, for a core that only ever holds the same calls cannot leak any.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bench.engines import at_standin, sound, tools
from bench.engines.arms import Setting
from bench.engines.block import PACKETS, Running, Sample, measure
from bench.engines.machine import descriptors

SHARE = 0.70  # of a core
GUESS = 100  # calls of the block that tells what one costs
COMING = (100, 5.0, 2.0)  # calls of each minute that come and go: how many, a second, lasting s


async def run(folder: Path, minutes: int) -> bool:
    """Measure, print a line a minute; whether all of it was flat."""
    setting = Setting(sound=sound.make(folder), folder=folder)
    async with at_standin.DIRECT.up(setting, GUESS) as running:
        cost = (await measure("cost", running, warm=3.0, seconds=10.0)).cpu_us
    calls = int(SHARE * 1e6 / PACKETS / cost)
    print(f"{cost:.1f} us a call and 20 ms: {calls} calls for {100 * SHARE:.0f} % of a core")
    async with at_standin.DIRECT.up(setting, calls) as running:
        found = []
        for minute in range(1, minutes + 1):
            found.append(await _minute(running, warm=3.0 if minute == 1 else 0.0))
            print(_line(minute, found[-1]), flush=True)
    return _flat(found)


async def _minute(running: Running, warm: float) -> Sample:
    async def coming_and_going() -> None:
        count, rate, lasting = COMING
        assert running.control is not None
        running.control.order(f"join {count} {rate} {lasting}")
        await running.control.answer(60.0)

    sample = await measure("steady", running, warm=warm, seconds=60.0, during=coming_and_going)
    sample.notes["descriptors"] = float(descriptors(running.measured))
    return sample


def _line(minute: int, found: Sample) -> str:
    gap, notes = found.gap, found.notes
    return (
        f"minute {minute:3d}: {100 * found.core:3.0f} % of the core, {found.cpu_us:5.1f} us,"
        f" |gap - 20 ms| p50 {gap['p50']:.2f} p99 {gap['p99']:.2f} max {gap['max']:.2f} ms,"
        f" lost {found.lost_to_phone} down {found.lost_to_room} up, {found.silent} silent,"
        f" {notes['memory_mb']:.1f} MB, {notes['threads']:.0f} threads,"
        f" {notes['descriptors']:.0f} descriptors{'' if found.valid else ', LOAD LATE'}"
    )


def _flat(found: list[Sample]) -> bool:
    first, last = found[0], found[-1]
    lost = sum(one.lost_to_phone + one.lost_to_room + one.silent for one in found)
    grown = last.notes["memory_mb"] - first.notes["memory_mb"]
    more = {name: last.notes[name] - first.notes[name] for name in ("threads", "descriptors")}
    late = max(one.gap["p99"] for one in found)
    print(
        f"{len(found)} minutes with {first.calls} calls: lost {lost}, worst p99 {late:.2f} ms,"
        f" {last.cpu_us / first.cpu_us:.2f} times the processor time of the first minute,"
        f" {grown:+.1f} MB, {more['threads']:+.0f} threads, {more['descriptors']:+.0f} descriptors"
    )
    return lost == 0 and not any(more.values())


async def main(minutes: int) -> int:
    """Exit status 0 when nothing was lost and nothing was left over."""
    os.sched_setaffinity(0, tools.LOAD)
    os.environ["PYTHONPATH"] = tools.python_path()
    with tempfile.TemporaryDirectory(prefix="trunkbridge-bench-") as folder:
        try:
            tools.build()
        except tools.NoTools as lacking:
            print(f"steady: {lacking}")
            return 1
        return 0 if await run(Path(folder), minutes) else 1

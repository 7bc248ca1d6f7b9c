"""What the journal before the publishing adds to ``call_hold``, with 20 calls.

Hold by hold, in the order ABBA, on the same daemon and the same calls: as it is, and with the
write of this one event left out (`bench.opened`). What is added is the difference of the
arms; what the write itself takes is measured inside, in the same run.
"""

from __future__ import annotations

import asyncio
import os
import random

from bench.calls import Calls, Holder, flip, running
from bench.table import Row, percentile, row
from bench.usage import Usage
from tests.system.harness import Desk

CALLS = 20
AGENTS = 5
FLIPS = 2.0  # seconds between the holds of each other call
ORDER = (True, False, False, True)
TARGET = {0.5: 1.0, 0.99: 5.0}  # ms that may be added
DRAWS = 2000
FIRST = "call_hold, journal first"
CONTROL = "call_hold, not written"
INSIDE = "the write, until it is safe"


async def measure(desk: Desk, holds: int, servers: list[int]) -> list[Row]:
    """Return the rows of this bench."""
    async with running(desk, calls=CALLS, agents=AGENTS) as calls:
        usage = Usage(
            {
                "bridge": [calls.bridge.pid],
                "livekit-server": servers,
                "carrier and bench": [os.getpid()],
                f"{AGENTS} agents": [calls.agents.pid],
            }
        )
        arms = await _holds(calls, holds)
        print(f"{usage.report()}; load average {os.getloadavg()[0]:.1f}")
        await calls.bridge.ask("journal on")
        taken = await calls.bridge.ask("taken")
    _say(arms)
    beside = f"{CALLS} calls with audio, {AGENTS} with agents; a hold of another every 0.13 s"
    return [
        row(FIRST, arms[True], beside=beside, floor=CONTROL),
        row(CONTROL, arms[False], beside="same run, hold by hold, ABBA"),
        row(INSIDE, [whole for _, whole in taken], beside="inside, all holds of the run"),
        row(
            "of that, on the loop's thread",
            [held_up for held_up, _ in taken],
            beside="inside, all holds of the run",
        ),
    ]


async def _holds(calls: Calls, holds: int) -> dict[bool, list[float]]:
    arms: dict[bool, list[float]] = {True: [], False: []}
    flips = [asyncio.create_task(flip(leg, FLIPS)) for leg in calls.others]
    with Holder(calls) as holder:
        for count in range(holds):
            first = ORDER[count % len(ORDER)]
            await calls.bridge.ask(f"journal {'on' if first else 'off'}")
            arms[first].append(await holder.hold())
    for one in flips:
        one.cancel()
    for failure in await asyncio.gather(*flips, return_exceptions=True):
        if isinstance(failure, Exception):
            raise failure
    return arms


def _say(arms: dict[bool, list[float]]) -> None:
    chance = random.Random(1)
    for wanted, target in TARGET.items():
        added = _added(arms[True], arms[False], wanted)
        draws = sorted(
            _added(_again(chance, arms[True]), _again(chance, arms[False]), wanted)
            for _ in range(DRAWS)
        )
        low, high = draws[DRAWS // 40], draws[-DRAWS // 40]
        print(
            f"the journal adds {added:+.2f} ms to p{100 * wanted:g} of call_hold "
            f"(95 % of {DRAWS} draws: {low:+.2f} to {high:+.2f}); wanted <= {target:g}"
        )


def _again(chance: random.Random, values: list[float]) -> list[float]:
    return chance.choices(values, k=len(values))


def _added(first: list[float], control: list[float], wanted: float) -> float:
    return 1000 * (percentile(first, wanted) - percentile(control, wanted))

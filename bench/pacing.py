"""How evenly RTP leaves the bridge with ten calls at once, and what is lost on both ways.

The floor runs at the same time: a process that does nothing but send as many streams of the
same packets from a plain asyncio loop.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

from bench.table import Row, row
from bench.usage import cpu_seconds
from bridge.carrier.call import Leg
from bridge.carrier.heard import Heard
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Desk,
    RoomAgent,
    RtpPeer,
    agent_number,
    room_of,
)

CALLS = 10
SECONDS = 60.0
PTIME = 0.020
FLOOR = "plain asyncio loop"


async def measure(desk: Desk) -> list[Row]:
    """Return the rows of this bench."""
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    calls: list[tuple[Leg, RoomAgent]] = []
    for _ in range(CALLS):
        number = agent_number()
        agent = await desk.agent(room_of(number), rate=8000)
        leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
        await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
        if leg.report.failed is not None:
            raise RuntimeError(leg.report.failed)
        await agent.hears(CALLER_HERTZ)
        calls.append((leg, agent))
    peers = [await desk.sip_peer() for _ in range(CALLS)]
    floor = await _floor(peers)
    before = [await agent.counts() for _, agent in calls]
    used = cpu_seconds(bridge.pid)
    since = time.time()
    await asyncio.sleep(SECONDS)
    until = time.time()
    used = cpu_seconds(bridge.pid) - used
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"the daemon used {100 * used / (until - since):.0f} % of a core; {load}")
    after = [await agent.counts() for _, agent in calls]
    floor.kill()
    await floor.wait()
    heard = [leg.media.heard for leg, _ in calls]
    for leg, _ in calls:
        await leg.run("hangup")
    _report_losses(heard, before, after, until - since)
    beside = f"{CALLS} calls both ways for {SECONDS:g} s, {CALLS} floor streams at the same time"
    return [
        row(
            "|gap - 20 ms| of RTP from the bridge",
            deviations(heard, since, until),
            beside=beside,
            floor=f"|gap - 20 ms| of a {FLOOR}",
        ),
        row(
            f"|gap - 20 ms| of a {FLOOR}",
            deviations([peer.media.heard for peer in peers], since, until),
            beside=beside,
        ),
    ]


def deviations(streams: list[Heard], since: float, until: float) -> list[float]:
    """Return ``|gap - 20 ms|`` of neighbouring packets; arrival times are the kernel's."""
    found: list[float] = []
    for stream in streams:
        times = [at for at, *_ in stream._recorded if since <= at <= until]
        found += [abs(later - earlier - PTIME) for earlier, later in pairwise(times)]
    return found


def _report_losses(
    heard: list[Heard], before: list[dict[str, int]], after: list[dict[str, int]], seconds: float
) -> None:
    holes = sum(late["holes"] - early["holes"] for early, late in zip(before, after, strict=True))
    frames = sum(
        late["frames"] - early["frames"] for early, late in zip(before, after, strict=True)
    )
    print(f"towards the carrier: {sum(one.lost for one in heard)} packets lost")
    print(
        f"towards the room: {frames} of {round(CALLS * seconds / PTIME)} frames of 20 ms, "
        f"{holes} interruptions of the caller's tone"
    )


async def _floor(peers: list[RtpPeer]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("floor.py")),
        *(str(peer.port) for peer in peers),
    )

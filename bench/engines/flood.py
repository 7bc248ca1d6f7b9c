"""A whole daemon with calls at a real livekit-server, under 2,000 INVITEs a second.

The INVITEs are those of ``bench.refused``, on one TCP connection from another core. The daemon has
its own limits, so all but some are over the rate of their address: 503, the rest 404.
"""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path
from typing import Any

from bench.caller import Caller
from bench.engines import machine
from bench.engines.room import server
from bench.engines.tools import MEASURED
from bench.pacing import deviations
from bench.table import percentile
from tests.system.harness import (
    AGENT_HERTZ,
    STANDARD_ROUTES,
    AgentHost,
    Desk,
    agent_number,
    room_of,
)

CALLS = 5
RATE = 2000.0
ROUTES = [route for route in STANDARD_ROUTES if route["number"] != "*"]
"""The flood's number has none: what is within the limits is answered 404."""


async def measure(folder: Path, *, seconds: float) -> dict[str, Any]:
    """Return the pacing towards the carrier during the flood, and what came of the INVITEs."""
    place = folder / "flood"
    place.mkdir()
    with server() as (livekit, _):
        host = AgentHost(place / "agents.log")
        try:
            async with Desk(livekit, host, place) as desk:
                return await _measure(desk, seconds)
        finally:
            host.stop()


async def _measure(desk: Desk, seconds: float) -> dict[str, Any]:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, routes=ROUTES)
    bridge.expect_lag()
    machine.pin(bridge.pid, {MEASURED})
    legs = []
    for _ in range(CALLS):
        number = agent_number()
        await desk.agent(room_of(number), rate=8000)
        leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
        await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
        if leg.report.failed is not None:
            raise RuntimeError(leg.report.failed)
        legs.append(leg)
    heard = [leg.media.heard for leg in legs]
    caller = Caller(bridge.sip_port, "flood")
    quiet_from = time.time()
    await asyncio.sleep(seconds)
    quiet = deviations(heard, quiet_from, time.time())
    used, since = machine.cpu([bridge.pid]), time.time()
    tally = await asyncio.to_thread(caller.run, RATE, seconds)
    until = time.time()
    share = (machine.cpu([bridge.pid]) - used) / (until - since)
    gaps = deviations(heard, since, until)
    caller.close()
    for leg in legs:
        await leg.run("hangup")
    return {
        "gap": of(gaps),
        "quiet": of(quiet),
        "answers": tally.finals(),
        "unanswered": tally.unanswered,
        "caller_late_p99": 1000 * percentile(tally.late, 0.99),
        "rate": tally.sent / max(tally.seconds, 1e-9),
        "core": share,
        "calls": CALLS,
        "direct": any(line.event == "media.direct" for line in bridge.logs),
    }


def of(seconds: list[float]) -> dict[str, Any]:
    """Return the same as the native tools tell of many durations, in ms."""
    ordered = sorted(1000 * value for value in seconds)

    def at(part: float) -> float:
        if not ordered:
            return 0.0
        return round(ordered[max(0, math.ceil(part * len(ordered)) - 1)], 4)

    return {
        "n": len(ordered),
        "p50": at(0.5),
        "p99": at(0.99),
        "p999": at(0.999),
        "max": at(1.0),
        "curve": [at(percent / 100) for percent in range(101)],
    }

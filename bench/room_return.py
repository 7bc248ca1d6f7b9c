"""livekit-server SIGKILLed under running calls, gone for 3 s: from its return to audio.

The server is back when its HTTP port answers. The agents of before are gone; new ones watch
the port as the bridge does and join at once, as a worker's would that was told of the call.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from bench.table import Row, row
from bridge.carrier.call import Leg
from tests.system.conftest import PrivateLiveKit, started_server
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    AgentHost,
    Desk,
    RoomAgent,
    agent_number,
    answers,
    room_of,
)

CALLS = (1, 5)
ROUNDS = 3
GONE = 3.0  # seconds
PATIENCE = 20.0


async def measure() -> list[Row]:
    """Return the rows of this bench; its servers are its own, to be killed."""
    with tempfile.TemporaryDirectory(prefix="trunkbridge-bench-") as folder:
        host = AgentHost(Path(folder) / "agents.log")
        try:
            return await _measure(host)
        finally:
            host.stop()


async def _measure(host: AgentHost) -> list[Row]:
    rows: list[Row] = []
    for calls in CALLS:
        agent: list[float] = []
        carrier: list[float] = []
        gaps: list[float] = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory(prefix="trunkbridge-bench-") as folder:
                private = started_server(Path(folder))
                try:
                    async with Desk(private.server, host, Path(folder)) as desk:
                        one = await _round(desk, private, calls)
                finally:
                    private.stop()
                agent += one[0]
                carrier += one[1]
                gaps += one[2]
        beside = f"{calls} calls, server killed and {GONE:g} s gone, {ROUNDS} times"
        rows += [
            row("server back -> caller heard by an agent", agent, beside=beside),
            row("server back -> agent heard by the carrier", carrier, beside=beside),
            row("longest gap in RTP to the carrier", gaps, beside=beside),
        ]
    return rows


async def _round(
    desk: Desk, private: PrivateLiveKit, count: int
) -> tuple[list[float], list[float], list[float]]:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    bridge.expect_lag()
    calls: list[tuple[Leg, RoomAgent]] = []
    for _ in range(count):
        number = agent_number()
        agent = await desk.agent(room_of(number))
        leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
        await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
        await agent.hears(CALLER_HERTZ)
        calls.append((leg, agent))
    private.kill()
    killed_at = time.monotonic()
    await asyncio.gather(*(agent.leave() for _, agent in calls))
    returning = [desk.waiting_agent(agent.room, "agent") for _, agent in calls]
    joins = [asyncio.create_task(agent.join(when_up=True)) for agent in returning]
    await asyncio.sleep(max(0.0, killed_at + GONE - time.monotonic()))
    back = asyncio.create_task(_back(private.server.http_url))
    await asyncio.to_thread(private.start)
    back_at = await back
    ears = [asyncio.create_task(_heard_by_carrier(leg, back_at)) for leg, _ in calls]
    at_agent = [
        await agent.hears(CALLER_HERTZ, since=back_at, within=PATIENCE) - back_at
        for agent in returning
    ]
    at_carrier = [await ear - back_at for ear in ears]
    await asyncio.gather(*joins)
    gaps = [leg.media.report().longest_gap / 1000 for leg, _ in calls]
    for leg, _ in calls:
        await leg.run("hangup")
        if leg.report.failed is not None:
            raise RuntimeError(leg.report.failed)
    return at_agent, at_carrier, gaps


async def _back(url: str) -> float:
    while not await answers(url):  # noqa: ASYNC110 (another process)
        await asyncio.sleep(0.01)
    return time.monotonic()


async def _heard_by_carrier(leg: Leg, since: float) -> float:
    """Return when the agent's tone was there again: two packets of it, looked at every 10 ms."""
    deadline = since + PATIENCE
    while not leg.media.heard.sounding(time.time() - 0.1, AGENT_HERTZ, packets=2):
        if time.monotonic() > deadline:
            raise RuntimeError("the carrier hears no agent")
        await asyncio.sleep(0.01)
    return time.monotonic()

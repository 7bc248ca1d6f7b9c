"""From the last byte of a re-INVITE to ``call_hold`` at a stock SDK participant.

Interleaved, hold by hold, with the floor: a plain reliable data message from one stock
participant to another, each in a process of its own, through the same livekit-server.
"""

from __future__ import annotations

import asyncio
import random
import time

from bench.table import Row, row
from bridge.carrier.call import Leg
from bridge.carrier.wire import Stream
from tests.system.harness import (
    AGENT_HERTZ,
    AgentHost,
    Desk,
    RoomAgent,
    agent_number,
    room_of,
)

CALLS = 5
HOLDS = 250
FLOOR = "SDK data message, participant to participant"


class Written:
    """Remembers when the carrier had written the last byte of its last INVITE."""

    def __init__(self) -> None:
        self.at = 0.0
        self._send = Stream.send

    def __enter__(self) -> Written:
        written = self

        def send(stream: Stream, data: bytes) -> None:
            written._send(stream, data)
            if data.startswith(b"INVITE "):
                written.at = time.monotonic()

        Stream.send = send  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        Stream.send = self._send  # type: ignore[method-assign]


async def measure(desk: Desk, other: AgentHost) -> list[Row]:
    """Return the rows of this bench."""
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    calls: list[tuple[Leg, RoomAgent]] = []
    for _ in range(CALLS):
        number = agent_number()
        agent = await desk.agent(room_of(number))
        leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
        await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
        _fine(leg)
        calls.append((leg, agent))
    listener = await desk.agent("floor", "listener", hertz=None)
    speaker = RoomAgent(other, desk.server, "floor", "speaker")
    await speaker.join(hertz=None)
    holds: list[float] = []
    floor: list[float] = []
    with Written() as written:
        for count in range(HOLDS):
            leg, agent = calls[count % CALLS]
            turn = count // CALLS + 1
            await asyncio.sleep(random.uniform(0.02, 0.06))  # no step with the 20 ms clocks
            await leg.run("hold sendonly")
            _fine(leg)
            held = await agent.event("call_hold", turn)
            holds.append(held["received"] - written.at)
            floor.append(await _message(speaker, listener, count))
            await leg.run("resume")
            _fine(leg)
            await agent.event("call_resume", turn)
    for leg, _ in calls:
        await leg.run("hangup")
        _fine(leg)
    await speaker.leave()
    beside = f"{CALLS} calls with audio both ways"
    return [
        row("re-INVITE written -> call_hold received", holds, beside=beside, floor=FLOOR),
        row(FLOOR, floor, beside=f"{beside}, same run, after each hold"),
    ]


async def _message(speaker: RoomAgent, listener: RoomAgent, count: int) -> float:
    """Return how long one data message takes."""
    text = f"floor {count}"
    sent_at = await speaker.send(text, "floor")
    seen = await listener.until(lambda: listener.saw("data", topic="floor", text=text), text)
    return float(seen[0]["at"]) - sent_at


def _fine(leg: Leg) -> None:
    if leg.report.failed is not None:
        raise RuntimeError(leg.report.failed)

"""From a re-INVITE to ``call_hold`` at a stock SDK participant.

From: the carrier begins to write the re-INVITE, in one piece, to its connection. To: the
agent's ``data_received`` is called. Every agent is a stock `rtc.Room` that listens to the
caller and speaks all the time. Agents share processes, so that on a small machine they leave
something to the bridge, the carrier and livekit-server.

Interleaved, hold by hold, with the floor: a plain reliable data message from one stock
participant to another, each alone in its process, without audio, through the same
livekit-server.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass

from bench.participant import Participant, Participants
from bench.table import Row, row
from bench.usage import Usage
from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from bridge.carrier.wire import Stream
from tests.system.harness import AGENT_HERTZ, Bridge, Desk, agent_number, room_of

FLOOR = "SDK data message, participant to participant"
FLOOR_ROOM = "floor"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    calls: int = 10
    holds: int = 250
    agents_per_process: int = 5


class Written:
    """Remembers when the carrier began to write its last INVITE."""

    def __init__(self) -> None:
        self.at = 0.0
        self._send = Stream.send

    def __enter__(self) -> Written:
        written = self

        def send(stream: Stream, data: bytes) -> None:
            if data.startswith(b"INVITE "):
                # Before the call: the bridge may be at work before it returns.
                written.at = time.monotonic()
            written._send(stream, data)

        Stream.send = send  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        Stream.send = self._send  # type: ignore[method-assign]


async def measure(desk: Desk, scale: Scale, servers: list[int]) -> list[Row]:
    """Return the rows of this bench; *servers* are livekit-server's processes."""
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    numbers = [agent_number() for _ in range(scale.calls)]
    rooms = [room_of(number) for number in numbers]
    log = desk.folder / "participants.log"
    hosts = [
        await Participants.start(desk.server, some, "agent", hertz=AGENT_HERTZ, log=log)
        for some in batched(rooms, scale.agents_per_process)
    ]
    agents = [
        Participant(host, who)
        for host, some in zip(hosts, batched(rooms, scale.agents_per_process), strict=True)
        for who in range(len(some))
    ]
    talkers = [
        await Participants.start(desk.server, [FLOOR_ROOM], identity, hertz=0, log=log)
        for identity in ("listener", "speaker")
    ]
    try:
        for one in (*hosts, *talkers):
            await one.joined()
        legs = [await _call(carrier, bridge, number) for number in numbers]
        usage = Usage(
            {
                "bridge": [bridge.pid],
                "livekit-server": servers,
                "carrier and bench": [os.getpid()],
                f"{len(agents)} agents": [host.pid for host in hosts],
                "floor": [talker.pid for talker in talkers],
            }
        )
        holds, floor = await _holds(list(zip(legs, agents, strict=True)), talkers, scale)
        load = os.getloadavg()[0]
        print(f"{usage.report()}; load average {load:.1f}")
        for leg in legs:
            await _run(leg, "hangup")
    finally:
        await asyncio.gather(*(one.stop() for one in (*hosts, *talkers)))
    beside = f"{scale.calls} calls with audio both ways"
    return [
        row("re-INVITE -> call_hold received", holds, beside=beside, floor=FLOOR),
        row(FLOOR, floor, beside=f"{beside}, same run, after each hold"),
    ]


async def _call(carrier: Carrier, bridge: Bridge, number: str) -> Leg:
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await _run(leg, f"talk; expect audio {AGENT_HERTZ} within 15s")
    return leg


async def _holds(
    calls: list[tuple[Leg, Participant]], talkers: list[Participants], scale: Scale
) -> tuple[list[float], list[float]]:
    listener, speaker = (Participant(talker, 0) for talker in talkers)
    holds: list[float] = []
    floor: list[float] = []
    with Written() as written:
        for count in range(scale.holds):
            leg, agent = calls[count % len(calls)]
            turn = count // len(calls) + 1
            await _pause()
            await _run(leg, "hold sendonly")
            holds.append(await agent.heard_of("call_hold", turn) - written.at)
            await _pause()
            text = f"floor {count}"
            sent_at = await speaker.send(text, FLOOR_ROOM)
            floor.append(await listener.heard(text) - sent_at)
            await _run(leg, "resume")
            await agent.heard_of("call_resume", turn)
    return holds, floor


def batched(rooms: list[str], size: int) -> list[list[str]]:
    """Return *rooms* in lists of at most *size*."""
    return [rooms[first : first + size] for first in range(0, len(rooms), size)]


async def _pause() -> None:
    """Leave the step of the 20 ms clocks."""
    await asyncio.sleep(random.uniform(0.02, 0.06))


async def _run(leg: Leg, script: str) -> None:
    await leg.run(script)
    if leg.report.failed is not None:
        raise RuntimeError(leg.report.failed)

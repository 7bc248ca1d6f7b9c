"""Calls that run while something else is measured: a daemon with a door, some with agents."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.opened import CORE
from bench.participant import Participant, Participants
from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from bridge.carrier.wire import Stream
from tests.system.harness import AGENT_HERTZ, Bridge, Desk, agent_number, now_number, room_of
from tests.system.opened import OpenBridge

TRUNK = {"agent_timeout": 3600, "agent_gone_timeout": 0, "media_timeout": 600, "max_calls": 500}


class OpenedBridge(OpenBridge):
    """The daemon of `bench.opened`."""

    program = ("-m", "bench.opened")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """``measured`` have a stock agent each; ``others`` only run. All have audio."""

    bridge: OpenedBridge
    carrier: Carrier
    measured: Sequence[tuple[Leg, Participant]]
    others: Sequence[Leg]
    agents: Participants

    @property
    def legs(self) -> list[Leg]:
        """All of them."""
        return [*(leg for leg, _ in self.measured), *self.others]


@contextlib.asynccontextmanager
async def running(
    desk: Desk,
    *,
    calls: int,
    agents: int,
    core: int | None = None,
    servers: Sequence[int] = (),
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> AsyncIterator[Calls]:
    """Run *calls* calls, *agents* of them with an agent.

    With *core* the daemon has that one, and *servers* (processes) are kept off it.
    """
    carrier = await desk.carrier()
    folder = desk.folder / f"opened-{len(desk.bridges)}"
    folder.mkdir()
    bridge = OpenedBridge(
        folder, desk.server, carrier_port=carrier.port, trunk=TRUNK, sections=sections
    )
    bridge.expect_lag()
    desk.bridges.append(bridge)
    with _pinned(core):
        await bridge.start()
    if core is not None:
        keep_off(core, servers)
    numbers = [agent_number() for _ in range(agents)]
    log = desk.folder / "participants.log"
    rooms = [room_of(number) for number in numbers]
    host = await Participants.start(desk.server, rooms, "agent", hertz=AGENT_HERTZ, log=log)
    try:
        await host.joined()
        measured = [
            (await _call(carrier, bridge, number), Participant(host, who))
            for who, number in enumerate(numbers)
        ]
        others = [await _call(carrier, bridge, now_number()) for _ in range(calls - agents)]
        yield Calls(bridge=bridge, carrier=carrier, measured=measured, others=others, agents=host)
        for leg in (*(leg for leg, _ in measured), *others):
            await done(leg, "hangup")
    finally:
        await host.stop()


def keep_off(core: int, processes: Sequence[int]) -> None:
    """Keep *processes*, with all their threads, off *core* where there is another."""
    others = os.sched_getaffinity(0) - {core}
    for process in processes if others else ():
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), others)


@contextlib.contextmanager
def _pinned(core: int | None) -> Any:
    if core is not None:
        os.environ[CORE] = str(core)
    try:
        yield
    finally:
        os.environ.pop(CORE, None)


async def _call(carrier: Carrier, bridge: Bridge, number: str) -> Leg:
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await done(leg, "talk; expect rtp within 15s")
    return leg


async def done(leg: Leg, script: str) -> None:
    """Run *script*; it must go well."""
    await leg.run(script)
    if leg.report.failed is not None:
        raise RuntimeError(leg.report.failed)


class Holder:
    """Holds and resumes the measured calls in turn; says how late ``call_hold`` was.

    Use as a context manager: it watches when each connection began to write an INVITE.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._count = 0
        self._written: dict[int, float] = {}
        self._send = Stream.send

    def __enter__(self) -> Holder:
        def send(stream: Stream, data: bytes) -> None:
            if data.startswith(b"INVITE "):  # before: the bridge may be at work at once
                self._written[id(stream)] = time.monotonic()
            self._send(stream, data)

        Stream.send = send  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        Stream.send = self._send  # type: ignore[method-assign]

    async def hold(self) -> float:
        """Return the seconds from the re-INVITE to ``call_hold`` at the agent."""
        leg, agent = self._calls.measured[self._count % len(self._calls.measured)]
        turn = self._count // len(self._calls.measured) + 1
        self._count += 1
        await asyncio.sleep(random.uniform(0.02, 0.06))  # leave the step of the 20 ms clocks
        await done(leg, "hold sendonly")
        seconds = await agent.heard_of("call_hold", turn) - self._written[id(leg.peer)]
        await done(leg, "resume")
        await agent.heard_of("call_resume", turn)
        return seconds


async def flip(leg: Leg, seconds: float) -> None:
    """Hold and resume a call about every *seconds*, until cancelled."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * seconds)
        await done(leg, "hold sendonly; resume")

"""The calls during which the daemon dies: short, both ways, with holds, asked for by clients.

Nobody here knows when the daemon is away. A client that gets no answer asks again with the
same Idempotency-Key, a caller whose connection is refused calls again, with another number.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from bridge.carrier.exchange import Behaviour
from tests.kill.ledger import Ledger
from tests.system.harness import AGENT_NUMBERS, Bridge, RoomAgent
from trunkbridge import Client
from trunkbridge.client import ApiError

PATIENCE = 600.0  # seconds that a reader of events waits for a daemon
ASK_TIMEOUT = 5.0  # seconds a client waits for an answer
AGAIN = 0.1  # seconds until somebody who found nobody tries again
BRISK = Behaviour(overtaking=60, step_timeout=4, answer_timeout=6)

ROOM_NUMBERS = AGENT_NUMBERS[:2]
"""Numbers in whose rooms agents listen all the time."""

SPOKEN = (
    "talk; hold sendonly 100ms; resume; wait 100ms; hangup",
    "talk; wait 300ms; hold sendonly; wait 200ms; resume; hangup",
    "talk; wait 800ms; hangup",
    "talk; hold inactive 150ms; resume; hold sendonly 100ms; resume; hangup",
    "talk; dtmf 1#; wait 200ms; hangup",
    "talk; expect hangup within 4s",
)
TAKEN = (
    *(f"ring 50ms; answer; {script}" for script in SPOKEN),
    *(f"answer; {script}" for script in SPOKEN),
    "ring 150ms; busy",
    "decline",
    "ring 2s; busy",
)


@dataclass(slots=True, kw_only=True)
class Stage:
    """Where the calls are made. ``moments``: somebody waits for one to kill the daemon at."""

    bridge: Bridge
    carrier: Carrier
    ledger: Ledger
    chance: random.Random
    over: asyncio.Event = field(default_factory=asyncio.Event)
    moments: dict[str, asyncio.Event] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def happened(self, moment: str) -> None:
        """Tell whoever waits for such a moment."""
        event = self.moments.get(moment)
        if event is not None:
            event.set()

    def number(self, prefix: str) -> str:
        """Return a number that nobody else has."""
        return f"{prefix}{next(self.numbers):07d}"

    async def pause(self, seconds: float = AGAIN) -> None:
        """Wait, unless it is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)


# --- callers ------------------------------------------------------------------------------


async def keep_calling(stage: Stage) -> None:
    """One caller of the bridge: call after call, by TCP or UDP, until it is over."""
    while not stage.over.is_set():
        try:
            await one_inbound(stage)
        except OSError:  # nobody listens
            await stage.pause()


async def one_inbound(stage: Stage) -> None:
    caller = stage.number("+91981")
    chance = stage.chance
    udp = chance.random() < 0.25
    number = chance.choice(ROOM_NUMBERS) if chance.random() < 0.4 else stage.number("+91801")
    uri = stage.bridge.sip_uri(number, "udp" if udp else "tcp")
    leg = await stage.carrier.dial(uri, from_=caller, fresh=not udp, behaviour=BRISK)
    script = chance.choice(SPOKEN)
    try:
        await leg.run(script if chance.random() < 0.85 else "cancel after 30ms")
    finally:
        if leg.report.answered:
            stage.ledger.answered.append(caller)
        await leg.finish()
        stage.ledger.done[f"inbound {leg.report.status}"] += 1


async def take_calls(stage: Stage) -> None:
    """Answer what the bridge dials, each call as chance has it."""
    async with asyncio.TaskGroup() as group:
        while True:
            leg = await stage.carrier.incoming(timeout=1e6)
            stage.ledger.rung[f"+{leg.report.number.lstrip('+')}"] += 1
            stage.happened("rung")
            group.create_task(take(stage, leg))


async def take(stage: Stage, leg: Leg) -> None:
    await leg.run(stage.chance.choice(TAKEN))
    await leg.finish()
    stage.ledger.done["outbound taken"] += 1


# --- clients ------------------------------------------------------------------------------


async def keep_dialling(stage: Stage) -> None:
    """One client of the API: dials until it is over; what it began it brings to an answer."""
    async with httpx.AsyncClient(base_url=stage.bridge.url, timeout=ASK_TIMEOUT) as http:
        while not stage.over.is_set():
            number = stage.number("+91901")
            key = f"key-{number}-{stage.chance.getrandbits(32):08x}"
            stage.ledger.asked[key] = number
            call_id = await dial(stage, http, key, number)
            if call_id is None:
                continue
            stage.happened("accepted")
            await afterwards(stage, http, key, number, call_id)


async def dial(stage: Stage, http: httpx.AsyncClient, key: str, number: str) -> str | None:
    """Ask until there is an answer; return the call, or None when it was refused for good."""
    body = {"phone_number": number, "trunk": "narrow" if number[-1] in "37" else "carrier"}
    while True:
        try:
            reply = await http.post("/api/v1/calls", json=body, headers={"Idempotency-Key": key})
        except httpx.HTTPError:
            stage.ledger.done["dial unanswered"] += 1
            await asyncio.sleep(AGAIN)
            continue
        stage.ledger.done[f"dial {reply.status_code}"] += 1
        if reply.status_code == 201:
            call_id = str(reply.json()["call_id"])
            stage.ledger.accepted[key].append(call_id)
            return call_id
        if reply.status_code in (429, 503):
            await asyncio.sleep(2 * AGAIN)
            continue
        stage.ledger.fault(f"POST /api/v1/calls: {reply.status_code} {reply.text[:200]}")
        return None


async def afterwards(
    stage: Stage, http: httpx.AsyncClient, key: str, number: str, call_id: str
) -> None:
    """Look at the call, end it, ask for it again, or let it be."""
    chance = stage.chance
    what = chance.randrange(10)
    if what < 3:
        reply = await asked(http, "GET", f"/api/v1/calls/{call_id}")
        if reply is not None and reply.status_code == 404:
            stage.ledger.fault(f"GET of the accepted {call_id}: 404")
    elif what < 5:
        await stage.pause(chance.uniform(0, 0.6))
        reply = await asked(http, "DELETE", f"/api/v1/calls/{call_id}")
        if reply is not None and reply.status_code != 202:
            stage.ledger.fault(f"DELETE of the accepted {call_id}: {reply.status_code}")
    elif what < 8:
        await stage.pause(chance.uniform(0, 2))
        await dial(stage, http, key, number)
    await stage.pause(chance.uniform(0.05, 0.5))


async def asked(http: httpx.AsyncClient, method: str, path: str) -> httpx.Response | None:
    """Return the answer, or None when nobody gave one."""
    try:
        return await http.request(method, path)
    except httpx.HTTPError:
        return None


# --- those who are told -------------------------------------------------------------------


async def read_all_events(stage: Stage) -> None:
    """Read the stream of everything from its beginning, over all deaths."""
    told = stage.ledger.told["the stream"]
    last = 0
    async with Client(stage.bridge.url) as client:
        while True:
            try:
                async for event in client.events(after=last, patience=PATIENCE):
                    last = event.id
                    told.append(dict(event.data))
                    stage.happened("streamed")
            except ApiError as failure:
                if failure.status != 0:  # a first connection is not tried again
                    stage.ledger.fault(f"the stream of all events ended: {failure}")
                    return
                await stage.pause()


async def listen(stage: Stage, agent: RoomAgent) -> None:
    """Stay in a room, and note what is told there, in the end."""
    await agent.join(hertz=None, listen=())
    seen = 0
    while not stage.over.is_set():
        await stage.pause(0.05)
        if len(agent.seen) > seen:
            seen = len(agent.seen)
            stage.happened("told")


def noted(ledger: Ledger, agent: RoomAgent) -> None:
    """Note what an agent was told."""
    ledger.told[f"the agent in {agent.room}"] += agent.events


Work = Callable[[Stage], Awaitable[Any]]


@asynccontextmanager
async def at_work(stage: Stage, *work: Awaitable[Any]) -> AsyncIterator[None]:
    """Have *work* done beside the body until it is over; what fails in it is a fault."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                stage.ledger.fault(f"the load failed: {type(result).__name__}: {result}")

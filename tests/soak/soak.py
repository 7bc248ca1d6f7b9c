"""One soak: warm-up, calls for a while with a server that is killed now and then, then quiet."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bridge.carrier.carrier import Carrier
from bridge.carrier.exchange import Behaviour
from tests.ports import free_port
from tests.soak.census import (
    ABSOLUTE,
    CALL,
    SOON,
    Census,
    SeenBridge,
    kinds_verdict,
    memory_verdict,
    slope,
    take,
)
from tests.soak.load import Ledger, Stage, Switch, conversation, keep_calling, names, tell
from tests.system.conftest import PrivateLiveKit, started_server
from tests.system.harness import AgentHost, Desk, until

WARM_UP_CALLS = 6
WARM_UP_S = 30.0  # of a long soak: until pools and arenas have their size
LONG_S = 300.0
SETTLE_S = 90.0  # 64 * T1 of the last transaction (RFC 3261), then rooms and sockets
DOWN_S = 2.0
AFTERMATH_S = 30.0  # after a restart of the server, while calls may fail
RELOAD_S = 20.0
SAMPLE_S = 5.0
SHOW_S = 30.0
PAGE = 200  # calls read back at once
COLUMNS = (
    *("calls", "ports", "sessions", "transactions", "flows", "tasks", "fds", "threads"),
    *("rooms", "journal"),
)
TRUNK = {"agent_gone_timeout": 2, "media_timeout": 30, "max_calls": 100}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``seconds`` of calls, ``calls`` at once; ``restarts`` of livekit-server among them."""

    seconds: float
    calls: int
    seed: int
    restarts: int
    say: Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Soak:
    """What a soak runs on, and what it has seen."""

    plan: Plan
    livekit: PrivateLiveKit
    desk: Desk
    bridge: SeenBridge
    carrier_port: int
    ledger: Ledger = field(default_factory=Ledger)
    samples: list[Census] = field(default_factory=list)
    up: asyncio.Event = field(default_factory=asyncio.Event)  # set while livekit-server runs
    began: float = field(default_factory=time.monotonic)


async def run(plan: Plan, folder: Path) -> list[str]:
    """Return what is wrong in the end; nothing when everything is back where it began."""
    livekit = await asyncio.to_thread(started_server, folder)
    host = AgentHost(folder / "agents.log")
    try:
        async with Desk(livekit.server, host, folder) as desk:
            port = free_port()
            bridge = SeenBridge(folder, livekit.server, carrier_port=port, trunk=TRUNK)
            bridge.expect_lag()  # on a busy machine any loop is late
            desk.bridges.append(bridge)
            await bridge.start()
            soak = Soak(plan=plan, livekit=livekit, desk=desk, bridge=bridge, carrier_port=port)
            soak.up.set()
            return await soaked(soak)
    finally:
        host.stop()
        await asyncio.to_thread(livekit.stop)


async def soaked(soak: Soak) -> list[str]:
    plan, ledger = soak.plan, soak.ledger
    plan.say(f"{plan.seconds:.0f} s of calls, {plan.calls} at once, seed {plan.seed}")
    plan.say(f"{'':>8} {'done':>5} {'RSS MB':>7} " + " ".join(f"{name:>7.7}" for name in COLUMNS))
    await warm_up(soak)
    # A short one does not wait for SIP's last timers twice; they hold no task and no socket.
    before = await settled(soak, None, ABSOLUTE if plan.seconds >= LONG_S else SOON)
    plan.say(row(soak, "begin", before))
    counted = ledger.begun
    begun = time.monotonic()
    async with in_the_background(watch(soak), disturb(soak), reload(soak)):
        await calls_for(soak, plan.seconds)
    plan.say(f"calls end after {time.monotonic() - begun:.0f} s; waiting for quiet")
    after = await settled(soak, before)
    plan.say(row(soak, "end", after))
    calls = ledger.begun - counted
    tell_all(soak, before, after, calls)
    for ladder in ledger.ladders:
        plan.say(ladder)
    return [
        *(f"not back: {left}" for left in after.not_back(before)),
        *kinds_verdict(before, after),
        *memory_verdict(before, after, calls),
        *await stories_of_all(soak),
        *ledger.failures,
    ]


@asynccontextmanager
async def in_the_background(*work: object) -> AsyncIterator[None]:
    """Run *work* beside the body; what fails in it fails the soak."""
    tasks = [asyncio.ensure_future(one) for one in work]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def warm_up(soak: Soak) -> None:
    """A reload, and calls until pools, arenas and threads have their size."""
    soak.bridge.signal(signal.SIGHUP)
    if soak.plan.seconds >= LONG_S:
        await calls_for(soak, WARM_UP_S)
        return
    async with stages(soak) as stage, asyncio.TaskGroup() as group:
        chances = (random.Random(f"{soak.plan.seed}-{n}") for n in range(WARM_UP_CALLS))
        for chance in chances:
            group.create_task(tell(stage(chance), conversation))


async def calls_for(soak: Soak, seconds: float) -> None:
    """Several callers for a while, on a carrier of their own."""
    deadline = time.monotonic() + seconds
    async with stages(soak) as stage, asyncio.TaskGroup() as group:
        for number in range(soak.plan.calls):
            chance = random.Random(f"{soak.plan.seed}-{number}-{seconds}")
            group.create_task(keep_calling(stage(chance), deadline))


@asynccontextmanager
async def stages(soak: Soak) -> AsyncIterator[Callable[[random.Random], Stage]]:
    """A carrier of its own, for each story with its own chance."""
    # A story may close the connection that another's ACK is on: RTP is there before it.
    patient = Behaviour(overtaking=60)
    async with (
        Carrier(port=soak.carrier_port, behaviour=patient) as carrier,
        Switch(carrier) as switch,
    ):
        yield lambda chance: Stage(
            desk=soak.desk,
            bridge=soak.bridge,
            carrier=carrier,
            switch=switch,
            chance=chance,
            ledger=soak.ledger,
            up=soak.up,
        )


async def settled(
    soak: Soak, before: Census | None, absolute: tuple[str, ...] = ABSOLUTE
) -> Census:
    """Wait until everything is back, or for as long as it may take; then count with care."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        census = await take(soak.bridge, soak.desk.server)
        if not census.not_back(before, absolute) or time.monotonic() > deadline:
            return await take(soak.bridge, soak.desk.server, deep=True)
        await asyncio.sleep(1)


async def watch(soak: Soak) -> None:
    """Count every few seconds, show it now and then."""
    shown = time.monotonic()
    while True:
        await asyncio.sleep(SAMPLE_S)
        census = await take(soak.bridge, soak.desk.server)
        soak.samples.append(census)
        if time.monotonic() - shown >= SHOW_S:
            shown += SHOW_S
            soak.plan.say(row(soak, "", census))


async def disturb(soak: Soak) -> None:
    """Kill livekit-server and start it again, evenly over the time."""
    plan = soak.plan
    for _ in range(plan.restarts):
        await asyncio.sleep(plan.seconds / (plan.restarts + 1))
        began = time.monotonic()
        soak.ledger.disturbed.append((began, began + 600))
        soak.up.clear()
        await asyncio.to_thread(soak.livekit.kill)
        await asyncio.sleep(DOWN_S)
        if not await asyncio.to_thread(soak.livekit.start):
            raise AssertionError("livekit-server did not start again")
        soak.ledger.disturbed[-1] = began, time.monotonic() + AFTERMATH_S
        plan.say(f"livekit-server was away for {time.monotonic() - began:.1f} s")
        await until_ready(soak)
        soak.up.set()


async def until_ready(soak: Soak) -> None:
    """Wait until the bridge has noticed that the server is back."""
    async with httpx.AsyncClient() as http:

        async def ready() -> bool:
            return (await http.get(f"{soak.bridge.url}/readyz")).status_code == 200

        await until(ready, "the bridge sees that the server is back", within=30)


async def reload(soak: Soak) -> None:
    while True:
        await asyncio.sleep(RELOAD_S)
        soak.bridge.signal(signal.SIGHUP)


# What is shown.


def row(soak: Soak, name: str, census: Census) -> str:
    shown = name or f"{census.at - soak.began:.0f} s"
    numbers = " ".join(f"{census.counts[column]:>7}" for column in COLUMNS)
    return f"{shown:>8} {sum(soak.ledger.done.values()):>5} {census.rss:>7.1f} {numbers}"


def tell_all(soak: Soak, before: Census, after: Census, calls: int) -> None:
    ledger, say = soak.ledger, soak.plan.say
    say(", ".join(f"{name} {count}" for name, count in sorted(ledger.done.items())))
    say(", ".join(f"{name} {count}" for name, count in sorted(ledger.outcomes.items())))
    grown = after.rss - before.rss
    half = soak.samples[len(soak.samples) // 2 :]
    say(
        f"{calls} calls, {ledger.excused} excused around restarts; memory {before.rss:.1f} ->"
        f" {after.rss:.1f} MB ({1024 * grown / max(calls, 1):.1f} kB a call,"
        f" {slope(half):+.2f} MB a minute over the second half), objects of Python"
        f" {before.blocks} -> {after.blocks} ({(after.blocks - before.blocks) / max(calls, 1):.0f}"
        f" a call), {after.kinds.get(CALL, 0)} ended calls still alive as objects"
    )


async def stories_of_all(soak: Soak) -> list[str]:
    """Every call the bridge took on has one end, and every seq, in the journal."""
    wrong = []
    async with httpx.AsyncClient(base_url=soak.bridge.url) as http:
        for call_id in await calls_in_journal(soak.bridge):
            events = (await http.get(f"/api/v1/calls/{call_id}/events")).json()
            ends = [event for event in events if event["event"] == "call_ended"]
            gapless = [event["seq"] for event in events] == list(range(1, len(events) + 1))
            if len(ends) != 1 or events[-1]["event"] != "call_ended" or not gapless:
                wrong.append(f"{call_id}: {names(events)}")
    return wrong


async def calls_in_journal(bridge: SeenBridge) -> list[str]:
    with sqlite3.connect(f"file:{bridge.folder}/journal.db?mode=ro", uri=True) as database:
        return [row[0] for row in database.execute("select call_id from calls")]

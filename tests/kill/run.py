"""One run: calls, a daemon that is killed again and again, then quiet and the verdict."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bridge.carrier.carrier import Carrier
from tests.kill.ledger import Ledger
from tests.kill.load import (
    BRISK,
    ROOM_NUMBERS,
    Stage,
    at_work,
    keep_calling,
    keep_dialling,
    listen,
    noted,
    read_all_events,
    take_calls,
)
from tests.kill.receiver import Receiver
from tests.kill.verdict import Found, all_told, judged
from tests.system.conftest import started_server
from tests.system.harness import AgentHost, Bridge, RoomAgent, Server, free_port, room_of, until

SECRET = "kill-webhook-secret"
MOMENTS = ("accepted", "rung", "streamed", "told", "webhook")
QUIET = 90.0  # seconds until everything has ended and is delivered
TRUNK = {
    "agent_timeout": 8,
    "agent_gone_timeout": 3,
    "media_timeout_initial": 6,
    "media_timeout": 5,
    "max_duration": 20,
    "ring_timeout": 8,
    "max_calls": 100,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``kills`` of a daemon with ``callers`` and as many clients; ``store`` is a URL or empty."""

    kills: int
    seed: int
    callers: int = 4
    store: str = ""
    webhooks: bool = False
    say: Callable[[str], None] = lambda _: None


async def run(plan: Plan, folder: Path) -> list[str]:
    """Return what is wrong in the end; nothing when every promise was kept."""
    livekit = await asyncio.to_thread(started_server, folder)
    host = AgentHost(folder / "agents.log")
    try:
        return await _run(plan, folder, livekit.server, host)
    finally:
        host.stop()
        await asyncio.to_thread(livekit.stop)


async def _run(plan: Plan, folder: Path, server: Server, host: AgentHost) -> list[str]:
    chance, ledger = random.Random(plan.seed), Ledger()
    port = free_port()
    receiver = Receiver(ledger, random.Random(plan.seed + 1), secret=SECRET)
    async with receiver, Carrier(port=port, behaviour=BRISK) as carrier:
        bridge = Bridge(
            folder,
            server,
            carrier_port=port,
            trunk=TRUNK,
            sections=_sections(plan, receiver.url),
        )
        stage = Stage(bridge=bridge, carrier=carrier, ledger=ledger, chance=chance)
        receiver.heard = stage.happened
        agents = [RoomAgent(host, server, room_of(number), "agent") for number in ROOM_NUMBERS]
        try:
            return await _killed(plan, stage, agents, receiver)
        finally:
            for agent in agents:
                with suppress(RuntimeError, TimeoutError):
                    await agent.leave()
            await bridge.stop(check=False)


def _sections(plan: Plan, hook: str) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = {}
    if plan.store:
        sections["store"] = {"url": plan.store}
    if plan.webhooks:
        sections["webhook"] = {"url": hook, "secret": SECRET, "allow_private": True}
    return sections


async def _killed(
    plan: Plan, stage: Stage, agents: list[RoomAgent], receiver: Receiver
) -> list[str]:
    ledger = stage.ledger
    plan.say(f"{plan.kills} kills, {plan.callers} callers and clients, seed {plan.seed}")
    clients = [keep_dialling(stage) for _ in range(plan.callers)]
    callers = [keep_calling(stage) for _ in range(plan.callers)]
    async with at_work(stage, read_all_events(stage), take_calls(stage)):
        busy = [
            asyncio.create_task(one)
            for one in (*clients, *callers, *(listen(stage, agent) for agent in agents))
        ]
        await lives(plan, stage)
        stage.over.set()
        await stage.bridge.start()
        await _done(stage, busy)
        receiver.well = True
        await _quiet(plan, stage)
        for agent in agents:
            noted(ledger, agent)
        journal = in_journal(stage.bridge.folder / "journal.db")
        with suppress(AssertionError):
            await until(lambda: len(ledger.told["the stream"]) >= _count(journal), "the stream", 10)
        others = [await by_api(stage.bridge, list(journal.records))]
    _show(plan, ledger, journal)
    return [
        *judged(ledger, journal, others, webhooks=plan.webhooks),
        *all_told("the stream", ledger.told["the stream"], journal),
        *(f"the daemon complained: {line[:300]}" for line in stage.bridge.complaints()[:20]),
    ]


async def _done(stage: Stage, busy: list[asyncio.Task[None]]) -> None:
    """Wait for those who call and dial; whoever does not come to an end is at fault."""
    _, late = await asyncio.wait(busy, timeout=QUIET)
    for task in late:
        task.cancel()
        stage.ledger.fault("somebody got no answer from a daemon that runs")
    for result in await asyncio.gather(*busy, return_exceptions=True):
        if isinstance(result, Exception):
            stage.ledger.fault(f"the load failed: {type(result).__name__}: {result}")


# --- dying --------------------------------------------------------------------------------


async def lives(plan: Plan, stage: Stage) -> None:
    """Let the daemon live for a moment, and end it, ``kills`` times."""
    began = time.monotonic()
    for number in range(1, plan.kills + 1):
        how = await one_life(stage)
        stage.ledger.done[f"killed {how}"] += 1
        if number % 20 == 0 or number == plan.kills:
            done = stage.ledger.done
            plan.say(
                f"{number:4} kills, {time.monotonic() - began:4.0f} s, {done['dial 201']} dialled,"
                f" {len(stage.ledger.answered)} answered, {done['webhook']} webhooks,"
                f" {done['fault']} faults"
            )


async def one_life(stage: Stage) -> str:
    """Start the daemon and kill it at random: as it starts, later, or at a certain moment."""
    bridge, chance = stage.bridge, stage.chance
    starting = asyncio.create_task(bridge.start())
    how = chance.choices(("starting", "later", *MOMENTS), (20, 40, *(8 for _ in MOMENTS)))[0]
    if how == "starting":
        await asyncio.wait((starting,), timeout=chance.uniform(0.2, 2.5))
    else:
        began = time.monotonic()
        await starting
        stage.ledger.starts.append(time.monotonic() - began)
        await asyncio.sleep(min(2.5, chance.expovariate(1.2)))
        if how in MOMENTS:
            await moment(stage, how)
    if not bridge.alive:
        raise AssertionError(f"the daemon ended by itself:\n{bridge.tail()}")
    bridge.signal(signal.SIGKILL)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await bridge.exited()
    return how


async def moment(stage: Stage, name: str) -> None:
    """Wait for the next time that *name* happens, then for up to 8 ms."""
    event = stage.moments[name] = asyncio.Event()
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), 1.0)
    del stage.moments[name]
    await asyncio.sleep(stage.chance.uniform(0, 0.008))


# --- quiet --------------------------------------------------------------------------------


async def _quiet(plan: Plan, stage: Stage) -> None:
    """Wait until no call runs and every event is delivered."""
    bridge, ledger = stage.bridge, stage.ledger
    async with httpx.AsyncClient(base_url=bridge.url) as http:

        async def idle() -> bool:
            active = (await http.get("/api/v1/calls/active")).json()
            return not active and not open_in_journal(bridge.folder / "journal.db")

        try:
            await until(idle, "every call ends", QUIET)
        except AssertionError as late:
            ledger.fault(str(late))
    if plan.webhooks:
        journal = in_journal(bridge.folder / "journal.db")
        wanted = {(c, e["seq"]) for c, events in journal.events.items() for e in events}

        def delivered() -> bool:
            return wanted <= {(d.call_id, d.seq) for d in ledger.deliveries if d.taken}

        with suppress(AssertionError):  # the verdict says which
            await until(delivered, "every webhook is delivered", QUIET)


def open_in_journal(path: Path) -> int:
    """Return how many calls have no end yet."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return int(database.execute("select count(*) from calls where not ended").fetchone()[0])


def in_journal(path: Path) -> Found:
    """Read the journal's file as it is."""
    found = Found(place="journal")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for call_id, record, ended in database.execute("select call_id, record, ended from calls"):
            found.records[call_id] = json.loads(record)
            if not ended:
                found.records[call_id] = {**found.records[call_id], "outcome": None}
        for call_id, body in database.execute("select call_id, body from events order by position"):
            found.events.setdefault(call_id, []).append(json.loads(body))
    return found


async def by_api(bridge: Bridge, known: list[str]) -> Found:
    """Ask the API for the list of all calls, and for the events of each that is *known*."""
    found = Found(place="API")
    async with httpx.AsyncClient(base_url=bridge.url, timeout=30) as http:
        async for record in _pages(http):
            found.records[record["id"]] = record
        for call_id in known:
            reply = await http.get(f"/api/v1/calls/{call_id}")
            if reply.status_code == 200 and reply.json() != found.records.get(call_id):
                found.records[call_id] = {"id": call_id, "status": "is not what the list says"}
            events = await http.get(f"/api/v1/calls/{call_id}/events")
            found.events[call_id] = events.json() if events.status_code == 200 else []
    return found


async def _pages(http: httpx.AsyncClient) -> AsyncIterator[dict[str, Any]]:
    page = 1
    while True:
        reply = await http.get("/api/v1/calls", params={"page": page, "page_size": 100})
        reply.raise_for_status()
        document = reply.json()
        for record in document["items"]:
            yield record
        if page >= document["pages"]:
            return
        page += 1


def _count(found: Found) -> int:
    return sum(len(events) for events in found.events.values())


def _show(plan: Plan, ledger: Ledger, journal: Found) -> None:
    plan.say(", ".join(f"{name} {count}" for name, count in sorted(ledger.done.items())))
    outcomes: dict[str, int] = {}
    for record in journal.records.values():
        name = f"{record.get('direction')} {record.get('outcome')}/{record.get('reason')}"
        outcomes[name] = outcomes.get(name, 0) + 1
    plan.say(", ".join(f"{name} {count}" for name, count in sorted(outcomes.items())))
    starts = sorted(ledger.starts)
    plan.say(f"a start took {starts[len(starts) // 2]:.1f} s, at most {starts[-1]:.1f} s")
    told = {who: len(events) for who, events in ledger.told.items()}
    plan.say(f"{len(journal.records)} calls, {_count(journal)} events; told: {told}")

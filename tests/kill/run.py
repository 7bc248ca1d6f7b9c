"""One run: calls, a daemon that is killed again and again, then quiet and the verdict."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
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
from tests.kill.places import by_api, in_journal, in_store, open_in_journal
from tests.kill.receiver import Receiver
from tests.kill.verdict import Found, all_told, differences, judged
from tests.ports import free_port
from tests.system.conftest import started_server
from tests.system.harness import AgentHost, Bridge, RoomAgent, Server, room_of, until

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
    """``kills`` of a daemon with ``callers`` and as many clients; ``store`` is its URL.

    No ``store``: the harness's own SQLite file. ``webhooks``: they are sent, and judged.
    """

    kills: int
    seed: int
    callers: int = 4
    store: str = ""
    webhooks: bool = True
    say: Callable[[str], None] = lambda _: None


def narrow(port: int) -> dict[str, Any]:
    """Return a trunk on which calls wait for each other."""
    return {
        **TRUNK,
        "name": "narrow",
        "host": "127.0.0.1",
        "port": port,
        "max_calls": 2,
        "calls_per_second": 20,
        "media_allow": ["127.0.0.0/8"],
        "caller_id": "+912240000001",
    }


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
    async with receiver.open(), Carrier(port=port, behaviour=BRISK) as carrier:
        bridge = Bridge(
            folder,
            server,
            carrier_port=port,
            trunk=TRUNK,
            trunks=[narrow(port)],
            sections=_sections(plan, receiver.url),
        )
        bridge.expect_lag()  # on a busy machine any loop is late
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
        url = plan.store or f"sqlite:///{stage.bridge.folder}/trunkbridge.db"

        def behind() -> bool:
            told = len(ledger.told["the stream"]) >= _count(journal)
            return not told or bool([*differences(journal, in_store(url))])

        with suppress(AssertionError):  # the verdict says what
            await until(lambda: not behind(), "stream and store have everything", 20, poll=0.5)
        others = [await by_api(stage.bridge, list(journal.records)), in_store(url)]
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

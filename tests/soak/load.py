"""The calls of a soak: what can happen to one, each as a small story with its expectations."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from bridge.carrier.exchange import Behaviour
from bridge.carrier.steps import HOLD_DIALECTS
from tests.system.harness import (
    AGENT_HERTZ,
    Bridge,
    Desk,
    RoomAgent,
    agent_number,
    delete_room,
    now_number,
    room_of,
)
from trunkbridge.client import Call

# T.38 has no place here; the offerless one without a direction is in the list as well.
DIALECTS = tuple(dialect for dialect in HOLD_DIALECTS if "ipv6" not in dialect)
RESUMES = ("resume", "resume no-direction", "resume offerless", "resume update")
LISTEN = f"talk; expect audio {AGENT_HERTZ} within 12s"
FOREVER = 1e6  # seconds
ENOUGH = 50  # failures that are told


class Unexpected(AssertionError):
    """A call did not go as its story says; ``leg`` is its carrier's side, when there is one."""

    def __init__(self, text: str, leg: Leg | None = None) -> None:
        super().__init__(text)
        self.leg = leg


@dataclass(slots=True)
class Ledger:
    """What the soak has seen so far. ``disturbed`` are intervals of the steady clock."""

    begun: int = 0
    done: Counter[str] = field(default_factory=Counter)
    excused: int = 0
    failures: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    ladders: list[str] = field(default_factory=list)  # of the failures
    disturbed: list[tuple[float, float]] = field(default_factory=list)
    active: int = 0

    def fail(self, text: str) -> None:
        if len(self.failures) < ENOUGH:
            self.failures.append(text)

    def excuses(self, since: float) -> bool:
        """Whether the server was away, or just back, at some time since *since*."""
        now = time.monotonic()
        return any(begin <= now and end >= since for begin, end in self.disturbed)


class Switch:
    """Gives each leg that the carrier is called on to the story that called the number."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._expected: dict[str, asyncio.Future[Leg]] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Switch:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @asynccontextmanager
    async def expected(self, number: str) -> AsyncIterator[asyncio.Future[Leg]]:
        """A future of the leg on which *number* is called; ask before it is dialled."""
        leg: asyncio.Future[Leg] = asyncio.get_running_loop().create_future()
        self._expected[number] = leg
        try:
            yield leg
        finally:
            del self._expected[number]

    async def _run(self) -> None:
        while True:
            leg = await self._carrier.incoming(timeout=FOREVER)
            waiting = self._expected.get(f"+{leg.report.number.lstrip('+')}")
            if waiting is None or waiting.done():
                await leg.finish()  # its story has given up
            else:
                waiting.set_result(leg)


@dataclass(slots=True, kw_only=True)
class Stage:
    """What a story plays on."""

    desk: Desk
    bridge: Bridge
    carrier: Carrier
    switch: Switch
    chance: random.Random
    ledger: Ledger
    up: asyncio.Event  # set while livekit-server runs


def must(ok: object, what: str) -> None:
    if not ok:
        raise Unexpected(what)


def fine(leg: Leg) -> None:
    if leg.report.failed is not None:
        raise Unexpected(f"the carrier complains: {leg.report.failed}", leg)


def told(agent: RoomAgent) -> list[dict[str, Any]]:
    """The events an agent was sent, each once: a repeat for a late joiner says nothing new."""
    seen: dict[int, dict[str, Any]] = {}
    for event in agent.events:
        seen.setdefault(int(event["seq"]), event)
    return list(seen.values())


async def same_story(stage: Stage, agent: RoomAgent, call_id: str, *, whole: bool) -> None:
    """The agent was told what the journal has, in order; all of it when it stayed (*whole*)."""
    ended = await stage.bridge.ended(call_id, within=20)
    stage.ledger.outcomes[f"{ended['outcome']}/{ended['reason']}"] += 1
    journal = await stage.bridge.events(call_id)
    if whole:
        with suppress(AssertionError):
            await agent.event("call_ended", within=10)
    heard = told(agent)
    expected = journal if whole else journal[: len(heard)]
    if heard != expected:
        last = " ".join(f"{line['saw']}" for line in agent.seen[-8:])
        raise Unexpected(
            f"{call_id} ended by {ended['ended_by']}: the agent was told {names(heard)}, the"
            f" journal has {names(journal)}; the agent last saw {last}"
        )


def names(events: list[dict[str, Any]]) -> str:
    return " ".join(f"{event['seq']}:{event['event']}" for event in events)


# Beginnings: a call heard at both ends.


async def inbound(stage: Stage) -> tuple[Leg, RoomAgent, str]:
    number = agent_number()
    agent = stage.desk.waiting_agent(room_of(number))
    await agent.join(kind="agent")
    uri = stage.bridge.sip_uri(number)
    leg = await stage.carrier.dial(uri, fresh=stage.chance.random() < 0.5)
    try:
        await leg.run(LISTEN)
        fine(leg)
        return leg, agent, str((await agent.phone())["attributes"]["sip.callID"])
    except BaseException:
        await leave(stage, agent, leg)
        raise


async def outbound(stage: Stage) -> tuple[Leg, RoomAgent, str]:
    room = stage.desk.room()
    agent = stage.desk.waiting_agent(room)
    await agent.join(kind="agent")
    legs: list[Leg] = []
    try:
        call, leg = await dialled(stage, room)
        legs.append(leg)
        await leg.run("ring; answer")
        await leg.run(LISTEN)
        fine(leg)
        return leg, agent, call.id
    except BaseException:
        await leave(stage, agent, *legs)
        raise


async def dialled(stage: Stage, room: str) -> tuple[Call, Leg]:
    """A call of ours, and the carrier's side of it."""
    number = f"+9190{stage.chance.randrange(10**8):08d}"
    async with stage.switch.expected(number) as leg:
        call = await stage.bridge.dial(number, room=room)
        return call, await asyncio.wait_for(leg, 15)


async def connected(stage: Stage) -> tuple[Leg, RoomAgent, str]:
    return await (inbound if stage.chance.random() < 0.5 else outbound)(stage)


async def leave(stage: Stage, agent: RoomAgent, *legs: Leg) -> None:
    """Nothing of a story stays behind in this process or the agents'."""
    for leg in legs:
        with suppress(Exception):
            await asyncio.wait_for(leg.finish(), 10)
    with suppress(Exception):
        await asyncio.wait_for(agent.leave(), 10)
    if agent in stage.desk._agents:
        stage.desk._agents.remove(agent)


# Stories.


async def conversation(stage: Stage) -> None:
    """Holds in some dialects, keys both ways; either side hangs up."""
    leg, agent, call_id = await connected(stage)
    try:
        for _ in range(stage.chance.randint(0, 3)):
            await something(stage, leg, agent)
        await goodbye(stage, leg, agent, call_id)
        await same_story(stage, agent, call_id, whole=True)
    finally:
        await leave(stage, agent, leg)


async def something(stage: Stage, leg: Leg, agent: RoomAgent) -> None:
    chance = stage.chance
    match chance.randrange(4):
        case 0 | 1:
            dialect, resume = chance.choice(DIALECTS), chance.choice(RESUMES)
            before = len([e for e in told(agent) if e["event"] == "call_hold"])
            await leg.run(f"hold {dialect} 300ms; {resume}; expect audio {AGENT_HERTZ} within 5s")
            fine(leg)
            await agent.event("call_resume", before + 1)
        case 2:
            before = len(agent.saw("dtmf"))
            await leg.run("dtmf 1#")
            fine(leg)
            await agent.until(lambda: len(agent.saw("dtmf")) >= before + 2, "two keys")
        case _:
            await agent.press("5")
            await leg.run("expect dtmf 5 within 6s")
            fine(leg)


async def goodbye(stage: Stage, leg: Leg, agent: RoomAgent, call_id: str) -> None:
    match stage.chance.randrange(4):
        case 0:
            await leg.run("hangup")
        case 1:
            await leg.run("close connection; hangup on new connection")
        case 2:
            await agent.rpc("lk.sip.EndCall", "{}")
            await leg.run("expect hangup within 8s")
        case _:
            await stage.bridge.client.call(call_id).hangup()
            await leg.run("expect hangup within 8s")
    fine(leg)


async def connection_lost(stage: Stage) -> None:
    """The connection goes and comes back in a hold."""
    leg, agent, call_id = await connected(stage)
    try:
        await leg.run("close connection; hold sendonly 300ms on new connection")
        await leg.run(f"resume on new connection; expect audio {AGENT_HERTZ} within 5s")
        fine(leg)
        await goodbye(stage, leg, agent, call_id)
        await same_story(stage, agent, call_id, whole=True)
    finally:
        await leave(stage, agent, leg)


async def agent_goes(stage: Stage) -> None:
    leg, agent, call_id = await connected(stage)
    try:
        await agent.leave()
        await leg.run("expect hangup within 12s")
        fine(leg)
        await same_story(stage, agent, call_id, whole=False)
    finally:
        await leave(stage, agent, leg)


async def room_goes(stage: Stage) -> None:
    leg, agent, call_id = await connected(stage)
    try:
        await delete_room(stage.desk.server, agent.room)
        await leg.run("expect hangup within 8s")
        fine(leg)
        await same_story(stage, agent, call_id, whole=False)
    finally:
        await leave(stage, agent, leg)


async def caller_cancels(stage: Stage) -> None:
    """Nobody answers; the caller loses patience."""
    leg = await stage.carrier.dial(stage.bridge.sip_uri(agent_number()), fresh=True)
    try:
        await leg.run("cancel after 300ms")
        fine(leg)
    finally:
        await leg.finish()


async def unanswered(stage: Stage) -> None:
    """Busy, declined, cancelled by the API: calls of ours that nobody takes."""
    call, leg = await dialled(stage, stage.desk.room())
    try:
        match stage.chance.randrange(3):
            case 0:
                await leg.run("ring; busy")
            case 1:
                await leg.run("decline")
            case _:
                await leg.run("ring")
                await stage.bridge.client.call(call.id).hangup()
        ended = await stage.bridge.ended(call.id, within=20)
        stage.ledger.outcomes[f"{ended['outcome']}/{ended['reason']}"] += 1
        must(ended["outcome"] in ("busy", "rejected", "cancelled"), f"ended {ended['outcome']}")
    finally:
        await leg.finish()


async def stranger(stage: Stage) -> None:
    """What is refused before it is a call: no common codec, OPTIONS on a connection of its own."""
    leg = await stage.carrier.dial(stage.bridge.sip_uri(now_number()), fresh=True)
    try:
        await leg.run("invite t38; expect status 488 within 5s")
        fine(leg)
    finally:
        await leg.finish()


async def by_datagrams(stage: Stage) -> None:
    """A call over UDP with a session timer, answered at once, nobody in the room."""
    number = now_number()
    leg = await stage.carrier.dial(stage.bridge.sip_uri(number, "udp"))
    try:
        await leg.run(
            "session-expires 90 refresher uac; talk; expect rtp within 12s; refresh; "
            "hold sendonly 200ms; refresh update; resume; dtmf 7; hangup"
        )
        fine(leg)
    finally:
        await leg.finish()


async def on_a_lossy_link(stage: Stage) -> None:
    """A fifth of the datagrams is lost each way, of the sound every tenth packet."""
    patient = Behaviour(overtaking=60)  # RTP may well be there before a lost 200 or ACK
    async with Carrier(datagram_loss=0.2, behaviour=patient) as carrier:
        leg = await carrier.dial(stage.bridge.sip_uri(now_number(), "udp"))
        try:
            await leg.run(
                "session-expires 90 refresher uac; talk; loss 10%; jitter 30ms; "
                "expect rtp within 20s; hold sendonly 200ms; resume; refresh; hangup"
            )
            fine(leg)
        finally:
            await leg.finish()


async def both_ladders(stage: Stage, leg: Leg) -> str:
    """Return the SIP messages of a call as the carrier saw them, and as the bridge did."""
    seen = leg.report.ladder
    lines = [f"  carrier {one.at:.3f} {one.direction} {one.first_line}" for one in seen]
    try:
        call_id = bridge_call(stage.bridge, leg.report.call_id)
        for rung in await stage.bridge.client.call(call_id).ladder():
            lines.append(f"  bridge {rung['at']} {rung['direction']} {rung['first_line']}")
    except Exception as error:
        lines.append(f"  no ladder of the bridge: {error!r}")
    return "\n".join(lines)


def bridge_call(bridge: Bridge, sip_call_id: str) -> str:
    """Return the bridge's id of the call with a SIP Call-ID."""
    with sqlite3.connect(f"file:{bridge.folder}/journal.db?mode=ro", uri=True) as database:
        found = database.execute(
            "select call_id from calls where instr(snapshot, ?)", (sip_call_id,)
        ).fetchone()
    return str(found[0])


Story = Callable[[Stage], Awaitable[None]]
STORIES: dict[Story, int] = {
    conversation: 8,
    connection_lost: 2,
    agent_goes: 1,
    room_goes: 1,
    caller_cancels: 2,
    unanswered: 3,
    stranger: 1,
    by_datagrams: 1,
    on_a_lossy_link: 1,
}


async def tell(stage: Stage, story: Story) -> None:
    """Play one story and note how it went."""
    ledger, began = stage.ledger, time.monotonic()
    ledger.begun += 1
    ledger.active += 1
    name = story.__name__
    try:
        await story(stage)
    except Exception as error:
        if ledger.excuses(began):
            ledger.excused += 1
        else:
            text = str(error).splitlines() or [""]
            ledger.fail(f"{name}: {type(error).__name__}: {text[0][:300]}")
            if isinstance(error, Unexpected) and error.leg is not None:
                ledger.ladders.append(f"{name}: {text[0]}\n{await both_ladders(stage, error.leg)}")
    else:
        ledger.done[name] += 1
    finally:
        ledger.active -= 1


async def keep_calling(stage: Stage, until: float) -> None:
    """One caller: story after story, until the steady clock says *until*."""
    stories, weights = list(STORIES), list(STORIES.values())
    while time.monotonic() < until:
        await stage.up.wait()
        await tell(stage, stage.chance.choices(stories, weights)[0])

"""Sessions on a LiveKit that a test plays; the journal is a real one."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.adapters import Ledger
from bridge.config.config import Config
from bridge.config.sections import PlanConfig, SessionsConfig
from bridge.events import CallEvent
from bridge.journal.journal import Journal
from bridge.room.dispatch import PersonSeen, RoomSeen
from bridge.room.seam import RoomError
from bridge.sessions.requests import Asker, Created, Kind, SessionRequest
from bridge.sessions.sessions import Sessions
from bridge.sessions.state import Timing

TENANT = "0a1b2c3d-4e5f-5a7b-8c9d-0e1f2a3b4c5d"
ASKER = Asker(name="app", tenant=TENANT, plan="enterprise", credit=5)


def config(*plans: PlanConfig, agent: str = "helper") -> Config:
    return Config(
        plan=[*plans, *([] if plans else [PlanConfig(name="enterprise", sessions=0)])],
        workflow=[{"slug": "daily", "agent": "nurse", "metadata": {"a": 1}}],
        sessions=SessionsConfig(agent=agent),
    )


def person(
    sid: str, *, agent: bool = False, helper: bool = False, joined_at: float | None = None
) -> PersonSeen:
    return PersonSeen(
        sid=sid,
        identity=sid,
        agent=agent,
        helper=agent or helper,
        here=True,
        joined_at=joined_at,
    )


class FakeRooms:
    """A LiveKit server of dictionaries. ``away``: it does not answer."""

    def __init__(self) -> None:
        self.rooms: dict[str, str] = {}
        self.inside: dict[str, list[PersonSeen]] = {}
        self.asked: list[tuple[str, ...]] = []
        self.jobs: list[tuple[str, str, str]] = []
        self.calls: dict[str, str] = {}
        self.away = False
        self._sids = itertools.count(1)

    def _check(self, *asked: str) -> None:
        self.asked.append(asked)
        if self.away:
            raise RoomError("list rooms: TimeoutError")

    def token(self, room: str, identity: str) -> str:
        return f"token of {identity} for {room}"

    async def make(self, room: str, call_id: str, agent: str, job: str) -> str:
        self._check("make", room)
        if room not in self.rooms:
            self.open(room)
            self.calls[room] = call_id
            if agent:
                self.jobs.append((room, agent, job))
        return self.rooms[room]

    def open(self, room: str) -> str:
        self.rooms[room] = f"RM_{next(self._sids)}"
        self.inside[room] = []
        return self.rooms[room]

    async def exists(self, room: str) -> bool:
        self._check("exists", room)
        return room in self.rooms

    async def send_agent(self, room: str, agent: str, job: str) -> None:
        self._check("send", room)
        self.jobs.append((room, agent, job))

    async def list(self, names: Collection[str]) -> dict[str, RoomSeen]:
        self._check("list", *sorted(names))
        return {
            name: RoomSeen(
                sid=self.rooms[name], others=sum(1 for p in self.inside[name] if not p.agent)
            )
            for name in names
            if name in self.rooms
        }

    async def made(self) -> dict[str, str]:
        self._check("made")
        return {room: call for room, call in self.calls.items() if room in self.rooms}

    async def people(self, room: str) -> Sequence[PersonSeen]:
        self._check("people", room)
        return list(self.inside.get(room, []))

    async def remove(self, room: str, identity: str) -> None:
        self._check("remove", room, identity)
        self.inside[room] = [one for one in self.inside[room] if one.identity != identity]

    async def recall_agent(self, room: str, call_id: str) -> None:
        self._check("recall", room, call_id)
        self.jobs = [one for one in self.jobs if json.loads(one[2])["call_id"] != call_id]

    async def delete(self, room: str) -> None:
        self._check("delete", room)
        self.rooms.pop(room, None)
        self.inside.pop(room, None)


class Desk:
    """Sessions, their rooms and their journal. Times are short; ``settings`` are the config."""

    def __init__(self, path: Path, settings: Config, timing: Timing) -> None:
        self.journal = Journal(path, instance="test")
        self.rooms = FakeRooms()
        self.published: list[CallEvent] = []
        self.sessions = Sessions(
            settings,
            rooms=self.rooms,
            ledger=Ledger(self.journal),
            archive=self.journal,
            publish=self.published.append,
            timing=timing,
            poll=0.05,
        )

    def play(self, rooms: FakeRooms) -> None:
        """Let *rooms* be the server from here on."""
        self.rooms = rooms
        for part in (self.sessions, self.sessions._watch, self.sessions._farewells):
            part._rooms = rooms

    async def create(self, **values: Any) -> Created:
        """Create a voice session, or what *values* say."""
        wanted = {"kind": Kind.VOICE_SESSION, "config": {"voice": "shubh"}, **values}
        asker = wanted.pop("asker", ASKER)
        return await self.sessions.create(SessionRequest(**wanted), asker)

    def join(self, room: str, who: PersonSeen) -> None:
        self.rooms.inside[room].append(who)

    def events(self, call_id: str) -> list[dict[str, Any]]:
        return self.journal.events(call_id)

    async def until(self, done: Any) -> None:
        """Wait until *done* is true, for what a thread or a timer of the sessions does."""
        async with asyncio.timeout(30):
            while not done():  # noqa: ASYNC110 (state of several tasks)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def a_desk(
    path: Path, settings: Config | None = None, timing: Timing | None = None, *, start: bool = True
) -> AsyncIterator[Desk]:
    desk = Desk(path, settings or config(), timing or Timing())
    if start:
        desk.sessions.start()
    try:
        yield desk
    finally:
        desk.rooms.away = False
        await desk.sessions.stop()
        desk.journal.close()

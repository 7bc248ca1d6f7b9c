"""What is left of a session when it is over: its room, or its people in somebody else's.

A room that was made for a session is deleted, with all who are in it. In one that was there before
only who came for the session goes: its user, and the agent that was sent for. A token outlives
its session: a room that it brings to life again is deleted again, as long as it counts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from bridge.call.record import CallRecord
from bridge.room.seam import RoomError
from bridge.sessions import record as records
from bridge.sessions.rooms import SessionRooms

_log = structlog.get_logger(__name__)

AGAIN: Final = 5.0  # seconds until what did not work is tried again
PATIENCE: Final = 3600.0  # seconds until it is given up
TOKEN: Final = 3600.0  # seconds a user's token counts, from the session's beginning
SKEW: Final = 5.0  # seconds that the server's clock may be behind
KEPT: Final = 1000  # rooms that are looked after for that long


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Who came for a session into a room that is not ours, at ``since`` or later."""

    call_id: str
    identity: str
    agent: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """Something to do in ``room`` at ``at``; given up at ``until``. No visit: delete it."""

    room: str
    visit: Visit | None
    at: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """A room of ours that was deleted; ``named`` by hand: others may use its name."""

    identity: str
    named: bool
    until: float


class Farewells:
    """Empties rooms. *in_use* tells whether a call or another session is in a room.

    *identities* tells which users of running sessions a room has.
    """

    def __init__(
        self,
        rooms: SessionRooms,
        *,
        in_use: Callable[[str], bool],
        identities: Callable[[str], Sequence[str]],
        wall: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._rooms = rooms
        self._in_use = in_use
        self._identities = identities
        self._wall = wall
        self._wake = wake
        self._due: dict[tuple[str, str], _Due] = {}
        self._past: OrderedDict[str, _Past] = OrderedDict()

    def part(self, record: CallRecord, delay: float) -> None:
        """A session is over: empty its room in *delay* seconds."""
        identity = records.identity_of(record)
        room = record.room_name
        if not records.session_of(record)["own_room"]:
            visit = Visit(
                call_id=record.id,
                identity=identity,
                agent=record.agent or "",
                since=record.created_at - SKEW,
            )
            self._add(room, delay, visit)
            return
        until = self._wall() + TOKEN
        self._past[room] = _Past(
            identity=identity, named=not records.is_own_name(record), until=until
        )
        self._past.move_to_end(room)
        while len(self._past) > KEPT:
            self._past.popitem(last=False)
        self.doom(room, delay)

    def doom(self, room: str, delay: float = 0.0) -> None:
        """Delete *room* in *delay* seconds."""
        self._add(room, delay, None)

    def _add(self, room: str, delay: float, visit: Visit | None) -> None:
        now = self._wall()
        due = _Due(room=room, visit=visit, at=now + delay, until=now + delay + PATIENCE)
        self._due[room, "" if visit is None else visit.call_id] = due
        self._wake()

    @property
    def pending(self) -> bool:
        """Whether there is something to do."""
        return bool(self._due)

    @property
    def past(self) -> bool:
        """Whether a room may come to life again."""
        now = self._wall()
        while self._past and next(iter(self._past.values())).until <= now:
            self._past.popitem(last=False)
        return bool(self._past)

    def due(self, *, all_of_it: bool = False) -> list[tuple[str, str]]:
        """Return what is to be done now, for `do`; at a stop *all_of_it*."""
        now = self._wall()
        return [key for key, due in self._due.items() if all_of_it or now >= due.at]

    async def do(self, key: tuple[str, str]) -> None:
        """Do what is due, or see to it that it is tried again."""
        due = self._due.get(key)
        if due is None:
            return
        now = self._wall()
        if due.visit is None and self._in_use(due.room):
            self._due[key] = replace(due, at=now + AGAIN)
            return
        try:
            if due.visit is None:
                await self._rooms.delete(due.room)
            else:
                await self._send_away(due.room, due.visit)
        except RoomError as failure:
            if now >= due.until:
                _log.warning("room.delete_failed")
                self._due.pop(key, None)
                return
            _log.info("room.delete_refused", error=str(failure))
            self._due[key] = replace(due, at=now + AGAIN)
        else:
            self._due.pop(key, None)

    async def _send_away(self, room: str, visit: Visit) -> None:
        if visit.agent:
            await self._rooms.recall_agent(room, visit.call_id)
        if visit.identity in self._identities(room):  # in a newer session
            return
        for one in await self._rooms.people(room):
            # Who was there before under that name was replaced by ours, or ours never came.
            if one.identity == visit.identity and (one.joined_at or visit.since) >= visit.since:
                await self._rooms.remove(room, visit.identity)

    # Rooms that a late token revives.

    async def heard(self, room: str) -> None:
        """Somebody has come into *room*: look whether that is a room of ours that is past."""
        if self.past and room in self._past:
            await self._look(room)

    async def look(self) -> None:
        """Look whether rooms that are past are there again."""
        if not self.past:
            return
        try:
            found = await self._rooms.list(set(self._past))
        except RoomError:
            return
        for room in found:
            await self._look(room)

    async def _look(self, room: str) -> None:
        past = self._past.get(room)
        if past is None or (room, "") in self._due or self._in_use(room):
            return
        if past.named:
            try:
                people = await self._rooms.people(room)
            except RoomError:
                return
            there = {one.identity for one in people if not one.helper}
            if there != {past.identity}:  # somebody else's by now, or nobody's yet
                return
        self.doom(room)

"""LiveKit's server API as sessions need it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, Final, Protocol

from bridge.room.convention import SOURCE
from bridge.room.dispatch import PersonSeen, RoomSeen, RoomService
from bridge.room.tokens import LiveKitKeys, caller_token

__all__ = ["LiveKitRooms", "PersonSeen", "RoomSeen", "SessionRooms"]

EMPTY_TIMEOUT: Final = 90
"""Seconds the server keeps a room that nobody joins; longer than a session waits."""


class SessionRooms(Protocol):
    """The rooms of sessions. Failures raise `bridge.room.seam.RoomError`."""

    def token(self, room: str, identity: str) -> str:
        """Return what a user joins *room* with; it counts for an hour."""

    async def make(self, room: str, call_id: str, agent: str, job: str) -> str:
        """Make *room*, with *agent* sent for; return its id. Again: nothing more."""

    async def exists(self, room: str) -> bool:
        """Whether there is such a room already."""

    async def send_agent(self, room: str, agent: str, job: str) -> None:
        """Send for *agent* in a room that is there."""

    async def list(self, names: Collection[str]) -> dict[str, RoomSeen]:
        """Return those of *names* that exist, by one request."""

    async def made(self) -> dict[str, str]:
        """Return the rooms that were made for sessions, of any instance: name -> call id."""

    async def people(self, room: str) -> Sequence[PersonSeen]:
        """Return who is in *room*."""

    async def delete(self, room: str) -> None:
        """Delete *room* and everyone in it; one that is gone is fine."""

    async def remove(self, room: str, identity: str) -> None:
        """Send one participant out of *room*; one that is gone is fine."""

    async def recall_agent(self, room: str, call_id: str) -> None:
        """Send the agent out of *room* that was sent for with the job of a call."""


class LiveKitRooms:
    """The rooms of one LiveKit server."""

    def __init__(self, service: RoomService, keys: LiveKitKeys) -> None:
        self._service = service
        self._keys = keys

    def token(self, room: str, identity: str) -> str:
        """Return what a user joins *room* with."""
        return caller_token(self._keys, room=room, identity=identity)

    async def make(self, room: str, call_id: str, agent: str, job: str) -> str:
        """Make *room*, with *agent* sent for; return its id."""
        metadata = json.dumps({"source": SOURCE, "call_id": call_id}, separators=(",", ":"))
        return await self._service.make_room(
            room, empty_timeout=EMPTY_TIMEOUT, metadata=metadata, agent=agent, job=job
        )

    async def exists(self, room: str) -> bool:
        """Whether there is such a room already."""
        return room in await self._service.rooms([room])

    async def send_agent(self, room: str, agent: str, job: str) -> None:
        """Send for *agent* in a room that is there."""
        await self._service.dispatch_agent(room, agent, job)

    async def list(self, names: Collection[str]) -> dict[str, RoomSeen]:
        """Return those of *names* that exist, by one request."""
        return await self._service.rooms(names)

    async def made(self) -> dict[str, str]:
        """Return the rooms that were made for sessions, of any instance: name -> call id."""
        found = await self._service.described()
        ours = ((room, _call_of(metadata)) for room, metadata in found.items())
        return {room: call_id for room, call_id in ours if call_id is not None}

    async def people(self, room: str) -> Sequence[PersonSeen]:
        """Return who is in *room*."""
        return await self._service.people(room)

    async def delete(self, room: str) -> None:
        """Delete *room* and everyone in it."""
        await self._service.delete_room(room)

    async def remove(self, room: str, identity: str) -> None:
        """Send one participant out of *room*."""
        await self._service.remove(room, identity)

    async def recall_agent(self, room: str, call_id: str) -> None:
        """Send the agent out of *room* that was sent for with the job of a call."""
        for dispatch, job in (await self._service.dispatches(room)).items():
            if _call_of_job(job) == call_id:
                await self._service.recall_agent(room, dispatch)


def _call_of(metadata: str) -> str | None:
    """Return the call that a room was made for; None when it is none of ours."""
    said = _said(metadata)
    return _text(said.get("call_id")) if said.get("source") == SOURCE else None


def _call_of_job(metadata: str) -> str | None:
    """Return the call of an agent's job; None when it says none."""
    return _text(_said(metadata).get("call_id"))


def _said(metadata: str) -> dict[str, Any]:
    try:
        said = json.loads(metadata)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

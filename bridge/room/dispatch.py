"""LiveKit's server API as the bridge needs it: rooms, participants, agents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
from livekit import api

from bridge.room.seam import RoomError
from bridge.room.tokens import LiveKitKeys

T = TypeVar("T")

CALL_TIMEOUT = 5.0
ALIVE_TIMEOUT = 1.5
RETRY_PAUSES = (0.1, 0.4)
"""Seconds before the second and the third try of an idempotent call."""

EMPTY_TIMEOUT = 60
"""Seconds the server keeps a room of ours that nobody joins."""

DEPARTURE_TIMEOUT = 20
"""Seconds the server keeps it after the last one left; longer than our deletion takes."""

_FAILURES = (api.ServerError, aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsuredRoom:
    """A room that exists. ``sid``: its id, another one after its server forgot it."""

    sid: str
    made: bool  # we created it just now, and so may delete it


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSeen:
    """A room as a list of them shows it. ``others``: how many are in it besides agents.

    The server writes that number down every few seconds only.
    """

    sid: str
    others: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSeen:
    """Somebody in a room. ``sid``: the id of this one stay; ``here``: connected, not on the way.

    ``helper``: an agent, or one that nobody sees (who records, or listens in) of any kind.
    """

    sid: str
    identity: str
    agent: bool
    helper: bool
    here: bool
    joined_at: float | None


def person_of(info: api.ParticipantInfo) -> PersonSeen:
    """Return what the server's description of a participant says."""
    unseen = info.permission.hidden or info.permission.recorder
    agent = not unseen and (info.kind == api.ParticipantInfo.AGENT or info.permission.agent)
    joined = info.joined_at_ms / 1000 or float(info.joined_at)
    return PersonSeen(
        sid=info.sid,
        identity=info.identity,
        agent=agent,
        helper=agent or unseen or info.kind == api.ParticipantInfo.EGRESS,
        here=info.state == api.ParticipantInfo.ACTIVE,
        joined_at=joined or None,
    )


class RoomService:
    """The bridge's client of one LiveKit server; one HTTP session for all calls.

    Every failure is a `RoomError` whose text names the operation and the
    server's code, never a room, a number or a secret.
    """

    def __init__(self, url: str, keys: LiveKitKeys, *, timeout: float = CALL_TIMEOUT) -> None:
        self._url = url
        self._keys = keys
        self._timeout = timeout
        self._client: api.LiveKitAPI | None = None

    async def ensure_room(self, room: str, *, metadata: str = "") -> EnsuredRoom:
        """Make sure *room* exists; tell which it is and whether we created it."""
        sid = await self._sid(room)
        if sid is not None:
            return EnsuredRoom(sid=sid, made=False)
        request = api.CreateRoomRequest(
            name=room,
            empty_timeout=EMPTY_TIMEOUT,
            departure_timeout=DEPARTURE_TIMEOUT,
            metadata=metadata,
        )
        reply = await self._repeat("create room", lambda: self._api().room.create_room(request))
        return EnsuredRoom(sid=reply.sid, made=True)

    async def make_room(
        self, room: str, *, empty_timeout: int, metadata: str, agent: str, job: str
    ) -> str:
        """Make sure *room* exists; return its id.

        A room that this makes has a dispatch of *agent* (``""``: none) with the metadata *job*
        from its first moment on; one that was there is left as it is. So it may be repeated.
        """
        agents = [api.RoomAgentDispatch(agent_name=agent, metadata=job)] if agent else []
        request = api.CreateRoomRequest(
            name=room,
            empty_timeout=empty_timeout,
            departure_timeout=DEPARTURE_TIMEOUT,
            metadata=metadata,
            agents=agents,
        )
        reply = await self._repeat("create room", lambda: self._api().room.create_room(request))
        return str(reply.sid)

    async def rooms(self, names: Collection[str]) -> dict[str, RoomSeen]:
        """Return those of *names* that exist; one request for all of them, sent once."""
        if not names:
            return {}  # the server takes no name for every name
        request = api.ListRoomsRequest(names=list(names))
        reply = await self._once("list rooms", lambda: self._api().room.list_rooms(request))
        return {
            room.name: RoomSeen(sid=room.sid, others=room.num_participants) for room in reply.rooms
        }

    async def described(self) -> dict[str, str]:
        """Return the metadata of every room of the server, by name. Sent once."""
        request = api.ListRoomsRequest()
        reply = await self._once("list rooms", lambda: self._api().room.list_rooms(request))
        return {room.name: room.metadata for room in reply.rooms}

    async def people(self, room: str) -> list[PersonSeen]:
        """Return who is in *room*; nobody when there is no such room. Sent once."""
        request = api.ListParticipantsRequest(room=room)
        try:
            reply = await self._once(
                "list participants", lambda: self._api().room.list_participants(request)
            )
        except _NoSuchRoomError:
            return []
        return [person_of(info) for info in reply.participants]

    async def participants(self, room: str) -> Collection[str]:
        """Return the identities in *room*; none when there is no such room."""
        request = api.ListParticipantsRequest(room=room)
        try:
            reply = await self._repeat(
                "list participants", lambda: self._api().room.list_participants(request)
            )
        except _NoSuchRoomError:
            return frozenset()
        return frozenset(participant.identity for participant in reply.participants)

    async def dispatch_agent(self, room: str, agent: str, metadata: str) -> str:
        """Ask for *agent* in *room*; return the dispatch's id.

        Sent once: a repeated dispatch would bring a second agent. That a
        worker takes it is not known here; its absence shows in the room.
        """
        request = api.CreateAgentDispatchRequest(room=room, agent_name=agent, metadata=metadata)
        dispatch = await self._once(
            "dispatch agent", lambda: self._api().agent_dispatch.create_dispatch(request)
        )
        return str(dispatch.id)

    async def is_taken(self, room: str, dispatch: str) -> bool:
        """Tell whether a worker has taken a dispatch; without one it is lost for good."""
        try:
            found = await self._repeat(
                "get dispatch", lambda: self._api().agent_dispatch.get_dispatch(dispatch, room)
            )
        except _NoSuchRoomError:
            return False
        return found is not None and bool(found.state.jobs)

    async def dispatches(self, room: str) -> dict[str, str]:
        """Return the metadata of every agent's job in *room*, by its dispatch's id."""
        try:
            found = await self._repeat(
                "list dispatches", lambda: self._api().agent_dispatch.list_dispatch(room)
            )
        except _NoSuchRoomError:
            return {}
        return {str(one.id): str(one.metadata) for one in found}

    async def remove(self, room: str, identity: str) -> None:
        """Send a participant out of *room*; one that is gone already is fine."""
        request = api.RoomParticipantIdentity(room=room, identity=identity)
        try:
            await self._repeat(
                "remove participant", lambda: self._api().room.remove_participant(request)
            )
        except _NoSuchRoomError:
            return

    async def recall_agent(self, room: str, dispatch: str) -> None:
        """Delete a dispatch; the server ends its job and removes its agent from *room*."""
        try:
            await self._repeat(
                "recall agent",
                lambda: self._api().agent_dispatch.delete_dispatch(dispatch, room),
            )
        except _NoSuchRoomError:
            return

    async def delete_room(self, room: str) -> None:
        """Delete *room* and everyone in it; one that is gone already is fine."""
        request = api.DeleteRoomRequest(room=room)
        try:
            await self._repeat("delete room", lambda: self._api().room.delete_room(request))
        except _NoSuchRoomError:
            return

    async def alive(self, *, timeout: float = ALIVE_TIMEOUT) -> bool:
        """Tell whether the server answers and accepts our key, within *timeout* seconds."""
        request = api.ListRoomsRequest(names=["trunkbridge-alive"])
        try:
            async with asyncio.timeout(timeout):
                await self._api().room.list_rooms(request)
        except _FAILURES:
            return False
        return True

    async def close(self) -> None:
        """Close the HTTP session; the next call would open a new one."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _sid(self, room: str) -> str | None:
        request = api.ListRoomsRequest(names=[room])
        reply = await self._repeat("list rooms", lambda: self._api().room.list_rooms(request))
        return next((found.sid for found in reply.rooms if found.name == room), None)

    def _api(self) -> api.LiveKitAPI:
        if self._client is None:
            self._client = api.LiveKitAPI(
                self._url,
                self._keys.api_key,
                self._keys.api_secret,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
            )
        return self._client

    async def _repeat(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Try an idempotent *call* up to three times while the fault may pass."""
        for pause in RETRY_PAUSES:
            try:
                return await self._once(operation, call)
            except _PassingError:
                await asyncio.sleep(pause)
        return await self._once(operation, call)

    async def _once(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        # livekit-api hands aiohttp an explicit None, which switches the session's timeout off.
        try:
            async with asyncio.timeout(self._timeout):
                return await call()
        except api.ServerError as error:
            raise _server_failure(operation, error) from error
        except _FAILURES as error:
            msg = f"{operation}: {type(error).__name__}"
            raise _PassingError(msg) from error


class _PassingError(RoomError):
    """A failure that may be gone at the next try."""


class _NoSuchRoomError(RoomError):
    """The server knows no such room."""


def _server_failure(operation: str, error: api.ServerError) -> RoomError:
    text = f"{operation}: {error.code} ({error.status})"
    if error.code == "not_found":
        return _NoSuchRoomError(text)
    if error.status >= 500 or error.status == 429:
        return _PassingError(text)
    return RoomError(text)

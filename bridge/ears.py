"""What is said on calls, heard: in phone rooms by the call itself, in web rooms by a listener.

A plug, as `bridge.adapters`: only the daemon uses it. Hears every event, on the main loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from bridge.errors import BridgeError
from bridge.events import CallAnswered, CallEnded, CallEvent
from bridge.room.dispatch import RoomService
from bridge.room.tokens import LiveKitKeys
from bridge.sessions.rooms import LiveKitRooms
from bridge.sessions.sessions import Sessions
from bridge.store.project import Projection
from bridge.store.store import Store
from bridge.transcript.desk import Transcripts
from bridge.transcript.web import WebCapture

FRESH_WITHIN: Final = 2.0
"""Seconds that a listener waits for the store to have all that was posted."""


class HeardRooms(LiveKitRooms):
    """The rooms of web calls; *made* hears of each that was made, by its call's id.

    Who joins a room late has missed the beginning of what is being said there.
    """

    def __init__(
        self, service: RoomService, keys: LiveKitKeys, made: Callable[[str], None]
    ) -> None:
        super().__init__(service, keys)
        self._made = made

    async def make(self, room: str, call_id: str, agent: str, job: str) -> str:
        """Make *room*, with *agent* sent for; return its id."""
        sid = await super().make(room, call_id, agent, job)
        self._made(call_id)
        return sid


class Ears:
    """Listens in the rooms of web calls from their making to the calls' end."""

    def __init__(
        self,
        said: Transcripts,
        sessions: Sessions,
        store: Store,
        projection: Projection,
        rooms: RoomService,
        url: str,
        keys: LiveKitKeys,
    ) -> None:
        self._said = said
        self._sessions = sessions
        self._store = store
        self._projection = projection
        self._rooms = rooms
        self._web = WebCapture(said, url, keys, is_off=self._is_posted, exists=self._is_room)

    def made(self, call_id: str) -> None:
        """The room of a web call was made: be there before anybody speaks."""
        self._watch(call_id)

    def told(self, event: CallEvent) -> None:
        """Listen until the end; in a room that was there before, from the answer on."""
        self._said.told(event)
        match event:
            case CallAnswered():
                self._watch(event.call_id)
            case CallEnded():
                self._web.forget(event.call_id)
            case _:
                pass

    def start(self) -> None:
        """Listen in the rooms of the web calls that went on while we were away."""
        for call_id in self._sessions.running:
            self._watch(call_id)

    async def stop(self) -> None:
        """Leave all rooms, and write down what was said in them."""
        await self._web.close()
        await self._said.close()

    def _watch(self, call_id: str) -> None:
        record = self._sessions.record(call_id)
        if record is not None and record.ended_at is None:
            self._web.watch(record.id, record.room_name, tenant_id=record.tenant_id)

    async def _is_posted(self, call_id: str) -> bool:
        """Whether a call's transcript is posted by its agent, as far as the store knows."""
        await self._projection.caught_up(FRESH_WITHIN)  # the post may be our last words of before
        try:
            return await asyncio.to_thread(self._store.capture_is_off, call_id)
        except BridgeError:
            return False

    async def _is_room(self, room: str) -> bool:
        return room in await self._rooms.rooms([room])

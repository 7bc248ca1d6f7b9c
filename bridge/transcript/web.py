"""Ears in the rooms of web calls, where the bridge is no participant: a hidden one listens.

One per running call, joined while the session is active. It subscribes to no track, so it costs
no audio; nobody sees it, and no room lives longer for it. Lives on the main loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog
from livekit import rtc

from bridge.room.sdk_dispatch import own_events
from bridge.room.sdk_link import kind_name
from bridge.room.sdk_quiet import quiet_native_logs
from bridge.room.sdk_streams import StreamReaders
from bridge.room.tokens import LiveKitKeys, listener_token
from bridge.transcript.desk import TOPICS, Transcripts

_log = structlog.get_logger(__name__)

IDENTITY: Final = "bridge-listener-"
"""What a listener's identity begins with; the call's id follows."""

PAUSE: Final = 1.0  # seconds before the second attempt to join, doubled up to LONGEST_PAUSE
LONGEST_PAUSE: Final = 15.0
DISCONNECT_TIMEOUT: Final = 5.0
CONNECT_TIMEOUT: Final = 5.0

_OVER: Final = (
    rtc.DisconnectReason.ROOM_DELETED,
    rtc.DisconnectReason.ROOM_CLOSED,
    rtc.DisconnectReason.PARTICIPANT_REMOVED,
)


async def _never(_: str) -> bool:
    return False


async def _always(_: str) -> bool:
    return True


class WebCapture:
    """Listens in the rooms of web calls and tells *desk* what is streamed there.

    *is_off* says whether posts have switched the capture of a call off, before a restart
    perhaps. *exists* says whether a room still does: joining would make it anew.
    """

    def __init__(
        self,
        desk: Transcripts,
        url: str,
        keys: LiveKitKeys,
        *,
        is_off: Callable[[str], Awaitable[bool]] = _never,
        exists: Callable[[str], Awaitable[bool]] = _always,
    ) -> None:
        self._desk = desk
        self._url = url
        self._keys = keys
        self._is_off = is_off
        self._exists = exists
        self._listeners: dict[str, _Listener] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, call_id: str, room: str, *, tenant_id: str | None = None) -> None:
        """A web call is active: listen in its room until `forget`. Again: nothing more."""
        if call_id in self._listeners:
            return
        self._desk.open(call_id, room, tenant_id=tenant_id)
        listener = _Listener(self, call_id, room)
        self._listeners[call_id] = listener
        self._keep(listener.run())

    def forget(self, call_id: str) -> None:
        """A web call has ended: leave its room."""
        listener = self._listeners.pop(call_id, None)
        if listener is not None:
            listener.stop()

    async def close(self) -> None:
        """Leave all rooms."""
        for call_id in list(self._listeners):
            self.forget(call_id)
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=2 * DISCONNECT_TIMEOUT)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What a listener asks.

    async def is_posted(self, call_id: str, room: str) -> bool:
        """Whether there is nothing to listen to, because it is posted."""
        if not await self._is_off(call_id):
            return False
        self._desk.open(call_id, room, off=True)
        return True

    async def is_there(self, room: str) -> bool:
        """Whether *room* is there to be joined."""
        return await self._exists(room)

    async def connect(self, call_id: str, name: str) -> tuple[rtc.Room, StreamReaders]:
        """Join *name*. Never to be cancelled (rust-sdks#1340). Raises `rtc.ConnectError`."""
        quiet_native_logs()
        room = rtc.Room()
        readers = StreamReaders(
            room, TOPICS, lambda stream: self._desk.hear(call_id, stream), kind_name
        )
        token = listener_token(self._keys, room=name, identity=IDENTITY + call_id)
        options = rtc.RoomOptions(auto_subscribe=False, connect_timeout=CONNECT_TIMEOUT)
        await room.connect(self._url, token, options)
        own_events(room)
        return room, readers

    def over(self, call_id: str) -> None:
        """Nothing more comes of a call."""
        self._desk.end(call_id)


class _Listener:
    """One call's listener: joins, joins again when it is thrown out, leaves."""

    def __init__(self, capture: WebCapture, call_id: str, room: str) -> None:
        self._capture = capture
        self._call_id = call_id
        self._name = room
        self._stopping = asyncio.Event()
        self.connected = False

    def stop(self) -> None:
        """Leave, now or once the join under way is done."""
        self._stopping.set()

    async def run(self) -> None:
        """Listen until stopped, or until the room is over."""
        pause = PAUSE
        try:
            while not self._stopping.is_set():
                try:
                    if await self._capture.is_posted(self._call_id, self._name):
                        break
                    if await self._capture.is_there(self._name) and not self._stopping.is_set():
                        if await self._listen():
                            break
                        pause = PAUSE
                except Exception as error:  # the room without a listener goes on
                    _log.info(
                        "transcript.not_listening",
                        call_id=self._call_id,
                        error=type(error).__name__,
                    )
                await self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            await self._stopping.wait()
        finally:
            self._capture.over(self._call_id)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _listen(self) -> bool:
        """Be in the room as long as it goes; True when there is nothing to come back for."""
        room, readers = await self._capture.connect(self._call_id, self._name)
        gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def disconnected(reason: Any) -> None:
            if not gone.done():
                gone.set_result(int(reason))

        room.on("disconnected", disconnected)
        if not room.isconnected():
            disconnected(rtc.DisconnectReason.UNKNOWN_REASON)
        self.connected = True
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            either: set[asyncio.Future[Any]] = {gone, stopping}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.connected = False
            stopping.cancel()
            try:
                async with asyncio.timeout(DISCONNECT_TIMEOUT):
                    await room.disconnect()
            except TimeoutError:
                _log.warning("room.disconnect_timeout")
            await readers.close()
        return gone.done() and gone.result() in _OVER

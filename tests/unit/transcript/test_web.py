"""Listeners in the rooms of web calls; the SDK's rooms are the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from livekit import api, rtc

from bridge.room.seam import RoomStream
from bridge.room.tokens import LiveKitKeys
from bridge.transcript import web
from bridge.transcript.web import IDENTITY, WebCapture

pytestmark = pytest.mark.unit

KEYS = LiveKitKeys(api_key="key", api_secret="s" * 32)


class FakeRoom:
    """A room of the SDK."""

    made: ClassVar[list[FakeRoom]] = []
    failures: ClassVar[list[Exception]] = []

    def __init__(self) -> None:
        self.made.append(self)
        self.handlers: dict[str, Callable[..., None]] = {}
        self.token = ""
        self.options: Any = None
        self.left = False
        self.local_participant = SimpleNamespace(identity="us", track_publications={})
        self.remote_participants: dict[str, Any] = {}

    def register_text_stream_handler(self, topic: str, handler: Any) -> None: ...

    def register_byte_stream_handler(self, topic: str, handler: Any) -> None: ...

    def on(self, event: str, handler: Callable[..., None]) -> None:
        self.handlers[event] = handler

    async def connect(self, url: str, token: str, options: Any) -> None:
        if self.failures:
            raise self.failures.pop()
        self.token, self.options = token, options

    def isconnected(self) -> bool:
        return not self.left

    async def disconnect(self) -> None:
        self.left = True

    def ends(self, reason: int) -> None:
        self.handlers["disconnected"](reason)


class FakeDesk:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def open(
        self, call_id: str, room: str, *, tenant_id: str | None = None, off: bool = False
    ) -> None:
        self.told.append(("open", call_id, room, tenant_id, off))

    def end(self, call_id: str) -> None:
        self.told.append(("end", call_id))

    def hear(self, call_id: str, stream: RoomStream) -> None:
        self.told.append(("hear", call_id))


class House:
    def __init__(self) -> None:
        self.desk: Any = FakeDesk()
        self.off = False
        self.exists = True
        self.capture = WebCapture(
            self.desk, "ws://x", KEYS, is_off=self._is_off, exists=self._exists
        )

    async def _is_off(self, _: str) -> bool:
        return self.off

    async def _exists(self, _: str) -> bool:
        return self.exists

    async def rooms(self, count: int) -> list[FakeRoom]:
        """Wait until so many rooms were joined."""
        async with asyncio.timeout(30):
            while sum("disconnected" in room.handlers for room in FakeRoom.made) < count:  # noqa: ASYNC110
                await asyncio.sleep(0)
        return FakeRoom.made

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not done():  # noqa: ASYNC110
                await asyncio.sleep(0)


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(web.rtc, "Room", FakeRoom)
    monkeypatch.setattr(web, "quiet_native_logs", lambda: None)
    monkeypatch.setattr(web, "own_events", lambda _: None)
    monkeypatch.setattr(web, "PAUSE", 0.001)
    FakeRoom.made.clear()
    FakeRoom.failures.clear()
    made = House()
    yield made
    await made.capture.close()


async def test_a_listener_joins_unseen_subscribes_to_nothing_and_leaves(house: House) -> None:
    house.capture.watch("c", "r", tenant_id="t")
    house.capture.watch("c", "r", tenant_id="t")
    (room,) = await house.rooms(1)
    claims = api.TokenVerifier(KEYS.api_key, KEYS.api_secret).verify(room.token)
    assert claims.identity == f"{IDENTITY}c"
    assert claims.video is not None
    assert claims.video.hidden
    assert not room.options.auto_subscribe
    house.capture.forget("c")
    await house.until(lambda: ("end", "c") in house.desk.told)
    assert room.left
    assert house.desk.told == [("open", "c", "r", "t", False), ("end", "c")]


async def test_a_listener_that_is_thrown_out_comes_back_while_the_room_is_there(
    house: House,
) -> None:
    house.capture.watch("c", "r")
    (first,) = await house.rooms(1)
    first.ends(rtc.DisconnectReason.SERVER_SHUTDOWN)
    second = (await house.rooms(2))[1]
    house.exists = False
    second.ends(rtc.DisconnectReason.SERVER_SHUTDOWN)
    await house.until(lambda: second.left)
    await asyncio.sleep(0.02)
    assert len(FakeRoom.made) == 2  # joining would have made the room anew
    house.exists = True  # its session has done that
    await house.rooms(3)


async def test_a_room_that_is_over_is_not_joined_again(house: House) -> None:
    house.capture.watch("c", "r")
    (room,) = await house.rooms(1)
    room.ends(rtc.DisconnectReason.ROOM_DELETED)
    await house.until(lambda: room.left)
    await asyncio.sleep(0.02)
    assert len(FakeRoom.made) == 1
    assert ("end", "c") not in house.desk.told  # the call says when it is over


async def test_a_join_that_fails_is_tried_again(house: House) -> None:
    FakeRoom.failures += [rtc.ConnectError("no"), rtc.ConnectError("no")]
    house.capture.watch("c", "r")
    await house.rooms(1)
    assert len(FakeRoom.made) == 3


async def test_a_call_whose_transcript_is_posted_is_not_listened_to(house: House) -> None:
    house.off = True
    house.capture.watch("c", "r")
    await house.until(lambda: ("open", "c", "r", None, True) in house.desk.told)
    assert FakeRoom.made == []


async def test_all_leave_when_the_daemon_stops(house: House) -> None:
    house.capture.watch("a", "r1")
    house.capture.watch("b", "r2")
    rooms = await house.rooms(2)
    await house.capture.close()
    assert all(room.left for room in rooms)
    assert {("end", "a"), ("end", "b")} <= set(house.desk.told)

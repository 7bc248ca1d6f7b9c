"""Streams of the SDK's rooms, put together; the readers are the test's."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from livekit import rtc

from bridge.room import sdk_streams
from bridge.room.sdk_streams import StreamReaders
from bridge.room.seam import RoomStream

pytestmark = pytest.mark.unit

TOPIC = "lk.transcription"


class FakeReader:
    """Gives what a test puts into it."""

    def __init__(self, **attributes: str) -> None:
        self.info = SimpleNamespace(topic=TOPIC, attributes=attributes)
        self.parts: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False

    def put(self, *parts: Any) -> FakeReader:
        for part in parts:
            self.parts.put_nowait(part)
        return self

    def close(self) -> None:
        self.closed = True

    def __aiter__(self) -> FakeReader:
        return self

    async def __anext__(self) -> Any:
        part = await self.parts.get()
        if part is None:
            raise StopAsyncIteration
        if isinstance(part, Exception):
            raise part
        return part


class FakeRoom:
    """Two others, and us."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}
        self.local_participant = SimpleNamespace(identity="us", track_publications={"TR_us": 1})
        self.remote_participants = {
            "agent-1": SimpleNamespace(kind=4, track_publications={"TR_agent": 1}),
            "web": SimpleNamespace(kind=0, track_publications={"TR_web": 1}),
        }

    def register_text_stream_handler(self, topic: str, handler: Any) -> None:
        self.handlers[topic] = handler

    def register_byte_stream_handler(self, topic: str, handler: Any) -> None:
        assert topic in self.handlers


class House:
    def __init__(self) -> None:
        self.room = FakeRoom()
        self.heard: list[RoomStream] = []
        names = {0: "standard", 4: "agent"}
        self.readers = StreamReaders(
            cast("Any", self.room), [TOPIC], self.heard.append, lambda kind: names[kind]
        )

    def begins(self, identity: str, reader: FakeReader) -> FakeReader:
        self.room.handlers[TOPIC](reader, identity)
        return reader

    async def all_heard(self, count: int) -> list[RoomStream]:
        async with asyncio.timeout(30):
            while len(self.heard) < count:  # noqa: ASYNC110 (tasks of the readers' own)
                await asyncio.sleep(0)
        return self.heard


async def test_a_stream_is_told_whole_once_it_has_ended() -> None:
    house = House()
    reader = house.begins("agent-1", FakeReader(a="1"))
    reader.put("Hello ", "there")
    await asyncio.sleep(0)
    assert house.heard == []
    reader.info.attributes["b"] = "2"  # of the trailer
    reader.put(None)
    (stream,) = await house.all_heard(1)
    assert (stream.text, stream.kind, stream.identity) == ("Hello there", "agent", "agent-1")
    assert stream.attributes == {"a": "1", "b": "2"}
    assert stream.whole
    assert reader.closed


@pytest.mark.parametrize(
    ("identity", "track", "kind"),
    [
        ("us", "", "sip"),
        ("agent-1", "TR_agent", "agent"),
        ("agent-1", "TR_us", "sip"),
        ("agent-1", "TR_web", "standard"),
        ("web", "TR_agent", "standard"),
        ("nobody", "", "unknown"),
    ],
)
async def test_whose_words_they_are(identity: str, track: str, kind: str) -> None:
    house = House()
    house.begins(identity, FakeReader(**{"lk.transcribed_track_id": track}).put("x", None))
    (stream,) = await house.all_heard(1)
    assert stream.kind == kind


async def test_whose_words_they_are_is_known_also_when_the_speaker_left_meanwhile() -> None:
    house = House()
    reader = house.begins("agent-1", FakeReader().put("bye"))
    house.room.remote_participants.clear()
    reader.put(None)
    assert (await house.all_heard(1))[0].kind == "agent"


async def test_what_is_broken_off_is_told_as_far_as_it_came() -> None:
    house = House()
    error = rtc.data_stream.StreamError("Disconnected while receiving")
    house.begins("agent-1", FakeReader().put("I was", error))
    (stream,) = await house.all_heard(1)
    assert (stream.text, stream.whole) == ("I was", False)


async def test_bytes_come_as_bytes_and_what_is_too_long_not_at_all() -> None:
    house = House()
    long = house.begins("agent-1", FakeReader().put("x" * 64_000, "y"))
    house.begins("agent-1", FakeReader().put(b"\x01", b"\x02", None))
    (stream,) = await house.all_heard(1)
    assert (stream.data, stream.text) == (b"\x01\x02", "")
    assert long.closed


async def test_no_sender_and_no_room_has_more_than_its_streams() -> None:
    house = House()
    first = [house.begins("agent-1", FakeReader()) for _ in range(9)]
    assert [reader.closed for reader in first] == [False] * 8 + [True]
    others = [house.begins(str(number // 8), FakeReader()) for number in range(60)]
    assert sum(not reader.closed for reader in [*first, *others]) == sdk_streams.STREAM_LIMIT
    for reader in [*first, *others]:
        reader.put(None)
    await house.readers.close()


async def test_a_stream_that_never_ends_does_not_hold_a_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sdk_streams, "PARTING", 0.01)
    house = House()
    reader = house.begins("agent-1", FakeReader())
    await asyncio.sleep(0)
    await house.readers.close()
    await asyncio.sleep(0)
    assert reader.closed
    assert house.begins("agent-1", FakeReader()).closed

"""The SDK room session against a real livekit-server and stock SDK participants."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from livekit import rtc

from bridge.room import convention, sdk
from bridge.room.sdk import SdkRoom
from bridge.room.seam import (
    AudioPublished,
    JoinSpec,
    LeaveReason,
    RoomHandlers,
    RoomNotice,
    RpcHandler,
)
from bridge.room.tokens import LiveKitKeys, bridge_token, caller_token

pytestmark = pytest.mark.system

DEADLINE = 15.0
FRAME_MS = 20


def tone(hertz: float, start_ms: int, length_ms: int = FRAME_MS, rate: int = 8000) -> bytes:
    """Return a sine of half full scale whose phase goes on from *start_ms*."""
    first, count = start_ms * rate // 1000, length_ms * rate // 1000
    return struct.pack(
        f"<{count}h",
        *(int(16000 * math.sin(2 * math.pi * hertz * (first + i) / rate)) for i in range(count)),
    )


def samples(pcm: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(pcm) // 2}h", pcm))


def frequency(pcm: bytes, rate: int = 8000) -> float:
    """Return the frequency of a pure tone by its zero crossings."""
    values = samples(pcm)
    crossings = sum(1 for a, b in itertools.pairwise(values) if a < 0 <= b)
    return crossings * rate / len(values)


class Notices:
    """What a session told, with a way to wait for it."""

    def __init__(self) -> None:
        self.seen: list[RoomNotice] = []
        self._changed = asyncio.Event()

    def __call__(self, notice: RoomNotice) -> None:
        self.seen.append(notice)
        self._changed.set()

    async def until(self, wanted: Callable[[RoomNotice], bool]) -> RoomNotice:
        async with asyncio.timeout(DEADLINE):
            while True:
                for notice in self.seen:
                    if wanted(notice):
                        return notice
                self._changed.clear()
                await self._changed.wait()

    async def of(self, kind: type[Any]) -> Any:
        return await self.until(lambda notice: isinstance(notice, kind))


class Bench:
    """Makes sessions and stock participants for one room and ends them all."""

    def __init__(self, server: Any, stack: AsyncExitStack) -> None:
        self.server = server
        self.room = server.room_name()
        self.keys = LiveKitKeys(api_key=server.api_key, api_secret=server.api_secret)
        self._stack = stack

    def spec(
        self, identity: str = "sip-+911", attributes: dict[str, str] | None = None
    ) -> JoinSpec:
        token = bridge_token(
            self.keys,
            room=self.room,
            identity=identity,
            name="Phone +911",
            metadata="{}",
            attributes=attributes or {"sip.callStatus": "dialing"},
        )
        return JoinSpec(url=self.server.url, room=self.room, identity=identity, token=token)

    def session(self, rpc: dict[str, RpcHandler] | None = None) -> tuple[SdkRoom, Notices]:
        notices = Notices()
        session = SdkRoom(RoomHandlers(notify=notices, rpc=rpc or {}))
        self._stack.push_async_callback(session.leave, LeaveReason.CLIENT_INITIATED)
        return session, notices

    async def joined(self, rpc: dict[str, RpcHandler] | None = None) -> tuple[SdkRoom, Notices]:
        session, notices = self.session(rpc)
        await session.join(self.spec())
        return session, notices

    async def peer(self, identity: str = "agent") -> Peer:
        peer = Peer(identity)
        token = caller_token(self.keys, room=self.room, identity=identity)
        self._stack.push_async_callback(peer.close)
        await peer.room.connect(
            self.server.url, token, rtc.RoomOptions(single_peer_connection=False)
        )
        return peer


class Peer:
    """A stock SDK participant."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.room = rtc.Room()
        self.data: asyncio.Queue[rtc.DataPacket] = asyncio.Queue()
        self.dtmf: asyncio.Queue[rtc.SipDTMF] = asyncio.Queue()
        self.tracks: asyncio.Queue[rtc.Track] = asyncio.Queue()
        self._talk: asyncio.Task[None] | None = None
        self.room.on("data_received", self.data.put_nowait)
        self.room.on("sip_dtmf_received", self.dtmf.put_nowait)
        self.room.on("track_subscribed", lambda track, _p, _q: self.tracks.put_nowait(track))

    async def talk(self, hertz: float) -> None:
        """Publish a tone of *hertz*, as an agent would: 24 kHz, with a queue."""
        source = rtc.AudioSource(24000, 1, queue_size_ms=100)
        track = rtc.LocalAudioTrack.create_audio_track("voice", source)
        await self.room.local_participant.publish_track(
            track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        )
        self._talk = asyncio.create_task(self._play(source, hertz))

    async def _play(self, source: rtc.AudioSource, hertz: float) -> None:
        at = 0
        while True:
            pcm = tone(hertz, at, rate=24000)
            await source.capture_frame(rtc.AudioFrame(pcm, 24000, 1, len(pcm) // 2))
            at += FRAME_MS

    async def sees(self, attributes: dict[str, str], identity: str = "sip-+911") -> None:
        """Return once the phone shows all of *attributes*."""

        def shown() -> bool:
            phone = self.room.remote_participants.get(identity)
            return phone is not None and attributes.items() <= phone.attributes.items()

        await self.until(shown)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once *condition* holds; it is looked at after each event of the room."""
        changed = asyncio.Event()
        events: tuple[Any, ...] = (
            "participant_connected",
            "participant_disconnected",
            "participant_attributes_changed",
            "track_published",
            "track_muted",
            "track_unmuted",
        )
        notice = lambda *_: changed.set()  # noqa: E731 (the emitter counts parameters)
        for event in events:
            self.room.on(event, notice)
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition():
                    changed.clear()
                    await changed.wait()
        finally:
            for event in events:
                self.room.off(event, notice)

    async def close(self) -> None:
        if self._talk is not None:
            self._talk.cancel()
            await asyncio.wait({self._talk})
        await self.room.disconnect()

    async def hears(self, hertz: float) -> None:
        """Return once the phone's track has carried a tone of *hertz* for 200 ms."""
        async with asyncio.timeout(DEADLINE):
            track = await self.tracks.get()
            stream = rtc.AudioStream(track, sample_rate=8000, num_channels=1, frame_size_ms=20)
            window = b""
            try:
                async for event in stream:
                    window = (window + bytes(event.frame.data))[-3200:]
                    if len(window) == 3200 and is_tone(window, hertz):
                        return
            finally:
                await stream.aclose()


def is_tone(pcm: bytes, hertz: float) -> bool:
    loud = sum(1 for value in samples(pcm) if abs(value) > 4000) > len(pcm) // 8
    return loud and abs(frequency(pcm) - hertz) < 15


async def hear(session: SdkRoom, hertz: float) -> None:
    """Pull every 20 ms until 200 ms of a tone of *hertz* came out."""
    window = b""
    async with asyncio.timeout(DEADLINE):
        async for _ in ticks():
            window = (window + (session.pull(160) or b""))[-3200:]
            if len(window) == 3200 and is_tone(window, hertz):
                return


async def ticks() -> AsyncIterator[int]:
    """Yield every 20 ms of wall time, as the engine's clock does."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    count = 0
    while True:
        yield count
        count += 1
        await asyncio.sleep(max(0.0, start + count * FRAME_MS / 1000 - loop.time()))


@asynccontextmanager
async def playing(session: SdkRoom, hertz: float) -> AsyncIterator[None]:
    """Push a tone of *hertz* into *session* at the pace of the engine's clock."""

    async def play() -> None:
        async for count in ticks():
            session.push(tone(hertz, count * FRAME_MS))

    task = asyncio.create_task(play())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
async def bench(livekit: Any) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(livekit, stack)
    await sdk.settle()


async def test_a_joined_session_is_a_silent_sip_participant_with_its_track(bench: Bench) -> None:
    peer = await bench.peer()
    await bench.joined()
    track = await asyncio.wait_for(peer.tracks.get(), DEADLINE)
    phone = peer.room.remote_participants["sip-+911"]
    (publication,) = phone.track_publications.values()
    assert phone.kind == rtc.ParticipantKind.PARTICIPANT_KIND_SIP
    assert phone.attributes["sip.callStatus"] == "dialing"
    assert phone.name == "Phone +911"
    assert track.name == "sip_audio"
    assert publication.source == rtc.TrackSource.SOURCE_MICROPHONE
    assert not publication.muted


async def test_a_published_event_reaches_everyone_and_a_directed_one_only_its_target(
    bench: Bench,
) -> None:
    first, second = await bench.peer("first"), await bench.peer("second")
    session, _ = await bench.joined()
    await session.publish(b'{"seq":1}', convention.TOPIC)
    await session.publish(b'{"seq":2}', convention.TOPIC, ["second"])
    await session.publish(b'{"seq":3}', convention.TOPIC)

    async def received(peer: Peer, count: int) -> list[int]:
        async with asyncio.timeout(DEADLINE):
            packets = [await peer.data.get() for _ in range(count)]
        assert {packet.topic for packet in packets} == {convention.TOPIC}
        return [json.loads(packet.data)["seq"] for packet in packets]

    assert await received(second, 3) == [1, 2, 3]
    assert await received(first, 2) == [1, 3]


async def test_attributes_are_merged_for_the_others(bench: Bench) -> None:
    peer = await bench.peer()
    session, _ = await bench.joined()
    await session.set_attributes({"bridge.hold": "true"})
    await peer.sees({"bridge.hold": "true", "sip.callStatus": "dialing"})


async def test_the_published_tone_is_heard_by_a_stock_participant(bench: Bench) -> None:
    peer = await bench.peer()
    session, _ = await bench.joined()
    async with playing(session, 500):
        await peer.hears(500)


async def test_an_agents_tone_is_pulled_when_subscribed_before_it_publishes(bench: Bench) -> None:
    session, notices = await bench.joined()
    session.subscribe(True)
    peer = await bench.peer()
    await peer.talk(440)
    assert await notices.of(AudioPublished) == AudioPublished(identity="agent")
    await hear(session, 440)

"""Both kinds of room sessions against a real livekit-server, and stock SDK participants."""

from __future__ import annotations

import asyncio
import itertools
import math
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

from livekit import rtc
from livekit.rtc.room import SimulateScenarioKind

from bridge.room.dispatch import RoomService
from bridge.room.joining import settle
from bridge.room.sdk import SdkRoom
from bridge.room.seam import (
    JoinSpec,
    LeaveReason,
    RoomHandlers,
    RoomNotice,
    RoomSession,
    RpcHandler,
)
from bridge.room.signal.port import PeerEvent, PeerPort
from bridge.room.signal.session import SignalRoom
from bridge.room.tokens import LiveKitKeys, bridge_token, caller_token
from tests.webrtc.aiortc_peer import AiortcPeer
from tests.webrtc.heard import PCMA, PCMU

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

    async def until(
        self, wanted: Callable[[RoomNotice], bool], deadline: float = DEADLINE
    ) -> RoomNotice:
        async with asyncio.timeout(deadline):
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

    def __init__(self, server: Any, stack: AsyncExitStack, kind: Kind) -> None:
        self.server = server
        self.kind = kind
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

    def session(self, rpc: dict[str, RpcHandler] | None = None) -> tuple[RoomSession, Notices]:
        notices = Notices()
        return self.session_with(notices, rpc), notices

    def session_with(
        self, notify: Callable[[RoomNotice], None], rpc: dict[str, RpcHandler] | None = None
    ) -> RoomSession:
        session = self.kind.make(RoomHandlers(notify=notify, rpc=rpc or {}))
        self._stack.push_async_callback(session.leave, LeaveReason.CLIENT_INITIATED)
        return session

    async def joined(self, rpc: dict[str, RpcHandler] | None = None) -> tuple[RoomSession, Notices]:
        session, notices = self.session(rpc)
        await session.join(self.spec())
        return session, notices

    async def hear(self, session: RoomSession, hertz: float) -> None:
        """Return once *session* has heard a tone of *hertz*."""
        await self.kind.hear(session, hertz)

    def playing(self, session: RoomSession, hertz: float) -> AbstractAsyncContextManager[None]:
        """Have *session* say a tone of *hertz*."""
        return self.kind.playing(session, hertz)

    def service(self) -> RoomService:
        service = RoomService(self.server.url, self.keys)
        self._stack.push_async_callback(service.close)
        return service

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

    def phone_muted(self, identity: str = "sip-+911") -> bool | None:
        """Tell whether the phone's track is muted; None while there is none."""
        phone = self.room.remote_participants.get(identity)
        publications = list(phone.track_publications.values()) if phone is not None else []
        return publications[0].muted if publications else None

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


class Kind(Protocol):
    """A kind of room session, and what a test does with it beyond its seam."""

    def make(self, handlers: RoomHandlers) -> RoomSession:
        """Make a session."""

    async def hear(self, session: Any, hertz: float) -> None:
        """Return once 200 ms of a tone of *hertz* came out of *session*."""

    def playing(self, session: Any, hertz: float) -> AbstractAsyncContextManager[None]:
        """Have *session* say a tone of *hertz*."""

    async def cut_signalling(self, session: Any) -> None:
        """Break the signalling connection under *session*."""

    async def settle(self) -> None:
        """Wait for what sessions left behind."""

    async def finish(self) -> None:
        """Free everything; the sessions are over."""


class Sdk:
    """Sessions through the livekit SDK."""

    def make(self, handlers: RoomHandlers) -> SdkRoom:
        return SdkRoom(handlers)

    async def hear(self, session: SdkRoom, hertz: float) -> None:
        """Pull every 20 ms until the tone came out."""
        window = b""
        async with asyncio.timeout(DEADLINE):
            async for _ in ticks():
                window = (window + (session.pull(160) or b""))[-3200:]
                if len(window) == 3200 and is_tone(window, hertz):
                    return

    @asynccontextmanager
    async def playing(self, session: SdkRoom, hertz: float) -> AsyncIterator[None]:
        """Push a tone at the pace of the engine's clock."""

        async def play() -> None:
            async for count in ticks():
                session.push(tone(hertz, count * FRAME_MS))

        task = asyncio.create_task(play())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def cut_signalling(self, session: SdkRoom) -> None:
        await simulate(session, SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT)

    async def settle(self) -> None:
        await settle()

    async def finish(self) -> None:
        await self.settle()


async def simulate(session: SdkRoom, scenario: Any) -> None:
    """Break the connection under *session*; the SDK has the tool for it on its room."""
    link = session._link
    assert link is not None
    await link._room.simulate_scenario(scenario)


class Signal:
    """Sessions by our own signalling, on the tests' WebRTC peer."""

    def __init__(self, codec: str = "PCMU") -> None:
        self.codec = codec
        self.peers: list[AiortcPeer] = []

    def make(self, handlers: RoomHandlers) -> SignalRoom:
        return SignalRoom(handlers, self._peer, codec=self.codec)

    def _peer(self, notify: Callable[[PeerEvent], None]) -> PeerPort:
        peer = AiortcPeer(notify, law=LAWS[self.codec])
        self.peers.append(peer)
        return peer

    def peer_of(self, session: SignalRoom) -> AiortcPeer:
        peer = session._peer
        assert isinstance(peer, AiortcPeer)
        return peer

    async def hear(self, session: SignalRoom, hertz: float) -> None:
        """Look every 20 ms at what newly came."""
        peer = self.peer_of(session)
        before = {id(one): one.received for one in peer.tracks()}
        async with asyncio.timeout(DEADLINE):
            async for _ in ticks():
                for heard in peer.tracks():
                    fresh = heard.received - before.get(id(heard), 0)
                    if fresh >= 10 and abs(heard.loudest_hertz(10) - hertz) < 15:
                        return

    @asynccontextmanager
    async def playing(self, session: SignalRoom, hertz: float) -> AsyncIterator[None]:
        peer = self.peer_of(session)
        peer.play(hertz)
        try:
            yield
        finally:
            peer.play(0)

    async def cut_signalling(self, session: SignalRoom) -> None:
        await cut_signalling(session)

    async def settle(self) -> None:
        await settle()
        for peer in self.peers:
            await peer.finish()

    async def finish(self) -> None:
        await self.settle()


async def cut_signalling(session: SignalRoom) -> None:
    """End the socket of *session* as a broken network does."""
    link = session._link
    assert link is not None
    assert link._talk is not None
    link._talk.drop()


LAWS = {"PCMU": PCMU, "PCMA": PCMA}


async def ticks() -> AsyncIterator[int]:
    """Yield every 20 ms of wall time, as the engine's clock does."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    count = 0
    while True:
        yield count
        count += 1
        await asyncio.sleep(max(0.0, start + count * FRAME_MS / 1000 - loop.time()))

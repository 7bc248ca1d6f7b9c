"""Stock LiveKit SDK participants in a process of their own, told what to do by JSON lines.

Nothing of the bridge is imported: these are the agents of somebody else. One line in is one
command (``{"id": 1, "do": "join", ...}``), answered by ``{"id": 1, "ok": true, ...}``; what a
participant notices comes as ``{"agent": ..., "saw": ..., "at": monotonic seconds, ...}``. The
clock is the machine's CLOCK_MONOTONIC, which the tests share.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from livekit import rtc

from tests.system.meter import judge

FRAME_MS = 20
WINDOW_FRAMES = 3  # of 20 ms: what one judgement of the sound is based on
RATE = 8000
AUDIBLE = 300.0  # RMS of 16-bit samples
TONAL = 0.5  # share of the energy at one frequency
KEYS = "0123456789*#ABCD"


def say(**line: Any) -> None:
    """Write one line to the test."""
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def energy_share(samples: np.ndarray[Any, Any], hertz: int) -> float:
    """Return which part of the energy of *samples* is at *hertz* (one bin of a DFT)."""
    energy = float(np.dot(samples, samples))
    turns = np.exp(-2j * math.pi * hertz / RATE * np.arange(len(samples)))
    return 2 * abs(complex(np.dot(samples, turns))) ** 2 / (len(samples) * energy)


def tone(hertz: int, rate: int) -> Iterator[bytes]:
    """Yield an endless tone in frames."""
    samples = 9000 * np.sin(2 * math.pi * hertz / rate * np.arange(rate))
    return itertools.cycle(frames(samples.astype(np.int16).tobytes(), rate))


def once(pcm: bytes, rate: int) -> Iterator[bytes]:
    """Yield *pcm* in frames, then silence for ever."""
    silence = bytes(2 * rate * FRAME_MS // 1000)
    return itertools.chain(frames(pcm, rate), itertools.repeat(silence))


def frames(pcm: bytes, rate: int) -> Iterator[bytes]:
    """Yield 16-bit *pcm* in frames, the last one filled up."""
    size = 2 * rate * FRAME_MS // 1000
    for at in range(0, len(pcm), size):
        yield pcm[at : at + size].ljust(size, b"\0")


class Ear:
    """Judges what one track carries and tells each change: a frequency, -1 noise, 0 silence."""

    def __init__(self, tell: Callable[[int], None], listen: list[int]) -> None:
        self.frames = 0
        self.holes = 0
        self._tell = tell
        self._listen = listen
        self._window: list[np.ndarray[Any, Any]] = []
        self._told: int | None = None
        self._kept: list[np.ndarray[Any, Any]] | None = None

    def keep(self) -> None:
        """Keep what is heard from now on."""
        self._kept = []

    @property
    def kept(self) -> np.ndarray[Any, Any]:
        """What was heard since `keep`, 8 kHz."""
        return np.concatenate([np.zeros(0), *(self._kept or [])]).astype(np.int16)

    def forget(self) -> None:
        """Start anew: what was heard before no longer counts."""
        self._window.clear()
        self._told = None

    def hear(self, pcm: memoryview) -> None:
        """Take the next 20 ms."""
        self.frames += 1
        samples = np.frombuffer(pcm, dtype=np.int16).astype(np.float64)
        if self._kept is not None:
            self._kept.append(samples)
        self._window = [*self._window[1 - WINDOW_FRAMES :], samples]
        if len(self._window) < WINDOW_FRAMES:
            return
        heard = self._judge(np.concatenate(self._window))
        if self._told and self._told > 0 and heard != self._told:
            self.holes += 1
        if heard != self._told:
            self._told = heard
            self._tell(heard)

    def _judge(self, samples: np.ndarray[Any, Any]) -> int:
        if math.sqrt(float(np.dot(samples, samples)) / len(samples)) < AUDIBLE:
            return 0
        for hertz in self._listen:
            if energy_share(samples, hertz) >= TONAL:
                return hertz
        return -1


class Agent:
    """One participant."""

    def __init__(self, name: str, listen: list[int]) -> None:
        self.name = name
        self.room = rtc.Room()
        self._listen = listen
        self._ears: dict[str, Ear] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._voice: tuple[rtc.LocalTrackPublication, rtc.AudioSource] | None = None
        self._playing: asyncio.Task[None] | None = None
        self._frames: Iterator[bytes] = iter(())
        self._watch()

    def _saw(self, what: str, **fields: Any) -> None:
        say(agent=self.name, saw=what, at=time.monotonic(), **fields)

    def _watch(self) -> None:
        room = self.room
        room.on("data_received", self._data)
        room.on(
            "sip_dtmf_received",
            lambda dtmf: self._saw("dtmf", digit=dtmf.digit, code=dtmf.code),
        )
        room.on("participant_connected", self._joined)
        room.on(
            "participant_disconnected",
            lambda who: self._saw(
                "left", identity=who.identity, reason=_reason(who.disconnect_reason)
            ),
        )
        room.on(
            "participant_attributes_changed",
            lambda _changed, who: self._saw(
                "attributes", identity=who.identity, attributes=dict(who.attributes)
            ),
        )
        room.on("track_published", lambda track, who: self._published(track, who.identity))
        room.on("track_subscribed", self._subscribed)
        room.on("track_muted", lambda who, track: self._muted(who, track, muted=True))
        room.on("track_unmuted", lambda who, track: self._muted(who, track, muted=False))
        room.on("disconnected", lambda reason: self._saw("disconnected", reason=_reason(reason)))

    async def join(self, url: str, token: str, when_up: str) -> None:
        """Connect; tell who is there already, as a late joiner sees it.

        *when_up* names an HTTP address to wait for, which does not answer yet.
        """
        while when_up and not await _answers(when_up):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.02)
        await self.room.connect(url, token, rtc.RoomOptions(single_peer_connection=False))
        for who in self.room.remote_participants.values():
            self._joined(who)
            for track in who.track_publications.values():
                self._published(track, who.identity)

    async def leave(self) -> None:
        """Disconnect and stop everything."""
        await self._hush()
        await self.room.disconnect()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def talk(self, hertz: int, rate: int, queue_ms: int = 100) -> None:
        """Publish a tone as an agent publishes its voice, or change the tone."""
        if self._voice is None:
            source = rtc.AudioSource(rate, 1, queue_size_ms=queue_ms)
            track = rtc.LocalAudioTrack.create_audio_track("agent-voice", source)
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
            publication = await self.room.local_participant.publish_track(track, options)
            self._voice = publication, source
        self._frames = tone(hertz, rate)
        if self._playing is None:
            self._playing = asyncio.create_task(self._play(self._voice[1]))

    async def say_file(self, path: str) -> None:
        """Say a file of 16-bit samples once, at the rate of the voice, then nothing."""
        assert self._voice is not None
        pcm = await asyncio.to_thread(Path(path).read_bytes)
        self._frames = once(pcm, self._voice[1].sample_rate)

    async def publish_anew(self, hertz: int, rate: int) -> None:
        """Take the voice back and publish another."""
        await self._hush()
        if self._voice is not None:
            await self.room.local_participant.unpublish_track(self._voice[0].sid)
            self._voice = None
        await self.talk(hertz, rate)

    async def _play(self, source: rtc.AudioSource) -> None:
        # What is said changes between two frames: a capture that is cancelled may leave the
        # source deaf.
        count = source.sample_rate * FRAME_MS // 1000
        while True:
            frame = next(self._frames)
            await source.capture_frame(rtc.AudioFrame(frame, source.sample_rate, 1, count))

    async def _hush(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)
            self._playing = None

    async def press(self, digit: str) -> None:
        """Send one key."""
        await self.room.local_participant.publish_dtmf(code=KEYS.index(digit), digit=digit)

    async def send(self, text: str, topic: str) -> None:
        """Send a reliable data message."""
        await self.room.local_participant.publish_data(text, reliable=True, topic=topic)

    async def rpc(self, identity: str, method: str, payload: str) -> str:
        """Call a method of another participant."""
        return await self.room.local_participant.perform_rpc(
            destination_identity=identity, method=method, payload=payload
        )

    def counts(self) -> dict[str, int]:
        """Return how many frames were heard and how often a tone was interrupted."""
        return {
            "frames": sum(ear.frames for ear in self._ears.values()),
            "holes": sum(ear.holes for ear in self._ears.values()),
        }

    def keep(self) -> None:
        """Keep what is heard from now on, of every track."""
        for ear in self._ears.values():
            ear.keep()

    def kept(self, path: str) -> dict[str, float]:
        """Judge what was heard longest since `keep`; write it to *path* unless that is empty."""
        heard = max((ear.kept for ear in self._ears.values()), key=len, default=np.zeros(0))
        if path:
            Path(path).write_bytes(heard.tobytes())
        return judge(heard)

    def _data(self, packet: rtc.DataPacket) -> None:
        at = time.monotonic()
        say(
            agent=self.name,
            saw="data",
            at=at,
            topic=packet.topic,
            sender=packet.participant.identity if packet.participant else None,
            text=packet.data.decode("utf-8", "replace"),
        )

    def _joined(self, who: rtc.RemoteParticipant) -> None:
        self._saw(
            "participant",
            identity=who.identity,
            kind=rtc.ParticipantKind.Name(who.kind),
            name=who.name,
            metadata=who.metadata,
            attributes=dict(who.attributes),
        )

    def _published(self, track: rtc.RemoteTrackPublication, identity: str) -> None:
        self._saw(
            "track",
            identity=identity,
            name=track.name,
            source=rtc.TrackSource.Name(track.source),
            muted=track.muted,
        )

    def _muted(self, who: rtc.Participant, track: rtc.TrackPublication, *, muted: bool) -> None:
        if muted and track.sid in self._ears:
            self._ears[track.sid].forget()
        self._saw("muted" if muted else "unmuted", identity=who.identity)

    def _subscribed(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, who: rtc.RemoteParticipant
    ) -> None:
        if track.kind != rtc.TrackKind.KIND_AUDIO:
            return
        ear = Ear(
            lambda heard: self._saw("heard", identity=who.identity, hertz=heard), self._listen
        )
        self._ears[publication.sid] = ear
        task = asyncio.create_task(_listen(track, ear))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _listen(track: rtc.Track, ear: Ear) -> None:
    stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=FRAME_MS)
    try:
        async for event in stream:
            ear.hear(event.frame.data)
    finally:
        await stream.aclose()


async def _answers(http_url: str) -> bool:
    port = int(http_url.rpartition(":")[2])
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    with contextlib.closing(writer), contextlib.suppress(OSError):
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        return b" 200 " in await reader.readline()
    return False


def _reason(reason: Any) -> str:
    return rtc.DisconnectReason.Name(reason) if reason is not None else ""


class Host:
    """Reads commands, does each in a task of its own, answers."""

    def __init__(self) -> None:
        self._agents: dict[str, Agent] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the test closes our standard input."""
        reader = asyncio.StreamReader(limit=1 << 20)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            task = asyncio.create_task(self._serve(json.loads(line)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        for agent in list(self._agents.values()):
            await agent.leave()

    async def _serve(self, command: dict[str, Any]) -> None:
        number = command.pop("id")
        try:
            result = await self._do(command.pop("do"), command.pop("agent", ""), **command)
        except Exception as error:
            say(id=number, ok=False, error=f"{type(error).__name__}: {error}")
            return
        say(id=number, ok=True, result=result)

    async def _do(self, verb: str, name: str, **given: Any) -> Any:
        match verb:
            case "join":
                agent = self._agents[name] = Agent(name, given["listen"])
                await agent.join(given["url"], given["token"], given["when_up"])
                if given.get("hertz"):
                    await agent.talk(given["hertz"], given["rate"], given["queue_ms"])
            case "talk":
                await self._agents[name].talk(given["hertz"], given["rate"])
            case "leave":
                await self._agents.pop(name).leave()
            case "press":
                await self._agents[name].press(given["digit"])
            case "send":
                sent_at = time.monotonic()
                await self._agents[name].send(given["text"], given["topic"])
                return sent_at
            case "rpc":
                return await self._agents[name].rpc(
                    given["identity"], given["method"], given["payload"]
                )
            case "counts":
                return self._agents[name].counts()
            case "keep":
                self._agents[name].keep()
            case "kept":
                return self._agents[name].kept(given["path"])
            case "say file":
                await self._agents[name].say_file(given["path"])
            case "publish anew":
                await self._agents[name].publish_anew(given["hertz"], given["rate"])
            case _:
                raise ValueError(f"no such command: {verb}")
        return None


if __name__ == "__main__":
    asyncio.run(Host().run())

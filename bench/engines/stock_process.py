"""The baseline: a bridge as one writes it from the documentation of the ``livekit`` package.

One process, asyncio, ``AudioSource.capture_frame`` and ``AudioStream``; nothing of trunkbridge's
engines. G.711 by ``audioop``. Options and answers are those of ``engine_process``.
"""

from __future__ import annotations

import asyncio
import audioop
import socket
import struct
import time
from typing import Any

from livekit import rtc

from bench.engines import process

RATE = 8000
SAMPLES = 160
PTIME = 0.020


class Line(asyncio.DatagramProtocol):
    """One phone: RTP in, a queue of PCM; PCM out, RTP."""

    def __init__(self, phone: int) -> None:
        self._phone = ("127.0.0.1", phone)
        self.heard: asyncio.Queue[bytes] = asyncio.Queue(50)
        self.to_say: asyncio.Queue[bytes] = asyncio.Queue(50)
        self._sequence = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.heard.full():
            self.heard.put_nowait(audioop.ulaw2lin(data[12:], 2))

    async def speak(self) -> None:
        """Send a packet every 20 ms: what the agent said, else silence."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            pcm = bytes(2 * SAMPLES) if self.to_say.empty() else self.to_say.get_nowait()
            head = struct.pack(
                "!BBHII", 0x80, 0, self._sequence & 0xFFFF, self._sequence * SAMPLES & 0xFFFFFFFF, 7
            )
            self.transport.sendto(head + audioop.lin2ulaw(pcm, 2), self._phone)  # type: ignore[attr-defined]
            self._sequence += 1
            due += PTIME
            await asyncio.sleep(max(0.0, due - loop.time()))


async def call(url: str, token: str, phone: int, kept: list[object]) -> int:
    """Bridge one phone with one room; return our port."""
    loop = asyncio.get_running_loop()
    transport, line = await loop.create_datagram_endpoint(
        lambda: Line(phone), local_addr=("127.0.0.1", 0)
    )
    room = rtc.Room()
    tasks: set[asyncio.Task[None]] = set()

    async def listen(track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=20)
        async for event in stream:
            if not line.to_say.full():
                line.to_say.put_nowait(bytes(event.frame.data))

    def subscribed(track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            tasks.add(asyncio.create_task(listen(track)))

    room.on("track_subscribed", subscribed)
    await room.connect(url, token)
    source = rtc.AudioSource(RATE, 1)
    track = rtc.LocalAudioTrack.create_audio_track("sip_audio", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    await room.local_participant.publish_track(track, options)

    async def talk() -> None:
        while True:
            pcm = await line.heard.get()
            await source.capture_frame(rtc.AudioFrame(pcm, RATE, 1, len(pcm) // 2))

    tasks.add(asyncio.create_task(talk()))
    tasks.add(asyncio.create_task(line.speak()))
    kept += [room, tasks, transport]
    found: socket.socket = transport.get_extra_info("socket")
    return int(found.getsockname()[1])


async def run(given: dict[str, Any]) -> None:
    """Bring all calls up, then take orders."""
    gate = asyncio.Semaphore(4)
    kept: list[object] = []
    began = time.process_time()

    async def one(wanted: dict[str, Any]) -> int:
        async with gate:
            return await call(given["url"], wanted["token"], wanted["phone"], kept)

    ports = await asyncio.gather(*map(one, given["calls"]))
    process.say(ready=time.process_time() - began, ports=ports)
    await process.obey({})
    process.leave()


if __name__ == "__main__":
    asyncio.run(run(process.options()))

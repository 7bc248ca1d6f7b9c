"""Stock SDK participants in one process, each in a room of its own.

Each tells of each data message as a JSON line
``{"who": 0, "at": monotonic seconds, "topic": ..., "text": ...}``, listens to all others, and
with ``--hertz`` publishes a tone, as an agent publishes speech.
A line on standard input (``{"who": 0, "text": ..., "topic": ...}``) is sent as a reliable data
message, told by ``{"sent": monotonic seconds}`` read just before. Nothing of the bridge is
imported.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import json
import math
import os
import sys
import time
from typing import Any

from livekit import rtc
from livekit.rtc import _ffi_client

RATE = 24_000  # what livekit-agents publishes and listens to
FRAME = RATE // 10  # coarse: it costs the machine less, and what is sent is the same
HEARD_MS = 50


def say(**line: Any) -> None:
    """Write one line to the bench."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def tone(hertz: int) -> bytes:
    """Return a second of *hertz*."""
    turn = 2 * math.pi * hertz / RATE
    return array.array("h", (round(9000 * math.sin(turn * n)) for n in range(RATE))).tobytes()


class Agent:
    """One participant."""

    def __init__(self, number: int) -> None:
        self.room = rtc.Room()
        self._number = number
        self._tasks: set[asyncio.Task[None]] = set()
        self.room.on("data_received", self._told)
        self.room.on("track_subscribed", self._subscribed)

    async def join(self, url: str, token: str, *, hertz: int) -> None:
        """Join and publish."""
        await self.room.connect(url, token, rtc.RoomOptions(single_peer_connection=False))
        if hertz:
            source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
            track = rtc.LocalAudioTrack.create_audio_track("voice", source)
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
            await self.room.local_participant.publish_track(track, options)
            self._tasks.add(asyncio.create_task(play(source, tone(hertz))))

    async def leave(self) -> None:
        """Leave the room."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.room.disconnect()

    def _told(self, packet: rtc.DataPacket) -> None:
        at = time.monotonic()
        say(who=self._number, at=at, topic=packet.topic, text=packet.data.decode())

    def _subscribed(self, track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._tasks.add(asyncio.create_task(hear(track)))


async def play(source: rtc.AudioSource, second: bytes) -> None:
    """Publish *second* over and over."""
    at = 0
    while True:
        pcm = second[2 * at : 2 * (at + FRAME)]
        await source.capture_frame(rtc.AudioFrame(pcm, RATE, 1, FRAME))
        at = (at + FRAME) % RATE


async def hear(track: rtc.Track) -> None:
    """Read everything, as the input of a speech recogniser does."""
    stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1, frame_size_ms=HEARD_MS)
    try:
        async for _ in stream:
            pass
    finally:
        await stream.aclose()


def keep_native_logs() -> None:
    """Have the native half's log stay there; parsing it would be half of our load."""
    client = _ffi_client.FfiClient.instance
    client._ffi_lib.livekit_ffi_initialize(
        _ffi_client.ffi_event_callback,
        False,
        b"python",
        rtc.__version__.encode(),
    )


async def run(url: str, tokens: list[str], *, hertz: int) -> None:
    """Take part until standard input ends."""
    agents = [Agent(number) for number in range(len(tokens))]
    for agent, token in zip(agents, tokens, strict=True):
        await agent.join(url, token, hertz=hertz)
    say(joined=time.monotonic())
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        wanted = json.loads(line)
        local = agents[wanted["who"]].room.local_participant
        sent = time.monotonic()
        await local.publish_data(wanted["text"], topic=wanted["topic"])
        say(sent=sent)
    for agent in agents:
        await agent.leave()


def main() -> None:
    """Parse the command line and take part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("tokens", nargs="+")
    parser.add_argument("--hertz", type=int, default=0)
    given = parser.parse_args()
    if not os.environ.get("BENCH_LOGS"):
        keep_native_logs()
    asyncio.run(run(given.url, given.tokens, hertz=given.hertz))


if __name__ == "__main__":
    main()

"""The demo agent: a livekit-agents worker without models and without cloud keys.

It joins when it is dispatched, waits for the answer, greets, then echoes what it hears
half a second later; it is quiet while the caller is on hold. Prints one JSON line for
everything it notices, so that the demo can show both sides of a call.

    python -m bridge.demo.agent --url ws://127.0.0.1:7880 --name demo --greeting greeting.wav
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents import AgentServer, JobContext

from bridge.demo.voice import FRAME, SILENCE, EchoVoice
from trunkbridge.agent import CallEnded, PhoneCall

RATE = 8000
GREETING = "TRUNKBRIDGE_DEMO_GREETING"


def note(what: str, **fields: Any) -> None:
    """Print one JSON line."""
    sys.stdout.write(json.dumps({"at": time.time(), "agent": what, **fields}) + "\n")
    sys.stdout.flush()


def read_greeting(path: Path) -> bytes:
    """Return the PCM of a WAV file. Raises ``ValueError`` unless 16-bit mono at 8000 Hz."""
    with wave.open(str(path), "rb") as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
            raise ValueError(f"{path}: not 16-bit mono at {RATE} Hz")
        return file.readframes(file.getnframes())


class Ear:
    """The latest 20 ms of the phone's audio."""

    def __init__(self, room: rtc.Room, identity: str) -> None:
        self._room = room
        self._identity = identity
        self._frame = SILENCE
        self._task: asyncio.Task[None] | None = None
        room.on("track_subscribed", self._on_track)
        participant = room.remote_participants.get(identity)
        for publication in participant.track_publications.values() if participant else ():
            if publication.track is not None:
                self._listen(publication.track)

    def _on_track(
        self, track: rtc.Track, _: rtc.RemoteTrackPublication, who: rtc.RemoteParticipant
    ) -> None:
        if who.identity == self._identity:
            self._listen(track)

    def _listen(self, track: rtc.Track) -> None:
        """Hear *track*, instead of the one before: after a lost server the phone has a new one."""
        if track.kind != rtc.TrackKind.KIND_AUDIO:
            return
        if self._task is not None:
            self._task.cancel()  # ends its stream
        stream = rtc.AudioStream(
            track, sample_rate=RATE, num_channels=1, frame_size_ms=20, capacity=5
        )
        self._task = asyncio.create_task(self._read(stream))

    async def _read(self, stream: rtc.AudioStream) -> None:
        try:
            async for event in stream:
                self._frame = bytes(event.frame.data)[:FRAME].ljust(FRAME, b"\0")
        finally:
            await stream.aclose()

    def take(self) -> bytes:
        """Return what was heard since the last call, silence when nothing came."""
        frame, self._frame = self._frame, SILENCE
        return frame

    async def aclose(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


async def talk(source: rtc.AudioSource, voice: EchoVoice, ear: Ear, over: asyncio.Event) -> None:
    """Speak frame by frame on a steady clock until *over*."""
    due = time.monotonic()
    while not over.is_set():
        pcm = voice.next(ear.take())
        await source.capture_frame(rtc.AudioFrame(pcm, RATE, 1, FRAME // 2))
        due = max(due + 0.02, time.monotonic() - 0.1)
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    voice = EchoVoice(read_greeting(Path(os.environ[GREETING])))
    # The server subscribes, so that it also does when it had to be joined anew.
    await ctx.connect()
    source = rtc.AudioSource(RATE, 1, queue_size_ms=100)
    track = rtc.LocalAudioTrack.create_audio_track("voice", source)
    await ctx.room.local_participant.publish_track(
        track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    )
    phone = await PhoneCall.attach(ctx, timeout=30)
    if phone is None:
        note("no phone")
        return
    call_id = phone.call_id
    note("joined", call_id=call_id)
    over = asyncio.Event()

    @phone.on("hold")
    def hold(event: Mapping[str, Any]) -> None:
        voice.hold()
        note("quiet", call_id=call_id, direction=event.get("direction"))

    @phone.on("resume")
    def resume(_: Mapping[str, Any]) -> None:
        voice.resume()
        note("talking again", call_id=call_id)

    @phone.on("ended")
    def ended(event: Mapping[str, Any]) -> None:
        over.set()
        note("ended", call_id=call_id, outcome=event.get("outcome"))

    ear = Ear(ctx.room, phone.identity)
    if phone.held:
        voice.hold()
    try:
        await phone.answered()
    except CallEnded as failure:
        note("never answered", call_id=call_id, outcome=failure.outcome)
    else:
        voice.started = True
        note("greeting", call_id=call_id)
        await talk(source, voice, ear, over)
    finally:
        await ear.aclose()
        await phone.aclose()


async def serve(name: str) -> None:
    """Run the worker until it is told to stop."""
    server = AgentServer(
        num_idle_processes=2,
        host="127.0.0.1",
        port=0,
        log_level="WARN",
        # The server gives no job to a worker on a busy machine; this one is the only one there is.
        load_fnc=lambda: 0.0,
    )
    server.rtc_session(entrypoint, agent_name=name)
    server.on("worker_registered", lambda *_: note("ready"))
    await server.run()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--name", default="demo")
    parser.add_argument("--greeting", required=True)
    options = parser.parse_args()
    os.environ["LIVEKIT_URL"] = options.url  # keys come from the environment
    os.environ[GREETING] = options.greeting
    asyncio.run(serve(options.name))


if __name__ == "__main__":
    main()

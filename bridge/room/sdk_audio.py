"""The two directions of PCM through the livekit SDK.

8000 Hz both ways: libwebrtc resamples on its own threads. The source has no
queue (``queue_size_ms=0``), so it takes exact 10 ms frames and has neither a
thread nor a delay of its own.

Where `sdk_dispatch` works, frames go to the native half and come from it
without a task, a queue of Python's or a turn of the loop; elsewhere they go the
SDK's public way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import structlog
from livekit import rtc

from bridge.room import sdk_dispatch
from bridge.room.mix import BYTES_PER_MS, TrackBuffer, is_zero

log = structlog.get_logger(__name__)

SAMPLE_RATE = 8000
FRAME_MS = 10
FRAME_BYTES = FRAME_MS * BYTES_PER_MS
FRAME_SAMPLES = FRAME_BYTES // 2
FEED_LIMIT = 10
"""10 ms frames that may wait for the SDK; the oldest go first."""

LISTEN_MS = 20
LISTEN_CAPACITY = 5
ARRIVED_LIMIT = 16
"""Frames that may have arrived since the last pull; the oldest go first."""
CLOSE_TIMEOUT = 2.0

ZEROS_SUSPECT = 50
"""Frames (1 s) of nothing but zeros, while the server hears the speaker: a dead stream."""
REOPEN_LIMIT = 3


class TrackFeeder:
    """Our published track: takes 20 ms at a time and hands 10 ms frames to the SDK.

    Whoever pushes never waits.
    """

    def __init__(self, name: str) -> None:
        self._source = rtc.AudioSource(SAMPLE_RATE, 1, queue_size_ms=0)
        self.track = rtc.LocalAudioTrack.create_audio_track(name, self._source)
        self._direct = _direct_source(self._source)
        self._frames: deque[bytes] = deque(maxlen=FEED_LIMIT)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        if self._direct is None:
            self._task = asyncio.get_running_loop().create_task(self._feed())

    def push(self, pcm: bytes) -> None:
        """Send *pcm*, a multiple of 10 ms."""
        if self._closed:
            return
        for start in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES):
            # A copy, never a view: the SDK passes the address of a view's whole object.
            frame = bytes(pcm[start : start + FRAME_BYTES])
            if self._direct is None:
                self._frames.append(frame)
            else:
                self._direct.push(frame)
        self._wake.set()

    async def close(self) -> None:
        """Stop feeding and free the source."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._direct is not None:
            self._direct.close()
        await self._source.aclose()

    async def _feed(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._frames:
                frame = rtc.AudioFrame(self._frames.popleft(), SAMPLE_RATE, 1, FRAME_SAMPLES)
                try:
                    await self._source.capture_frame(frame)
                except Exception as error:
                    log.debug("room.frame_refused", error=type(error).__name__)


class TrackListener:
    """One subscribed track of another participant, read into a small buffer.

    Since libwebrtc m144 a stream may yield well-formed frames of nothing but
    zeros (python-sdks#690, rust-sdks#1265, both open). Silence alone proves
    nothing, so the listener is told when the server's own level meter hears
    the speaker; a stream that has only ever given zeros is then opened anew.
    """

    def __init__(self, track: rtc.Track) -> None:
        self._buffer = TrackBuffer()
        self._arrived: deque[bytes] = deque(maxlen=ARRIVED_LIMIT)  # filled by a native thread
        self._track = track
        self._zeros = 0
        self._heard = False
        self._reopened = 0
        self._stream: sdk_dispatch.Stream | None = None
        self._task: asyncio.Task[None] | None = None
        self._open()

    @property
    def buffer(self) -> TrackBuffer:
        """What was heard and not yet pulled."""
        while self._arrived:
            self._take(self._arrived.popleft())
        return self._buffer

    def suspect(self) -> None:
        """The server hears this speaker; open the stream anew if we hear nothing."""
        _ = self.buffer
        if self._heard or self._zeros < ZEROS_SUSPECT or self._reopened == REOPEN_LIMIT:
            return
        self._reopened += 1
        self._zeros = 0
        log.warning("room.audio_all_zero", track=self._track.sid, attempt=self._reopened)
        if self._stream is not None:
            self._stream.close()
        if self._task is not None:
            self._task.cancel()
        self._open()

    async def close(self) -> None:
        """Stop reading and free the stream."""
        if self._stream is not None:
            self._stream.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._arrived.clear()
        self._buffer.clear()

    def _open(self) -> None:
        self._stream = _direct_stream(self._track, self._arrived)
        if self._stream is None:
            before = self._task
            self._task = asyncio.get_running_loop().create_task(self._listen(after=before))

    async def _listen(self, after: asyncio.Task[None] | None = None) -> None:
        if after is not None:
            await asyncio.wait({after})
        stream = rtc.AudioStream(
            self._track,
            sample_rate=SAMPLE_RATE,
            num_channels=1,
            frame_size_ms=LISTEN_MS,
            capacity=LISTEN_CAPACITY,
        )
        try:
            async for event in stream:
                self._take(bytes(event.frame.data))
        finally:
            await _close_stream(stream)

    def _take(self, pcm: bytes) -> None:
        if not self._heard:
            if is_zero(pcm):
                self._zeros += 1
            else:
                self._heard = True
        self._buffer.push(pcm)


def _direct_source(source: rtc.AudioSource) -> sdk_dispatch.Source | None:
    handle = _handle(source)
    dispatcher = None if handle is None else sdk_dispatch.dispatcher()
    if dispatcher is None or handle is None:
        return None
    return dispatcher.source(handle, rate=SAMPLE_RATE, frame_bytes=FRAME_BYTES)


def _direct_stream(track: rtc.Track, arrived: deque[bytes]) -> sdk_dispatch.Stream | None:
    handle = _handle(track)
    dispatcher = None if handle is None else sdk_dispatch.dispatcher()
    if dispatcher is None or handle is None:
        return None
    try:
        return dispatcher.listen(handle, arrived.append, rate=SAMPLE_RATE, frame_ms=LISTEN_MS)
    except sdk_dispatch.Unusable as error:
        log.warning("room.stream_refused", error=str(error))
        return None


def _handle(of: Any) -> int | None:
    """Return the native handle of an object of the SDK; None when it has none that we know."""
    handle = getattr(getattr(of, "_ffi_handle", None), "handle", None)
    return handle if isinstance(handle, int) else None


async def _close_stream(stream: rtc.AudioStream) -> None:
    """Close *stream*; its end-of-stream event must come, but is not waited for forever."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await stream.aclose()
    except TimeoutError:
        log.warning("room.stream_close_timeout")

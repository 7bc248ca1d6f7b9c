"""The guard against a stream of nothing but zeros (python-sdks#690)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc

from bridge.room import sdk_dispatch
from bridge.room.mix import CAPACITY
from bridge.room.sdk_audio import REOPEN_LIMIT, ZEROS_SUSPECT, TrackFeeder, TrackListener

pytestmark = pytest.mark.unit

ZERO = bytes(320)
TONE = b"\x01\x10" * 160


class Streams:
    """Stands in for the SDK's `AudioStream`: each one made plays the next script."""

    def __init__(self, *scripts: list[bytes]) -> None:
        self._scripts = list(scripts)
        self.made = 0
        self.closed = 0
        self.played = [asyncio.Event() for _ in range(20)]

    def __call__(self, track: Any, **options: Any) -> Streams:
        assert options == {
            "sample_rate": 8000,
            "num_channels": 1,
            "frame_size_ms": 20,
            "capacity": 5,
        }
        self.made += 1
        return self

    async def __aiter__(self) -> AsyncIterator[Any]:
        number = self.made - 1
        for pcm in self._scripts[number]:
            yield SimpleNamespace(frame=SimpleNamespace(data=memoryview(pcm).cast("h")))
        self.played[number].set()
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed += 1


async def listener(monkeypatch: pytest.MonkeyPatch, streams: Streams) -> TrackListener:
    monkeypatch.setattr(rtc, "AudioStream", streams)
    made = TrackListener(SimpleNamespace(sid="TR_1"))  # type: ignore[arg-type]
    await reopened(streams, 1)
    return made


async def reopened(streams: Streams, count: int) -> None:
    """Return once the stream numbered *count* has played its script."""
    await streams.played[count - 1].wait()


async def test_a_stream_of_zeros_is_opened_anew_when_the_server_hears_the_speaker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = Streams([ZERO] * ZEROS_SUSPECT, [TONE] * 5)
    ears = await listener(monkeypatch, streams)
    ears.suspect()
    await reopened(streams, 2)
    ears.suspect()
    assert (streams.made, streams.closed) == (2, 1)
    assert ears.buffer.pull(320) == TONE
    await ears.close()
    assert streams.closed == 2


async def test_a_quiet_start_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams([ZERO] * (ZEROS_SUSPECT - 1))
    ears = await listener(monkeypatch, streams)
    ears.suspect()
    assert streams.made == 1
    await ears.close()


async def test_a_stream_that_was_ever_heard_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams([TONE] + [ZERO] * 2 * ZEROS_SUSPECT)
    ears = await listener(monkeypatch, streams)
    ears.suspect()
    assert streams.made == 1
    await ears.close()


async def test_it_is_tried_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(*[[ZERO] * ZEROS_SUSPECT] * 10)
    ears = await listener(monkeypatch, streams)
    for _ in range(10):
        ears.suspect()
        await reopened(streams, min(streams.made + 1, REOPEN_LIMIT + 1))
    assert streams.made == REOPEN_LIMIT + 1
    await ears.close()
    assert streams.closed == streams.made


# Where the SDK's events are dispatched by handle.


class Direct:
    """Stands in for the dispatcher: streams that are fed by hand, sources that remember."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.sinks: list[Any] = []
        self.closed: list[int] = []
        self.pushed: list[bytes] = []
        self._refuses = refuses

    def listen(self, track: int, sink: Any, *, rate: int, frame_ms: int) -> Any:
        assert (track, rate, frame_ms) == (12, 8000, 20)
        if self._refuses:
            raise sdk_dispatch.Unusable("no response")
        self.sinks.append(sink)
        number = len(self.sinks)
        return SimpleNamespace(close=lambda: self.closed.append(number))

    def source(self, handle: int, *, rate: int, frame_bytes: int) -> Any:
        assert (handle, rate, frame_bytes) == (11, 8000, 160)
        return SimpleNamespace(push=self.pushed.append, close=lambda: self.closed.append(0))


TRACK = SimpleNamespace(sid="TR_1", _ffi_handle=SimpleNamespace(handle=12))


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> Direct:
    made = Direct()
    monkeypatch.setattr(sdk_dispatch, "dispatcher", lambda: made)
    return made


async def test_frames_of_a_native_thread_are_there_at_the_next_pull(direct: Direct) -> None:
    ears = TrackListener(TRACK)  # type: ignore[arg-type]
    thread = threading.Thread(target=direct.sinks[0], args=(TONE,))
    thread.start()
    thread.join()
    assert ears.buffer.pull(320) == TONE
    await ears.close()
    assert direct.closed == [1]
    assert ears.buffer.pull(320) is None


async def test_frames_that_nobody_pulls_do_not_pile_up(direct: Direct) -> None:
    ears = TrackListener(TRACK)  # type: ignore[arg-type]
    for _ in range(1000):
        direct.sinks[0](TONE)
    assert ears.buffer.buffered <= CAPACITY
    await ears.close()


async def test_a_dead_direct_stream_is_opened_anew(direct: Direct) -> None:
    ears = TrackListener(TRACK)  # type: ignore[arg-type]
    for _ in range(ZEROS_SUSPECT):
        direct.sinks[0](ZERO)
        _ = ears.buffer
    ears.suspect()
    assert len(direct.sinks) == 2
    assert direct.closed == [1]
    direct.sinks[1](TONE)
    ears.suspect()
    assert len(direct.sinks) == 2
    await ears.close()
    assert direct.closed == [1, 2]


async def test_a_direct_stream_that_is_refused_is_opened_the_public_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sdk_dispatch, "dispatcher", lambda: Direct(refuses=True))
    streams = Streams([TONE] * 2)
    monkeypatch.setattr(rtc, "AudioStream", streams)
    ears = TrackListener(TRACK)  # type: ignore[arg-type]
    await reopened(streams, 1)
    assert ears.buffer.pull(320) == TONE
    await ears.close()


class NativeSource:
    """Stands in for `rtc.AudioSource`; frames by the public way arrive in ``captured``."""

    def __init__(self, *_: object, **options: object) -> None:
        assert options == {"queue_size_ms": 0}
        self._ffi_handle = SimpleNamespace(handle=11)
        self.captured: asyncio.Queue[bytes] = asyncio.Queue()
        self.closed = False

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        self.captured.put_nowait(bytes(frame.data))

    async def aclose(self) -> None:
        self.closed = True


def feeder(monkeypatch: pytest.MonkeyPatch) -> tuple[TrackFeeder, NativeSource]:
    source = NativeSource(queue_size_ms=0)
    monkeypatch.setattr(rtc, "AudioSource", lambda *_, **__: source)
    monkeypatch.setattr(
        rtc, "LocalAudioTrack", SimpleNamespace(create_audio_track=lambda name, _: name)
    )
    return TrackFeeder("voice"), source


async def test_what_is_pushed_goes_out_in_frames_of_10_ms(
    monkeypatch: pytest.MonkeyPatch, direct: Direct
) -> None:
    mouth, source = feeder(monkeypatch)
    mouth.push(TONE)
    assert direct.pushed == [TONE[:160], TONE[160:]]
    await mouth.close()
    mouth.push(TONE)
    assert len(direct.pushed) == 2
    assert direct.closed == [0]
    assert source.closed


async def test_without_the_dispatcher_a_task_feeds_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk_dispatch, "dispatcher", lambda: None)
    mouth, source = feeder(monkeypatch)
    mouth.push(TONE)
    assert [await source.captured.get() for _ in range(2)] == [TONE[:160], TONE[160:]]
    await mouth.close()
    assert source.closed

"""The guard against a stream of nothing but zeros (python-sdks#690)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc

from bridge.room.sdk_audio import REOPEN_LIMIT, ZEROS_SUSPECT, TrackListener

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

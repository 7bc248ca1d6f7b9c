"""The buffers between the SDK's frames and the engine's clock."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.room.mix import (
    CALM_PULLS,
    CAPACITY,
    PREBUFFER_MAX,
    TrackBuffer,
    is_zero,
    mix,
)

pytestmark = pytest.mark.unit

SIZE = 320


def frame(value: int) -> bytes:
    return struct.pack("<h", value) * (SIZE // 2)


def test_what_goes_in_comes_out_in_order() -> None:
    buffer = TrackBuffer()
    buffer.push(frame(1))
    buffer.push(frame(2))
    assert [buffer.pull(SIZE), buffer.pull(SIZE)] == [frame(1), frame(2)]


def test_an_empty_buffer_is_silent() -> None:
    assert TrackBuffer().pull(SIZE) is None


def test_a_stalled_reader_loses_the_oldest_and_goes_on_with_the_newest() -> None:
    buffer = TrackBuffer()
    for value in range(100):
        buffer.push(frame(value))
    assert buffer.buffered == CAPACITY
    assert buffer.dropped == 95 * SIZE
    assert [buffer.pull(SIZE), buffer.pull(SIZE)] == [frame(98), frame(99)]


def test_after_running_dry_more_is_awaited_before_playing() -> None:
    buffer = TrackBuffer()
    buffer.push(frame(1))
    assert buffer.pull(SIZE) == frame(1)
    assert buffer.pull(SIZE) is None
    buffer.push(frame(2))
    assert buffer.pull(SIZE) is None
    buffer.push(frame(3))
    assert buffer.pull(SIZE) == frame(2)


def test_a_late_frame_every_time_costs_one_gap_only() -> None:
    """A frame that always comes just after the pull must not tick forever."""
    buffer = TrackBuffer()
    gaps = 0
    for value in range(200):
        if value % 2:
            buffer.push(frame(value))
            buffer.push(frame(value))
        gaps += buffer.pull(SIZE) is None
    assert gaps <= 4


def test_the_prebuffer_is_bounded() -> None:
    buffer = TrackBuffer()
    for _ in range(20):
        for _ in range(PREBUFFER_MAX // SIZE):
            buffer.push(frame(1))
        while buffer.pull(SIZE) is not None:
            pass
    assert buffer.buffered == 0
    for _ in range(PREBUFFER_MAX // SIZE):
        buffer.push(frame(1))
    assert buffer.pull(SIZE) == frame(1)


def test_a_last_part_is_padded_with_silence() -> None:
    buffer = TrackBuffer()
    buffer.push(frame(1) + frame(2)[:100])
    assert buffer.pull(SIZE) == frame(1)
    assert buffer.pull(SIZE) == frame(2)[:100] + bytes(SIZE - 100)


@pytest.mark.parametrize("value", [0, 10])
def test_latency_left_by_a_burst_is_given_back_in_a_quiet_moment(value: int) -> None:
    buffer = TrackBuffer()
    for _ in range(5):
        buffer.push(frame(value))
    for _ in range(5 * CALM_PULLS):
        buffer.pull(SIZE)
        buffer.push(frame(value))
    assert buffer.buffered <= 2 * SIZE


def test_latency_is_never_given_back_in_the_middle_of_loud_speech() -> None:
    buffer = TrackBuffer()
    heard = []
    for value in range(5):
        buffer.push(frame(1000 + value))
    for value in range(5, 3 * CALM_PULLS):
        heard.append(buffer.pull(SIZE))
        buffer.push(frame(1000 + value))
    assert heard == [frame(1000 + value) for value in range(len(heard))]


def test_clear_forgets_all_that_arrived() -> None:
    buffer = TrackBuffer()
    buffer.push(frame(1))
    buffer.clear()
    assert buffer.pull(SIZE) is None
    buffer.push(frame(2))
    assert buffer.pull(SIZE) == frame(2)


def test_tracks_are_added_and_clipped() -> None:
    buffers = [TrackBuffer() for _ in range(3)]
    for buffer, value in zip(buffers, (20000, 20000, -100), strict=True):
        buffer.push(frame(value))
    assert mix(buffers[:2], SIZE) == frame(32767)
    assert mix(buffers, SIZE) == frame(-100)
    assert mix(buffers, SIZE) is None
    assert mix([], SIZE) is None


@given(st.lists(st.one_of(st.binary(max_size=700), st.none()), max_size=60))
def test_any_rhythm_yields_whole_frames_within_the_bound(steps: list[bytes | None]) -> None:
    buffer = TrackBuffer()
    for step in steps:
        if step is None:
            pcm = buffer.pull(SIZE)
            assert pcm is None or len(pcm) == SIZE
        else:
            buffer.push(step[: len(step) // 2 * 2])
        assert buffer.buffered <= CAPACITY
        assert buffer.buffered % 2 == 0


def test_zero_means_every_sample() -> None:
    assert is_zero(bytes(SIZE))
    assert not is_zero(bytes(SIZE - 1) + b"\x01")

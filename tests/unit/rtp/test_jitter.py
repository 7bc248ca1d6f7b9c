"""The jitter buffer as a box: packets in, frames out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtp.jitter import JitterBuffer

pytestmark = pytest.mark.unit

SAMPLES = 160


def frame(value: int) -> bytes:
    return value.to_bytes(2, "little") * SAMPLES


def play(
    arrivals: list[tuple[float, int]], seconds: float, buffer: JitterBuffer | None = None
) -> list[bytes | None]:
    """Put packet *n* (20 ms of value n) at each (time, n); pull every 20 ms from 10 ms on."""
    buffer = buffer or JitterBuffer()
    waiting = sorted(arrivals)
    pulled = []
    for step in range(round(seconds / 0.02)):
        now = step * 0.02 + 0.01
        while waiting and waiting[0][0] <= now:
            at, number = waiting.pop(0)
            buffer.put(number, number * SAMPLES, frame(number), at)
        pulled.append(buffer.pull(SAMPLES, now))
    return pulled


def steady(first: int, last: int, *, late: float = 0.0) -> list[tuple[float, int]]:
    return [((number - first) * 0.02 + late, number) for number in range(first, last)]


def test_nothing_is_played_before_the_target_delay() -> None:
    assert play(steady(1, 6), 0.1) == [None, frame(1), frame(2), frame(3), frame(4)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_jitter_and_reorder_within_the_target_are_not_heard(seed: int) -> None:
    """Row 82. A small bounded buffer puts packets in order."""
    chance = random.Random(seed)
    arrivals = [(at + chance.uniform(0, 0.03), number) for at, number in steady(1, 100)]
    pulled = [pcm for pcm in play(arrivals, 2.2) if pcm is not None]
    start = pulled.index(frame(1)) if frame(1) in pulled else pulled.index(frame(2))
    heard = pulled[start : start + 97]
    first = int.from_bytes(heard[0][:2], "little")
    assert heard == [frame(first + n) for n in range(97)]


def test_a_packet_after_its_turn_is_counted_and_not_played() -> None:
    buffer = JitterBuffer()
    arrivals = [(at, number) for at, number in steady(1, 10) if number != 4] + [(0.15, 4)]
    pulled = play(arrivals, 0.2, buffer)
    assert frame(4) not in pulled
    assert frame(5) in pulled
    assert buffer.late == 1


def test_a_packet_late_at_an_empty_buffer_is_played_and_the_delay_grows() -> None:
    arrivals = steady(1, 4) + [(at + 0.06, number) for at, number in steady(1, 20)[3:]]
    pulled = play(arrivals, 0.5)
    assert [frame(number) in pulled for number in range(1, 20)] == [True] * 19


def test_delay_that_is_not_needed_is_given_back() -> None:
    buffer = JitterBuffer()
    late = [(max(at, 0.12), number) for at, number in steady(1, 1500)]
    play(late[:200], 2, buffer)
    assert buffer.depth_ms >= 80
    play([(at - 2, number) for at, number in late[100:]], 25, buffer)
    assert buffer.depth_ms <= 40
    assert 2 <= buffer.shed <= 6


def test_a_loss_that_empties_the_buffer_does_not_add_to_the_delay() -> None:
    whole = play(steady(1, 40), 1)
    holed = play([(at, n) for at, n in steady(1, 40) if n not in (10, 11, 12, 13)], 1)
    assert holed[14] == whole[14] == frame(14)
    assert [mine == theirs for mine, theirs in zip(holed, whole, strict=True)].count(False) == 4


def test_a_burst_is_shed_to_the_target() -> None:
    buffer = JitterBuffer()
    for number in range(1, 51):
        buffer.put(number, number * SAMPLES, frame(number), 0.0)
        assert buffer.depth_ms <= 200
    assert buffer.pull(SAMPLES, 0.01) is not None
    assert buffer.shed >= 40
    assert buffer.depth_ms <= 200


def test_a_reset_forgets_what_waited() -> None:
    buffer = JitterBuffer()
    for number in range(1, 4):
        buffer.put(number, number * SAMPLES, frame(number), 0.0)
    buffer.reset()
    assert buffer.pull(SAMPLES, 1.0) is None
    assert buffer.depth_ms == 0


def test_timestamps_wrap() -> None:
    buffer = JitterBuffer()
    start = 2**32 - 2 * SAMPLES
    pulled = []
    for number in range(6):
        timestamp = (start + number * SAMPLES) % 2**32
        buffer.put(number + 1, timestamp, frame(number), number * 0.02)
        pulled.append(buffer.pull(SAMPLES, number * 0.02 + 0.01))
    assert pulled == [None, *(frame(number) for number in range(5))]


def test_a_sender_whose_timestamps_stand_still_is_played_in_order() -> None:
    buffer = JitterBuffer()
    pulled = []
    for number in range(6):
        buffer.put(number + 1, 5, frame(number), number * 0.02)
        pulled.append(buffer.pull(SAMPLES, number * 0.02 + 0.01))
    assert pulled == [None, *(frame(number) for number in range(5))]


def test_a_short_pause_of_the_timestamp_is_silence_of_its_length() -> None:
    """Row 83. RFC 3550 5.1: up to 100 ms are filled; a longer jump is resynchronised."""
    buffer = JitterBuffer()
    for number, timestamp in ((1, 0), (2, 160), (3, 400), (4, 560)):
        buffer.put(number, timestamp, frame(number), 0.0)
    pulled = [buffer.pull(SAMPLES, 0.05) for _ in range(4)]
    assert pulled[2] == bytes(160) + frame(3)[:160]
    assert pulled[3] == frame(3)[160:] + frame(4)[:160]


def test_a_late_packet_into_a_hole_half_concealed_is_played_from_where_it_counts() -> None:
    buffer = JitterBuffer()
    long = (7).to_bytes(2, "little") * 480
    buffer.put(1, 0, frame(1), 0.0)
    buffer.put(3, 640, frame(3), 0.0)
    assert buffer.pull(SAMPLES, 0.05) == frame(1)
    buffer.pull(SAMPLES, 0.07)  # the first third of the hole
    buffer.put(2, 160, long, 0.08)
    assert buffer.pull(SAMPLES, 0.09) == long[:320]
    assert buffer.pull(SAMPLES, 0.11) == long[:320]
    assert buffer.pull(SAMPLES, 0.13) == frame(3)


def test_packets_longer_than_the_target_survive_an_overflow_while_filling() -> None:
    # 60 ms packets while nobody pulls: over the limit, and no number of them is the target.
    buffer = JitterBuffer(target_ms=40, limit_ms=200)
    for number in range(4):
        buffer.put(number, number * 480, b"\1\0" * 480, 0.06 * number)
    assert buffer.shed == 3
    assert buffer.pull(SAMPLES, 0.3) == b"\1\0" * SAMPLES


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-2, 6),  # step of the sequence number
            st.sampled_from([0, 80, 160, 480, 1600]),  # samples
            st.sampled_from([0.0, 0.02, 0.06, 0.5]),  # seconds
            st.sampled_from([0, 0, 80, 160, 240]),  # samples pulled
        ),
        max_size=60,
    )
)
def test_any_packets_give_whole_frames_and_a_bounded_buffer(
    steps: list[tuple[int, int, float, int]],
) -> None:
    buffer = JitterBuffer()
    sequence, now = 100, 0.0
    for step, length, pause, pulled in steps:
        sequence, now = sequence + step, now + pause
        buffer.put(sequence, sequence * 160 & 0xFFFFFFFF, bytes(2 * length), now)
        assert buffer.depth_ms <= 400
        if pulled:
            frame_ = buffer.pull(pulled, now)
            assert frame_ is None or len(frame_) == 2 * pulled

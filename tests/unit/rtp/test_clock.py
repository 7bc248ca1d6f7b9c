"""The packet clock and concealment: time and samples as numbers."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtp.clock import CATCH_UP, PacketClock
from rtp.conceal import Concealer

pytestmark = pytest.mark.unit


def test_one_frame_is_due_each_period_whatever_the_moment_of_asking() -> None:
    clock = PacketClock(start=10.0, period=0.02)
    asked = [9.999, 10.001, 10.012, 10.0205, 10.0599, 10.0601]
    assert [clock.due(now).frames for now in asked] == [0, 1, 0, 1, 1, 1]


def test_a_small_delay_is_caught_up() -> None:
    clock = PacketClock(start=0.0, period=0.02)
    assert clock.due(0.05) == (3, 0)
    assert clock.due(0.0599).frames == 0


def test_a_stall_gives_no_burst_and_time_goes_on() -> None:
    clock = PacketClock(start=0.0, period=0.02)
    clock.due(0.0)
    assert clock.due(0.521) == (CATCH_UP, 26 - CATCH_UP)
    assert [clock.due(0.521 + n * 0.02) for n in range(1, 4)] == [(1, 0)] * 3


@given(st.integers(10, 60), st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=50))
def test_no_frame_is_forgotten_or_counted_twice(ptime: int, steps: list[float]) -> None:
    clock = PacketClock(start=0.0, period=ptime / 1000)
    now, total = 0.0, 0
    for step in steps:
        now += step
        due = clock.due(now)
        assert due.frames <= CATCH_UP
        total += due.frames + due.skipped
    assert abs(total - (now / clock.period + 1)) <= 1.001
    assert clock.next_at > now or clock.next_at == pytest.approx(now)


def loudness(pcm: bytes) -> int:
    samples: tuple[int, ...] = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    return max(abs(x) for x in samples)


TONE = struct.pack("<160h", *([1000, -1000] * 80))


def test_a_loss_fades_out_in_60_ms() -> None:
    concealer = Concealer()
    concealer.heard(TONE)
    pieces = [loudness(concealer.fill(160)) for _ in range(5)]
    assert 1000 > pieces[0] > pieces[1] > pieces[2] > 0
    assert pieces[3:] == [0, 0]


def test_good_audio_ends_the_fade() -> None:
    concealer = Concealer()
    concealer.heard(TONE)
    first = concealer.fill(160)
    concealer.fill(800)
    concealer.heard(TONE)
    assert concealer.fill(160) == first


def test_a_pause_is_not_concealed() -> None:
    concealer = Concealer()
    concealer.heard(TONE)
    concealer.forget()
    assert concealer.fill(160) == bytes(320)


@pytest.mark.parametrize("samples", [1, 80, 160, 333, 480])
def test_any_length_is_filled(samples: int) -> None:
    concealer = Concealer()
    concealer.heard(TONE[:50])
    assert len(concealer.fill(samples)) == samples * 2

"""The tap of the SDK engine: two tracks side by side, bounded."""

from __future__ import annotations

import pytest

from bridge.media.tap import ENTRIES, PcmTap

pytestmark = pytest.mark.unit

LOUD = b"\x10\x10" * 160
QUIET = bytes(320)


def rest(tap: PcmTap) -> tuple[bytes, bytes]:
    left, right = bytearray(), bytearray()
    while (piece := tap.finish())[0]:
        left += piece[0]
        right += piece[1]
    return bytes(left), bytes(right)


def test_both_directions_stand_side_by_side_however_the_clock_trembles() -> None:
    tap = PcmTap(5.0)
    left, right = bytearray(), bytearray()
    for n in range(100):
        now = 5.0 + 0.02 * n + 0.003 * (n % 3)
        tap.caller(LOUD, now)
        tap.sent(LOUD if n >= 50 else QUIET, now + 0.004)
        if n % 10 == 9:
            piece = tap.read()
            left += piece[0]
            right += piece[1]
            assert len(piece[0]) == len(piece[1])
    last = rest(tap)
    left += last[0]
    right += last[1]
    assert len(left) == len(right)
    assert bytes(left[: 100 * 320]) == LOUD * 100
    assert right.count(b"\x10\x10") == 50 * 160
    assert right.index(b"\x10\x10") // 2 == pytest.approx(8000, abs=40)


def test_a_direction_that_was_away_goes_on_where_the_clock_is() -> None:
    tap = PcmTap(0.0)
    right = bytearray()
    for n in range(300):
        tap.caller(QUIET, 0.02 * n)
        if n < 50 or n >= 150:
            tap.sent(LOUD, 0.02 * n)
        right += tap.read()[1]
    right += rest(tap)[1]
    assert right[: 50 * 320] == LOUD * 50
    assert right[50 * 320 : 150 * 320] == QUIET * 100
    assert right[150 * 320 : 300 * 320] == LOUD * 150


def test_a_reader_that_is_too_slow_is_told_what_it_missed() -> None:
    tap = PcmTap(0.0)
    for n in range(ENTRIES + 7):
        tap.caller(LOUD, 0.02 * n)
    assert tap.read()[2] == 7 * 160


def test_what_comes_after_its_place_was_read_as_silence_is_left_out_there() -> None:
    tap = PcmTap(0.0)
    tap.caller(LOUD, 0.0)
    rest(tap)
    tap.sent(LOUD, 0.01)  # 80 of its samples stand before what was read
    left, right = rest(tap)
    assert right == LOUD[160:]
    assert left == QUIET[160:]

"""A call's file: real encoders, taps and a clock that the test plays."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.recording.files import Format, create, length_of, mend
from bridge.recording.take import Take
from tests.unit.recording.sounds import PlayedTap, decode, level, part, silence, sounds, tone

pytestmark = pytest.mark.unit

BOTH: tuple[Format, ...] = ("ogg", "wav")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("kind", BOTH)
def test_the_caller_is_left_and_what_was_sent_right(tmp_path: Path, kind: Format) -> None:
    clock = Clock()
    take = Take("c", tmp_path, kind, clock=clock)
    tap = PlayedTap()
    take.follow(tap)
    tap.pieces.append((tone(440, 1) + silence(1), silence(0.5) + tone(1000, 1.5)))
    clock.now += 2.1
    assert not take.turn()
    tap.late.append((silence(0.5), tone(1000, 0.5)))
    take.end(3.04)
    assert take.turn()
    left, right = decode(take.part)
    assert abs(len(left) / 8000 - 3.04) < 0.02
    assert abs(length_of(take.part) - 3.04) < 0.001
    assert sounds(part(left, 0.1, 0.9), 440)
    assert level(part(left, 1.1, 3.0)) < 100
    assert level(part(right, 0.1, 0.4)) < 100
    assert sounds(part(right, 0.6, 2.4), 1000)
    assert level(part(right, 2.6, 3.0)) < 100
    assert 7_500 < level(part(right, 0.6, 1.9)) < 9_500


@pytest.mark.parametrize("kind", BOTH)
def test_an_hour_of_hold_is_silence_of_its_length_and_nothing_waits_for_its_end(
    tmp_path: Path, kind: Format
) -> None:
    """What the tap tells of the hold afterwards is in the file already; what came before is."""
    clock = Clock()
    take = Take("c", tmp_path, kind, clock=clock)
    tap = PlayedTap()
    take.follow(tap)
    tap.pieces.append((tone(440, 0.8), tone(440, 0.8)))
    tap.late.append((tone(440, 0.2), tone(440, 0.2)))  # held back until it is sure
    clock.now += 1.0
    take.turn()
    for _ in range(12):
        clock.now += 5.0
        take.turn()
    written = length_of(take.part) if kind == "wav" else 60.0
    assert written > 59
    for _ in range(6):
        tap.pieces.append((silence(10), silence(10)))
    tap.pieces.append((tone(1000, 1), silence(1)))
    clock.now += 1.5
    take.turn()
    take.end(62.5)
    assert take.turn()
    left, right = decode(take.part)
    assert abs(len(left) / 8000 - 62.5) < 0.02
    assert sounds(part(left, 0.1, 0.95), 440)
    assert level(part(left, 1.2, 60.9)) < 50
    assert sounds(part(left, 61.1, 61.9), 1000)
    assert level(part(right, 1.2, 62.4)) < 50


def test_what_is_longer_than_the_call_is_left_out(tmp_path: Path) -> None:
    clock = Clock()
    take = Take("c", tmp_path, "wav", clock=clock)
    tap = PlayedTap()
    take.follow(tap)
    tap.pieces.append((tone(440, 1), tone(440, 1)))
    take.end(0.75)
    assert take.turn()
    assert length_of(take.part) == 0.75


def test_another_engine_goes_on_where_the_first_has_stopped(tmp_path: Path) -> None:
    clock = Clock()
    take = Take("c", tmp_path, "wav", clock=clock)
    first, second = PlayedTap(), PlayedTap()
    take.follow(first)
    first.pieces.append((tone(440, 0.5), silence(0.5)))
    first.dropped = 3
    clock.now += 1
    take.turn()
    first.late.append((tone(440, 0.25), silence(0.25)))
    take.follow(second)
    second.pieces.append((tone(1000, 1), silence(1)))
    second.dropped = 4
    clock.now += 1
    take.turn()
    take.end(None)
    assert take.turn()
    left, _ = decode(take.part)
    assert len(left) == 16_000
    assert sounds(part(left, 0, 0.5), 440)
    assert sounds(part(left, 1, 2), 1000)
    assert take.dropped == 7


def test_a_call_without_a_sound_is_silence_of_its_length(tmp_path: Path) -> None:
    take = Take("c", tmp_path, "ogg", clock=Clock())
    take.end(1.0)
    assert take.turn()
    left, right = decode(take.part)
    assert abs(len(left) - 8000) < 160
    assert level(left) < 10
    assert level(right) < 10


@pytest.mark.parametrize("kind", BOTH)
def test_a_file_that_was_cut_off_is_whole_up_to_there(tmp_path: Path, kind: Format) -> None:
    path = tmp_path / f"c.{kind}.part"
    file = create(path, kind)
    for _ in range(100):
        file.write(tone(440, 0.05), silence(0.05))
    cut = path.read_bytes()  # as a crash leaves it: never closed
    file.close()
    for shorter in (cut, cut[:-1], cut[: len(cut) * 2 // 3]):
        path.write_bytes(shorter)
        assert mend(path)
        left, right = decode(path)
        assert abs(len(left) / 8000 - length_of(path)) < 0.03
        assert sounds(part(left, 0.1, 2.5), 440)
        assert level(right) < 50
    path.write_bytes(cut)
    mend(path)
    assert length_of(path) > 4.2  # of five seconds
    path.write_bytes(cut[:20])
    assert not mend(path)

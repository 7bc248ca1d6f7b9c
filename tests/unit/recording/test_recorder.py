"""The thread that writes: many calls, a full disk, a stop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.recording import recorder as recorder_module
from bridge.recording import take as take_module
from bridge.recording.recorder import FLOOR, Recorder
from tests.unit.recording.sounds import PlayedTap, decode, silence, sounds, tone

pytestmark = pytest.mark.unit

LIMIT = 20.0


class Done:
    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}
        self.changed = threading.Condition()

    def __call__(self, call_id: str, path: Path) -> None:
        with self.changed:
            self.paths[call_id] = path
            self.changed.notify_all()

    def wait_for(self, *call_ids: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: set(call_ids) <= set(self.paths), LIMIT)


def test_several_calls_are_written_at_once_and_named_by_their_ids(tmp_path: Path) -> None:
    done = Done()
    recorder = Recorder(tmp_path, "ogg", done, interval=0.01)
    recorder.start()
    for n in range(5):
        take = recorder.begin(f"call-{n}")
        tap = PlayedTap()
        tap.pieces.append((tone(400 + 100 * n, 1), silence(1)))
        take.follow(tap)
        take.end(1.0)
    done.wait_for(*(f"call-{n}" for n in range(5)))
    recorder.stop(LIMIT)
    for n in range(5):
        left, _ = decode(done.paths[f"call-{n}"])
        assert done.paths[f"call-{n}"].name == f"call-{n}.ogg"
        assert sounds(left, 400 + 100 * n)
    assert (recorder.running, recorder.failed, recorder.dropped) == (0, 0, 0)


def test_what_runs_at_a_stop_is_whole_afterwards(tmp_path: Path) -> None:
    done = Done()
    recorder = Recorder(tmp_path, "wav", done, interval=0.01)
    recorder.start()
    tap = PlayedTap()
    tap.pieces.append((tone(440, 0.01), silence(0.01)))
    tap.dropped = 40
    recorder.begin("c").follow(tap)
    part = tmp_path / "c.wav.part"
    for _ in range(2000):
        if part.exists() and part.stat().st_size > 100:
            break
        threading.Event().wait(0.01)
    assert recorder.writes("c")
    recorder.stop(LIMIT)
    assert not recorder.writes("c")
    assert sounds(decode(tmp_path / "c.wav")[0][:80], 440)
    assert recorder.dropped == 40


def test_a_disk_that_refuses_costs_a_recording_what_came_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Done()
    recorder = Recorder(tmp_path, "wav", done, interval=0.01)
    real = take_module.create

    def refusing(path: Path, kind: Any) -> Any:
        file = real(path, kind)
        write, samples = file.write, 0

        def full(left: bytes, right: bytes) -> None:
            nonlocal samples
            samples += len(left) // 2
            if samples > 12_000 and "full" in path.name:
                raise OSError(28, "No space left on device")
            write(left, right)

        monkeypatch.setattr(file, "write", full)
        return file

    monkeypatch.setattr(take_module, "create", refusing)
    for name in ("full", "fine"):
        take = recorder.begin(name)
        tap = PlayedTap()
        tap.pieces.append((tone(440, 1), silence(1)))
        tap.pieces.append((tone(440, 1), silence(1)))
        take.follow(tap)
        take.end(2.0)
    recorder.start()
    done.wait_for("full", "fine")
    recorder.stop(LIMIT)
    assert recorder.failed == 1
    assert 8000 <= len(decode(done.paths["full"])[0]) < 12_000
    assert len(decode(done.paths["fine"])[0]) == 16000


def test_a_folder_that_is_away_costs_no_thread(tmp_path: Path) -> None:
    done = Done()
    folder = tmp_path / "away"
    recorder = Recorder(folder, "ogg", done, interval=0.01)
    recorder.start()
    recorder.begin("lost").end(1.0)
    for _ in range(2000):
        if not recorder.writes("lost"):
            break
        threading.Event().wait(0.01)
    folder.mkdir()
    recorder.begin("fine").end(1.0)
    done.wait_for("fine")
    recorder.stop(LIMIT)
    assert recorder.failed == 1
    assert list(done.paths) == ["fine"]


def until(done: Any) -> None:
    for _ in range(int(LIMIT / 0.01)):
        if done():
            return
        threading.Event().wait(0.01)
    raise AssertionError("never")


def test_a_disk_with_little_room_is_left_to_the_journal(tmp_path: Path) -> None:
    """What runs ends, whole; nothing begins before there is room again, twice as much."""
    done, free = Done(), [FLOOR]
    looked: list[Path] = []

    def left(folder: Path) -> int:
        looked.append(folder)
        return free[0]

    recorder = Recorder(tmp_path, "wav", done, interval=0.01, free=left)
    recorder.start()
    tap = PlayedTap()
    tap.pieces.append((tone(440, 0.01), silence(0.01)))
    take = recorder.begin("runs")
    take.follow(tap)
    part = tmp_path / "runs.wav.part"
    until(lambda: part.exists() and part.stat().st_size > 100)
    with capture_logs() as logs:
        free[0] = FLOOR - 1
        done.wait_for("runs")
        free[0] = 2 * FLOOR - 1
        before = len(looked)
        until(lambda: len(looked) > before + 2)
        recorder.begin("refused").end(1.0)
        assert not recorder.writes("refused")
    assert [one["event"] for one in logs] == ["recording.no_room"]
    take.end(5.0)  # the call goes on and ends
    assert recorder.failed == 2
    assert sounds(decode(done.paths["runs"])[0][:80], 440)
    free[0] = 2 * FLOOR

    def again() -> bool:
        recorder.begin("fine").end(1.0)
        return recorder.writes("fine")

    until(again)
    done.wait_for("fine")
    recorder.stop(LIMIT)
    assert not (tmp_path / "refused.wav").exists()


def test_a_disk_that_takes_its_time_for_an_end_holds_up_no_other_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call's file is being written until it is whole: nobody sees a moment between."""
    done, slow = Done(), threading.Event()
    real = recorder_module.mend

    def mend(part: Path) -> bool:
        if "ended" in part.name:
            assert slow.wait(LIMIT)
        return real(part)

    monkeypatch.setattr(recorder_module, "mend", mend)
    recorder = Recorder(tmp_path, "wav", done, interval=0.01)
    recorder.start()
    recorder.begin("ended").end(1.0)
    until(lambda: recorder.running == 0)
    tap = PlayedTap()
    tap.pieces.append((tone(440, 0.1), silence(0.1)))
    recorder.begin("runs").follow(tap)
    part = tmp_path / "runs.wav.part"
    until(lambda: part.exists() and part.stat().st_size > 1000)
    assert recorder.writes("ended")
    slow.set()
    done.wait_for("ended")
    assert not recorder.writes("ended")
    recorder.stop(LIMIT)
    assert sounds(decode(done.paths["runs"])[0][:800], 440)

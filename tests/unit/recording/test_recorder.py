"""The thread that writes: many calls, a full disk, a stop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from bridge.recording import take as take_module
from bridge.recording.recorder import Recorder
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

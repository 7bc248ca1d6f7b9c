"""Whole files on their way: whatever stops them, they are brought, once, and erased for good."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tenacity.wait import wait_fixed

from bridge.journal.entries import JournalError
from bridge.recording import uploads as uploads_module
from bridge.recording.files import create
from bridge.recording.shelf import Shelf, ShelfError
from bridge.recording.uploads import Uploads, take_up
from tests.unit.recording.sounds import decode, silence, tone

pytestmark = pytest.mark.unit

LIMIT = 20.0  # seconds, for what takes none


class Rows:
    """The store's word on what is to be deleted."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.erased: set[str] = set()
        self.away = False
        self.forgotten: list[str] = []

    def gone(self, *, of_others: bool) -> Sequence[str]:
        assert not of_others
        return [one for one in self.lost if one not in self.forgotten]

    def is_gone(self, call_id: str) -> bool:
        if self.away:
            raise JournalError("away")
        return call_id in self.erased

    def deleted(self, call_id: str, *, of_others: bool) -> None:
        assert not of_others
        self.forgotten.append(call_id)


class Moody(Shelf):
    """A real folder that fails as often as it is told."""

    failures = 0
    puts = 0

    def put(self, name: str, path: Path) -> None:
        self.puts += 1
        if self.failures:
            self.failures -= 1
            raise ShelfError("away")
        super().put(name, path)


class Yard:
    """Uploads from a spool to a real folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool, self.kept = folder / "spool", folder / "kept"
        self.spool.mkdir()
        self.shelf = Moody.open(str(self.kept), folder)
        self.rows = Rows()
        self.noted: dict[str, Mapping[str, Any]] = {}
        self.note_fails = 0
        self.changed = threading.Condition()
        self.uploads = self.life()

    def life(self) -> Uploads:
        return Uploads(self.spool, self.shelf, self._note, self.rows, wait=wait_fixed(0.01))

    def _note(self, call_id: str, body: Mapping[str, Any]) -> None:
        if self.note_fails:
            self.note_fails -= 1
            raise JournalError("full")
        with self.changed:
            self.noted[call_id] = body
            self.changed.notify_all()

    def write(self, name: str) -> Path:
        path = self.spool / name
        kind = "wav" if ".wav" in name else "ogg"
        file = create(path, kind)  # type: ignore[arg-type]
        file.write(tone(440, 1), silence(1))
        file.close()
        return path

    def until(self, done: Any) -> None:
        deadline = threading.Event()
        for _ in range(int(LIMIT / 0.01)):
            if done():
                return
            deadline.wait(0.01)
        raise AssertionError("never")


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    yard = Yard(tmp_path)
    yield yard
    yard.uploads.stop(LIMIT)


def test_a_whole_file_is_kept_noted_and_gone_from_here(yard: Yard) -> None:
    path = yard.write("one.ogg")
    octets = path.stat().st_size
    yard.uploads.start()
    yard.until(lambda: not path.exists())
    assert yard.noted["one"] == {"name": "one.ogg", "octets": octets, "seconds": 1.0}
    left, _ = decode(yard.kept / "one.ogg")
    assert len(left) == 8000
    second = yard.write("two.wav")
    yard.uploads.wake()
    yard.until(lambda: not second.exists())
    assert yard.noted["two"]["seconds"] == 1.0
    assert yard.uploads.kept == 2


def test_a_place_and_a_journal_that_fail_are_tried_until_they_do_not(yard: Yard) -> None:
    path = yard.write("one.ogg")
    yard.shelf.failures, yard.note_fails = 3, 2
    yard.uploads.start()
    yard.until(lambda: not path.exists())
    assert yard.shelf.puts == 6
    assert yard.uploads.failures == 5
    assert list(yard.noted) == ["one"]


def test_what_was_not_brought_is_brought_by_the_next_life(yard: Yard) -> None:
    path = yard.write("one.ogg")
    yard.shelf.failures = 10**9
    yard.uploads.start()
    yard.until(lambda: yard.uploads.failures > 2)
    yard.uploads.stop(LIMIT)
    assert path.exists()
    assert yard.noted == {}
    yard.shelf.failures = 0
    yard.uploads = yard.life()
    yard.uploads.start()
    yard.until(lambda: not path.exists())
    assert (yard.kept / "one.ogg").exists()


def test_what_a_crash_cut_off_is_mended_before_anything_is_brought(yard: Yard) -> None:
    for kind in ("ogg", "wav"):
        part = yard.write(f"cut-{kind}.{kind}.part")
        part.write_bytes(part.read_bytes()[:-7])
    (yard.spool / "empty.ogg.part").write_bytes(b"")
    (yard.spool / "nothing.wav.part").write_bytes(b"RIFF")
    take_up(yard.spool)
    assert sorted(path.name for path in yard.spool.iterdir()) == ["cut-ogg.ogg", "cut-wav.wav"]
    yard.uploads.start()
    yard.until(lambda: not any(yard.spool.iterdir()))
    left, _ = decode(yard.kept / "cut-wav.wav")
    assert len(left) == 8000 - 2
    assert 0.4 < yard.noted["cut-ogg"]["seconds"] < 1.0


def test_an_erased_call_has_no_file_anywhere(yard: Yard) -> None:
    """Whether it waits here, is kept, or is known to be lost by the store alone."""
    yard.write("kept.ogg")
    yard.uploads.start()
    yard.until(lambda: "kept" in yard.noted and not any(yard.spool.iterdir()))
    (yard.kept / "lost.wav").write_bytes(b"RIFF")
    yard.rows.lost.append("lost")
    yard.shelf.failures = 10**9
    waiting = yard.write("waits.ogg")
    yard.uploads.wake()
    yard.until(lambda: yard.shelf.puts > 1)
    for call_id in ("kept", "waits"):
        yard.uploads.forget(call_id)
    assert not waiting.exists()
    yard.until(lambda: not any(yard.kept.iterdir()))
    yard.until(lambda: sorted(yard.rows.forgotten) == ["kept", "lost", "waits"])
    late = yard.write("waits.ogg")  # its file was being closed when it was erased
    yard.uploads.wake()
    yard.until(lambda: not late.exists())
    assert "waits" not in yard.noted


def test_files_of_others_are_left_alone(yard: Yard) -> None:
    for name in ("notes.txt", "one.ogg.part", "+919876543210.mp3"):
        (yard.spool / name).write_text("x")
    yard.uploads.start()
    yard.uploads.stop(LIMIT)
    assert len(list(yard.spool.iterdir())) == 3
    assert not any(yard.kept.iterdir())


def test_what_was_erased_before_a_crash_is_not_brought_after_it(yard: Yard) -> None:
    """The row that would have deleted it is gone: its file was not closed when it was swept."""
    path, other = yard.write("erased.ogg.part"), yard.write("fine.ogg")
    yard.rows.erased.add("erased")
    take_up(yard.spool)
    yard.uploads.start()
    yard.until(lambda: not any(yard.spool.iterdir()))
    assert not path.exists()
    assert not other.exists()
    assert list(yard.noted) == ["fine"]
    assert [one.name for one in yard.kept.iterdir()] == ["fine.ogg"]


def test_a_store_that_is_away_keeps_nothing_here(yard: Yard) -> None:
    yard.rows.away = True
    path = yard.write("one.ogg")
    yard.uploads.start()
    yard.until(lambda: not path.exists())
    assert list(yard.noted) == ["one"]


def test_a_file_that_cannot_be_read_holds_up_no_other(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = uploads_module.length_of

    def length_of(path: Path) -> float:
        if path.name == "a.ogg":
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(uploads_module, "length_of", length_of)
    bad, good = yard.write("a.ogg"), yard.write("b.ogg")
    yard.uploads.start()
    yard.until(lambda: not good.exists())
    assert bad.exists()
    assert list(yard.noted) == ["b"]


def test_a_file_that_the_place_does_not_take_holds_up_no_other(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = yard.shelf.put

    def put(name: str, path: Path) -> None:
        if name == "a.ogg":
            raise ShelfError("Input/output error")
        real(name, path)

    monkeypatch.setattr(yard.shelf, "put", put)
    bad, good = yard.write("a.ogg"), yard.write("b.ogg")
    yard.uploads.start()
    yard.until(lambda: not good.exists())
    assert bad.exists()


def test_a_file_that_cannot_be_deleted_is_tried_again_and_holds_up_no_other(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = [True]
    real = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if stuck and path.name == "a.ogg":
            raise PermissionError(13, "Permission denied")
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    bad, good = yard.write("a.ogg"), yard.write("b.ogg")
    yard.uploads.forget("a")
    (yard.kept / "c.ogg").write_bytes(b"x")
    yard.uploads.forget("c")
    yard.uploads.start()
    yard.until(lambda: not good.exists() and not (yard.kept / "c.ogg").exists())
    assert bad.exists()
    assert yard.rows.forgotten == ["c"]
    stuck.clear()
    yard.uploads.wake()
    yard.until(lambda: "a" in yard.rows.forgotten)
    assert not bad.exists()
    assert "a" not in yard.noted


def test_a_stop_between_two_attempts_is_not_slept_through(yard: Yard) -> None:
    path = yard.write("one.ogg")
    yard.shelf.failures = 1
    wait = wait_fixed(300)
    uploads = Uploads(yard.spool, yard.shelf, yard._note, yard.rows, wait=wait)
    uploads.start()
    yard.until(lambda: uploads.failures == 1)
    uploads.stop(LIMIT)
    assert not path.exists()
    assert "recordings" not in [thread.name for thread in threading.enumerate()]

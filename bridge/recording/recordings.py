"""The recordings of one instance: begun by calls, brought away, found again for who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bridge.journal import Journal, JournalError
from bridge.recording.files import CONTENT_TYPES, RATE, Format
from bridge.recording.recorder import Recorder
from bridge.recording.shelf import Shelf, ShelfError
from bridge.recording.take import Take
from bridge.recording.uploads import Uploads, take_up
from bridge.store.recordings import RecordingRows
from bridge.store.store import Store

FACT: Final = "recording"
_PATIENCE: Final = 30.0  # seconds a file waits for the journal, then it is brought again
_LAST: Final = 10.0  # seconds for the last files to be closed, and as many to be brought away


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A whole recording. ``path`` is where it lies here, as long as it does."""

    name: str
    octets: int
    path: Path | None
    shelf: Shelf

    @property
    def content_type(self) -> str:
        """The media type."""
        return CONTENT_TYPES[self.name.rpartition(".")[2]]

    @property
    def etag(self) -> str:
        """RFC 9110 8.8.3: a recording is written once."""
        return f'"{self.name}-{self.octets}"'

    def read(self, begin: int, end: int) -> bytes | None:
        """Return the octets from *begin* to before *end*; None: it is not there any more.

        Blocks, raises `ShelfError`.
        """
        if self.path is not None:
            try:
                with self.path.open("rb") as file:
                    file.seek(begin)
                    return file.read(end - begin)
            except OSError:  # it has been brought away
                pass
        return self.shelf.read(self.name, begin, end)


class Recordings:
    """Implements `bridge.call.ports.Recorder`. *folder* is this instance's own."""

    def __init__(
        self,
        kind: Format,
        folder: Path,
        *,
        open_shelf: Callable[[], Shelf],
        journal: Journal,
        store: Store,
    ) -> None:
        self._folder = folder
        self._journal = journal
        self._instance = store.instance
        self._shelf = open_shelf()
        self._rows = RecordingRows(store)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._uploads = Uploads(folder, self._shelf, self._note, self._rows)
        self._recorder = Recorder(folder, kind, lambda *_: self._uploads.wake())

    async def start(self) -> None:
        """Take up what an earlier life has left, and begin. Raises `ShelfError`."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._take_up)
        self._recorder.start()
        self._uploads.start()

    def _take_up(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as failure:
            raise ShelfError(f"{self._folder}: {failure.strerror}") from failure
        take_up(self._folder)

    async def stop(self) -> None:
        """Close every file and bring away what can be; the rest is brought by the next start."""
        await asyncio.to_thread(self._recorder.stop, _LAST)
        await asyncio.to_thread(self._uploads.stop, _LAST)

    def begin(self, call_id: str) -> Take:
        """Record a call from now on."""
        return self._recorder.begin(call_id)

    # For who asks, from any thread.

    def writes(self, call_id: str) -> bool:
        """Whether a call's recording is not whole yet."""
        return self._recorder.writes(call_id)

    def is_recorded(self, call_id: str) -> bool:
        """Whether a call was begun to be recorded, on whatever instance. As `find`."""
        return self.writes(call_id) or self._rows.is_recorded(call_id)

    def find(self, call_id: str) -> Kept | None:
        """Return a call's whole recording. Blocks, raises `StoreError`."""
        if self._uploads.is_forgotten(call_id):
            return None
        path = self._uploads.path_of(call_id)
        if path is not None:
            try:
                octets = path.stat().st_size
            except FileNotFoundError:
                pass
            else:
                return Kept(name=path.name, octets=octets, path=path, shelf=self._shelf)
        row = self._rows.of(call_id)
        if row is None:
            return None
        return Kept(name=row.name, octets=row.octets, path=None, shelf=self._shelf)

    def forget(self, call_id: str) -> None:
        """Have the recording of an erased call deleted."""
        self._uploads.forget(call_id)

    def figures(self) -> Mapping[str, float]:
        """Return what is counted, by the words of the metrics. Blocks: it looks at the folder."""
        recorder, uploads = self._recorder, self._uploads
        return {
            "running": recorder.running,
            "waiting": uploads.waiting,
            "kept": uploads.kept,
            "broken": recorder.failed,
            "failed": uploads.failures,
            "dropped_seconds": recorder.dropped / RATE,
        }

    def _note(self, call_id: str, body: Mapping[str, Any]) -> None:
        """Write down where a recording is, on the thread of the uploads."""
        assert self._loop is not None
        path = f"{self._shelf.place}{body['name']}"
        whole = {**body, "path": path, "instance": self._instance}

        async def note() -> None:
            await self._journal.note(call_id, FACT, whole)

        written = asyncio.run_coroutine_threadsafe(note(), self._loop)
        try:
            written.result(_PATIENCE)
        except Late as failure:
            written.cancel()
            raise JournalError("the journal does not answer") from failure

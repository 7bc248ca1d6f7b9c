"""Whole recordings on their way to where they are kept, and erased ones on their way out.

The folder is the queue: a file is in it until it is kept and the journal says where, so a crash
anywhere means that it is done again. One thread; a place that does not answer is waited for.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_when_event_set
from tenacity.wait import wait_base, wait_exponential_jitter

from bridge.errors import BridgeError
from bridge.recording.files import CONTENT_TYPES, length_of
from bridge.recording.recorder import finish
from bridge.recording.shelf import ShelfError
from bridge.recording.take import PART

_log = structlog.get_logger(__name__)

LOOK: Final = 60.0  # seconds between looks for what nobody has told us of
WAIT: Final = wait_exponential_jitter(multiplier=2, max=300, jitter=2)
_NAME: Final = re.compile(r"([0-9A-Za-z-]{1,64})\.(ogg|wav)")
_FORGOTTEN: Final = 10_000


class Place(Protocol):
    """Where recordings are kept. Every method blocks and raises `ShelfError`."""

    @property
    def shared(self) -> bool:
        """Whether every instance sees the same."""

    def put(self, name: str, path: Path) -> None:
        """Keep a file as *name*. Raises ``FileNotFoundError`` when it is not there any more."""

    def delete(self, name: str) -> None:
        """Forget an object."""


class Gone(Protocol):
    """Which recordings are to be deleted. Every method blocks and raises `BridgeError`."""

    def gone(self, *, of_others: bool) -> Sequence[str]:
        """Return some calls whose recordings are to be deleted."""

    def is_gone(self, call_id: str) -> bool:
        """Whether a call was erased, or its recording is to be deleted."""

    def deleted(self, call_id: str, *, of_others: bool) -> None:
        """Forget a recording that has been deleted, if `gone` tells us of it."""


Note = Callable[[str, Mapping[str, Any]], None]
"""Writes down where a call's recording is; blocks until that is safe, raises `BridgeError`."""


class Uploads:
    """Brings the whole files of *folder* to *place*; *rows* says what is to be deleted there."""

    def __init__(
        self, folder: Path, place: Place, note: Note, rows: Gone, *, wait: wait_base = WAIT
    ) -> None:
        self._folder = folder
        self._place = place
        self._note = note
        self._rows = rows
        self._wait = wait
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._forget: dict[str, None] = {}  # to be deleted, in the order asked for
        self._forgotten: dict[str, None] = {}  # what still comes of these is deleted
        self._refused: dict[str, int] = {}  # files, and how often: others come first
        self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
        self.kept = 0
        self.failures = 0  # attempts

    def start(self) -> None:
        """Take up what an earlier life has left, and begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is a new file."""
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many whole files are not where they are to be kept."""
        return len(self._files())

    def path_of(self, call_id: str) -> Path | None:
        """Return a call's whole file as long as it is here."""
        for kind in CONTENT_TYPES:
            path = self._folder / f"{call_id}.{kind}"
            if path.exists():
                return path
        return None

    def forget(self, call_id: str) -> None:
        """Have a call's recording deleted, wherever it is. From any thread; never raises."""
        with self._lock:
            self._forget[call_id] = self._forgotten[call_id] = None
            while len(self._forgotten) > _FORGOTTEN:
                self._forgotten.pop(next(iter(self._forgotten)))
        with suppress(OSError):  # said where it is tried again
            self._delete_here(call_id)
        self._wake.set()

    def is_forgotten(self, call_id: str) -> bool:
        """Whether a call's recording is not to be heard any more."""
        return call_id in self._forgotten

    def stop(self, timeout: float) -> None:
        """Bring away what there is, if that works at once, and stop. Waits; not on the loop."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    # On its thread.

    def _run(self) -> None:
        while True:
            last = self._stopping.is_set()
            try:
                self._attempts()(self._pass)
            except RetryError:  # stopping: the next start brings what is left
                return
            except Exception as failure:  # a bug of ours: what is here is looked at again
                _log.error("recording.upload_broke", error=type(failure).__name__)
            if last:
                return
            if not self._stopping.is_set():  # set in an attempt, which may have cleared the other
                self._wake.wait(LOOK)

    def _attempts(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(BridgeError),
            wait=self._wait,
            stop=stop_when_event_set(self._stopping),
            sleep=sleep_using_event(self._wake),  # whatever is new is tried at once
            before_sleep=self._failed,
        )

    def _failed(self, state: RetryCallState) -> None:
        self.failures += 1
        failure = state.outcome.exception() if state.outcome is not None else None
        attempt, files = state.attempt_number, self.waiting
        _log.warning("recording.not_kept", attempt=attempt, error=str(failure), files=files)

    def _pass(self) -> None:
        """Delete what is to be deleted, then bring what is here. Raises `BridgeError`."""
        self._wake.clear()
        self._sweep()
        files = self._files()
        self._refused = {path.name: self._refused.get(path.name, 0) for path in files}
        for path in sorted(files, key=lambda path: self._refused[path.name]):
            try:
                if self._is_gone(path.stem):
                    path.unlink(missing_ok=True)
                else:
                    self._bring(path.stem, path)
            except FileNotFoundError:  # erased meanwhile
                continue
            except OSError as failure:  # this one alone: it is tried at the next look
                self.failures += 1
                error = type(failure).__name__
                _log.error("recording.unreadable", call_id=path.stem, error=error)
            except BridgeError:
                self._refused[path.name] += 1
                raise

    def _is_gone(self, call_id: str) -> bool:
        """Whether a file is not to be kept any more, as far as is known here."""
        if call_id in self._forgotten:
            return True
        try:
            return self._rows.is_gone(call_id)
        except BridgeError:  # the store is away: it has what was kept deleted later
            return False

    def _files(self) -> list[Path]:
        try:
            found = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        except OSError:
            return []
        return sorted(found, key=lambda path: path.name)

    def _bring(self, call_id: str, path: Path) -> None:
        seconds, octets = length_of(path), path.stat().st_size
        self._place.put(path.name, path)
        self._note(call_id, {"name": path.name, "octets": octets, "seconds": seconds})
        path.unlink(missing_ok=True)
        self.kept += 1
        _log.info("recording.kept", call_id=call_id, seconds=round(seconds, 1))

    def _sweep(self) -> None:
        """Delete what is to be deleted; what does not work is tried at the next look."""
        with self._lock:
            wanted = list(self._forget)
        with suppress(BridgeError):  # the store is away: it tells later
            wanted += self._rows.gone(of_others=self._place.shared)
        for call_id in dict.fromkeys(wanted):
            try:
                self._delete_here(call_id)
                for kind in CONTENT_TYPES:
                    self._place.delete(f"{call_id}.{kind}")
                self._rows.deleted(call_id, of_others=self._place.shared)
            except ShelfError as failure:
                _log.warning("recording.not_deleted", call_id=call_id, error=str(failure))
                continue
            except OSError as failure:
                error = type(failure).__name__
                _log.warning("recording.not_deleted", call_id=call_id, error=error)
                continue
            except BridgeError:  # the row is looked at again
                pass
            with self._lock:
                self._forget.pop(call_id, None)

    def _delete_here(self, call_id: str) -> None:
        for kind in CONTENT_TYPES:
            (self._folder / f"{call_id}.{kind}").unlink(missing_ok=True)


def take_up(folder: Path) -> None:
    """Make whole what a crash has left in *folder*, before anything new is written there."""
    for part in sorted(folder.glob(f"*{PART}")):
        try:
            whole = finish(part)
        except OSError as failure:
            _log.error("recording.not_mended", error=type(failure).__name__)
            continue
        if whole is not None:
            _log.warning("recording.mended", call_id=whole.stem)

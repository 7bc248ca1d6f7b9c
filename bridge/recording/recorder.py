"""The one thread that writes recordings: it reads the taps of all calls, encodes, closes files.

It is slower than the calls when the machine is: a tap holds four seconds, and what does not fit
is counted. No call waits for it and none ends because of it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from bridge.recording.files import RATE, Format, mend
from bridge.recording.take import Take

_log = structlog.get_logger(__name__)

INTERVAL: Final = 0.25  # seconds between two looks at the taps
_NICE: Final = 10  # calls come first, where the two want the same core


class Recorder:
    """Writes recordings into *folder*; *done* is told, on its thread, of each whole file."""

    def __init__(
        self,
        folder: Path,
        kind: Format,
        done: Callable[[str, Path], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        interval: float = INTERVAL,
    ) -> None:
        self._folder = folder
        self._kind: Format = kind
        self._done = done
        self._clock = clock
        self._interval = interval
        self._lock = threading.Lock()
        self._takes: dict[str, Take] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self.failed = 0  # recordings that broke off
        self.dropped = 0  # samples that found no room, of those that are over

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def begin(self, call_id: str) -> Take:
        """Record a call from now on. On the loop; no disk is waited for."""
        take = Take(call_id, self._folder, self._kind, clock=self._clock)
        with self._lock:
            self._takes[call_id] = take
        return take

    @property
    def running(self) -> int:
        """How many recordings are written."""
        return len(self._takes)

    def writes(self, call_id: str) -> bool:
        """Whether a call's file is not whole yet. From any thread."""
        return call_id in self._takes

    def stop(self, timeout: float) -> None:
        """End every recording and close the files. Waits; not on the loop."""
        with self._lock:
            for take in self._takes.values():
                take.end(None)
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    # On its thread.

    def _run(self) -> None:
        with suppress(OSError):  # Linux: of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            last = self._stopping.wait(self._interval)
            with self._lock:
                takes = list(self._takes.values())
            for take in takes:
                self._turn(take)
            if last:
                return

    def _turn(self, take: Take) -> None:
        try:
            if not take.turn():
                return
        except Exception as failure:  # a full disk, a bug: the call goes on, and what there is
            self.failed += 1
            _log.error("recording.failed", call_id=take.call_id, error=type(failure).__name__)
            with suppress(Exception):
                take.abandon()
        if take.dropped:
            self.dropped += take.dropped
            seconds = round(take.dropped / RATE, 2)
            _log.warning("recording.dropped", call_id=take.call_id, seconds=seconds)
        try:
            finished = finish(take.part)
        except OSError as failure:  # it is tried again at the next start
            _log.error("recording.failed", call_id=take.call_id, error=type(failure).__name__)
            finished = None
        with self._lock:
            self._takes.pop(take.call_id, None)
        if finished is not None:
            self._done(take.call_id, finished)


def finish(part: Path) -> Path | None:
    """Give a file that is not written any more its name; None: there was nothing in it.

    Raises ``OSError``.
    """
    if not part.exists():
        return None
    if not mend(part):
        part.unlink()
        return None
    whole = part.with_suffix("")
    part.replace(whole)
    return whole

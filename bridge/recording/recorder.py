"""The one thread that writes recordings: it reads the taps of all calls, encodes, closes files.

It is slower than the calls when the machine is: a tap holds four seconds, and what does not fit
is counted. No call waits for it and none ends because of it. What waits for the disk, to make an
ended file whole, is another thread's. The journal lies on the same disk: its room is left alone.
"""

from __future__ import annotations

import os
import queue
import shutil
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
FLOOR: Final = 512 * 1024 * 1024  # octets of the disk that are left to the journal
_NICE: Final = 10  # calls come first, where the two want the same core


def free_of(folder: Path) -> int:
    """Return the octets that are free on the disk of *folder*. Raises ``OSError``."""
    return shutil.disk_usage(folder).free


class Recorder:
    """Writes recordings into *folder*; *done* is told, on a thread of its, of each whole file.

    *free* gives the octets that its disk has left: below `FLOOR` nothing is written.
    """

    def __init__(
        self,
        folder: Path,
        kind: Format,
        done: Callable[[str, Path], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        interval: float = INTERVAL,
        free: Callable[[Path], int] = free_of,
    ) -> None:
        self._folder = folder
        self._kind: Format = kind
        self._done = done
        self._clock = clock
        self._interval = interval
        self._free = free
        self._full = False
        self._lock = threading.Lock()
        self._takes: dict[str, Take] = {}
        self._closed: dict[str, Take] = {}  # not whole yet
        self._ends: queue.SimpleQueue[Take | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._ender = threading.Thread(target=self._end, name="recorder-ends", daemon=True)
        self.failed = 0  # recordings that broke off
        self.dropped = 0  # samples that found no room, of those that are over

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()
        self._ender.start()

    def begin(self, call_id: str) -> Take:
        """Record a call from now on. On the loop; no disk is waited for.

        While the disk is full the take is nobody's, and nothing comes of it.
        """
        take = Take(call_id, self._folder, self._kind, clock=self._clock)
        with self._lock:
            if self._full:
                self.failed += 1
            else:
                self._takes[call_id] = take
        return take

    @property
    def running(self) -> int:
        """How many recordings are written."""
        return len(self._takes)

    def writes(self, call_id: str) -> bool:
        """Whether a call's file is not whole yet. From any thread."""
        return call_id in self._takes or call_id in self._closed  # it goes from left to right

    def stop(self, timeout: float) -> None:
        """End every recording and close the files. Waits; not on the loop."""
        with self._lock:
            for take in self._takes.values():
                take.end(None)
        self._stopping.set()
        if self._thread.ident is not None:
            until = time.monotonic() + timeout
            self._thread.join(timeout)
            self._ends.put(None)
            self._ender.join(max(0.0, until - time.monotonic()))

    # On its thread.

    def _run(self) -> None:
        with suppress(OSError):  # Linux: of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            last = self._stopping.wait(self._interval)
            self._look_at_disk()
            with self._lock:
                takes = list(self._takes.values())
            for take in takes:
                if self._full and not take.ended:
                    self.failed += 1
                    take.end(None)
                self._turn(take)
            if last:
                return

    def _look_at_disk(self) -> None:
        """Find out whether there is room; once there was none, for twice as much."""
        try:
            free = self._free(self._folder)
        except OSError:  # whoever writes there fails, alone
            return
        full = free < (2 * FLOOR if self._full else FLOOR)
        if full and not self._full:
            _log.error("recording.no_room", free_mib=free // 2**20, running=len(self._takes))
        with self._lock:  # what was begun before is among the takes of this turn
            self._full = full

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
        with self._lock:
            self._closed[take.call_id] = take
            self._takes.pop(take.call_id, None)
        self._ends.put(take)

    # On the thread that waits for the disk.

    def _end(self) -> None:
        while (take := self._ends.get()) is not None:
            try:
                finished = finish(take.part)
            except Exception as failure:  # it is tried again at the next start
                _log.error("recording.failed", call_id=take.call_id, error=type(failure).__name__)
                finished = None
            self._closed.pop(take.call_id, None)
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

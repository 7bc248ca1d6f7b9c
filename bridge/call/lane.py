"""The room lane: what is queued for one call's room, in order, one at a time.

While the room is away the queue waits. A send that the room session still has in
hand is left to it, however long the room is away: sent again by us it would
arrive twice. One that fails while the room is there is given up (the session has
tried again by then); one that fails because the room went away comes first when
it is back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Final

import structlog

_log = structlog.get_logger(__name__)

SEND_TIMEOUT: Final = 60.0  # seconds; longer than a room may stay away
QUEUE_LIMIT: Final = 1000  # sends; beyond it those that may be lost are not queued
RETRY_PAUSE: Final = 0.2  # seconds for a notice that the room went away to arrive


def _ignore() -> None:
    return


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One send; it ends in ``sent`` or in ``dropped``. A restore replaces ``level`` entries.

    ``begin`` is asked when nothing else waits: it returns the send, begun, or None when it
    cannot begin yet.
    """

    send: Callable[[], Awaitable[object]]
    begin: Callable[[], Awaitable[object] | None] | None = None
    sent: Callable[[], None] = _ignore
    dropped: Callable[[], None] = _ignore
    level: bool = False
    begun: Awaitable[object] | None = None


class _Ending(Enum):
    SENT = "sent"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


def _drop(entry: Entry) -> None:
    """End *entry* unsent; what was begun goes on, but nobody waits for it."""
    begun, entry.begun = entry.begun, None
    if isinstance(begun, asyncio.Future):
        if not begun.cancel() and not begun.cancelled():
            begun.exception()  # seen: it is dropped all the same
    elif isinstance(begun, Coroutine):
        begun.close()
    entry.dropped()


class RoomLane:
    """A queue with one worker. Every entry ends in one callback."""

    def __init__(self, call_id: str) -> None:
        self._call_id = call_id
        self._queue: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._open = False
        self._stopped = False
        self._restores = 0
        self._sending = False

    @property
    def is_open(self) -> bool:
        """Whether the room is there."""
        return self._open

    def put(self, entry: Entry) -> None:
        """Queue *entry* last."""
        if self._stopped:
            entry.dropped()
            return
        if entry.begin is not None and self._open and not self._queue and not self._sending:
            entry.begun = entry.begin()
        self._queue.append(entry)
        self._wake.set()

    def __len__(self) -> int:
        """Return how much is queued, what is being sent not counted."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """Whether nothing that may be lost should be queued."""
        return len(self._queue) >= QUEUE_LIMIT

    def suspend(self) -> None:
        """Keep everything queued: the room is away."""
        self._open = False

    def restore(self, first: Entry, *then: Entry) -> None:
        """Go on, with *first* in the place of all levels queued before, and *then* after it."""
        stale = [entry for entry in self._queue if entry.level]
        self._queue = deque(entry for entry in self._queue if not entry.level)
        for entry in stale:
            _drop(entry)
        if self._stopped:
            for entry in (first, *then):
                entry.dropped()
            return
        self._queue.extendleft(reversed((first, *then)))
        self._restores += 1
        self._open = True
        self._wake.set()

    def stop(self) -> None:
        """Drop everything queued; nothing is accepted any more."""
        self._stopped = True
        self._open = False
        queue, self._queue = self._queue, deque()
        for entry in queue:
            _drop(entry)
        self._wake.set()

    async def run(self) -> None:
        """Send until stopped."""
        while not self._stopped:
            if not (self._open and self._queue):
                self._wake.clear()
                await self._wake.wait()
                continue
            entry = self._queue.popleft()
            restores = self._restores
            self._sending = True
            try:
                ending = await self._send(entry)
            except BaseException:
                entry.dropped()
                raise
            finally:
                self._sending = False
            if ending is _Ending.SENT:
                entry.sent()
            elif ending is _Ending.TIMED_OUT or not self._went_away(restores):
                entry.dropped()
            else:
                self._again(entry)

    def _went_away(self, restores: int) -> bool:
        """Tell whether the room is away, or was since *restores* was read."""
        return not self._stopped and (not self._open or restores != self._restores)

    def _again(self, entry: Entry) -> None:
        """Queue what failed because the room went away: next, or after the restore."""
        if not self._open:
            self._queue.appendleft(entry)
        elif not entry.level:
            self._queue.insert(1, entry)
        else:
            entry.dropped()

    async def _send(self, entry: Entry) -> _Ending:
        begun, entry.begun = entry.begun, None
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await (entry.send() if begun is None else begun)
        except Exception as error:  # the lane survives whatever an SDK raises
            _log.warning("call.room_send_failed", call_id=self._call_id, error=type(error).__name__)
            if isinstance(error, TimeoutError):
                return _Ending.TIMED_OUT  # it may yet arrive: never twice
            await asyncio.sleep(RETRY_PAUSE)
            return _Ending.FAILED
        return _Ending.SENT

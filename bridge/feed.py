"""The journal, followed live: every event once and in order, for any number of readers.

A reader always reads the journal, from where it stands, at its own pace; what the daemon
tells only wakes it. So replay and live are the same thing and cannot disagree, and a slow
reader costs no memory. What is new is read once for all readers and kept for a while.

Built on the main loop, read on the loop of whoever serves the readers (the API's thread,
or the caller's own loop): `Feed.tell` crosses over once per burst.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar
from weakref import WeakValueDictionary

import structlog

from bridge.call.requests import Unavailable
from bridge.errors import BridgeError
from bridge.events import CallEvent

_log = structlog.get_logger(__name__)

T = TypeVar("T")

KEEP_ALIVE: Final = 15.0
"""Seconds after which a reader without news gets an empty batch."""
READERS: Final = 1000
"""At once, for one feed."""

_BATCH: Final = 200  # events a reader is handed at once
_KEPT: Final = 4096  # events kept for readers that are nearly up to date
_POLL: Final = 1.0  # seconds between looks at the journal that nobody asked for
_AGAIN: Final = (0.005, 0.02, 0.08, 0.3)  # seconds until an event that was told must be there
_ALL: Final = ""


class EventLog(Protocol):
    """The journal, or the store of all instances, as it is followed. Called in threads."""

    def events_since(self, position: int, *, limit: int) -> list[tuple[int, str, int, str]]:
        """Return events of all calls after *position*: position, call, seq, JSON text."""

    def events_of(self, call_id: str, *, after: int, limit: int) -> list[tuple[int, str, int, str]]:
        """Return events of one call after the seq *after*."""

    def last_position(self) -> int:
        """Return the position of the event written last."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One event in the journal. ``body`` is its JSON object on one line."""

    position: int
    call_id: str
    seq: int
    body: str

    @property
    def name(self) -> str:
        """The event's name."""
        return str(json.loads(self.body)["event"])


class _News(asyncio.Event):
    """What readers wait for; kept alive by them alone."""


class Feed:
    """The events of *log* for readers on one loop."""

    def __init__(
        self, log: EventLog, *, readers: int = READERS, keep_alive: float = KEEP_ALIVE
    ) -> None:
        self._journal = log
        self._readers = readers
        self._keep_alive = keep_alive
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seats = 0
        self._closing = False
        self._told: deque[tuple[str, int]] = deque(maxlen=1024)
        self._scheduled = False
        self._wake = asyncio.Event()
        self._news: WeakValueDictionary[str, _News] = WeakValueDictionary()
        self._kept: deque[Logged] = deque()
        self._heads: OrderedDict[str, int] = OrderedDict()  # call -> last seq that was read
        self._floor: int | None = None  # every event after it was read and is still kept
        self._position = 0
        self._tail: asyncio.Task[None] | None = None

    # From the main loop.

    def tell(self, event: CallEvent) -> None:
        """Note that *event* happened; its readers hear when the journal has it."""
        if not self._seats:
            return
        self._told.append((event.call_id, event.seq))
        if not self._scheduled:
            self._scheduled = True
            self._cross(self._on_told)

    def close(self) -> None:
        """Let every reader have what there is, and no more. From any thread."""
        self._closing = True
        self._cross(self._announce_all)

    def _cross(self, act: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # that loop is closed: nobody reads any more
                self._loop.call_soon_threadsafe(act)

    # On the readers' loop.

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Hold a reader's place. Raises `Unavailable` when all are taken, or at the end."""
        self.take_seat()
        try:
            yield
        finally:
            self.leave_seat()

    def take_seat(self) -> None:
        """Take a place that `leave_seat` gives back. Raises `Unavailable`."""
        if self._closing:
            raise Unavailable("the bridge stops")
        if self._seats >= self._readers:
            raise Unavailable(f"{self._readers} event streams are open, no more", retry_after=10)
        self._loop = asyncio.get_running_loop()
        self._seats += 1
        if self._tail is None:
            self._tail = self._loop.create_task(self._follow(), name="feed")

    def leave_seat(self) -> None:
        """Give a place back; when nobody reads, nothing is followed."""
        self._seats -= 1
        if not self._seats and self._tail is not None:
            self._tail.cancel()
            self._tail = None
            self._floor = None
            self._kept.clear()
            self._heads.clear()

    @property
    def seats(self) -> int:
        """How many readers there are."""
        return self._seats

    async def last_position(self) -> int:
        """Return the position of the event written last. Raises `Unavailable`."""
        return await self._read(self._journal.last_position)

    async def page(self, after: int, limit: int) -> list[Logged]:
        """Return events of all calls after the position *after*. Raises `Unavailable`."""
        return await self._read(lambda: _logged(self._journal.events_since(after, limit=limit)))

    async def everything(self, after: int) -> AsyncGenerator[Sequence[Logged], None]:
        """Yield the events of all calls after the position *after*, then what happens.

        Batches; an empty one when nothing happened for a while, or nothing can be read. Ends
        with the feed. Raises `Unavailable` before the first. A
        position the journal has not reached is one of another journal: all of this one's
        events are new then.
        """
        if after > await self.last_position():
            after = 0
        while True:
            news, closing = self._news_of(_ALL), self._closing
            batch = [] if closing else self._kept_after(after)
            if batch is None or closing:
                batch = await self._page_or_none(after)
            if batch:
                after = batch[-1].position
                yield batch
            elif closing:
                return
            elif not await self._heard(news):
                yield ()

    async def _page_or_none(self, after: int) -> list[Logged]:
        """Return what there is after *after*; what cannot be read now is read later."""
        try:
            return await self.page(after, _BATCH)
        except Unavailable:
            return []

    async def of_call(self, call_id: str, after: int) -> AsyncGenerator[Sequence[Logged], None]:
        """Yield the events of a call after the seq *after*, then what happens to it.

        As `everything`; ends after ``call_ended``, too.
        """
        while True:
            news, closing = self._news_of(call_id), self._closing
            batch = await self._page_of(call_id, after)
            if batch:
                after = batch[-1].seq
                yield batch
                if batch[-1].name == "call_ended":
                    return
            elif closing:
                return
            elif not await self._heard(news):
                yield ()

    async def _page_of(self, call_id: str, after: int) -> list[Logged]:
        journal = self._journal
        return await self._read(
            lambda: _logged(journal.events_of(call_id, after=after, limit=_BATCH))
        )

    async def _read(self, read: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(read)
        except BridgeError as failure:
            raise Unavailable("the journal cannot be read") from failure

    def _kept_after(self, position: int) -> list[Logged] | None:
        """Return what is kept after *position*; None when something may be missing."""
        if self._floor is None or position < self._floor:
            return None
        behind = next(
            (i for i, one in enumerate(reversed(self._kept)) if one.position <= position),
            len(self._kept),
        )
        start = len(self._kept) - behind
        return list(itertools.islice(self._kept, start, start + _BATCH))

    def _news_of(self, key: str) -> _News:
        """Return what is set when something happens; take it before looking at what did."""
        news = self._news.get(key)
        if news is None:
            news = self._news[key] = _News()
        return news

    async def _heard(self, news: _News) -> bool:
        try:
            async with asyncio.timeout(self._keep_alive):
                await news.wait()
        except TimeoutError:
            return False
        return True

    def _announce(self, key: str) -> None:
        news = self._news.pop(key, None)
        if news is not None:
            news.set()

    def _announce_all(self) -> None:
        for key in list(self._news):
            self._announce(key)

    def _on_told(self) -> None:
        self._scheduled = False  # first: what is told from here on schedules again
        self._wake.set()

    # The tail: reads what is new, once for all.

    async def _follow(self) -> None:
        self._told.clear()
        self._wake.clear()
        awaited: dict[str, int] = {}
        tries = 0
        away = False
        while True:
            try:
                if self._floor is None:
                    self._position = self._floor = await self.last_position()
                    self._announce_all()  # what was written before that has woken nobody
                while self._take(await self.page(self._position, _BATCH)):
                    pass
                away = False
            except Unavailable:
                if not away:
                    _log.warning("feed.unreadable")
                away = True
            while self._told:
                call_id, seq = self._told.popleft()
                awaited[call_id] = max(seq, awaited.get(call_id, 0))
                tries = 0
            awaited = {c: seq for c, seq in awaited.items() if self._heads.get(c, 0) < seq}
            # The journal may be a moment behind what is told (or refuse it: then it never comes).
            patience = _AGAIN[tries] if awaited and tries < len(_AGAIN) else _POLL
            if patience == _POLL:
                awaited.clear()
            tries += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._wake.wait()
            self._wake.clear()

    def _take(self, batch: Sequence[Logged]) -> bool:
        """Keep what was read, tell its readers; whether there may be more."""
        for one in batch:
            self._kept.append(one)
            self._heads[one.call_id] = one.seq
            self._heads.move_to_end(one.call_id)
            self._position = one.position
        while len(self._kept) > _KEPT:
            self._floor = self._kept.popleft().position
        while len(self._heads) > _KEPT:
            self._heads.popitem(last=False)
        if batch:
            self._announce(_ALL)
            for call_id in {one.call_id for one in batch}:
                self._announce(call_id)
        return len(batch) == _BATCH


def _logged(rows: Sequence[tuple[int, str, int, str]]) -> list[Logged]:
    return [Logged(*row) for row in rows]

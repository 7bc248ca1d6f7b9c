"""The projection: the journal, followed into the store on a thread of its own.

It reads what is new by position and writes it with the position in one transaction, so
that nothing is lost and nothing counts twice, whenever either side stops. A store that is
away is tried again and again, later and later; what it will never take is left out, alone,
and said. Calls never wait for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import Connection, select, text, update

from bridge.errors import BridgeError
from bridge.journal.entries import JournalError, Marks, News
from bridge.journal.journal import Journal
from bridge.journal.reader import JournalReader
from bridge.store.deliveries import Deliveries, SessionDeliveries
from bridge.store.errors import StoreAway, StoreError
from bridge.store.store import LEASE, Store
from bridge.store.tables import calls, cursors
from bridge.store.writing import Writer

_log = structlog.get_logger(__name__)

INTERVAL: Final = 0.05  # seconds between looks at the journal that nobody waits for
_BATCH: Final = 200  # of each kind in one transaction
_BREATH: Final = 0.002  # seconds between two transactions: others need the GIL
_BACKOFF: Final = (0.25, 0.5, 1.0, 2.0, 5.0)  # seconds until an answer is tried for again
_CHORES: Final = LEASE / 6  # seconds between what is done now and then
_RETENTION: Final = 3600.0
_DAY: Final = 86400.0
_EVENTS_LOCK: Final = 0x6576656E7473  # "events": positions are given in the order of commits
_TOLD: Final = 10  # refused records named in one batch


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionMetrics:
    """How the projection is. ``lag`` in records, events and facts; ``refused`` ever."""

    lag: int
    refused: int
    last_error: str | None


_Waiter = tuple["asyncio.Future[bool]", asyncio.AbstractEventLoop]


class Projection:
    """Follows *journal* into *store*. ``retention_days`` 0: for ever.

    *wrote* is called after each transaction, *erased* with each call that was erased at another
    instance, both on this thread.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        *,
        deliveries: Deliveries | None = None,
        session_deliveries: SessionDeliveries | None = None,
        wrote: Callable[[], None] = lambda: None,
        erased: Callable[[str], None] = lambda _: None,
        retention_days: float = 0,
        wall: Callable[[], float] = time.time,
        interval: float = INTERVAL,
    ) -> None:
        self._journal = journal
        self._store = store
        self._retention_days = retention_days
        self._wall = wall
        self._interval = interval
        self._wrote = wrote
        self._erased = erased
        self._writer = Writer(
            journal=journal.id,
            mask_numbers=store.mask_numbers,
            deliveries=deliveries,
            session_deliveries=session_deliveries,
        )
        self._marks: Marks | None = None
        self._done = -1  # journal.written, when all of that was in the store
        self._last_error: str | None = None
        self._failures = 0
        self._away_since = 0.0
        self._refused = 0
        self._clock = time.monotonic  # a wall clock that is set back renews no lease
        self._chores_at = 0.0
        self._retention_at = 0.0
        self._erased_mark = 0.0
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._thread = threading.Thread(target=self._run, name="projection", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Write what there is, if the store answers, and stop. Waits; not on the loop.

        False: the store did not answer in *timeout* seconds, or at all.
        """
        self._stopping = True
        self._wake.set()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive() and self._last_error is None

    async def caught_up(self, timeout: float = 0.25) -> bool:
        """Wait until the store has what the journal had when asked; False when it has not.

        On any loop. At once False while the store is away.
        """
        if self._journal.written == self._done:
            return True
        if self._last_error is not None or self._stopping or self._thread is None:
            return False
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()
        with self._lock:
            self._waiters.append((done, loop))
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                return await done
        except TimeoutError:
            return False

    @property
    def metrics(self) -> ProjectionMetrics:
        """How far behind it is and why. From any thread."""
        lag = 0
        error = self._last_error
        if self._journal.written != self._done:
            try:
                heads, marks = self._journal.heads(), self._marks or Marks()
            except BridgeError as failure:
                error = str(failure)
            else:
                lag = (
                    max(0, heads.changed - marks.changed)
                    + max(0, heads.event - marks.event)
                    + max(0, heads.fact - marks.fact)
                )
        return ProjectionMetrics(lag=lag, refused=self._refused, last_error=error)

    @property
    def well(self) -> bool:
        """Whether the store took what it was given last."""
        return self._last_error is None and self._store.ready

    # On the projection's thread.

    def _run(self) -> None:
        reader: JournalReader | None = None
        while True:
            last = self._stopping
            pause = self._interval
            try:
                if reader is None:
                    reader = self._journal.reader()
                self._follow(reader)
                self._chores(reader)
            except Exception as failure:  # whatever it is, it is tried again
                pause = self._failed(failure)
            else:
                self._succeeded()
            if last:
                break
            self._wake.wait(pause)
            self._wake.clear()
        if reader is not None:
            if self._last_error is None:
                with suppress(StoreError):
                    self._store.give_up()
            reader.close()
        self._settle(self._taken(), in_store=False)

    def _follow(self, reader: JournalReader) -> None:
        """Write until there is nothing new."""
        self._store.prepare()
        if not self._chores_at:
            self._renew()  # before others see calls of an instance that seems to be gone
        while True:
            waiters, written = self._taken(), self._journal.written
            if not waiters and written == self._done:
                return
            try:
                complete = self._step(reader)
            except BaseException:
                self._settle(waiters, in_store=False)
                raise
            if complete:
                self._done = written
                self._succeeded()  # before anybody is let through who asks whether it is well
                self._settle(waiters, in_store=True)
                return
            with self._lock:
                self._waiters.extend(waiters)
            time.sleep(_BREATH)
            if self._clock() >= self._chores_at:
                self._renew()

    def _step(self, reader: JournalReader) -> bool:
        """Write the next batch; whether that was all."""
        if self._marks is None:
            self._marks = self._begin()
        news = reader.news(self._marks, limit=_BATCH)
        if len(news):
            try:
                try:
                    self._write(news, one_by_one=False)
                except StoreAway:
                    raise
                except Exception:  # something among them: find it, and leave it out
                    self._write(news, one_by_one=True)
            except BaseException:
                self._marks = None  # nobody knows whether it was committed
                raise
            self._marks = news.marks
            self._store.changes += 1
            self._wrote()
        return news.complete

    def _begin(self) -> Marks:
        """Return where the store stands; at the beginning for a journal that was put back."""
        heads = self._journal.heads()
        question = select(cursors.c.changed, cursors.c.event, cursors.c.fact).where(
            cursors.c.instance == self._store.instance, cursors.c.journal == self._journal.id
        )
        with self._store.reading() as connection:
            row = connection.execute(question).first()
        if row is None:
            return Marks()
        if row.changed > heads.changed or row.event > heads.event or row.fact > heads.fact:
            _log.warning("store.journal_went_back")
            with self._store.writing() as connection:  # its changes are counted anew
                connection.execute(
                    update(calls).where(calls.c.journal == self._journal.id).values(revision=0)
                )
            return Marks()
        return Marks(changed=row.changed, event=row.event, fact=row.fact)

    def _write(self, news: News, *, one_by_one: bool) -> None:
        refused: list[tuple[str, str, str]] = []
        with self._store.writing() as connection:
            if not self._store.database.is_sqlite:
                connection.execute(text("select pg_advisory_xact_lock(:k)"), {"k": _EVENTS_LOCK})
            parts: tuple[tuple[str, Callable[..., None], Sequence[Any]], ...] = (
                ("record", self._writer.records, news.records),
                ("event", self._writer.events, news.events),
                ("fact", self._writer.facts, news.facts),
                ("session", self._writer.sessions, news.records),
            )
            for kind, write, items in parts:
                if one_by_one:
                    refused += self._each(connection, kind, write, items)
                else:
                    write(connection, items)
            self._writer.cursor(connection, self._store.instance, news.marks)
        self._refused += len(refused)
        for kind, call_id, error in refused[:_TOLD]:
            _log.error("store.refused", kind=kind, call_id=call_id, error=error)
        if len(refused) > _TOLD:
            _log.error("store.refused_more", count=len(refused) - _TOLD)

    def _each(
        self,
        connection: Connection,
        kind: str,
        write: Callable[..., None],
        items: Sequence[Any],
    ) -> list[tuple[str, str, str]]:
        refused: list[tuple[str, str, str]] = []
        for item in items:
            try:
                with self._store.database.errors(), connection.begin_nested():
                    write(connection, [item])
            except StoreAway:
                raise
            except Exception as failure:  # whatever is wrong with it, the rest goes on
                refused.append((kind, item.call_id, type(failure).__name__))
        return refused

    # Now and then.

    def _chores(self, reader: JournalReader) -> None:
        if self._clock() >= self._chores_at:
            self._renew()  # first: whatever else fails, our calls are ours
            with self._journal_may_fail():
                self._forget(reader)
        if self._clock() >= self._retention_at:
            more = False
            with self._journal_may_fail():
                self._store.tidy(self._wall())
                more = bool(self._retention_days) and self._retain()
            self._retention_at = self._clock() + (0 if more else _RETENTION)

    @contextmanager
    def _journal_may_fail(self) -> Iterator[None]:
        """Go on when the journal does not delete something: the store is well."""
        try:
            yield
        except JournalError as failure:
            _log.warning("store.journal_refused", error=str(failure))

    def _forget(self, reader: JournalReader) -> None:
        """Delete in the journal what was erased in the store."""
        for call_id, erased_at in self._store.erased_since(self._erased_mark - LEASE):
            if reader.holds(call_id):
                self._journal.erase(call_id)
                self._erased(call_id)
            self._erased_mark = max(self._erased_mark, erased_at)

    def _renew(self) -> None:
        self._store.renew()
        self._chores_at = self._clock() + _CHORES

    def _retain(self) -> bool:
        """Delete some of what is too old; whether there may be more."""
        before = self._wall() - self._retention_days * _DAY
        here = self._journal.retain(before, seen=self._marks or Marks())
        there = self._store.retain(before)
        if here or there:
            _log.info("store.retention", journal=here, store=there)
        return bool(here or there)

    # What others hear.

    def _taken(self) -> list[_Waiter]:
        with self._lock:
            waiters, self._waiters = self._waiters, []
        return waiters

    def _settle(self, waiters: Sequence[_Waiter], *, in_store: bool) -> None:
        for done, loop in waiters:
            with suppress(RuntimeError):  # that loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_answer, done, in_store)

    def _failed(self, failure: Exception) -> float:
        """Note *failure*; return the seconds until the next attempt."""
        said = str(failure) if isinstance(failure, BridgeError) else type(failure).__name__
        if self._last_error is None:
            self._away_since = time.monotonic()
            _log.error("store.away", error=said)
        self._last_error = said
        self._settle(self._taken(), in_store=False)
        pause = _BACKOFF[min(self._failures, len(_BACKOFF) - 1)]
        self._failures += 1
        return pause

    def _succeeded(self) -> None:
        if self._last_error is not None:
            seconds = round(time.monotonic() - self._away_since, 1)
            _log.warning("store.back", away_seconds=seconds)
        self._last_error = None
        self._failures = 0


def _answer(done: asyncio.Future[bool], in_store: bool) -> None:  # noqa: FBT001
    if not done.done():
        done.set_result(in_store)

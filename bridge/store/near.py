"""The questions everybody asks, asked of a file on the thread that asks: no pool, no library.

A primary key of SQLite is read in ten microseconds; another thread and the library's way to it
cost a hundred times that. What may take longer (a long list, a deep page, a large count, a file
that somebody locks, a disk that is slow today) is refused with `NotNow`: ask the `Store` then,
in a thread.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pydantic_core import from_json
from sqlalchemy import Select
from sqlalchemy.dialects import sqlite

from bridge.store.errors import StoreAway
from bridge.store.fold import folded
from bridge.store.queries import CallFilter, page_of, total_of
from bridge.store.totals import Totals

_SLOW: Final = 0.1  # seconds; a file that takes longer is not read here for a while
_REST: Final = 1.0  # seconds
_PATIENCE: Final = 0.02  # seconds until a question is taken back
_STEPS: Final = 2000  # of SQLite's machine between two looks at the clock, about 0.1 ms
_DEEP: Final = 1000  # places from the beginning of a list
_MANY: Final = 200  # calls or events in one answer
_COUNTED: Final = 5000  # calls that are counted here
_CALL: Final = (
    "select c.record, r.body from calls c left join reports r on r.call_id = c.id where c.id = ?"
)
_REPORTS: Final = "select call_id, body from reports where call_id in ({})"
_EVENTS: Final = "select body from events where call_id = ? and seq > ? order by seq limit ?"

_Question = tuple[str, tuple[Any, ...]]


class NotNow(StoreAway):
    """Ask the store itself."""


class Near:
    """What of the store in the file *path* is read at once. One thread may ask at a time.

    *changes* is how often this process has written there. Everything raises `NotNow`.
    """

    def __init__(
        self,
        path: Path,
        totals: Totals,
        changes: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._totals = totals
        self._changes = changes
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._rest_until = 0.0
        self._until = 0.0  # of the question that runs
        self._closed = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Answer nothing more. From any thread."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()

    def call(self, call_id: str) -> dict[str, Any] | None:
        """Return a call's resource, or None."""
        with self._asking() as connection:
            row = connection.execute(_CALL, (call_id,)).fetchone()
        return None if row is None else _resource(*row)

    def events(self, call_id: str, *, after: int = 0) -> list[dict[str, Any]]:
        """Return a call's events with a seq above *after*, in order."""
        with self._asking() as connection:
            rows = connection.execute(_EVENTS, (call_id, after, _MANY + 1)).fetchall()
        _check_few(rows)
        return [_parsed(body) for (body,) in rows]

    def calls(
        self, wanted: CallFilter, *, limit: int, offset: int = 0
    ) -> tuple[list[dict[str, Any]], int]:
        """Return a page of resources, and how many there are in all."""
        if offset + limit > _DEEP and offset:
            raise NotNow("a deep page")
        wanted = replace(wanted, statuses=tuple(wanted.statuses))
        with self._asking() as connection, _one_moment(connection):
            question = _page(wanted, min(limit, _MANY + 1), offset)
            rows = connection.execute(*question).fetchall()
            _check_few(rows)
            reports = _reports(connection, [row[0] for row in rows])
            short = len(rows) < limit and (rows or not offset)
            total = offset + len(rows) if short else self._total(connection, wanted)
        return [_resource(record, reports.get(call_id)) for call_id, record, *_ in rows], total

    def _total(self, connection: sqlite3.Connection, wanted: CallFilter) -> int:
        changes = self._changes()
        known = self._totals.known(wanted, changes)
        if known is not None:
            return known
        last = self._totals.last(wanted)
        if last is None or last > _COUNTED:
            raise NotNow("many to count")
        total: int = connection.execute(*_count(wanted)).fetchone()[0]
        self._totals.note(wanted, total, changes)
        return total

    @contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        """Give the connection; whoever makes it slow is not let in again for a while."""
        began = self._clock()
        if began < self._rest_until or not self._lock.acquire(blocking=False):
            raise NotNow("the store is slow or busy")
        self._until = began + _PATIENCE
        try:
            yield self._opened()
        except sqlite3.Error as failure:
            raise NotNow(type(failure).__name__) from failure
        finally:
            self._lock.release()
            now = self._clock()
            if now - began > _SLOW:
                self._rest_until = now + _REST

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise NotNow("the store is closed")
        if self._connection is None:
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",  # never made here
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=0,
                cached_statements=256,
            )
            connection.execute("pragma query_only = on")
            # An index may lead along every call there is: that is a thread's work.
            connection.set_progress_handler(self._is_late, _STEPS)
            self._connection = connection
        return self._connection

    def _is_late(self) -> bool:
        return self._clock() > self._until


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Have all that is read belong together."""
    connection.execute("begin")
    try:
        yield
    finally:
        connection.execute("rollback")


def _check_few(rows: Sequence[Any]) -> None:
    if len(rows) > _MANY:
        raise NotNow("a long list")


def _reports(connection: sqlite3.Connection, call_ids: Sequence[str]) -> dict[str, str]:
    if not call_ids:
        return {}
    statement = _REPORTS.format(",".join("?" * len(call_ids)))
    return dict(connection.execute(statement, call_ids).fetchall())


def _resource(record: str, report: str | None) -> dict[str, Any]:
    return folded(_parsed(record), _parsed(report) if report else None)


def _parsed(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = from_json(text)
    except ValueError as failure:  # not what we write; the other parser knows better
        raise NotNow("no JSON") from failure
    return found


@lru_cache(maxsize=256)
def _page(wanted: CallFilter, limit: int, offset: int) -> _Question:
    return _said(page_of(wanted, limit=limit, offset=offset))


@lru_cache(maxsize=256)
def _count(wanted: CallFilter) -> _Question:
    return _said(total_of(wanted))


def _said(question: Select[Any]) -> _Question:
    """Return a question as text, and its values."""
    said = question.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return said.string, tuple(said.params[name] for name in said.positiontup or ())


_DIALECT: Final = sqlite.dialect(paramstyle="qmark")

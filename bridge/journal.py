"""The journal: what happened to every call of this instance, on disk before anyone is told.

A local SQLite file with one writer thread. `Journal.append` hands records over and
returns a future that is done when they are durable; whatever waits at that moment is
committed together (group commit). Reads go through a connection of their own and may
come from any thread.

One of the three places where a thread meets the loop (design, Processes).
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from bridge.call.idempotency import LIFETIME, Claim
from bridge.errors import BridgeError

_log = structlog.get_logger(__name__)

_SCHEMA: Final = """
create table if not exists calls (
    call_id text primary key,
    instance text not null,
    created_at real not null,
    ended integer not null default 0,
    record text not null,
    snapshot text
);
create index if not exists calls_open on calls (instance) where not ended;
create table if not exists events (
    position integer primary key autoincrement,
    call_id text not null,
    seq integer not null,
    body text not null,
    unique (call_id, seq)
);
create table if not exists claims (
    key_digest text primary key,
    body_digest text not null,
    at real not null,
    answer text not null
);
create index if not exists claims_at on claims (at);
create view if not exists entries as
    select call_id, instance, created_at, ended, record, snapshot, 0 as seq, '' as event from calls;
create trigger if not exists entry_written instead of insert on entries begin
    insert into events (call_id, seq, body)
        select new.call_id, new.seq, new.event where new.event is not null
        on conflict do nothing;
    insert into calls (call_id, instance, created_at, ended, record, snapshot)
        values (new.call_id, new.instance, new.created_at, new.ended, new.record, new.snapshot)
        on conflict (call_id) do update set
        ended = excluded.ended, record = excluded.record, snapshot = excluded.snapshot;
end;
"""
_COUNT: Final = {
    True: "select count(*) from calls",
    False: "select count(*) from calls where json_extract(record, '$.status') = :status",
}
_NEWEST: Final = {
    True: "select record from calls order by rowid desc limit :limit offset :offset",
    False: "select record from calls where json_extract(record, '$.status') = :status "
    "order by rowid desc limit :limit offset :offset",
}
_BATCH: Final = 512
_RETRY: Final = 1.0  # seconds between attempts to write again after a failure

_SLOW: Final = 0.05  # seconds; a disk that takes longer for what it need not keep is busy
_AVOID: Final = 10.0  # seconds without a write on the loop's thread after a slow one
_RUN: Final = 200  # writes in a row without the writer's thread, which also tidies the file


LoggedEvent = tuple[int, str, int, str]
"""An event as it is written: position, call, seq, the JSON object as text."""


class JournalError(BridgeError):
    """The journal could not be opened, read or written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change of one call, written as a whole.

    ``event`` is the published event's JSON object (contract 4), None when only the
    record changed; ``record`` the call's resource after it; ``snapshot`` what a
    restart needs (design, seam 6); ``claim`` the Idempotency-Key the call was made by.
    What is not ``lasting`` survives a crash of the process at once, like everything, but a
    power cut only once something lasting was written after it: it waits for no disk.
    """

    call_id: str
    created_at: float
    event: dict[str, Any] | None
    record: dict[str, Any]
    ended: bool = False
    snapshot: dict[str, Any] | None = None
    claim: Claim | None = None
    lasting: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """A call without an end in the journal, as found at a start."""

    call_id: str
    created_at: float
    record: dict[str, Any]
    snapshot: dict[str, Any] | None
    last_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """An entry as text."""

    call_id: str
    created_at: float
    seq: int | None
    event: str | None
    record: str
    ended: bool
    snapshot: str | None
    claim: Claim | None
    lasting: bool = True


_Job = tuple[Sequence[_Row], "asyncio.Future[None]", asyncio.AbstractEventLoop]


class Journal:
    """The journal of one instance. Raises `JournalError` when it cannot be opened.

    One entry that is not lasting is written at once, on the loop's thread, when nothing else
    waits: it goes into the file's cache of the system, and no disk is waited for. Where that
    takes long all the same, or fails, the writer's thread does it.
    """

    def __init__(self, path: str | Path, *, instance: str) -> None:
        self.path = Path(path)
        self._instance = instance
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reading = threading.Lock()
        self._writable = True
        self._waiting = 0  # appends that the writer's thread has not answered
        self._run = 0  # writes on the loop's thread since the writer's last one
        self._avoid_until = 0.0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection:
                connection.executescript(_SCHEMA)
            self._reader = self._connect()
            self._direct = self._connect("normal", timeout=0)
            self._direct.execute("pragma wal_autocheckpoint = 0")  # that may wait for the disk
        except (sqlite3.Error, OSError) as failure:
            raise JournalError(f"{self.path}: {failure}") from failure
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._thread.start()

    def _connect(self, synchronous: str = "full", *, timeout: float = 5) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=timeout
        )
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {synchronous}")
        return connection

    @property
    def writable(self) -> bool:
        """Whether the last write worked; new calls are refused while it is not."""
        return self._writable

    @property
    def waiting(self) -> int:
        """Writes that the writer has not taken yet."""
        return self._jobs.qsize()

    def append(self, entries: Sequence[Entry]) -> asyncio.Future[None]:
        """Write *entries* in order; the future is done when they are durable.

        Call it on the loop's thread. The future raises `JournalError` when the disk refuses
        or an entry is no JSON; that costs no other entry.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        try:
            rows = [_row(entry) for entry in entries]
        except (TypeError, ValueError, RecursionError) as failure:
            _log.error("journal.entry_refused", error=type(failure).__name__)
            done.set_exception(JournalError(f"no JSON: {failure}"))
        else:
            if self._write_now(rows):
                done.set_result(None)
            else:
                self._waiting += 1
                self._jobs.put((rows, done, loop))
        return done

    def _write_now(self, rows: Sequence[_Row]) -> bool:
        """Write *rows* on this thread, if that is all there is to write and costs no disk."""
        if len(rows) != 1 or rows[0].lasting or rows[0].claim is not None:
            return False
        began = time.monotonic()
        busy = self._waiting or not self._writable or self._run >= _RUN
        if busy or began < self._avoid_until:
            self._run = 0
            return False
        try:
            self._insert(self._direct, rows[0])
        except sqlite3.Error as failure:  # the writer finds out what it is
            _log.debug("journal.not_at_once", error=type(failure).__name__)
            return False
        self._run += 1
        if time.monotonic() - began > _SLOW:
            self._avoid_until = began + _AVOID
        return True

    def close(self) -> None:
        """Write what waits, then stop."""
        self._jobs.put(None)
        self._thread.join(timeout=10)
        self._direct.close()
        with self._reading:
            self._reader.close()

    # Reading, from any thread.

    def record(self, call_id: str) -> dict[str, Any] | None:
        """Return the resource of a call, or None."""
        rows = self._read("select record from calls where call_id = ?", (call_id,))
        return json.loads(rows[0][0]) if rows else None

    def events(self, call_id: str, *, after: int = 0) -> list[dict[str, Any]]:
        """Return the events of a call with a seq above *after*, in order."""
        rows = self._read(
            "select body from events where call_id = ? and seq > ? order by seq", (call_id, after)
        )
        return [json.loads(row[0]) for row in rows]

    def events_since(self, position: int, *, limit: int) -> list[LoggedEvent]:
        """Return at most *limit* events of all calls after *position*, in the order written."""
        return self._read(
            "select position, call_id, seq, body from events where position > ? "
            "order by position limit ?",
            (position, limit),
        )

    def events_of(self, call_id: str, *, after: int, limit: int) -> list[LoggedEvent]:
        """Return at most *limit* events of a call with a seq above *after*, in order."""
        return self._read(
            "select position, call_id, seq, body from events where call_id = ? and seq > ? "
            "order by seq limit ?",
            (call_id, after, limit),
        )

    def last_position(self) -> int:
        """Return the position of the event written last; 0 when there is none."""
        rows = self._read("select coalesce(max(position), 0) from events", ())
        return int(rows[0][0])

    def calls(
        self, *, status: str | None = None, limit: int, offset: int
    ) -> tuple[list[dict[str, Any]], int]:
        """Return resources, newest first, and how many there are with that status.

        Reads on a connection of its own: it may look at every record.
        """
        values = {"status": status, "limit": limit, "offset": offset}
        try:
            with closing(self._connect("normal")) as connection:
                total = connection.execute(_COUNT[status is None], values).fetchone()[0]
                rows = connection.execute(_NEWEST[status is None], values).fetchall()
        except sqlite3.Error as failure:
            raise JournalError(f"{self.path}: {failure}") from failure
        return [json.loads(row[0]) for row in rows], int(total)

    def claim(self, key_digest: str, *, since: float) -> Claim | None:
        """Return the claim made at *since* or later, or None."""
        rows = self._read(
            "select body_digest, at, answer from claims where key_digest = ? and at >= ?",
            (key_digest, since),
        )
        if not rows:
            return None
        body_digest, at, answer = rows[0]
        return Claim(
            key_digest=key_digest, body_digest=body_digest, at=at, answer=json.loads(answer)
        )

    def open_calls(self) -> list[OpenCall]:
        """Return this instance's calls without an end, oldest first."""
        rows = self._read(
            "select c.call_id, c.created_at, c.record, c.snapshot, coalesce(max(e.seq), 0) "
            "from calls c left join events e on e.call_id = c.call_id "
            "where c.instance = ? and not c.ended "
            "group by c.call_id order by c.created_at",
            (self._instance,),
        )
        return [
            OpenCall(
                call_id=call_id,
                created_at=created_at,
                record=json.loads(record),
                snapshot=json.loads(snapshot) if snapshot else None,
                last_seq=last_seq,
            )
            for call_id, created_at, record, snapshot, last_seq in rows
        ]

    def _read(self, statement: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
        try:
            with self._reading:
                return self._reader.execute(statement, tuple(values)).fetchall()
        except sqlite3.Error as failure:
            raise JournalError(f"{self.path}: {failure}") from failure

    # Writing, on the writer's thread.

    def _write_all(self) -> None:
        connection, quick = self._connect(), self._connect("normal")
        stopping = False
        while not stopping:
            jobs: list[_Job] = []
            try:
                job = self._jobs.get(timeout=None if self._writable else _RETRY)
            except queue.Empty:
                self._commit(connection, quick, [])  # nobody writes while it fails: try again
                continue
            while True:
                if job is None:
                    stopping = True
                    break
                jobs.append(job)
                if len(jobs) >= _BATCH or self._jobs.empty():
                    break
                job = self._jobs.get()
            if jobs:
                self._settle(jobs, self._commit(connection, quick, jobs))
        connection.close()
        quick.close()

    def _commit(
        self, connection: sqlite3.Connection, quick: sqlite3.Connection, jobs: Sequence[_Job]
    ) -> JournalError | None:
        try:
            alone = _alone(jobs)
            if alone is not None and self._writable:
                # One statement is a transaction by itself.
                self._insert(connection if alone.lasting else quick, alone)
                return None
            connection.execute("begin immediate")
            for rows, _, _ in jobs:
                for row in rows:
                    self._insert(connection, row)
            if not self._writable:
                self._touch(connection)
            connection.execute("commit")
        except Exception as failure:  # whatever it is, the writer goes on
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("rollback")
            if self._writable or jobs:
                _log.error("journal.write_failed", error=type(failure).__name__, entries=len(jobs))
            self._writable = False
            return JournalError(f"{self.path}: {failure}")
        self._writable = True
        return None

    def _touch(self, connection: sqlite3.Connection) -> None:
        """Write to both tables and change nothing: whether the disk takes it again."""
        connection.execute("savepoint touch")
        row = _Row(
            call_id="", created_at=0.0, seq=0, event="{}", record="{}",
            ended=True, snapshot=None, claim=None,
        )  # fmt: skip
        self._insert(connection, row)
        connection.execute("rollback to touch")

    def _insert(self, connection: sqlite3.Connection, row: _Row) -> None:
        # One statement: the writer's thread needs the GIL before and after each.
        connection.execute(
            "insert into entries (call_id, instance, created_at, ended, record, snapshot, seq, "
            "event) values (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.call_id,
                self._instance,
                row.created_at,
                int(row.ended),
                row.record,
                row.snapshot,
                row.seq,
                row.event,
            ),
        )
        if row.claim is not None:
            claim = row.claim
            connection.execute("delete from claims where at < ?", (claim.at - LIFETIME,))
            connection.execute(
                "insert or replace into claims (key_digest, body_digest, at, answer) "
                "values (?, ?, ?, ?)",
                (claim.key_digest, claim.body_digest, claim.at, _dump(claim.answer)),
            )

    def _settle(self, jobs: Sequence[_Job], failure: JournalError | None) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for _, done, loop in jobs:
            by_loop.setdefault(loop, []).append(done)
        for loop, futures in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._finish, futures, failure)
            except RuntimeError:  # the loop is closed: nobody waits any more
                _log.debug("journal.nobody_waits", entries=len(futures))

    def _finish(
        self, futures: Sequence[asyncio.Future[None]], failure: JournalError | None
    ) -> None:
        self._waiting -= len(futures)
        for future in futures:
            if future.done():
                continue
            if failure is None:
                future.set_result(None)
            else:
                future.set_exception(failure)


def _alone(jobs: Sequence[_Job]) -> _Row | None:
    """Return the only row of *jobs* when one statement writes it."""
    if len(jobs) != 1 or len(jobs[0][0]) != 1:
        return None
    row = jobs[0][0][0]
    return row if row.claim is None else None


def _row(entry: Entry) -> _Row:
    return _Row(
        call_id=entry.call_id,
        created_at=entry.created_at,
        seq=None if entry.event is None else entry.event["seq"],
        event=None if entry.event is None else _dump(entry.event),
        record=_dump(entry.record),
        ended=entry.ended,
        snapshot=None if entry.snapshot is None else _dump(entry.snapshot),
        claim=entry.claim,
        lasting=entry.lasting,
    )


_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def _dump(value: Any) -> str:
    text = _encode(value)
    text.encode()  # half a surrogate pair fails here, not in the middle of a transaction
    return text

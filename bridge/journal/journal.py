"""The journal's file and its writer.

A local SQLite file with one writer thread. `Journal.append` hands records over and
returns a future that is done when they are durable; whatever waits at that moment is
committed together (group commit). Reads go through a connection of their own and may
come from any thread.

Beside events and records the journal keeps *facts*: what else is to be kept of a call
(a line of its transcript, what an agent measured). The store is made out of all three, by
position (`Journal.reader`); what a call has shown last is in its record alone.

One of the three places where a thread meets the loop (design, Processes).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from bridge.call.idempotency import LIFETIME, Claim
from bridge.journal import forgetting, schema
from bridge.journal.entries import (
    Entry,
    JournalError,
    LoggedEvent,
    Marks,
    OpenCall,
    dump,
)
from bridge.journal.reader import HEADS, JournalReader
from bridge.privacy import masked_event, masked_record

_log = structlog.get_logger(__name__)

_COUNT: Final = {
    True: "select count(*) from calls",
    False: "select count(*) from calls where json_extract(record, '$.status') = :status",
}
_NEWEST: Final = {
    True: "select record from calls order by rowid desc limit :limit offset :offset",
    False: "select record from calls where json_extract(record, '$.status') = :status "
    "order by rowid desc limit :limit offset :offset",
}
_NOTE: Final = (
    "insert into facts (call_id, kind, body) select ?, ?, ? "
    "where ? = 'recording' or not exists (select 1 from calls where call_id = ? and erased)"
)
"""Nothing more comes of an erased call; but a file that did is to be known, to be deleted."""
_BATCH: Final = 512
_RETRY: Final = 1.0  # seconds between attempts to write again after a failure
_OWED: Final = 10_000
"""Events that the disk refused and that are written when it takes writes again: their calls went
on, and the room has heard of them."""
_PATIENCE: Final = 30.0  # seconds a thread waits for the writer

_SLOW: Final = 0.05  # seconds; a disk that takes longer for what it need not keep is busy
_AVOID: Final = 10.0  # seconds without a write on the loop's thread after a slow one
_RUN: Final = 200  # writes in a row without the writer's thread, which also tidies the file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """An entry as text."""

    call_id: str
    created_at: float
    seq: int | None
    event: str | None
    record: str
    private: str | None
    ended: bool
    snapshot: str | None
    claim: Claim | None
    lasting: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fact:
    """A fact as text."""

    call_id: str
    kind: str
    body: str
    lasting: bool
    claim: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chore:
    """Work on the tables that answers to a thread; *lasting*: once the disk has it."""

    run: Callable[[sqlite3.Connection], int]
    done: concurrent.futures.Future[int]
    lasting: bool


_Job = tuple[Sequence[_Row | _Fact], "asyncio.Future[None]", asyncio.AbstractEventLoop]


class Journal:
    """The journal of one instance. Raises `JournalError` when it cannot be opened.

    One entry that is not lasting is written at once, on the loop's thread, when nothing else
    waits: it goes into the file's cache of the system, and no disk is waited for. Where that
    takes long all the same, or fails, the writer's thread does it.
    """

    def __init__(self, path: str | Path, *, instance: str, mask_numbers: bool = False) -> None:
        self.path = Path(path)
        self._instance = instance
        self._mask_numbers = mask_numbers
        self._jobs: queue.SimpleQueue[_Job | _Chore | None] = queue.SimpleQueue()
        self._reading = threading.Lock()
        self._writable = True
        self._waiting = 0  # appends that the writer's thread has not answered
        self._run = 0  # writes on the loop's thread since the writer's last one
        self._written = [0, 0]  # transactions: the loop's thread's, the writer's
        self._avoid_until = 0.0
        self._owed: deque[_Row] = deque(maxlen=_OWED)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection:
                self.id = schema.prepare(connection)
            self._reader = self._connect()
            self._direct = self._connect("normal", timeout=0)
            self._direct.execute("pragma wal_autocheckpoint = 0")  # that may wait for the disk
        except (sqlite3.Error, OSError, ValueError) as failure:
            raise JournalError(f"{self.path}: {failure}") from failure
        self._thread = threading.Thread(target=self._write_all, name="journal", daemon=True)
        self._thread.start()

    def _connect(self, synchronous: str = "full", *, timeout: float = 5) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=timeout
        )
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {synchronous}")
        connection.execute("pragma secure_delete = on")  # what is erased is overwritten
        return connection

    @property
    def writable(self) -> bool:
        """Whether the last write worked; new calls are refused while it is not."""
        return self._writable

    @property
    def waiting(self) -> int:
        """Writes that the writer has not taken yet."""
        return self._jobs.qsize()

    @property
    def written(self) -> int:
        """How many transactions there were: when it stands still, there is nothing new."""
        return sum(self._written)

    def append(self, entries: Sequence[Entry]) -> asyncio.Future[None]:
        """Write *entries* in order; the future is done when they are durable.

        Call it on the loop's thread. The future raises `JournalError` when the disk refuses
        or an entry is no JSON; that costs no other entry.
        """
        return self._put(lambda: [self._row(entry) for entry in entries])

    def note(
        self, call_id: str, kind: str, body: Mapping[str, Any], *, lasting: bool = True
    ) -> asyncio.Future[None]:
        """Write a fact of a call; as `append`."""
        return self._put(
            lambda: [_Fact(call_id=call_id, kind=kind, body=dump(body), lasting=lasting)]
        )

    def _put(self, rows_of: Callable[[], Sequence[_Row | _Fact]]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        try:
            rows = rows_of()
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

    def _write_now(self, rows: Sequence[_Row | _Fact]) -> bool:
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
        self._written[0] += 1
        if time.monotonic() - began > _SLOW:
            self._avoid_until = began + _AVOID
        return True

    # From any thread, and it waits.

    def erase(self, call_id: str) -> bool:
        """Forget what was said and who called in a call that has ended; whether there is one.

        Its record keeps its id, its times and its outcome; the store hears of it. Raises
        `JournalError`.
        """
        return bool(
            self._do(lambda connection: forgetting.erase(connection, call_id), lasting=True)
        )

    def retain(self, before: float, *, seen: Marks | None = None, limit: int = 100) -> int:
        """Delete at most *limit* calls that were made before *before* and have ended.

        Those with facts after *seen* are left for later. Returns how many there were. Raises
        `JournalError`.
        """
        fact = None if seen is None else seen.fact
        return self._do(
            lambda connection: forgetting.retain(connection, before, limit, fact), lasting=False
        )

    def disown(self, call_id: str) -> None:
        """Forget that a call is open: another instance has it now. Raises `JournalError`.

        Its record stands as it is and moves nothing: the store has the other's.
        """
        self._do(lambda connection: forgetting.disown(connection, call_id), lasting=True)

    def _do(self, run: Callable[[sqlite3.Connection], int], *, lasting: bool) -> int:
        chore = _Chore(run=run, done=concurrent.futures.Future(), lasting=lasting)
        self._jobs.put(chore)
        try:
            return chore.done.result(_PATIENCE)
        except TimeoutError as failure:
            raise JournalError(f"{self.path}: the writer does not answer") from failure

    def reader(self) -> JournalReader:
        """Return a reader with a connection of its own. Raises `JournalError`."""
        try:
            return JournalReader(self._connect("normal"), self.path)
        except sqlite3.Error as failure:
            raise JournalError(f"{self.path}: {failure}") from failure

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
        """Return the position of the event written last, deleted or not; 0 for none."""
        rows = self._read("select seq from sqlite_sequence where name = 'events'", ())
        return int(rows[0][0]) if rows else 0

    def heads(self) -> Marks:
        """Return what a reader that has seen everything has seen."""
        changed, event, fact = self._read(HEADS, ())[0]
        return Marks(changed=int(changed), event=int(event), fact=int(fact))

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
            "select c.call_id, c.created_at, c.record, c.private, c.snapshot, "
            "coalesce(max(e.seq), 0) "
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
                private=json.loads(private) if private else {},
                snapshot=json.loads(snapshot) if snapshot else None,
                last_seq=last_seq,
            )
            for call_id, created_at, record, private, snapshot, last_seq in rows
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
            chore: _Chore | None = None
            while True:
                if job is None:
                    stopping = True
                    break
                if isinstance(job, _Chore):
                    chore = job
                    break
                jobs.append(job)
                if len(jobs) >= _BATCH or self._jobs.empty():
                    break
                job = self._jobs.get()
            if jobs:
                self._settle(jobs, self._commit(connection, quick, jobs))
            if chore is not None:
                self._carry_out(chore, connection if chore.lasting else quick)
        connection.close()
        quick.close()

    def _carry_out(self, chore: _Chore, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("begin immediate")
            done = chore.run(connection)
            connection.execute("commit")
            if chore.lasting:  # what was erased is also in the file's log
                connection.execute("pragma wal_checkpoint(truncate)")
        except Exception as failure:  # whatever it is, the writer goes on
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("rollback")
            chore.done.set_exception(JournalError(f"{self.path}: {failure}"))
        else:
            self._written[1] += 1
            chore.done.set_result(done)

    def _commit(
        self, connection: sqlite3.Connection, quick: sqlite3.Connection, jobs: Sequence[_Job]
    ) -> JournalError | None:
        try:
            alone = _alone(jobs)
            if alone is not None and self._writable:
                # One statement is a transaction by itself.
                self._insert(connection if alone.lasting else quick, alone)
                self._written[1] += 1
                return None
            connection.execute("begin immediate")
            for owed in self._owed:
                self._insert(connection, owed)
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
            if isinstance(failure, sqlite3.OperationalError):  # the disk's fault, not the rows'
                self._owed.extend(_told(jobs))
            return JournalError(f"{self.path}: {failure}")
        self._owed.clear()
        self._writable = True
        self._written[1] += 1
        return None

    def _touch(self, connection: sqlite3.Connection) -> None:
        """Write to both tables and change nothing: whether the disk takes it again."""
        connection.execute("savepoint touch")
        row = _Row(
            call_id="", created_at=0.0, seq=0, event="{}", record="{}", private=None,
            ended=True, snapshot=None, claim=None,
        )  # fmt: skip
        self._insert(connection, row)
        connection.execute("rollback to touch")

    def _insert(self, connection: sqlite3.Connection, row: _Row | _Fact) -> None:
        # One statement: the writer's thread needs the GIL before and after each.
        if isinstance(row, _Fact):
            connection.execute(_NOTE, (row.call_id, row.kind, row.body, row.kind, row.call_id))
            return
        connection.execute(
            "insert into entries (call_id, instance, created_at, ended, record, snapshot, "
            "private, seq, event) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.call_id,
                self._instance,
                row.created_at,
                int(row.ended),
                row.record,
                row.snapshot,
                row.private,
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
                (claim.key_digest, claim.body_digest, claim.at, dump(claim.answer)),
            )
            key = dump(claim.key_digest)
            connection.execute(_NOTE, (row.call_id, "claim", key, "claim", row.call_id))

    def _row(self, entry: Entry) -> _Row:
        event, record = entry.event, entry.record
        if self._mask_numbers:
            event = None if event is None else masked_event(event)
            record = masked_record(record) if entry.ended else record
        keep = entry.snapshot is not None and not entry.ended
        return _Row(
            call_id=entry.call_id,
            created_at=entry.created_at,
            seq=None if event is None else event["seq"],
            event=None if event is None else dump(event),
            record=dump(record),
            private=dump(entry.private) if entry.private else None,
            ended=entry.ended,
            snapshot=dump(entry.snapshot) if keep else None,
            claim=entry.claim,
            lasting=entry.lasting,
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


def _told(jobs: Sequence[_Job]) -> Iterator[_Row]:
    """Yield the rows that say what happened; one without an event was refused to who asked."""
    for rows, _, _ in jobs:
        for row in rows:
            if isinstance(row, _Row) and row.event is not None:
                yield row


def _alone(jobs: Sequence[_Job]) -> _Row | _Fact | None:
    """Return the only row of *jobs* when one statement writes it."""
    if len(jobs) != 1 or len(jobs[0][0]) != 1:
        return None
    row = jobs[0][0][0]
    return row if row.claim is None else None

"""The store as it is read: calls, events, transcripts, leases. From any thread; it blocks."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, delete, func, select, text, update

from bridge.call.idempotency import LIFETIME, Claim
from bridge.privacy import erased_event, erased_record
from bridge.store import tables
from bridge.store.database import Database
from bridge.store.errors import StoreAway, StoreUnreachable
from bridge.store.fold import folded
from bridge.store.migrate import migrate
from bridge.store.near import Near
from bridge.store.queries import CallFilter, key, page_of, total_of, turns_of
from bridge.store.tables import calls, events, instances, transcripts
from bridge.store.totals import Totals
from bridge.store.upsert import upsert
from bridge.transcript.segment import Segment

T = TypeVar("T")

LEASE: Final = 30.0
"""Seconds an instance counts as alive after it last said so."""
_REST: Final = 1.0  # seconds in which a database that did not answer is not asked
_CHUNK: Final = 500  # calls deleted in one transaction
_THREADS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCall:
    """A call as it stands in the store.

    ``record`` is the public resource, with what agents have reported; ``private`` what is
    kept with it and shown to nobody; ``instance`` who runs it, or did.
    """

    record: dict[str, Any]
    private: dict[str, Any]
    instance: str
    tenant_id: str | None
    erased: bool = False


StoredEvent = tuple[int, str, int, str]
"""An event: position in the store, call, seq, the JSON object as text."""


class Store:
    """One database, which several instances may share. Everything raises `StoreError`."""

    def __init__(self, url: str, *, instance: str, mask_numbers: bool = False) -> None:
        self.database = Database(url)
        self.instance = instance
        self.mask_numbers = mask_numbers
        self.changes = 0
        """Counts what this process has written: a total is as old as that."""
        self._ready = False
        self._migrating = threading.Lock()
        self._away = False
        self._away_until = 0.0
        self._asking = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
        self.grace = LEASE
        """Seconds its own lease must have held before it says that others' have not; 0: none."""
        self._steady_since: float | None = None  # by the database's clock, as the lease
        self._lease_until = 0.0
        self._totals = Totals()
        self.near: Near | None = None
        """What can be asked at once, without a thread, where the store is a file."""
        if self.database.is_file:
            path = Path(str(self.database.url.database))
            self.near = Near(path, self._totals, lambda: self.changes)

    @classmethod
    def open(cls, url: str, *, instance: str, mask_numbers: bool = False) -> Store:
        """Open the database, with its tables brought up to date.

        One that does not answer is waited for later: everything raises `StoreAway` until
        then. Raises `StoreError` when waiting will not help.
        """
        store = cls(url, instance=instance, mask_numbers=mask_numbers)
        try:
            store.prepare()
        except StoreAway:
            pass
        except BaseException:
            store.close()
            raise
        return store

    def prepare(self) -> None:
        """Bring the tables up to date, if that has not been done."""
        with self._migrating:
            if not self._ready:
                migrate(self.database)
                self._ready = True

    @property
    def ready(self) -> bool:
        """Whether the database has ever answered."""
        return self._ready

    @property
    def shared(self) -> bool:
        """Whether other instances may use it, too."""
        return not self.database.is_sqlite

    @property
    def engine(self) -> Engine:
        """The engine, for SQL of one's own; `reading` and `writing` know our errors."""
        return self.database.engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a transaction that changes nothing."""
        with self._answering(), self.database.reading() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a transaction that is committed at the end."""
        with self._answering(), self.database.writing() as connection:
            yield connection

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Fail at once while nobody answers: who asks has a thread that others need."""
        if self._away:
            self._ask_again()
        try:
            if not self._ready:
                if self._migrating.locked():
                    raise StoreUnreachable("the store does not answer yet")
                self.prepare()
            yield
        except StoreUnreachable:
            self._away_until = max(self._away_until, time.monotonic() + _REST)
            self._away = True
            raise

    def _ask_again(self) -> None:
        """Find out whether the database is back: now and then, and one thread for all."""
        if time.monotonic() < self._away_until or not self._asking.acquire(blocking=False):
            raise StoreUnreachable("the store does not answer")
        try:
            with self.database.reading() as connection:
                connection.execute(text("select 1"))
            self._away = False
        except StoreUnreachable:
            self._away_until = max(self._away_until, time.monotonic() + _REST)
            raise
        finally:
            self._asking.release()

    def close(self) -> None:
        """Close all connections; nothing is asked any more, and nobody waits for an answer."""
        self._away_until = math.inf
        self._away = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self.near is not None:
            self.near.close()
        self.database.close()

    async def ask(self, question: Callable[..., T], *given: Any, **named: Any) -> T:
        """Run *question* in a thread of the store's own: the loop's are not held by its silence."""
        loop = asyncio.get_running_loop()
        try:
            answer = loop.run_in_executor(self._threads, partial(question, *given, **named))
        except RuntimeError as failure:
            raise StoreUnreachable("the store is closed") from failure
        return await answer

    def alive(self) -> bool:
        """Whether the database answers."""
        try:
            with self.reading() as connection:
                connection.execute(text("select 1"))
        except StoreAway:
            return False
        return True

    # Calls.

    def call(self, call_id: str) -> StoredCall | None:
        """Return a call, or None."""
        return self._call(calls.c.id == call_id)

    def call_of_room(self, room: str, *, tenant: str | None = None) -> StoredCall | None:
        """Return the newest call of a room, or None; of *tenant* or of nobody, unless None."""
        which = calls.c.room_name == key(room)
        if tenant is not None:
            which &= calls.c.tenant_id.is_(None) | (calls.c.tenant_id == tenant)
        return self._call(which)

    def _call(self, which: Any) -> StoredCall | None:
        question = (
            select(calls, tables.reports.c.body)
            .outerjoin(tables.reports, tables.reports.c.call_id == calls.c.id)
            .where(which)
            .order_by(calls.c.created_at.desc())
            .limit(1)
        )
        with self.reading() as connection:
            row = connection.execute(question).first()
        return None if row is None else _stored(row)

    def calls(
        self, wanted: CallFilter, *, limit: int, offset: int = 0
    ) -> tuple[list[dict[str, Any]], int]:
        """Return a page of resources, and how many there are in all."""
        found, total = self.stored_calls(wanted, limit=limit, offset=offset)
        return [one.record for one in found], total

    def stored_calls(
        self, wanted: CallFilter, *, limit: int, offset: int = 0
    ) -> tuple[list[StoredCall], int]:
        """Return a page of calls with what is private of them, and how many there are."""
        with self.reading() as connection:
            rows = connection.execute(page_of(wanted, limit=limit, offset=offset)).all()
            ids = [row.id for row in rows]
            reports = self._reports(connection, ids)
            short = len(rows) < limit and (rows or not offset)
            total = offset + len(rows) if short else self._total(connection, wanted)
        return [_stored(row, reports.get(row.id)) for row in rows], total

    def _total(self, connection: Connection, wanted: CallFilter) -> int:
        changes = self.changes
        total = self._totals.known(wanted, changes)
        if total is None:
            total = int(connection.execute(total_of(wanted)).scalar_one())
            self._totals.note(wanted, total, changes)
        return total

    def reports(self, call_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what agents have reported, by call; see `bridge.store.fold.folded`."""
        with self.reading() as connection:
            return self._reports(connection, call_ids)

    def _reports(
        self, connection: Connection, call_ids: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        if not call_ids:
            return {}
        table = tables.reports
        rows = connection.execute(
            select(table.c.call_id, table.c.body).where(table.c.call_id.in_(call_ids))
        )
        return {row.call_id: json.loads(row.body) for row in rows}

    def tenants_elsewhere(self, room: str) -> list[str | None]:
        """Return the tenants of the calls without an end that other instances have in *room*."""
        if not self.shared:
            return []
        question = (
            select(calls.c.tenant_id)
            .where(
                calls.c.room_name == key(room),
                calls.c.ended_at.is_(None),
                calls.c.instance != self.instance,
            )
            .distinct()
        )
        with self.reading() as connection:
            return list(connection.execute(question).scalars())

    # What hangs on a call.

    def events(self, call_id: str, *, after: int = 0) -> list[dict[str, Any]]:
        """Return a call's events with a seq above *after*, in order."""
        question = (
            select(events.c.body)
            .where(events.c.call_id == call_id, events.c.seq > after)
            .order_by(events.c.seq)
        )
        with self.reading() as connection:
            return [json.loads(row.body) for row in connection.execute(question)]

    def events_since(self, position: int, *, limit: int) -> list[StoredEvent]:
        """Return events of all calls and instances after *position*, in the order stored."""
        columns = (events.c.position, events.c.call_id, events.c.seq, events.c.body)
        question = (
            select(*columns)
            .where(events.c.position > position)
            .order_by(events.c.position)
            .limit(limit)
        )
        with self.reading() as connection:
            return [tuple(row) for row in connection.execute(question)]

    def events_of(self, call_id: str, *, after: int, limit: int) -> list[StoredEvent]:
        """Return at most *limit* events of a call with a seq above *after*, in order."""
        columns = (events.c.position, events.c.call_id, events.c.seq, events.c.body)
        question = (
            select(*columns)
            .where(events.c.call_id == call_id, events.c.seq > after)
            .order_by(events.c.seq)
            .limit(limit)
        )
        with self.reading() as connection:
            return [tuple(row) for row in connection.execute(question)]

    def last_position(self) -> int:
        """Return the position of the event stored last; 0 for none."""
        with self.reading() as connection:
            return int(connection.execute(select(func.max(events.c.position))).scalar() or 0)

    def ladder(self, call_id: str) -> list[dict[str, Any]] | None:
        """Return the SIP messages of a call that has ended; None where none were kept."""
        question = select(tables.ladder.c.rungs).where(tables.ladder.c.call_id == call_id)
        with self.reading() as connection:
            rungs = connection.execute(question).scalar()
        return None if rungs is None else json.loads(rungs)

    def transcript(self, call_id: str) -> list[Segment]:
        """Return the lines of a call's transcript in order."""
        with self.reading() as connection:
            return transcript_of(connection, call_id)

    def transcript_size(self, call_id: str) -> tuple[int, int]:
        """Return how many lines a call's transcript has, and how many characters they are."""
        size = func.coalesce(func.sum(func.length(transcripts.c.content)), 0)
        question = select(func.count(), size).where(transcripts.c.call_id == call_id)
        with self.reading() as connection:
            lines, characters = connection.execute(question).one()
        return int(lines), int(characters)

    def turn_counts(self, call_ids: Sequence[str]) -> dict[str, int]:
        """Return how many turns each of *call_ids* has, as `bridge.transcript.shapes` sees them."""
        with self.reading() as connection:
            rows = connection.execute(turns_of(call_ids)).all()
        return dict.fromkeys(call_ids, 0) | {row.call_id: int(row.turns) for row in rows}

    def recording_path(self, call_id: str) -> str | None:
        """Return where a call's recording is kept, None for none (see `store.recordings`)."""
        table = tables.recordings
        question = select(table.c.path).where(
            table.c.call_id == call_id, table.c.gone == 0, table.c.name != ""
        )
        with self.reading() as connection:
            return connection.execute(question).scalar()

    def capture_is_off(self, call_id: str) -> bool:
        """Whether the capture of the room's own transcription was switched off."""
        table = tables.captures_off
        with self.reading() as connection:
            found = connection.execute(select(table.c.at).where(table.c.call_id == call_id))
            return found.first() is not None

    def claim(self, key_digest: str, *, since: float) -> Claim | None:
        """Return the claim made at *since* or later on any instance, or None."""
        table = tables.idempotency
        question = select(table.c.body_digest, table.c.at, table.c.answer).where(
            table.c.key_digest == key_digest, table.c.at >= since, table.c.answer != ""
        )
        with self.reading() as connection:
            row = connection.execute(question).first()
        if row is None:
            return None
        answer = json.loads(row.answer)
        return Claim(key_digest=key_digest, body_digest=row.body_digest, at=row.at, answer=answer)

    # Forgetting.

    def erase(self, call_id: str) -> bool:
        """Forget what was said and who called in a call that has ended; whether there is one.

        Its owner's journal follows, and what still comes of it is erased, too.
        """
        with self.writing() as connection:
            done = erase(connection, call_id, time.time())
        self.changes += 1
        return done

    def retain(self, before: float) -> int:
        """Delete some calls that were made before *before* and have ended; return how many.

        Nothing else waits for long: ask again until there are none.
        """
        question = (
            select(calls.c.id, calls.c.instance, calls.c.private)
            .where(calls.c.created_at < before, calls.c.ended_at.is_not(None))
            .order_by(calls.c.created_at)
            .limit(_CHUNK)
        )
        with self.writing() as connection:
            rows = connection.execute(question).all()
            found = [row.id for row in rows]
            lost = tables.recordings
            connection.execute(update(lost).where(lost.c.call_id.in_(found)).values(gone=1))
            for row in rows:
                if json.loads(row.private).get("record"):
                    _lose_recording(connection, row.id, row.instance, time.time())
            # What was brought while only the journal of its instance knew of the call.
            nobodys = ~select(calls.c.id).where(calls.c.id == lost.c.call_id).exists()
            old = (lost.c.gone == 0) & (lost.c.at < before)
            connection.execute(update(lost).where(old, nobodys).values(gone=1))
            for table, column in _OF_CALLS:
                connection.execute(delete(table).where(table.c[column].in_(found)))
        self.changes += 1
        return len(found)

    def tidy(self, now: float) -> None:
        """Delete Idempotency-Keys that no longer count."""
        table = tables.idempotency
        with self.writing() as connection:
            connection.execute(delete(table).where(table.c.at < now - LIFETIME))

    def erased_since(self, erased_at: float) -> list[tuple[str, float]]:
        """Return this instance's calls erased at *erased_at* or later, with when, in order."""
        question = (
            select(calls.c.id, calls.c.erased_at)
            .where(calls.c.instance == self.instance, calls.c.erased_at >= erased_at)
            .order_by(calls.c.erased_at)
            .limit(1000)
        )
        with self.reading() as connection:
            return [(row.id, row.erased_at) for row in connection.execute(question)]

    # Who is alive.

    def renew(self, lifetime: float = LEASE) -> None:
        """Say that this instance is alive, for *lifetime* seconds."""
        with self.writing() as connection:
            now = self._now(connection)
            before = connection.execute(
                select(instances.c.lease_until).where(instances.c.name == self.instance)
            ).scalar()
            row = {"name": self.instance, "started_at": now, "lease_until": now + lifetime}
            upsert(connection, instances, [row], key=("name",), change=("lease_until",))
        if self._steady_since is None or before is None or before < now:
            self._steady_since = now
        self._lease_until = now + lifetime

    def give_up(self) -> None:
        """Say that this instance stops, and has ended its calls."""
        with self.writing() as connection:
            connection.execute(
                update(instances).where(instances.c.name == self.instance).values(lease_until=0)
            )

    def expired(self) -> list[str]:
        """Return the instances that were alive once and are not any more.

        Who was away from the store itself cannot tell others' silence from its own: it says
        so of nobody (but those that gave up) before its own lease has held for `grace` seconds.
        """
        with self.reading() as connection:
            now = self._now(connection)
            since = self._steady_since
            held = since is not None and now - since >= self.grace and now <= self._lease_until
            steady = held or not self.grace
            question = select(instances.c.name).where(
                instances.c.lease_until < now if steady else instances.c.lease_until == 0
            )
            return list(connection.execute(question).scalars())

    def now(self) -> float:
        """Return the database's clock, which all instances share."""
        with self.reading() as connection:
            return self._now(connection)

    def _now(self, connection: Connection) -> float:
        if self.database.is_sqlite:
            return time.time()
        return float(
            connection.execute(text("select extract(epoch from clock_timestamp())")).scalar_one()
        )


_OF_CALLS: Final = (
    (events, "call_id"),
    (transcripts, "call_id"),
    (tables.ladder, "call_id"),
    (tables.reports, "call_id"),
    (tables.captures_off, "call_id"),
    (tables.outbox, "call_id"),
    (tables.queue, "call_id"),
    (tables.commands, "call_id"),
    (calls, "id"),
)


def transcript_of(connection: Connection, call_id: str) -> list[Segment]:
    """Return the lines of a call's transcript in order."""
    rows = connection.execute(
        select(transcripts.c.body)
        .where(transcripts.c.call_id == call_id)
        .order_by(transcripts.c.at, transcripts.c.place)
    ).all()
    lines = (Segment.from_dict(json.loads(row.body)) for row in rows)
    return [line for line in lines if line is not None]


def erase(connection: Connection, call_id: str, now: float) -> bool:
    """Erase a call that has ended, if it is there."""
    row = connection.execute(
        select(calls.c.record, calls.c.private, calls.c.erased_at, calls.c.instance).where(
            calls.c.id == call_id, calls.c.ended_at.is_not(None)
        )
    ).first()
    if row is None:
        return False
    record, private = erased_record(json.loads(row.record), json.loads(row.private))
    connection.execute(
        update(calls)
        .where(calls.c.id == call_id)
        .values(
            record=json.dumps(record),
            private=json.dumps(private),
            user_id=None,
            room_name=None,
            phone_number=None,
            erased_at=now if row.erased_at is None else row.erased_at,
        )
    )
    forget(connection, call_id)
    if private.get("record"):
        _lose_recording(connection, call_id, row.instance, now)
    return True


def _lose_recording(connection: Connection, call_id: str, instance: str, now: float) -> None:
    """Have the recording of an erased call deleted, also when it is not known where it is yet."""
    row = {"call_id": call_id, "instance": instance, "at": now, "gone": 1}
    row |= {"name": "", "path": "", "octets": 0, "seconds": 0.0}
    upsert(connection, tables.recordings, [row], key=("call_id",), change=("at", "gone"))


def forget(connection: Connection, call_id: str) -> None:
    """Delete or empty what hangs on an erased call."""
    for table in (transcripts, tables.ladder, tables.reports, tables.outbox, tables.commands):
        connection.execute(delete(table).where(table.c.call_id == call_id))
    for table in (tables.queue, tables.idempotency):
        connection.execute(delete(table).where(table.c.call_id == call_id))
    rows = connection.execute(
        select(events.c.position, events.c.body).where(events.c.call_id == call_id)
    ).all()
    for position, body in rows:
        document = json.loads(body)
        scrubbed = erased_event(document)
        if scrubbed != document:
            connection.execute(
                update(events)
                .where(events.c.position == position)
                .values(body=json.dumps(scrubbed, separators=(",", ":"), ensure_ascii=False))
            )


def _stored(row: Any, report: dict[str, Any] | None = None) -> StoredCall:
    if report is None and getattr(row, "body", None):
        report = json.loads(row.body)
    return StoredCall(
        record=folded(json.loads(row.record), report),
        private=json.loads(row.private),
        instance=row.instance,
        tenant_id=row.tenant_id,
        erased=row.erased_at is not None,
    )

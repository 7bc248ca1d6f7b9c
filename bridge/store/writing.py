"""The journal's news as rows: every write may be repeated and changes nothing then."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog
from sqlalchemy import Connection, and_, delete, or_, select

from bridge.call.outcome import CRASHED
from bridge.events import epoch
from bridge.journal.entries import ChangedRecord, Marks, WrittenEvent, WrittenFact
from bridge.privacy import erased_event, masked_event, masked_record
from bridge.store import tables
from bridge.store.deliveries import Deliveries, Delivery, SessionDeliveries
from bridge.store.queries import key
from bridge.store.recordings import keep
from bridge.store.store import erase
from bridge.store.tables import calls, events
from bridge.store.upsert import insert_new, insert_of, upsert
from bridge.transcript.reports import fold_report

_log = structlog.get_logger(__name__)

_SESSION: Final = '"session"'
_ID: Final = 64  # characters of a call's id


class Writer:
    """Writes one journal's news on a connection."""

    def __init__(
        self,
        *,
        journal: str,
        mask_numbers: bool = False,
        deliveries: Deliveries | None = None,
        session_deliveries: SessionDeliveries | None = None,
    ) -> None:
        self._journal = journal
        self._mask_numbers = mask_numbers
        self._deliveries = deliveries
        self._session_deliveries = session_deliveries

    def records(self, connection: Connection, items: Sequence[ChangedRecord]) -> None:
        """Write what calls look like now."""
        crashed: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for item in items:
            row = self._row(item)
            (crashed if _says_crash(row["record"]) else others).append(row)
        upsert(connection, calls, others, key=("id",), change=_CHANGED, where=_is_newer)
        upsert(connection, calls, crashed, key=("id",), change=_CHANGED, where=_ends_it)

    def _row(self, item: ChangedRecord) -> dict[str, Any]:
        record, private = json.loads(item.record), json.loads(item.private)
        if self._mask_numbers and record.get("ended_at") is not None:
            record = masked_record(record)
        created_at = epoch(record.get("created_at"))
        return {
            "id": item.call_id[:_ID],
            "tenant_id": _key(record.get("tenant_id")),
            "instance": key(item.instance),
            "journal": self._journal,
            "revision": item.revision,
            "seq": int(record.get("seq") or 0),
            "status": str(record.get("status") or "pending")[:32],
            "direction": str(record.get("direction") or "")[:16],
            "call_type": str(record.get("call_type") or "sip")[:16],
            "trunk": _key(record.get("trunk")),
            "user_id": _key(record.get("user_id")),
            "workflow_id": _key(record.get("workflow_id")),
            "room_name": _key(record.get("room_name")),
            "phone_number": _key(_dialled(record)),
            "is_session": int(bool(private.get("session"))),
            "is_passthrough": int(bool(private.get("passthrough"))),
            "created_at": 0.0 if created_at is None else created_at,
            "started_at": epoch(record.get("started_at")),
            "ended_at": epoch(record.get("ended_at")),
            "record": dump(record),
            "private": dump(private),
        }

    def events(self, connection: Connection, items: Sequence[WrittenEvent]) -> None:
        """Write events, and the webhooks that go out for those that are new."""
        erased = _erased(connection, (item.call_id for item in items))
        rows = []
        bodies: dict[tuple[str, int], tuple[dict[str, Any], WrittenEvent]] = {}
        for item in items:
            body = json.loads(item.body)
            shown = erased_event(body) if item.call_id in erased else body
            shown = masked_event(shown) if self._mask_numbers else shown
            rows.append(
                {
                    "call_id": item.call_id[:_ID],
                    "seq": item.seq,
                    "event": str(body.get("event", ""))[:64],
                    "at": epoch(body.get("at")) or 0.0,
                    "body": item.body if shown is body else dump(shown),
                }
            )
            bodies[item.call_id[:_ID], item.seq] = body, item
        if not rows:
            return
        new = _insert_events(connection, rows)
        refuted: set[tuple[str, int]] = set()
        if len(new) < len(bodies):
            told = [row for row in rows if (row["call_id"], row["seq"]) not in new]
            refuted = _refute(connection, told)
            _insert_events(connection, [r for r in told if (r["call_id"], r["seq"]) in refuted])
        for place, (body, item) in bodies.items():
            if (place in new or place in refuted) and item.call_id not in erased:
                self._deliver(connection, body, item, corrects=place in refuted)

    def _deliver(
        self,
        connection: Connection,
        event: dict[str, Any],
        item: WrittenEvent | WrittenFact,
        *,
        corrects: bool = False,
    ) -> None:
        if self._deliveries is None:
            return
        try:
            record, private = json.loads(item.record), json.loads(item.private)
            found = self._deliveries(event, record, private) if record else ()
        except Exception as failure:  # a webhook less is not a call less
            _log.error("store.webhook_not_made", call_id=item.call_id, error=type(failure).__name__)
            return
        now = time.time()
        if corrects:
            found = [_corrected(connection, one) for one in found]
        insert_new(connection, tables.outbox, [_waiting(one, now) for one in found], key=("id",))

    def sessions(self, connection: Connection, items: Sequence[ChangedRecord]) -> None:
        """Write the webhooks of the sessions among *items*: last, as they tell of all the rest."""
        make = self._session_deliveries
        changed = [one for one in items if _SESSION in one.private]
        if make is None or not changed:
            return
        erased = _erased(connection, (item.call_id for item in changed))
        for item in changed:
            private = json.loads(item.private)
            if item.call_id in erased or not private.get("session"):
                continue
            try:
                found = make(connection, json.loads(item.record), private)
            except (ValueError, TypeError, KeyError, AttributeError) as failure:
                error = type(failure).__name__
                _log.error("store.webhook_not_made", call_id=item.call_id, error=error)
                continue
            now = time.time()
            insert_new(
                connection, tables.outbox, [_waiting(one, now) for one in found], key=("id",)
            )

    def facts(self, connection: Connection, items: Sequence[WrittenFact]) -> None:
        """Write facts; a kind that is unknown is a newer daemon's."""
        erased = _erased(connection, (item.call_id for item in items))
        reports: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for item in items:
            if item.kind == "erased":
                erase(connection, item.call_id, time.time())
                erased.add(item.call_id)
                reports.pop(item.call_id, None)
            body = json.loads(item.body)
            if item.kind == "recording":
                self._recording(connection, item, body, erased=item.call_id in erased)
            if item.call_id in erased:
                continue
            match item.kind:
                case "transcript":
                    self._transcript(connection, item, body)
                case "report":
                    reports.setdefault(item.call_id, []).append((item.position, body))
                case "ladder":
                    rungs = dump(body.get("rungs") or [])
                    row = {"call_id": item.call_id, "at": time.time(), "rungs": rungs}
                    upsert(
                        connection, tables.ladder, [row], key=("call_id",), change=("at", "rungs")
                    )
                case "capture_off":
                    row = {"call_id": item.call_id, "at": time.time()}
                    insert_new(connection, tables.captures_off, [row], key=("call_id",))
                case "claim" if body:
                    row = {
                        "key_digest": body["key_digest"],
                        "body_digest": body["body_digest"],
                        "call_id": item.call_id,
                        "at": float(body["at"]),
                        "answer": dump(body["answer"]),
                        "owner": None,
                        "owned_until": None,
                    }
                    upsert(
                        connection,
                        tables.idempotency,
                        [row],
                        key=("key_digest",),
                        change=tuple(name for name in row if name != "key_digest"),
                        where=lambda new: or_(
                            tables.idempotency.c.at < new.at, tables.idempotency.c.answer == ""
                        ),
                    )
                case "notice":
                    self._deliver(connection, body, item)
        for call_id, news in reports.items():
            self._report(connection, call_id, news)

    def _recording(
        self, connection: Connection, item: WrittenFact, body: Mapping[str, Any], *, erased: bool
    ) -> None:
        """Write where a recording is; of a call that is forgotten it is to be deleted.

        A call that is in the journal alone may be on its way: its age decides, later.
        """
        here = json.loads(item.record)
        known = (
            here or connection.execute(select(calls.c.id).where(calls.c.id == item.call_id)).first()
        )
        created_at = epoch(here.get("created_at"))
        keep(
            connection,
            item.call_id,
            key(str(body["instance"])),
            body,
            at=time.time() if created_at is None else created_at,
            gone=erased or not known,
        )

    def _transcript(
        self, connection: Connection, item: WrittenFact, body: Mapping[str, Any]
    ) -> None:
        row = {
            "call_id": item.call_id,
            "key": key(str(body.get("id") or f"{self._journal}:{item.position}")),
            "at": float(body.get("at") or 0.0),
            "place": item.position,
            "speaker": str(body.get("speaker", ""))[:32],
            "content": str(body.get("content", "")).replace("\x00", "\ufffd"),
            "body": dump(body),
        }
        change = ("at", "place", "speaker", "content", "body")
        upsert(connection, tables.transcripts, [row], key=("call_id", "key"), change=change)

    def _report(
        self, connection: Connection, call_id: str, news: Iterable[tuple[int, dict[str, Any]]]
    ) -> None:
        table = tables.reports
        row = connection.execute(
            select(table.c.body, table.c.seen).where(table.c.call_id == call_id).with_for_update()
        ).first()
        report: dict[str, Any] = {} if row is None else json.loads(row.body)
        seen: dict[str, int] = {} if row is None else json.loads(row.seen)
        for position, body in news:
            if position > seen.get(self._journal, 0):
                report = fold_report(report, body)
                seen[self._journal] = position
        written = {
            "call_id": call_id,
            "at": time.time(),
            "body": dump(report),
            "seen": dump(seen),
        }
        upsert(connection, table, [written], key=("call_id",), change=("at", "body", "seen"))

    def cursor(self, connection: Connection, instance: str, marks: Marks) -> None:
        """Write how far the journal has been read."""
        row = {
            "instance": key(instance),
            "journal": self._journal,
            "changed": marks.changed,
            "event": marks.event,
            "fact": marks.fact,
            "at": time.time(),
        }
        upsert(
            connection,
            tables.cursors,
            [row],
            key=("instance", "journal"),
            change=("changed", "event", "fact", "at"),
        )


_CHANGED: Final = tuple(
    column.name for column in calls.c if column.name not in ("id", "created_at", "erased_at")
)


def _is_newer(new: Any) -> Any:
    """Whether a row is to be changed: by a later change, or by the instance that took over."""
    same = and_(calls.c.journal == new.journal, calls.c.revision < new.revision)
    other = and_(
        calls.c.journal != new.journal,
        calls.c.seq <= new.seq,
        or_(calls.c.ended_at.is_(None), new.ended_at.is_not(None)),
    )
    return and_(calls.c.erased_at.is_(None), or_(same, other))


def _ends_it(new: Any) -> Any:
    """As `_is_newer`, for an end after a crash: another instance's end is the true one."""
    return and_(_is_newer(new), or_(calls.c.journal == new.journal, calls.c.ended_at.is_(None)))


def _insert_events(
    connection: Connection, rows: Sequence[Mapping[str, Any]]
) -> set[tuple[str, int]]:
    """Insert those of *rows* whose place is free; return the places."""
    if not rows:
        return set()
    statement = (
        insert_of(connection, events)
        .on_conflict_do_nothing(index_elements=["call_id", "seq"])
        .returning(events.c.call_id, events.c.seq)
    )
    return {(row.call_id, row.seq) for row in connection.execute(statement, rows)}


def _refute(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> set[tuple[str, int]]:
    """Delete the ends that others have given to calls which went on, as *rows* say.

    An instance that is cut off from the store for longer than its lease is taken for dead.
    """
    found = set()
    for row in rows:
        if _is_crash(row["event"], row["body"]):
            continue
        stored = connection.execute(
            select(events.c.position, events.c.event, events.c.body).where(
                events.c.call_id == row["call_id"], events.c.seq == row["seq"]
            )
        ).first()
        if stored is not None and _is_crash(stored.event, stored.body):
            connection.execute(delete(events).where(events.c.position == stored.position))
            found.add((row["call_id"], row["seq"]))
    return found


def _is_crash(name: str, body: str) -> bool:
    return name == "call_ended" and _says_crash(body)


def _says_crash(body: str) -> bool:
    # Most do not even have the word, and reading them costs.
    return CRASHED.reason in body and json.loads(body).get("reason") == CRASHED.reason


def _corrected(connection: Connection, delivery: Delivery) -> Delivery:
    """Return what is told instead of a false end, under an id of its own.

    The false end itself is not told any more, unless it was already, or is just now.
    """
    outbox = tables.outbox
    connection.execute(
        delete(outbox).where(
            outbox.c.id == delivery.id,
            outbox.c.state == "waiting",
            outbox.c.claimed_by.is_(None),
        )
    )
    return replace(delivery, id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{delivery.id} corrected")))


def _erased(connection: Connection, call_ids: Iterable[str]) -> set[str]:
    ids = sorted(set(call_ids))
    if not ids:
        return set()
    question = select(calls.c.id).where(calls.c.id.in_(ids), calls.c.erased_at.is_not(None))
    return set(connection.execute(question).scalars())


def _waiting(delivery: Delivery, now: float) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "seq": delivery.seq,
        "call_id": delivery.call_id,
        "tenant_id": _key(delivery.tenant_id),
        "event": delivery.event,
        "url": delivery.url,
        "body": delivery.body,
        "state": "waiting",
        "attempts": 0,
        "created_at": now,
        "next_at": now,
        "receiver": delivery.receiver,
        "give_up_at": now + delivery.lifetime,
    }


def _dialled(record: Mapping[str, Any]) -> str | None:
    """Return the number that was called: of a call that came in it is ours."""
    inbound = record.get("direction") == "inbound" and record.get("call_type") != "voip"
    number: str | None = record.get("trunk_number" if inbound else "phone_number")
    return number


def _key(value: Any) -> str | None:
    return key(str(value)) if value not in (None, "") else None


_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def dump(value: Any) -> str:
    return _encode(value)

"""What of the journal is new, for who makes something else out of it (the store)."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, Final

from bridge.journal.entries import (
    ChangedRecord,
    JournalError,
    Marks,
    News,
    WrittenEvent,
    WrittenFact,
    dump,
)

_RECORDS: Final = (
    "select call_id, changed, instance, record, coalesce(private, '{}') from calls "
    "where changed > ? order by changed limit ?"
)
_EVENTS: Final = (
    "select e.position, e.call_id, e.seq, e.body, coalesce(c.record, '{}'), "
    "coalesce(c.private, '{}'), c.instance "
    "from events e left join calls c on c.call_id = e.call_id "
    "where e.position > ? order by e.position limit ?"
)
_FACTS: Final = (
    "select f.position, f.call_id, f.kind, f.body, coalesce(c.record, '{}'), "
    "coalesce(c.private, '{}') from facts f left join calls c on c.call_id = f.call_id "
    "where f.position > ? order by f.position limit ?"
)
HEADS: Final = (
    "select max((select floor from clock), (select coalesce(max(changed), 0) from calls)),"
    " coalesce((select seq from sqlite_sequence where name = 'events'), 0),"
    " coalesce((select seq from sqlite_sequence where name = 'facts'), 0)"
)


class JournalReader:
    """Reads what is new, for one thread."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def news(self, after: Marks, *, limit: int) -> News:
        """Return at most *limit* of each that come after *after*. Raises `JournalError`."""
        connection = self._connection
        try:
            connection.execute("begin")
            try:
                records = connection.execute(_RECORDS, (after.changed, limit)).fetchall()
                events = connection.execute(_EVENTS, (after.event, limit)).fetchall()
                facts = connection.execute(_FACTS, (after.fact, limit)).fetchall()
                facts = [row if row[2] != "claim" else self._claim(row) for row in facts]
                revision = sum(connection.execute(HEADS).fetchone())
            finally:
                connection.execute("commit")
        except sqlite3.Error as failure:
            raise JournalError(f"{self._path}: {failure}") from failure
        found = {row[0]: (row[2], row[3], row[4]) for row in records}
        found |= {row[1]: (row[6], row[4], row[5]) for row in events if row[6] is not None}
        return News(
            records=[
                ChangedRecord(call_id=call_id, revision=revision, instance=a, record=b, private=c)
                for call_id, (a, b, c) in found.items()
            ],
            events=[
                WrittenEvent(
                    position=a, call_id=b, seq=c, body=d, record=e, private=f, instance=g or ""
                )
                for a, b, c, d, e, f, g in events
            ],
            facts=[
                WrittenFact(position=a, call_id=b, kind=c, body=d, record=e, private=f)
                for a, b, c, d, e, f in facts
            ],
            marks=Marks(
                changed=records[-1][1] if records else after.changed,
                event=events[-1][0] if events else after.event,
                fact=facts[-1][0] if facts else after.fact,
            ),
            complete=max(len(records), len(events), len(facts)) < limit,
        )

    def _claim(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Put the claim itself into a fact that names it; ``{}`` when it is too old."""
        position, call_id, kind, body, record, private = row
        claim: dict[str, Any] = {}
        found = self._connection.execute(
            "select body_digest, at, answer from claims where key_digest = ?", (json.loads(body),)
        ).fetchone()
        if found is not None:
            claim = {"key_digest": json.loads(body), "body_digest": found[0], "at": found[1]}
            claim["answer"] = json.loads(found[2])
        return position, call_id, kind, dump(claim), record, private

    def holds(self, call_id: str) -> bool:
        """Whether there is a call that was not erased. Raises `JournalError`."""
        try:
            found = self._connection.execute(
                "select 1 from calls where call_id = ? and not erased", (call_id,)
            ).fetchone()
        except sqlite3.Error as failure:
            raise JournalError(f"{self._path}: {failure}") from failure
        return found is not None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

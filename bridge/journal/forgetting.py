"""Chores of the journal's writer: to erase a call, to give it away, to delete what is old."""

from __future__ import annotations

import json
import sqlite3

from bridge.journal.entries import dump
from bridge.privacy import erased_event, erased_record


def erase(connection: sqlite3.Connection, call_id: str) -> int:
    """Forget what was said and who called in a call that has ended; whether there is one."""
    row = connection.execute(
        "select record, private from calls where call_id = ? and ended", (call_id,)
    ).fetchone()
    if row is None:
        return 0
    record, private = erased_record(json.loads(row[0]), json.loads(row[1] or "{}"))
    connection.execute(
        "update calls set record = ?, private = ?, snapshot = null, erased = 1, "
        "changed = 1 + max((select floor from clock), (select max(changed) from calls)) "
        "where call_id = ?",
        (dump(record), dump(private), call_id),
    )
    for position, body in connection.execute(
        "select position, body from events where call_id = ?", (call_id,)
    ).fetchall():
        scrubbed = dump(erased_event(json.loads(body)))
        connection.execute("update events set body = ? where position = ?", (scrubbed, position))
    connection.execute("delete from facts where call_id = ?", (call_id,))
    connection.execute("delete from claims where json_extract(answer, '$.call_id') = ?", (call_id,))
    connection.execute(
        "insert into facts (call_id, kind, body) values (?, 'erased', '{}')", (call_id,)
    )
    return 1


def disown(connection: sqlite3.Connection, call_id: str) -> int:
    """Forget that a call is open; its record moves nothing."""
    return connection.execute(
        "update calls set ended = 1, snapshot = null where call_id = ?", (call_id,)
    ).rowcount


def retain(connection: sqlite3.Connection, before: float, limit: int, fact: int | None) -> int:
    """Delete at most *limit* calls made before *before* that have ended; how many.

    Not those with facts after position *fact*, which somebody has still to read.
    """
    found = connection.execute(
        "select call_id from calls where ended and created_at < :before and not exists "
        "(select 1 from facts where facts.call_id = calls.call_id and facts.position > :fact) "
        "order by created_at limit :limit",
        {"before": before, "fact": fact, "limit": limit},
    ).fetchall()
    for table in ("events", "facts", "calls"):
        connection.executemany(f"delete from {table} where call_id = ?", found)  # noqa: S608
    connection.execute("delete from claims where at < ?", (before,))
    return len(found)

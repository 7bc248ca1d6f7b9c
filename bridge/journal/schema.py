"""The tables of the journal's file, and how a file of an older daemon becomes one of ours."""

from __future__ import annotations

import sqlite3
import uuid
from typing import Final

VERSION: Final = 2
"""``pragma user_version``: 0 nothing yet, or the first daemons', which did not number it."""

_TABLES: Final = """
create table if not exists calls (
    call_id text primary key,
    instance text not null,
    created_at real not null,
    ended integer not null default 0,
    record text not null,
    snapshot text,
    private text,
    changed integer not null default 0,
    erased integer not null default 0
);
create table if not exists events (
    position integer primary key autoincrement,
    call_id text not null,
    seq integer not null,
    body text not null,
    unique (call_id, seq)
);
create table if not exists facts (
    position integer primary key autoincrement,
    call_id text not null,
    kind text not null,
    body text not null
);
create table if not exists claims (
    key_digest text primary key,
    body_digest text not null,
    at real not null,
    answer text not null
);
create table if not exists meta (key text primary key, value text not null);
create table if not exists clock (floor integer not null);
insert into clock select 0 where not exists (select 1 from clock);
"""

# Columns that the first daemons' file lacks. Their records count as changed in the order
# they were made.
_WIDEN: Final = (
    "alter table calls add column private text",
    "alter table calls add column changed integer not null default 0",
    "alter table calls add column erased integer not null default 0",
    "update calls set changed = rowid",
    "drop trigger if exists entry_written",
    "drop view if exists entries",
)

# A record that is written with a new event is found by the event; only others are marked
# as changed, as every index costs time while a hold waits. `changed` only ever grows, also
# when the record that changed last is deleted: a reader that has seen everything up to a
# number never misses what comes later.
_REST: Final = """
create index if not exists calls_open on calls (instance) where not ended;
create index if not exists calls_changed on calls (changed);
create index if not exists calls_old on calls (created_at) where ended;
create index if not exists facts_call on facts (call_id);
create index if not exists claims_at on claims (at);
create view if not exists entries as
    select call_id, instance, created_at, ended, record, snapshot, private,
           0 as seq, '' as event from calls;
create trigger if not exists entry_written instead of insert on entries
    when new.event is not null begin
    insert into events (call_id, seq, body) values (new.call_id, new.seq, new.event)
        on conflict do nothing;
    update calls set changed =
        1 + max((select floor from clock), (select coalesce(max(changed), 0) from calls))
        where changes() = 0 and call_id = new.call_id;
    insert into calls (call_id, instance, created_at, ended, record, snapshot, private)
        values (new.call_id, new.instance, new.created_at, new.ended, new.record,
            new.snapshot, new.private)
        on conflict (call_id) do update set
        ended = excluded.ended, record = excluded.record, snapshot = excluded.snapshot,
        private = coalesce(excluded.private, private)
        where not erased;
end;
create trigger if not exists record_written instead of insert on entries
    when new.event is null begin
    insert into calls
        (call_id, instance, created_at, ended, record, snapshot, private, changed)
        values (new.call_id, new.instance, new.created_at, new.ended, new.record,
            new.snapshot, new.private,
            1 + max((select floor from clock), (select coalesce(max(changed), 0) from calls)))
        on conflict (call_id) do update set
        ended = excluded.ended, record = excluded.record, snapshot = excluded.snapshot,
        private = coalesce(excluded.private, private), changed = excluded.changed
        where not erased;
end;
create trigger if not exists call_deleted after delete on calls begin
    update clock set floor = max(floor, old.changed);
end;
"""


def prepare(connection: sqlite3.Connection) -> str:
    """Make the tables, or bring an older file up to date; return the journal's own id.

    Raises `sqlite3.Error`, and ``ValueError`` for the file of a newer daemon. Two that come
    at once wait for each other.
    """
    connection.execute("begin immediate")
    try:
        found = int(connection.execute("pragma user_version").fetchone()[0])
        if found > VERSION:
            msg = f"a newer daemon's journal (version {found}, this one knows {VERSION})"
            raise ValueError(msg)
        if found < VERSION:
            _upgrade(connection)
        row = connection.execute("select value from meta where key = 'id'").fetchone()
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise
    return str(row[0])


def _upgrade(connection: sqlite3.Connection) -> None:
    old = connection.execute(
        "select 1 from sqlite_master where type = 'table' and name = 'calls'"
    ).fetchone()
    if old is not None:
        for statement in _WIDEN:
            connection.execute(statement)
    for statement in statements(_TABLES) + statements(_REST):
        connection.execute(statement)
    connection.execute("insert into meta (key, value) values ('id', ?)", (str(uuid.uuid4()),))
    connection.execute(f"pragma user_version = {VERSION}")


def statements(script: str) -> list[str]:
    """Return the statements of *script*; ``executescript`` would commit before it begins."""
    found: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending.strip())
            pending = ""
    return found

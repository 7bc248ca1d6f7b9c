"""The tables. `migrations` makes them; a test compares the two.

Times are seconds since the epoch, as doubles. JSON is text: it is read whole, never
searched; what lists search by has columns of its own.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata: Final = MetaData()

# SQLite counts by itself only in a column of exactly this type.
Counter: Final = BigInteger().with_variant(Integer(), "sqlite")

KEY: Final = 255
"""Characters of what is searched by; longer values are cut, in the column and in the question."""


def _text_key(name: str, *, nullable: bool = True) -> Column[str]:
    return Column(name, String(KEY), nullable=nullable)


calls: Final = Table(
    "calls",
    metadata,
    Column("id", String(64), primary_key=True),
    _text_key("tenant_id"),
    _text_key("instance", nullable=False),  # who runs it, or did
    Column("journal", String(64), nullable=False),  # where the row comes from,
    Column("revision", BigInteger, nullable=False),  # and which change of it this is
    Column("seq", Integer, nullable=False),  # of its last event
    Column("status", String(32), nullable=False),
    Column("direction", String(16), nullable=False),
    Column("call_type", String(16), nullable=False),
    _text_key("trunk"),
    _text_key("user_id"),
    _text_key("workflow_id"),
    _text_key("room_name"),
    _text_key("phone_number"),  # that was called: of a call that came in ours
    Column("is_session", Integer, nullable=False),  # 1: a voice session (private.session)
    Column("is_passthrough", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("erased_at", Double),
    Column("record", Text, nullable=False),
    Column("private", Text, nullable=False),
)

# Every list is read backwards or forwards along one of these.
Index("calls_newest", calls.c.created_at, calls.c.id)
Index("calls_tenant", calls.c.tenant_id, calls.c.created_at, calls.c.id)
Index("calls_status", calls.c.status, calls.c.created_at, calls.c.id)
Index("calls_tenant_status", calls.c.tenant_id, calls.c.status, calls.c.created_at, calls.c.id)
Index("calls_workflow", calls.c.workflow_id, calls.c.created_at, calls.c.id)
Index("calls_user", calls.c.user_id, calls.c.created_at, calls.c.id)
Index("calls_number", calls.c.phone_number, calls.c.created_at, calls.c.id)
Index("calls_type", calls.c.call_type, calls.c.created_at, calls.c.id)
Index("calls_direction", calls.c.direction, calls.c.created_at, calls.c.id)
Index("calls_room", calls.c.room_name, calls.c.created_at)
Index("calls_started", calls.c.started_at, calls.c.id)
Index("calls_tenant_started", calls.c.tenant_id, calls.c.started_at, calls.c.id)
_SESSIONS: Final = text("is_session = 1")
Index(
    "calls_sessions",
    calls.c.created_at,
    calls.c.id,
    sqlite_where=_SESSIONS,
    postgresql_where=_SESSIONS,
)
Index(
    "calls_tenant_sessions",
    calls.c.tenant_id,
    calls.c.created_at,
    calls.c.id,
    sqlite_where=_SESSIONS,
    postgresql_where=_SESSIONS,
)
_PASSTHROUGH: Final = text("is_passthrough = 1")
Index(
    "calls_passthrough",
    calls.c.created_at,
    calls.c.id,
    sqlite_where=_PASSTHROUGH,
    postgresql_where=_PASSTHROUGH,
)
_OPEN: Final = text("ended_at is null")
Index("calls_open", calls.c.instance, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("calls_open_room", calls.c.room_name, sqlite_where=_OPEN, postgresql_where=_OPEN)
_ERASED: Final = text("erased_at is not null")
Index(
    "calls_erased",
    calls.c.instance,
    calls.c.erased_at,
    sqlite_where=_ERASED,
    postgresql_where=_ERASED,
)

events: Final = Table(
    "events",
    metadata,
    Column("position", Counter, primary_key=True, autoincrement=True),
    Column("call_id", String(64), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("event", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("events_call", events.c.call_id, events.c.seq, unique=True)

ladder: Final = Table(
    "ladder",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("at", Double, nullable=False),
    Column("rungs", Text, nullable=False),
)

transcripts: Final = Table(
    "transcripts",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("key", String(KEY), primary_key=True),  # its own id, or where it stands in a journal
    Column("at", Double, nullable=False),
    Column("place", BigInteger, nullable=False),  # of several at the same time, who came first
    Column("speaker", String(32), nullable=False),
    Column("content", Text, nullable=False),
    Column("body", Text, nullable=False),  # everything else of it
)
Index("transcripts_order", transcripts.c.call_id, transcripts.c.at, transcripts.c.place)

reports: Final = Table(
    "reports",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("at", Double, nullable=False),
    Column("body", Text, nullable=False),
    Column("seen", Text, nullable=False),  # journal -> the last fact that is folded in
)

captures_off: Final = Table(
    "captures_off",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("at", Double, nullable=False),
)

recordings: Final = Table(
    "recordings",
    metadata,
    Column("call_id", String(64), primary_key=True),
    _text_key("instance", nullable=False),  # who has it, where it lies in a folder
    Column("at", Double, nullable=False),
    _text_key("name", nullable=False),  # of the object; "" where only that there is one is known
    Column("path", Text, nullable=False),  # the same with the bucket it is in, for people
    Column("octets", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("gone", Integer, nullable=False),  # 1: the call is, the object is to be deleted
)
_GONE: Final = text("gone = 1")
Index("recordings_gone", recordings.c.at, sqlite_where=_GONE, postgresql_where=_GONE)

outbox: Final = Table(
    "outbox",
    metadata,
    Column("id", String(64), primary_key=True),  # of the delivery: the same in every attempt
    Column("seq", Integer, nullable=False),  # in the order of its call
    Column("call_id", String(64), nullable=False),
    Column("tenant_id", String(KEY)),
    Column("event", String(64), nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),  # waiting | delivered | dead
    Column("attempts", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("claimed_by", String(KEY)),
    Column("claimed_until", Double),
    Column("finished_at", Double),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("receiver", Text, nullable=False, server_default=""),  # scheme, host, port of the URL
    Column("give_up_at", Double, nullable=False, server_default="0"),
)
_WAITING: Final = text("state = 'waiting'")
Index("outbox_due", outbox.c.next_at, sqlite_where=_WAITING, postgresql_where=_WAITING)
Index("outbox_call", outbox.c.call_id, outbox.c.seq)
Index("outbox_age", outbox.c.created_at)
_DEAD: Final = text("state = 'dead'")
Index("outbox_dead", outbox.c.created_at, sqlite_where=_DEAD, postgresql_where=_DEAD)

idempotency: Final = Table(
    "idempotency",
    metadata,
    Column("key_digest", String(64), primary_key=True),
    Column("body_digest", String(64), nullable=False),
    Column("call_id", String(64)),
    Column("at", Double, nullable=False),
    Column("answer", Text, nullable=False),  # empty: `owner` is about to give it
    Column("owner", String(KEY)),
    Column("owned_until", Double),
)
Index("idempotency_at", idempotency.c.at)

queue: Final = Table(
    "queue",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("trunk", String(KEY), nullable=False),
    Column("tenant_id", String(KEY)),
    Column("state", String(16), nullable=False),  # waiting | claimed | dialled | done
    Column("enqueued_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("owner", String(KEY)),
    Column("claimed_until", Double),
    Column("dialled_at", Double),
    Column("body", Text, nullable=False),
)
Index("queue_waiting", queue.c.state, queue.c.trunk, queue.c.enqueued_at)

instances: Final = Table(
    "instances",
    metadata,
    Column("name", String(KEY), primary_key=True),
    Column("started_at", Double, nullable=False),
    Column("lease_until", Double, nullable=False),
)

cursors: Final = Table(
    "cursors",
    metadata,
    Column("instance", String(KEY), primary_key=True),
    Column("journal", String(64), primary_key=True),
    Column("changed", BigInteger, nullable=False),
    Column("event", BigInteger, nullable=False),
    Column("fact", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
)

commands: Final = Table(
    "commands",
    metadata,
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column("instance", String(KEY), nullable=False),  # who is to do it
    Column("call_id", String(64), nullable=False),
    Column("verb", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("done_at", Double),
    Column("answer", Text),
    sqlite_autoincrement=True,
)
_UNDONE: Final = text("done_at is null")
Index(
    "commands_waiting",
    commands.c.instance,
    commands.c.id,
    sqlite_where=_UNDONE,
    postgresql_where=_UNDONE,
)

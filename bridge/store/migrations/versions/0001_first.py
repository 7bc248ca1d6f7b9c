"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""

    op.create_table(
        "calls",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=255), nullable=True),
        sa.Column("instance", sa.String(length=255), nullable=False),
        sa.Column("journal", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("call_type", sa.String(length=16), nullable=False),
        sa.Column("trunk", sa.String(length=255), nullable=True),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("workflow_id", sa.String(length=255), nullable=True),
        sa.Column("room_name", sa.String(length=255), nullable=True),
        sa.Column("phone_number", sa.String(length=255), nullable=True),
        sa.Column("is_session", sa.Integer(), nullable=False),
        sa.Column("is_passthrough", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("erased_at", sa.Double(), nullable=True),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("private", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("calls_direction", "calls", ["direction", "created_at", "id"], unique=False)
    op.create_index(
        "calls_erased",
        "calls",
        ["instance", "erased_at"],
        unique=False,
        sqlite_where=sa.text("erased_at is not null"),
        postgresql_where=sa.text("erased_at is not null"),
    )
    op.create_index("calls_newest", "calls", ["created_at", "id"], unique=False)
    op.create_index("calls_number", "calls", ["phone_number", "created_at", "id"], unique=False)
    op.create_index(
        "calls_open",
        "calls",
        ["instance"],
        unique=False,
        sqlite_where=sa.text("ended_at is null"),
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_index(
        "calls_passthrough",
        "calls",
        ["created_at", "id"],
        unique=False,
        sqlite_where=sa.text("is_passthrough = 1"),
        postgresql_where=sa.text("is_passthrough = 1"),
    )
    op.create_index("calls_room", "calls", ["room_name", "created_at"], unique=False)
    op.create_index(
        "calls_sessions",
        "calls",
        ["created_at", "id"],
        unique=False,
        sqlite_where=sa.text("is_session = 1"),
        postgresql_where=sa.text("is_session = 1"),
    )
    op.create_index("calls_started", "calls", ["started_at", "id"], unique=False)
    op.create_index("calls_status", "calls", ["status", "created_at", "id"], unique=False)
    op.create_index("calls_tenant", "calls", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index(
        "calls_tenant_sessions",
        "calls",
        ["tenant_id", "created_at", "id"],
        unique=False,
        sqlite_where=sa.text("is_session = 1"),
        postgresql_where=sa.text("is_session = 1"),
    )
    op.create_index(
        "calls_tenant_started", "calls", ["tenant_id", "started_at", "id"], unique=False
    )
    op.create_index(
        "calls_tenant_status", "calls", ["tenant_id", "status", "created_at", "id"], unique=False
    )
    op.create_index("calls_type", "calls", ["call_type", "created_at", "id"], unique=False)
    op.create_index("calls_user", "calls", ["user_id", "created_at", "id"], unique=False)
    op.create_index("calls_workflow", "calls", ["workflow_id", "created_at", "id"], unique=False)
    op.create_table(
        "captures_off",
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("call_id"),
    )
    op.create_table(
        "commands",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("instance", sa.String(length=255), nullable=False),
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("verb", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("done_at", sa.Double(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "commands_waiting",
        "commands",
        ["instance", "id"],
        unique=False,
        sqlite_where=sa.text("done_at is null"),
        postgresql_where=sa.text("done_at is null"),
    )
    op.create_table(
        "cursors",
        sa.Column("instance", sa.String(length=255), nullable=False),
        sa.Column("journal", sa.String(length=64), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("fact", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("instance", "journal"),
    )
    op.create_table(
        "events",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_call", "events", ["call_id", "seq"], unique=True)
    op.create_table(
        "idempotency",
        sa.Column("key_digest", sa.String(length=64), nullable=False),
        sa.Column("body_digest", sa.String(length=64), nullable=False),
        sa.Column("call_id", sa.String(length=64), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key_digest"),
    )
    op.create_index("idempotency_at", "idempotency", ["at"], unique=False)
    op.create_table(
        "instances",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "ladder",
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("rungs", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("call_id"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("tenant_id", sa.String(length=255), nullable=True),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.Column("claimed_by", sa.String(length=255), nullable=True),
        sa.Column("claimed_until", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("outbox_age", "outbox", ["created_at"], unique=False)
    op.create_index("outbox_call", "outbox", ["call_id", "seq"], unique=False)
    op.create_index(
        "outbox_due",
        "outbox",
        ["next_at"],
        unique=False,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "queue",
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("trunk", sa.String(length=255), nullable=False),
        sa.Column("tenant_id", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("enqueued_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=True),
        sa.Column("claimed_until", sa.Double(), nullable=True),
        sa.Column("dialled_at", sa.Double(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("call_id"),
    )
    op.create_index("queue_waiting", "queue", ["state", "trunk", "enqueued_at"], unique=False)
    op.create_table(
        "reports",
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("seen", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("call_id"),
    )
    op.create_table(
        "transcripts",
        sa.Column("call_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("speaker", sa.String(length=32), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("call_id", "key"),
    )
    op.create_index("transcripts_order", "transcripts", ["call_id", "at", "place"], unique=False)

"""The outbox: every delivery, from when its event is stored until it has arrived or is dead."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("place", sa.BigInteger, nullable=False),
    sa.Column("call_id", sa.String(64), nullable=False),
    sa.Column("tenant_id", sa.String(255)),
    sa.Column("event", sa.String(64), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("receiver", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("next_at", sa.Double, nullable=False),
    sa.Column("give_up_at", sa.Double, nullable=False),
    sa.Column("claimed_by", sa.String(255)),
    sa.Column("claimed_until", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("last_status", sa.Integer),
    sa.Column("last_error", sa.Text),
)
_WAITING = sa.text("state = 'waiting'")
sa.Index("outbox_due", outbox.c.next_at, sqlite_where=_WAITING, postgresql_where=_WAITING)
sa.Index("outbox_call", outbox.c.call_id, outbox.c.place)
sa.Index("outbox_age", outbox.c.created_at)

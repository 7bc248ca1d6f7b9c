"""What the deliverer of webhooks asks for: whom a row is for, and until when it is tried."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_DEAD = sa.text("state = 'dead'")


def upgrade() -> None:
    """Add them."""
    for name, kind, default in (("receiver", sa.Text(), ""), ("give_up_at", sa.Double(), "0")):
        column: sa.Column[object] = sa.Column(name, kind, nullable=False, server_default=default)
        op.add_column("outbox", column)
    op.create_index(
        "outbox_dead", "outbox", ["created_at"], sqlite_where=_DEAD, postgresql_where=_DEAD
    )

"""What instances on one store ask each other: who uses a key now, and who is in a room."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OPEN = sa.text("ended_at is null")


def upgrade() -> None:
    """Add them."""
    op.add_column("idempotency", sa.Column("owner", sa.String(length=255), nullable=True))
    op.add_column("idempotency", sa.Column("owned_until", sa.Double(), nullable=True))
    op.create_index(
        "calls_open_room", "calls", ["room_name"], sqlite_where=_OPEN, postgresql_where=_OPEN
    )

"""Where the recordings of calls are, and which of them are still to be deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_GONE = sa.text("gone = 1")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "recordings",
        sa.Column("call_id", sa.String(64), primary_key=True),
        sa.Column("instance", sa.String(255), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("octets", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("gone", sa.Integer(), nullable=False),
    )
    op.create_index(
        "recordings_gone", "recordings", ["at"], sqlite_where=_GONE, postgresql_where=_GONE
    )

"""What Alembic runs: on the connection that `bridge.store.migrate` holds the lock on."""

from __future__ import annotations

from alembic import context

from bridge.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

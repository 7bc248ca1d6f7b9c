"""Brings the tables to what this daemon knows: at a start, by one daemon at a time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from bridge.store.database import Database
from bridge.store.errors import StoreError

_LOCK: Final = 0x7472756E6B  # "trunk": of all daemons on one PostgreSQL
_FOLDER: Final = Path(__file__).parent / "migrations"

logging.getLogger("alembic").setLevel(logging.WARNING)  # what it tells is no event of ours


def migrate(database: Database) -> None:
    """Make the tables or bring them up to date.

    Several daemons that start at once wait for each other. Raises `StoreError`: in one line
    when the tables are those of a newer daemon.
    """
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    # SQLite: begun with the lock.
    with database.writing() as connection, database.unhurried(connection):
        if not database.is_sqlite:
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        if _is_current(connection, ScriptDirectory.from_config(config)):
            return
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _is_current(connection: Connection, script: ScriptDirectory) -> bool:
    found = MigrationContext.configure(connection).get_current_revision()
    head = script.get_current_head()
    if found is None or found == head:
        return found == head
    try:
        known = script.get_revision(found) is not None
    except CommandError:
        known = False
    if not known:
        msg = f"the store is a newer daemon's (schema {found}, this one knows {head})"
        raise StoreError(msg)
    return False

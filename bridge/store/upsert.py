"""Insert, or change what is there: the same words for both databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_of(connection: Connection, table: Table) -> Any:
    """Return an insert that knows ``on_conflict_do_…``."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def insert_new(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, key: Sequence[str]
) -> None:
    """Insert those of *rows* whose key is not there."""
    if rows:
        statement = insert_of(connection, table).on_conflict_do_nothing(index_elements=list(key))
        connection.execute(statement, list(rows))


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: Sequence[str],
    change: Sequence[str],
    where: Any = None,
) -> None:
    """Insert *rows*; of those that are there change *change*, if ``where(new)`` is so."""
    if not rows:
        return
    statement = insert_of(connection, table)
    condition: ColumnElement[bool] | None = None if where is None else where(statement.excluded)
    statement = statement.on_conflict_do_update(
        index_elements=list(key),
        set_={name: statement.excluded[name] for name in change},
        where=condition,
    )
    connection.execute(statement, list(rows))

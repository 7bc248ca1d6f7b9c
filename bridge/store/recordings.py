"""Where recordings are, as the store knows it. Everything blocks and raises `StoreError`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, delete, or_, select

from bridge.store import tables
from bridge.store.store import Store
from bridge.store.tables import calls
from bridge.store.upsert import upsert

_table: Final = tables.recordings
_MANY: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecording:
    """A recording that is kept. ``name`` is the object's, below the place of all recordings."""

    call_id: str
    name: str
    octets: int
    seconds: float


class RecordingRows:
    """The table ``recordings``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, call_id: str) -> StoredRecording | None:
        """Return a call's recording; None when there is none, or none any more."""
        question = select(_table).where(
            _table.c.call_id == call_id, _table.c.gone == 0, _table.c.name != ""
        )
        with self._store.reading() as connection:
            row = connection.execute(question).first()
        if row is None:
            return None
        return StoredRecording(
            call_id=row.call_id, name=row.name, octets=row.octets, seconds=row.seconds
        )

    def is_recorded(self, call_id: str) -> bool:
        """Whether a call was begun to be recorded, whatever has become of it."""
        found = self._store.call(call_id)
        return found is not None and bool(found.private.get("record"))

    def gone(self, *, of_others: bool) -> Sequence[str]:
        """Return some calls whose recordings are to be deleted; *of_others*: any instance's."""
        question = select(_table.c.call_id).where(self._is_ours(of_others=of_others))
        with self._store.reading() as connection:
            return list(connection.execute(question.order_by(_table.c.at).limit(_MANY)).scalars())

    def is_gone(self, call_id: str) -> bool:
        """Whether a call was erased, or its recording is to be deleted."""
        erased = select(calls.c.id).where(calls.c.id == call_id, calls.c.erased_at.is_not(None))
        lost = select(_table.c.call_id).where(_table.c.call_id == call_id, _table.c.gone == 1)
        with self._store.reading() as connection:
            return connection.execute(erased.union_all(lost)).first() is not None

    def deleted(self, call_id: str, *, of_others: bool) -> None:
        """Forget a recording whose file has been deleted, if `gone` tells of it."""
        ours = self._is_ours(of_others=of_others)
        with self._store.writing() as connection:
            connection.execute(delete(_table).where(_table.c.call_id == call_id, ours))

    def _is_ours(self, *, of_others: bool) -> ColumnElement[bool]:
        """Whether it is ours to delete: what has no place yet may still lie in a folder there."""
        ours = _table.c.instance == self._store.instance
        return (_table.c.gone == 1) & (or_(ours, _table.c.name != "") if of_others else ours)


def keep(
    connection: Connection,
    call_id: str,
    instance: str,
    body: Any,
    *,
    at: float,
    gone: bool,
) -> None:
    """Write where a recording is: the body of a ``recording`` fact.

    *gone*: it was brought after its call was forgotten, and is to be deleted.
    """
    row = {
        "call_id": call_id,
        "instance": instance,
        "at": at,
        "name": str(body["name"])[: tables.KEY],
        "path": str(body.get("path") or body["name"]),
        "octets": int(body["octets"]),
        "seconds": float(body["seconds"]),
        "gone": int(gone),
    }
    upsert(
        connection,
        _table,
        [row],
        key=("call_id",),
        change=("instance", "name", "path", "octets", "seconds", *(("gone",) if gone else ())),
    )

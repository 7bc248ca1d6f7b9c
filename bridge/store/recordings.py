"""Where recordings are, as the store knows it. Everything blocks and raises `StoreError`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, select

from bridge.store import tables
from bridge.store.store import Store
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
        question = select(_table.c.call_id).where(_table.c.gone == 1)
        if not of_others:
            question = question.where(_table.c.instance == self._store.instance)
        with self._store.reading() as connection:
            return list(connection.execute(question.order_by(_table.c.at).limit(_MANY)).scalars())

    def deleted(self, call_id: str) -> None:
        """Forget a recording whose file has been deleted."""
        with self._store.writing() as connection:
            connection.execute(
                delete(_table).where(_table.c.call_id == call_id, _table.c.gone == 1)
            )


def keep(connection: Connection, call_id: str, instance: str, body: Any, now: float) -> None:
    """Write where a recording is: the body of a ``recording`` fact."""
    row = {
        "call_id": call_id,
        "instance": instance,
        "at": now,
        "name": str(body["name"])[: tables.KEY],
        "path": str(body.get("path") or body["name"]),
        "octets": int(body["octets"]),
        "seconds": float(body["seconds"]),
        "gone": 0,
    }
    upsert(
        connection,
        _table,
        [row],
        key=("call_id",),
        change=("instance", "name", "path", "octets", "seconds"),
    )

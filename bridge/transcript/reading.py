"""Transcripts as they are read back: the shapes of a call's stored lines. Blocks, as the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bridge.events import epoch
from bridge.transcript import shapes
from bridge.transcript.segment import Segment


class Stored(Protocol):
    """A call as it stands in the store."""

    @property
    def record(self) -> dict[str, Any]: ...
    @property
    def tenant_id(self) -> str | None: ...


class TranscriptStore(Protocol):
    """The store, as transcripts are read. Every method blocks and raises `BridgeError`."""

    def call(self, call_id: str) -> Stored | None:
        """Return a call."""

    def call_of_room(self, room: str, *, tenant: str | None = None) -> Stored | None:
        """Return the newest call of a room; of *tenant*, or of nobody, unless that is None."""

    def transcript(self, call_id: str) -> Sequence[Segment]:
        """Return the segments of a call."""

    def transcript_size(self, call_id: str) -> tuple[int, int]:
        """Return how many segments a call has, and how many characters they are."""

    def turn_counts(self, call_ids: Sequence[str]) -> Mapping[str, int]:
        """Return how many turns each call has."""


class Transcribed:
    """What the API's pages show of transcripts; every method blocks and raises `BridgeError`."""

    def __init__(self, store: TranscriptStore) -> None:
        self._store = store

    def call_of(self, room: str, call_id: str | None, *, tenant: str | None) -> Stored | None:
        """Return the call *call_id* of a room, or (None) its newest, as *tenant* may see it."""
        if call_id is None:
            return self._store.call_of_room(room, tenant=tenant)
        found = self._store.call(call_id)
        if found is None or found.record["room_name"] != room:
            return None
        return found if tenant is None or found.tenant_id in (None, tenant) else None

    def messages(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return seed 003's messages of the call with the resource *record*."""
        return shapes.messages(record, self._store.transcript(record["id"]))

    def entries(self, call_id: str) -> list[dict[str, Any]]:
        """Return seed 000's entries of a call."""
        return shapes.entries(self._store.transcript(call_id))

    def transcript(self, call_id: str, form: str) -> Any:
        """Return seed 004's transcript: ``json`` a list of turns, ``txt`` and ``srt`` text."""
        said = self._store.transcript(call_id)
        match form:
            case "txt":
                return shapes.as_text(said)
            case "srt":
                found = self._store.call(call_id)
                started = None if found is None else found.record.get("started_at")
                return shapes.as_srt(said, started_at=epoch(started))
            case _:
                return shapes.as_json(said)

    def turn_counts(self, call_ids: Sequence[str]) -> Mapping[str, int]:
        """Return how many turns each call has."""
        return self._store.turn_counts(call_ids)

    def size(self, call_id: str) -> tuple[int, int]:
        """Return how many segments a call has, and how many characters they are."""
        return self._store.transcript_size(call_id)

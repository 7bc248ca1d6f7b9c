"""Sessions out of the store. From any thread; everything blocks and raises `StoreError`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, assert_never, cast

from bridge.store import fold
from bridge.store.queries import CallFilter
from bridge.store.store import Store, StoredCall
from bridge.transcript import shapes
from bridge.transcript.segment import Segment, Speaker


class StoreSessions:
    """The calls of one store, as seed 004 asks for them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def session(self, call_id: str) -> StoredCall | None:
        """Return a call, or None."""
        return self._store.call(call_id)

    def sessions(
        self, *, tenant: str | None, statuses: Sequence[str], limit: int, offset: int
    ) -> Sequence[StoredCall]:
        """Return sessions, newest first."""
        wanted = CallFilter(tenant=tenant, statuses=tuple(statuses), only_sessions=True)
        found, _ = self._store.stored_calls(wanted, limit=limit, offset=offset)
        return found

    def turn_counts(self, call_ids: Sequence[str]) -> Mapping[str, int]:
        """Return how many turns each transcript has."""
        return {one: shapes.turn_count(self._segments(one)) for one in call_ids}

    def transcript(self, call_id: str, form: str) -> Any:
        """Return a transcript: ``json`` a list of turns, ``txt`` and ``srt`` text."""
        segments = self._segments(call_id)
        match form:
            case "json":
                return shapes.as_json(segments)
            case "txt":
                return shapes.as_text(segments)
            case "srt":
                return shapes.as_srt(segments, started_at=self._started(call_id))
            case _:
                assert_never(cast("Any", form))

    def _started(self, call_id: str) -> float | None:
        found = self._store.call(call_id)
        stamp = None if found is None else found.record.get("started_at")
        return None if stamp is None else datetime.fromisoformat(stamp).timestamp()

    def _segments(self, call_id: str) -> list[Segment]:
        return list(spoken(self._store.transcript(call_id)))


def spoken(lines: Iterable[fold.Segment]) -> Iterable[Segment]:
    """Yield what somebody said; the store also keeps what the system noted."""
    for line in lines:
        try:
            speaker = Speaker(line.speaker.upper())
        except ValueError:
            continue
        yield Segment(
            speaker=speaker,
            content=line.content,
            at=line.at,
            until=line.until,
            agent_name=line.agent_name,
            interrupted=line.interrupted,
            id=line.id,
            tool_call=line.tool_call,
            stt_ms=line.stt_ms,
            first_token_ms=line.first_token_ms,
            first_audio_ms=line.first_audio_ms,
            total_ms=line.total_ms,
            llm_model=line.llm_model,
        )

"""Sessions out of the store. From any thread; everything blocks and raises `StoreError`."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.store.queries import CallFilter
from bridge.store.store import Store, StoredCall
from bridge.transcript.reading import Transcribed


class StoreSessions(Transcribed):
    """The calls of one store, as seed 004 asks for them, and what was said on them."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._calls = store

    def session(self, call_id: str) -> StoredCall | None:
        """Return a call, or None."""
        return self._calls.call(call_id)

    def sessions(
        self, *, tenant: str | None, statuses: Sequence[str], limit: int, offset: int
    ) -> Sequence[StoredCall]:
        """Return sessions, newest first."""
        wanted = CallFilter(tenant=tenant, statuses=tuple(statuses), only_sessions=True)
        found, _ = self._calls.stored_calls(wanted, limit=limit, offset=offset)
        return found

"""Idempotency-Keys of this instance, then of all: the same request once, wherever it comes."""

from __future__ import annotations

from contextlib import suppress

from bridge.call.idempotency import Claim, ClaimArchive
from bridge.store.errors import StoreError
from bridge.store.store import Store


class Claims:
    """What the journal has, and what other instances' have given the store.

    A store that is away is no reason to refuse a call: then a key counts for the instance
    that it was used at. Two instances that are asked at the same moment do not see each other.
    """

    def __init__(self, journal: ClaimArchive, store: Store) -> None:
        self._journal = journal
        self._store = store

    def claim(self, key_digest: str, *, since: float) -> Claim | None:
        """Return the claim made at *since* or later, or None."""
        found = self._journal.claim(key_digest, since=since)
        if found is None:
            with suppress(StoreError):
                found = self._store.claim(key_digest, since=since)
        return found

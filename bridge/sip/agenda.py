"""Deadlines of many things, the next one found without looking at all of them."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_SLACK = 64


class Agenda(Generic[K]):
    """At most one deadline for each key; equal deadlines fall due in the order they were set.

    A changed deadline leaves a stale heap entry behind; the heap is rebuilt when
    more than half of it is stale, so its size stays within twice the keys.
    """

    __slots__ = ("_entries", "_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._entries: dict[K, tuple[float, int]] = {}
        self._order = 0

    def set(self, key: K, at: float | None) -> None:
        """Set, move or (with None) remove the deadline of *key*."""
        known = self._entries.get(key)
        if at is None:
            if known is not None:
                del self._entries[key]
        elif known is None or known[0] != at:
            self._order += 1
            self._entries[key] = (at, self._order)
            heappush(self._heap, (at, self._order, key))
        if len(self._heap) > 2 * len(self._entries) + _SLACK:
            self._heap = [(*entry, key) for key, entry in self._entries.items()]
            heapify(self._heap)

    def next(self) -> float | None:
        """The earliest deadline."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> K | None:
        """Remove and return the first key whose deadline is not after *now*."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        key = heappop(self._heap)[2]
        del self._entries[key]
        return key

    def keys(self) -> list[K]:
        """Every key that has a deadline, in the order they will fall due."""
        return sorted(self._entries, key=self._entries.__getitem__)

    def __len__(self) -> int:
        return len(self._entries)

    def _drop_stale(self) -> None:
        heap = self._heap
        while heap and self._entries.get(heap[0][2]) != heap[0][:2]:
            heappop(heap)

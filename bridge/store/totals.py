"""How many calls a list has in all, remembered for a moment: counting is what costs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Final

from bridge.store.queries import CallFilter

_FRESH: Final = 1.0  # seconds a total may be old that other instances have changed
_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class _Total:
    count: int
    at: float
    changes: int


class Totals:
    """The totals of one store. From any thread.

    *changes* is how often this process has written when the counting began: a total is as old
    as that.
    """

    def __init__(self) -> None:
        self._totals: dict[CallFilter, _Total] = {}

    def known(self, wanted: CallFilter, changes: int) -> int | None:
        """Return a total that still counts."""
        found = self._totals.get(_key(wanted))
        if found is None or found.changes != changes or time.monotonic() - found.at >= _FRESH:
            return None
        return found.count

    def last(self, wanted: CallFilter) -> int | None:
        """Return a total as it was at some time."""
        found = self._totals.get(_key(wanted))
        return None if found is None else found.count

    def note(self, wanted: CallFilter, count: int, changes: int) -> None:
        """Remember a total; its time is now."""
        if len(self._totals) >= _KEPT:
            self._totals.clear()
        self._totals[_key(wanted)] = _Total(count, time.monotonic(), changes)


def _key(wanted: CallFilter) -> CallFilter:
    """Return what the total depends on."""
    return replace(wanted, statuses=tuple(wanted.statuses), sort_by=None, ascending=False)

"""How much one call may be told by posts: what a room's agents send is kept, and read whole."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from fastapi import HTTPException

from bridge.call.requests import Unavailable

CALLS_KEPT: Final = 4096
"""Calls whose posts are counted from memory; those of others are counted again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one call may have at most. ``what`` they are, for who is refused."""

    what: str
    entries: int
    characters: int


SAID: Final = Bounds(what="transcript", entries=20_000, characters=8 * 1024 * 1024)
"""Four hours of a sentence a second are 14,400 entries; speech is 20 characters a second."""

TOLD: Final = Bounds(what="reports", entries=20_000, characters=32 * 1024 * 1024)
"""Of the metrics' route; each is kept until the call is."""


class Budget:
    """Counts what is posted of each call, by this instance.

    *known* tells how many entries and characters a call has already, when it is seen first;
    while that cannot be said it is counted from 0. Belongs to one loop.
    """

    def __init__(self, bounds: Bounds, known: Callable[[str], Awaitable[tuple[int, int]]]) -> None:
        self._bounds = bounds
        self._known = known
        self._spent: OrderedDict[str, tuple[int, int]] = OrderedDict()

    async def spend(self, call_id: str, entries: int, characters: int) -> None:
        """Count a post, kept or not. Raises 413 when there would be too much; then nothing is.

        Asking again does not help (no 429): a call's transcript does not shrink.
        """
        if call_id not in self._spent:
            try:
                known = await self._known(call_id)
            except Unavailable:  # the journal takes it all the same
                known = 0, 0
            self._spent.setdefault(call_id, known)
        had = self._spent[call_id]
        now = had[0] + entries, had[1] + characters
        bounds = self._bounds
        if now[0] > bounds.entries or now[1] > bounds.characters:
            raise HTTPException(
                413,
                f"the {bounds.what} of a call: at most {bounds.entries} entries "
                f"and {bounds.characters} characters",
            )
        self._spent[call_id] = now
        self._spent.move_to_end(call_id)
        if len(self._spent) > CALLS_KEPT:
            self._spent.popitem(last=False)


async def nothing_yet(call_id: str) -> tuple[int, int]:
    """Know nothing of a call: reports are kept as one, whatever they were."""
    del call_id
    return 0, 0

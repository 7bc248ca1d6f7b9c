"""The SIP messages of calls that have ended, kept: from memory into the journal.

While a call runs its ladder is in memory only; a crash loses it. The last messages come after
``call_ended`` (the answer to a BYE), so it is written a moment later, or when the daemon stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from bridge.events import CallEnded, CallEvent

DELAY: Final = 2.0
"""Seconds after the end in which messages still belong to the ladder."""

Rungs = Callable[[str], Sequence[Mapping[str, Any]]]
"""The messages of a call so far, as the API shows them."""


class Notes(Protocol):
    """The journal, as far as it keeps ladders."""

    def note(
        self, call_id: str, kind: str, body: Mapping[str, Any], *, lasting: bool = True
    ) -> asyncio.Future[None]:
        """Write a fact of a call."""


class Ladders:
    """Hears every event, on the main loop."""

    def __init__(self, notes: Notes, rungs: Rungs, *, delay: float = DELAY) -> None:
        self._notes = notes
        self._rungs = rungs
        self._delay = delay
        self._due: dict[str, asyncio.TimerHandle] = {}

    def tell(self, event: CallEvent) -> None:
        """Write the ladder of a call that has ended, soon."""
        if isinstance(event, CallEnded) and event.call_id not in self._due:
            loop = asyncio.get_running_loop()
            self._due[event.call_id] = loop.call_later(self._delay, self._write, event.call_id)

    def flush(self) -> None:
        """Write now what is due soon."""
        for call_id, timer in list(self._due.items()):
            timer.cancel()
            self._write(call_id)

    def _write(self, call_id: str) -> None:
        del self._due[call_id]
        rungs = [dict(rung) for rung in self._rungs(call_id)]
        if rungs:
            written = self._notes.note(call_id, "ladder", {"rungs": rungs}, lasting=False)
            written.add_done_callback(_seen)


def _seen(written: asyncio.Future[None]) -> None:
    """A journal that cannot be written says so itself."""
    if not written.cancelled():
        written.exception()

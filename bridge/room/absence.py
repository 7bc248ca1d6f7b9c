"""When a room that went away is better joined anew than left to the SDK's repair. PURE.

A probe of the server's HTTP port is refused while no server runs there, is silent
while the way to it is broken or its process stands still, and is answered otherwise.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

STILL: Final = 1.0
"""Seconds the SDK has for its own repair once a server that was silent answers again."""

PATIENCE: Final = 5.0
"""Seconds it has when the server answered all the time."""


class Sign(Enum):
    """What a probe of the server found."""

    ANSWERED = "answered"
    REFUSED = "refused"  # nobody listens there: the server is gone, and every room with it
    SILENT = "silent"  # no answer in time: perhaps only the way to it is broken


class Absence:
    """One room's time away, from the moment that the SDK lost its connection."""

    __slots__ = ("_answers_since", "_worst")

    def __init__(self) -> None:
        self._worst = Sign.ANSWERED
        self._answers_since: float | None = None

    @property
    def server_was_gone(self) -> bool:
        """Whether at some time no server listened: the one there now is a new one."""
        return self._worst is Sign.REFUSED

    def take(self, sign: Sign, now: float) -> bool:
        """Note what a probe found at *now* (monotonic seconds); tell whether to join anew.

        A server that was gone and is back knows nobody any more: at once. One that
        was only silent may still hold our place: the SDK gets a moment to resume.
        """
        if sign is not Sign.ANSWERED:
            self._answers_since = None
            if self._worst is not Sign.REFUSED:
                self._worst = sign
            return False
        if self._answers_since is None:
            self._answers_since = now
        return now - self._answers_since >= self._wait()

    def _wait(self) -> float:
        match self._worst:
            case Sign.REFUSED:
                return 0.0
            case Sign.SILENT:
                return STILL
            case Sign.ANSWERED:
                return PATIENCE

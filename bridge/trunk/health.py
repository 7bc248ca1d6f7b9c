"""Whether a trunk can be reached, judged from what was seen. Pure.

Proofs are answers to our own requests: INVITEs, OPTIONS outside dialogs, REGISTERs. Two
failures in a row, by either, say that it is down; one answer says that it is up. Until
then nothing is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FAILURES_TO_DOWN: Final = 2
KEPT: Final = 10


class By(StrEnum):
    """What asked."""

    CALL = "call"
    PROBE = "probe"
    REGISTER = "register"


class Verdict(StrEnum):
    """What an answer says about the trunk."""

    UP = "up"
    DOWN = "down"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong. ``at`` is wall time in seconds; ``sip_status`` None: no answer.

    ``detail``: why a connection could not be made, in words.
    """

    at: float
    by: By
    sip_status: int | None
    reason: str
    detail: str = ""


def answer_says(status: int | None, by: By) -> Verdict:
    """Return what the final *status* of a request says, None: there was none.

    408 and 503 mean that nobody is there to serve, also when a proxy says so. Other 5xx
    are the trunk's own trouble: to a probe that is down, to a call it may be the callee's.
    501 only says that OPTIONS is not spoken.
    """
    match status:
        case None | 408 | 503:
            return Verdict.DOWN
        case 501:
            return Verdict.UP
        case _ if 500 <= status < 600:
            return Verdict.DOWN if by is By.PROBE else Verdict.NOTHING
        case _:
            return Verdict.UP


class TrunkHealth:
    """What is known of one trunk. Holds the last failures, at most `KEPT`."""

    def __init__(self) -> None:
        self.up: bool | None = None
        self.succeeded_at: float | None = None
        self._in_a_row = 0
        self._failures: deque[Failure] = deque(maxlen=KEPT)

    @property
    def failures(self) -> Sequence[Failure]:
        """The last failures, the newest first."""
        return tuple(reversed(self._failures))

    def succeeded(self, at: float) -> None:
        """It answered, at wall time *at*."""
        self.up = True
        self.succeeded_at = at
        self._in_a_row = 0

    def failed(self, failure: Failure) -> None:
        """It could not be reached."""
        self.noted(failure)
        self._in_a_row += 1
        if self._in_a_row >= FAILURES_TO_DOWN:
            self.up = False

    def noted(self, failure: Failure) -> None:
        """Something failed that says nothing about whether it can be reached."""
        self._failures.append(failure)

"""Our offers on the publisher's PeerConnection: one at a time, none forgotten. PURE.

The server may ask for another while one is being made or waits for its answer; it counts
the sections it asked for as asked for, and does not repeat itself. So requests add up and
are made good as soon as the answer is there.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from bridge.room.signal.outputs import AddReceivers, RestartIce

ANSWER_TIMEOUT: Final = 10.0
"""Seconds that an offer waits for its answer while the socket is up."""

SECTIONS_LIMIT: Final = 256
"""Receiving sections that one request may ask for."""


class _Stage(Enum):
    IDLE = "idle"
    MAKING = "making"  # the peer was asked for an offer
    OFFERED = "offered"  # the server has it, or will


class Offers:
    """The publisher's side of offer and answer. The first offer rides in the join."""

    def __init__(self) -> None:
        self._stage = _Stage.MAKING
        self._number = 0
        self._receivers: int | None = None  # asked for meanwhile; 0: an offer only
        self._restart = False
        self.sdp = ""
        self.overdue_at: float | None = None

    @property
    def number(self) -> int:
        """The number of the last offer."""
        return self._number

    @property
    def idle(self) -> bool:
        """Whether no offer is being made or under way."""
        return self._stage is _Stage.IDLE

    @property
    def waiting(self) -> bool:
        """Whether an offer waits for its answer."""
        return self._stage is _Stage.OFFERED

    def made(self, sdp: str) -> int:
        """The peer has made an offer; return the number under which it is sent."""
        self._stage = _Stage.OFFERED
        self.sdp = sdp
        return self.sent_again()

    def sent_again(self) -> int:
        """The offer that waits goes out on another socket; return its new number."""
        self._number += 1
        self.overdue_at = None
        return self._number

    def answered(self, number: int) -> bool:
        """An answer came; tell whether it is one to our present offer (0: it does not say)."""
        if self._stage is not _Stage.OFFERED or number not in (0, self._number):
            return False
        self._stage = _Stage.IDLE
        self.overdue_at = None
        return True

    def want_receivers(self, count: int) -> None:
        """The server wants an offer with *count* more receiving sections, perhaps 0."""
        count = min(count, SECTIONS_LIMIT)
        self._receivers = min(count + (self._receivers or 0), SECTIONS_LIMIT)

    def want_restart(self) -> None:
        """ICE is to be restarted."""
        self._restart = True

    def next(self) -> AddReceivers | RestartIce | None:
        """Return what the peer is to make now."""
        if self._stage is not _Stage.IDLE:
            return None
        if self._restart:
            self._restart = False
            self._stage = _Stage.MAKING
            return RestartIce()
        if self._receivers is not None:
            count, self._receivers = self._receivers, None
            self._stage = _Stage.MAKING
            return AddReceivers(count=count)
        return None

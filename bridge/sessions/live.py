"""One session of this instance, as those who keep it and those who watch it have it."""

from __future__ import annotations

from bridge.call.record import CallRecord
from bridge.sessions import record as records
from bridge.sessions.state import Phase, SessionState


class Live:
    """One session that has no end, or one that is not written yet."""

    __slots__ = (
        "counted",
        "listed_at",
        "looked_for",
        "made_at",
        "making",
        "record",
        "shown",
        "state",
    )

    def __init__(self, record: CallRecord, state: SessionState) -> None:
        self.record = record
        self.shown = record  # as it is written: what happened is told when the journal has it
        self.state = state
        self.making = False  # its room, just now
        self.made_at = 0.0
        self.counted = -1  # who was in the room besides agents, when it was listed
        self.listed_at = 0.0
        self.looked_for = 0.0

    @property
    def open(self) -> bool:
        """Whether it has no end."""
        return self.state.phase is not Phase.ENDED

    @property
    def who(self) -> str:
        """For whom it counts."""
        return str(records.session_of(self.record).get("who", ""))

"""What a leg saw and measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.carrier.heard import MediaReport

MAX_LADDER = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One SIP message. ``at`` in seconds since the epoch; ``sdp`` its direction or ``port0``."""

    at: float
    direction: str  # "sent" | "received"
    first_line: str
    call_id: str
    cseq: str
    sdp: str | None = None


@dataclass(slots=True, kw_only=True)
class LegReport:
    """The result of a leg; ``failed`` is None when everything went as the script says."""

    number: str
    call_id: str
    dialled: bool
    failed: str | None = None
    violations: list[str] = field(default_factory=list)
    status: int | None = None  # of the INVITE, the final one when there is one
    answered: bool = False
    ended_by: str | None = None  # "us" | "them"
    cancelled: bool = False
    cause: int | None = None  # Q.850 of the far end's BYE or CANCEL
    setup_seconds: float | None = None
    steps_done: int = 0
    info_digits: str = ""
    challenges: int = 0  # that we sent
    ladder: list[Seen] = field(default_factory=list)
    media: MediaReport = field(default_factory=MediaReport)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return self.failed is None

    def see(self, seen: Seen) -> None:
        """Add a message to the ladder."""
        if len(self.ladder) < MAX_LADDER:
            self.ladder.append(seen)

"""The published events: what the room, the journal and every listener are told.

Contract, section 4. A leaf: nothing of ours is imported here. An event is
immutable, numbered per call without a gap, and serialised the same way for
everyone, so that a listener may compare bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar

VERSION = 1


def rfc3339(wall: float) -> str:
    """Return *wall* (seconds since the epoch) as RFC 3339, UTC, milliseconds."""
    stamp = datetime.fromtimestamp(wall, UTC)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{stamp.microsecond // 1000:03d}Z"


def epoch(stamp: Any) -> float | None:
    """Return an RFC 3339 time as seconds since the epoch; None for none."""
    if isinstance(stamp, int | float):
        return float(stamp)
    if not isinstance(stamp, str) or not stamp:
        return None
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent:
    """What every event carries. ``at`` is wall time in seconds."""

    name: ClassVar[str] = ""

    call_id: str
    seq: int
    at: float

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of contract 4."""
        document: dict[str, Any] = {
            "event": self.name,
            "version": VERSION,
            "call_id": self.call_id,
            "seq": self.seq,
            "at": rfc3339(self.at),
        }
        for field in fields(self):
            if field.name not in ("call_id", "seq", "at"):
                document[field.name] = getattr(self, field.name)
        return document

    def encode(self) -> bytes:
        """Return the UTF-8 JSON that travels in the room's data message."""
        return json.dumps(self.as_dict(), separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRinging(CallEvent):
    """The first 18x came, or we sent our 180."""

    name: ClassVar[str] = "call_ringing"
    early_media: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswered(CallEvent):
    """Both sides agreed and media can flow; before any audio passes."""

    name: ClassVar[str] = "call_answered"
    codec: str
    ring_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallHold(CallEvent):
    """The far end put us on hold."""

    name: ClassVar[str] = "call_hold"
    direction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResume(CallEvent):
    """The far end took us off hold."""

    name: ClassVar[str] = "call_resume"
    held_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDtmf(CallEvent):
    """The far end pressed a key."""

    name: ClassVar[str] = "call_dtmf"
    digit: str
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTransfer(CallEvent):
    """A transfer made progress."""

    name: ClassVar[str] = "call_transfer"
    to: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded(CallEvent):
    """The last event of every call."""

    name: ClassVar[str] = "call_ended"
    outcome: str
    reason: str
    ended_by: str
    sip_status: int | None
    q850: int | None
    duration_ms: int


EVENT_TYPES: dict[str, type[CallEvent]] = {
    cls.name: cls
    for cls in (
        CallRinging,
        CallAnswered,
        CallHold,
        CallResume,
        CallDtmf,
        CallTransfer,
        CallEnded,
    )
}


def from_dict(document: dict[str, Any]) -> CallEvent:
    """Return the event that *document* (as made by `CallEvent.as_dict`) describes.

    Raises ``KeyError`` for an unknown event and ``TypeError`` for wrong fields.
    """
    values = {k: v for k, v in document.items() if k not in ("event", "version", "at")}
    at = datetime.fromisoformat(document["at"]).timestamp()
    return EVENT_TYPES[document["event"]](at=at, **values)

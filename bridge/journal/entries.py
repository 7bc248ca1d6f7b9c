"""What is written to the journal, and what is read of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bridge.call.idempotency import Claim
from bridge.errors import BridgeError

LoggedEvent = tuple[int, str, int, str]
"""An event as it is written: position, call, seq, the JSON object as text."""


class JournalError(BridgeError):
    """The journal could not be opened, read or written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change of one call, written as a whole.

    ``event`` is the published event's JSON object (contract 4), None when only the
    record changed; ``record`` the call's resource after it; ``private`` what is kept with
    it and shown to nobody (None: as it was); ``snapshot`` what a restart needs (design,
    seam 6), which nobody needs of a call that has ended; ``claim`` the Idempotency-Key the
    call was made by.
    What is not ``lasting`` survives a crash of the process at once, like everything, but a
    power cut only once something lasting was written after it: it waits for no disk.
    """

    call_id: str
    created_at: float
    event: dict[str, Any] | None
    record: dict[str, Any]
    private: Mapping[str, Any] | None = None
    ended: bool = False
    snapshot: dict[str, Any] | None = None
    claim: Claim | None = None
    lasting: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """A call without an end in the journal, as found at a start."""

    call_id: str
    created_at: float
    record: dict[str, Any]
    private: dict[str, Any]
    snapshot: dict[str, Any] | None
    last_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """How far a reader has come: the last event and fact it has seen.

    ``changed`` is the last record without an event.
    """

    changed: int = 0
    event: int = 0
    fact: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRecord:
    """A call's record as it is now. ``record`` and ``private`` are JSON objects as text.

    ``revision`` is larger whenever the record has changed since it was read before.
    """

    call_id: str
    revision: int
    instance: str
    record: str
    private: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenEvent:
    """An event, with its call's record as it is now (not as it was then)."""

    position: int
    call_id: str
    seq: int
    body: str
    record: str
    private: str
    instance: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFact:
    """A fact, with its call's record as it is now; ``{}`` when the call is not ours."""

    position: int
    call_id: str
    kind: str
    body: str
    record: str
    private: str


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a reader has not seen, as of one moment; ``complete`` when that is all."""

    records: Sequence[ChangedRecord]
    events: Sequence[WrittenEvent]
    facts: Sequence[WrittenFact]
    marks: Marks
    complete: bool

    def __len__(self) -> int:
        return len(self.records) + len(self.events) + len(self.facts)


_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def dump(value: Any) -> str:
    """Return *value* as JSON. Raises ``TypeError`` or ``ValueError`` when it is none."""
    text = _encode(value)
    text.encode()  # half a surrogate pair fails here, not in the middle of a transaction
    return text

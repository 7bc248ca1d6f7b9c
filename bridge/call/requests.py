"""What doors ask of the call service, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import BridgeError


@dataclass(frozen=True, slots=True, kw_only=True)
class DialRequest:
    """An outbound call as asked for. None: the workflow's, else the trunk's value.

    Times are seconds. ``phone_number`` is what the caller of the API wrote. ``passthrough``: no
    agent, a person in the room speaks. ``record`` None: whatever ``[recording] url`` says, of who
    has no word for it. ``tenant`` is that of the key it was asked with.
    """

    phone_number: str
    workflow_slug: str | None = None
    trunk: str | None = None
    agent: str | None = None
    room: str | None = None
    caller_id: str | None = None
    ring_timeout: float | None = None
    max_duration: float | None = None
    early_media: bool = False
    passthrough: bool = False
    record: bool | None = False
    webhook_url: str | None = None
    tenant: str | None = None
    user_id: str | None = None
    user_context: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The answer of contract 6 to ``POST /api/v1/calls``."""

    call_id: str
    room_name: str
    url: str
    token: str
    status: str


Admit = Callable[[], None]
"""Has a word before a call is made for somebody, and counts it. Raises `OverLimit`."""


def anybody() -> None:
    """Whoever asks may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the configuration calls things, for doors that are told names.

    ``workflows``: a workflow's id and its slug, each to the slug; ``agents``: slug to agent;
    ``profiles``: trunk to profile; ``phrases``: what a SIP status says.
    """

    workflows: Mapping[str, str]
    agents: Mapping[str, str]
    profiles: Mapping[str, str]
    phrases: Mapping[int, str]


class BadRequest(BridgeError):
    """The request cannot be served as written; names the field."""

    def __init__(self, field_name: str, text: str) -> None:
        super().__init__(f"{field_name}: {text}")
        self.field = field_name
        self.text = text


class OverLimit(BridgeError):
    """A limit of ours is reached; try again after ``retry_after`` seconds."""

    def __init__(self, text: str, *, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Unavailable(BridgeError):
    """No new calls now: draining, full, or without a journal.

    Try again after ``retry_after`` seconds.
    """

    def __init__(self, text: str, *, retry_after: int = 5) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class WrongState(BridgeError):
    """The call's state forbids it."""


class NotAllowed(BridgeError):
    """The configuration forbids it."""


class NotDone(BridgeError):
    """The far end did not do what it was asked for; nothing changed."""


class BadConfiguration(BridgeError):
    """The configuration cannot be taken; nothing changed. ``lines``: one per error."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)

"""What doors ask of the sessions, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from bridge.call.requests import Accepted
from bridge.errors import BridgeError

if TYPE_CHECKING:  # for those who may know calls and rooms; the API may not
    from bridge.call.record import CallRecord
    from bridge.sessions.state import Input


class Kind(StrEnum):
    """Which door a session came by; it decides which webhooks tell of it."""

    VOICE_SESSION = "voice_session"  # seed 004
    WEB_CALL = "web_call"  # seeds 000, 001 and 003
    PHONE_CALL = "phone_call"  # no session of ours, but one of its plan's


NEEDED: frozenset[str] = frozenset(("stt", "tts", "llm"))
"""What a key must be allowed to create a voice session with (seed 004)."""


NO_PLAN: Final = ""
"""The plan of who has none and needs none: the program that has the bridge inside.

Neither a key nor a token can have a plan of this name.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks: a key's facts. ``name`` stands in for a tenant where there is none."""

    name: str = ""
    tenant: str | None = None
    plan: str = "enterprise"
    permissions: frozenset[str] = NEEDED
    credit: float = 0.0

    @property
    def counts_for(self) -> str:
        """Whose calls theirs are, where a plan counts them."""
        return self.tenant or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """A web call as asked for. None: the workflow's, else the configured value.

    ``max_duration`` is in seconds and runs from the moment the user joins. ``config`` is a
    voice session's, which the agent gets in its job metadata. ``metadata`` None: none was
    given, which is told apart from an empty one. ``workflow_slug`` may be the
    workflow's id. ``room`` None: a name of its own.
    """

    kind: Kind
    agent: str | None = None
    workflow_slug: str | None = None
    user_id: str | None = None
    user_context: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    room: str | None = None
    max_duration: float | None = None
    webhook_url: str | None = None
    bot_id: str | None = None
    config: Mapping[str, Any] | None = field(default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A session that was accepted: its record, and what its user joins with."""

    record: CallRecord
    url: str
    token: str

    @property
    def accepted(self) -> Accepted:
        """The answer of contract 6 to ``POST /api/v1/calls``."""
        return Accepted(
            call_id=self.record.id,
            room_name=self.record.room_name,
            url=self.url,
            token=self.token,
            status=self.record.status,
        )


class NoCredit(BridgeError):
    """The key's credit is below its plan's minimum (402)."""


class Forged(BridgeError):
    """A webhook that our LiveKit has not signed, or that is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomNews:
    """Something happened in *room*. ``what`` None: nothing that a session asks for.

    ``began``: somebody is in the room now, or may be at any moment.
    """

    room: str
    what: Input | None
    began: bool = False

"""What may be asked for, as types: the fields of the daemon's bodies and queries.

An option that is None is left out, as if it had not been given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

Status = Literal[
    "pending", "connecting", "active", "completed", "failed", "disconnected", "timeout"
]
"""Of a call (seed 003)."""

SessionStatus = Literal["created", "active", "completed", "failed", "timeout"]
"""Of a voice session (seed 004)."""


class CallOptions(TypedDict, total=False):
    """What phone calls and web calls have in common. ``max_duration`` in seconds."""

    workflow_slug: str | None
    agent: str | None
    room: str | None
    user_id: str | None
    user_context: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    max_duration: float | None
    webhook_url: str | None


class DialOptions(CallOptions, total=False):
    """Of a phone call. ``ring_timeout`` in seconds."""

    trunk: str | None
    caller_id: str | None
    ring_timeout: float | None
    early_media: bool | None
    record: bool | None


class CallQuery(TypedDict, total=False):
    """Which calls; times are RFC 3339, their ends excluded."""

    status: Status | str | None
    workflow_id: str | None
    user_id: str | None
    started_after: str | None
    started_before: str | None
    direction: Literal["inbound", "outbound"] | None
    call_type: Literal["voip", "sip"] | None


class SessionOptions(TypedDict, total=False):
    """Of a voice session."""

    bot_id: str | None
    system_prompt: str | None
    voice: str | None
    language: str | None
    llm_model: str | None
    tts_provider: Literal["sarvam"] | None
    max_duration_seconds: int | None
    webhook_url: str | None
    metadata: Mapping[str, Any] | None


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}

"""A session as seed 004 shows it (``VoiceSessionOut``), of a call's record. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

SESSION: Final = "session"
"""Where a call's private part has what only sessions have."""

STATUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "created": ("pending", "connecting"),
    "active": ("active",),
    "completed": ("completed",),
    "failed": ("failed", "disconnected"),
    "timeout": ("timeout",),
}
"""Seed 004's statuses, and the calls' that they mean (contract 6)."""

_STATUS: Final = {call: session for session, calls in STATUSES.items() for call in calls}


def status_of(record: Mapping[str, Any]) -> str:
    """Return the session's status of a call's resource."""
    return _STATUS[str(record["status"])]


def end_reason(record: Mapping[str, Any]) -> str | None:
    """Return seed 004's ``end_reason`` of a call's resource; None while it lasts."""
    if record.get("ended_at") is None:
        return None
    if record.get("reason") in ("api_delete", "api_hangup"):
        return "api_delete"
    if record.get("reason") == "max_duration":
        return "max_duration"
    return "completed" if record.get("status") == "completed" else "error"


def session_shape(
    record: Mapping[str, Any],
    private: Mapping[str, Any],
    *,
    turn_count: int = 0,
    now: float | None = None,
) -> dict[str, Any]:
    """Return the public session of a call's resource and what is private of it.

    *now* (wall seconds) is for what still grows; without it that is None.
    """
    kept = private.get(SESSION)
    session: Mapping[str, Any] = kept if isinstance(kept, Mapping) else {}
    return {
        "id": record["id"],
        "tenant_id": record.get("tenant_id"),
        "bot_id": session.get("bot_id"),
        "status": status_of(record),
        "config": _config(record, session),
        "started_at": record.get("started_at"),
        "ended_at": record.get("ended_at"),
        "duration_seconds": record.get("duration_seconds"),
        "turn_count": turn_count,
        "total_audio_seconds": _audio_seconds(record, now),
        "end_reason": end_reason(record),
        "metadata": session.get("metadata", record.get("metadata") or None),
        "created_at": record.get("created_at"),
    }


def with_token(session: Mapping[str, Any], url: str, token: str) -> dict[str, Any]:
    """Return *session* with what is told at its creation only."""
    shown: dict[str, Any] = {}
    for name, value in session.items():
        shown[name] = value
        if name == "config":
            shown |= {"ws_url": url, "token": token}
    return shown


def _config(record: Mapping[str, Any], session: Mapping[str, Any]) -> dict[str, Any]:
    config = dict(session.get("config") or {})
    if "max_duration_seconds" not in config and session.get("max_duration") is not None:
        config["max_duration_seconds"] = round(session["max_duration"])
    config["livekit_room"] = record.get("room_name")
    return config


def _audio_seconds(record: Mapping[str, Any], now: float | None) -> float | None:
    """Return for how long sound could flow: what an agent measured, else since the user joined."""
    measured = (record.get("metrics") or {}).get("total_audio_seconds")
    if isinstance(measured, int | float) and not isinstance(measured, bool):
        return measured
    if record.get("started_at") is None:
        return 0
    if record.get("ended_at") is not None:
        duration: int | None = record.get("duration_seconds")
        return duration
    if now is None:
        return None
    return max(0, round(now - datetime.fromisoformat(record["started_at"]).timestamp()))

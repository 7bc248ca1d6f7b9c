"""The record of a web call: made, read back after a restart, and what an agent is told of it.

A session is a call record (contract 6, one record per room) of the type ``voip``; what
only sessions have lies in its ``private["session"]``.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Final

from bridge.call.plan import Direction
from bridge.call.record import CallRecord, workflow_id
from bridge.events import CallAnswered, epoch
from bridge.room import convention
from bridge.sessions.requests import Kind, SessionRequest
from bridge.sessions.shape import SESSION, end_reason

CALL_TYPE: Final = "voip"
CODEC: Final = "opus"
_VOICE: Final = "voice-"

_STAMPS: Final = ("created_at", "started_at", "ended_at")
_KNOWN: Final = tuple(one.name for one in fields(CallRecord) if one.name != "private")


def session_record(
    request: SessionRequest,
    *,
    call_id: str,
    room: str,
    agent: str,
    metadata: Mapping[str, Any],
    tenant: str | None,
    who: str,
    max_duration: float,
    own_room: bool,
    created_at: float,
) -> CallRecord:
    """Return the record of a session that was accepted and that nobody has joined.

    *metadata* is the workflow's with the request's; *who* it counts for, by tenant or by the
    key's name; *own_room*: the room is ours to delete.
    """
    session: dict[str, Any] = {
        "kind": request.kind.value,
        "bot_id": request.bot_id,
        "config": None if request.config is None else dict(request.config),
        "metadata": None if request.metadata is None else dict(request.metadata),
        "who": who,
        "max_duration": max_duration,
        "own_room": own_room,
        "end_reason": None,
    }
    private: dict[str, Any] = {SESSION: session}
    if request.webhook_url is not None:
        private["webhook_url"] = request.webhook_url
    slug = request.workflow_slug
    return CallRecord(
        id=call_id,
        workflow_id=workflow_id(slug) if slug else None,
        workflow_slug=slug,
        user_id=request.user_id,
        status="pending",
        direction=Direction.INBOUND.value,
        call_type=CALL_TYPE,
        phone_number=None,
        trunk_number=None,
        trunk="",
        agent=agent or None,
        room_name=room,
        user_context=dict(request.user_context or {}),
        metadata=dict(metadata),
        tenant_id=tenant,
        created_at=created_at,
        private=private,
    )


def is_session(record: Mapping[str, Any], private: Mapping[str, Any] | None) -> bool:
    """Whether a call's stored record is one of ours."""
    return record.get("call_type") == CALL_TYPE and isinstance((private or {}).get(SESSION), dict)


def read_back(
    record: Mapping[str, Any], private: Mapping[str, Any], created_at: float
) -> CallRecord:
    """Return the record that *record*, as `CallRecord.as_dict` made it, describes."""
    values = {name: record[name] for name in _KNOWN if name in record}
    for name in _STAMPS:
        values[name] = epoch(values.get(name))
    values["created_at"] = created_at
    values["agent_history"] = tuple(values.get("agent_history") or ())
    values["trunk"] = values.get("trunk") or ""
    return CallRecord(**values, private=dict(private))


def session_of(record: CallRecord) -> dict[str, Any]:
    """Return what only sessions have."""
    found: dict[str, Any] = record.private[SESSION]
    return found


def identity_of(record: CallRecord) -> str:
    """Return what the session's user is called in the room."""
    return record.user_id or f"user-{record.id[:8]}"


def own_name(kind: Kind, call_id: str) -> str:
    """Return the name of a session's own room; seed 004's and seed 003's."""
    return f"{_VOICE}{secrets.token_hex(8)}" if kind is Kind.VOICE_SESSION else f"call-{call_id}"


def is_own_name(record: CallRecord) -> bool:
    """Whether the room is called as only we call one, not as somebody asked."""
    room = record.room_name
    return room == f"call-{record.id}" or (is_voice_session(record) and room.startswith(_VOICE))


def answered_event(record: CallRecord, at: float) -> CallAnswered:
    """Return the event of the user's arrival."""
    waited = max(0, round((at - record.created_at) * 1000))
    return CallAnswered(call_id=record.id, seq=record.seq + 1, at=at, codec=CODEC, ring_ms=waited)


def with_end_reason(record: CallRecord) -> CallRecord:
    """Return an ended *record* with seed 004's word for its end."""
    session = {**session_of(record), "end_reason": end_reason(record.as_dict())}
    return replace(record, private={**record.private, SESSION: session})


def duration_ms(record: CallRecord, at: float) -> int:
    """Return how long the session was, at its end *at*; 0 when nobody had joined."""
    return 0 if record.started_at is None else max(0, round((at - record.started_at) * 1000))


def job_of(record: CallRecord, profile: str = "") -> str:
    """Return the job metadata of the session's agent. Raises ``ValueError`` when it is too long."""
    session = session_of(record)
    config = session["config"]
    if config is not None and session["bot_id"] is not None:
        config = {**config, "bot_id": session["bot_id"]}
    return convention.job_metadata(
        convention.Job(
            call_id=record.id,
            direction=convention.Direction(record.direction),
            call_type=CALL_TYPE,
            profile=profile,
            workflow_slug=record.workflow_slug,
            user_id=record.user_id,
            user_context=record.user_context or None,
            metadata=record.metadata,
            config=config,
        )
    )


def is_voice_session(record: CallRecord) -> bool:
    """Whether it was asked for as a voice session (seed 004)."""
    return bool(session_of(record)["kind"] == Kind.VOICE_SESSION.value)

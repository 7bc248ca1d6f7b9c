"""Calls as tests write them into a journal."""

from __future__ import annotations

from typing import Any

from bridge.events import rfc3339
from bridge.journal.entries import Entry

AT = 1_780_000_000.0


def record(call_id: str, *, seq: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a call's resource."""
    return {
        "id": call_id,
        "workflow_id": None,
        "workflow_slug": None,
        "user_id": None,
        "status": "pending",
        "direction": "outbound",
        "call_type": "sip",
        "phone_number": "+919876543210",
        "trunk_number": "+914400000000",
        "trunk": "exotel",
        "agent": "support",
        "room_name": f"call-{call_id}",
        "user_context": {"name": "Jane"},
        "metadata": {"order": "17"},
        "agent_history": [],
        "current_agent": None,
        "metrics": None,
        "tenant_id": None,
        "outcome": None,
        "seq": seq,
        "created_at": rfc3339(AT),
        "started_at": None,
        "ended_at": None,
        **changes,
    }


def event(call_id: str, seq: int, name: str = "call_ringing", **more: Any) -> dict[str, Any]:
    """Return an event's JSON object."""
    at = rfc3339(AT + seq)
    return {"event": name, "version": 1, "call_id": call_id, "seq": seq, "at": at, **more}


def entry(
    call_id: str,
    seq: int = 0,
    *,
    name: str = "call_ringing",
    ended: bool = False,
    private: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    lasting: bool = True,
    **changes: Any,
) -> Entry:
    """Return an entry: with its event, unless *seq* is 0; *more* are the event's fields."""
    if ended:
        changes = {"status": "completed", "ended_at": rfc3339(AT + seq), **changes}
    return Entry(
        call_id=call_id,
        created_at=AT,
        event=event(call_id, seq, name, **(more or {})) if seq else None,
        record=record(call_id, seq=seq, **changes),
        private=private,
        ended=ended,
        lasting=lasting,
    )

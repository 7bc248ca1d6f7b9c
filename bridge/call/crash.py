"""The end of a call that a crash left open: ``dropped/crash`` (contract 5). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bridge.call.outcome import EndedBy, Result, status_of
from bridge.events import CallEnded, rfc3339


def end_after_crash(
    record: Mapping[str, Any], *, call_id: str, seq: int, wall: float
) -> tuple[CallEnded, dict[str, Any]]:
    """Return the event number *seq* and the record after it.

    *record* is the call's JSON object as the journal has it. The duration runs to
    *wall*, the time of the restart: nobody knows when the other side gave up.
    """
    started = record.get("started_at")
    duration_ms = 0
    if isinstance(started, str):
        duration_ms = max(0, round((wall - datetime.fromisoformat(started).timestamp()) * 1000))
    event = CallEnded(
        call_id=call_id,
        seq=seq,
        at=wall,
        outcome=Result.DROPPED.value,
        reason="crash",
        ended_by=EndedBy.BRIDGE.value,
        sip_status=None,
        q850=None,
        duration_ms=duration_ms,
    )
    after = {
        **record,
        "status": status_of(Result.DROPPED, event.reason),
        "hold": False,
        "outcome": event.outcome,
        "reason": event.reason,
        "ended_by": event.ended_by,
        "duration_ms": duration_ms if started else None,
        "duration_seconds": round(duration_ms / 1000) if started else None,
        "seq": seq,
        "ended_at": rfc3339(wall),
    }
    return event, after

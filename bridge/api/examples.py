"""What the answers look like, for ``/openapi.json``."""

from __future__ import annotations

from typing import Any, Final

_CALL_ID: Final = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11"

Responses = dict[int | str, dict[str, Any]]


def _json(example: Any, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": example}}}


def problem_of(detail: str, status: int = 422, title: str = "Unprocessable Content") -> Any:
    """Return an error's description."""
    example: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if status == 422:
        line = "trunkbridge.toml:trunk[0].port: 0: input should be greater than or equal to 1"
        example["errors"] = [{"field": "trunk[0].port", "message": line}]
    return {
        "description": detail,
        "content": {"application/problem+json": {"example": example}},
    }


_UNKNOWN: Final[Responses] = {404: problem_of("no such call", 404, "Not Found")}

_HOLD: Final = {
    "event": "call_hold",
    "version": 1,
    "call_id": _CALL_ID,
    "seq": 3,
    "at": "2026-11-21T10:30:07.250Z",
    "direction": "sendonly",
}
_CALL: Final[dict[str, Any]] = {
    "id": _CALL_ID,
    "workflow_id": None,
    "workflow_slug": None,
    "user_id": "user-123",
    "status": "active",
    "direction": "outbound",
    "call_type": "sip",
    "phone_number": "+919876543210",
    "trunk_number": "+918047361000",
    "trunk": "exotel-mumbai",
    "agent": "support",
    "room_name": f"call-{_CALL_ID}",
    "user_context": {},
    "metadata": {},
    "agent_history": [],
    "current_agent": None,
    "metrics": None,
    "hold": True,
    "outcome": None,
    "reason": None,
    "ended_by": None,
    "sip_status": None,
    "q850": None,
    "duration_ms": None,
    "carrier_ids": {"x-exotel-callsid": "b7f0c1d2"},
    "seq": 3,
    "created_at": "2026-11-21T10:29:55.000Z",
    "started_at": "2026-11-21T10:30:00.120Z",
    "ended_at": None,
    "duration_seconds": None,
}
_RUNGS: Final = [
    {
        "at": "2026-11-21T10:29:55.020Z",
        "direction": "out",
        "first_line": "INVITE sip:***@pstn.in1.exotel.com SIP/2.0",
        "sdp_direction": "sendrecv",
        "transport": "tcp",
        "peer": "192.0.2.10",
    },
    {
        "at": "2026-11-21T10:30:00.110Z",
        "direction": "in",
        "first_line": "SIP/2.0 200 OK",
        "sdp_direction": "sendrecv",
        "transport": "tcp",
        "peer": "192.0.2.10",
    },
]
_STREAM: Final = (
    "id: 2\nretry: 1000\n\n"
    'event: call_hold\ndata: {"event":"call_hold","version":1,"call_id":"'
    + _CALL_ID
    + '","seq":3,"at":"2026-11-21T10:30:07.250Z","direction":"sendonly"}\nid: 3\n\n'
)


def _both(events: list[Any]) -> dict[str, Any]:
    content = {
        "application/json": {"example": events},
        "text/event-stream": {"schema": {"type": "string"}, "example": _STREAM},
    }
    return {"description": "The events, in order", "content": content}


_FULL: Final[Responses] = {
    503: problem_of("1000 event streams are open, no more", 503, "Service Unavailable")
}

CALL: Final[Responses] = {200: _json(_CALL, "The call"), **_UNKNOWN}
CALLS: Final[Responses] = {200: _json([_CALL], "The calls")}
PAGE: Final[Responses] = {
    200: _json(
        {"items": [_CALL], "total": 1, "page": 1, "page_size": 20, "pages": 1},
        "One page of calls, newest first",
    )
}
LADDER: Final[Responses] = {200: _json(_RUNGS, "The messages, in order"), **_UNKNOWN}
EVENTS: Final[Responses] = {
    200: _both([_HOLD]),
    204: {"description": "The last event was seen already"},
    **_UNKNOWN,
    **_FULL,
}
ALL_EVENTS: Final[Responses] = {200: _both([_HOLD]), **_FULL}
ACCEPTED: Final[Responses] = {202: _json({"call_id": _CALL_ID}, "Accepted"), **_UNKNOWN}
CONTROLLED: Final[Responses] = {
    **ACCEPTED,
    409: problem_of("the call is not answered", 409, "Conflict"),
    502: problem_of("the far end did not agree, nothing changed", 502, "Bad Gateway"),
}
TRANSFERRED: Final[Responses] = {
    **CONTROLLED,
    403: problem_of("the trunk's transfer_allow does not allow this target", 403, "Forbidden"),
}
DRAINING: Final[Responses] = {202: _json({"status": "draining", "calls": 3}, "Draining")}
CHANGES: Final[Responses] = {
    200: _json(
        {"changed": ["trunk[exotel-mumbai].max_calls: 100 -> 50"], "restart": []},
        "What is different now",
    )
}

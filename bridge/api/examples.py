"""What is asked and answered looks like this: the examples of ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Body, Path

from bridge.api import resources

_CALL_ID: Final = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11"

Responses = dict[int | str, dict[str, Any]]

CallIdPath = Annotated[
    str,
    Path(
        description="A call's id; what is no id is no call.",
        max_length=64,
        examples=[_CALL_ID],
        json_schema_extra={"format": "uuid"},
    ),
]


def json_of(example: Any, description: str, model: Any = None) -> dict[str, Any]:
    """Return an answer's description, with what it looks like."""
    found: dict[str, Any] = {
        "description": description,
        "content": {"application/json": {"example": example}},
    }
    if model is not None:
        found["model"] = model
    return found


def problem_of(
    detail: str,
    status: int = 422,
    title: str = "Unprocessable Content",
    *,
    wrong: Mapping[str, str] | None = None,
) -> Any:
    """Return an error's description; *wrong* are its fields and what is said of them."""
    example: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if wrong:
        example["errors"] = [{"field": key, "message": text} for key, text in wrong.items()]
    content = {"schema": PROBLEM_SCHEMA, "example": example}
    return {"description": detail, "content": {"application/problem+json": content}}


def refusal_of(detail: str) -> dict[str, Any]:
    """Return an error's description, whose example `description.complete` makes."""
    return {"description": detail, "content": {"application/problem+json": {}}}


PROBLEM_SCHEMA: Final = {"$ref": "#/components/schemas/Problem"}

_UNKNOWN: Final[Responses] = {404: problem_of("no such call", 404, "Not Found")}
_AWAY: Final = problem_of("the store cannot be read", 503, "Service Unavailable")

_HOLD: Final = {
    "event": "call_hold",
    "version": 1,
    "call_id": _CALL_ID,
    "seq": 3,
    "at": "2026-11-21T10:30:07.250Z",
    "direction": "sendonly",
}
_METRICS: Final = {
    "duration_seconds": 180,
    "stt_latency_ms": 120,
    "llm_latency_ms": 280,
    "tts_latency_ms": 85,
    "total_tokens": 1500,
    "agent_handoffs": 2,
}
_CALL: Final[dict[str, Any]] = {
    "id": _CALL_ID,
    "workflow_id": "4c2b5a0e-7a9d-5a1c-9c53-1d2a6f0b9e7e",
    "workflow_slug": "welcome-call",
    "user_id": "user-456",
    "status": "completed",
    "direction": "outbound",
    "call_type": "sip",
    "phone_number": "+919876543210",
    "trunk_number": "+918047361000",
    "trunk": "exotel-mumbai",
    "agent": "greeter-agent",
    "room_name": f"call-{_CALL_ID}",
    "user_context": {"name": "Jane Smith", "onboarding_status": "new"},
    "metadata": {},
    "agent_history": ["greeter-agent", "meal-agent", "feedback-agent"],
    "current_agent": None,
    "metrics": _METRICS,
    "tenant_id": "0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d",
    "hold": False,
    "outcome": "completed",
    "reason": "hangup",
    "ended_by": "callee",
    "sip_status": 200,
    "q850": 16,
    "duration_ms": 180250,
    "carrier_ids": {"x-exotel-callsid": "b7f0c1d2"},
    "media_engine": "direct",
    "media_engine_reason": None,
    "seq": 3,
    "created_at": "2026-01-17T10:29:55.000Z",
    "started_at": "2026-01-17T10:30:00.000Z",
    "ended_at": "2026-01-17T10:33:00.250Z",
    "duration_seconds": 180,
}
_RUNNING: Final[dict[str, Any]] = {
    **_CALL,
    "status": "active",
    "current_agent": "meal-agent",
    "metrics": None,
    "outcome": None,
    "reason": None,
    "ended_by": None,
    "sip_status": None,
    "q850": None,
    "duration_ms": None,
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
    schema = {"type": "array", "items": {"$ref": "#/components/schemas/CallEventDocument"}}
    content = {
        "application/json": {"schema": schema, "example": events},
        "text/event-stream": {"schema": {"type": "string"}, "example": _STREAM},
    }
    return {"description": "The events, in order", "content": content}


_FULL: Final[Responses] = {
    503: problem_of("1000 event streams are open, no more", 503, "Service Unavailable")
}
_ACCEPTED: Final = {
    "call_id": _CALL_ID,
    "room_name": f"call-{_CALL_ID}",
    "url": "wss://livekit.example.com",
    "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...",
    "status": "pending",
}

# Bodies.

_SIP_CALL: Final = {
    "workflow_slug": "welcome-call",
    "user_id": "user-456",
    "call_type": "sip",
    "phone_number": "+919876543210",
    "user_context": {"name": "Jane Smith", "onboarding_status": "new"},
}
_BARE_CALL: Final = {"phone_number": "+919876543210", "agent": "support"}
_VOIP_CALL: Final = {
    "workflow_slug": "daily-call",
    "user_id": "user-123",
    "call_type": "voip",
    "user_context": {"name": "John Doe", "language": "en"},
    "metadata": {"session_id": "abc123", "source": "mobile-app"},
}


def _body(**examples: Any) -> Any:
    return Body(openapi_examples={name: {"value": one} for name, one in examples.items()})


CREATE: Final = _body(sip=_SIP_CALL, voip=_VOIP_CALL, number_and_agent=_BARE_CALL)
CREATE_SIP: Final = _body(sip=_SIP_CALL, number_and_agent=_BARE_CALL)
DTMF: Final = _body(keys={"digits": "12w#"})
TRANSFER: Final = _body(number={"to": "+918045678900"}, other_call={"to": f"call:{_CALL_ID}"})

# Answers.

CREATED: Final[Responses] = {
    201: json_of(_ACCEPTED, "The call runs"),
    429: problem_of("max_calls of trunk 'exotel-mumbai' is reached", 429, "Too Many Requests"),
    503: problem_of("draining: no new calls", 503, "Service Unavailable"),
}
CALL: Final[Responses] = {
    200: json_of(_CALL, "The call", resources.CallResource),
    503: _AWAY,
    **_UNKNOWN,
}
CALLS: Final[Responses] = {
    200: json_of([_RUNNING], "The calls", list[resources.CallResource]),
    503: _AWAY,
}
PAGE: Final[Responses] = {
    200: json_of(
        {"items": [_CALL], "total": 100, "page": 1, "page_size": 20, "pages": 5},
        "One page of calls, newest first",
        resources.CallPage,
    ),
    503: _AWAY,
}
METRICS: Final[Responses] = {
    200: json_of(_METRICS, "What was measured", resources.CallMetrics),
    503: _AWAY,
    **_UNKNOWN,
}
LADDER: Final[Responses] = {
    200: json_of(_RUNGS, "The messages, in order", list[resources.Rung]),
    503: _AWAY,
    **_UNKNOWN,
}
_SOUND: Final[dict[str, Any]] = {
    "audio/ogg": {"schema": {"type": "string", "format": "binary"}, "example": "OggS…"},
    "audio/wav": {"schema": {"type": "string", "format": "binary"}, "example": "RIFF…"},
}
RECORDING: Final[Responses] = {
    200: {"description": "The file", "content": _SOUND},
    206: {"description": "The part that `Range` asks for", "content": _SOUND},
    304: {"description": "`If-None-Match` names it: it is the same"},
    404: problem_of("the call was not recorded", 404, "Not Found"),
    409: problem_of("the call runs, its recording is there when it is over", 409, "Conflict"),
    416: problem_of("the recording has 4711 octets", 416, "Range Not Satisfiable"),
    503: _AWAY,
}
ANALYSIS: Final[Responses] = {
    200: json_of(
        {
            "summary": "Jane asked for an invoice and was sent one.",
            "sentiment": "positive",
            "topics": ["invoice"],
            "action_items": ["send the invoice of March"],
        },
        "What was made of the conversation",
        resources.Analysis,
    ),
    **_UNKNOWN,
    503: _AWAY,
}
COST: Final[Responses] = {
    200: json_of(
        {
            "total": None,
            "currency": None,
            "breakdown": None,
            "usage": {"duration_seconds": 180, "total_tokens": 1500},
        },
        "What it cost, by provider",
        resources.Cost,
    ),
    **_UNKNOWN,
    503: _AWAY,
}
EVENTS: Final[Responses] = {
    200: _both([_HOLD]),
    204: {"description": "The last event was seen already"},
    **_UNKNOWN,
    **_FULL,
}
ALL_EVENTS: Final[Responses] = {200: _both([_HOLD]), **_FULL}
ACCEPTED: Final[Responses] = {
    202: json_of({"call_id": _CALL_ID}, "Accepted", resources.CallId),
    503: _AWAY,
    **_UNKNOWN,
}
ERASED: Final[Responses] = {
    **ACCEPTED,
    409: problem_of("the call runs, end it first", 409, "Conflict"),
}
CONTROLLED: Final[Responses] = {
    **ACCEPTED,
    409: problem_of("the call is not answered", 409, "Conflict"),
    502: problem_of("the far end did not agree, nothing changed", 502, "Bad Gateway"),
}
TRANSFERRED: Final[Responses] = {
    **CONTROLLED,
    403: problem_of("the trunk's transfer_allow does not allow this target", 403, "Forbidden"),
}
DRAINING: Final[Responses] = {
    202: json_of({"status": "draining", "calls": 3}, "Draining", resources.Draining)
}
CHANGES: Final[Responses] = {
    200: json_of(
        {"changed": ["trunk[exotel-mumbai].max_calls: 100 -> 50"], "restart": []},
        "What is different now",
        resources.Reloaded,
    ),
    422: problem_of(
        "the configuration is wrong, nothing changed",
        wrong={
            "trunk[0].port": "trunkbridge.toml:trunk[0].port: 0: input should be greater than 0"
        },
    ),
}
ALIVE: Final[Responses] = {200: json_of({"status": "alive"}, "The process answers")}
_WHOLE: Final = {"accepting": True, "livekit": True, "journal": True, "store": True}
READY: Final[Responses] = {
    200: json_of(
        {"status": "ready", "accepting": True, "livekit": True, "journal": True, "store": True},
        "Ready",
    ),
    503: json_of(
        {
            "status": "not ready",
            "accepting": False,
            "livekit": True,
            "journal": True,
            "store": True,
        },
        "Not ready for new calls",
    ),
}
SCRAPE: Final[Responses] = {
    200: {
        "description": "The metrics, as text",
        "content": {
            "text/plain": {"schema": {"type": "string"}, "example": "trunkbridge_loop_lag 0.001\n"},
            "application/openmetrics-text": {"schema": {"type": "string"}, "example": "# EOF\n"},
        },
    }
}
TRUNKS: Final = [
    {
        "name": "exotel-mumbai",
        "profile": "exotel",
        "host": "pstn.in1.exotel.com",
        "port": 5070,
        "transport": "tcp",
        "status": "up",
        "calls": {"inbound": 1, "outbound": 4},
        "max_calls": 100,
        "calls_per_second": 3,
        "options_interval": 30,
        "registration": None,
        "last_success": "2026-01-17T10:29:55.000Z",
        "last_failures": [],
    }
]
TRUNKS_ANSWER: Final[Responses] = {200: json_of(TRUNKS, "The trunks, in the order of the file")}

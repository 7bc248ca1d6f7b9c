"""What routes of other parts of the house answer, where they do not say it themselves."""

from __future__ import annotations

from typing import Any, Final

from bridge.api.envelope import envelope

_CALL: Final = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11"
_TOKEN: Final = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9..."  # noqa: S105 (an example)
_URL: Final = "wss://livekit.example.com"
_WEB_CALL: Final = {
    "call_id": _CALL,
    "room_name": f"call-{_CALL}",
    "url": _URL,
    "token": _TOKEN,
    "status": "pending",
}


ANSWERS: Final[dict[tuple[str, str, str], Any]] = {
    ("post", "/api/v1/calls/test-agent", "201"): _WEB_CALL,
    ("post", "/api/livekit/token", "200"): {
        "token": _TOKEN,
        "url": _URL,
        "room_name": f"call-{_CALL}",
        "session_id": _CALL,
    },
    ("post", "/api/sessions/by-room/{room}/metrics", "201"): {"call_id": _CALL},
    ("post", "/api/v1/webhooks/{delivery}/replay", "202"): {
        "id": "0b9f8d0c-2c1e-5d46-9a53-5d6f0a7c1e22"
    },
    ("post", "/web_call/get_token", "200"): envelope(
        "token issued",
        {
            "room_name": f"call-{_CALL}",
            "agent_dispatch": {"agent_name": "greeter-agent", "room": f"call-{_CALL}"},
            "token": _TOKEN,
        },
    ),
    ("post", "/call/outbound", "202"): envelope(
        "call queued", {"queue_id": _CALL, "status": "queued"}
    ),
    ("post", "/call/outbound_passthrough", "202"): envelope(
        "call queued",
        {
            "queue_id": _CALL,
            "room_name": f"call-{_CALL}",
            "room_token": _TOKEN,
            "room_url": _URL,
            "status": "queued",
        },
    ),
    ("get", "/call/queue/{queue_id}", "200"): envelope(
        "queue status",
        {
            "queue_id": _CALL,
            "status": "dispatched",
            "to_number": "+919876543210",
            "call_service": "exotel",
            "queued_at": "2026-01-17T10:29:55.000Z",
            "dispatched_at": "2026-01-17T10:29:56.000Z",
            "retry_count": 0,
            "last_error": None,
        },
    ),
    ("get", "/call/records", "200"): envelope(
        "call records",
        {
            "records": [],
            "pagination": {"total": 0, "page": 1, "limit": 20, "total_pages": 0},
        },
    ),
}
"""(method, path, status) -> an answer."""

CREATORS: Final = frozenset(
    (
        "/api/v1/calls",
        "/api/v1/calls/test-agent",
        "/api/calls/outbound",
        "/api/livekit/token",
        "/v1/voice/sessions",
        "/web_call/get_token",
        "/call/outbound",
        "/call/outbound_passthrough",
    )
)
"""Where calls are made: a plan or a trunk may allow no more of them."""
"""Before the paths of the older bridge's answers, refusals included."""

"""What the older bridge's routes are asked and answer, for `bridge.api.older`."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from bridge.api.envelope import envelope
from bridge.api.filters import Status
from bridge.api.models import JsonObject, checked_number
from bridge.store.queries import CallFilter, SortBy

NO_ASSISTANT: Final = "no such assistant"
NO_TRUNK: Final = "no such trunk"
WRONG_SERVICE: Final = "call_service is not the trunk's"
_DIALLED: Final = "+919876543210"
_NUMBER: Final = {"type": "string", "pattern": r"^\+?[0-9*#]{1,32}$", "description": "E.164."}
_AN_INSTANT: Final = 1e-6  # seconds: a filter's ends are part of it


# Only looked up: what is not among the names is unknown.
_Name = Annotated[str, Field(min_length=1, max_length=256)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    trunk_id: Annotated[_Name, Field(description="A trunk's name.")]
    to_number: Annotated[
        str, AfterValidator(checked_number), WithJsonSchema(_NUMBER), Field(examples=[_DIALLED])
    ]
    metadata: JsonObject | None = None


class Outbound(_Asked):
    """``POST /call/outbound``"""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "assistant_id": "daily-call",
                    "trunk_id": "exotel-mumbai",
                    "to_number": "+919876543210",
                    "call_service": "exotel",
                }
            ]
        },
    )

    assistant_id: Annotated[_Name, Field(description="A workflow's slug or id.")]
    call_service: Annotated[_Name, Field(description="The trunk's profile: exotel and so on.")]


class Passthrough(_Asked):
    """``POST /call/outbound_passthrough``"""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"trunk_id": "exotel-mumbai", "to_number": "+919876543210"}]
        },
    )


def _day_or_moment(value: object) -> datetime:
    """Return the time of an ISO 8601 day or time; without an offset it is UTC."""
    if isinstance(value, datetime):
        return value
    text = str(value).replace(" ", "+").replace("Z", "+00:00")
    try:
        if len(text) == len("2026-01-17"):
            # The day as a whole; `_edge` tells its beginning from its end.
            return datetime.combine(date.fromisoformat(text), time.max, UTC)
        found = datetime.fromisoformat(text)
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("not a day or time, allowed: 2026-01-17 or RFC 3339") from None


Day = Annotated[
    datetime,
    BeforeValidator(_day_or_moment),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date", "examples": ["2026-01-17"]},
                {"type": "string", "format": "date-time", "examples": ["2026-01-17T10:30:00Z"]},
            ]
        }
    ),
]


def _with_plus(value: object) -> object:
    """Return a number whose ``+`` nobody encoded, so that it arrived as a space."""
    return f"+{value[1:]}" if isinstance(value, str) and value.startswith(" ") else value


class Wanted(BaseModel):
    """``GET /call/records``: which records, in which order, and which page of them."""

    model_config = ConfigDict(extra="forbid")

    passthrough_only: bool = False
    to_number: Annotated[
        str | None,
        BeforeValidator(_with_plus),
        Field(max_length=64, description="The number that was called, as a record shows it."),
    ] = None
    call_status: Status | None = None
    start_date: Annotated[Day | None, Field(description="Begun on this day or later.")] = None
    end_date: Annotated[Day | None, Field(description="Begun on this day or before.")] = None
    sort_by: Literal["created_at", "started_at", "answered_at"] = "created_at"
    sort_order: Literal["asc", "desc"] = "desc"
    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    limit: Annotated[int, Field(ge=1, le=100)] = 20

    def filter(self, tenant: str | None) -> CallFilter:
        """Return what the store is asked."""
        start, end = self.start_date, self.end_date
        if start is not None and start.timetz() == time.max.replace(tzinfo=UTC):
            start = datetime.combine(start.date(), time.min, UTC)
        by: SortBy = "started_at" if self.sort_by == "answered_at" else "created_at"
        return CallFilter(
            tenant=tenant,
            status=self.call_status,
            to_number=self.to_number,
            passthrough=True if self.passthrough_only else None,
            created_after=None if start is None else _seconds(start) - _AN_INSTANT,
            created_before=None if end is None else _seconds(end) + _AN_INSTANT,
            sort_by=by,
            ascending=self.sort_order == "asc",
        )


def _seconds(moment: datetime) -> float:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)


def _said(description: str, example: Any) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"type": "object"}, "example": example}},
    }


def _refused(description: str, data: Any = None) -> dict[str, Any]:
    return _said(description, {"success": False, "message": description, "data": data})


_ID: Final = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11"
_WRONG: Final[dict[int | str, dict[str, Any]]] = {
    422: _refused(
        "to_number: not a phone number",
        {"errors": [{"field": "to_number", "message": "not a phone number"}]},
    )
}
_AWAY: Final[dict[int | str, dict[str, Any]]] = {503: _refused("the store cannot be read")}
QUEUED: Final[dict[int | str, dict[str, Any]]] = {
    202: _said("call queued", envelope("call queued", {"queue_id": _ID, "status": "queued"})),
    400: _refused(WRONG_SERVICE),
    404: _refused(NO_TRUNK),
    429: _refused("1000 calls wait already (queue.size)"),
    503: _refused("draining: no new calls"),
    **_WRONG,
}
NOT_YET: Final[dict[int | str, dict[str, Any]]] = {
    501: _refused("the Twilio flow is not served by this version")
}
STATUS: Final[dict[int | str, dict[str, Any]]] = {
    200: _said(
        "queue status",
        envelope(
            "queue status",
            {
                "queue_id": _ID,
                "status": "pending",
                "to_number": "+919876543210",
                "call_service": "exotel",
                "queued_at": "2026-01-17T10:29:55.000Z",
                "dispatched_at": None,
                "retry_count": 0,
                "last_error": None,
            },
        ),
    ),
    404: _refused("no such call"),
    **_AWAY,
}
RECORDS: Final[dict[int | str, dict[str, Any]]] = {
    200: _said(
        "call records",
        envelope(
            "call records",
            {
                "records": [],
                "pagination": {"total": 0, "page": 1, "limit": 20, "total_pages": 0},
            },
        ),
    ),
    **_WRONG,
    **_AWAY,
}

"""What a list of calls may be asked for (seed 003's filters and paging)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

Status = Literal[
    "pending", "connecting", "active", "completed", "failed", "disconnected", "timeout"
]

_STAMP: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?(?:([Zz])|([ +-])(\d\d:\d\d))?"
)
_FIRST: Final = datetime.min.replace(tzinfo=UTC)


def _moment(value: object) -> float:
    """Return epoch seconds of an RFC 3339 time; without an offset it is UTC.

    A ``+`` that nobody encoded arrives as a space. A leap second is the one before it.
    """
    match = _STAMP.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a time, allowed: RFC 3339 such as 2026-01-17T10:30:00Z")
    date, clock, fraction, _, sign, offset = match.groups()
    clock = clock[:6] + "59" if clock.endswith(":60") else clock
    sign = "+" if sign == " " else sign
    text = f"{date}T{clock}{(fraction or '')[:7]}{f'{sign}{offset}' if offset else '+00:00'}"
    if date.startswith("0000"):
        return _FIRST.timestamp()
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("not a time that exists") from None


Moment = Annotated[
    float,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-01-17T10:30:00Z"]}),
]


class PageOfCalls(BaseModel):
    """``GET /api/v1/calls``: which calls, and which page of them."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[Status | None, Field(description="Filter by status.")] = None
    workflow_id: Annotated[
        UUID | None, Field(description="Filter by workflow: the UUIDv5 of its slug.")
    ] = None
    user_id: Annotated[str | None, Field(max_length=256, description="Filter by user.")] = None
    started_after: Annotated[Moment | None, Field(description="Answered after this time.")] = None
    started_before: Annotated[Moment | None, Field(description="Answered before this time.")] = None
    direction: Annotated[
        Literal["inbound", "outbound"] | None, Field(description="Who started the call.")
    ] = None
    call_type: Annotated[
        Literal["voip", "sip"] | None, Field(description="From a browser, or by phone.")
    ] = None
    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    page_size: Annotated[int, Field(ge=1, le=100)] = 20


class ActiveCalls(BaseModel):
    """``GET /api/v1/calls/active``"""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[
        int | None, Field(ge=1, le=100, description="At most so many; all without it.")
    ] = None

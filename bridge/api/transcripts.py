"""The routes of transcripts: what agents post of a room, and what was said on a call."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Protocol

from fastapi import APIRouter, Body, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from bridge.api.access import Access, access_of
from bridge.api.asking import Projected, asked, is_fresh
from bridge.api.budget import SAID, TOLD, Bounds, Budget, nothing_yet
from bridge.api.door import Doors
from bridge.api.examples import Responses, problem_of
from bridge.api.models import JsonObject
from bridge.call.requests import Unavailable
from bridge.errors import BridgeError
from bridge.transcript.reading import Transcribed
from bridge.transcript.segment import (
    CONTENT_LIMIT,
    LATEST,
    NAME_LIMIT,
    Segment,
    Speaker,
    clean,
    tool_call,
)

POSTS_LIMIT: Final = 500
"""Entries of one post."""


class RunningCall(Protocol):
    """A call that runs on this instance."""

    @property
    def call_id(self) -> str: ...
    @property
    def tenant_id(self) -> str | None: ...


class TranscriptDesk(Protocol):
    """The transcripts of running calls, on the main loop."""

    def running(
        self,
        room: str,
        call_id: str | None = None,
        *,
        sees: Callable[[str | None], bool],
    ) -> RunningCall | None:
        """Return the call of a room that runs here and whose tenant who asks *sees*.

        *call_id* is the one of several, when it is given.
        """

    async def post(self, call_id: str, segments: Sequence[Segment]) -> list[Segment]:
        """Write what was posted; return what is kept. Raises `BridgeError`."""

    async def report(self, call_id: str, body: Mapping[str, Any]) -> None:
        """Write what an agent measured. Raises `BridgeError`."""


class CallReading(Protocol):
    """Calls, as somebody may see them."""

    async def call(self, call_id: str, who: Access) -> dict[str, Any]:
        """Return a call's resource; 404 when *who* must not know of it."""


# Bodies.


def _check_said(value: str) -> str:
    if not clean(value).strip():
        raise ValueError("has no text")
    return value


def _check_number(value: Any) -> Any:
    if isinstance(value, (bool, str)):
        raise ValueError("input should be a number")
    return value


_TIME: Final = re.compile(r"(197[1-9]|19[89][0-9]|[2-8][0-9]{3})-[0-9]{2}-[0-9]{2}[Tt ]")


def _check_stamp(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and _TIME.match(value) is None):
        raise ValueError("is no time, allowed: RFC 3339 from 1971 on, or seconds since 1970")
    return value


Name = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT)]
Milliseconds = Annotated[
    float, Field(ge=0, le=86_400_000, allow_inf_nan=False), BeforeValidator(_check_number)
]
Count = Annotated[int, Field(ge=0, le=1_000_000_000_000), BeforeValidator(_check_number)]
Stamp = Annotated[
    datetime | Annotated[float, Field(ge=0, le=LATEST)] | None,
    BeforeValidator(_check_stamp),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time", "pattern": f"^{_TIME.pattern}"},
                {"type": "number", "minimum": 0, "maximum": LATEST},
                {"type": "null"},
            ]
        }
    ),
]


class CalledTool(BaseModel):
    """A tool that the agent has called."""

    model_config = ConfigDict(extra="ignore")

    name: Name
    arguments: JsonObject = Field(default_factory=dict)


Tool = Annotated[CalledTool, WithJsonSchema(CalledTool.model_json_schema())]


class PostedEntry(BaseModel):
    """One thing that was said: seed 000's fields, and what else an agent may know of it.

    ``timestamp`` is RFC 3339, or seconds or milliseconds since 1970; without it, now.
    """

    model_config = ConfigDict(extra="forbid")

    speaker: Literal["USER", "AGENT"]
    content: Annotated[
        str,
        Field(
            min_length=1,
            max_length=CONTENT_LIMIT,
            json_schema_extra={"pattern": r"[^\s\x00]"},
        ),
        AfterValidator(_check_said),
    ]
    timestamp: Stamp = None
    agent_name: Name | None = None
    interrupted: StrictBool = False
    tool_call: Tool | None = None
    stt_ms: Milliseconds | None = None
    first_token_ms: Milliseconds | None = None
    first_audio_ms: Milliseconds | None = None
    total_ms: Milliseconds | None = None
    llm_model: Name | None = None

    @field_validator("timestamp")
    @classmethod
    def _check_time(cls, value: datetime | float | None) -> float | None:
        if not isinstance(value, datetime):
            return value
        try:
            at = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        except (OverflowError, ValueError):
            at = -1.0
        if not 0 <= at <= LATEST:
            raise ValueError("is no time that can be")
        return at

    def segment(self, now: float) -> Segment:
        """Return it as it is kept."""
        fields = self.model_dump(exclude={"speaker", "content", "timestamp", "tool_call"})
        called = None if self.tool_call is None else tool_call(self.tool_call.model_dump())
        at = now if self.timestamp is None else float(self.timestamp)  # type: ignore[arg-type]
        return Segment(
            speaker=Speaker(self.speaker),
            content=clean(self.content).strip(),
            at=at,
            source="post",
            tool_call=called,
            **fields,
        )


class Measured(BaseModel):
    """Latencies in milliseconds, means over the call, and counts; others are not kept."""

    model_config = ConfigDict(extra="ignore")

    stt_latency_ms: Milliseconds | None = None
    llm_latency_ms: Milliseconds | None = None
    tts_latency_ms: Milliseconds | None = None
    total_tokens: Count | None = None
    agent_handoffs: Count | None = None


class ReportedTurn(BaseModel):
    """What one message took; ``content`` is how it finds its place in the transcript."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["user", "assistant"]
    content: Annotated[str, Field(max_length=CONTENT_LIMIT)]
    agent_name: Name | None = None
    interrupted: StrictBool | None = None
    tool_call: Tool | None = None
    stt_ms: Milliseconds | None = None
    first_token_ms: Milliseconds | None = None
    first_audio_ms: Milliseconds | None = None
    total_ms: Milliseconds | None = None
    llm_model: Name | None = None


Line = Annotated[str, Field(max_length=1000)]


class Analysed(BaseModel):
    """What was made of the conversation (seed 000's call analysis)."""

    model_config = ConfigDict(extra="forbid")

    summary: Annotated[str, Field(max_length=10_000)] | None = None
    sentiment: Name | None = None
    topics: Annotated[list[Line], Field(max_length=64)] | None = None
    action_items: Annotated[list[Line], Field(max_length=64)] | None = None


Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class CostOf(BaseModel):
    """What one provider asks for its part."""

    model_config = ConfigDict(extra="forbid")

    provider: Name
    kind: Name | None = None
    amount: Amount


class Costs(BaseModel):
    """What the call cost, by provider."""

    model_config = ConfigDict(extra="forbid")

    total: Amount | None = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    breakdown: Annotated[list[CostOf], Field(max_length=64)] | None = None


class Report(Measured):
    """What an agent measured.

    With ``metrics`` it is whole and takes the place of what was told before. Without, its own
    latencies are one measurement more, which is averaged, and its tokens are added. ``analysis``
    and ``cost`` take the place of what was told of them before.
    """

    model_config = ConfigDict(extra="forbid")

    call_id: Name | None = None
    current_agent: Name | None = None
    agent_history: Annotated[list[Name], Field(max_length=1000)] | None = None
    metrics: Measured | None = None
    turns: Annotated[list[ReportedTurn], Field(max_length=64)] | None = None
    duration_seconds: (
        Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False), BeforeValidator(_check_number)]
        | None
    ) = None
    analysis: Analysed | None = None
    cost: Costs | None = None


_ONE: Final = TypeAdapter(PostedEntry)
_MANY: Final[TypeAdapter[list[PostedEntry]]] = TypeAdapter(
    Annotated[list[PostedEntry], Field(min_length=1, max_length=POSTS_LIMIT)]
)


def _posted(body: Any) -> list[PostedEntry]:
    """Return what was posted, one or a list. 422 names the fields that are wrong."""
    try:
        return _MANY.validate_python(body) if isinstance(body, list) else [_one(body)]
    except ValidationError as failure:
        errors = [{**error, "loc": ("body", *_path(error["loc"]))} for error in failure.errors()]
        raise RequestValidationError(errors) from None


def _path(where: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return a field's path without which of its forms (a text, a number) it was tried as."""
    return (
        where[:-1]
        if where[-1:] and where[-1] in ("datetime", "constrained-float", "float")
        else where
    )


def _one(body: Any) -> PostedEntry:
    return _ONE.validate_python(body)


# What is answered, for the description.

_ENTRY: Final = {
    "speaker": "USER",
    "content": "I'm doing well, thanks!",
    "timestamp": "2026-11-21T10:30:10Z",
}
_REPORT: Final = {
    "current_agent": "meal-agent",
    "agent_history": ["greeter-agent", "meal-agent"],
    "metrics": {
        "stt_latency_ms": 120,
        "llm_latency_ms": 280,
        "tts_latency_ms": 85,
        "total_tokens": 1500,
        "agent_handoffs": 1,
    },
}
_MESSAGES: Final = [
    {
        "role": "system",
        "content": "Call started",
        "timestamp": "2026-11-21T10:30:00.120Z",
        "agent_name": "greeter-agent",
    },
    {
        "role": "user",
        "content": "I'm doing well, thanks!",
        "timestamp": "2026-11-21T10:30:10.000Z",
        "agent_name": "greeter-agent",
    },
]
_UNKNOWN_ROOM: Final = problem_of("no such room", 404, "Not Found")
_TOO_MUCH: Final = problem_of(
    f"the transcript of a call: at most {SAID.entries} entries and {SAID.characters} characters",
    413,
    "Content Too Large",
)
_POSTED: Final[Responses] = {
    201: {"content": {"application/json": {"example": {"stored": 1, "suppressed": 0}}}},
    404: _UNKNOWN_ROOM,
    413: _TOO_MUCH,
    422: problem_of("content: missing, this field is required"),
}
_REPORTED: Final[Responses] = {
    404: _UNKNOWN_ROOM,
    413: _TOO_MUCH,
    422: problem_of("metrics.total_tokens: input should be greater than or equal to 0"),
}
_SAID: Final[Responses] = {
    200: {"content": {"application/json": {"example": _MESSAGES}}},
    404: problem_of("no such call", 404, "Not Found"),
}


def _body_of_entries() -> dict[str, Any]:
    entry = PostedEntry.model_json_schema()
    entries = {"type": "array", "minItems": 1, "maxItems": POSTS_LIMIT, "items": entry}
    content = {"schema": {"oneOf": [entry, entries]}, "example": _ENTRY}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def router(
    doors: Doors,
    desk: TranscriptDesk,
    reading: CallReading,
    *,
    transcribed: Transcribed | None = None,
    projection: Projected | None = None,
    wall: Callable[[], float] = time.time,
    said: Bounds = SAID,
    told: Bounds = TOLD,
) -> APIRouter:
    """Return the routes of transcripts; without *transcribed* only running calls are known.

    *said* and *told* are what one call may have of posted words, and of reports.
    """
    routes = APIRouter(tags=["transcripts"])
    books = _Books(doors, desk, transcribed, projection)
    _said(routes, books, desk, wall, Budget(said, books.size))
    _told(routes, books, desk, Budget(told, nothing_yet))

    @routes.get("/api/v1/calls/{call_id}/transcript", responses=_SAID)
    async def transcript(call_id: str, request: Request) -> list[dict[str, Any]]:
        """What was said on a call, in order; it begins with the call's start."""
        record = await reading.call(call_id, access_of(request))
        return await books.messages(record)

    return routes


def _said(
    routes: APIRouter,
    books: _Books,
    desk: TranscriptDesk,
    wall: Callable[[], float],
    budget: Budget,
) -> None:
    @routes.post(
        "/api/sessions/by-room/{room:path}/transcripts",
        status_code=201,
        response_model=None,
        responses=_POSTED,
        openapi_extra=_body_of_entries(),
    )
    async def post(room: str, request: Request, body: Annotated[Any, Body()]) -> JSONResponse:
        """Post what was said, one entry or a list.

        The first post for a room ends the capture of what is streamed there: from then on the
        posts alone are its transcript. What was said while the call was held is suppressed.
        413 when one call has been told too much.
        """
        entries = _posted(body)
        call_id = await books.call_of(room, None, access_of(request))
        segments = [entry.segment(wall()) for entry in entries]
        await budget.spend(call_id, len(segments), sum(map(_length, segments)))
        kept = await books.write(desk.post(call_id, segments))
        counts = {"stored": len(kept), "suppressed": len(segments) - len(kept)}
        return JSONResponse(counts, 201)


def _told(routes: APIRouter, books: _Books, desk: TranscriptDesk, budget: Budget) -> None:
    @routes.post(
        "/api/sessions/by-room/{room:path}/metrics",
        status_code=201,
        responses=_REPORTED,
    )
    async def report(
        room: str, request: Request, body: Annotated[Report, Body(examples=[_REPORT])]
    ) -> dict[str, str]:
        """Report what an agent measured; ``phone.report`` of the agent kit posts it.

        413 when one call has been told too much.
        """
        call_id = await books.call_of(room, body.call_id, access_of(request))
        document = body.model_dump(exclude_unset=True)
        await budget.spend(call_id, 1, len(json.dumps(document)))
        await books.write(desk.report(call_id, document))
        return {"call_id": call_id}


def _length(segment: Segment) -> int:
    called = "" if segment.tool_call is None else json.dumps(segment.tool_call)
    return len(segment.content) + len(called)


class _Books:
    """The running calls first, then the store."""

    def __init__(
        self,
        doors: Doors,
        desk: TranscriptDesk,
        transcribed: Transcribed | None,
        projection: Projected | None,
    ) -> None:
        self._doors = doors
        self._desk = desk
        self._transcribed = transcribed
        self._projection = projection

    async def call_of(self, room: str, call_id: str | None, who: Access) -> str:
        """Return the id of the call of *room*; 404 when *who* must not know of it."""

        async def running() -> RunningCall | None:
            return self._desk.running(room, call_id, sees=who.sees)

        found = await self._doors.ask(running())
        if found is not None:
            return found.call_id
        books = self._transcribed
        if books is not None:
            await is_fresh(self._projection)
            stored = await asked(lambda: books.call_of(room, call_id, tenant=who.scope))
            if stored is not None:
                return str(stored.record["id"])
        raise HTTPException(404, "no such room")

    async def size(self, call_id: str) -> tuple[int, int]:
        """Return how many entries a call's transcript has, and how many characters they are."""
        books = self._transcribed
        return (0, 0) if books is None else await asked(lambda: books.size(call_id))

    async def write(self, writing: Any) -> Any:
        """Have the journal write. Raises `Unavailable` when it cannot."""
        try:
            return await self._doors.ask(writing)
        except BridgeError as failure:
            raise Unavailable("the journal cannot be written") from failure

    async def messages(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what was said on a call. Raises `Unavailable` when the store is away."""
        books = self._transcribed
        if books is None:
            raise Unavailable("there is no store to read from")
        await is_fresh(self._projection)
        return await asked(lambda: books.messages(record))

"""Voice sessions (seed 004): made over REST, joined over WebRTC, read again here."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Protocol
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bridge.api.access import Access, access_of
from bridge.api.asking import Projected, asked, is_fresh
from bridge.api.door import Doors, call_id_of
from bridge.api.examples import Responses, json_of, refusal_of
from bridge.api.making import CheckUrl, check_receiver
from bridge.api.models import JsonObject, Text
from bridge.call.requests import Accepted, Admit, Unavailable
from bridge.sessions.requests import Asker, Created, Kind, NoCredit, SessionRequest
from bridge.sessions.shape import STATUSES, session_shape, with_token

if TYPE_CHECKING:
    from bridge.call.record import CallRecord

_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}")  # BCP 47
_PROMPT: Final = "You are a helpful voice assistant."


def _check_prompt(value: str) -> str:
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("has characters that are no text")
    return value


def _check_language(value: str) -> str:
    if not _LANGUAGE.fullmatch(value):
        raise ValueError("not a language, allowed: BCP 47 such as en-IN")
    return value


Word = Annotated[Text, Field(min_length=1, max_length=128)]


class CreateSession(BaseModel):
    """``POST /v1/voice/sessions``: seed 004's fields; null is the default."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "system_prompt": "You are a helpful assistant.",
                    "voice": "shubh",
                    "language": "en-IN",
                    "llm_model": "kimi-k2.5",
                    "tts_provider": "sarvam",
                    "max_duration_seconds": 300,
                }
            ]
        },
    )

    bot_id: UUID | None = None
    system_prompt: Annotated[
        str | None,
        Field(max_length=4096, description="Overrides the bot's when both are set."),
        AfterValidator(lambda value: value and _check_prompt(value)),
    ] = None
    voice: Word | None = "shubh"
    language: Annotated[
        str | None,
        Field(max_length=35, description="BCP 47, of speech to text and text to speech."),
        AfterValidator(lambda value: value if value is None else _check_language(value)),
    ] = "en-IN"
    llm_model: Word | None = "kimi-k2.5"
    tts_provider: Literal["sarvam"] | None = "sarvam"
    max_duration_seconds: Annotated[int | None, Field(ge=30, le=3600, strict=True)] = 300
    webhook_url: Annotated[str | None, Field(max_length=2048)] = None
    metadata: JsonObject | None = None

    def request(self) -> SessionRequest:
        """Return what the sessions are asked."""
        prompt = self.system_prompt
        if prompt is None and self.bot_id is None:
            prompt = _PROMPT
        duration = self.max_duration_seconds or 300
        return SessionRequest(
            kind=Kind.VOICE_SESSION,
            bot_id=None if self.bot_id is None else str(self.bot_id),
            config={
                "system_prompt": prompt,
                "voice": self.voice or "shubh",
                "language": self.language or "en-IN",
                "llm_model": self.llm_model or "kimi-k2.5",
                "tts_provider": self.tts_provider or "sarvam",
                "max_duration_seconds": duration,
            },
            max_duration=float(duration),
            webhook_url=self.webhook_url,
            metadata=self.metadata,
        )


class SessionDoor(Protocol):
    """Who runs sessions; its coroutines run on the main loop."""

    async def create(self, request: SessionRequest, asker: Asker) -> Created:
        """Accept a session. Raises BadRequest, NotAllowed, NoCredit, OverLimit, Unavailable."""

    async def accept(
        self, request: SessionRequest, asker: Asker, *, key: str | None = None
    ) -> Accepted:
        """`create`, once for each *key*."""

    def admission_of(self, asker: Asker) -> Admit:
        """Return what has a word before a phone call is made for *asker*, and counts it."""

    async def end(self, call_id: str) -> bool:
        """End a session that runs here; False when there is none."""

    async def now(self, call_ids: Sequence[str]) -> dict[str, CallRecord]:
        """Return those of *call_ids* that run here, or have just ended."""


class StoredSession(Protocol):
    """A call as it stands in the store."""

    @property
    def record(self) -> dict[str, Any]: ...
    @property
    def private(self) -> dict[str, Any]: ...


class SessionStore(Protocol):
    """The store, as sessions are read. Every method blocks and raises `BridgeError`."""

    def session(self, call_id: str) -> StoredSession | None:
        """Return a call."""

    def sessions(
        self, *, tenant: str | None, statuses: Sequence[str], limit: int, offset: int
    ) -> Sequence[StoredSession]:
        """Return sessions, newest first; *tenant* None: everybody's, no statuses: all."""

    def turn_counts(self, call_ids: Sequence[str]) -> Mapping[str, int]:
        """Return how many turns each transcript has."""

    def transcript(self, call_id: str, form: str) -> Any:
        """Return a transcript: ``json`` a list of turns, ``txt`` and ``srt`` text."""


def asker_of(who: Access) -> Asker:
    """Return what sessions need to know of who asks."""
    return Asker(
        name=who.name,
        tenant=who.tenant,
        plan=who.plan,
        permissions=who.permissions,
        credit=who.credit,
    )


class SessionReading:
    """Sessions as somebody may see them: those of this instance's memory before the store's."""

    def __init__(
        self,
        doors: Doors,
        sessions: SessionDoor,
        store: SessionStore | None = None,
        projection: Projected | None = None,
    ) -> None:
        self._doors = doors
        self._sessions = sessions
        self._store = store
        self._projection = projection

    async def find(self, text: str, who: Access) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Return a call's resource and what is private of it; 404 when *who* must not know."""
        call_id = call_id_of(text)
        now = (await self._doors.ask(self._sessions.now([call_id]))).get(call_id)
        try:
            stored = await self._stored(call_id)
        except Unavailable:
            if now is None:
                raise
            stored = None
        over = stored is not None and stored.record.get("ended_at") is not None
        if now is not None and not over:
            record, private = now.as_dict(), now.private
            if stored is not None:  # what agents have told is there alone
                record["metrics"] = stored.record.get("metrics")
        elif stored is not None:
            record, private = stored.record, stored.private
        else:
            raise HTTPException(404, "no such session")
        if not who.sees(record.get("tenant_id")):
            raise HTTPException(404, "no such session")
        return record, private

    async def _stored(self, call_id: str) -> StoredSession | None:
        if self._store is None:
            return None
        await is_fresh(self._projection)
        return await asked(self._store.session, call_id)

    async def shown(self, text: str, who: Access) -> dict[str, Any]:
        """Return one session as it is shown."""
        record, private = await self.find(text, who)
        turns = await self._turns([record["id"]])
        return _shape(record, private, turns)

    async def page(
        self, who: Access, statuses: Sequence[str], *, limit: int, offset: int
    ) -> list[dict[str, Any]]:
        """Return sessions, newest first. Raises `Unavailable` without a store."""
        store = self._store
        if store is None:
            raise Unavailable("there is no store to read from")
        await is_fresh(self._projection)
        found = await asked(
            lambda: store.sessions(tenant=who.scope, statuses=statuses, limit=limit, offset=offset)
        )
        open_ = [one.record["id"] for one in found if one.record.get("ended_at") is None]
        now = await self._doors.ask(self._sessions.now(open_)) if open_ else {}
        turns = await self._turns([one.record["id"] for one in found])
        shown = []
        for one in found:
            live = now.get(one.record["id"])
            record = one.record if live is None else {**one.record, **_moving(live)}
            shown.append(_shape(record, one.private, turns))
        return shown

    async def transcript(self, text: str, who: Access, form: str) -> Any:
        """Return a session's transcript in *form*."""
        record, _ = await self.find(text, who)
        store = self._store
        if store is None:
            raise Unavailable("there is no store to read from")
        await is_fresh(self._projection)
        return await asked(lambda: store.transcript(record["id"], form))

    async def _turns(self, call_ids: Sequence[str]) -> Mapping[str, int]:
        store = self._store
        if store is None or not call_ids:
            return {}
        try:
            return await asked(lambda: store.turn_counts(call_ids))
        except Unavailable:
            return {}


def _moving(record: CallRecord) -> dict[str, Any]:
    """Return what of a session changes while it runs."""
    now = record.as_dict()
    return {
        name: now[name]
        for name in (
            "status",
            "started_at",
            "ended_at",
            "duration_ms",
            "duration_seconds",
            "outcome",
            "reason",
            "ended_by",
            "seq",
        )
    }


def _shape(
    record: Mapping[str, Any], private: Mapping[str, Any], turns: Mapping[str, int]
) -> dict[str, Any]:
    turn_count = turns.get(str(record["id"]), 0)
    return session_shape(record, private, turn_count=turn_count, now=time.time())


Status = Literal["created", "active", "completed", "failed", "timeout"]
Form = Literal["json", "txt", "srt"]

_EXAMPLE: Final[dict[str, Any]] = {
    "id": "7c2b9e30-1d8a-4c5f-9b3d-2f4a6e8b1c2d",
    "tenant_id": "0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d",
    "bot_id": None,
    "status": "created",
    "config": {
        "system_prompt": "You are a helpful assistant.",
        "voice": "shubh",
        "language": "en-IN",
        "llm_model": "kimi-k2.5",
        "tts_provider": "sarvam",
        "max_duration_seconds": 300,
        "livekit_room": "voice-6f1d2c3b4a596877",
    },
    "started_at": None,
    "ended_at": None,
    "duration_seconds": None,
    "turn_count": 0,
    "total_audio_seconds": 0,
    "end_reason": None,
    "metadata": None,
    "created_at": "2026-04-19T12:00:00.000Z",
}
_TURN: Final = {
    "turn_index": 0,
    "user_transcript": "What is the weather?",
    "agent_response": "Sunny.",
    "interrupted": False,
    "stt_ms": 120,
    "first_token_ms": 310,
    "first_audio_ms": 520,
    "total_ms": 900,
    "llm_model": "kimi-k2.5",
    "created_at": "2026-04-19T12:00:05.000Z",
}

_UNKNOWN: Final[Responses] = {404: refusal_of("no such session")}
_CREATED: Final[Responses] = {
    201: json_of(
        with_token(_EXAMPLE, "wss://livekit.example.com", "eyJ…"),
        "The session; url and token are told here only",
    ),
    402: refusal_of("the key's credit is below its plan's minimum"),
    403: refusal_of("the key lacks one of the permissions stt, tts and llm"),
    429: refusal_of("the plan allows no more sessions at once, or in this minute"),
    503: refusal_of("no LiveKit, no journal, or draining"),
}
_TRANSCRIPT: Final[Responses] = {
    200: {
        "description": "The transcript",
        "content": {
            "application/json": {"example": [_TURN]},
            "text/plain": {"example": "User: What is the weather?\nAgent: Sunny.\n"},
            "application/x-subrip": {
                "example": "1\n00:00:00,000 --> 00:00:01,500\nUser: What is the weather?\n"
            },
        },
    },
    **_UNKNOWN,
}


def router(
    doors: Doors,
    sessions: SessionDoor,
    reading: SessionReading,
    *,
    check_url: CheckUrl | None = None,
) -> APIRouter:
    """Return the routes below ``/v1/voice/sessions``."""
    routes = APIRouter(prefix="/v1/voice/sessions", tags=["voice sessions"])
    _make(routes, doors, sessions, check_url)
    _read(routes, reading)
    _end(routes, doors, sessions, reading)
    return routes


def _make(
    routes: APIRouter, doors: Doors, sessions: SessionDoor, check_url: CheckUrl | None
) -> None:
    @routes.post("", status_code=201, response_model=None, responses=_CREATED)
    async def create(body: CreateSession, request: Request) -> JSONResponse:
        """Open a room for a browser and an agent; join it at ``ws_url`` with ``token``.

        The agent is there already. Without a user within 60 seconds it is over (``timeout``).
        """
        check_receiver(check_url, body.webhook_url)
        asker = asker_of(access_of(request))
        try:
            made = await doors.ask(sessions.create(body.request(), asker))
        except NoCredit as failure:
            raise HTTPException(402, str(failure)) from failure
        shown = session_shape(made.record.as_dict(), made.record.private)
        return JSONResponse(with_token(shown, made.url, made.token), 201)


def _read(routes: APIRouter, reading: SessionReading) -> None:
    @routes.get("", response_model=None, responses={200: json_of([_EXAMPLE], "The sessions")})
    async def page(
        request: Request,
        status: Status | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    ) -> JSONResponse:
        """Sessions, newest first."""
        statuses = STATUSES[status] if status is not None else ()
        found = await reading.page(access_of(request), statuses, limit=limit, offset=offset)
        return JSONResponse(found)

    @routes.get(
        "/{session_id}",
        response_model=None,
        responses={200: json_of(_EXAMPLE, "The session"), **_UNKNOWN},
    )
    async def show(session_id: str, request: Request) -> JSONResponse:
        """One session; its token is not told again."""
        return JSONResponse(await reading.shown(session_id, access_of(request)))

    @routes.get("/{session_id}/transcript", response_model=None, responses=_TRANSCRIPT)
    async def transcript(
        session_id: str,
        request: Request,
        form: Annotated[Form, Query(alias="format")] = "json",
    ) -> Response:
        """What was said: turns as JSON, lines as text, or SubRip subtitles."""
        said = await reading.transcript(session_id, access_of(request), form)
        match form:
            case "json":
                return JSONResponse(said)
            case "txt":
                return PlainTextResponse(said)
            case "srt":
                return Response(said, media_type="application/x-subrip")


def _end(routes: APIRouter, doors: Doors, sessions: SessionDoor, reading: SessionReading) -> None:
    @routes.delete("/{session_id}", status_code=204, responses=_UNKNOWN)
    async def end(session_id: str, request: Request) -> None:
        """End it, and send everybody away; one that has ended stays as it is."""
        record, _ = await reading.find(session_id, access_of(request))
        if record.get("ended_at") is None and not await doors.ask(sessions.end(record["id"])):
            await doors.ask(doors.service.hang_up(record["id"]))

"""Web calls by the doors of the seeds: a room, a token, and an agent who is sent for."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from bridge.api.access import Access, access_of
from bridge.api.door import Doors
from bridge.api.envelope import Enveloped, envelope
from bridge.api.examples import json_of
from bridge.api.models import CallAccepted, CreateCall, JsonObject, Text
from bridge.api.sessions import SessionDoor, asker_of
from bridge.call.requests import Accepted, Admit, BadRequest
from bridge.sessions.requests import Kind, SessionRequest

Name = Annotated[Text, Field(min_length=1)]


class WebDoor:
    """Opens rooms for browsers: ``POST /api/v1/calls`` with ``call_type`` voip."""

    def __init__(self, sessions: SessionDoor) -> None:
        self._sessions = sessions

    async def create(self, body: CreateCall, who: Access, *, key: str | None) -> Accepted:
        """Accept a web call, once for each *key*. Runs on the main loop."""
        request = SessionRequest(
            kind=Kind.WEB_CALL,
            agent=body.agent,
            workflow_slug=body.workflow_slug,
            user_id=body.user_id,
            user_context=body.user_context,
            metadata=body.metadata,
            room=body.room,
            max_duration=body.max_duration,
            webhook_url=body.webhook_url,
        )
        return await self._sessions.accept(request, asker_of(who), key=key)

    def admission_of(self, who: Access) -> Admit:
        """Return what has a word before a phone call is made for *who*, and counts it."""
        return self._sessions.admission_of(asker_of(who))


class TestAgent(BaseModel):
    """``POST /api/v1/calls/test-agent``"""

    __test__ = False
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "agent_name": "greeter-agent",
                    "user_id": "test-user",
                    "user_context": {"name": "Tester"},
                }
            ]
        },
    )

    agent_name: Name
    user_id: Text | None = None
    user_context: JsonObject | None = None
    metadata: JsonObject | None = None


class AgentToken(BaseModel):
    """``POST /api/livekit/token``"""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"agent_name": "greeter-agent", "user_id": "user-123"}]},
    )

    agent_name: Name
    user_id: Text | None = None
    metadata: JsonObject | None = None


class TokenGiven(BaseModel):
    """``200`` of ``POST /api/livekit/token``."""

    token: str
    url: str
    room_name: str
    session_id: str = Field(json_schema_extra={"format": "uuid"})


class AssistantToken(BaseModel):
    """``POST /web_call/get_token``"""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"assistant_id": "daily-call"}]}
    )

    assistant_id: Annotated[Name, Field(description="A workflow's slug or id.")]
    metadata: JsonObject | None = None
    text_only: StrictBool = False


_UNKNOWN: Final = "no such assistant"


def _refused(message: str, data: Any = None) -> dict[str, Any]:
    return json_of({"success": False, "message": message, "data": data}, message)


_WRONG: Final = "assistant_id: missing, this field is required"
_GET_TOKEN: Final[dict[int | str, dict[str, Any]]] = {
    200: json_of(
        envelope(
            "token issued",
            {
                "room_name": "call-5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11",
                "agent_dispatch": {
                    "agent_name": "support",
                    "room": "call-5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11",
                },
                "token": "eyJ…",
            },
        ),
        "A room, and the token to join it with",
    ),
    404: _refused(_UNKNOWN),
    422: _refused(
        _WRONG,
        {"errors": [{"field": "assistant_id", "message": "missing, this field is required"}]},
    ),
    429: _refused("the plan allows 1 sessions at once"),
    503: _refused("LiveKit does not answer: no new calls"),
}


def router(doors: Doors, sessions: SessionDoor) -> APIRouter:
    """Return the routes of web calls besides ``POST /api/v1/calls``."""
    routes = APIRouter(tags=["web calls"])
    _test_agent(routes, doors, sessions)
    _token(routes, doors, sessions)
    older = APIRouter(prefix="/web_call", tags=["older API"], route_class=Enveloped)
    _older(older, doors, sessions)
    routes.routes.extend(older.routes)
    return routes


def _test_agent(routes: APIRouter, doors: Doors, sessions: SessionDoor) -> None:
    @routes.post("/api/v1/calls/test-agent", status_code=201)
    async def test_agent(body: TestAgent, request: Request) -> CallAccepted:
        """Open a room for a browser and one agent, without a workflow; always ``voip``."""
        wanted = SessionRequest(
            kind=Kind.WEB_CALL,
            agent=body.agent_name,
            user_id=body.user_id,
            user_context=body.user_context,
            metadata=body.metadata,
        )
        return CallAccepted.of(
            await doors.ask(sessions.accept(wanted, asker_of(access_of(request))))
        )


def _token(routes: APIRouter, doors: Doors, sessions: SessionDoor) -> None:
    @routes.post("/api/livekit/token")
    async def token(body: AgentToken, request: Request) -> TokenGiven:
        """Open a room for a browser and an agent; the session record is made with it."""
        wanted = SessionRequest(
            kind=Kind.WEB_CALL,
            agent=body.agent_name,
            user_id=body.user_id,
            metadata=body.metadata,
        )
        made = await doors.ask(sessions.accept(wanted, asker_of(access_of(request))))
        return TokenGiven(
            token=made.token, url=made.url, room_name=made.room_name, session_id=made.call_id
        )


def _older(routes: APIRouter, doors: Doors, sessions: SessionDoor) -> None:
    @routes.post("/get_token", response_model=None, responses=_GET_TOKEN)
    async def get_token(body: AssistantToken, request: Request) -> dict[str, Any]:
        """Open a room for a browser and a workflow's agent (seed 001, Web Call Flow)."""
        wanted = SessionRequest(
            kind=Kind.WEB_CALL,
            workflow_slug=body.assistant_id,
            metadata=body.metadata,
            config={"text_only": body.text_only},
        )
        try:
            made = await doors.ask(sessions.create(wanted, asker_of(access_of(request))))
        except BadRequest as failure:
            if failure.field == "workflow_slug":
                raise HTTPException(404, _UNKNOWN) from failure
            raise
        record = made.record
        data = {
            "room_name": record.room_name,
            "agent_dispatch": {"agent_name": record.agent, "room": record.room_name},
            "token": made.token,
        }
        return envelope("token issued", data)

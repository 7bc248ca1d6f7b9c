"""LiveKit's webhooks come in here, signed with the server's own key."""

from __future__ import annotations

from typing import Protocol

from fastapi import APIRouter, HTTPException, Request, Response

from bridge.api.door import Doors
from bridge.sessions.requests import Forged, RoomNews

PATH = "/livekit/webhook"
"""Open at the gate: who posts is known from the JWT over the body."""


class RoomHearer(Protocol):
    """Who runs sessions; its coroutine runs on the main loop."""

    async def heard(self, news: RoomNews) -> None:
        """Take what happened in a room."""


class WebhookReader(Protocol):
    """Verifies and reads what LiveKit posts."""

    def read(self, body: bytes, authorization: str) -> RoomNews:
        """Return what *body* tells. Raises `Forged`."""


def router(doors: Doors, sessions: RoomHearer, reader: WebhookReader) -> APIRouter:
    """Return the route."""
    routes = APIRouter(include_in_schema=False)

    @routes.post(PATH, status_code=200)
    async def webhook(request: Request) -> Response:
        """Take one event; again, late and out of order is fine."""
        body = await request.body()
        try:
            news = reader.read(body, request.headers.get("authorization", ""))
        except Forged as failure:
            raise HTTPException(401, str(failure)) from failure
        if news.room:
            await doors.ask(sessions.heard(news))
        return Response(status_code=200)

    return routes

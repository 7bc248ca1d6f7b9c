"""The HTTP API: an app over the call service, in a thread and loop of its own.

The service lives on the main loop; `Doors` is how a request gets there. Bodies are
checked here, the service sees plain dataclasses (design, Processes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Protocol, TypeVar
from uuid import UUID

from fastapi import APIRouter, FastAPI, Header, HTTPException, Query, Request, Response

from bridge.api import problems
from bridge.api.auth import Gate, Gatekeeper
from bridge.api.metrics import MetricsDoor, metrics_router
from bridge.api.models import CallAccepted, CreateCall
from bridge.api.trunks import TrunkDoor, trunks_router
from bridge.call.requests import Accepted, DialRequest, Unavailable
from bridge.console import console

T = TypeVar("T")


class CallDoor(Protocol):
    """What the API needs of the call service; coroutines run on the main loop."""

    async def dial(self, request: DialRequest, *, key: str | None = None) -> Accepted:
        """Accept an outbound call, once for each *key*.

        Raises BadRequest, OverLimit, Unavailable.
        """

    async def find(self, call_id: str) -> dict[str, Any] | None:
        """Return a call's resource, or None."""

    async def active(self, limit: int | None) -> list[dict[str, Any]]:
        """Return the calls without an end, oldest first."""

    async def events_of(self, call_id: str) -> list[dict[str, Any]] | None:
        """Return a call's events so far, or None for an unknown call."""

    async def hang_up(self, call_id: str) -> bool:
        """End a call; False for an unknown one."""

    async def readiness(self) -> dict[str, bool]:
        """Return what a new call needs and whether it is there."""


class Doors:
    """Carries a coroutine of the service to the main loop and its result back."""

    def __init__(self, service: CallDoor, loop: asyncio.AbstractEventLoop) -> None:
        self.service = service
        self._loop = loop

    async def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Run *question* on the main loop and return what it returns or raises.

        What has begun there is finished, also when the one who asked goes away.
        """
        try:
            answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        except RuntimeError:  # the loop is closed
            question.close()
            raise Unavailable("the bridge has stopped") from None
        return await asyncio.shield(asyncio.wrap_future(answer))


def make_app(
    doors: Doors,
    gatekeeper: Gatekeeper,
    *,
    version: str,
    metrics: MetricsDoor | None = None,
    trunks: TrunkDoor | None = None,
) -> FastAPI:
    """Return the app with every route of this version."""
    app = FastAPI(
        title="trunkbridge",
        version=version,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    problems.install(app)
    app.add_middleware(Gate, gatekeeper=gatekeeper)
    app.include_router(_page())
    app.include_router(_health(doors))
    app.include_router(_calls(doors))
    if metrics is not None:
        app.include_router(metrics_router(doors, metrics))
    if trunks is not None:
        app.include_router(trunks_router(doors, trunks))
    return app


def _page() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> Response:
        """The console: one page that asks the API."""
        return Response(console.page(), media_type="text/html", headers=console.headers())

    return router


def _health(doors: Doors) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Alive: the process answers."""
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz(response: Response) -> dict[str, Any]:
        """Ready for new calls; 503 while draining, without LiveKit or journal."""
        parts = await doors.ask(doors.service.readiness())
        ready = all(parts.values())
        response.status_code = 200 if ready else 503
        return {"status": "ready" if ready else "not ready", **parts}

    return router


def _calls(doors: Doors) -> APIRouter:
    router = APIRouter(prefix="/api/v1/calls", tags=["calls"])
    service = doors.service

    @router.post("", status_code=201)
    async def create(
        body: CreateCall,
        request: Request,
        idempotency_key: Annotated[
            str | None, Header(min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")
        ] = None,
    ) -> CallAccepted:
        """Dial a phone number; answered at once, the call runs in the background.

        With ``Idempotency-Key`` the same request within 24 hours is one call.
        """
        # A key of the API never meets the requests of another.
        key = None if idempotency_key is None else f"{request.state.key_name}\0{idempotency_key}"
        accepted = await doors.ask(service.dial(body.request(), key=key))
        return CallAccepted(
            call_id=accepted.call_id,
            room_name=accepted.room_name,
            url=accepted.url,
            token=accepted.token,
            status=accepted.status,
        )

    @router.get("/active")
    async def active(
        limit: Annotated[int | None, Query(ge=1)] = None,
    ) -> list[dict[str, Any]]:
        """Every call without an end, oldest first; at most *limit*."""
        return await doors.ask(service.active(limit))

    @router.get("/{call_id}")
    async def show(call_id: str) -> dict[str, Any]:
        """One call's status and details."""
        return _known(await doors.ask(service.find(_id(call_id))))

    @router.get("/{call_id}/events")
    async def events(call_id: str) -> list[dict[str, Any]]:
        """The journal of one call, in order."""
        return _known(await doors.ask(service.events_of(_id(call_id))))

    @router.delete("/{call_id}", status_code=202)
    async def hang_up(call_id: str) -> dict[str, str]:
        """Hang up (CANCEL before the answer); 202 also when it has ended."""
        known = _id(call_id)
        if not await doors.ask(service.hang_up(known)):
            raise HTTPException(404, "no such call")
        return {"call_id": known}

    return router


def _id(text: str) -> str:
    """Return a call's id as we write it; what is no id is no call."""
    try:
        return str(UUID(text))
    except ValueError:
        raise HTTPException(404, "no such call") from None


def _known(value: T | None) -> T:
    if value is None:
        raise HTTPException(404, "no such call")
    return value

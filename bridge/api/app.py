"""The HTTP API: an app over the bridge's verbs, in a thread and loop of its own.

The calls live on the main loop; `Doors` is how a request gets there. Bodies are checked
here, the service sees plain dataclasses (design, Processes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.middleware.cors import CORSMiddleware

from bridge.api import calls, control, description, events, later, problems
from bridge.api.access import ADMIN, access_of
from bridge.api.auth import Gate, Gatekeeper
from bridge.api.door import Doors
from bridge.api.examples import ALIVE, CHANGES, DRAINING, READY
from bridge.api.making import CheckUrl, Maker, WebCalls
from bridge.api.metrics import MetricsDoor, metrics_router
from bridge.api.reading import Reading
from bridge.api.recordings import Player, RecordingDoor
from bridge.api.trunks import TrunkDoor, trunks_router
from bridge.call.requests import NotAllowed
from bridge.console import console
from bridge.feed import Feed

__all__ = ["Doors", "make_app"]


def make_app(
    doors: Doors,
    gatekeeper: Gatekeeper,
    feed: Feed,
    *,
    version: str,
    everywhere: Feed | None = None,
    metrics: MetricsDoor | None = None,
    trunks: TrunkDoor | None = None,
    reading: Reading | None = None,
    web_calls: WebCalls | None = None,
    recordings: RecordingDoor | None = None,
    check_url: CheckUrl | None = None,
    routers: Sequence[APIRouter] = (),
    cors: Sequence[str] = (),
) -> FastAPI:
    """Return the app with every route of this version.

    *feed* has this instance's events, *everywhere* those of all that share a store.
    *routers* are those of other parts of the house (sessions, transcripts, webhooks, the
    older API); *web_calls* makes ``voip`` calls, *recordings* has those of phone calls.
    *reading* is how calls are read; without it only the journal is. *check_url* judges a
    ``webhook_url``; None: webhooks have no secret, and none may be named. *cors* are the
    origins whose pages may ask, ``*`` any; none by default.
    """
    app = FastAPI(
        title="trunkbridge",
        version=version,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    problems.install(app, description.Allowed(app))
    app.add_middleware(Gate, gatekeeper=gatekeeper)
    if cors:  # around the gate: a browser asks whether it may before it sends a key
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
            expose_headers=["Last-Event-ID", "Link", "Retry-After"],
        )
    _serve(app, _page())
    _serve(app, _health(doors))
    reading = reading or Reading(doors)
    maker = Maker(doors, reading, check_url=check_url, web_calls=web_calls)
    _serve(app, events.router(reading, feed, gatekeeper, everywhere))
    player = Player(reading, recordings)
    _serve(app, calls.router(doors, reading, maker, player))
    _serve(app, control.router(doors, reading))
    _serve(app, _house(doors))
    if metrics is not None:
        _serve(app, metrics_router(doors, metrics))
    if trunks is not None:
        _serve(app, trunks_router(doors, trunks))
    for router in routers:
        _serve(app, router)
    _serve(app, later.router())
    description.complete(app)
    return app


def _serve(app: FastAPI, router: APIRouter) -> None:
    """Have *app* serve the routes of *router* as its own.

    ``include_router`` keeps the routers apart and looks for a route twice in each of them,
    which costs more than most answers; prefix and tags are in the routes already.
    """
    app.router.routes.extend(router.routes)


def _page() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def page() -> Response:
        """The console: one page that asks the API."""
        return Response(console.page(), media_type="text/html", headers=console.headers())

    return router


def _health(doors: Doors) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", responses=ALIVE)
    async def healthz() -> dict[str, str]:
        """Alive: the process answers."""
        return {"status": "alive"}

    @router.get("/readyz", responses=READY)
    async def readyz(response: Response) -> dict[str, Any]:
        """Ready for new calls; 503 while draining, without LiveKit, journal or store."""
        parts = await doors.ask(doors.service.readiness())
        ready = all(parts.values())
        response.status_code = 200 if ready else 503
        return {"status": "ready" if ready else "not ready", **parts}

    return router


def _house(doors: Doors) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["daemon"])

    @router.post("/drain", status_code=202, responses=DRAINING)
    async def drain(request: Request) -> dict[str, Any]:
        """Take no new calls from now on (503); running ones go on.

        ``calls`` still run; asked again it says how many are left. Only a restart ends it.
        A token needs the permission ``admin``: 403 without.
        """
        _check_operator(request)
        return {"status": "draining", "calls": await doors.ask(doors.service.drain())}

    @router.post(
        "/reload",
        responses=CHANGES,
    )
    async def reload(request: Request) -> dict[str, list[str]]:
        """Re-read trunks, routes, workflows, plans and keys.

        ``changed`` is in force for new calls, ``restart`` waits for a restart. A bad
        configuration is 422, with one error per line, and changes nothing. A token needs the
        permission ``admin``: 403 without.
        """
        _check_operator(request)
        return await doors.ask(doors.service.reload())

    return router


def _check_operator(request: Request) -> None:
    """Raise `NotAllowed` for a token of a tenant's user: what it asks for is everybody's."""
    who = access_of(request)
    if who.is_token and ADMIN not in who.permissions:
        raise NotAllowed("a token needs the permission admin")

"""The routes of calls (contract 6): made, listed, shown, forgotten."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response

from bridge.api import examples
from bridge.api.access import access_of
from bridge.api.door import Doors
from bridge.api.filters import ActiveCalls, PageOfCalls
from bridge.api.lean import Json, Lean
from bridge.api.making import IdempotencyKey, Maker
from bridge.api.models import CallAccepted, CreateCall, CreatePhoneCall
from bridge.api.reading import Reading
from bridge.api.recordings import Player
from bridge.store.fold import metrics_of
from bridge.store.queries import CallFilter


def router(doors: Doors, reading: Reading, maker: Maker, player: Player) -> APIRouter:
    """Return the routes below ``/api/v1/calls``, and seed 000's way to dial."""
    routes = APIRouter(prefix="/api/v1/calls", tags=["calls"], route_class=Lean)
    _make(routes, maker)
    _list(routes, reading)
    _one(routes, doors, reading, player)
    _parts(routes, reading, player)
    older = APIRouter(prefix="/api/calls", tags=["calls"])
    _make_older(older, maker)
    routes.routes.extend(older.routes)
    return routes


def _make(routes: APIRouter, maker: Maker) -> None:
    @routes.post("", status_code=201, responses=examples.CREATED)
    async def create(
        body: Annotated[CreateCall, examples.CREATE],
        request: Request,
        idempotency_key: IdempotencyKey = None,
    ) -> CallAccepted:
        """Dial a phone number (``sip``), or open a room for a browser and an agent (``voip``).

        Answered at once, the call runs in the background. ``call_type`` is ``sip`` when there
        is a ``phone_number``, else ``voip``. With ``Idempotency-Key`` the same request within
        24 hours is one call.
        """
        return await maker.make(body, access_of(request), idempotency_key)


def _make_older(routes: APIRouter, maker: Maker) -> None:
    @routes.post("/outbound", status_code=201, responses=examples.CREATED)
    async def outbound(
        body: Annotated[CreatePhoneCall, examples.CREATE_SIP],
        request: Request,
        idempotency_key: IdempotencyKey = None,
    ) -> CallAccepted:
        """Dial a phone number: ``POST /api/v1/calls``, always ``sip``."""
        return await maker.make(body, access_of(request), idempotency_key)


def _list(routes: APIRouter, reading: Reading) -> None:
    @routes.get("", response_model=None, responses=examples.PAGE)
    async def page_of_calls(request: Request, asked: Annotated[PageOfCalls, Query()]) -> Json:
        """Calls, newest first, one page of them; running ones as they are now."""
        wanted = CallFilter(
            tenant=access_of(request).scope,
            status=asked.status,
            workflow_id=None if asked.workflow_id is None else str(asked.workflow_id),
            user_id=asked.user_id,
            started_after=asked.started_after,
            started_before=asked.started_before,
            direction=asked.direction,
            call_type=asked.call_type,
        )
        items, total = await reading.page(
            wanted, limit=asked.page_size, offset=(asked.page - 1) * asked.page_size
        )
        return Json(
            {
                "items": items,
                "total": total,
                "page": asked.page,
                "page_size": asked.page_size,
                "pages": math.ceil(total / asked.page_size),
            }
        )

    @routes.get("/active", response_model=None, responses=examples.CALLS)
    async def active(request: Request, asked: Annotated[ActiveCalls, Query()]) -> Json:
        """Every call without an end, oldest first; at most *limit*."""
        return Json(await reading.active(access_of(request), asked.limit))


def _one(routes: APIRouter, doors: Doors, reading: Reading, player: Player) -> None:
    @routes.get("/{call_id}", response_model=None, responses=examples.CALL)
    async def show(call_id: examples.CallIdPath, request: Request) -> Json:
        """One call's status and details."""
        return Json(await reading.call(call_id, access_of(request)))

    @routes.delete("/{call_id}", status_code=202, responses=examples.ACCEPTED)
    async def hang_up(call_id: examples.CallIdPath, request: Request) -> dict[str, str]:
        """Hang up (CANCEL before the answer); 202 also when it has ended."""
        wanted = await reading.check(call_id, access_of(request))
        if not await doors.ask(doors.service.hang_up(wanted)):
            raise HTTPException(404, "no such call")
        return {"call_id": wanted}

    @routes.post("/{call_id}/erase", status_code=202, responses=examples.ERASED)
    async def erase(call_id: examples.CallIdPath, request: Request) -> dict[str, str]:
        """Forget a call: its record, events, messages, words and recording. 409 while it runs."""
        erased = await reading.erase(call_id, access_of(request))
        player.forget(erased)
        return {"call_id": erased}


def _parts(routes: APIRouter, reading: Reading, player: Player) -> None:
    @routes.get("/{call_id}/metrics", response_model=None, responses=examples.METRICS)
    async def metrics(call_id: examples.CallIdPath, request: Request) -> Json:
        """What the call's agents measured; null what none of them told."""
        return Json(metrics_of(await reading.call(call_id, access_of(request))))

    @routes.get("/{call_id}/ladder", response_model=None, responses=examples.LADDER)
    async def ladder(call_id: examples.CallIdPath, request: Request) -> Json:
        """The call's SIP messages in order, numbers masked; those of a web call are none."""
        return Json(await reading.ladder(call_id, access_of(request)))

    @routes.get(
        "/{call_id}/recording",
        response_model=None,
        response_class=Response,
        responses=examples.RECORDING,
    )
    async def recording(call_id: examples.CallIdPath, request: Request) -> Response:
        """The call's recording, caller left, what was sent to the caller right.

        With ``Range`` a part of it. 404 when the call was not recorded, 409 while it runs.
        """
        return await player.play(call_id, request)

    @routes.get("/{call_id}/analysis", response_model=None, responses=examples.ANALYSIS)
    async def analysis(call_id: examples.CallIdPath, request: Request) -> Json:
        """What was made of the conversation; null what nobody has told."""
        report = await reading.report(call_id, access_of(request))
        return Json(analysis_of(report))

    @routes.get("/{call_id}/cost", response_model=None, responses=examples.COST)
    async def cost(call_id: examples.CallIdPath, request: Request) -> Json:
        """What the call cost; null what nobody has told."""
        who = access_of(request)
        report = await reading.report(call_id, who)
        return Json(cost_of(report, await reading.call(call_id, who)))


def analysis_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return seed 000's call analysis."""
    told = report.get("analysis")
    told = told if isinstance(told, Mapping) else {}
    names = ("summary", "sentiment", "topics", "action_items")
    return {**{name: told.get(name) for name in names}, **told}


def cost_of(report: Mapping[str, Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """Return seed 000's cost breakdown, and what there was to pay for."""
    told = report.get("cost")
    told = told if isinstance(told, Mapping) else {}
    measured = metrics_of(call)
    return {
        "total": told.get("total"),
        "currency": told.get("currency"),
        "breakdown": told.get("breakdown"),
        "usage": {
            "duration_seconds": measured["duration_seconds"],
            "total_tokens": measured["total_tokens"],
        },
    }

"""The routes of calls (contract 6)."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request

from bridge.api import examples
from bridge.api.access import access_of
from bridge.api.door import Doors, call_id_of, known
from bridge.api.models import CallAccepted, CreateCall, Digits, TransferTarget
from bridge.call.requests import BadRequest

Status = Literal[
    "pending", "connecting", "active", "completed", "failed", "disconnected", "timeout"
]

LATER = ("workflow_id", "user_id", "started_after", "started_before")


def router(doors: Doors) -> APIRouter:
    """Return the routes below ``/api/v1/calls``."""
    routes = APIRouter(prefix="/api/v1/calls", tags=["calls"])
    _whole(routes, doors)
    _one(routes, doors)
    _control(routes, doors)
    return routes


def _whole(routes: APIRouter, doors: Doors) -> None:
    service = doors.service

    @routes.post("", status_code=201)
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
        key = None if idempotency_key is None else f"{access_of(request).name}\0{idempotency_key}"
        accepted = await doors.ask(service.dial(body.request(), key=key))
        return CallAccepted(
            call_id=accepted.call_id,
            room_name=accepted.room_name,
            url=accepted.url,
            token=accepted.token,
            status=accepted.status,
        )

    @routes.get("", responses=examples.PAGE)
    async def page_of_calls(
        request: Request,
        status: Status | None = None,
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
        page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> dict[str, Any]:
        """The calls of this instance, newest first.

        The filters ``workflow_id``, ``user_id``, ``started_after`` and ``started_before``
        come with the store; until then they are 422 rather than ignored.
        """
        for name in LATER:
            if name in request.query_params:
                raise BadRequest(name, "this filter is not served yet")
        items, total = await doors.ask(
            service.calls(status=status, limit=page_size, offset=(page - 1) * page_size)
        )
        return {
            "items": items,
            "total": total,
            "page": page,
            "page_size": page_size,
            "pages": math.ceil(total / page_size),
        }

    @routes.get("/active", responses=examples.CALLS)
    async def active(
        limit: Annotated[int | None, Query(ge=1)] = None,
    ) -> list[dict[str, Any]]:
        """Every call without an end, oldest first; at most *limit*."""
        return await doors.ask(service.active(limit))


def _one(routes: APIRouter, doors: Doors) -> None:
    service = doors.service

    @routes.get("/{call_id}", responses=examples.CALL)
    async def show(call_id: str) -> dict[str, Any]:
        """One call's status and details."""
        return known(await doors.ask(service.find(call_id_of(call_id))))

    @routes.get("/{call_id}/ladder", responses=examples.LADDER)
    async def ladder(call_id: str) -> list[dict[str, Any]]:
        """The call's SIP messages in order, numbers masked.

        Kept in memory for the last calls only: empty when they are gone.
        """
        return known(await doors.ask(service.ladder(call_id_of(call_id))))

    @routes.delete("/{call_id}", status_code=202, responses=examples.ACCEPTED)
    async def hang_up(call_id: str) -> dict[str, str]:
        """Hang up (CANCEL before the answer); 202 also when it has ended."""
        wanted = call_id_of(call_id)
        known(await doors.ask(service.hang_up(wanted)))
        return {"call_id": wanted}


def _control(routes: APIRouter, doors: Doors) -> None:
    service = doors.service

    @routes.post("/{call_id}/hold", status_code=202, responses=examples.CONTROLLED)
    async def hold(call_id: str) -> dict[str, str]:
        """Hold the far end (our own hold: no ``call_hold`` is told of it).

        Answered when the far end agreed; 409 when the call's state forbids it, 502 when
        the far end refused or did not answer.
        """
        wanted = call_id_of(call_id)
        known(await doors.ask(service.hold(wanted)))
        return {"call_id": wanted}

    @routes.post("/{call_id}/resume", status_code=202, responses=examples.CONTROLLED)
    async def resume(call_id: str) -> dict[str, str]:
        """End our own hold; as ``/hold``."""
        wanted = call_id_of(call_id)
        known(await doors.ask(service.resume(wanted)))
        return {"call_id": wanted}

    @routes.post("/{call_id}/transfer", status_code=202, responses=examples.TRANSFERRED)
    async def transfer(call_id: str, body: TransferTarget) -> dict[str, str]:
        """Ask the far end to call somebody else (REFER), whom ``transfer_allow`` must name.

        Answered when the far end agreed to try; how it goes are ``call_transfer`` events. 403
        when it is not allowed, 409 when the call's state forbids it, 502 when the far end
        refused or did not answer.
        """
        wanted = call_id_of(call_id)
        known(await doors.ask(service.transfer(wanted, body.to)))
        return {"call_id": wanted}

    @routes.post("/{call_id}/dtmf", status_code=202, responses=examples.CONTROLLED)
    async def send_dtmf(call_id: str, body: Digits) -> dict[str, str]:
        """Play keys to the far end as RFC 4733 telephone-events; ``w`` waits half a second.

        409 before the answer, on hold, and when the far end takes no telephone-events.
        """
        wanted = call_id_of(call_id)
        known(await doors.ask(service.send_dtmf(wanted, body.digits)))
        return {"call_id": wanted}

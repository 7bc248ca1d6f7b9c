"""The routes by which a running call is held, sent keys and transferred (contract 6)."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Request

from bridge.api import examples
from bridge.api.access import access_of
from bridge.api.door import Doors
from bridge.api.models import Digits, TransferTarget
from bridge.api.reading import Reading
from bridge.call.requests import WrongState

ATTENDED: Final = "call:"
"""Before the id of another call, in ``to`` (`bridge.call.target`)."""


def router(doors: Doors, reading: Reading) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/calls", tags=["calls"])
    service = doors.service

    async def done(asked: Coroutine[Any, Any, bool], call_id: str) -> dict[str, str]:
        if not await doors.ask(asked):
            raise HTTPException(404, "no such call")
        return {"call_id": call_id}

    @routes.post("/{call_id}/hold", status_code=202, responses=examples.CONTROLLED)
    async def hold(call_id: examples.CallIdPath, request: Request) -> dict[str, str]:
        """Hold the far end (our own hold: no ``call_hold`` is told of it).

        Answered when the far end agreed; 409 when the call's state forbids it, 502 when
        the far end refused or did not answer.
        """
        wanted = await reading.check(call_id, access_of(request))
        return await done(service.hold(wanted), wanted)

    @routes.post("/{call_id}/resume", status_code=202, responses=examples.CONTROLLED)
    async def resume(call_id: examples.CallIdPath, request: Request) -> dict[str, str]:
        """End our own hold; as ``/hold``."""
        wanted = await reading.check(call_id, access_of(request))
        return await done(service.resume(wanted), wanted)

    @routes.post("/{call_id}/transfer", status_code=202, responses=examples.TRANSFERRED)
    async def transfer(
        call_id: examples.CallIdPath,
        body: Annotated[TransferTarget, examples.TRANSFER],
        request: Request,
    ) -> dict[str, str]:
        """Ask the far end to call somebody else (REFER), whom ``transfer_allow`` must name.

        Answered when the far end agreed to try; how it goes are ``call_transfer`` events. 403
        when it is not allowed, 409 when the call's state forbids it, 502 when the far end
        refused or did not answer.
        """
        who = access_of(request)
        wanted = await reading.check(call_id, who)
        other = body.to.removeprefix(ATTENDED) if body.to.startswith(ATTENDED) else None
        if other is not None and not await reading.sees(other, who):
            raise WrongState("there is no such other call on this trunk")  # as if it were not
        return await done(service.transfer(wanted, body.to), wanted)

    @routes.post("/{call_id}/dtmf", status_code=202, responses=examples.CONTROLLED)
    async def send_dtmf(
        call_id: examples.CallIdPath, body: Annotated[Digits, examples.DTMF], request: Request
    ) -> dict[str, str]:
        """Play keys to the far end as RFC 4733 telephone-events; ``w`` waits half a second.

        409 before the answer, on hold, and when the far end takes no telephone-events.
        """
        wanted = await reading.check(call_id, access_of(request))
        return await done(service.send_dtmf(wanted, body.digits), wanted)

    return routes

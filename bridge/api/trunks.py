"""``GET /api/v1/trunks``: health and last failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter
from pydantic import BaseModel

from bridge.api import examples

if TYPE_CHECKING:
    from bridge.api.app import Doors


class TrunkDoor(Protocol):
    """Who knows the trunks; its coroutine runs on the main loop."""

    async def report(self) -> list[dict[str, Any]]:
        """Return one object for each trunk, in the order of the file."""


class TrunkFailure(BaseModel):
    """A call or probe that failed; ``sip_status`` null: no answer came.

    ``detail``: why a connection could not be made.
    """

    at: str
    by: str
    sip_status: int | None
    reason: str
    detail: str = ""


class TrunkCalls(BaseModel):
    """Calls that run now."""

    inbound: int
    outbound: int


class TrunkRegistration(BaseModel):
    """How the last REGISTER went.

    ``state``: registering (no answer yet), registered, refused, no_answer, removed;
    ``until`` is when the registrar forgets us, null when it does not have us.
    """

    state: str
    until: str | None
    sip_status: int | None


class TrunkReport(BaseModel):
    """One trunk. ``status``: up, down, or unknown until something was asked of it.

    ``registration``: null when the trunk is not registered at the carrier's.
    """

    name: str
    profile: str
    host: str
    port: int
    transport: str
    status: str
    calls: TrunkCalls
    max_calls: int
    calls_per_second: float
    options_interval: float
    registration: TrunkRegistration | None
    last_success: str | None
    last_failures: list[TrunkFailure]


def trunks_router(doors: Doors, trunks: TrunkDoor) -> APIRouter:
    """Return the route."""
    router = APIRouter(prefix="/api/v1/trunks", tags=["trunks"])

    @router.get("", responses=examples.TRUNKS_ANSWER)
    async def show() -> list[TrunkReport]:
        """Every trunk: whether it can be reached, its calls and limits, its last failures."""
        return [TrunkReport(**row) for row in await doors.ask(trunks.report())]

    return router

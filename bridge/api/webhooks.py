"""``POST /api/v1/webhooks/{delivery}/replay``: tell a receiver again."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Annotated, Final, Protocol

from fastapi import APIRouter, HTTPException, Path, Request
from pydantic import BaseModel, Field

from bridge.api.access import access_of
from bridge.api.asking import asked
from bridge.api.examples import Responses, problem_of

_DELIVERY: Final = "0b9f8d0c-2c1e-5d46-9a53-5d6f0a7c1e22"

DeliveryPath = Annotated[
    str,
    Path(
        description="A delivery's id, as its receiver saw it; what is no id is no delivery.",
        max_length=64,
        examples=[_DELIVERY],
        json_schema_extra={"format": "uuid"},
    ),
]
_ANSWERS: Final[Responses] = {
    404: problem_of("no such delivery", 404, "Not Found"),
    503: problem_of("the store cannot be read", 503, "Service Unavailable"),
}


class Replayed(BaseModel):
    """It is in line again; the receiver sees the same id and body."""

    id: str = Field(examples=[_DELIVERY], json_schema_extra={"format": "uuid"})


class Sent(Protocol):
    """A delivery as found."""

    @property
    def tenant_id(self) -> str | None: ...


class Outbox(Protocol):
    """What was sent. Every method blocks and raises `BridgeError`."""

    def find(self, delivery: str) -> Sent | None: ...
    def replay(self, delivery: str, now: float) -> bool: ...


def router(
    outbox: Outbox, wake: Callable[[], object], *, clock: Callable[[], float] = time.time
) -> APIRouter:
    """Return the route; *wake* tells the deliverer that there is something to send."""
    routes = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

    @routes.post("/{delivery}/replay", status_code=202, responses=_ANSWERS)
    async def replay(delivery: DeliveryPath, request: Request) -> Replayed:
        """Send a delivery again, delivered or dead: same id, same body, retried as a new one.

        A delivered one is kept for 7 days; an erased call's is not kept at all.
        """
        wanted = _id_of(delivery)
        found = await asked(lambda: outbox.find(wanted)) if wanted else None
        if found is None or not access_of(request).sees(found.tenant_id):
            raise HTTPException(404, "no such delivery")
        if not await asked(lambda: outbox.replay(wanted, clock())):
            raise HTTPException(404, "the delivery's body is not kept any more")
        wake()
        return Replayed(id=wanted)

    return routes


def _id_of(text: str) -> str:
    """Return the id as it is written; ``""`` for what is none."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""

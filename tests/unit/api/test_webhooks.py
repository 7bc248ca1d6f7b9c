"""The replay of a webhook's delivery."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from bridge.api import problems, webhooks
from bridge.api.access import HERE, Access
from bridge.errors import BridgeError

pytestmark = pytest.mark.unit

DELIVERY = str(uuid.uuid4())
UNKNOWN = "398f546a-ee20-4d10-ab3a-89709c5284c2"
KEY = Access(name="app", tenant="tenant-a", plan="pro", permissions=frozenset(("stt",)), credit=0.0)
ADMIN = Access(
    name="ops", tenant="tenant-b", plan="pro", permissions=frozenset(("admin",)), credit=0.0
)


@dataclass(frozen=True)
class Sent:
    tenant_id: str | None
    replayable: bool = True


@dataclass
class Box:
    """An outbox with one delivery."""

    sent: Sent | None
    away: bool = False
    replayed: list[tuple[str, float]] = field(default_factory=list)
    woken: int = 0

    def find(self, delivery: str) -> Sent | None:
        if self.away:
            raise BridgeError("sqlite") from sqlite3.OperationalError("x")
        return self.sent if delivery == DELIVERY else None

    def replay(self, delivery: str, now: float) -> bool:
        assert self.sent is not None
        if self.sent.replayable:
            self.replayed.append((delivery, now))
        return self.sent.replayable

    def wake(self) -> None:
        self.woken += 1


async def replay(box: Box, delivery: str = DELIVERY, *, who: Access = KEY) -> httpx.Response:
    app = FastAPI()
    problems.install(app, lambda _: ["POST"])

    @app.middleware("http")
    async def asks(request: Request, following: Any) -> Any:
        request.state.access = who
        return await following(request)

    app.include_router(webhooks.router(box, box.wake, clock=lambda: 7.0))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.post(f"/api/v1/webhooks/{delivery}/replay")


@pytest.mark.parametrize("tenant", ["tenant-a", None])
async def test_a_replay_is_taken_with_its_id(tenant: str | None) -> None:
    box = Box(Sent(tenant))
    answer = await replay(box)
    assert (answer.status_code, answer.json()) == (202, {"id": DELIVERY})
    assert box.replayed == [(DELIVERY, 7.0)]
    assert box.woken == 1


async def test_an_id_in_capitals_is_the_same_id() -> None:
    assert (await replay(Box(Sent(None)), DELIVERY.upper())).json() == {"id": DELIVERY}


@pytest.mark.parametrize("delivery", [UNKNOWN, "nothing", "%00"])
async def test_an_unknown_delivery_is_404(delivery: str) -> None:
    answer = await replay(Box(Sent("tenant-a")), delivery)
    assert (answer.status_code, answer.json()["detail"]) == (404, "no such delivery")


async def test_another_tenants_delivery_is_404() -> None:
    box = Box(Sent("tenant-b"))
    assert (await replay(box)).status_code == 404
    assert (box.replayed, box.woken) == ([], 0)


@pytest.mark.parametrize("who", [HERE, ADMIN])
async def test_who_sees_everything_may_replay_everything(who: Access) -> None:
    assert (await replay(Box(Sent("tenant-c")), who=who)).status_code == 202


async def test_a_body_that_is_not_kept_any_more_is_404() -> None:
    box = Box(Sent("tenant-a", replayable=False))
    answer = await replay(box)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "the delivery's body is not kept any more"


async def test_a_store_that_is_away_is_503() -> None:
    answer = await replay(Box(Sent(None), away=True))
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0

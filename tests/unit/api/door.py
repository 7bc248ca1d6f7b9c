"""The real app over a service that answers what a test told it to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx

from bridge.api.app import Doors, make_app
from bridge.api.auth import ApiKey, Gatekeeper
from bridge.call.requests import Accepted, DialRequest

CALL = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
KEY = ApiKey(name="app", secret="s3cret")


class FakeService:
    """A call service with one call."""

    def __init__(self) -> None:
        self.dialled: list[tuple[DialRequest, str | None]] = []
        self.hung_up: list[str] = []
        self.failure: Exception | None = None
        self.ready = True
        self.call: dict[str, Any] = {"id": CALL, "outcome": None, "started_at": None}
        self.events: list[dict[str, Any]] = []

    async def dial(self, request: DialRequest, *, key: str | None = None) -> Accepted:
        if self.failure is not None:
            raise self.failure
        self.dialled.append((request, key))
        return Accepted(
            call_id=CALL, room_name=f"call-{CALL}", url="ws://x", token="t", status="pending"
        )

    async def find(self, call_id: str) -> dict[str, Any] | None:
        if self.failure is not None:
            raise self.failure
        return self.call if call_id == CALL else None

    async def active(self, limit: int | None) -> list[dict[str, Any]]:
        return [self.call][:limit]

    async def events_of(self, call_id: str) -> list[dict[str, Any]] | None:
        return list(self.events) if call_id == CALL else None

    async def hang_up(self, call_id: str) -> bool:
        self.hung_up.append(call_id)
        return call_id == CALL

    async def readiness(self) -> dict[str, bool]:
        return {"accepting": self.ready, "livekit": True, "journal": True}


def transport_of(
    service: FakeService, keys: Sequence[ApiKey] = (), *, raises: bool = True
) -> httpx.ASGITransport:
    """Return a transport into the app, on the running loop."""
    doors = Doors(service, asyncio.get_running_loop())
    app = make_app(doors, Gatekeeper(keys), version="0.0.0")
    return httpx.ASGITransport(app, raise_app_exceptions=raises)


def client_of(
    service: FakeService,
    keys: Sequence[ApiKey] = (),
    *,
    base_url: str = "http://127.0.0.1:8080",
    raises: bool = True,
) -> httpx.AsyncClient:
    """Return a client of the app."""
    transport = transport_of(service, keys, raises=raises)
    return httpx.AsyncClient(transport=transport, base_url=base_url)

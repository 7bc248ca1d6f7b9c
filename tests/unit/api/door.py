"""The real app over a service that answers what a test told it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from fastapi import FastAPI

from bridge.api.app import Doors, make_app
from bridge.api.auth import ApiKey, Gatekeeper
from bridge.api.reading import Reading
from bridge.call.requests import Accepted, Admit, DialRequest, anybody
from bridge.feed import Feed
from bridge.store.queries import CallFilter
from bridge.store.store import StoredCall

CALL = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
KEY = ApiKey(name="app", secret="s3cret")


class FakeRecord:
    """A call's record."""

    def __init__(self, call: dict[str, Any]) -> None:
        self._call = call

    def as_dict(self) -> dict[str, Any]:
        return self._call


class FakeService:
    """A call service with one call."""

    async def tenants_in(self, room: str) -> list[str | None]:
        return self.tenants.get(room, [])

    def __init__(self) -> None:
        self.tenants: dict[str, list[str | None]] = {}
        self.dialled: list[tuple[DialRequest, str | None]] = []
        self.hung_up: list[str] = []
        self.failure: Exception | None = None
        self.ready = True
        self.call: dict[str, Any] = {
            "id": CALL,
            "tenant_id": None,
            "status": "pending",
            "outcome": None,
            "metrics": None,
            "duration_seconds": None,
            "created_at": "2026-01-17T10:29:55.000Z",
            "started_at": None,
            "ended_at": None,
            "seq": 0,
        }
        self.events: list[dict[str, Any]] = []
        self.rungs: list[dict[str, Any]] = []
        self.asked: list[tuple[str, ...]] = []

    async def dial(
        self, request: DialRequest, *, key: str | None = None, admit: Admit = anybody
    ) -> Accepted:
        if self.failure is not None:
            raise self.failure
        admit()
        self.dialled.append((request, key))
        return Accepted(
            call_id=CALL, room_name=f"call-{CALL}", url="ws://x", token="t", status="pending"
        )

    async def find(self, call_id: str) -> dict[str, Any] | None:
        if self.failure is not None:
            raise self.failure
        return self.call if call_id == CALL else None

    def now(self, call_ids: Sequence[str]) -> dict[str, FakeRecord]:
        if self.failure is not None:
            raise self.failure
        running = self.call["ended_at"] is None and CALL in call_ids
        return {CALL: FakeRecord(self.call)} if running else {}

    async def active(self, limit: int | None) -> list[dict[str, Any]]:
        return [self.call][:limit]

    async def erase(self, call_id: str) -> bool:
        return self._control("erase", call_id)

    async def ladder(self, call_id: str) -> list[dict[str, Any]] | None:
        return self.rungs if call_id == CALL else None

    async def events_of(self, call_id: str) -> list[dict[str, Any]] | None:
        return list(self.events) if call_id == CALL else None

    async def hang_up(self, call_id: str) -> bool:
        self.hung_up.append(call_id)
        return call_id == CALL

    async def hold(self, call_id: str) -> bool:
        return self._control("hold", call_id)

    async def resume(self, call_id: str) -> bool:
        return self._control("resume", call_id)

    async def send_dtmf(self, call_id: str, digits: str) -> bool:
        return self._control("dtmf", call_id, digits)

    async def transfer(self, call_id: str, to: str) -> bool:
        return self._control("transfer", call_id, to)

    def _control(self, *asked: str) -> bool:
        if self.failure is not None:
            raise self.failure
        self.asked.append(asked)
        return asked[1] == CALL

    async def drain(self) -> int:
        self.ready = False
        return 3

    async def reload(self) -> dict[str, list[str]]:
        if self.failure is not None:
            raise self.failure
        return {"changed": ["trunk[t].port: 5060 -> 5061"], "restart": []}

    async def readiness(self) -> dict[str, bool]:
        return {"accepting": self.ready, "livekit": True, "journal": True}


class FakeStore:
    """A store with that call of the service, and whatever else is put in ``rows``."""

    def __init__(self, service: FakeService) -> None:
        self._service = service
        self.rows: dict[str, dict[str, Any]] = {}
        self.logged: dict[str, list[dict[str, Any]]] = {}
        self.rungs: dict[str, list[dict[str, Any]]] = {}
        self.told: dict[str, dict[str, Any]] = {}
        self.erased: list[str] = []
        self.asked: list[tuple[CallFilter, int, int]] = []
        self.total: int | None = None
        self.failure: Exception | None = None
        self.tenants: dict[str, list[str | None]] = {}

    shared = False

    def tenants_elsewhere(self, room: str) -> list[str | None]:
        self._all()
        return self.tenants.get(room, [])

    def _all(self) -> dict[str, dict[str, Any]]:
        if self.failure is not None:
            raise self.failure
        return {CALL: dict(self._service.call), **self.rows}

    def call(self, call_id: str) -> StoredCall | None:
        row = self._all().get(call_id)
        if row is None:
            return None
        return StoredCall(record=row, private={}, instance="here", tenant_id=row["tenant_id"])

    def calls(
        self, wanted: CallFilter, *, limit: int, offset: int
    ) -> tuple[list[dict[str, Any]], int]:
        self.asked.append((wanted, limit, offset))
        statuses = wanted.statuses or ((wanted.status,) if wanted.status else ())
        found = [
            row
            for row in self._all().values()
            if (not statuses or row["status"] in statuses)
            and (wanted.tenant is None or row["tenant_id"] in (None, wanted.tenant))
        ]
        total = len(found) if self.total is None else self.total
        return found[offset : offset + limit], total

    def events(self, call_id: str, *, after: int = 0) -> list[dict[str, Any]]:
        self._all()
        return [event for event in self.logged.get(call_id, ()) if event["seq"] > after]

    def ladder(self, call_id: str) -> list[dict[str, Any]] | None:
        self._all()
        return self.rungs.get(call_id)

    def reports(self, call_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        self._all()
        return {id_: self.told[id_] for id_ in call_ids if id_ in self.told}

    def erase(self, call_id: str) -> bool:
        self._all()
        self.erased.append(call_id)
        return True


class FakeProjection:
    """Always as far as the journal, or never."""

    def __init__(self) -> None:
        self.fresh = True

    async def caught_up(self, timeout: float) -> bool:
        return self.fresh


class FakeLog:
    """A journal in memory: what is in ``rows`` is written."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, str, int, str]] = []
        self.failure: Exception | None = None
        self.reads = 0

    def write(self, event: Mapping[str, Any], position: int | None = None) -> None:
        where = position or len(self.rows) + 1
        body = json.dumps(event, separators=(",", ":"))
        self.rows.append((where, event["call_id"], event["seq"], body))

    def _rows(self) -> list[tuple[int, str, int, str]]:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return list(self.rows)

    def events_since(self, position: int, *, limit: int) -> list[tuple[int, str, int, str]]:
        return [row for row in self._rows() if row[0] > position][:limit]

    def events_of(self, call_id: str, *, after: int, limit: int) -> list[tuple[int, str, int, str]]:
        return [row for row in self._rows() if row[1] == call_id and row[2] > after][:limit]

    def last_position(self) -> int:
        return max((row[0] for row in self._rows()), default=0)


def app_of(
    service: FakeService,
    keys: Sequence[ApiKey] = (),
    log: FakeLog | None = None,
    store: FakeStore | None = None,
    secret: str = "",
    projection: FakeProjection | None = None,
    **parts: Any,
) -> FastAPI:
    """Return the app over *service* on the running loop."""
    doors = Doors(service, asyncio.get_running_loop())
    reading = Reading(doors, store or FakeStore(service), projection or FakeProjection())
    return make_app(
        doors,
        Gatekeeper(keys, secret),
        Feed(log or FakeLog()),
        version="0.0.0",
        reading=reading,
        **parts,
    )


def transport_of(
    service: FakeService,
    keys: Sequence[ApiKey] = (),
    *,
    raises: bool = True,
    log: FakeLog | None = None,
    store: FakeStore | None = None,
    **parts: Any,
) -> httpx.ASGITransport:
    """Return a transport into the app, on the running loop."""
    app = app_of(service, keys, log, store, **parts)
    return httpx.ASGITransport(app, raise_app_exceptions=raises)


def client_of(
    service: FakeService,
    keys: Sequence[ApiKey] = (),
    *,
    base_url: str = "http://127.0.0.1:8080",
    raises: bool = True,
    log: FakeLog | None = None,
    store: FakeStore | None = None,
    **parts: Any,
) -> httpx.AsyncClient:
    """Return a client of the app."""
    transport = transport_of(service, keys, raises=raises, log=log, store=store, **parts)
    return httpx.AsyncClient(transport=transport, base_url=base_url)

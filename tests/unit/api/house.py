"""The real app over a real switchboard, call service, journal, store and feed; only SIP, media
and LiveKit are faked (`tests.unit.call.desk`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from bridge.api.app import Doors, make_app
from bridge.api.auth import ApiKey, Gatekeeper
from bridge.api.reading import Reading
from bridge.call.record import workflow_id
from bridge.call.switchboard import Switchboard
from bridge.config.config import Config
from bridge.feed import Feed
from bridge.journal.entries import Entry
from bridge.store.project import Projection
from bridge.store.store import Store
from bridge.ua.tap import Ladder
from tests.unit.call.desk import Desk, a_desk


class Lord:
    """A daemon around the calls that only says what it is asked for."""

    store_up = True

    def drain(self) -> None: ...

    async def reread(self) -> dict[str, list[str]]:
        return {"changed": [], "restart": []}


class House:
    """Everything behind the API; `write` puts a call there that is over, as it was."""

    def __init__(self, desk: Desk, store: Store, projection: Projection) -> None:
        self.desk = desk
        self.store = store
        self.projection = projection
        self.feed = Feed(desk.journal)
        self.switchboard = Switchboard(desk.service, desk.journal, Lord(), Ladder().of)

    def app(self, keys: Sequence[ApiKey] = (), **parts: Any) -> FastAPI:
        doors = Doors(self.switchboard, asyncio.get_running_loop())
        reading = Reading(doors, self.store, self.projection, self.store.near)
        return make_app(
            doors, Gatekeeper(keys), self.feed, version="0.0.0", reading=reading, **parts
        )

    def client(self, keys: Sequence[ApiKey] = (), **parts: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app(keys, **parts))
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080")

    async def write(self, record: Mapping[str, Any], *events: Mapping[str, Any]) -> None:
        """Journal a call as it was, with its *events*."""
        whole = {**_BARE, **record}
        ended = whole["ended_at"] is not None
        for event in events or (None,):
            entry = Entry(
                call_id=whole["id"],
                created_at=datetime.fromisoformat(whole["created_at"]).timestamp(),
                event=dict(event) if event is not None else None,
                record=whole,
                ended=ended,
            )
            await self.desk.journal.append([entry])

    async def report(self, call_id: str, **told: Any) -> None:
        """Journal what an agent has measured."""
        await self.desk.journal.note(call_id, "report", told)


_BARE: Mapping[str, Any] = {
    "workflow_id": None,
    "workflow_slug": None,
    "user_id": None,
    "status": "pending",
    "direction": "outbound",
    "call_type": "sip",
    "phone_number": None,
    "trunk_number": None,
    "trunk": "exotel",
    "agent": None,
    "room_name": "",
    "user_context": {},
    "metadata": {},
    "agent_history": [],
    "current_agent": None,
    "metrics": None,
    "tenant_id": None,
    "hold": False,
    "outcome": None,
    "reason": None,
    "ended_by": None,
    "sip_status": None,
    "q850": None,
    "duration_ms": None,
    "carrier_ids": {},
    "media_engine": None,
    "media_engine_reason": None,
    "seq": 0,
    "created_at": "2026-01-17T10:29:55.000Z",
    "started_at": None,
    "ended_at": None,
    "duration_seconds": None,
}


def of_workflow(slug: str) -> dict[str, str]:
    """Return a record's fields of a workflow."""
    return {"workflow_id": workflow_id(slug), "workflow_slug": slug}


@asynccontextmanager
async def a_house(
    folder: Path, settings: Config | None = None, *, made: Callable[[House], None] | None = None
) -> AsyncIterator[House]:
    """A house whose calls are ended in the end."""
    async with a_desk(folder / "journal.db", settings) as desk:
        store = await asyncio.to_thread(
            Store.open, f"sqlite:///{folder / 'store.db'}", instance="test"
        )
        projection = Projection(desk.journal, store)
        projection.start()
        try:
            yield House(desk, store, projection)
        finally:
            await asyncio.to_thread(projection.stop)
            await asyncio.to_thread(store.close)

"""What the journal, the store and the API say, read from outside the daemon."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sql

from bridge.store import database, tables
from tests.kill.verdict import Found
from tests.system.harness import Bridge


def open_in_journal(path: Path) -> int:
    """Return how many calls have no end yet."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return int(database.execute("select count(*) from calls where not ended").fetchone()[0])


def in_journal(path: Path) -> Found:
    """Read the journal's file as it is."""
    found = Found(place="journal")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for call_id, record, ended in database.execute("select call_id, record, ended from calls"):
            found.records[call_id] = json.loads(record)
            if not ended:
                found.records[call_id] = {**found.records[call_id], "outcome": None}
        for call_id, body in database.execute("select call_id, body from events order by position"):
            found.events.setdefault(call_id, []).append(json.loads(body))
    return found


async def by_api(bridge: Bridge, known: list[str]) -> Found:
    """Ask the API for the list of all calls, and for the events of each that is *known*."""
    found = Found(place="API")
    async with httpx.AsyncClient(base_url=bridge.url, timeout=30) as http:
        async for record in _pages(http):
            found.records[record["id"]] = record
        for call_id in known:
            reply = await http.get(f"/api/v1/calls/{call_id}")
            if reply.status_code == 200 and reply.json() != found.records.get(call_id):
                found.records[call_id] = {"id": call_id, "status": "is not what the list says"}
            events = await http.get(f"/api/v1/calls/{call_id}/events")
            found.events[call_id] = events.json() if events.status_code == 200 else []
    return found


async def _pages(http: httpx.AsyncClient) -> AsyncIterator[dict[str, Any]]:
    page = 1
    while True:
        reply = await http.get("/api/v1/calls", params={"page": page, "page_size": 100})
        reply.raise_for_status()
        document = reply.json()
        for record in document["items"]:
            yield record
        if page >= document["pages"]:
            return
        page += 1


def in_store(url: str) -> Found:
    """Read the store's tables."""
    found = Found(place="store")
    engine = database.connect(database.parse(url))
    calls, events = tables.calls, tables.events
    try:
        with engine.connect() as connection:
            for call_id, record in connection.execute(sql.select(calls.c.id, calls.c.record)):
                found.records[call_id] = json.loads(record)
            told = sql.select(events.c.call_id, events.c.body).order_by(
                events.c.call_id, events.c.seq
            )
            for call_id, body in connection.execute(told):
                found.events.setdefault(call_id, []).append(json.loads(body))
    finally:
        engine.dispose()
    return found

"""Every call example of seed 003, asked for as it stands there and compared field by field.

One test for each. What the bridge says beside the seed's fields is more, never other.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.call.record import workflow_id
from bridge.config.config import Config
from tests.unit.api.house import House, a_house, of_workflow
from tests.unit.call.desk import trunk

pytestmark = pytest.mark.unit

CALL = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a11"
METRICS = {
    "stt_latency_ms": 120,
    "llm_latency_ms": 280,
    "tts_latency_ms": 85,
    "total_tokens": 1500,
    "agent_handoffs": 2,
}
AGENTS = ["greeter-agent", "meal-agent", "feedback-agent"]
OVER: Mapping[str, Any] = {
    "id": CALL,
    **of_workflow("daily-call"),
    "user_id": "user-123",
    "status": "completed",
    "outcome": "completed",
    "direction": "outbound",
    "call_type": "sip",
    "phone_number": "+919876543210",
    "room_name": f"call-{CALL}",
    "duration_ms": 180_000,
    "duration_seconds": 180,
    "seq": 2,
    "created_at": "2026-01-17T10:29:55.000Z",
    "started_at": "2026-01-17T10:30:00.000Z",
    "ended_at": "2026-01-17T10:33:00.000Z",
}
STAMPS = ("created_at", "started_at", "ended_at")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    settings = Config(
        trunk=[trunk()],
        workflow=[
            {"slug": "daily-call", "agent": "greeter-agent"},
            {"slug": "welcome-call", "agent": "greeter-agent"},
        ],
    )
    async with a_house(tmp_path, settings) as house:
        yield house


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with house.client() as client:
        yield client


async def the_call(house: House) -> None:
    """Put the seed's call there, with what its agents reported."""
    answered = {"event": "call_answered", "version": 1, "call_id": CALL, "seq": 1}
    ended = {"event": "call_ended", "version": 1, "call_id": CALL, "seq": 2}
    await house.write(
        OVER,
        {**answered, "at": OVER["started_at"], "codec": "PCMA", "ring_ms": 5000},
        {**ended, "at": OVER["ended_at"], "outcome": "completed"},
    )
    await house.report(CALL, metrics=METRICS, agent_history=AGENTS)


def matches(shown: Mapping[str, Any], example: Mapping[str, Any]) -> None:
    """Compare field by field; the seed writes times without milliseconds."""
    seen = {name: shown[name] for name in example}
    for name in STAMPS:
        if seen.get(name) is not None:
            seen[name] = seen[name].replace(".000Z", "Z")
    assert seen == example


async def test_sip_call_example(house: House, client: httpx.AsyncClient) -> None:
    """Initiate Call, SIP Call Example, and its response."""
    answer = await client.post(
        "/api/v1/calls",
        json={
            "workflow_slug": "welcome-call",
            "user_id": "user-456",
            "call_type": "sip",
            "phone_number": "+919876543210",
            "user_context": {"name": "Jane Smith", "onboarding_status": "new"},
        },
    )
    assert answer.status_code == 201
    made = answer.json()
    assert set(made) == {"call_id", "room_name", "url", "token", "status"}
    assert str(uuid.UUID(made["call_id"])) == made["call_id"]
    assert made["room_name"] == f"call-{made['call_id']}"
    assert made["url"].startswith("ws")
    assert made["token"]
    assert made["status"] == "pending"
    shown = (await client.get(f"/api/v1/calls/{made['call_id']}")).json()
    assert shown["status"] in ("pending", "connecting")
    matches(
        shown,
        {
            **of_workflow("welcome-call"),
            "user_id": "user-456",
            "call_type": "sip",
            "direction": "outbound",
            "phone_number": "+919876543210",
            "user_context": {"name": "Jane Smith", "onboarding_status": "new"},
            "agent_history": [],
            "current_agent": None,
            "metrics": None,
            "duration_seconds": None,
            "started_at": None,
            "ended_at": None,
        },
    )


async def test_get_call_example(house: House, client: httpx.AsyncClient) -> None:
    await the_call(house)
    answer = await client.get(f"/api/v1/calls/{CALL}")
    assert answer.status_code == 200
    metrics = answer.json().pop("metrics")
    matches(
        answer.json(),
        {
            "id": CALL,
            "workflow_id": workflow_id("daily-call"),
            "workflow_slug": "daily-call",
            "user_id": "user-123",
            "status": "completed",
            "direction": "outbound",
            "call_type": "sip",
            "phone_number": "+919876543210",
            "duration_seconds": 180,
            "agent_history": AGENTS,
            "current_agent": None,
            "started_at": "2026-01-17T10:30:00Z",
            "ended_at": "2026-01-17T10:33:00Z",
            "created_at": "2026-01-17T10:29:55Z",
        },
    )
    assert metrics == {"duration_seconds": 180, **METRICS}


async def test_get_call_metrics_example(house: House, client: httpx.AsyncClient) -> None:
    await the_call(house)
    answer = await client.get(f"/api/v1/calls/{CALL}/metrics")
    assert answer.status_code == 200
    assert answer.json() == {"duration_seconds": 180, **METRICS}


async def test_list_calls_example(house: House, client: httpx.AsyncClient) -> None:
    """The page's five fields, and an item's; every filter of the table finds it and others not."""
    await the_call(house)
    other = str(uuid.uuid4())
    await house.write(
        {
            **OVER,
            "id": other,
            **of_workflow("welcome-call"),
            "user_id": "user-456",
            "status": "failed",
            "created_at": "2026-01-18T10:29:55.000Z",
            "started_at": "2026-01-18T10:30:00.000Z",
            "ended_at": "2026-01-18T10:33:00.000Z",
            "seq": 0,
        }
    )
    answer = await client.get("/api/v1/calls?page_size=1&page=2")
    page = answer.json()
    (item,) = page.pop("items")
    assert page == {"total": 2, "page": 2, "page_size": 1, "pages": 2}
    matches(
        item,
        {
            "id": CALL,
            "workflow_id": workflow_id("daily-call"),
            "workflow_slug": "daily-call",
            "user_id": "user-123",
            "status": "completed",
            "call_type": "sip",
            "duration_seconds": 180,
            "agent_history": AGENTS,
            "started_at": "2026-01-17T10:30:00Z",
            "ended_at": "2026-01-17T10:33:00Z",
        },
    )
    for query in (
        "status=completed",
        f"workflow_id={workflow_id('daily-call')}",
        "user_id=user-123",
        "started_before=2026-01-18T00:00:00Z",
        "started_after=2026-01-17T00:00:00Z&started_before=2026-01-18T00:00:00Z",
    ):
        found = (await client.get(f"/api/v1/calls?{query}")).json()
        assert [one["id"] for one in found["items"]] == [CALL], query
        assert (found["total"], found["pages"]) == (1, 1), query
    after = (await client.get("/api/v1/calls?started_after=2026-01-18T00:00:00Z")).json()
    assert [one["id"] for one in after["items"]] == [other]
    default = (await client.get("/api/v1/calls")).json()
    assert (default["page"], default["page_size"]) == (1, 20)
    assert [one["id"] for one in default["items"]] == [other, CALL]
    assert (await client.get("/api/v1/calls?page_size=100")).status_code == 200
    assert (await client.get("/api/v1/calls?page_size=101")).status_code == 422


async def test_list_active_calls_example(house: House, client: httpx.AsyncClient) -> None:
    await the_call(house)
    answered = {"event": "call_answered", "version": 1, "call_id": CALL, "seq": 1}
    running = str(uuid.uuid4())
    await house.write(
        {
            **OVER,
            "id": running,
            "user_id": "user-456",
            "status": "active",
            "call_type": "voip",
            "outcome": None,
            "duration_ms": None,
            "duration_seconds": None,
            "started_at": "2026-01-17T10:35:00.000Z",
            "ended_at": None,
            "seq": 1,
        },
        {**answered, "call_id": running, "at": "2026-01-17T10:35:00.000Z"},
    )
    await house.report(running, current_agent="meal-agent")
    answer = await client.get("/api/v1/calls/active")
    assert answer.status_code == 200
    (shown,) = answer.json()
    matches(
        shown,
        {
            "id": running,
            "workflow_slug": "daily-call",
            "user_id": "user-456",
            "status": "active",
            "call_type": "voip",
            "current_agent": "meal-agent",
            "started_at": "2026-01-17T10:35:00Z",
        },
    )
    assert len((await client.get("/api/v1/calls/active?limit=100")).json()) == 1
    assert (await client.get("/api/v1/calls/active?limit=101")).status_code == 422


async def test_a_call_is_in_every_list_the_moment_it_is_accepted(
    house: House, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader sees what it has written: the store is waited for (here also on a slow machine)."""
    monkeypatch.setattr("bridge.api.asking.FRESH_WITHIN", 10.0)
    for _ in range(3):
        body = {"workflow_slug": "daily-call", "phone_number": "+919876543210", "user_id": "u"}
        made = (await client.post("/api/v1/calls", json=body)).json()
        newest = (await client.get("/api/v1/calls?user_id=u")).json()["items"][0]
        active = (await client.get("/api/v1/calls/active")).json()
        assert newest["id"] == made["call_id"]
        assert made["call_id"] in [one["id"] for one in active]
        await client.delete(f"/api/v1/calls/{made['call_id']}")
        await house.desk.idle()
        over = (await client.get(f"/api/v1/calls/{made['call_id']}")).json()
        assert (over["status"], over["outcome"]) == ("failed", "cancelled")
        listed = (await client.get("/api/v1/calls?status=failed")).json()
        assert listed["items"][0]["id"] == made["call_id"]


async def test_an_erased_call_says_only_that_it_was(
    house: House, client: httpx.AsyncClient
) -> None:
    await the_call(house)
    assert (await client.post(f"/api/v1/calls/{CALL}/erase")).status_code == 202
    shown = (await client.get(f"/api/v1/calls/{CALL}")).json()
    listed = (await client.get("/api/v1/calls")).json()
    assert (shown["phone_number"], shown["user_id"], shown["agent_history"]) == (None, None, [])
    assert (shown["status"], shown["duration_seconds"]) == ("completed", 180)
    assert listed["items"] == [shown]
    assert (await client.get("/api/v1/calls?user_id=user-123")).json()["total"] == 0
    assert "9876543210" not in (await client.get(f"/api/v1/calls/{CALL}/events")).text


async def test_the_parts_of_seed_000s_call_log(house: House, client: httpx.AsyncClient) -> None:
    """Call analysis (summary, sentiment, topics, action items) and the cost by provider."""
    await the_call(house)
    analysis = {
        "summary": "Jane asked for an invoice.",
        "sentiment": "positive",
        "topics": ["invoice"],
        "action_items": ["send the invoice"],
    }
    parts = [{"provider": "deepgram", "kind": "stt", "amount": 0.02}]
    await house.report(
        CALL, analysis=analysis, cost={"total": 0.02, "currency": "USD", "breakdown": parts}
    )
    assert (await client.get(f"/api/v1/calls/{CALL}/analysis")).json() == analysis
    assert (await client.get(f"/api/v1/calls/{CALL}/cost")).json() == {
        "total": 0.02,
        "currency": "USD",
        "breakdown": parts,
        "usage": {"duration_seconds": 180, "total_tokens": 1500},
    }
    await house.report(CALL, metrics={"total_tokens": 1600})
    assert (await client.get(f"/api/v1/calls/{CALL}/analysis")).json() == analysis

"""The rest of the client against the real app: lists, parts of a call, rooms, sessions."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.api.house import House, a_house
from tests.unit.api.test_seed_003 import AGENTS, CALL, METRICS, OVER, the_call
from trunkbridge import ApiError, Client

pytestmark = pytest.mark.unit

URL = "http://127.0.0.1:8080"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with a_house(tmp_path) as house:
        yield house


@pytest.fixture
async def client(house: House) -> AsyncIterator[Client]:
    async with Client(URL, transport=httpx.ASGITransport(house.app())) as client:
        yield client


async def test_calls_are_found_by_what_is_wanted_of_them(house: House, client: Client) -> None:
    await the_call(house)
    page = await client.page(page_size=1, user_id="user-123", status="completed")
    assert (page.total, page.page, page.page_size, page.pages) == (1, 1, 1, 1)
    assert [call["id"] for call in page.items] == [CALL]
    wanted = {"started_after": "2026-01-17T10:00:00Z", "started_before": "2026-01-17T11:00:00Z"}
    assert [call["id"] for call in await client.calls(**wanted)] == [CALL]
    assert await client.calls(direction="inbound") == []
    assert await client.calls(call_type="voip", workflow_id=str(uuid.uuid4())) == []


async def test_all_calls_come_page_by_page_each_once(house: House, client: Client) -> None:
    ids = [str(uuid.uuid4()) for _ in range(101)]
    for second, id_ in enumerate(ids):
        at = f"2026-01-17T10:{second // 60:02}:{second % 60:02}.000Z"
        await house.write({**OVER, "id": id_, "created_at": at, "seq": 0})
    found = [call["id"] async for call in client.all_calls(status="completed")]
    assert found == ids[::-1]


async def test_a_call_has_its_parts(house: House, client: Client) -> None:
    call = client.call(CALL)
    for part in (call.metrics, call.analysis, call.cost, call.erase):
        with pytest.raises(ApiError) as unknown:
            await part()
        assert unknown.value.status == 404
    await the_call(house)
    assert (await call.status())["agent_history"] == AGENTS
    assert await call.metrics() == {"duration_seconds": 180, **METRICS}
    assert await call.ladder() == []
    assert [event.name for event in await call.history()] == ["call_answered", "call_ended"]
    nothing = dict.fromkeys(("summary", "sentiment", "topics", "action_items"))
    assert await call.analysis() == nothing
    cost = await call.cost()
    assert (cost["total"], cost["usage"]["total_tokens"]) == (None, 1500)
    await call.erase()
    assert (await call.status())["phone_number"] is None
    assert set((await call.cost())["usage"].values()) <= {None, 180}


async def test_a_running_call_is_active_and_not_erased(house: House, client: Client) -> None:
    call = await client.dial("+919876543210", agent="a", ring_timeout=30, user_id="u")
    assert [one["id"] for one in await client.active(limit=1)] == [call.id]
    with pytest.raises(ApiError) as refused:
        await call.erase()
    assert refused.value.status == 409
    with pytest.raises(ApiError) as many:
        await client.active(limit=101)
    assert many.value.status == 422


# What other routers serve: what is asked, word for word.


def told(answers: dict[tuple[str, str], Any]) -> tuple[Client, list[tuple[str, str, Any]]]:
    asked: list[tuple[str, str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        body = json.loads(request.content) if request.content else None
        asked.append((request.method, path, body))
        found = answers[request.method, path]
        if isinstance(found, str):
            return httpx.Response(200, text=found)
        return httpx.Response(204) if found is None else httpx.Response(200, json=found)

    return Client(URL, transport=httpx.MockTransport(answer)), asked


Ask = Callable[[Client], Any]


async def test_a_web_call_is_one_without_a_number() -> None:
    made = {"call_id": CALL, "room_name": "r", "url": "ws://x", "token": "t", "status": "pending"}
    client, asked = told(
        {("POST", "/api/v1/calls"): made, ("POST", "/api/v1/calls/test-agent"): made}
    )
    async with client:
        call = await client.web_call(workflow_slug="daily-call", user_id="u", metadata=None)
        tested = await client.test_agent("greeter-agent", user_context={"name": "Tester"})
    assert (call.id, call.accepted["token"], tested.id) == (CALL, "t", CALL)
    assert [body for _, _, body in asked] == [
        {"call_type": "voip", "workflow_slug": "daily-call", "user_id": "u"},
        {"agent_name": "greeter-agent", "user_context": {"name": "Tester"}},
    ]


async def test_a_session_is_made_read_and_ended() -> None:
    path = f"/v1/voice/sessions/{CALL}"
    client, asked = told(
        {
            ("POST", "/v1/voice/sessions"): {"id": CALL, "token": "t"},
            ("GET", "/v1/voice/sessions?status=active&limit=50&offset=0"): [{"id": CALL}],
            ("GET", path): {"id": CALL, "status": "active"},
            ("GET", f"{path}/transcript?format=json"): [{"turn_index": 0}],
            ("GET", f"{path}/transcript?format=srt"): "1\n00:00",
            ("DELETE", path): None,
        }
    )
    async with client:
        session = await client.create_session(language="en-IN", max_duration_seconds=60)
        assert session.created["token"] == "t"
        assert await client.sessions(status="active") == [{"id": CALL}]
        assert (await client.session(CALL).status())["status"] == "active"
        assert await session.transcript() == [{"turn_index": 0}]
        assert (await session.transcript("srt")).startswith("1\n")
        await session.end()
    assert asked[0][2] == {"language": "en-IN", "max_duration_seconds": 60}


async def test_what_agents_post_goes_to_their_room() -> None:
    entry = {"speaker": "USER", "content": "hello"}
    room = "/api/sessions/by-room/a%2Fb"
    client, asked = told(
        {
            ("POST", f"{room}/transcripts"): {"stored": 1, "suppressed": 0},
            ("POST", f"{room}/metrics"): {"call_id": CALL},
            ("POST", "/api/v1/webhooks/x%2Fy/replay"): {"id": "x"},
            ("GET", "/api/v1/trunks"): [{"name": "exotel"}],
            ("GET", f"/api/v1/calls/{CALL}/transcript"): [{"role": "user"}],
        }
    )
    async with client:
        assert await client.post_transcript("a/b", entry) == {"stored": 1, "suppressed": 0}
        assert await client.post_transcript("a/b", [entry]) == {"stored": 1, "suppressed": 0}
        await client.post_metrics("a/b", {"total_tokens": 5})
        await client.replay("x/y")
        assert await client.trunks() == [{"name": "exotel"}]
        assert await client.call(CALL).transcript() == [{"role": "user"}]
    assert [body for _, _, body in asked[:3]] == [entry, [entry], {"total_tokens": 5}]


async def test_what_is_no_json_is_refused_before_it_is_sent_by_its_field(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        await client.web_call(agent="a", metadata={"x": {1}}, user_context={"y": 1e999})
    assert refused.value.status == 422
    named = {error["field"] for error in refused.value.problem["errors"]}
    assert named == {"metadata", "user_context"}
    with pytest.raises(ApiError, match="body: has a value that is not JSON"):
        await client.post_transcript("room", [{"speaker": "USER", "content": b"bytes"}])

"""The routes of transcripts, on the real journal, store and projection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import HTTPException

from bridge.api.app import Doors
from bridge.api.auth import ApiKey
from bridge.api.budget import Bounds, Budget
from bridge.api.reading import Reading
from bridge.api.transcripts import POSTS_LIMIT, router
from bridge.call.requests import Unavailable
from bridge.journal.journal import Journal
from bridge.room.seam import RoomHandlers
from bridge.store.project import Projection
from bridge.store.store import Store
from bridge.transcript.desk import Transcripts
from bridge.transcript.reading import Transcribed
from tests.unit.api.door import CALL, UNKNOWN, FakeService, client_of
from tests.unit.store.making import entry

pytestmark = pytest.mark.unit

ROOM = "call-room"
MINE = ApiKey(name="mine", secret="m", tenant="t1")
THEIRS = ApiKey(name="theirs", secret="x", tenant="t2")
STARTED = "2026-01-17T10:30:00.000Z"


class House:
    """An API over a journal with one call, which has ended."""

    def __init__(self, folder: Path, keys: tuple[ApiKey, ...] = (), **bounds: Bounds) -> None:
        self.journal = Journal(folder / "journal.db", instance="one")
        self.store = Store(f"sqlite:///{folder}/store.db", instance="one")
        self.store.prepare()
        self.projection = Projection(self.journal, self.store)
        self.projection.start()
        self.desk = Transcripts(self.journal)
        service = FakeService()
        service.call["ended_at"] = STARTED  # nothing runs: the store has what there is
        doors = Doors(service, asyncio.get_running_loop())
        reading = Reading(doors, self.store, self.projection)
        routes = router(
            doors,
            self.desk,
            reading,
            transcribed=Transcribed(self.store),
            projection=self.projection,
            **bounds,
        )
        stored: Any = self.store
        self.http = client_of(
            service, keys, store=stored, projection=self.projection, routers=[routes]
        )

    async def call(self, tenant: str | None = None, **changes: Any) -> None:
        await self.journal.append(
            [
                entry(
                    CALL,
                    1,
                    ended=True,
                    room_name=ROOM,
                    started_at=STARTED,
                    tenant_id=tenant,
                    duration_seconds=180,
                    **changes,
                )
            ]
        )
        # It has ended and runs in no memory: readers wait 0.25 s for the store, a disk may not.
        assert await self.projection.caught_up(30)

    async def post(self, body: Any, room: str = ROOM, **options: Any) -> httpx.Response:
        path = f"/api/sessions/by-room/{room}/transcripts"
        return await self.http.post(path, json=body, **options)

    async def said(self) -> list[dict[str, Any]]:
        reply = await self.http.get(f"/api/v1/calls/{CALL}/transcript")
        assert reply.status_code == 200, reply.text
        return list(reply.json())

    async def close(self) -> None:
        await self.http.aclose()
        await self.desk.close()
        await asyncio.to_thread(self.projection.stop)
        await asyncio.to_thread(self.store.close)
        await asyncio.to_thread(self.journal.close)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    await made.close()


def entry_of(content: str = "Hello", speaker: str = "USER", **more: Any) -> dict[str, Any]:
    return {"speaker": speaker, "content": content, **more}


async def test_what_is_posted_is_what_seed_003_shows(house: House) -> None:
    await house.call(agent="greeter-agent")
    first = entry_of("Hello! How are you today?", "AGENT", timestamp="2026-01-17T10:30:05Z")
    reply = await house.post(first)
    assert (reply.status_code, reply.json()) == (201, {"stored": 1, "suppressed": 0})
    rest = [
        entry_of("I'm doing well, thanks!", timestamp="2026-01-17T10:30:10Z"),
        entry_of(
            "Great! What did you have for breakfast?",
            "AGENT",
            timestamp="2026-01-17T10:30:15Z",
            agent_name="meal-agent",
            tool_call={"name": "save_meal", "arguments": {"meal_type": "breakfast"}},
        ),
    ]
    assert (await house.post(rest)).status_code == 201
    assert await house.said() == [
        {
            "role": "system",
            "content": "Call started",
            "timestamp": "2026-01-17T10:30:00.000Z",
            "agent_name": "greeter-agent",
        },
        {
            "role": "assistant",
            "content": "Hello! How are you today?",
            "timestamp": "2026-01-17T10:30:05.000Z",
            "agent_name": "greeter-agent",
        },
        {
            "role": "user",
            "content": "I'm doing well, thanks!",
            "timestamp": "2026-01-17T10:30:10.000Z",
            "agent_name": "greeter-agent",
        },
        {
            "role": "assistant",
            "content": "Great! What did you have for breakfast?",
            "timestamp": "2026-01-17T10:30:15.000Z",
            "agent_name": "meal-agent",
            "tool_call": {"name": "save_meal", "arguments": {"meal_type": "breakfast"}},
        },
    ]


async def test_the_first_post_switches_the_capture_off_for_good(house: House) -> None:
    await house.call()
    assert (await house.post(entry_of())).status_code == 201
    assert await house.projection.caught_up(2)
    assert await asyncio.to_thread(house.store.capture_is_off, CALL)


async def test_seed_004s_shapes_come_from_the_same_lines(house: House) -> None:
    await house.call()
    lines = [
        entry_of("Hello", timestamp="2026-01-17T10:30:05Z", stt_ms=110),
        entry_of("Hi.", "AGENT", timestamp=1_768_645_807.0, first_token_ms=200, interrupted=True),
    ]
    assert (await house.post(lines)).status_code == 201
    assert await house.projection.caught_up(2)
    books = Transcribed(house.store)
    (turn,) = await asyncio.to_thread(books.transcript, CALL, "json")
    assert (turn["user_transcript"], turn["agent_response"]) == ("Hello", "Hi.")
    assert (turn["stt_ms"], turn["first_token_ms"], turn["interrupted"]) == (110, 200, True)
    text = await asyncio.to_thread(books.transcript, CALL, "txt")
    assert text == "User: Hello\nAgent: Hi.\n"
    srt = await asyncio.to_thread(books.transcript, CALL, "srt")
    assert srt.startswith("1\n00:00:05,000 --> 00:00:06,000\nUser: Hello\n\n2\n00:00:07,000 --> ")
    assert await asyncio.to_thread(books.turn_counts, [CALL, "other"]) == {CALL: 1, "other": 0}
    assert len(await asyncio.to_thread(books.entries, CALL)) == 2


async def test_a_room_that_nobody_knows_is_404(house: House) -> None:
    for reply in (
        await house.post(entry_of(), room="nowhere"),
        await house.http.post("/api/sessions/by-room/nowhere/metrics", json={}),
    ):
        assert reply.status_code == 404
        assert reply.headers["content-type"] == "application/problem+json"
    assert (await house.http.get(f"/api/v1/calls/{UNKNOWN}/transcript")).status_code == 404


async def test_a_running_call_is_known_before_the_store_has_it(house: House) -> None:
    house.desk.listen(CALL, "room/with a slash", RoomHandlers(notify=lambda _: None))
    reply = await house.post(entry_of(), room="room%2Fwith%20a%20slash")
    assert reply.status_code == 201


WRONG_POSTS: tuple[tuple[Any, str], ...] = (
    ({"content": "x"}, "speaker"),
    ({"speaker": "USER"}, "content"),
    (entry_of(speaker="SYSTEM"), "speaker"),
    (entry_of(speaker="user"), "speaker"),
    (entry_of(""), "content"),
    (entry_of("  \n"), "content"),
    (entry_of("x" * 16_001), "content"),
    (entry_of(timestamp="yesterday"), "timestamp"),
    (entry_of(timestamp="9999-12-31T23:59:59-05:00"), "timestamp"),
    (entry_of(timestamp="1890-01-01T00:00:00Z"), "timestamp"),
    (entry_of(timestamp="1771234567"), "timestamp"),
    (entry_of(timestamp=True), "timestamp"),
    (entry_of(tool_call={"arguments": {}}), "tool_call.name"),
    (entry_of(interrupted="yes"), "interrupted"),
    (entry_of(stt_ms=True), "stt_ms"),
    (entry_of(stt_ms=-1), "stt_ms"),
    (entry_of(mood="good"), "mood"),
    ([entry_of(), {"speaker": "USER"}], "1.content"),
    ([], "body"),
    ([entry_of()] * (POSTS_LIMIT + 1), "body"),
    ("text", "body"),
    (None, "body"),
)


async def test_what_is_wrong_with_a_post_is_named(house: House) -> None:
    await house.call()
    for body, field in WRONG_POSTS:
        reply = await house.post(body)
        assert reply.status_code == 422, reply.text
        assert field in [error["field"] for error in reply.json()["errors"]], reply.text
    assert [one["role"] for one in await house.said()] == ["system"]


async def test_what_an_agent_measured_is_shown_with_the_call(house: House) -> None:
    await house.call()
    path = f"/api/sessions/by-room/{ROOM}/metrics"
    whole = {
        "call_id": CALL,
        "current_agent": "meal-agent",
        "agent_history": ["greeter-agent", "meal-agent"],
        "metrics": {
            "stt_latency_ms": 120,
            "llm_latency_ms": 280,
            "tts_latency_ms": None,
            "total_tokens": 1500,
            "agent_handoffs": 1,
        },
    }
    for _ in range(2):
        reply = await house.http.post(path, json=whole)
        assert (reply.status_code, reply.json()) == (201, {"call_id": CALL})
    metrics = (await house.http.get(f"/api/v1/calls/{CALL}/metrics")).json()
    assert metrics | whole["metrics"] == metrics
    call = (await house.http.get(f"/api/v1/calls/{CALL}")).json()
    assert call["agent_history"] == ["greeter-agent", "meal-agent"]


async def test_single_measurements_are_averaged_and_summed(house: House) -> None:
    await house.call()
    path = f"/api/sessions/by-room/{ROOM}/metrics"
    for stt_ms in (100, 200):
        reply = await house.http.post(path, json={"stt_latency_ms": stt_ms, "total_tokens": 7})
        assert reply.status_code == 201
    metrics = (await house.http.get(f"/api/v1/calls/{CALL}/metrics")).json()
    assert (metrics["stt_latency_ms"], metrics["total_tokens"]) == (150, 14)


WRONG_REPORTS: tuple[tuple[Any, str], ...] = (
    ({"metrics": {"total_tokens": -1}}, "metrics.total_tokens"),
    ({"metrics": {"stt_latency_ms": "fast"}}, "metrics.stt_latency_ms"),
    ({"agent_history": "a"}, "agent_history"),
    ({"turns": [{"role": "system", "content": "x"}]}, "turns.0.role"),
    ({"mood": "good"}, "mood"),
    ([], "body"),
)


async def test_what_is_wrong_with_a_report_is_named(house: House) -> None:
    await house.call()
    for body, field in WRONG_REPORTS:
        reply = await house.http.post(f"/api/sessions/by-room/{ROOM}/metrics", json=body)
        assert reply.status_code == 422, reply.text
        assert field in [error["field"] for error in reply.json()["errors"]], reply.text


async def test_another_tenants_room_is_unknown(tmp_path: Path) -> None:
    house = House(tmp_path, (MINE, THEIRS))
    try:
        await house.call("t1")
        theirs = {"Authorization": "Bearer x"}
        mine = {"Authorization": "Bearer m"}
        assert (await house.post(entry_of(), headers=theirs)).status_code == 404
        assert (await house.post(entry_of(), headers=mine)).status_code == 201
        assert (await house.post(entry_of())).status_code == 401
        page = f"/api/v1/calls/{CALL}/transcript"
        assert (await house.http.get(page, headers=theirs)).status_code == 404
        assert (await house.http.get(page, headers=mine)).status_code == 200
        house.desk.listen("x", "running", RoomHandlers(notify=lambda _: None), tenant_id="t1")
        running = await house.post(entry_of(), room="running", headers=theirs)
        assert running.status_code == 404
    finally:
        await house.close()


# How much one call may be told.


def bounds(entries: int = 1000, characters: int = 1_000_000) -> Bounds:
    return Bounds(what="transcript", entries=entries, characters=characters)


async def test_a_call_is_told_only_so_many_entries_and_the_rest_is_413(tmp_path: Path) -> None:
    """What was there before this instance counted is counted, too."""
    first = House(tmp_path)
    await first.call()
    assert (await first.post([entry_of(), entry_of()])).status_code == 201
    await first.close()
    house = House(tmp_path, said=bounds(entries=4))
    refused = await house.post([entry_of(), entry_of(), entry_of()])
    assert refused.status_code == 413
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["detail"].startswith("the transcript of a call: at most 4 entries")
    assert (await house.post([entry_of(), entry_of()])).status_code == 201
    assert (await house.post(entry_of())).status_code == 413
    assert len(await house.said()) == 5
    await house.close()


async def test_a_call_is_told_only_so_much_text(tmp_path: Path) -> None:
    """The arguments of a tool count as words do."""
    house = House(tmp_path, said=bounds(characters=100))
    await house.call()
    tool = {"name": "save", "arguments": {"meal": "x" * 100}}
    assert (await house.post(entry_of("y", tool_call=tool))).status_code == 413
    assert (await house.post(entry_of("y" * 100))).status_code == 201
    assert (await house.post(entry_of("y"))).status_code == 413
    await house.close()


async def test_reports_of_a_call_have_a_bound_of_their_own(tmp_path: Path) -> None:
    house = House(tmp_path, told=bounds(entries=1))
    await house.call()
    path = f"/api/sessions/by-room/{ROOM}/metrics"
    assert (await house.http.post(path, json={"total_tokens": 1})).status_code == 201
    assert (await house.http.post(path, json={"total_tokens": 1})).status_code == 413
    assert (await house.post(entry_of())).status_code == 201
    await house.close()


async def test_posts_are_counted_from_zero_while_nobody_can_say_how_much_there_is() -> None:
    async def away(_: str) -> tuple[int, int]:
        raise Unavailable("the store cannot be read")

    budget = Budget(bounds(entries=1), away)
    await budget.spend("call", 1, 5)
    with pytest.raises(HTTPException):
        await budget.spend("call", 1, 5)

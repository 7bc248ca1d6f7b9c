"""Web calls and voice sessions on the real server: a stock user, a real worker, a real daemon."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from livekit import api

from tests.system.conftest import LiveKitServer, PrivateLiveKit
from tests.system.harness import (
    AGENT_HERTZ,
    AgentHost,
    Bridge,
    Desk,
    RoomAgent,
    room_exists,
    room_service,
    until,
)
from tests.system.workers import Worker, working

pytestmark = pytest.mark.system

KEY = "cm_your_api_key"
TENANT = "0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
QUICK = {"join": 4, "departure": 2, "poll": 1}
CREATE = {  # seed 004's example
    "system_prompt": "You are a helpful assistant.",
    "voice": "shubh",
    "language": "en-IN",
    "llm_model": "kimi-k2.5",
    "tts_provider": "sarvam",
    "max_duration_seconds": 300,
}


class User(RoomAgent):
    """A browser's user: joins with the token that it was given."""

    async def enter(self, url: str, token: str) -> None:
        self.host.adopt(self)
        await self.host.ask(
            "join",
            self.name,
            when_up="",
            url=url,
            token=token,
            listen=[AGENT_HERTZ],
            hertz=440,
            rate=48000,
            queue_ms=100,
        )


class House:
    """One daemon with sessions, its API, and users."""

    def __init__(self, desk: Desk, bridge: Bridge) -> None:
        self.desk = desk
        self.bridge = bridge
        self.http = httpx.AsyncClient(base_url=bridge.url, headers=AUTHORIZED, timeout=20)

    async def create(self, **fields: Any) -> dict[str, Any]:
        reply = await self.http.post("/v1/voice/sessions", json={**CREATE, **fields})
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()
        return made

    async def web_call(self, **fields: Any) -> dict[str, Any]:
        reply = await self.http.post("/api/v1/calls", json={"call_type": "voip", **fields})
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()
        return made

    async def session(self, session_id: str) -> dict[str, Any]:
        reply = await self.http.get(f"/v1/voice/sessions/{session_id}")
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    async def is_(self, session_id: str, status: str, within: float = 15) -> dict[str, Any]:
        """Wait until a session has a status."""

        async def there() -> dict[str, Any] | None:
            found = await self.session(session_id)
            return found if found["status"] == status else None

        found: dict[str, Any] = await until(there, f"{session_id} is {status}", within)
        return found

    async def user(self, room: str, url: str, token: str) -> User:
        user = User(self.desk.host, self.desk.server, room, f"user-{uuid.uuid4().hex[:4]}")
        self.desk._agents.append(user)
        await user.enter(url, token)
        return user

    async def joined(self, made: dict[str, Any]) -> User:
        return await self.user(made["config"]["livekit_room"], made["ws_url"], made["token"])

    async def events(self, session_id: str) -> list[dict[str, Any]]:
        reply = await self.http.get(f"/api/v1/calls/{session_id}/events")
        assert reply.status_code == 200, reply.text
        found: list[dict[str, Any]] = reply.json()
        return found


SECTIONS: dict[str, Any] = {
    "sessions": {"agent": "helper"},
    "http.key": [{"name": "app", "key": KEY, "tenant": TENANT, "plan": "wide"}],
    "plan": [{"name": "wide", "sessions": 0, "creates_per_minute": 0}],
    "workflow": [{"slug": "daily-call", "agent": "helper", "metadata": {"from": "workflow"}}],
}


class SessionBridge(Bridge):
    """A daemon whose configuration has more tables, and whose sessions wait for less."""

    program = ("-m", "tests.system.quick_sessions")
    more: dict[str, Any] = SECTIONS

    def _tables(self, *given: Any) -> dict[str, Any]:
        return {**super()._tables(*given), **self.more}

    async def start(self, within: float = 30.0) -> None:
        await super().start(within)


async def started(desk: Desk, **more: Any) -> House:
    folder = desk.folder / f"bridge-{len(desk.bridges) + 1}"
    folder.mkdir()
    bridge = SessionBridge.__new__(SessionBridge)
    bridge.more = {**SECTIONS, **more}
    bridge.__init__(folder, desk.server)  # type: ignore[misc]
    desk.bridges.append(bridge)
    await bridge.start()
    return House(desk, bridge)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICK_SESSIONS", json.dumps(QUICK))


@pytest.fixture
def worker(livekit: LiveKitServer) -> Iterator[Worker]:
    with working(livekit, "web") as made:
        yield made


@pytest.fixture
async def house(desk: Desk) -> AsyncIterator[House]:
    made = await started(desk)
    yield made
    await made.http.aclose()


async def test_a_session_lives_as_the_seeds_say_with_a_user_and_a_worker(
    house: House, worker: Worker
) -> None:
    await worker.ready()
    made = await house.create(metadata={"order": 7})
    assert list(made) == [
        "id", "tenant_id", "bot_id", "status", "config", "ws_url", "token", "started_at",
        "ended_at", "duration_seconds", "turn_count", "total_audio_seconds", "end_reason",
        "metadata", "created_at",
    ]  # fmt: skip
    room = made["config"].pop("livekit_room")
    assert re.fullmatch(r"voice-\w+", room)
    assert made["config"] == CREATE
    assert (made["tenant_id"], made["bot_id"], made["status"]) == (TENANT, None, "created")
    assert made["metadata"] == {"order": 7}
    claims = api.TokenVerifier(house.desk.server.api_key, house.desk.server.api_secret).verify(
        made["token"]
    )
    assert (claims.video.room, claims.video.room_join) == (room, True)

    user = await house.user(room, made["ws_url"], made["token"])
    job = await worker.sees("job", room=room)
    assert job["metadata"]["config"] == CREATE
    assert (job["metadata"]["call_id"], job["metadata"]["call_type"]) == (made["id"], "voip")
    await user.hears(AGENT_HERTZ)
    active = await house.is_(made["id"], "active")
    assert active["started_at"] is not None
    assert "token" not in active
    assert "ws_url" not in active

    listed = await house.http.get("/v1/voice/sessions?status=active")
    assert [one["id"] for one in listed.json()] == [made["id"]]
    call = (await house.http.get(f"/api/v1/calls/{made['id']}")).json()
    assert (call["status"], call["call_type"], call["direction"]) == ("active", "voip", "inbound")

    await user.leave()
    ended = await house.is_(made["id"], "completed")
    assert (ended["end_reason"], ended["turn_count"]) == ("completed", 0)
    assert ended["duration_seconds"] is not None
    events = await house.events(made["id"])
    assert [(e["event"], e["seq"]) for e in events] == [("call_answered", 1), ("call_ended", 2)]
    last = events[-1]
    assert (last["outcome"], last["reason"], last["ended_by"]) == (
        "completed", "remote_hangup", "caller",
    )  # fmt: skip
    for form, kind in (
        ("json", "application/json"),
        ("txt", "text/plain"),
        ("srt", "application/x-subrip"),
    ):
        reply = await house.http.get(f"/v1/voice/sessions/{made['id']}/transcript?format={form}")
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith(kind)
    await until(lambda: _gone(house, room), "the room is deleted", 15)


async def _gone(house: House, room: str) -> bool:
    return not await room_exists(house.desk.server, room)


async def test_a_deleted_session_sends_its_user_away_and_is_completed(house: House) -> None:
    waiting = await house.create()
    made = await house.web_call(agent="nobody")
    user = await house.user(made["room_name"], made["url"], made["token"])
    await house.is_(made["call_id"], "active")
    for session_id in (waiting["id"], made["call_id"]):
        reply = await house.http.delete(f"/v1/voice/sessions/{session_id}")
        assert (reply.status_code, reply.content) == (204, b"")
        found = await house.session(session_id)
        assert (found["status"], found["end_reason"]) == ("completed", "api_delete")
    await user.until(lambda: user.saw("disconnected", reason="ROOM_DELETED"), "sent away")
    again = await house.http.delete(f"/v1/voice/sessions/{made['call_id']}")
    assert again.status_code == 204
    assert len(await house.events(made["call_id"])) == 2
    unknown = await house.http.delete(f"/v1/voice/sessions/{uuid.uuid4()}")
    assert unknown.status_code == 404


async def test_a_session_that_nobody_joins_times_out_and_one_that_lasts_is_ended(
    house: House,
) -> None:
    never = await house.create()
    long = await house.web_call(agent="nobody", max_duration=4)
    user = await house.user(long["room_name"], long["url"], long["token"])
    found = await house.is_(never["id"], "timeout")
    assert (found["end_reason"], found["started_at"]) == ("error", None)
    await user.until(lambda: user.saw("disconnected", reason="ROOM_DELETED"), "sent away")
    found = await house.is_(long["call_id"], "completed")
    assert found["end_reason"] == "max_duration"
    assert 4 <= found["duration_seconds"] <= 10


async def test_a_daemon_that_was_killed_takes_its_sessions_up_again(house: House) -> None:
    stays, leaves, waits = [
        await house.create() for _ in range(3)
    ]  # fmt: skip
    staying, leaving = await house.joined(stays), await house.joined(leaves)
    for made in (stays, leaves):
        await house.is_(made["id"], "active")
    before = await house.session(stays["id"])
    await house.bridge.kill()
    await leaving.leave()
    await house.bridge.start()
    assert (await house.session(stays["id"]))["status"] == "active"
    assert (await house.is_(leaves["id"], "completed"))["end_reason"] == "completed"
    assert (await house.is_(waits["id"], "timeout"))["end_reason"] == "error"
    after = await house.session(stays["id"])
    assert after["started_at"] == before["started_at"]
    assert not staying.saw("disconnected")
    await staying.leave()
    assert (await house.is_(stays["id"], "completed"))["end_reason"] == "completed"
    for made in (stays, leaves, waits):
        events = await house.events(made["id"])
        assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
        assert [e["event"] for e in events].count("call_ended") == 1


async def test_a_plan_limits_sessions_rights_and_credit(desk: Desk) -> None:
    keys = [
        {"name": "free", "key": "free", "plan": "free"},
        {"name": "poor", "key": "poor", "plan": "paid"},
        {"name": "deaf", "key": "deaf", "permissions": ["tts", "llm"]},
    ]
    plans = [
        {"name": "paid", "sessions": 0, "min_credit": 1},
        {"name": "free", "sessions": 1, "creates_per_minute": 2},
    ]
    house = await started(desk, **{"http.key": keys, "plan": plans})

    async def create(key: str) -> httpx.Response:
        return await house.http.post(
            "/v1/voice/sessions", json={}, headers={"Authorization": f"Bearer {key}"}
        )

    assert (await create("poor")).status_code == 402
    assert (await create("deaf")).status_code == 403
    first = await create("free")
    assert first.status_code == 201
    full = await create("free")
    assert full.status_code == 429
    assert int(full.headers["retry-after"]) > 0
    mine = {"Authorization": "Bearer free"}
    other = {"Authorization": "Bearer poor"}
    path = f"/v1/voice/sessions/{first.json()['id']}"
    assert (await house.http.get(path, headers=other)).status_code == 404
    assert (await house.http.delete(path, headers=mine)).status_code == 204
    assert (await create("free")).status_code == 201
    latest = (await house.http.get("/v1/voice/sessions?limit=1", headers=mine)).json()
    await house.http.delete(f"/v1/voice/sessions/{latest[0]['id']}", headers=mine)
    too_many = await create("free")
    assert too_many.status_code == 429
    assert 1 <= int(too_many.headers["retry-after"]) <= 60
    await house.http.aclose()


async def test_webhooks_alone_drive_a_session(
    private_livekit: PrivateLiveKit,
    agent_host: AgentHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUICK_SESSIONS", json.dumps({**QUICK, "poll": 3600, "join": 30}))
    folder = tmp_path / "desk"
    folder.mkdir()
    async with Desk(private_livekit.server, agent_host, folder) as desk:
        house = await started(desk)
        private_livekit.kill()
        private_livekit.config += (
            f"webhook:\n  api_key: {desk.server.api_key}\n"
            f'  urls: ["{house.bridge.url}/livekit/webhook"]\n'
        )
        assert await asyncio.to_thread(private_livekit.start)

        async def ready() -> bool:
            return (await house.http.get("/readyz")).status_code == 200

        await until(ready, "the daemon sees the server", 15)
        made = await house.create()
        user = await house.joined(made)
        began = time.monotonic()
        await house.is_(made["id"], "active", 3)
        await user.leave()
        ended = await house.is_(made["id"], "completed", 10)
        assert time.monotonic() - began < 10
        assert ended["end_reason"] == "completed"
        deleted = await house.create()
        other = await house.joined(deleted)
        await house.is_(deleted["id"], "active", 3)
        async with room_service(desk.server) as service:
            room = deleted["config"]["livekit_room"]
            await service.room.delete_room(api.DeleteRoomRequest(room=room))
        await house.is_(deleted["id"], "completed", 5)
        assert (await house.events(deleted["id"]))[-1]["reason"] == "room_deleted"
        await other.until(lambda: other.saw("disconnected"), "sent away")
        forged = await house.http.post(
            "/livekit/webhook", content="{}", headers={"Authorization": "nonsense"}
        )
        assert forged.status_code == 401
        await house.http.aclose()


async def test_a_session_outlives_its_livekit_server(
    private_livekit: PrivateLiveKit,
    agent_host: AgentHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUICK_SESSIONS", json.dumps({**QUICK, "room_lost": 60}))
    folder = tmp_path / "desk"
    folder.mkdir()
    async with Desk(private_livekit.server, agent_host, folder) as desk:
        house = await started(desk, sessions={"agent": ""})
        stays, waits = await house.create(), await house.create()
        user = await house.joined(stays)
        await house.is_(stays["id"], "active")
        private_livekit.kill()
        refused = await until(lambda: _refused(house), "new sessions are refused", 15)
        assert int(refused.headers["retry-after"]) > 0
        assert (await house.session(waits["id"]))["status"] == "created"  # its time is over
        assert await asyncio.to_thread(private_livekit.start)
        assert (await house.is_(waits["id"], "timeout"))["end_reason"] == "error"

        async def is_back() -> bool:
            async with room_service(desk.server) as service:
                room = stays["config"]["livekit_room"]
                found = await service.room.list_participants(api.ListParticipantsRequest(room=room))
            return bool(found.participants)

        await until(is_back, "the user's client is back", 40, poll=0.5)
        await asyncio.sleep(4)  # more than a patience: nothing must end
        assert (await house.session(stays["id"]))["status"] == "active"
        await user.leave()
        assert (await house.is_(stays["id"], "completed"))["end_reason"] == "completed"
        await house.http.aclose()


async def _refused(house: House) -> httpx.Response | None:
    reply = await house.http.post("/v1/voice/sessions", json=CREATE)
    return reply if reply.status_code == 503 else None


async def people(server: Any, room: str) -> set[str]:
    """Return the identities in *room*, those nobody sees left out."""
    async with room_service(server) as service:
        found = await service.room.list_participants(api.ListParticipantsRequest(room=room))
    return {one.identity for one in found.participants if not one.permission.hidden}


async def test_a_session_in_somebodys_room_leaves_it_as_it_was(
    house: House, worker: Worker
) -> None:
    """Contract 4, Ending: a room the bridge did not make is never deleted."""
    await worker.ready()
    server = house.desk.server
    stranger = await house.desk.agent(house.desk.room())
    made = await house.web_call(room=stranger.room, agent="helper", user_id="ada")
    user = await house.user(stranger.room, made["url"], made["token"])
    await worker.sees("job", room=stranger.room)
    await user.hears(AGENT_HERTZ)

    async def all_there() -> bool:
        return len(await people(server, stranger.room)) == 3

    await until(all_there, "the stranger, the user and the session's agent are there")
    await house.http.delete(f"/api/v1/calls/{made['call_id']}")

    async def alone() -> bool:
        return await people(server, stranger.room) == {stranger.identity}

    await until(alone, "who came for the session is gone")
    assert await room_exists(server, stranger.room)


async def test_a_late_token_gets_no_room_also_without_webhooks(house: House) -> None:
    made = await house.web_call(agent="helper")
    room = made["room_name"]
    await house.http.delete(f"/api/v1/calls/{made['call_id']}")

    async def gone() -> bool:
        return not await room_exists(house.desk.server, room)

    await until(gone, "the room is deleted")
    await house.user(room, made["url"], made["token"])
    await until(gone, "the room is deleted again", 20)

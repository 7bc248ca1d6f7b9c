"""Voice sessions and web calls by their routes: seed 004 field by field, and the other doors.

The sessions, the journal, the store and the app are real; LiveKit is played.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import re
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from livekit import api

from bridge.api import livekit_webhook, sessions, web_calls
from bridge.api.app import Doors, make_app
from bridge.api.auth import ApiKey, Gatekeeper
from bridge.api.reading import Reading
from bridge.call.switchboard import Switchboard
from bridge.config.sections import PlanConfig
from bridge.feed import Feed
from bridge.room.tokens import LiveKitKeys
from bridge.sessions.news import Webhooks
from bridge.sessions.reading import StoreSessions
from bridge.store.project import Projection
from bridge.store.store import Store
from tests.unit.api.door import FakeService
from tests.unit.sessions.desk import Desk, a_desk, config, person

pytestmark = pytest.mark.unit

TENANT = "0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d"
KEYS = [
    ApiKey(name="app", secret="cm_key", tenant=TENANT, plan="wide"),
    ApiKey(name="other", secret="other"),
    ApiKey(name="free", secret="free", plan="free"),
    ApiKey(name="poor", secret="poor", plan="paid"),
    ApiKey(name="rich", secret="rich", plan="paid", credit=10),
    ApiKey(name="slow", secret="slow", plan="slow"),
    ApiKey(name="deaf", secret="deaf", permissions=frozenset(("tts", "llm"))),
]
PLANS = [
    PlanConfig(name="wide", sessions=0, creates_per_minute=0),
    PlanConfig(name="paid", sessions=0, min_credit=5),
    PlanConfig(name="slow", sessions=0, creates_per_minute=2),
]
SECRET = "secret" * 8
LIVEKIT = LiveKitKeys(api_key="devkey", api_secret=SECRET)

EXAMPLE = {  # of the seed, without the webhook: that needs a secret
    "system_prompt": "You are a helpful assistant.",
    "voice": "shubh",
    "language": "en-IN",
    "llm_model": "kimi-k2.5",
    "tts_provider": "sarvam",
    "max_duration_seconds": 300,
}
SHOWN = [
    "id", "tenant_id", "bot_id", "status", "config", "started_at", "ended_at",
    "duration_seconds", "turn_count", "total_audio_seconds", "end_reason", "metadata",
    "created_at",
]  # fmt: skip


class House:
    """The app, and what is behind it."""

    def __init__(self, desk: Desk, store: Store, http: httpx.AsyncClient) -> None:
        self.desk = desk
        self.store = store
        self.http = http

    async def post(self, path: str, body: Any, key: str = "cm_key", **headers: str) -> Any:
        return await self.http.post(
            path, json=body, headers={"Authorization": f"Bearer {key}", **headers}
        )

    async def get(self, path: str, key: str = "cm_key") -> Any:
        return await self.http.get(path, headers={"Authorization": f"Bearer {key}"})

    async def delete(self, path: str, key: str = "cm_key") -> Any:
        return await self.http.delete(path, headers={"Authorization": f"Bearer {key}"})

    async def create(self, key: str = "cm_key", **fields: Any) -> dict[str, Any]:
        reply = await self.post("/v1/voice/sessions", {**EXAMPLE, **fields}, key)
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()
        return made

    async def joined(self, made: dict[str, Any], sid: str = "PA_user") -> None:
        before = len(self.desk.published)
        self.desk.join(made["config"]["livekit_room"], person(sid))
        await self.desk.until(lambda: len(self.desk.published) > before)


class Nothing:
    """The rest of a call service, where only web calls are."""

    running = ()

    async def find(self, call_id: str) -> None:
        del call_id

    async def active(self, limit: int | None = None) -> list[Any]:
        del limit
        return []

    async def hang_up(self, call_id: str) -> bool:
        del call_id
        return False

    def call(self, call_id: str) -> None:
        del call_id

    def waits(self, call_id: str) -> bool:
        del call_id
        return False


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with a_desk(tmp_path / "j.db", config(*PLANS)) as desk:
        store = Store.open(f"sqlite:///{tmp_path}/store.db", instance="test")
        projection = Projection(desk.journal, store)
        projection.start()
        service: Any = Nothing()
        switchboard = Switchboard(
            service, desk.journal, FakeService(), lambda _: [], desk.sessions  # type: ignore[arg-type]
        )  # fmt: skip
        doors = Doors(switchboard, asyncio.get_running_loop())
        reading = sessions.SessionReading(doors, desk.sessions, StoreSessions(store), projection)
        app = make_app(
            doors,
            Gatekeeper(KEYS),
            Feed(desk.journal),
            version="0.0.0",
            reading=Reading(doors, store, projection),
            web_calls=web_calls.WebDoor(desk.sessions),
            routers=[
                sessions.router(doors, desk.sessions, reading),
                web_calls.router(doors, desk.sessions),
                livekit_webhook.router(doors, desk.sessions, Webhooks(LIVEKIT)),
            ],
        )
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield House(desk, store, http)
        await asyncio.to_thread(projection.stop)
        store.close()


# Seed 004.


async def test_the_created_session_is_the_seeds_example_field_by_field(house: House) -> None:
    made = await house.create()
    assert list(made) == [*SHOWN[:5], "ws_url", "token", *SHOWN[5:]]
    assert str(uuid.UUID(made["id"])) == made["id"]
    room = made["config"].pop("livekit_room")
    assert re.fullmatch(r"voice-[0-9a-f]{16}", room)
    assert list(made["config"]) == list(EXAMPLE)
    assert made["config"] == EXAMPLE
    assert made["ws_url"] == "ws://127.0.0.1:7880"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["created_at"])
    assert {name: made[name] for name in SHOWN if name not in ("id", "config", "created_at")} == {
        "tenant_id": TENANT,
        "bot_id": None,
        "status": "created",
        "started_at": None,
        "ended_at": None,
        "duration_seconds": None,
        "turn_count": 0,
        "total_audio_seconds": 0,
        "end_reason": None,
        "metadata": None,
    }


async def test_without_a_body_all_defaults_of_the_table_count(house: House) -> None:
    reply = await house.post("/v1/voice/sessions", {})
    made = reply.json()["config"]
    del made["livekit_room"]
    assert made == {**EXAMPLE, "system_prompt": "You are a helpful voice assistant."}


async def test_a_bot_keeps_its_own_prompt_unless_another_is_given(house: House) -> None:
    bot = str(uuid.uuid4())
    made = (await house.post("/v1/voice/sessions", {"bot_id": bot})).json()
    assert (made["bot_id"], made["config"]["system_prompt"]) == (bot, None)
    told = json.loads(house.desk.rooms.jobs[-1][2])
    assert told["config"]["bot_id"] == bot
    made = await house.create(bot_id=bot)
    assert made["config"]["system_prompt"] == EXAMPLE["system_prompt"]


BAD: list[tuple[dict[str, Any], set[str]]] = [
    ({"system_prompt": "x" * 4097}, {"system_prompt"}),
    ({"system_prompt": 5}, {"system_prompt"}),
    ({"max_duration_seconds": 29}, {"max_duration_seconds"}),
    ({"max_duration_seconds": 3601}, {"max_duration_seconds"}),
    ({"max_duration_seconds": "300"}, {"max_duration_seconds"}),
    ({"max_duration_seconds": 30.5}, {"max_duration_seconds"}),
    ({"language": "not a language"}, {"language"}),
    ({"language": ""}, {"language"}),
    ({"voice": ""}, {"voice"}),
    ({"tts_provider": "acme"}, {"tts_provider"}),
    ({"bot_id": "me"}, {"bot_id"}),
    ({"metadata": [1]}, {"metadata"}),
    ({"metadata": {"a": "x" * 70_000}}, {"metadata"}),
    ({"webhook_url": "https://your-app.com/webhooks/voice"}, {"webhook_url"}),
    ({"colour": "red", "voice": 1}, {"colour", "voice"}),
]


async def test_bad_input_is_422_and_names_each_field(house: House) -> None:
    for body, fields in BAD:
        reply = await house.post("/v1/voice/sessions", body)
        assert reply.status_code == 422, body
        assert reply.headers["content-type"] == "application/problem+json"
        assert {error["field"] for error in reply.json()["errors"]} == fields
    assert house.desk.rooms.jobs == []


GOOD: list[dict[str, Any]] = [
    {"system_prompt": "x" * 4096},
    {"system_prompt": "two\nlines"},
    {"max_duration_seconds": 30},
    {"max_duration_seconds": 3600},
    {"metadata": {"a": [1, None, {"b": "ü"}]}},
    {"metadata": {}},
    {"voice": None, "language": None, "metadata": None},
]


async def test_what_the_table_allows_is_taken_and_shown(house: House) -> None:
    for body in GOOD:
        reply = await house.post("/v1/voice/sessions", body)
        assert reply.status_code == 201, reply.text
        found = (await house.get(f"/v1/voice/sessions/{reply.json()['id']}")).json()
        given = {name: value for name, value in body.items() if value is not None}
        shown = {**found["config"], "metadata": found["metadata"]}
        assert {name: shown[name] for name in given} == given


async def test_a_session_is_read_without_its_token(house: House) -> None:
    made = await house.create()
    found = await house.get(f"/v1/voice/sessions/{made['id']}")
    assert list(found.json()) == SHOWN
    assert found.json() == {n: v for n, v in made.items() if n not in ("ws_url", "token")}


async def test_a_session_goes_through_its_life(house: House) -> None:
    made = await house.create()
    await house.joined(made)
    found = (await house.get(f"/v1/voice/sessions/{made['id']}")).json()
    assert found["status"] == "active"
    assert found["started_at"] is not None
    reply = await house.delete(f"/v1/voice/sessions/{made['id']}")
    assert (reply.status_code, reply.content) == (204, b"")
    found = (await house.get(f"/v1/voice/sessions/{made['id']}")).json()
    assert (found["status"], found["end_reason"]) == ("completed", "api_delete")
    assert found["ended_at"] is not None
    assert found["duration_seconds"] == 0
    again = await house.delete(f"/v1/voice/sessions/{made['id']}")
    assert again.status_code == 204
    assert (await house.get(f"/v1/voice/sessions/{made['id']}")).json() == found


async def test_the_list_is_filtered_paged_and_newest_first(house: House) -> None:
    made = [await house.create() for _ in range(3)]
    await house.joined(made[0])
    await house.delete(f"/v1/voice/sessions/{made[1]['id']}")
    ids = [one["id"] for one in reversed(made)]

    async def listed(query: str, key: str = "cm_key") -> list[str]:
        reply = await house.get(f"/v1/voice/sessions{query}", key)
        assert reply.status_code == 200, reply.text
        assert all(list(one) == SHOWN for one in reply.json())
        return [one["id"] for one in reply.json()]

    assert await listed("") == ids
    assert await listed("?status=created") == [made[2]["id"]]
    assert await listed("?status=active") == [made[0]["id"]]
    assert await listed("?status=completed&limit=50&offset=0") == [made[1]["id"]]
    assert await listed("?status=failed") == []
    assert await listed("?status=timeout") == []
    assert await listed("?limit=1&offset=1") == [ids[1]]
    assert await listed("", "other") == []


async def test_a_bad_list_query_is_422(house: House) -> None:
    for query in ("?status=done", "?limit=0", "?limit=201", "?offset=-1", "?limit=x"):
        assert (await house.get(f"/v1/voice/sessions{query}")).status_code == 422


async def test_an_unknown_session_is_404(house: House) -> None:
    for session in (str(uuid.uuid4()), "none", "..%2f"):
        for reply in (
            await house.get(f"/v1/voice/sessions/{session}"),
            await house.get(f"/v1/voice/sessions/{session}/transcript"),
            await house.delete(f"/v1/voice/sessions/{session}"),
        ):
            assert reply.status_code == 404


async def test_another_tenants_session_is_none(house: House) -> None:
    made = await house.create()
    path = f"/v1/voice/sessions/{made['id']}"
    assert (await house.get(path, "other")).status_code == 404
    assert (await house.get(f"{path}/transcript", "other")).status_code == 404
    assert (await house.delete(path, "other")).status_code == 404
    assert (await house.get(path)).json()["status"] == "created"


async def test_a_transcript_has_three_forms(house: House) -> None:
    made = await house.create()
    await house.joined(made)
    for n, (speaker, text) in enumerate((("USER", "What time is it?"), ("AGENT", "Noon."))):
        await house.desk.journal.note(
            made["id"],
            "transcript",
            {"speaker": speaker, "content": text, "at": time.time() + n, "id": f"s{n}"},
        )
    path = f"/v1/voice/sessions/{made['id']}/transcript"
    (turn,) = (await house.get(path)).json()
    assert list(turn) == [
        "turn_index", "user_transcript", "agent_response", "interrupted", "stt_ms",
        "first_token_ms", "first_audio_ms", "total_ms", "llm_model", "created_at",
    ]  # fmt: skip
    assert (turn["user_transcript"], turn["agent_response"]) == ("What time is it?", "Noon.")
    text = await house.get(f"{path}?format=txt")
    assert text.text == "User: What time is it?\nAgent: Noon.\n"
    assert text.headers["content-type"].startswith("text/plain")
    srt = await house.get(f"{path}?format=srt")
    assert srt.text.startswith("1\n00:00:")
    assert srt.headers["content-type"].startswith("application/x-subrip")
    assert (await house.get(f"{path}?format=pdf")).status_code == 422
    assert (await house.get(f"/v1/voice/sessions/{made['id']}")).json()["turn_count"] == 1
    assert (await house.get("/v1/voice/sessions")).json()[0]["turn_count"] == 1


# Limits.


async def test_a_key_that_lacks_a_permission_is_403(house: House) -> None:
    reply = await house.post("/v1/voice/sessions", EXAMPLE, "deaf")
    assert reply.status_code == 403
    assert "stt" in reply.json()["detail"]


async def test_credit_below_the_plans_minimum_is_402(house: House) -> None:
    assert (await house.post("/v1/voice/sessions", EXAMPLE, "poor")).status_code == 402
    assert (await house.post("/v1/voice/sessions", EXAMPLE, "rich")).status_code == 201


async def test_the_free_plan_has_one_session_at_once(house: House) -> None:
    made = await house.create("free")
    full = await house.post("/v1/voice/sessions", EXAMPLE, "free")
    assert full.status_code == 429
    assert int(full.headers["retry-after"]) >= 1
    await house.delete(f"/v1/voice/sessions/{made['id']}", "free")
    await house.create("free")


async def test_sessions_a_minute_are_counted_by_tenant(house: House) -> None:
    await house.create("slow")
    await house.create("slow")
    reply = await house.post("/v1/voice/sessions", EXAMPLE, "slow")
    assert reply.status_code == 429
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    await house.create()


async def test_without_livekit_it_is_503_and_later_failed(house: House) -> None:
    house.desk.rooms.away = True
    reply = await house.post("/v1/voice/sessions", EXAMPLE)
    assert reply.status_code == 503
    assert "retry-after" in reply.headers
    (found,) = (await house.get("/v1/voice/sessions")).json()
    assert (found["status"], found["end_reason"]) == ("failed", "error")


# The other doors.


async def test_seed_003s_voip_call_is_answered_like_its_example(house: House) -> None:
    body = {
        "workflow_slug": "daily",
        "user_id": "user-123",
        "call_type": "voip",
        "user_context": {"name": "John Doe", "language": "en"},
        "metadata": {"session_id": "abc123", "source": "mobile-app"},
    }
    reply = await house.post("/api/v1/calls", body)
    assert reply.status_code == 201, reply.text
    made = reply.json()
    assert list(made) == ["call_id", "room_name", "url", "token", "status"]
    assert (made["room_name"], made["status"]) == (f"call-{made['call_id']}", "pending")
    room, agent, job = house.desk.rooms.jobs[-1]
    assert (room, agent) == (made["room_name"], "nurse")
    told = json.loads(job)
    assert told["user_context"] == body["user_context"]
    assert told["metadata"] == {"a": 1, **body["metadata"]}
    assert (told["workflow_slug"], told["user_id"]) == ("daily", "user-123")
    call = (await house.get(f"/api/v1/calls/{made['call_id']}")).json()
    assert (call["call_type"], call["direction"], call["status"]) == ("voip", "inbound", "pending")
    assert call["phone_number"] is None
    active = (await house.get("/api/v1/calls/active")).json()
    assert [one["id"] for one in active] == [made["call_id"]]
    assert (await house.delete(f"/api/v1/calls/{made['call_id']}")).status_code == 202
    call = (await house.get(f"/api/v1/calls/{made['call_id']}")).json()
    assert (call["status"], call["reason"]) == ("completed", "api_delete")


async def test_the_same_voip_call_twice_by_one_idempotency_key_is_one(house: House) -> None:
    body = {"agent": "greeter", "call_type": "voip"}
    headers = {"Idempotency-Key": "once"}
    first = (await house.post("/api/v1/calls", body, **headers)).json()
    assert (await house.post("/api/v1/calls", body, **headers)).json() == first
    other = await house.post("/api/v1/calls", {**body, "user_id": "u"}, **headers)
    assert other.status_code == 422
    assert len(house.desk.rooms.jobs) == 1


async def test_a_voip_answer_given_again_has_a_token_that_counts_while_the_call_lasts(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counts(seconds: float) -> str:
        token = jwt.encode({"exp": time.time() + seconds}, SECRET)
        monkeypatch.setattr(house.desk.rooms, "token", lambda *_: token)
        return token

    async def ask() -> dict[str, Any]:
        body = {"workflow_slug": "daily"}
        reply = await house.post("/api/v1/calls", body, **{"Idempotency-Key": "once"})
        assert reply.status_code == 201
        answer: dict[str, Any] = reply.json()
        return answer

    counts(30)
    first = await ask()
    fresh = counts(3600)
    assert await ask() == {**first, "token": fresh}
    await house.delete(f"/api/v1/calls/{first['call_id']}")
    assert await ask() == first


async def test_an_unknown_workflow_is_422(house: House) -> None:
    reply = await house.post("/api/v1/calls", {"workflow_slug": "none", "call_type": "voip"})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "workflow_slug"


async def test_seed_003s_test_agent_is_always_voip(house: House) -> None:
    body = {
        "agent_name": "greeter-agent",
        "user_id": "test-user",
        "user_context": {"name": "Tester"},
    }
    reply = await house.post("/api/v1/calls/test-agent", body)
    assert reply.status_code == 201
    made = reply.json()
    assert list(made) == ["call_id", "room_name", "url", "token", "status"]
    assert house.desk.rooms.jobs[-1][1] == "greeter-agent"
    call = (await house.get(f"/api/v1/calls/{made['call_id']}")).json()
    assert (call["call_type"], call["workflow_slug"]) == ("voip", None)
    assert (await house.post("/api/v1/calls/test-agent", {})).status_code == 422


async def test_seed_000s_token_opens_a_room_and_a_session(house: House) -> None:
    reply = await house.post("/api/livekit/token", {"agent_name": "greeter", "user_id": "u-1"})
    assert reply.status_code == 200
    made = reply.json()
    assert set(made) == {"token", "url", "room_name", "session_id"}
    assert made["token"] == f"token of u-1 for {made['room_name']}"
    found = (await house.get(f"/v1/voice/sessions/{made['session_id']}")).json()
    assert (found["status"], found["config"]["livekit_room"]) == ("created", made["room_name"])
    assert (await house.post("/api/livekit/token", {})).status_code == 422


async def test_seed_001s_token_comes_in_its_envelope(house: House) -> None:
    reply = await house.post("/web_call/get_token", {"assistant_id": "daily", "metadata": {"x": 1}})
    assert reply.status_code == 200
    assert set(reply.json()) == {"success", "message", "data"}
    assert reply.json()["success"] is True
    data = reply.json()["data"]
    assert set(data) == {"room_name", "agent_dispatch", "token"}
    assert data["agent_dispatch"]["agent_name"] == "nurse"
    unknown = await house.post("/web_call/get_token", {"assistant_id": "none"})
    assert (unknown.status_code, unknown.json()["success"]) == (404, False)
    wrong = await house.post("/web_call/get_token", {"text_only": "perhaps"})
    assert wrong.status_code == 422
    assert {one["field"] for one in wrong.json()["data"]["errors"]} == {
        "assistant_id",
        "text_only",
    }


async def test_an_assistant_is_also_known_by_its_id(house: House) -> None:
    wanted = str(uuid.uuid5(uuid.NAMESPACE_URL, "daily"))
    reply = await house.post("/web_call/get_token", {"assistant_id": wanted})
    assert reply.status_code == 200
    assert reply.json()["data"]["agent_dispatch"]["agent_name"] == "nurse"


# LiveKit's webhooks.


def signed(event: api.WebhookEvent, secret: str = SECRET) -> tuple[str, str]:
    from google.protobuf.json_format import MessageToJson

    body = MessageToJson(event)
    digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
    token = api.AccessToken("devkey", secret).with_sha256(digest).to_jwt()
    return body, token


async def told(house: House, event: api.WebhookEvent, secret: str = SECRET) -> int:
    body, token = signed(event, secret)
    reply = await house.http.post(
        livekit_webhook.PATH,
        content=body,
        headers={"Authorization": token, "Content-Type": "application/webhook+json"},
    )
    return reply.status_code


async def test_a_signed_webhook_moves_the_session_and_a_forged_one_does_not(house: House) -> None:
    made = await house.create()
    room = made["config"]["livekit_room"]
    joined = api.WebhookEvent(
        event="participant_joined",
        id="EV_1",
        room=api.Room(name=room, sid="RM_1"),
        participant=api.ParticipantInfo(
            sid="PA_1", identity="me", state=api.ParticipantInfo.ACTIVE
        ),
    )
    assert await told(house, joined, "another" * 8) == 401
    assert house.desk.published == []
    house.desk.join(room, person("PA_1"))
    assert await told(house, joined) == 200
    assert await told(house, joined) == 200
    await house.desk.until(lambda: house.desk.published)
    assert (await house.get(f"/v1/voice/sessions/{made['id']}")).json()["status"] == "active"
    finished = api.WebhookEvent(
        event="room_finished", id="EV_2", room=api.Room(name=room, sid="RM_1"), room_end_reason=1
    )
    assert await told(house, finished) == 200
    await house.desk.until(lambda: len(house.desk.published) == 2)
    found = (await house.get(f"/v1/voice/sessions/{made['id']}")).json()
    assert (found["status"], found["end_reason"]) == ("completed", "completed")


BODIES = ("", "{", "[]", '{"event": 5}', "\x00", '{"event": "x"}')
TOKENS = ("", "Bearer x", jwt.encode({"iss": "devkey"}, SECRET))


async def test_no_body_of_a_stranger_is_taken(house: House) -> None:
    for body, token in itertools.product(BODIES, TOKENS):
        reply = await house.http.post(
            livekit_webhook.PATH, content=body, headers={"Authorization": token}
        )
        assert reply.status_code == 401


async def test_news_of_a_room_that_is_none_of_ours_are_fine(house: House) -> None:
    for event in ("room_started", "participant_joined", "track_published", "brand_new"):
        assert await told(house, api.WebhookEvent(event=event, room=api.Room(name="else"))) == 200


async def test_a_room_that_a_late_token_opened_again_is_deleted(house: House) -> None:
    made = await house.create()
    room = made["config"]["livekit_room"]
    await house.delete(f"/v1/voice/sessions/{made['id']}")
    await house.desk.until(lambda: room not in house.desk.rooms.rooms)
    house.desk.rooms.open(room)
    started = api.WebhookEvent(event="room_started", room=api.Room(name=room, sid="RM_9"))
    assert await told(house, started) == 200
    await house.desk.until(lambda: room not in house.desk.rooms.rooms)

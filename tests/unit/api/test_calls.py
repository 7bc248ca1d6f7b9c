"""The routes of calls: their answers, their refusals, and which fields are named."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from bridge.call.requests import BadRequest, OverLimit, Unavailable
from bridge.store.errors import StoreError
from tests.unit.api.door import CALL, KEY, UNKNOWN, FakeService, FakeStore, client_of

pytestmark = pytest.mark.unit

NUMBER = "+919876543210"
SIP = {"phone_number": NUMBER, "agent": "a"}
SECRET = "a secret that is long enough for HS256"
PROBLEM = "application/problem+json"


async def test_a_dialled_call_is_accepted_at_once() -> None:
    service = FakeService()
    async with client_of(service) as client:
        answer = await client.post(
            "/api/v1/calls",
            json={
                "phone_number": NUMBER,
                "workflow_slug": "daily",
                "user_id": "u",
                "user_context": {"a": [1, None]},
                "metadata": {"b": 2},
                "trunk": "t",
                "agent": "a",
                "room": "r.1",
                "caller_id": "+918047361000",
                "ring_timeout": 30,
                "max_duration": 60.5,
                "early_media": True,
                "call_type": "sip",
            },
        )
    assert answer.status_code == 201
    assert answer.json() == {
        "call_id": CALL,
        "room_name": f"call-{CALL}",
        "url": "ws://x",
        "token": "t",
        "status": "pending",
    }
    ((asked, key),) = service.dialled
    assert key is None
    assert (asked.phone_number, asked.ring_timeout, asked.early_media) == (NUMBER, 30, True)
    assert asked.metadata == {"b": 2}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"workflow_slug"}),
        ({"call_type": "voip"}, {"workflow_slug"}),
        ({"call_type": "sip", "workflow_slug": "daily"}, {"phone_number"}),
        ({"agent": "a", "trunk": "t"}, {"trunk"}),
        ({"agent": "a", "caller_id": "+918047361000"}, {"caller_id"}),
        ({"agent": "a", "early_media": True}, {"early_media"}),
        ({"agent": "a", "record": True}, {"record"}),
        ({**SIP, "webhook_url": "x" * 3000}, {"webhook_url"}),
        ({**SIP, "webhook_url": "https://example.com/"}, {"webhook_url"}),
        ({"agent": "a", "phone_number": "tel"}, {"phone_number"}),
        ({"agent": "a", "phone_number": f"{NUMBER}\n"}, {"phone_number"}),
        ({"agent": "a", "phone_number": f"{NUMBER}\r\nX: y"}, {"phone_number"}),
        ({"agent": "a", "phone_number": ""}, {"phone_number"}),
        ({"agent": "a", "phone_number": 5}, {"phone_number"}),
        ({**SIP, "call_type": "voip"}, {"phone_number"}),
        ({**SIP, "call_type": "fax"}, {"call_type"}),
        ({**SIP, "colour": "red", "shape": 1}, {"colour", "shape"}),
        ({**SIP, "ring_timeout": 0}, {"ring_timeout"}),
        (
            {**SIP, "ring_timeout": -1, "max_duration": "x"},
            {"ring_timeout", "max_duration"},
        ),
        ({**SIP, "room": "a room"}, {"room"}),
        ({**SIP, "room": "room\n"}, {"room"}),
        ({**SIP, "room": ""}, {"room"}),
        ({**SIP, "caller_id": "me"}, {"caller_id"}),
        ({**SIP, "user_id": "x" * 257}, {"user_id"}),
        ({**SIP, "user_id": "a\nb"}, {"user_id"}),
        ({**SIP, "metadata": [1]}, {"metadata"}),
        ({**SIP, "early_media": "perhaps"}, {"early_media"}),
        ([], {"body"}),
    ],
)
async def test_bad_input_is_422_and_names_each_field(body: Any, fields: set[str]) -> None:
    service = FakeService()
    async with client_of(service) as client:
        answer = await client.post("/api/v1/calls", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    problem = answer.json()
    assert {error["field"] for error in problem["errors"]} == fields
    assert all(field in problem["detail"] for field in fields)
    assert service.dialled == []


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"{", "body"),
        (b"\xff", "body"),
        (b'{"agent": "a", "phone_number": "+1", "metadata": {"a": NaN}}', "metadata"),
        (b'{"agent": "a", "phone_number": "+1", "metadata": {"a": [Infinity]}}', "metadata"),
        (b'{"agent": "a", "phone_number": "+1", "metadata": {"a": 1e999}}', "metadata"),
        (b'{"agent": "a", "phone_number": "+1", "user_context": {"a": "\\ud800"}}', "user_context"),
        (b'{"agent": "a", "phone_number": "+1", "user_context": {"\\udfff": 1}}', "user_context"),
        (
            b'{"agent": "a", "phone_number": "+1", "metadata": {"a":'
            + b"[" * 40
            + b"]" * 40
            + b"}}",
            "metadata",
        ),
        (b'{"agent": "a", "phone_number": "+1", "user_id": "\\ud800"}', "user_id"),
    ],
)
async def test_what_could_not_be_read_back_is_never_accepted(raw: bytes, field: str) -> None:
    service = FakeService()
    async with client_of(service) as client:
        answer = await client.post(
            "/api/v1/calls", content=raw, headers={"Content-Type": "application/json"}
        )
    assert answer.status_code in (400, 422)
    if answer.status_code == 422:
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    else:
        assert raw == b"\xff"
    assert answer.headers["content-type"] == PROBLEM
    assert service.dialled == []


async def test_a_number_never_shows_in_a_refusal() -> None:
    async with client_of(FakeService()) as client:
        answer = await client.post(
            "/api/v1/calls", json={"agent": "a", "phone_number": "+91 70000 12345x"}
        )
    assert answer.status_code == 422
    assert "70000" not in answer.text


@pytest.mark.parametrize(
    ("failure", "status", "retry_after"),
    [
        (BadRequest("trunk", "no trunk 'x'"), 422, None),
        (OverLimit("max_calls", retry_after=7), 429, "7"),
        (Unavailable("draining"), 503, "5"),
        (Unavailable("full", retry_after=10), 503, "10"),
    ],
)
async def test_what_the_service_refuses_is_a_problem(
    failure: Exception, status: int, retry_after: str | None
) -> None:
    service = FakeService()
    service.failure = failure
    async with client_of(service) as client:
        answer = await client.post("/api/v1/calls", json={**SIP})
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["status"] == status
    assert str(failure) in answer.json()["detail"]


async def test_a_bug_is_a_500_that_tells_nothing() -> None:
    service = FakeService()
    service.failure = RuntimeError("the secret is x")
    async with client_of(service, raises=False) as client:
        answer = await client.post("/api/v1/calls", json={**SIP})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == PROBLEM
    assert "secret" not in answer.text


@pytest.mark.parametrize("call_id", [UNKNOWN, "nope", "1", "..%2f"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/events"), ("DELETE", "")])
async def test_an_unknown_id_is_404(call_id: str, method: str, path: str) -> None:
    async with client_of(FakeService()) as client:
        answer = await client.request(method, f"/api/v1/calls/{call_id}{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == PROBLEM


async def test_a_call_its_events_and_the_active_ones_are_shown() -> None:
    service = FakeService()
    service.events = [{"event": "call_ringing", "seq": 1, "early_media": False}]
    async with client_of(service) as client:
        shown = await client.get(f"/api/v1/calls/{CALL.upper()}")
        events = await client.get(f"/api/v1/calls/{CALL}/events")
        active = await client.get("/api/v1/calls/active")
        none = await client.get("/api/v1/calls/active?limit=0")
    assert shown.json() == service.call
    assert shown.json()["started_at"] is None
    assert events.json() == service.events
    assert active.json() == [service.call]
    assert [error["field"] for error in none.json()["errors"]] == ["limit"]


async def test_hanging_up_is_202_every_time() -> None:
    service = FakeService()
    async with client_of(service) as client:
        answers = [await client.delete(f"/api/v1/calls/{CALL}") for _ in range(2)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (202, {"call_id": CALL})
    ] * 2
    assert service.hung_up == [CALL, CALL]


async def test_an_idempotency_key_belongs_to_the_key_of_the_api() -> None:
    service = FakeService()
    headers = {"Authorization": f"Bearer {KEY.secret}", "Idempotency-Key": "once"}
    async with client_of(service, [KEY]) as client:
        await client.post("/api/v1/calls", json={**SIP}, headers=headers)
        long = {**headers, "Idempotency-Key": "x" * 256}
        refused = await client.post("/api/v1/calls", json={**SIP}, headers=long)
    ((_, key),) = service.dialled
    assert key == f"app\0{KEY.access.tenant}\0once"
    assert refused.status_code == 422
    assert [e["field"].lower() for e in refused.json()["errors"]] == ["idempotency-key"]


def token(**claims: Any) -> str:
    return jwt.encode({"sub": "ada", **claims}, SECRET, algorithm="HS256")


async def test_tokens_of_two_tenants_never_meet_by_their_idempotency_keys() -> None:
    service = FakeService()
    async with client_of(service, secret=SECRET) as client:
        for tenant in ("one", "two"):
            headers = {
                "Authorization": f"Bearer {token(tenant_id=tenant)}",
                "Idempotency-Key": "once",
            }
            await client.post("/api/v1/calls", json={**SIP}, headers=headers)
    (_, first), (_, second) = service.dialled
    assert first != second


async def test_a_room_of_another_tenants_call_is_not_joined() -> None:
    service = FakeService()
    service.tenants = {"theirs": ["somebody else"], "everybodys": [None]}
    headers = {"Authorization": f"Bearer {KEY.secret}"}
    async with client_of(service, [KEY]) as client:
        for room, status in (("theirs", 422), ("everybodys", 201), ("new", 201)):
            body = {**SIP, "room": room}
            answer = await client.post("/api/v1/calls", json=body, headers=headers)
            assert answer.status_code == status, room


async def test_a_room_of_another_tenants_call_at_another_instance_is_not_joined() -> None:
    service = FakeService()
    store = FakeStore(service)
    store.tenants = {"theirs": [None, "somebody else"], "everybodys": [None]}
    headers = {"Authorization": f"Bearer {KEY.secret}"}
    async with client_of(service, [KEY], store=store) as client:
        for room, status in (("theirs", 422), ("everybodys", 201), ("new", 201)):
            body = {**SIP, "room": room}
            answer = await client.post("/api/v1/calls", json=body, headers=headers)
            assert answer.status_code == status, room
        store.failure = StoreError("away")  # nobody can tell who hears whom
        body = {**SIP, "room": "new"}
        answer = await client.post("/api/v1/calls", json=body, headers=headers)
        assert answer.status_code == 503
        answer = await client.post("/api/v1/calls", json={**SIP}, headers=headers)
        assert answer.status_code == 201  # a room of its own
    async with client_of(service, store=store) as client:  # without keys everything is everybody's
        answer = await client.post("/api/v1/calls", json=body)
        assert answer.status_code == 201


async def test_a_token_of_a_tenant_neither_drains_nor_reloads() -> None:
    service = FakeService()
    async with client_of(service, secret=SECRET) as client:
        for permissions, status in ((["stt"], 403), (["admin"], 202)):
            bearer = token(tenant_id="one", permissions=permissions)
            headers = {"Authorization": f"Bearer {bearer}"}
            answer = await client.post("/api/v1/drain", headers=headers)
            assert answer.status_code == status


async def test_health_and_readiness_are_told_apart() -> None:
    service = FakeService()
    async with client_of(service, [KEY]) as client:
        alive = await client.get("/healthz")
        ready = await client.get("/readyz")
        service.ready = False
        draining = await client.get("/readyz")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert draining.status_code == 503
    assert draining.json() == {
        "status": "not ready",
        "accepting": False,
        "livekit": True,
        "journal": True,
    }


async def test_the_description_has_every_route() -> None:
    async with client_of(FakeService()) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert set(paths) == {
        "/healthz",
        "/readyz",
        "/api/v1/calls",
        "/api/v1/calls/active",
        "/api/v1/calls/{call_id}",
        "/api/v1/calls/{call_id}/events",
        "/api/v1/calls/{call_id}/ladder",
        "/api/v1/calls/{call_id}/hold",
        "/api/v1/calls/{call_id}/resume",
        "/api/v1/calls/{call_id}/dtmf",
        "/api/v1/calls/{call_id}/transfer",
        "/api/v1/calls/{call_id}/metrics",
        "/api/v1/calls/{call_id}/recording",
        "/api/v1/calls/{call_id}/analysis",
        "/api/v1/calls/{call_id}/cost",
        "/api/v1/calls/{call_id}/erase",
        "/api/calls/outbound",
        "/api/v1/events",
        "/api/v1/drain",
        "/api/v1/reload",
    }


# Bad input.


@pytest.mark.parametrize(
    ("path", "body", "wrong"),
    [
        ("/api/v1/calls", {"call_type": "sip"}, {"phone_number", "workflow_slug"}),
        (
            "/api/v1/calls",
            {"call_type": "voip", "trunk": "a", "caller_id": "+911", "ring_timeout": 5},
            {"trunk", "caller_id", "ring_timeout", "workflow_slug"},
        ),
        (
            "/api/v1/calls",
            {"phone_number": "nobody", "early_media": "yes", "colour": "red"},
            {"phone_number", "early_media", "colour", "workflow_slug"},
        ),
        ("/api/v1/calls", {"call_type": "fax", "user_id": 7}, {"call_type", "user_id"}),
        ("/api/v1/calls", [], {"body"}),
        ("/api/calls/outbound", {"agent": "x" * 300}, {"agent", "phone_number"}),
        (
            "/api/calls/outbound",
            {"call_type": "voip"},
            {"call_type", "phone_number", "workflow_slug"},
        ),
    ],
)
async def test_every_wrong_field_is_named_also_what_is_wrong_beside_others(
    path: str, body: Any, wrong: set[str]
) -> None:
    async with client_of(FakeService()) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert {error["field"] for error in problem["errors"]} == wrong
    assert len(problem["errors"]) == len(wrong)
    assert all(
        error["message"] and error["message"] in problem["detail"] for error in problem["errors"]
    )


async def test_a_phone_call_by_the_older_route_needs_no_type_and_takes_null_for_it() -> None:
    service = FakeService()
    async with client_of(service) as client:
        for kind in ({}, {"call_type": None}, {"call_type": "sip"}):
            body = {"phone_number": "+919876543210", "agent": "a", **kind}
            assert (await client.post("/api/calls/outbound", json=body)).status_code == 201
    assert [one.phone_number for one, _ in service.dialled] == ["+919876543210"] * 3

"""The verbs beside dialling: ladder, list, hold, keys, drain, reload."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import APIRouter

from bridge.api.problems import setting_of
from bridge.call.requests import (
    BadConfiguration,
    BadRequest,
    NotAllowed,
    NotDone,
    WrongState,
)
from bridge.store.queries import CallFilter
from tests.unit.api.door import CALL, KEY, UNKNOWN, FakeService, FakeStore, client_of

pytestmark = pytest.mark.unit

PROBLEM = "application/problem+json"
_NO_MORE: dict[str, Any] = {PROBLEM: {}}


async def test_calls_are_listed_by_page() -> None:
    service = FakeService()
    store = FakeStore(service)
    store.total = 41
    async with client_of(service, store=store) as client:
        first = await client.get("/api/v1/calls")
        third = await client.get("/api/v1/calls?page=3&page_size=10&status=completed")
    assert first.json() == {
        "items": [service.call],
        "total": 41,
        "page": 1,
        "page_size": 20,
        "pages": 3,
    }
    assert third.json()["pages"] == 5
    assert store.asked == [(CallFilter(), 20, 0), (CallFilter(status="completed"), 10, 20)]


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=x",
        "page_size=0",
        "page_size=101",
        "status=done",
        "status=",
        "workflow_id=daily",
        "started_after=2026",
        "started_after=2026-01-17",
        "started_before=1768645800",
        "started_before=2026-02-30T00:00:00Z",
        "colour=red",
    ],
)
async def test_a_wrong_page_is_422_and_names_the_field(query: str) -> None:
    async with client_of(FakeService()) as client:
        answer = await client.get(f"/api/v1/calls?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


async def test_a_ladder_is_shown_and_may_be_empty() -> None:
    service = FakeService()
    async with client_of(service) as client:
        empty = await client.get(f"/api/v1/calls/{CALL}/ladder")
        service.rungs = [{"at": "x", "first_line": "BYE sip:*** SIP/2.0"}]
        shown = await client.get(f"/api/v1/calls/{CALL}/ladder")
        unknown = await client.get(f"/api/v1/calls/{UNKNOWN}/ladder")
    assert (empty.status_code, empty.json()) == (200, [])
    assert shown.json() == service.rungs
    assert unknown.status_code == 404


CONTROLS: list[tuple[str, dict[str, Any]]] = [
    ("hold", {}),
    ("resume", {}),
    ("dtmf", {"json": {"digits": "12w#"}}),
    ("transfer", {"json": {"to": "+918045678900"}}),
]


@pytest.mark.parametrize(("verb", "body"), CONTROLS)
async def test_a_control_is_202_404_409_and_502(verb: str, body: dict[str, Any]) -> None:
    service = FakeService()
    async with client_of(service) as client:
        done = await client.post(f"/api/v1/calls/{CALL}/{verb}", **body)
        unknown = await client.post(f"/api/v1/calls/{UNKNOWN}/{verb}", **body)
        service.failure = WrongState("the call has ended")
        ended = await client.post(f"/api/v1/calls/{CALL}/{verb}", **body)
        service.failure = NotDone("the far end did not agree")
        refused = await client.post(f"/api/v1/calls/{CALL}/{verb}", **body)
    assert (done.status_code, done.json()) == (202, {"call_id": CALL})
    assert service.asked[0][:2] == (verb, CALL)
    answers = (unknown, ended, refused)
    assert [answer.status_code for answer in answers] == [404, 409, 502]
    assert all(answer.headers["content-type"] == PROBLEM for answer in answers)
    assert ended.json()["detail"] == "the call has ended"


@pytest.mark.parametrize("body", [{}, {"digits": 5}, {"digits": "1", "duration": 2}])
async def test_keys_of_the_wrong_shape_are_422_and_never_repeated(body: Any) -> None:
    service = FakeService()
    async with client_of(service) as client:
        answer = await client.post(f"/api/v1/calls/{CALL}/dtmf", json=body)
        service.failure = BadRequest("digits", "must be 1 to 64 of 0-9 * # A-D w")
        wrong = await client.post(f"/api/v1/calls/{CALL}/dtmf", json={"digits": "98765x"})
    assert (answer.status_code, wrong.status_code) == (422, 422)
    assert wrong.json()["errors"][0]["field"] == "digits"
    assert "98765" not in wrong.text
    assert service.asked == []


@pytest.mark.parametrize("body", [{}, {"to": 5}, {"to": "+911", "x": 2}, {"to": "1" * 257}])
async def test_a_transfer_that_is_not_allowed_is_403_and_of_the_wrong_shape_422(body: Any) -> None:
    service = FakeService()
    async with client_of(service) as client:
        answer = await client.post(f"/api/v1/calls/{CALL}/transfer", json=body)
        service.failure = NotAllowed("the trunk's transfer_allow does not allow this target")
        path = f"/api/v1/calls/{CALL}/transfer"
        refused = await client.post(path, json={"to": "+918045678900"})
        service.failure = BadRequest("to", "must be a phone number, a tel: or a sip: URI")
        wrong = await client.post(path, json={"to": "bob"})
    assert [one.status_code for one in (answer, refused, wrong)] == [422, 403, 422]
    assert refused.headers["content-type"] == PROBLEM
    assert "8045678900" not in refused.text
    assert wrong.json()["errors"][0]["field"] == "to"
    assert service.asked == []


async def test_draining_tells_how_many_calls_are_left() -> None:
    service = FakeService()
    async with client_of(service) as client:
        answer = await client.post("/api/v1/drain")
        ready = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (202, {"status": "draining", "calls": 3})
    assert ready.status_code == 503


async def test_a_reload_tells_what_changed_or_one_error_for_each_line() -> None:
    service = FakeService()
    async with client_of(service) as client:
        good = await client.post("/api/v1/reload")
        service.failure = BadConfiguration(
            ["/etc/t.toml:trunk[0].port: 0: too small", "/etc/t.toml: not TOML: x"]
        )
        bad = await client.post("/api/v1/reload")
    assert good.json() == {"changed": ["trunk[t].port: 5060 -> 5061"], "restart": []}
    assert (bad.status_code, bad.headers["content-type"]) == (422, PROBLEM)
    assert bad.json()["errors"] == [
        {"field": "trunk[0].port", "message": "/etc/t.toml:trunk[0].port: 0: too small"},
        {"field": "/etc/t.toml", "message": "/etc/t.toml: not TOML: x"},
    ]


def test_the_setting_of_a_line_without_a_file_is_its_beginning() -> None:
    assert setting_of("trunk[0].transport: tls is not served yet") == "trunk[0].transport"
    assert setting_of("environment:TRUNKBRIDGE_HTTP__LISTEN: x") == "TRUNKBRIDGE_HTTP__LISTEN"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/drain"),
        ("POST", "/api/v1/reload"),
        ("POST", f"/api/v1/calls/{CALL}/hold"),
        ("GET", f"/api/v1/calls/{CALL}/ladder"),
        ("GET", "/api/v1/calls"),
        ("GET", "/api/v1/events"),
    ],
)
async def test_every_door_asks_for_the_key_or_for_this_machine(method: str, path: str) -> None:
    """Threat 5.1: Control API."""
    service = FakeService()
    async with client_of(service, [KEY]) as client:
        assert (await client.request(method, path)).status_code == 401
    async with client_of(service) as client:
        away = await client.request(method, path, headers={"Origin": "https://example.com"})
        assert away.status_code == 403
    assert service.ready
    assert service.asked == []


async def test_the_description_has_an_example_of_every_answer() -> None:
    async with client_of(FakeService()) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    missing = []
    for path, methods in paths.items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                for kind, content in answer.get("content", {}).items():
                    generated = "$ref" in content.get("schema", {}) or path in (
                        "/healthz",
                        "/readyz",
                    )
                    if "example" not in content and not generated:
                        missing.append(f"{method} {path} {status} {kind}")
    assert missing == []


async def test_what_other_routers_leave_out_is_described_for_them() -> None:
    routes = APIRouter()

    @routes.post("/call/outbound", status_code=202)
    async def outbound(body: dict[str, Any]) -> dict[str, Any]:
        return body

    @routes.get("/v1/voice/{one}", responses={409: {"description": "no", "content": _NO_MORE}})
    async def one(one: str) -> dict[str, Any]:
        return {"one": one}

    async with client_of(FakeService(), [KEY], routers=[routes]) as client:
        schema = (await client.get("/openapi.json")).json()
    posted = schema["paths"]["/call/outbound"]["post"]
    assert set(posted["responses"]) == {
        *("202", "400", "401", "402", "403", "404"),
        *("413", "415", "422", "429", "503"),
    }
    assert posted["responses"]["202"]["content"]["application/json"]["example"]["success"]
    wrong = posted["responses"]["422"]["content"]
    assert set(wrong) == {"application/json", "application/problem+json"}
    shown = schema["paths"]["/v1/voice/{one}"]["get"]
    assert set(shown["responses"]) == {"200", "401", "403", "404", "409", "422", "503"}
    example = shown["responses"]["409"]["content"]["application/problem+json"]["example"]
    assert example == {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "no"}
    assert posted["security"] == [{"bearer": []}]
    assert schema["paths"]["/healthz"]["get"]["security"] == []
    assert {"Problem", "CallEventDocument"} <= set(schema["components"]["schemas"])
    assert "HTTPValidationError" not in str(schema)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/v1/calls/active", "GET"),
        ("PUT", "/api/v1/calls", "GET, POST"),
        ("OPTIONS", f"/api/v1/calls/{CALL}", "DELETE, GET"),
        ("PUT", f"/api/v1/calls/{CALL}/hold", "POST"),
    ],
)
async def test_a_method_that_a_path_has_not_is_405_with_those_it_has(
    method: str, path: str, allowed: str
) -> None:
    service = FakeService()
    async with client_of(service) as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.headers["content-type"] == PROBLEM
    assert service.hung_up == []

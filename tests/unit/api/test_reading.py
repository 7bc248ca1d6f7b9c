"""Who sees which calls, out of memory, journal and store; and what is shown when one is away."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bridge.api.auth import ApiKey
from bridge.api.transcripts import Report
from bridge.errors import BridgeError
from bridge.store.fold import shown
from bridge.store.queries import CallFilter
from tests.unit.api.door import (
    CALL,
    UNKNOWN,
    FakeLog,
    FakeProjection,
    FakeService,
    FakeStore,
    app_of,
    client_of,
)

pytestmark = pytest.mark.unit

OTHER = "5f0c6f6e-8f2b-4b0e-9a55-0b7a5d0f6a12"
KEYS = [
    ApiKey(name="a", secret="a", tenant="A"),
    ApiKey(name="b", secret="b", tenant="B"),
    ApiKey(name="root", secret="root", tenant="R", permissions=frozenset(("admin",))),
]
ENDED = "2026-01-17T10:33:00.000Z"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def of_tenant(tenant: str | None) -> tuple[FakeService, FakeStore]:
    service = FakeService()
    service.call["tenant_id"] = tenant
    return service, FakeStore(service)


NOTHING = {
    "duration_seconds": None,
    "stt_latency_ms": None,
    "llm_latency_ms": None,
    "tts_latency_ms": None,
    "total_tokens": None,
    "agent_handoffs": None,
}
PATHS = [
    ("GET", ""),
    ("GET", "/metrics"),
    ("GET", "/ladder"),
    ("GET", "/events"),
    ("GET", "/recording"),
    ("GET", "/analysis"),
    ("GET", "/cost"),
    ("DELETE", ""),
    ("POST", "/hold"),
    ("POST", "/resume"),
    ("POST", "/dtmf"),
    ("POST", "/transfer"),
    ("POST", "/erase"),
]
BODIES = {"/dtmf": {"digits": "1"}, "/transfer": {"to": "+918045678900"}}


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_the_call_of_another_tenant_is_no_call(method: str, path: str) -> None:
    """Threat 5.1: Control API."""
    service, store = of_tenant("A")
    async with client_of(service, KEYS, store=store) as client:
        answers = {
            secret: await client.request(
                method,
                f"/api/v1/calls/{CALL}{path}",
                json=BODIES.get(path),
                headers=bearer(secret),
            )
            for secret in ("b", "a", "root")
        }
        unknown = await client.request(
            method, f"/api/v1/calls/{UNKNOWN}{path}", json=BODIES.get(path), headers=bearer("b")
        )
    assert answers["b"].status_code == 404
    assert answers["b"].json() == unknown.json()
    assert "no such call" not in answers["a"].text
    assert "no such call" not in answers["root"].text
    assert len(service.asked) == (2 if method == "POST" and path != "/erase" else 0)
    assert len(service.hung_up) == (2 if method == "DELETE" else 0)


@pytest.mark.parametrize("tenant", [None, "A"])
async def test_a_call_of_nobody_is_everybodys_with_a_key(tenant: str | None) -> None:
    service, store = of_tenant(tenant)
    async with client_of(service, KEYS, store=store) as client:
        seen = {
            secret: (await client.get(f"/api/v1/calls/{CALL}", headers=bearer(secret))).status_code
            for secret in ("a", "b", "root")
        }
        without = await client.get(f"/api/v1/calls/{CALL}")
    assert seen == {"a": 200, "b": 200 if tenant is None else 404, "root": 200}
    assert without.status_code == 401


async def test_lists_ask_for_the_tenant_and_an_admin_for_all() -> None:
    service, store = of_tenant("A")
    async with client_of(service, KEYS, store=store) as client:
        for secret in ("a", "b", "root"):
            await client.get("/api/v1/calls", headers=bearer(secret))
        active = {
            secret: len((await client.get("/api/v1/calls/active", headers=bearer(secret))).json())
            for secret in ("a", "b", "root")
        }
    assert [asked[0].tenant for asked in store.asked[:3]] == ["A", "B", None]
    assert active == {"a": 1, "b": 0, "root": 1}


async def test_a_call_belongs_to_the_tenant_of_its_key() -> None:
    service = FakeService()
    body = {"phone_number": "+919876543210", "agent": "x"}
    async with client_of(service, KEYS) as client:
        for secret in ("a", "root"):
            made = await client.post("/api/v1/calls", json=body, headers=bearer(secret))
            assert made.status_code == 201
    assert [request.tenant for request, _ in service.dialled] == ["A", "R"]


async def test_events_of_other_tenants_are_in_no_page_and_in_no_stream() -> None:
    """Threat 5.1: Control API."""
    service, store = of_tenant("A")
    store.rows[OTHER] = {**service.call, "id": OTHER, "tenant_id": "B"}
    log = FakeLog()
    for seq in (1, 2):
        for call_id in (CALL, OTHER):
            log.write({"event": "call_ringing", "call_id": call_id, "seq": seq})
    async with client_of(service, KEYS, log=log, store=store) as client:
        pages = {
            secret: await client.get("/api/v1/events?limit=4", headers=bearer(secret))
            for secret in ("a", "b", "root")
        }
    seen = {secret: [one["call_id"] for one in page.json()] for secret, page in pages.items()}
    assert seen == {"a": [CALL] * 2, "b": [OTHER] * 2, "root": [CALL, OTHER] * 2}
    assert {page.headers["last-event-id"] for page in pages.values()} == {"4"}


async def test_a_running_call_is_as_it_is_now_with_what_agents_reported() -> None:
    service = FakeService()
    store = FakeStore(service)
    told = {"metrics": {"llm_latency_ms": 280}, "agent_history": ["g"], "current_agent": "g"}
    store.rows[CALL] = {**service.call, **told, "status": "pending"}
    service.call.update(status="active", agent_history=[], current_agent=None)
    async with client_of(service, store=store) as client:
        one = (await client.get(f"/api/v1/calls/{CALL}")).json()
        many = (await client.get("/api/v1/calls")).json()["items"]
        active = (await client.get("/api/v1/calls/active")).json()
    metrics = {**NOTHING, "llm_latency_ms": 280}
    assert one == many[0] == active[0] == {**service.call, **told, "metrics": metrics}


async def test_pending_and_connecting_are_told_apart_by_memory() -> None:
    service = FakeService()
    store = FakeStore(service)
    store.rows[CALL] = dict(service.call)
    service.call["status"] = "connecting"  # dialled, and nothing has come back
    async with client_of(service, store=store) as client:
        pending = (await client.get("/api/v1/calls?status=pending")).json()
        connecting = (await client.get("/api/v1/calls?status=connecting")).json()
    assert (pending["total"], pending["items"]) == (0, [])
    assert (connecting["total"], connecting["items"]) == (1, [service.call])


async def test_what_the_store_has_not_yet_comes_from_the_journal() -> None:
    service = FakeService()
    store, projection = FakeStore(service), FakeProjection()
    store.rows[CALL] = {**service.call, "seq": 2, "metrics": {"total_tokens": 5}}
    service.call.update(ended_at=ENDED, seq=3, status="completed")
    projection.fresh = False
    async with client_of(service, store=store, projection=projection) as client:
        late = (await client.get(f"/api/v1/calls/{CALL}")).json()
    assert (late["seq"], late["status"]) == (3, "completed")
    assert late["metrics"] == {**NOTHING, "total_tokens": 5}


async def test_without_the_store_what_is_known_here_is_shown_and_lists_are_503() -> None:
    service = FakeService()
    store = FakeStore(service)
    store.failure = BridgeError("could not connect to postgresql://u:secret@db")
    async with client_of(service, store=store) as client:
        running = await client.get(f"/api/v1/calls/{CALL}")
        active = await client.get("/api/v1/calls/active")
        service.call["ended_at"] = ENDED
        service.events = [{"event": "call_ended", "seq": 1}]
        over = await client.get(f"/api/v1/calls/{CALL}")
        events = await client.get(f"/api/v1/calls/{CALL}/events")
        unknown = await client.get(f"/api/v1/calls/{UNKNOWN}")
        page = await client.get("/api/v1/calls")
    assert (running.status_code, over.status_code, events.status_code) == (200, 200, 200)
    assert [call["id"] for call in active.json()] == [CALL]
    assert unknown.status_code == page.status_code == 503
    assert page.headers["content-type"] == "application/problem+json"
    assert int(page.headers["retry-after"]) > 0
    assert "secret" not in page.text


async def test_the_call_of_another_instance_is_read_from_the_store() -> None:
    service = FakeService()
    store = FakeStore(service)
    store.rows[OTHER] = {**service.call, "id": OTHER, "ended_at": ENDED, "seq": 2}
    store.logged[OTHER] = [
        {"event": "call_ringing", "call_id": OTHER, "seq": 1},
        {"event": "call_ended", "call_id": OTHER, "seq": 2},
    ]
    store.rungs[OTHER] = [{"first_line": "BYE sip:*** SIP/2.0"}]
    stream = {"Accept": "text/event-stream", "Last-Event-ID": "1"}
    async with client_of(service, store=store) as client:
        path = f"/api/v1/calls/{OTHER}"
        assert (await client.get(path)).json() == shown(store.rows[OTHER])
        assert (await client.get(f"{path}/events")).json() == store.logged[OTHER]
        assert (await client.get(f"{path}/ladder")).json() == store.rungs[OTHER]
        followed = await client.get(f"{path}/events", headers=stream)
        assert (await client.post(f"{path}/erase")).status_code == 202
    assert '"seq":2' in followed.text
    assert '"seq":1' not in followed.text
    assert store.erased == [OTHER]


async def test_a_running_call_is_not_erased() -> None:
    service = FakeService()
    async with client_of(service) as client:
        refused = await client.post(f"/api/v1/calls/{CALL}/erase")
        assert service.asked == []
        service.call["ended_at"] = ENDED
        done = await client.post(f"/api/v1/calls/{CALL}/erase")
    assert (refused.status_code, done.status_code) == (409, 202)
    assert service.asked == [("erase", CALL)]


async def test_metrics_are_null_until_they_are_told() -> None:
    service = FakeService()
    async with client_of(service) as client:
        before = (await client.get(f"/api/v1/calls/{CALL}/metrics")).json()
        service.call.update(
            duration_seconds=180, ended_at=ENDED, metrics={"llm_latency_ms": 280, "more": 1}
        )
        after = (await client.get(f"/api/v1/calls/{CALL}/metrics")).json()
    assert before == NOTHING
    assert after == {**NOTHING, "duration_seconds": 180, "llm_latency_ms": 280}


async def test_what_nobody_told_of_analysis_and_cost_is_null() -> None:
    service = FakeService()
    store = FakeStore(service)
    path = f"/api/v1/calls/{CALL}"
    async with client_of(service, store=store) as client:
        before = [(await client.get(f"{path}/{part}")).json() for part in ("analysis", "cost")]
        store.told[CALL] = {"metrics": {"total_tokens": 1500}}
        service.call.update(metrics={"total_tokens": 1500}, ended_at=ENDED, duration_seconds=180)
        unpriced = (await client.get(f"{path}/cost")).json()
        none = (await client.get(f"{path}/analysis")).json()
        store.told[CALL] = {
            "analysis": {"summary": "fine", "topics": ["x"]},
            "cost": {"total": 0.12, "currency": "USD", "breakdown": [{"provider": "x"}]},
        }
        analysis = (await client.get(f"{path}/analysis")).json()
        cost = (await client.get(f"{path}/cost")).json()
        recording = await client.get(f"{path}/recording")
    usage = {"duration_seconds": 180, "total_tokens": 1500}
    nothing = dict.fromkeys(("summary", "sentiment", "topics", "action_items"))
    unknown = {"total": None, "currency": None, "breakdown": None}
    assert before == [nothing, {**unknown, "usage": dict.fromkeys(usage)}]
    assert unpriced == {**unknown, "usage": usage}
    assert none == nothing
    assert analysis == {
        "summary": "fine",
        "sentiment": None,
        "topics": ["x"],
        "action_items": None,
    }
    assert (cost["total"], cost["currency"]) == (0.12, "USD")
    assert recording.status_code == 404


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-17T10:30:00Z", 1768645800.0),
        ("2026-01-17T10:30:00.5Z", 1768645800.5),
        ("2026-01-17t10:30:00z", 1768645800.0),
        ("2026-01-17T10:30:00", 1768645800.0),
        ("2026-01-17T16:00:00%2B05:30", 1768645800.0),
        ("2026-01-17T16:00:00+05:30", 1768645800.0),
        ("2026-01-17T04:00:00-06:30", 1768645800.0),
        ("2016-12-31T23:59:60Z", 1483228799.0),
    ],
)
async def test_times_are_taken_as_rfc_3339_writes_them(text: str, seconds: float) -> None:
    service = FakeService()
    store = FakeStore(service)
    async with client_of(service, store=store) as client:
        answer = await client.get(f"/api/v1/calls?started_after={text}&started_before={text}")
    assert answer.status_code == 200
    ((wanted, _, _),) = store.asked
    assert wanted == CallFilter(started_after=seconds, started_before=seconds)


async def test_every_filter_reaches_the_store() -> None:
    service = FakeService()
    store = FakeStore(service)
    params: dict[str, Any] = {
        "status": "completed",
        "workflow_id": CALL.upper(),
        "user_id": "user 1",
        "direction": "inbound",
        "call_type": "sip",
    }
    async with client_of(service, store=store) as client:
        await client.get("/api/v1/calls", params=params)
    ((wanted, limit, offset),) = store.asked
    assert wanted == CallFilter(
        status="completed",
        workflow_id=CALL,
        user_id="user 1",
        direction="inbound",
        call_type="sip",
    )
    assert (limit, offset) == (20, 0)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/provider-keys"),
        ("POST", "/api/v1/provider-keys"),
        ("DELETE", f"/api/v1/provider-keys/{CALL}"),
        ("POST", "/v1/sessions/twilio"),
        ("GET", "/v1/sessions/twilio/stream"),
        ("POST", "/v1/sessions/twilio/task/t/status"),
        ("POST", "/v1/sessions/twilio/task/t/connect"),
        ("GET", "/v1/agents/agent_abc123/session"),
    ],
)
async def test_what_comes_later_is_501(method: str, path: str) -> None:
    async with client_of(FakeService(), KEYS) as client:
        answer = await client.request(method, path, headers=bearer("a"))
        unasked = await client.request(method, path)
    assert (answer.status_code, unasked.status_code) == (501, 401)
    assert answer.headers["content-type"] == "application/problem+json"


def only_example_org(url: str) -> None:
    if "example.org" not in url:
        raise ValueError("not there")


async def test_a_receiver_is_judged_before_the_call_is_made() -> None:
    service = FakeService()
    body = {"phone_number": "+919876543210", "agent": "x"}
    async with client_of(service, check_url=only_example_org) as client:
        refused = await client.post("/api/v1/calls", json={**body, "webhook_url": "http://x"})
        taken = await client.post(
            "/api/v1/calls", json={**body, "webhook_url": "https://example.org/x"}
        )
    assert (refused.status_code, taken.status_code) == (422, 201)
    assert refused.json()["errors"] == [{"field": "webhook_url", "message": "not there"}]
    assert [request.webhook_url for request, _ in service.dialled] == ["https://example.org/x"]


async def test_seed_000_dials_by_a_door_of_its_own() -> None:
    service = FakeService()
    async with client_of(service) as client:
        made = await client.post(
            "/api/calls/outbound", json={"phone_number": "+919876543210", "agent": "x"}
        )
        voip = await client.post("/api/calls/outbound", json={"agent": "x", "call_type": "voip"})
        nobody = await client.post("/api/calls/outbound", json={"agent": "x"})
    assert made.status_code == 201
    assert set(made.json()) == {"call_id", "room_name", "url", "token", "status"}
    assert [answer.json()["errors"][0]["field"] for answer in (voip, nobody)] == [
        "call_type",
        "phone_number",
    ]


@pytest.mark.parametrize("path", ["/v1/sessions/twilio/stream", "/v1/agents/agent_abc123/session"])
async def test_a_websocket_that_comes_later_is_refused_with_501(path: str) -> None:
    app = app_of(FakeService())
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "ws",
        "query_string": b"",
        "headers": [],
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    await app(scope, receive, send)
    assert sent[0]["type"] == "websocket.http.response.start"
    assert sent[0]["status"] == 501


def test_what_was_concluded_of_a_call_can_be_reported_and_is_bounded() -> None:
    told = {
        "analysis": {"summary": "fine", "topics": ["invoice"]},
        "cost": {"currency": "USD", "breakdown": [{"provider": "x", "amount": 0.5}]},
    }
    assert Report.model_validate(told).model_dump(exclude_unset=True) == told
    for wrong in (
        {"cost": {"currency": "dollars"}},
        {"cost": {"total": -1}},
        {"cost": {"colour": 1}},
        {"analysis": {"topics": ["x"] * 65}},
        {"analysis": {"summary": "x" * 10_001}},
    ):
        with pytest.raises(ValidationError):
            Report.model_validate(wrong)

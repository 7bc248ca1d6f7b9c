"""Seed 001's phone routes, field by field (peers-measured 2.1)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from bridge.api import older
from bridge.api.app import Doors
from bridge.api.auth import ApiKey
from bridge.api.reading import Reading
from bridge.call.record import workflow_id
from bridge.call.requests import Admit, Names, OverLimit, Unavailable, anybody
from bridge.sessions.requests import Asker
from bridge.store.store import StoredCall
from bridge.transcript.segment import Segment, Speaker
from tests.unit.api.door import CALL, UNKNOWN, FakeProjection, FakeService, FakeStore, client_of

pytestmark = pytest.mark.unit

NAMES = Names(
    workflows={"daily": "daily", workflow_id("daily"): "daily"},
    agents={"daily": "nurse"},
    profiles={"mumbai": "exotel", "lab": "generic", "far": "twilio"},
    phrases={200: "OK", 486: "Busy Here"},
)
OUTBOUND = {
    "assistant_id": "daily",
    "trunk_id": "mumbai",
    "to_number": "+919876543210",
    "call_service": "exotel",
}
RESOURCE: dict[str, Any] = {
    "workflow_id": workflow_id("daily"),
    "workflow_slug": "daily",
    "agent": "nurse",
    "direction": "outbound",
    "call_type": "sip",
    "phone_number": "+919876543210",
    "trunk_number": "+912240000000",
    "trunk": "mumbai",
    "room_name": f"call-{CALL}",
    "reason": None,
    "sip_status": None,
    "duration_ms": None,
}
ENDED: dict[str, Any] = {
    "status": "completed",
    "outcome": "completed",
    "reason": "remote_hangup",
    "sip_status": 200,
    "started_at": "2026-01-17T10:30:00.000Z",
    "ended_at": "2026-01-17T10:31:30.000Z",
    "duration_ms": 90_000,
    "seq": 3,
}


class Service(FakeService):
    def __init__(self) -> None:
        super().__init__()
        self.call |= RESOURCE
        self.waiting = False

    async def names(self) -> Names:
        return NAMES


class Store(FakeStore):
    def __init__(self, service: FakeService) -> None:
        super().__init__(service)
        self.private: dict[str, Any] = {}
        self.recorded: dict[str, str] = {}

    def call(self, call_id: str) -> StoredCall | None:
        row = super().call(call_id)
        if row is None:
            return None
        return StoredCall(
            record=row.record, private=self.private, instance="here", tenant_id=row.tenant_id
        )

    def transcript(self, call_id: str) -> list[Segment]:
        return [Segment(speaker=Speaker.AGENT, content="Hello", at=1768645800.0)]

    def recording_path(self, call_id: str) -> str | None:
        return self.recorded.get(call_id)


class Older:
    """A client of the app with these routes."""

    def __init__(self, keys: tuple[ApiKey, ...] = ()) -> None:
        self.service = Service()
        self.store = Store(self.service)
        self.dialled_at: float | None = None
        doors = Doors(self.service, asyncio.get_running_loop())
        routes = older.router(
            doors,
            Reading(doors, self.store, FakeProjection()),
            self.service,
            self.store,
            lambda _: (self.service.waiting, self.dialled_at),
            self,
        )
        self.client = client_of(self.service, keys, store=self.store, routers=[routes])

    def admission_of(self, asker: Asker) -> Admit:
        del asker
        return anybody

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self.client.post(path, json=body)

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self.client.get(path, params=params)


async def test_outbound_dials_for_an_assistant_and_says_queued() -> None:
    older_ = Older()
    answer = await older_.post("/call/outbound", {**OUTBOUND, "metadata": {"lead": 7}})
    assert answer.status_code == 202
    body = answer.json()
    assert sorted(body) == ["data", "message", "success"]
    assert body["success"] is True
    assert body["data"] == {"queue_id": CALL, "status": "queued"}
    request, _ = older_.service.dialled[0]
    assert (request.workflow_slug, request.trunk) == ("daily", "mumbai")
    assert (request.phone_number, dict(request.metadata)) == ("+919876543210", {"lead": 7})
    assert not request.passthrough


async def test_an_assistant_may_be_told_by_its_id() -> None:
    older_ = Older()
    answer = await older_.post("/call/outbound", {**OUTBOUND, "assistant_id": workflow_id("daily")})
    assert answer.status_code == 202
    assert older_.service.dialled[0][0].workflow_slug == "daily"


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"assistant_id": "nobody"}, 404),
        ({"trunk_id": "nowhere"}, 404),
        ({"call_service": "twilio"}, 400),
        ({"trunk_id": "far", "call_service": "twilio"}, 501),
    ],
)
async def test_what_cannot_be_dialled_so_is_refused_in_the_envelope(
    wrong: dict[str, str], status: int
) -> None:
    older_ = Older()
    answer = await older_.post("/call/outbound", OUTBOUND | wrong)
    assert answer.status_code == status
    body = answer.json()
    assert (body["success"], body["data"]) == (False, None)
    assert body["message"]
    assert older_.service.dialled == []


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"to_number": "nobody"}, "to_number"),
        ({"assistant_id": ""}, "assistant_id"),
        ({"surprise": 1}, "surprise"),
        ({"metadata": []}, "metadata"),
    ],
)
async def test_a_wrong_body_names_its_fields_in_data_errors(
    wrong: dict[str, Any], field: str
) -> None:
    answer = await Older().post("/call/outbound", OUTBOUND | wrong)
    assert answer.status_code == 422
    body = answer.json()
    assert body["success"] is False
    assert [error["field"] for error in body["data"]["errors"]] == [field]


@pytest.mark.parametrize("missing", list(OUTBOUND))
async def test_every_field_of_outbound_is_needed(missing: str) -> None:
    body = {name: value for name, value in OUTBOUND.items() if name != missing}
    answer = await Older().post("/call/outbound", body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["data"]["errors"]] == [missing]


async def test_a_full_queue_is_429_and_no_service_503_with_a_time_to_come_back() -> None:
    older_ = Older()
    for failure, status in ((OverLimit("full", retry_after=7), 429), (Unavailable("no"), 503)):
        older_.service.failure = failure
        answer = await older_.post("/call/outbound", OUTBOUND)
        assert answer.status_code == status
        assert answer.headers["Retry-After"] in ("7", "5")


async def test_passthrough_gives_a_person_a_room_and_a_token() -> None:
    older_ = Older()
    answer = await older_.post(
        "/call/outbound_passthrough", {"trunk_id": "lab", "to_number": "+919876543210"}
    )
    assert answer.status_code == 202
    assert answer.json()["data"] == {
        "queue_id": CALL,
        "room_name": f"call-{CALL}",
        "room_token": "t",
        "room_url": "ws://x",
        "status": "queued",
    }
    request, _ = older_.service.dialled[0]
    assert (request.passthrough, request.agent, request.workflow_slug) == (True, None, None)
    missing = await older_.post(
        "/call/outbound_passthrough", {"trunk_id": "nowhere", "to_number": "+919876543210"}
    )
    assert missing.status_code == 404


@pytest.mark.parametrize(
    ("state", "waits", "expected"),
    [
        ({}, True, ("pending", None, None)),
        ({}, False, ("dispatching", None, None)),
        ({"status": "connecting"}, False, ("dispatched", "2026-01-17T10:29:58.000Z", None)),
        (ENDED, False, ("dispatched", "2026-01-17T10:29:58.000Z", None)),
        (
            {**ENDED, "status": "failed", "sip_status": 486, "started_at": None, "reason": "busy"},
            False,
            ("dispatched", "2026-01-17T10:29:58.000Z", None),
        ),
        (
            {
                **ENDED,
                "status": "failed",
                "sip_status": None,
                "started_at": None,
                "reason": "queue_timeout",
            },
            False,
            ("failed", None, "queue_timeout"),
        ),
    ],
)
async def test_the_queue_tells_how_far_a_call_is(
    state: dict[str, Any], waits: bool, expected: tuple[str, str | None, str | None]
) -> None:
    older_ = Older()
    older_.service.call |= state
    older_.service.waiting = waits
    older_.dialled_at = 1768645798.0
    answer = await older_.get(f"/call/queue/{CALL}")
    assert answer.status_code == 200
    status, dispatched_at, error = expected
    assert answer.json()["data"] == {
        "queue_id": CALL,
        "status": status,
        "to_number": "+919876543210",
        "call_service": "exotel",
        "queued_at": "2026-01-17T10:29:55.000Z",
        "dispatched_at": dispatched_at,
        "retry_count": 0,
        "last_error": error,
    }


@pytest.mark.parametrize("unknown", [UNKNOWN, "no-id"])
async def test_an_unknown_queue_id_is_404(unknown: str) -> None:
    answer = await Older().get(f"/call/queue/{unknown}")
    assert answer.status_code == 404
    assert answer.json()["success"] is False


async def test_a_call_of_another_tenant_is_unknown() -> None:
    older_ = Older((ApiKey(name="app", secret="s3cret", tenant="mine"),))
    older_.service.call["tenant_id"] = "other"
    answer = await older_.client.get(
        f"/call/queue/{CALL}", headers={"Authorization": "Bearer s3cret"}
    )
    assert answer.status_code == 404


async def test_a_record_has_every_field_of_the_older_bridge() -> None:
    older_ = Older()
    older_.service.call |= ENDED
    answer = await older_.get("/call/records")
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert data["pagination"] == {"total": 1, "page": 1, "limit": 20, "total_pages": 1}
    assert data["records"] == [
        {
            "room_name": f"call-{CALL}",
            "queue_id": CALL,
            "assistant_id": workflow_id("daily"),
            "assistant_name": "daily",
            "is_passthrough": False,
            "to_number": "+919876543210",
            "call_status": "completed",
            "call_status_reason": "remote_hangup",
            "sip_status_code": 200,
            "sip_status_text": "OK",
            "answered_at": "2026-01-17T10:30:00.000Z",
            "agent_ready_at": None,
            "call_end_reason": "remote_hangup",
            "recording_path": None,
            "transcripts": [
                {"speaker": "agent", "text": "Hello", "timestamp": "2026-01-17T10:30:00.000Z"}
            ],
            "started_at": "2026-01-17T10:29:55.000Z",
            "ended_at": "2026-01-17T10:31:30.000Z",
            "call_duration_minutes": 1.5,
            "billable_duration_minutes": 2,
            "call_type": "outbound",
            "call_service": "exotel",
            "platform_number": "+912240000000",
        }
    ]


async def test_a_call_that_was_recorded_says_where_and_others_are_not_asked_for() -> None:
    older_ = Older()
    older_.service.call |= ENDED
    older_.store.recorded[CALL] = f"s3://calls/{CALL}.ogg"
    (plain,) = (await older_.get("/call/records")).json()["data"]["records"]
    older_.store.private = {"record": True}
    (recorded,) = (await older_.get("/call/records")).json()["data"]["records"]
    assert plain["recording_path"] is None
    assert recorded["recording_path"] == f"s3://calls/{CALL}.ogg"


async def test_what_never_connected_costs_nothing_and_lasted_nobody_knows_how_long() -> None:
    older_ = Older()
    older_.service.call |= {**ENDED, "started_at": None, "status": "failed", "sip_status": 486}
    older_.store.private = {"passthrough": True}
    (record,) = (await older_.get("/call/records")).json()["data"]["records"]
    assert record["call_duration_minutes"] is None
    assert record["billable_duration_minutes"] == 0
    assert record["sip_status_text"] == "Busy Here"
    assert record["is_passthrough"] is True


@pytest.mark.parametrize(
    ("changes", "call_type", "to_number"),
    [
        ({"direction": "inbound"}, "inbound", "+912240000000"),
        ({"direction": "inbound", "call_type": "voip", "phone_number": None}, "web", None),
    ],
)
async def test_calls_that_came_in_and_web_calls_say_so(
    changes: dict[str, Any], call_type: str, to_number: str | None
) -> None:
    older_ = Older()
    older_.service.call |= {**ENDED, **changes}
    (record,) = (await older_.get("/call/records")).json()["data"]["records"]
    assert (record["call_type"], record["to_number"]) == (call_type, to_number)


async def test_filters_sorting_and_paging_reach_the_store() -> None:
    older_ = Older()
    older_.store.total = 101
    answer = await older_.get(
        "/call/records",
        passthrough_only=True,
        to_number="+919876543210",
        call_status="completed",
        start_date="2026-01-17",
        end_date="2026-01-18",
        sort_by="answered_at",
        sort_order="asc",
        page=3,
        limit=50,
    )
    assert answer.status_code == 200
    assert answer.json()["data"]["pagination"] == {
        "total": 101,
        "page": 3,
        "limit": 50,
        "total_pages": 3,
    }
    wanted, limit, offset = older_.store.asked[-1]
    assert (limit, offset) == (50, 100)
    assert (wanted.passthrough, wanted.to_number) == (True, "+919876543210")
    assert (wanted.status, wanted.sort_by, wanted.ascending) == ("completed", "started_at", True)
    assert wanted.created_after == pytest.approx(1768608000.0, abs=0.001)
    assert wanted.created_before == pytest.approx(1768608000.0 + 2 * 86400, abs=0.001)


async def test_a_plus_that_nobody_encoded_is_one_all_the_same() -> None:
    older_ = Older()
    await older_.client.get("/call/records?to_number=+919876543210")
    assert older_.store.asked[-1][0].to_number == "+919876543210"


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 101},
        {"limit": 0},
        {"page": 0},
        {"sort_by": "secret"},
        {"sort_order": "up"},
        {"call_status": "asleep"},
        {"start_date": "yesterday"},
        {"surprise": 1},
    ],
)
async def test_a_wrong_filter_is_named(wrong: dict[str, Any]) -> None:
    answer = await Older().get("/call/records", **wrong)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["data"]["errors"]] == list(wrong)

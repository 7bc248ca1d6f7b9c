"""What a key's plan allows, by every route that makes a call (contract 6; seed 004, Limits)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.adapters import Ledger
from bridge.api import older, sessions, web_calls
from bridge.api.app import Doors
from bridge.api.auth import ApiKey
from bridge.api.reading import Reading
from bridge.config.config import Config
from bridge.config.sections import PlanConfig
from bridge.sessions.sessions import Sessions
from tests.unit.api.house import House, a_house
from tests.unit.call.desk import config, trunk
from tests.unit.sessions.desk import FakeRooms

pytestmark = pytest.mark.unit

KEYS = [
    ApiKey(name=name, secret=name, plan=plan)
    for name, plan in (
        ("single", "single"),
        ("slow", "slow"),
        ("other", "slow"),
        ("usual", "enterprise"),
        ("deaf", "enterprise"),
        ("poor", "paid"),
    )
]
KEYS[4] = ApiKey(name="deaf", secret="deaf", permissions=frozenset())
PLANS = [
    PlanConfig(name="single", sessions=1, creates_per_minute=0),
    PlanConfig(name="slow", sessions=0, creates_per_minute=2),
    PlanConfig(name="paid", sessions=0, creates_per_minute=0, min_credit=5),
]
NUMBER = "+919876543210"
PHONE = {"phone_number": NUMBER, "trunk": "exotel"}
OLDER = {"trunk_id": "exotel", "to_number": NUMBER}
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "sip": ("/api/v1/calls", PHONE),
    "voip": ("/api/v1/calls", {"workflow_slug": "daily"}),
    "test-agent": ("/api/v1/calls/test-agent", {"agent_name": "greeter"}),
    "outbound": ("/api/calls/outbound", PHONE),
    "token": ("/api/livekit/token", {"agent_name": "greeter"}),
    "older outbound": (
        "/call/outbound",
        {**OLDER, "assistant_id": "daily", "call_service": "generic"},
    ),
    "passthrough": ("/call/outbound_passthrough", OLDER),
    "get_token": ("/web_call/get_token", {"assistant_id": "daily"}),
}
SESSION = ("/v1/voice/sessions", {"language": "en-IN"})
EVERY = pytest.mark.parametrize("door", [*CALLS, "session"])


class Office:
    """The whole API over real calls and sessions; SIP and LiveKit are played."""

    def __init__(self, house: House, web: Sessions, http: httpx.AsyncClient) -> None:
        self.house = house
        self.web = web
        self.http = http

    async def make(self, door: str, key: str, **headers: str) -> httpx.Response:
        path, body = SESSION if door == "session" else CALLS[door]
        return await self.http.post(
            path, json=body, headers={"Authorization": f"Bearer {key}", **headers}
        )


def settings() -> Config:
    known = config(trunk(calls_per_second=100))
    return known.model_copy(update={"plan": PLANS})


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with a_house(tmp_path, settings()) as house:
        desk = house.desk
        web = Sessions(
            settings(),
            rooms=FakeRooms(),
            ledger=Ledger(desk.journal),
            archive=desk.journal,
            publish=desk.published.append,
            calls_of=desk.service.made_by,
        )
        house.switchboard._sessions = web
        doors = Doors(house.switchboard, asyncio.get_running_loop())
        reading = Reading(doors, house.store, house.projection)
        routers = [
            sessions.router(doors, web, sessions.SessionReading(doors, web)),
            web_calls.router(doors, web),
            older.router(
                doors, reading, house.switchboard, house.store, lambda _: (False, None), web
            ),
        ]
        parts = {"web_calls": web_calls.WebDoor(web), "routers": routers}
        async with house.client(KEYS, **parts) as http:
            yield Office(house, web, http)
        await web.stop()


def refused(answer: httpx.Response, door: str) -> str:
    """Return what a 429 says, in the words of its route."""
    assert answer.status_code == 429, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    body = answer.json()
    if CALLS.get(door, ("",))[0].startswith(("/call/", "/web_call/")):
        assert sorted(body) == ["data", "message", "success"]
        assert body["success"] is False
        return str(body["message"])
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert body["status"] == 429
    return str(body["detail"])


@EVERY
async def test_a_plans_calls_at_once_hold_for_every_route(office: Office, door: str) -> None:
    assert (await office.make(door, "single")).is_success
    assert refused(await office.make(door, "single"), door) == "the plan allows 1 sessions at once"
    assert (await office.make(door, "usual")).is_success


@EVERY
async def test_a_plans_new_calls_a_minute_hold_for_every_route(office: Office, door: str) -> None:
    for _ in range(2):
        assert (await office.make(door, "slow")).is_success
    said = refused(await office.make(door, "slow"), door)
    assert said == "the plan allows 2 new sessions a minute"
    assert (await office.make(door, "other")).is_success


async def test_one_plan_counts_phone_calls_web_calls_and_sessions_together(office: Office) -> None:
    assert (await office.make("sip", "slow")).is_success
    assert (await office.make("session", "slow")).is_success
    for door in (*CALLS, "session"):
        refused(await office.make(door, "slow"), door)


async def test_a_call_that_has_ended_makes_room_for_the_next(office: Office) -> None:
    made = (await office.make("sip", "single")).json()
    refused(await office.make("voip", "single"), "voip")
    desk = office.house.desk
    await asyncio.wait_for(desk.dialled.wait(), 5)
    key = {"Authorization": "Bearer single"}
    assert (await office.http.delete(f"/api/v1/calls/{made['call_id']}", headers=key)).is_success
    await desk.service.until_idle(5)
    assert (await office.make("voip", "single")).is_success


async def test_calls_made_at_the_same_moment_do_not_slip_through(office: Office) -> None:
    answers = await asyncio.gather(*(office.make("sip", "single") for _ in range(5)))
    assert sorted(one.status_code for one in answers) == [201, 429, 429, 429, 429]


@pytest.mark.parametrize("door", ["sip", "voip", "outbound", "older outbound", "passthrough"])
@pytest.mark.parametrize("key", ["single", "slow"])
async def test_an_answer_that_is_given_again_costs_nothing(
    office: Office, door: str, key: str
) -> None:
    once = {"Idempotency-Key": "once"}
    first = await office.make(door, key, **once)
    assert first.is_success
    for _ in range(3):
        assert (await office.make(door, key, **once)).json() == first.json()


async def test_what_was_refused_for_its_plan_may_be_asked_again_with_its_key(
    office: Office,
) -> None:
    await office.make("voip", "single")
    refused(await office.make("sip", "single", **{"Idempotency-Key": "later"}), "sip")
    for call in list(office.web.running):
        await office.web.end(call)
    again = await office.make("sip", "single", **{"Idempotency-Key": "later"})
    assert again.status_code == 201


async def test_the_usual_plan_limits_the_creation_of_voice_sessions_alone(office: Office) -> None:
    for _ in range(11):
        assert (await office.make("sip", "usual")).status_code == 201
        assert (await office.make("voip", "usual")).status_code == 201
    for _ in range(10):
        assert (await office.make("session", "usual")).status_code == 201
    refused(await office.make("session", "usual"), "session")


@pytest.mark.parametrize(("key", "status"), [("deaf", 403), ("poor", 402)])
async def test_permissions_and_credit_are_a_rule_of_voice_sessions(
    office: Office, key: str, status: int
) -> None:
    assert (await office.make("session", key)).status_code == status
    for door in CALLS:
        assert (await office.make(door, key)).is_success, door


async def test_calls_that_came_in_count_for_nobody(office: Office) -> None:
    desk = office.house.desk
    desk.service.on_sip(desk.invite())
    assert len(desk.service.running) == 1
    assert not desk.service.made_by("")

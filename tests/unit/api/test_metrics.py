"""The two routes for operators, and who may read them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from bridge.api.app import Doors, make_app
from bridge.api.auth import ApiKey, Gatekeeper
from bridge.feed import Feed
from tests.unit.api.door import KEY, FakeLog, FakeService

pytestmark = pytest.mark.unit

BEARER = {"Authorization": f"Bearer {KEY.secret}"}
TRUNK = {
    "name": "exotel",
    "profile": "exotel",
    "host": "192.0.2.9",
    "port": 5060,
    "transport": "tcp",
    "status": "up",
    "calls": {"inbound": 1, "outbound": 0},
    "max_calls": 100,
    "calls_per_second": 3.0,
    "options_interval": 0.0,
    "registration": {
        "state": "registered",
        "until": "2026-01-01T01:00:00.000Z",
        "sip_status": 200,
    },
    "last_success": "2026-01-01T00:00:00.000Z",
    "last_failures": [
        {
            "at": "2026-01-01T00:00:00.000Z",
            "by": "call",
            "sip_status": 503,
            "reason": "carrier_failure",
            "detail": "",
        }
    ],
}


class FakePage:
    def text(self, accept: str) -> tuple[bytes, str]:
        return b"accept " + accept.encode(), "text/plain; version=0.0.4; charset=utf-8"


class FakeMetrics:
    async def take(self) -> FakePage:
        return FakePage()

    async def report(self) -> list[dict[str, Any]]:
        return [TRUNK]


def client(
    keys: Sequence[ApiKey] = (),
    *,
    peer: str = "127.0.0.1",
    base_url: str = "http://127.0.0.1:8080",
) -> httpx.AsyncClient:
    doors = Doors(FakeService(), asyncio.get_running_loop())
    metrics = FakeMetrics()
    app = make_app(
        doors, Gatekeeper(keys), Feed(FakeLog()), version="0", metrics=metrics, trunks=metrics
    )
    transport = httpx.ASGITransport(app, client=(peer, 40000))
    return httpx.AsyncClient(transport=transport, base_url=base_url)


async def test_a_scrape_is_answered_in_the_format_it_asks_for() -> None:
    async with client() as http:
        answer = await http.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.content == b"accept application/openmetrics-text"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
async def test_a_program_of_this_machine_needs_no_key(peer: str) -> None:
    async with client([KEY], peer=peer) as http:
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/api/v1/trunks")).status_code == 401


async def test_anybody_else_needs_one() -> None:
    async with client([KEY], peer="192.0.2.7", base_url="http://bridge.example.com") as http:
        assert (await http.get("/metrics")).status_code == 401
        assert (await http.get("/metrics", headers=BEARER)).status_code == 200
    async with client([KEY], peer="192.0.2.7") as http:
        assert (await http.get("/metrics")).status_code == 401, "a Host is easily written"


@pytest.mark.parametrize(
    "header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via", "X-Forwarded-Host"]
)
async def test_who_asks_through_a_proxy_of_this_machine_needs_one(header: str) -> None:
    async with client([KEY]) as http:
        assert (await http.get("/metrics", headers={header: "192.0.2.7"})).status_code == 401


async def test_a_proxy_that_keeps_the_host_is_no_program_of_this_machine() -> None:
    async with client([KEY], base_url="http://bridge.example.com") as http:
        assert (await http.get("/metrics")).status_code == 401


async def test_without_keys_a_web_page_cannot_read_it() -> None:
    async with client(base_url="http://rebound.example.com") as http:
        assert (await http.get("/metrics")).status_code == 403


async def test_trunks_are_shown_to_who_has_a_key() -> None:
    async with client([KEY]) as http:
        answer = await http.get("/api/v1/trunks", headers=BEARER)
        schema = (await http.get("/openapi.json")).json()
    assert answer.json() == [TRUNK]
    assert "/api/v1/trunks" in schema["paths"]
    assert "/metrics" in schema["paths"]

"""The client against the real app over a fake service."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from bridge.call.requests import OverLimit
from tests.unit.api.door import CALL, KEY, UNKNOWN, FakeService, transport_of
from trunkbridge import ApiError, Client

pytestmark = pytest.mark.unit


def client(service: FakeService, key: str | None = None, keys: Any = ()) -> Client:
    return Client("http://127.0.0.1:8080", key, transport=transport_of(service, keys))


async def test_a_dialled_call_can_be_watched_and_hung_up() -> None:
    service = FakeService()
    async with client(service) as api:
        call = await api.dial("+919876543210", agent="support", trunk=None)
        assert (call.id, call.accepted["status"]) == (CALL, "pending")
        assert (await call.status())["id"] == CALL
        assert [found["id"] for found in await api.active()] == [CALL]
        await call.hangup()
        await call.hangup()
    assert service.dialled[0][0].agent == "support"
    assert service.hung_up == [CALL, CALL]


async def test_a_request_with_a_key_of_its_own_says_so() -> None:
    service = FakeService()
    async with client(service) as api:
        await api.dial("+919876543210", agent="a", idempotency_key="once")
    assert service.dialled[0][1] == "\0None\0once"


async def test_a_key_is_sent_and_a_wrong_one_is_401() -> None:
    service = FakeService()
    async with client(service, KEY.secret, [KEY]) as api:
        await api.active()
    async with client(service, "wrong", [KEY]) as api:
        with pytest.raises(ApiError) as refused:
            await api.active()
    assert refused.value.status == 401


async def test_a_refusal_has_its_status_and_its_problem() -> None:
    service = FakeService()
    async with client(service) as api:
        with pytest.raises(ApiError, match="phone_number") as bad:
            await api.dial("nobody", agent="a")
        with pytest.raises(ApiError) as unknown:
            await api.call(UNKNOWN).status()
        service.failure = OverLimit("full", retry_after=3)
        with pytest.raises(ApiError) as over:
            await api.dial("+919876543210", agent="a")
    assert bad.value.problem["errors"][0]["field"] == "phone_number"
    assert (bad.value.status, unknown.value.status, over.value.status) == (422, 404, 429)
    assert over.value.retry_after == 3
    assert unknown.value.retry_after is None


async def test_a_server_that_is_no_bridge_has_no_position() -> None:
    page = httpx.MockTransport(lambda _: httpx.Response(200, html="<p>hello"))
    async with Client(transport=page) as api:
        with pytest.raises(ApiError, match="no answer of a bridge"):
            await api.position()


async def test_an_id_is_never_a_path() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(404, json={"detail": "no such call"})

    async with Client(transport=httpx.MockTransport(answer)) as api:
        with pytest.raises(ApiError):
            await api.call("../../healthz?x#y").hangup()
    assert seen == [b"/api/v1/calls/..%2F..%2Fhealthz%3Fx%23y"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>not a bridge</html>"),
        httpx.Response(500, text="oops"),
        httpx.Response(502, text=json.dumps(["no", "object"])),
        httpx.Response(302, headers={"Location": "https://example.com"}),
    ],
)
async def test_what_is_no_bridge_is_an_api_error(answer: httpx.Response) -> None:
    async with Client(transport=httpx.MockTransport(lambda _: answer)) as api:
        with pytest.raises(ApiError):
            await api.active()


async def test_nobody_there_is_status_0() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("All connection attempts failed")

    async with Client(transport=httpx.MockTransport(refuse)) as api:
        with pytest.raises(ApiError, match=r"127\.0\.0\.1:8080") as failed:
            await api.active()
    assert failed.value.status == 0


@pytest.mark.parametrize("url", ["http://[::1", "127.0.0.1:8080", "ftp://x", "http://", ""])
def test_a_url_that_is_none_is_said(url: str) -> None:
    with pytest.raises(ValueError, match="no HTTP address"):
        Client(url)


async def test_a_key_in_any_script_is_sent_as_utf_8() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.headers.raw)[b"Authorization"])
        return httpx.Response(200, json=[])

    async with Client(key="schlüssel", transport=httpx.MockTransport(answer)) as api:
        await api.active()
    assert seen == ["Bearer schlüssel".encode()]

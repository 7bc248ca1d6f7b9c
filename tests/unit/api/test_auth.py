"""Who may ask: keys, and without keys this machine only."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bridge.api.auth import MAX_BODY, ApiKey
from tests.unit.api.door import KEY, FakeService, client_of

pytestmark = pytest.mark.unit

BODY = b'{"phone_number": "+919876543210"}'
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic s3cret",
        "s3cret",
        "Bearer s3crete",
        "Bearer \xff",
    ],
)
async def test_no_or_a_wrong_key_is_401(header: str | None) -> None:
    """Threat 5.1: Control API."""
    service = FakeService()
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    async with client_of(service, [KEY]) as client:
        answer = await client.post("/api/v1/calls", content=BODY, headers={**JSON, **headers})
        unread = await client.post("/api/v1/calls", content=b"{", headers={**JSON, **headers})
        unknown = await client.get("/api/v1/nothing", headers=headers)
    assert answer.status_code == unread.status_code == unknown.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert KEY.secret not in answer.text
    assert service.dialled == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
@pytest.mark.parametrize("secret", ["s3cret", "schlüssel", "voilà"])  # à ends with byte A0
async def test_each_key_opens_from_any_host(scheme: str, secret: str) -> None:
    service = FakeService()
    keys = [KEY, ApiKey(name="other", secret=secret)]
    headers = {"Authorization": f"{scheme} {secret}".encode()}
    async with client_of(service, keys, base_url="http://bridge.example.com") as client:
        answer = await client.get("/api/v1/calls/active", headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "127.9.9.9", "localhost:1", "LOCALHOST", "[::1]:8080"]
)
async def test_without_keys_a_loopback_host_may_ask(host: str) -> None:
    async with client_of(FakeService()) as client:
        answer = await client.get("/api/v1/calls/active", headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "127.example.com",
        "127.0.0.1.example.com",
        "localhost.example.com",
        "192.0.2.1",
        "[2001:db8::1]:80",
        "[::1",
        "",
    ],
)
async def test_without_keys_any_other_host_is_403(host: str) -> None:
    """Threat 5.1: Control API."""
    async with client_of(FakeService()) as client:
        answer = await client.get("/api/v1/calls/active", headers={"Host": host})
    assert answer.status_code == 403


async def test_without_keys_a_page_from_elsewhere_is_403() -> None:
    service = FakeService()
    async with client_of(service) as client:
        away = await client.post(
            "/api/v1/calls", content=BODY, headers={**JSON, "Origin": "https://example.com"}
        )
        null = await client.post("/api/v1/calls", content=BODY, headers={**JSON, "Origin": "null"})
        here = await client.post(
            "/api/v1/calls", content=BODY, headers={**JSON, "Origin": "http://127.0.0.1:8080"}
        )
    assert [answer.status_code for answer in (away, null, here)] == [403, 403, 201]
    assert len(service.dialled) == 1


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""]
)
async def test_without_keys_a_body_must_be_json(media_type: str) -> None:
    service = FakeService()
    async with client_of(service) as client:
        answer = await client.post(
            "/api/v1/calls", content=BODY, headers={"Content-Type": media_type}
        )
        fine = await client.post(
            "/api/v1/calls",
            content=BODY,
            headers={"Content-Type": "Application/JSON; charset=utf-8"},
        )
    assert (answer.status_code, fine.status_code) == (415, 201)
    assert len(service.dialled) == 1


async def test_a_body_that_is_too_large_is_413_of_known_and_unknown_length() -> None:
    """Threat 5.1: Control API."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 65536 + 1):
            yield b" " * 65536

    service = FakeService()
    async with client_of(service) as client:
        known = await client.post("/api/v1/calls", content=b" " * (MAX_BODY + 1), headers=JSON)
        unknown = await client.post("/api/v1/calls", content=pieces(), headers=JSON)
    assert (known.status_code, unknown.status_code) == (413, 413)
    assert known.headers["content-type"] == "application/problem+json"
    assert service.dialled == []


async def test_a_key_hides_in_a_repr() -> None:
    assert KEY.secret not in repr(KEY)

"""Who may ask: keys, and without keys this machine only."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from fastapi import APIRouter, Request
from jwt.warnings import InsecureKeyLengthWarning

from bridge.api.access import access_of
from bridge.api.app import Doors, make_app
from bridge.api.auth import MAX_BODY, ApiKey, Gatekeeper
from bridge.feed import Feed
from tests.unit.api.door import KEY, FakeLog, FakeService, client_of

pytestmark = pytest.mark.unit

BODY = b'{"phone_number": "+919876543210", "agent": "a"}'
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


def app_that_tells(gatekeeper: Gatekeeper, cors: tuple[str, ...] = ()) -> httpx.AsyncClient:
    """Return a client of an app with one more router, which says who asks."""
    router = APIRouter()

    @router.get("/who")
    async def who(request: Request) -> dict[str, Any]:
        who = access_of(request)
        return {
            "name": who.name,
            "tenant": who.tenant,
            "scope": who.scope,
            "plan": who.plan,
            "permissions": sorted(who.permissions),
            "credit": who.credit,
        }

    doors = Doors(FakeService(), asyncio.get_running_loop())
    app = make_app(doors, gatekeeper, Feed(FakeLog()), version="0", routers=[router], cors=cors)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080")


SECRET = "a secret that is long enough for HS256"
THEN = 2_000_000_000


def token(secret: str = SECRET, **claims: Any) -> str:
    return jwt.encode({"sub": "ada", "exp": THEN, **claims}, secret, algorithm="HS256")


async def who(client: httpx.AsyncClient, secret: str | None = None) -> Any:
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    answer = await client.get("/who", headers=headers)
    return answer.json() if answer.status_code == 200 else answer.status_code


async def test_without_keys_and_tokens_this_machine_sees_everything() -> None:
    async with app_that_tells(Gatekeeper(())) as client:
        assert (await who(client))["tenant"] is None
        assert await who(client, "anything") == await who(client)


async def test_a_key_says_whose_it_is() -> None:
    keys = [
        KEY,
        ApiKey(name="b", secret="b", tenant="t-1", plan="pro", credit=2.5),
        ApiKey(name="root", secret="r", permissions=frozenset(("admin",))),
    ]
    async with app_that_tells(Gatekeeper(keys)) as client:
        assert await who(client) == 401
        assert await who(client, KEY.secret) == {
            "name": "app",
            "tenant": str(uuid.uuid5(uuid.NAMESPACE_URL, "app")),
            "scope": str(uuid.uuid5(uuid.NAMESPACE_URL, "app")),
            "plan": "enterprise",
            "permissions": ["llm", "stt", "tts"],
            "credit": 0,
        }
        mine = await who(client, "b")
        assert (mine["tenant"], mine["plan"], mine["credit"]) == ("t-1", "pro", 2.5)
        root = await who(client, "r")
        assert root["scope"] is None
        assert root["tenant"] == str(uuid.uuid5(uuid.NAMESPACE_URL, "root"))


async def test_a_token_says_whose_it_is() -> None:
    async with app_that_tells(Gatekeeper([KEY], SECRET)) as client:
        assert (await who(client, KEY.secret))["name"] == "app"
        assert await who(client, token()) == {
            "name": "jwt:ada",
            "tenant": str(uuid.uuid5(uuid.NAMESPACE_URL, "ada")),
            "scope": str(uuid.uuid5(uuid.NAMESPACE_URL, "ada")),
            "plan": "enterprise",
            "permissions": ["llm", "stt", "tts"],
            "credit": 0,
        }
        asked = await who(
            client, token(tenant_id="t-2", plan="free", permissions="stt llm", credit=1)
        )
        assert asked["tenant"] == "t-2"
        assert (asked["plan"], asked["permissions"], asked["credit"]) == ("free", ["llm", "stt"], 1)
        assert (await who(client, token(tenant="t-3")))["tenant"] == "t-3"
        assert (await who(client, token(permissions=["admin"])))["scope"] is None


async def test_a_secret_of_tokens_alone_closes_the_door() -> None:
    gatekeeper = Gatekeeper((), SECRET)
    async with app_that_tells(gatekeeper) as client:
        assert await who(client) == 401
        assert (await who(client, token()))["name"] == "jwt:ada"
        gatekeeper.replace_keys([KEY], "another secret, long enough as well")
        assert await who(client, token()) == 401
        assert (await who(client, KEY.secret))["name"] == "app"


@pytest.mark.parametrize(
    "bad",
    [
        token(secret="another secret, long enough as well"),
        token(exp=1_000_000_000),
        token(nbf=THEN),
        token(exp="soon"),
        token(aud="somebody else"),
        token(sub=5),
        token(sub="", tenant=""),
        token(tenant_id=["t"]),
        token(tenant_id="x" * 300),
        token(sub="a\nb"),
        token(plan=1),
        token(permissions={"stt": True}),
        token(permissions=[1]),
        token(credit="much"),
        token(credit=True),
        token(credit=float("inf")),
        token(credit=10**400),
        jwt.encode({"sub": "ada"}, "", algorithm="none"),
        jwt.encode({"sub": "ada"}, SECRET * 2, algorithm="HS512"),
        "a.b.c",
        "..",
        token()[:-2],
    ],
)
async def test_a_token_that_is_not_ours_or_says_nonsense_is_401(bad: str) -> None:
    """Threat 5.1: Control API."""
    async with app_that_tells(Gatekeeper((), SECRET)) as client:
        answer = await client.get("/who", headers={"Authorization": f"Bearer {bad}"})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_token_without_an_end_and_with_a_short_secret_is_taken() -> None:
    with pytest.warns(InsecureKeyLengthWarning):
        short = jwt.encode({"sub": "ada"}, "short", algorithm="HS256")
    async with app_that_tells(Gatekeeper((), "short")) as client:
        assert (await who(client, short))["name"] == "jwt:ada"


async def test_pages_of_other_origins_may_ask_only_where_configured() -> None:
    asked = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    sent = {"Origin": "https://app.example.com", "Authorization": f"Bearer {KEY.secret}"}
    allowed = "access-control-allow-origin"
    async with app_that_tells(Gatekeeper([KEY]), ("https://app.example.com",)) as client:
        may = await client.options("/api/v1/calls", headers=asked)
        other = await client.options(
            "/api/v1/calls", headers={**asked, "Origin": "https://example.org"}
        )
        got = await client.get("/who", headers=sent)
        refused = await client.get("/who", headers={"Origin": "https://app.example.com"})
    assert (may.status_code, may.headers[allowed]) == (200, "https://app.example.com")
    assert (other.status_code, allowed in other.headers) == (400, False)
    assert (got.status_code, got.headers[allowed]) == (200, "https://app.example.com")
    assert (refused.status_code, refused.headers[allowed]) == (401, "https://app.example.com")
    async with app_that_tells(Gatekeeper([KEY])) as client:
        assert (await client.options("/api/v1/calls", headers=asked)).status_code == 401
        assert allowed not in (await client.get("/who", headers=sent)).headers

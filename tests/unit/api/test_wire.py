"""What a peer may send before it is no request any more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from bridge.api import wire
from bridge.api.server import ApiServer
from tests.unit.api.door import CALL, FakeService, app_of

pytestmark = pytest.mark.unit

HOST = b"Host: 127.0.0.1\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST
POST = b"POST /api/v1/calls HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
BODY = b'{"phone_number": "+919876543210", "agent": "support"}'


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    running = ApiServer(app_of(FakeService()), "127.0.0.1", 0)
    await running.start()
    yield running
    await running.stop()


async def said(server: ApiServer, *parts: bytes, until: int = 1) -> list[bytes]:
    """Return the status lines of what is answered, *until* there are so many or no more."""
    reader, writer = await asyncio.open_connection(*server.address)
    text = b""
    try:
        async with asyncio.timeout(20):
            for part in parts:
                writer.write(part)
                await writer.drain()
            while len(_STATUS.findall(text)) < until and (more := await reader.read(4096)):
                text += more
    except ConnectionError:
        pass  # we wrote more than anybody reads
    finally:
        writer.close()
    return _STATUS.findall(text)


async def test_requests_follow_one_another_on_a_connection(server: ApiServer) -> None:
    pieces = [bytes((byte,)) for byte in GET + b"\r\n"]
    assert await said(server, *pieces, (GET + b"\r\n") * 2, until=3) == [b"200"] * 3


async def test_a_body_may_come_whole_or_in_chunks(server: ApiServer) -> None:
    whole = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\nMore: x\r\n\r\n"
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    assert await said(server, whole, chunked, until=2) == [b"201", b"201"]


@pytest.mark.parametrize("host", [b"", HOST * 2])
async def test_a_request_has_one_host(server: ApiServer, host: bytes) -> None:
    assert await said(server, b"GET /healthz HTTP/1.1\r\n" + host + b"\r\n") == [b"400"]


async def test_http_1_0_needs_no_host(server: ApiServer) -> None:
    assert await said(server, b"GET /healthz HTTP/1.0\r\n\r\n") == [b"200"]


@pytest.mark.parametrize(
    "path", [b"/nothing", b"//", b"/api/v1/calls/%00", b"/api/v1/calls/%ff", b"/%E0%A4", b"*"]
)
async def test_a_path_that_is_none_of_ours_is_404(server: ApiServer, path: bytes) -> None:
    assert await said(server, b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n") == [b"404"]


async def test_a_call_is_shown_over_the_wire(server: ApiServer) -> None:
    for target in (b"/api/v1/calls/", b"http://127.0.0.1/api/v1/calls/"):
        request = b"GET " + target + CALL.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        assert await said(server, request) == [b"200"]


@pytest.mark.parametrize(
    "head",
    [b"nonsense\r\n\r\n", GET + b"no colon\r\n\r\n", GET + b"A: \0\r\n\r\n", b"\x16\x03\x01"],
)
async def test_what_is_no_request_is_400(server: ApiServer, head: bytes) -> None:
    assert await said(server, head) == [b"400"]


@pytest.mark.parametrize(
    "begun", [b"", b"GET / HTTP/1.1\r\nA: ", POST + b"Content-Length: 9\r\n\r\n{"]
)
async def test_who_stops_in_a_request_is_not_waited_for(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(wire, "HEAD_WITHIN", 0.2)
    monkeypatch.setattr(wire, "BODY_WITHIN", 0.2)
    assert await said(server, begun) == []
    assert await said(server, GET + b"\r\n", begun or b"G", until=2) == [b"200"]


async def test_one_connection_too_many_is_closed(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "CONNECTIONS", 2)
    kept = [await asyncio.open_connection(*server.address) for _ in range(2)]
    for reader, writer in kept:
        writer.write(GET + b"\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert await said(server, GET + b"\r\n") == []
    for _, writer in kept:
        writer.close()


@pytest.mark.parametrize("part", [b"Some: header\r\n", b"a" * 1000], ids=["lines", "one line"])
async def test_a_head_that_does_not_end_is_closed(server: ApiServer, part: bytes) -> None:
    many = [part * 8] * (8 * wire.HEAD // len(part))
    assert await said(server, GET, *many) in ([b"400"], [])


async def test_a_trailer_that_does_not_end_is_closed(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "WHOLE", 100_000)
    begun = POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n"
    assert await said(server, begun, *[b"More: trailer\r\n" * 1000] * 100) in ([b"400"], [])

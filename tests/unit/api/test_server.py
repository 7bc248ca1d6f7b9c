"""The server: a thread of its own, and one line when its address is taken."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from bridge.api.server import ApiServer
from bridge.errors import BridgeError
from tests.unit.api.door import FakeService, app_of

pytestmark = pytest.mark.unit


def server(port: int = 0, host: str = "127.0.0.1") -> ApiServer:
    return ApiServer(app_of(FakeService()), host, port)


async def test_it_answers_from_its_own_thread_until_it_is_stopped() -> None:
    running = server()
    await running.start()
    host, port = running.address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        assert (await client.get("/readyz")).status_code == 200
    await running.stop()
    with socket.socket() as probe:
        assert probe.connect_ex((host, port)) != 0


async def test_it_is_known_whether_it_answers() -> None:
    running = server()
    await running.start()
    assert await running.answers()
    await running.stop()
    assert not await running.answers()


async def test_a_server_that_is_stuck_does_not_answer() -> None:
    with socket.socket() as stuck:  # it listens, and nobody ever reads
        stuck.bind(("127.0.0.1", 0))
        stuck.listen()
        pretended = server(stuck.getsockname()[1])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await pretended.answers()


async def test_a_taken_address_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(BridgeError, match=r"^http\.listen: 127\.0\.0\.1:\d+: .*in use$"):
            await server(other.getsockname()[1]).start()


async def test_an_address_of_another_machine_is_one_line() -> None:
    with pytest.raises(BridgeError, match=r"^http\.listen: 192\.0\.2\.1:0: [^\n]+$"):
        await server(0, "192.0.2.1").start()


async def test_stopping_what_never_started_does_nothing() -> None:
    await server().stop()

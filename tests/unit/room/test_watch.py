"""The watch on a server: one for all rooms, and only while one is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.room.absence import Sign
from bridge.room.watch import ServerWatch, watch_of

pytestmark = pytest.mark.unit


class Server:
    """Answers probes as it is told to, and counts them."""

    def __init__(self, sign: Sign) -> None:
        self.sign = sign
        self.probes = 0
        self._asked = asyncio.Event()

    async def probe(self) -> Sign:
        self.probes += 1
        self._asked.set()
        return self.sign

    async def asked(self, times: int = 1) -> None:
        """Wait for *times* more probes."""
        goal = self.probes + times
        async with asyncio.timeout(30):
            while self.probes < goal:
                self._asked.clear()
                await self._asked.wait()


def watch(server: Server) -> ServerWatch:
    return ServerWatch("ws://x", probe=server.probe, interval=0.001)


async def ended(one: ServerWatch) -> None:
    async with asyncio.timeout(30):
        while not one.idle:  # noqa: ASYNC110 (its task ends by itself)
            await asyncio.sleep(0)


async def test_every_room_is_told_once_when_its_server_is_back() -> None:
    server = Server(Sign.REFUSED)
    one = watch(server)
    told: list[int] = []
    for number in range(3):
        one.away(lambda number=number: told.append(number))
    await server.asked(2)
    assert told == []
    server.sign = Sign.ANSWERED
    await ended(one)
    assert told == [0, 1, 2]


async def test_nothing_is_asked_while_no_room_is_away() -> None:
    server = Server(Sign.REFUSED)
    one = watch(server)
    assert one.idle
    away = one.away(lambda: None)
    await server.asked()
    away.over()
    away.over()
    await ended(one)
    count = server.probes
    await asyncio.sleep(0.005)
    assert server.probes == count


async def test_many_rooms_away_cost_one_probe_at_a_time() -> None:
    server = Server(Sign.REFUSED)
    one = watch(server)
    rooms = [one.away(lambda: None) for _ in range(50)]
    await server.asked(3)
    assert server.probes < 50
    for room in rooms:
        room.over()
    await ended(one)


async def test_a_room_whose_telling_fails_does_not_keep_the_others_waiting() -> None:
    server = Server(Sign.REFUSED)
    one = watch(server)
    told: list[str] = []

    def broken() -> None:
        raise ValueError

    one.away(broken)
    one.away(lambda: told.append("other"))
    await server.asked()
    server.sign = Sign.ANSWERED
    await ended(one)
    assert told == ["other"]


async def test_a_room_that_is_back_meanwhile_is_not_told() -> None:
    server = Server(Sign.REFUSED)
    one = watch(server)
    told: list[str] = []
    second = one.away(lambda: told.append("second"))
    first = one.away(lambda: told.append("first"))
    await server.asked()
    second.over()
    server.sign = Sign.ANSWERED
    await ended(one)
    assert told == ["first"]
    first.over()


async def test_who_waits_for_an_answer_gets_it_or_the_time_runs_out() -> None:
    server = Server(Sign.SILENT)
    one = watch(server)
    assert not await one.answering(0.01)
    waiting = asyncio.ensure_future(one.answering(5))
    await server.asked()
    server.sign = Sign.ANSWERED
    assert await waiting
    await ended(one)


@asynccontextmanager
async def listening(reply: bytes) -> AsyncIterator[int]:
    """Serve *reply* to every connection; yield the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("reply", "sign"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK", Sign.ANSWERED),
        (b"HTTP/1.1 406 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", Sign.ANSWERED),
        (b"HTTP/1.1 503 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", Sign.REFUSED),
        (b"", Sign.REFUSED),
        (b"SIP/2.0 nonsense\r\n\r\n", Sign.SILENT),
    ],
)
async def test_a_probe_reads_what_the_port_says(reply: bytes, sign: Sign) -> None:
    async with listening(reply) as port:
        assert await ServerWatch(f"ws://127.0.0.1:{port}")._probe() is sign


async def test_a_probe_of_a_port_where_nobody_listens_is_refused() -> None:
    async with listening(b"") as port:
        pass
    assert await ServerWatch(f"ws://127.0.0.1:{port}")._probe() is Sign.REFUSED


async def test_one_server_has_one_watch() -> None:
    assert watch_of("ws://a") is watch_of("ws://a")
    assert watch_of("ws://a") is not watch_of("ws://b")

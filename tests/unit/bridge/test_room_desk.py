"""The room desk: a room of ours is deleted, but never under a call that is still in it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.adapters import RoomDesk
from bridge.room.seam import RoomError
from bridge.room.tokens import LiveKitKeys

pytestmark = pytest.mark.unit

KEYS = LiveKitKeys(api_key="k", api_secret="s" * 32)


class Server:
    """LiveKit's server API."""

    def __init__(self) -> None:
        self.deleted: asyncio.Queue[str] = asyncio.Queue()
        self.refused = asyncio.Event()
        self.up = True

    async def delete_room(self, room: str) -> None:
        if not self.up:
            self.refused.set()
            raise RoomError("no server")
        self.deleted.put_nowait(room)


async def test_a_room_is_deleted_once_no_call_is_in_it() -> None:
    server: Any = Server()
    answers = iter((True, True, False))
    asked: list[str] = []

    def in_use(room: str) -> bool:
        asked.append(room)
        assert server.deleted.empty()
        return next(answers)

    desk = RoomDesk(server, "ws://x", KEYS, in_use=in_use)
    desk.delete_later("room", 0.001)
    async with asyncio.timeout(30):
        assert await server.deleted.get() == "room"
    assert asked == ["room"] * 3


async def test_what_waits_to_be_deleted_is_deleted_at_the_stop() -> None:
    server: Any = Server()
    desk = RoomDesk(server, "ws://x", KEYS, in_use=lambda _: True)
    desk.delete_later("room", 3600)
    await asyncio.sleep(0)
    await desk.settle(5)
    assert server.deleted.get_nowait() == "room"


async def test_a_room_of_a_server_that_is_away_is_deleted_when_it_answers() -> None:
    server: Any = Server()
    server.up = False

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0, start_serving=False)
    port = listener.sockets[0].getsockname()[1]
    desk = RoomDesk(server, f"ws://127.0.0.1:{port}", KEYS)
    desk.delete_later("room", 0.001)
    async with asyncio.timeout(30), listener:
        await server.refused.wait()
        server.up = True
        await listener.start_serving()
        assert await server.deleted.get() == "room"
    assert server.deleted.empty()

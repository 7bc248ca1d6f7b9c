"""The server's API through our client, against a real livekit-server."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from livekit import api, rtc

from bridge.room.dispatch import RoomService
from bridge.room.seam import RoomError
from bridge.room.tokens import LiveKitKeys, caller_token

pytestmark = pytest.mark.system


def keys(server: Any) -> LiveKitKeys:
    return LiveKitKeys(api_key=server.api_key, api_secret=server.api_secret)


@pytest.fixture
async def service(livekit: Any) -> AsyncIterator[RoomService]:
    service = RoomService(livekit.url, keys(livekit))
    yield service
    await service.close()


async def test_a_room_is_ours_only_when_it_was_not_there(
    livekit: Any, service: RoomService
) -> None:
    room = livekit.room_name()
    assert (await service.ensure_room(room)).made
    assert not (await service.ensure_room(room)).made
    await service.delete_room(room)
    assert (await service.ensure_room(room)).made
    await service.delete_room(room)


async def test_deleting_what_is_gone_is_fine(livekit: Any, service: RoomService) -> None:
    await service.delete_room(livekit.room_name())


async def test_participants_are_listed_by_identity(livekit: Any, service: RoomService) -> None:
    room = livekit.room_name()
    assert await service.participants(room) == frozenset()
    guest = rtc.Room()
    await guest.connect(livekit.url, caller_token(keys(livekit), room=room, identity="guest"))
    try:
        assert await service.participants(room) == {"guest"}
    finally:
        await guest.disconnect()


async def test_an_agent_is_dispatched_with_its_metadata(livekit: Any, service: RoomService) -> None:
    room = livekit.room_name()
    await service.ensure_room(room)
    dispatch_id = await service.dispatch_agent(room, "support", json.dumps({"call_id": "c"}))
    async with api.LiveKitAPI(livekit.url, livekit.api_key, livekit.api_secret) as client:
        dispatches = await client.agent_dispatch.list_dispatch(room)
    (dispatch,) = [found for found in dispatches if found.agent_name == "support"]
    assert dispatch.id == dispatch_id
    assert json.loads(dispatch.metadata) == {"call_id": "c"}
    await service.delete_room(room)


async def test_a_live_server_is_alive_and_a_wrong_secret_is_not(
    livekit: Any, service: RoomService
) -> None:
    assert await service.alive() is True
    stranger = RoomService(
        livekit.url, LiveKitKeys(api_key=livekit.api_key, api_secret="wrong" * 8)
    )
    assert await stranger.alive() is False
    with pytest.raises(RoomError, match=r"^list rooms: unknown \(401\)$"):
        await stranger.ensure_room("x")
    await stranger.close()


async def test_an_absent_server_is_a_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        service = RoomService(
            f"ws://127.0.0.1:{taken.getsockname()[1]}",
            LiveKitKeys(api_key="k", api_secret="s" * 32),
        )
        assert await service.alive() is False
        with pytest.raises(RoomError, match=r"^list rooms: ClientConnectorError$"):
            await service.ensure_room("x")
        await service.close()


async def test_a_server_that_never_answers_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        service = RoomService(
            f"ws://127.0.0.1:{silent.getsockname()[1]}",
            LiveKitKeys(api_key="k", api_secret="s" * 32),
            timeout=0.2,
        )
        assert await service.alive(timeout=0.2) is False
        with pytest.raises(RoomError, match=r"^dispatch agent: TimeoutError$"):
            await service.dispatch_agent("room", "agent", "{}")
        await service.close()

"""A room session where the SDK's events cannot be dispatched by handle: the SDK's public way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bridge.room import convention, sdk_dispatch
from bridge.room.joining import settle
from bridge.room.seam import AudioPublished, LeaveReason
from tests.system.room.kit import Bench, Sdk

pytestmark = pytest.mark.system


@pytest.fixture
async def bench(livekit: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(sdk_dispatch, "dispatcher", lambda: None)
    async with AsyncExitStack() as stack:
        yield Bench(livekit, stack, Sdk())
    await settle()


async def test_tones_and_messages_go_as_they_do_by_handle(bench: Bench) -> None:
    peer = await bench.peer()
    await peer.talk(440)
    session, notices = await bench.joined()
    assert await notices.of(AudioPublished) == AudioPublished(identity="agent")
    session.subscribe(True)
    await bench.hear(session, 440)
    async with bench.playing(session, 500):
        await peer.hears(500)
    await session.publish(b'{"seq":1}', convention.TOPIC)
    assert (await peer.data.get()).data == b'{"seq":1}'
    await session.leave(LeaveReason.CLIENT_INITIATED)


def test_the_installed_sdk_is_dispatched_by_handle() -> None:
    """Else all tests would pass the public way, and no figure of the documents would hold."""
    assert sdk_dispatch.dispatcher() is not None

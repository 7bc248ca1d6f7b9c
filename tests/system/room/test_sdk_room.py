"""What is the SDK room session's own, against a real livekit-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from livekit.rtc.room import SimulateScenarioKind

from bridge.room import convention
from bridge.room.joining import settle
from bridge.room.seam import (
    ParticipantLeft,
    RoomClosed,
    RoomGone,
    RoomReconnected,
    RoomReconnecting,
)
from bridge.room.watch import watch_of
from tests.system.room.kit import DEADLINE, Bench, Sdk, samples, simulate, ticks

pytestmark = pytest.mark.system


KIND = Sdk()


@pytest.fixture
async def bench(livekit: Any) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(livekit, stack, KIND)
    await KIND.settle()


async def test_a_resubscribed_tone_is_pulled_again(bench: Bench) -> None:
    peer = await bench.peer()
    await peer.talk(440)
    session, _ = await bench.joined()
    for _ in range(3):
        session.subscribe(True)
        await bench.hear(session, 440)
        session.subscribe(False)
        assert session.pull(160) is None
    session.subscribe(True)
    session.subscribe(False)
    session.subscribe(True)
    await bench.hear(session, 440)


async def test_two_agents_are_mixed(bench: Bench) -> None:
    session, _ = await bench.joined()
    session.subscribe(True)
    first, second = await bench.peer("first"), await bench.peer("second")
    await first.talk(400)
    await bench.hear(session, 400)
    await second.talk(400)
    loudest = 0
    async with asyncio.timeout(DEADLINE):
        async for _ in ticks():
            pcm = session.pull(160)
            loudest = max(loudest, *samples(pcm)) if pcm else loudest
            if loudest > 22000:  # more than one of them alone can be
                break


async def test_discarded_audio_is_never_pulled(bench: Bench) -> None:
    peer = await bench.peer()
    await peer.talk(440)
    session, _ = await bench.joined()
    session.subscribe(True)
    await bench.hear(session, 440)
    session.discard()
    assert session.pull(160) is None


async def test_a_full_reconnect_loses_nobody_and_restores_everything(bench: Bench) -> None:
    peer = await bench.peer()
    await peer.talk(440)
    session, notices = await bench.joined()
    session.subscribe(True)
    await bench.hear(session, 440)
    session.mute(True)
    await session.set_attributes({"bridge.hold": "true", "bridge.seq": "4"})
    await simulate(session, SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
    await notices.of(RoomReconnecting)
    waiting = [
        asyncio.ensure_future(session.publish(b"%d" % n, convention.TOPIC)) for n in range(5)
    ]
    await notices.of(RoomReconnected)
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*waiting)
        received = [(await peer.data.get()).data for _ in range(5)]
    assert received == [b"0", b"1", b"2", b"3", b"4"]
    await peer.until(lambda: peer.phone_muted() is True)
    await peer.sees({"bridge.hold": "true", "bridge.seq": "4", "sip.callStatus": "dialing"})
    await bench.hear(session, 440)
    assert session.others() == ["agent"]
    assert not [notice for notice in notices.seen if isinstance(notice, ParticipantLeft)]
    session.mute(False)
    await peer.until(lambda: peer.phone_muted() is False)
    await peer.tracks.get()  # the track of before
    async with bench.playing(session, 500):
        await peer.hears(500)


async def test_a_cancelled_join_lets_the_connect_finish(bench: Bench) -> None:
    session, _ = bench.session()
    joining = asyncio.ensure_future(session.join(bench.spec()))
    await asyncio.sleep(0)
    joining.cancel()
    await asyncio.wait({joining})
    assert joining.cancelled()
    await settle()
    assert "sip-+911" not in await bench.service().participants(bench.room)
    await session.join(bench.spec())


async def test_a_repair_that_is_faster_than_our_watch_is_given_up_for_a_rejoin(
    private_livekit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        bench = Bench(private_livekit.server, stack, Sdk())
        monkeypatch.setattr(watch_of(private_livekit.server.url), "_interval", 60.0)
        session, notices = await bench.joined()
        private_livekit.kill()
        await notices.of(RoomReconnecting)
        assert await asyncio.to_thread(private_livekit.start)
        peer = await bench.peer()
        closed = await notices.of(RoomClosed)
        assert closed == RoomClosed(why=RoomGone.LOST)
        assert not [notice for notice in notices.seen if isinstance(notice, RoomReconnected)]
        await session.join(bench.spec())
        await session.publish(b"here", convention.TOPIC)
        assert (await asyncio.wait_for(peer.data.get(), DEADLINE)).data == b"here"
    await settle()


async def test_a_new_link_thrown_out_by_the_ghost_of_the_old_one_is_joined_again(
    private_livekit: Any,
) -> None:
    async with AsyncExitStack() as stack:
        bench = Bench(private_livekit.server, stack, Sdk())
        session, notices = await bench.joined()
        private_livekit.kill()
        await notices.of(RoomReconnecting)
        assert await asyncio.to_thread(private_livekit.start)
        await notices.of(RoomClosed)
        await session.join(bench.spec())
        notices.seen.clear()
        ghost = await bench.peer("sip-+911")
        assert await notices.of(RoomClosed) == RoomClosed(why=RoomGone.LOST)
        await ghost.close()
        await session.join(bench.spec())
    await settle()

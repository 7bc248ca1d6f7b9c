"""What is the own of sessions by our signalling, against a real livekit-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from livekit import api, rtc

from bridge.room import convention
from bridge.room.seam import (
    AudioPublished,
    DtmfRequested,
    LeaveReason,
    RoomClosed,
    RoomGone,
    RoomReconnected,
    RoomReconnecting,
    RoomUnsuitable,
    Unsuitable,
)
from bridge.room.signal.link import Link
from bridge.room.signal.messages import OwnTrack, Way
from bridge.room.signal.port import PeerClosed, PeerDisconnected, Side
from bridge.room.signal.session import SignalRoom
from bridge.room.tokens import caller_token
from tests.system.harness import room_service, until
from tests.system.room.kit import DEADLINE, Bench, Kind, Notices, Peer, Signal, ticks
from tests.system.room.native import Native

pytestmark = pytest.mark.system


@pytest.fixture
def kind() -> Signal:
    return Signal()


@pytest.fixture
async def bench(livekit: Any, kind: Signal) -> AsyncIterator[Bench]:
    """On the tests' WebRTC peer."""
    async with AsyncExitStack() as stack:
        yield Bench(livekit, stack, kind)
    await kind.finish()


@pytest.fixture(params=["signal", "native"])
async def either(livekit: Any, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """On the tests' WebRTC peer, and on the native core."""
    kind: Kind = Signal() if request.param == "signal" else Native()
    async with AsyncExitStack() as stack:
        yield Bench(livekit, stack, kind)
    await kind.finish()


async def joined(bench: Bench) -> tuple[SignalRoom, Notices]:
    session, notices = await bench.joined()
    assert isinstance(session, SignalRoom)
    return session, notices


async def test_alaw_is_published_as_alaw(livekit: Any) -> None:
    kind = Signal("PCMA")
    async with AsyncExitStack() as stack:
        bench = Bench(livekit, stack, kind)
        peer = await bench.peer()
        session, _ = await bench.joined()
        async with bench.playing(session, 500):
            await peer.hears(500)
        (publication,) = peer.room.remote_participants["sip-+911"].track_publications.values()
        assert publication.mime_type.lower() == "audio/pcma"
    await kind.finish()


async def test_a_cut_socket_is_resumed_while_the_sound_goes_on(bench: Bench, kind: Signal) -> None:
    peer = await bench.peer()
    await peer.talk(440)
    session, notices = await joined(bench)
    session.subscribe(True)
    await bench.hear(session, 440)
    phone = peer.room.remote_participants["sip-+911"].sid
    (heard,) = kind.peer_of(session).tracks()
    for cut in range(3):
        notices.seen.clear()
        await kind.cut_signalling(session)
        await notices.of(RoomReconnecting)
        session.mute(cut % 2 == 0)
        await session.set_attributes({"bridge.seq": str(cut)})
        waiting = session.publish(b"%d" % cut, convention.TOPIC)
        await notices.of(RoomReconnected)
        await asyncio.wait_for(waiting, DEADLINE)
        assert (await asyncio.wait_for(peer.data.get(), DEADLINE)).data == b"%d" % cut
        await peer.sees({"bridge.seq": str(cut), "sip.callStatus": "dialing"})
        await shown(peer, muted=cut % 2 == 0)
    session.mute(False)
    async with bench.playing(session, 500):
        await peer.hears(500)
    before = heard.received
    await heard.wait_for(before + 20, DEADLINE)  # the same stream, not another one
    assert kind.peer_of(session).tracks() == [heard]
    assert peer.room.remote_participants["sip-+911"].sid == phone
    assert session.others() == ["agent"]


async def shown(peer: Peer, *, muted: bool) -> None:
    """Return once *peer* sees the phone's track so."""
    await peer.until(lambda: peer.phone_muted() is muted)


async def test_a_track_that_comes_while_the_socket_is_gone_is_heard(either: Bench) -> None:
    session, notices = await joined(either)
    session.subscribe(True)
    peer = await either.peer()
    await either.kind.cut_signalling(session)
    await peer.talk(440)
    await notices.of(RoomReconnected)
    await either.hear(session, 440)


async def test_a_subscription_ended_while_the_socket_is_gone_is_ended(
    bench: Bench, kind: Signal
) -> None:
    peer = await bench.peer()
    await peer.talk(440)
    session, notices = await joined(bench)
    session.subscribe(True)
    await bench.hear(session, 440)
    await kind.cut_signalling(session)
    session.subscribe(False)
    await notices.of(RoomReconnected)
    await silent(kind, session)
    session.subscribe(True)
    await bench.hear(session, 440)


async def silent(kind: Signal, session: SignalRoom) -> None:
    """Return once nothing has come for 300 ms."""
    async with asyncio.timeout(DEADLINE):
        while True:
            before = sum(one.received for one in kind.peer_of(session).tracks())
            await asyncio.sleep(0.3)
            if sum(one.received for one in kind.peer_of(session).tracks()) == before:
                return


async def test_an_agent_that_publishes_ten_times_is_heard_each_time(either: Bench) -> None:
    peer = await either.peer()
    session, notices = await joined(either)
    session.subscribe(True)
    for number in range(10):
        notices.seen.clear()
        hertz = 400 + 50 * number
        await peer.talk(hertz)
        assert await notices.of(AudioPublished) == AudioPublished(identity="agent")
        await either.hear(session, hertz)
        await unpublish(peer)
    assert not [one for one in notices.seen if isinstance(one, RoomReconnecting | RoomClosed)]


async def unpublish(peer: Peer) -> None:
    assert peer._talk is not None
    peer._talk.cancel()
    await asyncio.wait({peer._talk})
    for sid in list(peer.room.local_participant.track_publications):
        await peer.room.local_participant.unpublish_track(sid)


async def test_several_agents_at_once_are_all_heard(bench: Bench, kind: Signal) -> None:
    session, _ = await joined(bench)
    session.subscribe(True)
    for number in range(4):
        await (await bench.peer(f"agent-{number}")).talk(400 + 100 * number)
    for number in range(4):
        await bench.hear(session, 400 + 100 * number)


async def test_a_lost_path_is_repaired_by_an_ice_restart(bench: Bench) -> None:
    peer = await bench.peer()
    await peer.talk(440)
    session, notices = await joined(bench)
    session.subscribe(True)
    await bench.hear(session, 440)
    session._peer_event(PeerDisconnected(side=Side.PUBLISHER))
    await notices.of(RoomReconnecting)
    await notices.of(RoomReconnected)
    await bench.hear(session, 440)
    async with bench.playing(session, 500):
        await peer.hears(500)
    await session.publish(b"here", convention.TOPIC)
    assert (await asyncio.wait_for(peer.data.get(), DEADLINE)).data == b"here"


async def test_an_ice_restart_leaves_sound_and_messages_as_they_were(either: Bench) -> None:
    peer = await either.peer()
    await peer.talk(440)
    session, notices = await joined(either)
    session.subscribe(True)
    await either.hear(session, 440)
    for number in range(3):
        assert session._link is not None
        assert session._link._talk is not None
        session._link._restart_ice()
        offers = session._link._talk.machine._offers
        async with asyncio.timeout(DEADLINE):
            async for _ in ticks():
                if offers.idle:
                    break
        await session.publish(b"%d" % number, convention.TOPIC)
        assert (await asyncio.wait_for(peer.data.get(), DEADLINE)).data == b"%d" % number
        await either.hear(session, 440)
    async with either.playing(session, 500):
        await peer.hears(500)
    assert not [one for one in notices.seen if isinstance(one, RoomClosed)]


async def test_a_transport_that_ends_without_a_reason_is_a_lost_room(either: Bench) -> None:
    session, notices = await joined(either)
    session._peer_event(PeerClosed(side=Side.PUBLISHER, why="fault"))
    assert await notices.of(RoomClosed) == RoomClosed(why=RoomGone.LOST)
    await session.join(either.spec())


async def test_a_server_with_two_peer_connections_only_is_joined_the_old_way(
    either: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = Link._enter

    async def old(
        self: Link, way: Way, track: OwnTrack, attributes: Mapping[str, str]
    ) -> bool | None:
        return None if way is Way.V1 else await enter(self, way, track, attributes)

    monkeypatch.setattr(Link, "_enter", old)
    peer = await either.peer()
    await peer.talk(440)
    session, notices = either.session()
    assert isinstance(session, SignalRoom)
    await session.set_attributes({"bridge.seq": "7"})
    session.mute(True)
    await session.join(either.spec())
    await peer.sees({"bridge.seq": "7", "sip.callStatus": "dialing"})
    await peer.until(lambda: peer.phone_muted() is True)
    session.mute(False)
    session.subscribe(True)
    await either.hear(session, 440)
    async with either.playing(session, 500):
        await peer.hears(500)
    await session.publish(b"old", convention.TOPIC)
    assert (await asyncio.wait_for(peer.data.get(), DEADLINE)).data == b"old"
    await peer.room.local_participant.publish_dtmf(code=1, digit="1")
    assert await notices.of(DtmfRequested) == DtmfRequested(digit="1")
    await either.kind.cut_signalling(session)
    await notices.of(RoomReconnected)
    await session.publish(b"resumed", convention.TOPIC)
    assert (await asyncio.wait_for(peer.data.get(), DEADLINE)).data == b"resumed"
    await either.hear(session, 440)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("room: {", "room: {enabled_codecs: [{mime: audio/opus}], ", Unsuitable.CODEC_DISABLED),
        ("rtc:\n", "rtc:\n  force_tcp: true\n", Unsuitable.RELAY_ONLY),
        (
            "node_ip: 127.0.0.1\n  enable_loopback_candidate: true",
            "node_ip: 198.51.100.9\n  ips: {excludes: [0.0.0.0/0]}",
            Unsuitable.UDP_BLOCKED,
        ),
    ],
    ids=["no G.711", "TCP only", "no way"],
)
async def test_a_server_that_this_engine_cannot_use_is_told_and_left(
    private_livekit: Any, kind: Signal, before: str, after: str, why: Unsuitable
) -> None:
    private_livekit.stop()
    assert before in private_livekit.config
    private_livekit.config = private_livekit.config.replace(before, after)
    assert await asyncio.to_thread(private_livekit.start)
    async with AsyncExitStack() as stack:
        bench = Bench(private_livekit.server, stack, kind)
        session, notices = bench.session()
        with pytest.raises(RoomUnsuitable) as unsuitable:
            await session.join(bench.spec())
        assert unsuitable.value.why is why
        assert "sip-+911" not in await bench.service().participants(bench.room)
        assert notices.seen == []
    await kind.finish()


async def published(bench: Bench, identity: str) -> None:
    """Wait until the server tells of a track of *identity*."""
    wanted = api.RoomParticipantIdentity(room=bench.room, identity=identity)

    async def found() -> bool:
        return bool((await service.room.get_participant(wanted)).tracks)

    async with room_service(bench.server) as service:
        await until(found, "the track is there")


async def test_a_room_whose_audio_is_encrypted_is_unsuitable(bench: Bench) -> None:
    room = rtc.Room()
    options = rtc.RoomOptions(
        single_peer_connection=False,
        encryption=rtc.E2EEOptions(
            key_provider_options=rtc.KeyProviderOptions(shared_key=b"a secret")
        ),
    )
    token = caller_token(bench.keys, room=bench.room, identity="agent")
    await room.connect(bench.server.url, token, options)
    source = rtc.AudioSource(24000, 1)
    track = rtc.LocalAudioTrack.create_audio_track("voice", source)
    await room.local_participant.publish_track(
        track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    )
    await published(bench, "agent")
    session, _ = bench.session()
    with pytest.raises(RoomUnsuitable) as unsuitable:
        await session.join(bench.spec())
    assert unsuitable.value.why is Unsuitable.ENCRYPTED
    await room.disconnect()


async def test_a_server_that_stands_still_for_a_moment_is_not_left(
    private_livekit: Any, kind: Signal
) -> None:
    async with AsyncExitStack() as stack:
        bench = Bench(private_livekit.server, stack, kind)
        peer = await bench.peer()
        await peer.talk(440)
        session, notices = await joined(bench)
        session.subscribe(True)
        await bench.hear(session, 440)
        private_livekit.pause()
        await asyncio.sleep(1)
        private_livekit.go_on()
        await bench.hear(session, 440)
        assert not [one for one in notices.seen if isinstance(one, RoomClosed)]
    await kind.finish()


async def test_a_server_that_ends_in_order_is_a_lost_room(
    private_livekit: Any, kind: Signal
) -> None:
    async with AsyncExitStack() as stack:
        bench = Bench(private_livekit.server, stack, kind)
        _, notices = await joined(bench)
        await asyncio.to_thread(private_livekit.stop)
        closed = asyncio.ensure_future(notices.of(RoomClosed))
        assert await asyncio.to_thread(private_livekit.start)
        assert await closed == RoomClosed(why=RoomGone.LOST)
        session, _ = await joined(bench)
        await session.leave(LeaveReason.CLIENT_INITIATED)
    await kind.finish()

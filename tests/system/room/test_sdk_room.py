"""The SDK room session against a real livekit-server and stock SDK participants."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import math
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from livekit import api, rtc
from livekit.rtc.room import SimulateScenarioKind

from bridge.room import convention, sdk
from bridge.room.dispatch import RoomService
from bridge.room.sdk import SdkRoom
from bridge.room.seam import (
    AudioPublished,
    DtmfRequested,
    JoinSpec,
    LeaveReason,
    ParticipantJoined,
    ParticipantLeft,
    RoomClosed,
    RoomError,
    RoomGone,
    RoomHandlers,
    RoomNotice,
    RoomReconnected,
    RoomReconnecting,
    RpcHandler,
    RpcRefused,
)
from bridge.room.tokens import LiveKitKeys, bridge_token, caller_token
from bridge.room.watch import watch_of

pytestmark = pytest.mark.system

DEADLINE = 15.0
FRAME_MS = 20


def tone(hertz: float, start_ms: int, length_ms: int = FRAME_MS, rate: int = 8000) -> bytes:
    """Return a sine of half full scale whose phase goes on from *start_ms*."""
    first, count = start_ms * rate // 1000, length_ms * rate // 1000
    return struct.pack(
        f"<{count}h",
        *(int(16000 * math.sin(2 * math.pi * hertz * (first + i) / rate)) for i in range(count)),
    )


def samples(pcm: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(pcm) // 2}h", pcm))


def frequency(pcm: bytes, rate: int = 8000) -> float:
    """Return the frequency of a pure tone by its zero crossings."""
    values = samples(pcm)
    crossings = sum(1 for a, b in itertools.pairwise(values) if a < 0 <= b)
    return crossings * rate / len(values)


class Notices:
    """What a session told, with a way to wait for it."""

    def __init__(self) -> None:
        self.seen: list[RoomNotice] = []
        self._changed = asyncio.Event()

    def __call__(self, notice: RoomNotice) -> None:
        self.seen.append(notice)
        self._changed.set()

    async def until(
        self, wanted: Callable[[RoomNotice], bool], deadline: float = DEADLINE
    ) -> RoomNotice:
        async with asyncio.timeout(deadline):
            while True:
                for notice in self.seen:
                    if wanted(notice):
                        return notice
                self._changed.clear()
                await self._changed.wait()

    async def of(self, kind: type[Any]) -> Any:
        return await self.until(lambda notice: isinstance(notice, kind))


class Bench:
    """Makes sessions and stock participants for one room and ends them all."""

    def __init__(self, server: Any, stack: AsyncExitStack) -> None:
        self.server = server
        self.room = server.room_name()
        self.keys = LiveKitKeys(api_key=server.api_key, api_secret=server.api_secret)
        self._stack = stack

    def spec(
        self, identity: str = "sip-+911", attributes: dict[str, str] | None = None
    ) -> JoinSpec:
        token = bridge_token(
            self.keys,
            room=self.room,
            identity=identity,
            name="Phone +911",
            metadata="{}",
            attributes=attributes or {"sip.callStatus": "dialing"},
        )
        return JoinSpec(url=self.server.url, room=self.room, identity=identity, token=token)

    def session(self, rpc: dict[str, RpcHandler] | None = None) -> tuple[SdkRoom, Notices]:
        notices = Notices()
        return self.session_with(notices, rpc), notices

    def session_with(
        self, notify: Callable[[RoomNotice], None], rpc: dict[str, RpcHandler] | None = None
    ) -> SdkRoom:
        session = SdkRoom(RoomHandlers(notify=notify, rpc=rpc or {}))
        self._stack.push_async_callback(session.leave, LeaveReason.CLIENT_INITIATED)
        return session

    async def joined(self, rpc: dict[str, RpcHandler] | None = None) -> tuple[SdkRoom, Notices]:
        session, notices = self.session(rpc)
        await session.join(self.spec())
        return session, notices

    def service(self) -> RoomService:
        service = RoomService(self.server.url, self.keys)
        self._stack.push_async_callback(service.close)
        return service

    async def peer(self, identity: str = "agent") -> Peer:
        peer = Peer(identity)
        token = caller_token(self.keys, room=self.room, identity=identity)
        self._stack.push_async_callback(peer.close)
        await peer.room.connect(
            self.server.url, token, rtc.RoomOptions(single_peer_connection=False)
        )
        return peer


class Peer:
    """A stock SDK participant."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.room = rtc.Room()
        self.data: asyncio.Queue[rtc.DataPacket] = asyncio.Queue()
        self.dtmf: asyncio.Queue[rtc.SipDTMF] = asyncio.Queue()
        self.tracks: asyncio.Queue[rtc.Track] = asyncio.Queue()
        self._talk: asyncio.Task[None] | None = None
        self.room.on("data_received", self.data.put_nowait)
        self.room.on("sip_dtmf_received", self.dtmf.put_nowait)
        self.room.on("track_subscribed", lambda track, _p, _q: self.tracks.put_nowait(track))

    async def talk(self, hertz: float) -> None:
        """Publish a tone of *hertz*, as an agent would: 24 kHz, with a queue."""
        source = rtc.AudioSource(24000, 1, queue_size_ms=100)
        track = rtc.LocalAudioTrack.create_audio_track("voice", source)
        await self.room.local_participant.publish_track(
            track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        )
        self._talk = asyncio.create_task(self._play(source, hertz))

    async def _play(self, source: rtc.AudioSource, hertz: float) -> None:
        at = 0
        while True:
            pcm = tone(hertz, at, rate=24000)
            await source.capture_frame(rtc.AudioFrame(pcm, 24000, 1, len(pcm) // 2))
            at += FRAME_MS

    async def sees(self, attributes: dict[str, str], identity: str = "sip-+911") -> None:
        """Return once the phone shows all of *attributes*."""

        def shown() -> bool:
            phone = self.room.remote_participants.get(identity)
            return phone is not None and attributes.items() <= phone.attributes.items()

        await self.until(shown)

    def phone_muted(self, identity: str = "sip-+911") -> bool | None:
        """Tell whether the phone's track is muted; None while there is none."""
        phone = self.room.remote_participants.get(identity)
        publications = list(phone.track_publications.values()) if phone is not None else []
        return publications[0].muted if publications else None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once *condition* holds; it is looked at after each event of the room."""
        changed = asyncio.Event()
        events: tuple[Any, ...] = (
            "participant_connected",
            "participant_disconnected",
            "participant_attributes_changed",
            "track_published",
            "track_muted",
            "track_unmuted",
        )
        notice = lambda *_: changed.set()  # noqa: E731 (the emitter counts parameters)
        for event in events:
            self.room.on(event, notice)
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition():
                    changed.clear()
                    await changed.wait()
        finally:
            for event in events:
                self.room.off(event, notice)

    async def close(self) -> None:
        if self._talk is not None:
            self._talk.cancel()
            await asyncio.wait({self._talk})
        await self.room.disconnect()

    async def hears(self, hertz: float) -> None:
        """Return once the phone's track has carried a tone of *hertz* for 200 ms."""
        async with asyncio.timeout(DEADLINE):
            track = await self.tracks.get()
            stream = rtc.AudioStream(track, sample_rate=8000, num_channels=1, frame_size_ms=20)
            window = b""
            try:
                async for event in stream:
                    window = (window + bytes(event.frame.data))[-3200:]
                    if len(window) == 3200 and is_tone(window, hertz):
                        return
            finally:
                await stream.aclose()


def is_tone(pcm: bytes, hertz: float) -> bool:
    loud = sum(1 for value in samples(pcm) if abs(value) > 4000) > len(pcm) // 8
    return loud and abs(frequency(pcm) - hertz) < 15


async def hear(session: SdkRoom, hertz: float) -> None:
    """Pull every 20 ms until 200 ms of a tone of *hertz* came out."""
    window = b""
    async with asyncio.timeout(DEADLINE):
        async for _ in ticks():
            window = (window + (session.pull(160) or b""))[-3200:]
            if len(window) == 3200 and is_tone(window, hertz):
                return


async def ticks() -> AsyncIterator[int]:
    """Yield every 20 ms of wall time, as the engine's clock does."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    count = 0
    while True:
        yield count
        count += 1
        await asyncio.sleep(max(0.0, start + count * FRAME_MS / 1000 - loop.time()))


@asynccontextmanager
async def playing(session: SdkRoom, hertz: float) -> AsyncIterator[None]:
    """Push a tone of *hertz* into *session* at the pace of the engine's clock."""

    async def play() -> None:
        async for count in ticks():
            session.push(tone(hertz, count * FRAME_MS))

    task = asyncio.create_task(play())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def simulate(session: SdkRoom, scenario: Any) -> None:
    """Break the connection under *session*; the SDK has the tool for it on its room."""
    link = session._link
    assert link is not None
    await link._room.simulate_scenario(scenario)


@pytest.fixture
async def bench(livekit: Any) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(livekit, stack)
    await sdk.settle()


async def test_a_joined_session_is_a_silent_sip_participant_with_its_track(bench: Bench) -> None:
    peer = await bench.peer()
    await bench.joined()
    track = await asyncio.wait_for(peer.tracks.get(), DEADLINE)
    phone = peer.room.remote_participants["sip-+911"]
    (publication,) = phone.track_publications.values()
    assert phone.kind == rtc.ParticipantKind.PARTICIPANT_KIND_SIP
    assert phone.attributes["sip.callStatus"] == "dialing"
    assert phone.name == "Phone +911"
    assert track.name == "sip_audio"
    assert publication.source == rtc.TrackSource.SOURCE_MICROPHONE
    assert not publication.muted


async def test_a_published_event_reaches_everyone_and_a_directed_one_only_its_target(
    bench: Bench,
) -> None:
    first, second = await bench.peer("first"), await bench.peer("second")
    session, _ = await bench.joined()
    await session.publish(b'{"seq":1}', convention.TOPIC)
    await session.publish(b'{"seq":2}', convention.TOPIC, ["second"])
    await session.publish(b'{"seq":3}', convention.TOPIC)

    async def received(peer: Peer, count: int) -> list[int]:
        async with asyncio.timeout(DEADLINE):
            packets = [await peer.data.get() for _ in range(count)]
        assert {packet.topic for packet in packets} == {convention.TOPIC}
        return [json.loads(packet.data)["seq"] for packet in packets]

    assert await received(second, 3) == [1, 2, 3]
    assert await received(first, 2) == [1, 3]


async def test_attributes_are_merged_for_the_others(bench: Bench) -> None:
    peer = await bench.peer()
    session, _ = await bench.joined()
    await session.set_attributes({"bridge.hold": "true"})
    await peer.sees({"bridge.hold": "true", "sip.callStatus": "dialing"})


async def test_the_published_tone_is_heard_by_a_stock_participant(bench: Bench) -> None:
    peer = await bench.peer()
    session, _ = await bench.joined()
    async with playing(session, 500):
        await peer.hears(500)


async def test_an_agents_tone_is_pulled_when_subscribed_before_it_publishes(bench: Bench) -> None:
    session, notices = await bench.joined()
    session.subscribe(True)
    peer = await bench.peer()
    await peer.talk(440)
    assert await notices.of(AudioPublished) == AudioPublished(identity="agent")
    await hear(session, 440)


async def test_an_agents_tone_is_pulled_when_subscribed_long_after_it_published(
    bench: Bench,
) -> None:
    peer = await bench.peer()
    await peer.talk(440)
    session, notices = await bench.joined()
    assert await notices.of(AudioPublished) == AudioPublished(identity="agent")
    assert session.pull(160) is None
    session.subscribe(True)
    await hear(session, 440)


async def test_a_resubscribed_tone_is_pulled_again(bench: Bench) -> None:
    peer = await bench.peer()
    await peer.talk(440)
    session, _ = await bench.joined()
    for _ in range(3):
        session.subscribe(True)
        await hear(session, 440)
        session.subscribe(False)
        assert session.pull(160) is None
    session.subscribe(True)
    session.subscribe(False)
    session.subscribe(True)
    await hear(session, 440)


async def test_two_agents_are_mixed(bench: Bench) -> None:
    session, _ = await bench.joined()
    session.subscribe(True)
    first, second = await bench.peer("first"), await bench.peer("second")
    await first.talk(400)
    await hear(session, 400)
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
    await hear(session, 440)
    session.discard()
    assert session.pull(160) is None


async def test_mute_is_seen_and_lifted(bench: Bench) -> None:
    peer = await bench.peer()
    session, _ = await bench.joined()
    await peer.until(lambda: peer.phone_muted() is False)
    session.mute(True)
    await peer.until(lambda: peer.phone_muted() is True)
    session.mute(False)
    await peer.until(lambda: peer.phone_muted() is False)
    async with playing(session, 500):
        await peer.hears(500)


async def test_a_session_muted_before_its_join_publishes_a_muted_track(bench: Bench) -> None:
    peer = await bench.peer()
    session, _ = bench.session()
    session.mute(True)
    await session.join(bench.spec())
    await peer.until(lambda: peer.phone_muted() is True)


async def test_comings_and_goings_are_told_with_kind_and_count(bench: Bench) -> None:
    early = await bench.peer("early")
    await early.talk(440)
    session, notices = await bench.joined()
    first = await notices.of(ParticipantJoined)
    assert first == ParticipantJoined(identity="early", kind="standard", at_join=True)
    late = await bench.peer("late")
    await late.talk(440)  # the server tells of those who publish at once
    await notices.until(
        lambda n: n == ParticipantJoined(identity="late", kind="standard", at_join=False)
    )
    assert set(session.others()) == {"early", "late"}
    await late.close()
    await notices.until(lambda n: n == ParticipantLeft(identity="late", others=1))
    await early.close()
    await notices.until(lambda n: n == ParticipantLeft(identity="early", others=0))
    assert session.others() == []


async def test_notices_follow_the_join_and_never_run_inside_it(bench: Bench) -> None:
    await bench.peer("early")
    seen_inside: list[RoomNotice] = []
    session, notices = bench.session()
    await session.join(bench.spec())
    seen_inside.extend(notices.seen)
    assert seen_inside == []
    assert await notices.of(ParticipantJoined)


async def test_dtmf_goes_both_ways(bench: Bench) -> None:
    peer = await bench.peer()
    session, notices = await bench.joined()
    await session.publish_dtmf("#")
    received = await asyncio.wait_for(peer.dtmf.get(), DEADLINE)
    assert (received.code, received.digit) == (11, "#")
    await peer.room.local_participant.publish_dtmf(code=10, digit="*")
    assert await notices.of(DtmfRequested) == DtmfRequested(digit="*")
    with pytest.raises(RoomError, match="no such key"):
        await session.publish_dtmf("w")


async def test_an_rpc_hears_who_calls_and_may_refuse(bench: Bench) -> None:
    async def greet(identity: str, kind: str, payload: str) -> str:
        return f"{identity} {kind} {payload}"

    async def refuse(identity: str, kind: str, payload: str) -> str:
        raise RpcRefused(403, "not yours")

    async def break_down(identity: str, kind: str, payload: str) -> str:
        raise ZeroDivisionError

    peer = await bench.peer()
    await bench.joined({"greet": greet, "refuse": refuse, "break": break_down})
    late = await bench.peer("late")

    async def call(method: str, caller: Peer = peer) -> str:
        return await caller.room.local_participant.perform_rpc(
            destination_identity="sip-+911", method=method, payload="hello"
        )

    await peer.until(lambda: "sip-+911" in peer.room.remote_participants)
    assert await call("greet", late) == "late standard hello"  # we are told of it later
    assert await call("greet") == "agent standard hello"
    with pytest.raises(rtc.RpcError) as refused:
        await call("refuse")
    assert (refused.value.code, refused.value.message) == (403, "not yours")
    with pytest.raises(rtc.RpcError) as broken:
        await call("break")
    assert broken.value.code == rtc.RpcError.ErrorCode.APPLICATION_ERROR
    assert "Zero" not in broken.value.message


async def test_a_full_reconnect_loses_nobody_and_restores_everything(bench: Bench) -> None:
    peer = await bench.peer()
    await peer.talk(440)
    session, notices = await bench.joined()
    session.subscribe(True)
    await hear(session, 440)
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
    await hear(session, 440)
    assert session.others() == ["agent"]
    assert not [notice for notice in notices.seen if isinstance(notice, ParticipantLeft)]
    session.mute(False)
    await peer.until(lambda: peer.phone_muted() is False)
    await peer.tracks.get()  # the track of before
    async with playing(session, 500):
        await peer.hears(500)


async def test_messages_sent_while_the_signalling_resumes_arrive_in_order(bench: Bench) -> None:
    peer = await bench.peer()
    session, notices = await bench.joined()
    await session.publish(b"0", convention.TOPIC)
    await simulate(session, SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT)
    await notices.of(RoomReconnecting)
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*(session.publish(b"%d" % n, convention.TOPIC) for n in range(1, 5)))
        received = [(await peer.data.get()).data for _ in range(5)]
    assert received == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_deleted_room_is_told_and_ends_what_waits(bench: Bench) -> None:
    session, notices = await bench.joined()
    service = bench.service()
    await service.delete_room(bench.room)
    assert await notices.of(RoomClosed) == RoomClosed(why=RoomGone.DELETED)
    with pytest.raises(RoomError):
        await asyncio.wait_for(session.publish(b"x", convention.TOPIC), DEADLINE)
    assert session.pull(160) is None
    session.push(bytes(320))
    await session.leave(LeaveReason.CLIENT_INITIATED)


async def test_a_removed_participant_is_told_so(bench: Bench) -> None:
    _, notices = await bench.joined()
    async with api.LiveKitAPI(
        bench.server.url, bench.keys.api_key, bench.keys.api_secret
    ) as client:
        await client.room.remove_participant(
            api.RoomParticipantIdentity(room=bench.room, identity="sip-+911")
        )
    assert await notices.of(RoomClosed) == RoomClosed(why=RoomGone.REMOVED)


async def test_another_with_our_identity_removes_us(bench: Bench) -> None:
    _, notices = await bench.joined()
    await bench.joined()
    assert await notices.of(RoomClosed) == RoomClosed(why=RoomGone.REMOVED)


@pytest.mark.parametrize(
    ("reason", "seen"),
    [
        (LeaveReason.CLIENT_INITIATED, rtc.DisconnectReason.CLIENT_INITIATED),
        (LeaveReason.USER_REJECTED, rtc.DisconnectReason.USER_REJECTED),
        (LeaveReason.USER_UNAVAILABLE, rtc.DisconnectReason.USER_UNAVAILABLE),
    ],
)
async def test_the_reason_of_leaving_reaches_the_others(
    bench: Bench, reason: LeaveReason, seen: int
) -> None:
    peer = await bench.peer()
    left: asyncio.Future[rtc.RemoteParticipant] = asyncio.get_running_loop().create_future()
    peer.room.on("participant_disconnected", left.set_result)
    session, notices = await bench.joined()
    await peer.until(lambda: "sip-+911" in peer.room.remote_participants)
    await session.leave(reason)
    await session.leave(reason)
    gone = await asyncio.wait_for(left, DEADLINE)
    assert gone.disconnect_reason == seen
    assert not [notice for notice in notices.seen if isinstance(notice, RoomClosed)]


async def test_what_was_sent_last_arrives_before_we_are_gone(bench: Bench) -> None:
    peer = await bench.peer()
    for number in range(5):
        session, _ = await bench.joined()
        await session.publish(b"%d" % number, convention.TOPIC)
        await session.set_attributes({"sip.callStatus": "hangup"})
        await session.leave(LeaveReason.CLIENT_INITIATED)
        packet = await asyncio.wait_for(peer.data.get(), DEADLINE)
        assert packet.data == b"%d" % number


async def test_an_rpc_that_makes_us_leave_is_answered_first(bench: Bench) -> None:
    peer = await bench.peer()
    for number in range(5):
        assert await asked_to_leave(bench, peer, f"{number}") == f"{number}"


async def asked_to_leave(bench: Bench, peer: Peer, text: str) -> str:
    leaving: list[asyncio.Future[None]] = []

    async def end(_identity: str, _kind: str, payload: str) -> str:
        leaving.append(asyncio.ensure_future(session.leave(LeaveReason.CLIENT_INITIATED)))
        return payload

    session, _ = await bench.joined({"end": end})
    await peer.until(lambda: "sip-+911" in peer.room.remote_participants)
    answer = await peer.room.local_participant.perform_rpc(
        destination_identity="sip-+911", method="end", payload=text
    )
    await leaving[0]
    await peer.until(lambda: "sip-+911" not in peer.room.remote_participants)
    return answer


async def test_a_join_left_meanwhile_fails_at_once_and_ends_outside_the_room(
    bench: Bench,
) -> None:
    session, notices = bench.session()
    joining = asyncio.ensure_future(session.join(bench.spec()))
    await asyncio.sleep(0)
    await session.leave(LeaveReason.CLIENT_INITIATED)
    with pytest.raises(RoomError, match="left while joining"):
        await joining
    await sdk.settle()
    assert "sip-+911" not in await bench.service().participants(bench.room)
    assert notices.seen == []


async def test_a_cancelled_join_lets_the_connect_finish(bench: Bench) -> None:
    session, _ = bench.session()
    joining = asyncio.ensure_future(session.join(bench.spec()))
    await asyncio.sleep(0)
    joining.cancel()
    await asyncio.wait({joining})
    assert joining.cancelled()
    await sdk.settle()
    assert "sip-+911" not in await bench.service().participants(bench.room)
    await session.join(bench.spec())


async def test_a_refused_token_is_a_room_error(bench: Bench) -> None:
    session, notices = bench.session()
    spec = dataclasses.replace(bench.spec(), token="nonsense")
    with pytest.raises(RoomError, match="could not be joined"):
        await session.join(spec)
    assert notices.seen == []
    await session.join(bench.spec())


async def test_nothing_of_ours_is_left_after_leaving(bench: Bench) -> None:
    before = asyncio.all_tasks()
    peer = await bench.peer()
    await peer.talk(440)
    steady = asyncio.all_tasks()
    for _ in range(3):
        session, _ = bench.session()
        await session.join(bench.spec())
        session.subscribe(True)
        await hear(session, 440)
        await session.leave(LeaveReason.CLIENT_INITIATED)
        await sdk.settle()
    assert asyncio.all_tasks() - steady == set()
    await peer.close()
    assert asyncio.all_tasks() - before == set()


async def test_a_lost_room_is_rejoined_on_the_same_session(private_livekit: Any) -> None:
    async with AsyncExitStack() as stack:
        bench = Bench(private_livekit.server, stack)
        session, notices = await bench.joined()
        session.subscribe(True)
        session.mute(True)
        await session.set_attributes({"bridge.seq": "9"})
        private_livekit.kill()
        await notices.of(RoomReconnecting)
        waiting = asyncio.ensure_future(session.publish(b"early", convention.TOPIC))
        await asyncio.to_thread(private_livekit.start)
        assert await notices.of(RoomClosed) == RoomClosed(why=RoomGone.LOST)
        with pytest.raises(RoomError, match="the room is away"):
            await waiting
        waiting = asyncio.ensure_future(session.publish(b"late", convention.TOPIC))
        peer = await bench.peer()
        await peer.talk(440)
        await session.join(bench.spec())
        await asyncio.wait_for(waiting, DEADLINE)
        assert (await asyncio.wait_for(peer.data.get(), DEADLINE)).data == b"late"
        await peer.sees({"bridge.seq": "9"})
        await peer.until(lambda: peer.phone_muted() is True)
        await hear(session, 440)
    await sdk.settle()


async def test_a_repair_that_is_faster_than_our_watch_is_given_up_for_a_rejoin(
    private_livekit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        bench = Bench(private_livekit.server, stack)
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
    await sdk.settle()


async def test_a_link_given_up_leaves_for_a_reason_at_which_no_agent_closes(bench: Bench) -> None:
    peer = await bench.peer()
    left: asyncio.Future[rtc.RemoteParticipant] = asyncio.get_running_loop().create_future()
    peer.room.on("participant_disconnected", left.set_result)
    session, notices = await bench.joined()
    await peer.until(lambda: "sip-+911" in peer.room.remote_participants)
    session._returned()
    assert await notices.of(RoomClosed) == RoomClosed(why=RoomGone.LOST)
    gone = await asyncio.wait_for(left, DEADLINE)
    assert gone.disconnect_reason == rtc.DisconnectReason.AGENT_ERROR
    await session.join(bench.spec())


async def test_a_new_link_thrown_out_by_the_ghost_of_the_old_one_is_joined_again(
    private_livekit: Any,
) -> None:
    async with AsyncExitStack() as stack:
        bench = Bench(private_livekit.server, stack)
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
    await sdk.settle()


async def test_a_newcomer_told_of_can_be_sent_data_at_once(bench: Bench) -> None:
    greeted: list[asyncio.Future[None]] = []

    def greet(notice: RoomNotice) -> None:
        if isinstance(notice, ParticipantJoined):
            sent = session.publish(b"hello", convention.TOPIC, [notice.identity])
            greeted.append(asyncio.ensure_future(sent))

    session = bench.session_with(greet)
    await session.join(bench.spec())
    for number in range(3):
        peer = await bench.peer(f"late-{number}")
        await peer.talk(440)
        assert (await asyncio.wait_for(peer.data.get(), DEADLINE)).data == b"hello"
    await asyncio.gather(*greeted)
    assert len(greeted) == 3

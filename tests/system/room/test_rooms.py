"""What a call may rely on of its room, of both kinds, against a real livekit-server."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from livekit import api, rtc

from bridge.room import convention
from bridge.room.seam import (
    AudioPublished,
    DtmfRequested,
    LeaveReason,
    ParticipantJoined,
    ParticipantLeft,
    RoomClosed,
    RoomError,
    RoomGone,
    RoomNotice,
    RoomReconnecting,
    RpcRefused,
)
from tests.system.room.kit import DEADLINE, Bench, Kind, Peer, Sdk, Signal
from tests.system.room.native import Native

pytestmark = pytest.mark.system


@pytest.fixture(params=["sdk", "signal", "native"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """The SDK's sessions; ours on the tests' WebRTC peer; ours on the native core."""
    kinds: dict[str, Callable[[], Kind]] = {"sdk": Sdk, "signal": Signal, "native": Native}
    return kinds[request.param]()


@pytest.fixture
async def bench(livekit: Any, kind: Kind) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(livekit, stack, kind)
    await kind.finish()


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
    async with bench.playing(session, 500):
        await peer.hears(500)


async def test_an_agents_tone_is_pulled_when_subscribed_before_it_publishes(bench: Bench) -> None:
    session, notices = await bench.joined()
    session.subscribe(True)
    peer = await bench.peer()
    await peer.talk(440)
    assert await notices.of(AudioPublished) == AudioPublished(identity="agent")
    await bench.hear(session, 440)


async def test_an_agents_tone_is_pulled_when_subscribed_long_after_it_published(
    bench: Bench,
) -> None:
    peer = await bench.peer()
    await peer.talk(440)
    session, notices = await bench.joined()
    assert await notices.of(AudioPublished) == AudioPublished(identity="agent")
    session.subscribe(True)
    await bench.hear(session, 440)


async def test_mute_is_seen_and_lifted(bench: Bench) -> None:
    peer = await bench.peer()
    session, _ = await bench.joined()
    await peer.until(lambda: peer.phone_muted() is False)
    session.mute(True)
    await peer.until(lambda: peer.phone_muted() is True)
    session.mute(False)
    await peer.until(lambda: peer.phone_muted() is False)
    async with bench.playing(session, 500):
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


async def test_messages_sent_while_the_signalling_resumes_arrive_in_order(bench: Bench) -> None:
    peer = await bench.peer()
    session, notices = await bench.joined()
    await session.publish(b"0", convention.TOPIC)
    await bench.kind.cut_signalling(session)
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
    await bench.kind.settle()
    assert "sip-+911" not in await bench.service().participants(bench.room)
    assert notices.seen == []


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
        await bench.hear(session, 440)
        await session.leave(LeaveReason.CLIENT_INITIATED)
        await bench.kind.settle()
    assert asyncio.all_tasks() - steady == set()
    await peer.close()
    assert asyncio.all_tasks() - before == set()


async def test_a_lost_room_is_rejoined_on_the_same_session(
    private_livekit: Any, kind: Kind
) -> None:
    async with AsyncExitStack() as stack:
        bench = Bench(private_livekit.server, stack, kind)
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
        await bench.hear(session, 440)
    await kind.finish()


async def test_a_link_given_up_leaves_for_a_reason_at_which_no_agent_closes(bench: Bench) -> None:
    peer = await bench.peer()
    left: asyncio.Future[rtc.RemoteParticipant] = asyncio.get_running_loop().create_future()
    peer.room.on("participant_disconnected", left.set_result)
    session, notices = await bench.joined()
    await peer.until(lambda: "sip-+911" in peer.room.remote_participants)
    session._returned()  # type: ignore[attr-defined]
    assert await notices.of(RoomClosed) == RoomClosed(why=RoomGone.LOST)
    gone = await asyncio.wait_for(left, DEADLINE)
    assert gone.disconnect_reason == rtc.DisconnectReason.AGENT_ERROR
    await session.join(bench.spec())


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

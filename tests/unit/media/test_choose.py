"""The choice of engine: a room that the direct engine cannot join is joined by the SDK engine."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import pytest

from bridge import native
from bridge.media.choose import MEMORY, ChoosingEngine
from bridge.media.direct import DirectEngine
from bridge.media.ports import Ports
from bridge.media.sdk import SdkEngine
from bridge.media.seam import CallMedia, EngineChoice, MediaLevels, MediaNotice, MediaSpec
from bridge.room.seam import (
    JoinSpec,
    LeaveReason,
    RoomError,
    RoomHandlers,
    RoomUnsuitable,
    Unsuitable,
)
from bridge.room.signal.port import PeerFactory
from rtp.net.socket import open_udp
from rtp.packet import parse
from sdp.crypto import Crypto, MasterKey
from sdp.negotiated import Negotiated
from tests.unit.media.clock import Clock, until

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(
        not native.is_built() and not os.environ.get("CI"), reason="the native core is not built"
    ),
]

TALKING = MediaLevels(transmit=True, agent_audio=True, caller_audio=True, watchdog=30)
SPEC = JoinSpec(url="ws://127.0.0.1:1", room="r", identity="i", token="t")


async def nothing() -> None:
    return


class FakeRoom:
    """A room session that fails as it is told, and keeps what it is told."""

    def __init__(self, failure: RoomError | None = None) -> None:
        self.failure = failure
        self.joins = 0
        self.left: list[LeaveReason] = []
        self.muted = False
        self.wanted = False
        self.attributes: dict[str, str] = {}
        self.published: list[bytes] = []
        self.on_leave: Callable[[], Awaitable[None]] = nothing

    async def join(self, spec: JoinSpec) -> None:
        self.joins += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure

    async def publish(self, payload: bytes, topic: str, to: Sequence[str] = ()) -> None:
        self.published.append(payload)

    async def publish_dtmf(self, digit: str) -> None:
        self.published.append(digit.encode())

    async def set_attributes(self, attributes: Mapping[str, str]) -> None:
        self.attributes.update(attributes)

    def mute(self, muted: bool) -> None:
        self.muted = muted

    def subscribe(self, wanted: bool) -> None:
        self.wanted = wanted

    def others(self) -> Sequence[str]:
        return ["agent"]

    async def leave(self, reason: LeaveReason) -> None:
        self.left.append(reason)
        await self.on_leave()

    def push(self, pcm: bytes) -> None:
        return

    def pull(self, frames: int) -> bytes | None:
        return None

    def discard(self) -> None:
        return


class House:
    """Both engines, real on the carrier's side, with rooms that fail on demand."""

    def __init__(self) -> None:
        from trunkbridge_native import Core

        self.clock = Clock()
        self.ports = Ports("31000-31499")
        self.failure: RoomError | None = None
        self.direct_rooms: list[FakeRoom] = []
        self.sdk_rooms: list[FakeRoom] = []
        direct = DirectEngine(Core(threads=1, priority=0), self._direct_room, self.ports)
        sdk = SdkEngine(self._sdk_room, self.ports)  # type: ignore[arg-type]
        self.engine = ChoosingEngine(direct, sdk, self.clock)
        self.peer = open_udp("127.0.0.1", 0)
        self.control = open_udp("127.0.0.1", 0)

    def _direct_room(self, _handlers: RoomHandlers, _peers: PeerFactory, codec: str) -> FakeRoom:
        assert codec == "PCMA"
        self.direct_rooms.append(FakeRoom(self.failure))
        return self.direct_rooms[-1]

    def _sdk_room(self, _handlers: RoomHandlers) -> FakeRoom:
        self.sdk_rooms.append(FakeRoom())
        return self.sdk_rooms[-1]

    def open(self, failure: RoomError | None = None) -> CallMedia:
        self.failure = failure
        self.lease = self.ports.lease("127.0.0.1")
        spec = MediaSpec(
            call_id="c",
            signalling_address="127.0.0.1",
            track="PCMA",
            media_allow=("127.0.0.0/8",),
            hold_music=False,
        )
        notices: list[MediaNotice] = []
        handlers = RoomHandlers(notify=lambda notice: None)
        return self.engine.open(spec, self.lease, handlers, notices.append)

    def negotiated(self, crypto: Crypto | None = None) -> Negotiated:
        return Negotiated(
            remote_address="127.0.0.1",
            remote_port=self.peer.getsockname()[1],
            remote_rtcp_port=self.control.getsockname()[1],
            codec="PCMA",
            payload_type=8,
            receive_codecs=((8, "PCMA"),),
            dtmf_payload_type=101,
            receive_dtmf_payload_type=101,
            ptime=20,
            send=True,
            receive=True,
            hold=None,
            crypto=crypto,
        )

    def heard(self) -> Iterator[bytes]:
        return _received(self.peer)

    def reported(self) -> Iterator[bytes]:
        return _received(self.control)


def _received(sock: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield sock.recv(2048)
        except BlockingIOError:
            return


def says_bye(report: bytes) -> bool:
    """Tell whether a compound RTCP packet has a BYE (RFC 3550 6.6)."""
    while report:
        if report[1] == 203:
            return True
        report = report[4 + 4 * int.from_bytes(report[2:4], "big") :]
    return False


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    await made.engine.start()
    yield made
    await made.engine.stop()
    made.peer.close()
    made.control.close()


async def test_a_room_within_reach_is_joined_by_the_direct_engine(house: House) -> None:
    media = house.open()
    await media.room.join(SPEC)
    assert media.choice() == EngineChoice(engine="direct")
    assert house.sdk_rooms == []
    await media.carrier.close()
    assert house.lease.rtp.fileno() == -1


@pytest.mark.parametrize("why", list(Unsuitable))
async def test_a_room_out_of_reach_is_joined_by_the_sdk_engine_and_the_reason_is_kept(
    house: House, why: Unsuitable
) -> None:
    media = house.open(RoomUnsuitable(why))
    await media.room.join(SPEC)
    assert media.choice() == EngineChoice(engine="sdk", reason=why.value)
    assert house.direct_rooms[0].left == [LeaveReason.CLIENT_INITIATED]
    assert house.sdk_rooms[0].joins == 1
    await media.carrier.close()


async def test_what_the_call_had_said_holds_for_the_other_engine(house: House) -> None:
    media = house.open(RoomUnsuitable(Unsuitable.UDP_BLOCKED))
    media.carrier.connect(house.negotiated())
    media.carrier.apply(TALKING)
    await until(lambda: media.carrier.stats().packets_sent >= 3)
    media.room.mute(True)
    media.room.subscribe(True)
    await media.room.set_attributes({"a": "1"})
    await media.room.set_attributes({"b": "2"})
    await media.room.join(SPEC)
    room = house.sdk_rooms[0]
    assert room.muted
    assert room.wanted
    assert room.attributes == {"a": "1", "b": "2"}
    before = len([parse(data) for data in house.heard()])
    assert before >= 3
    packets = []
    await until(lambda: bool(packets.extend(map(parse, house.heard()))) or len(packets) >= 3)
    assert {packet.ssrc for packet in packets} == {house.lease.ssrc}  # one stream to the carrier
    await media.carrier.close()


async def test_the_stream_goes_on_where_the_direct_engine_stopped(house: House) -> None:
    media = house.open(RoomUnsuitable(Unsuitable.UDP_BLOCKED))
    media.carrier.connect(house.negotiated())
    media.carrier.apply(TALKING)
    await until(lambda: media.carrier.stats().packets_sent >= 3)
    await media.room.join(SPEC)
    sent = media.carrier.stats().packets_sent
    assert sent >= 3, "what the direct engine sent counts on"
    await until(lambda: media.carrier.stats().packets_sent >= sent + 3)
    assert not any(map(says_bye, house.reported())), "the stream goes on"
    await media.carrier.close()
    await until(lambda: any(map(says_bye, house.reported())))
    sequences = [parse(data).sequence for data in house.heard() if data[1] & 0x7F == 8]
    steps = [(b - a) & 0xFFFF for a, b in pairwise(sequences)]
    assert set(steps) == {1}
    assert len(sequences) >= 6


async def test_keys_that_were_used_are_never_given_to_a_second_context(house: House) -> None:
    key = MasterKey(secret=bytes(range(30)))
    crypto = Crypto(suite="AES_CM_128_HMAC_SHA1_80", send=key, receive=(key,))
    media = house.open(RoomUnsuitable(Unsuitable.UDP_BLOCKED))
    media.carrier.connect(house.negotiated(crypto))
    media.carrier.apply(TALKING)
    await until(lambda: media.carrier.stats().packets_sent >= 1)
    with pytest.raises(RoomUnsuitable):
        await media.room.join(SPEC)
    assert house.sdk_rooms == []
    await media.carrier.close()


async def test_keys_that_are_used_while_the_engine_is_changed_are_not_used_twice(
    house: House,
) -> None:
    key = MasterKey(secret=bytes(range(30)))
    crypto = Crypto(suite="AES_CM_128_HMAC_SHA1_80", send=key, receive=(key,))
    media = house.open(RoomUnsuitable(Unsuitable.UDP_BLOCKED))

    async def answered_meanwhile() -> None:
        media.carrier.connect(house.negotiated(crypto))
        media.carrier.apply(TALKING)
        await until(lambda: media.carrier.stats().packets_sent >= 1)

    house.direct_rooms[0].on_leave = answered_meanwhile
    with pytest.raises(RoomUnsuitable):
        await media.room.join(SPEC)
    assert house.sdk_rooms == []
    await media.carrier.close()
    assert house.lease.rtp.fileno() == -1


async def test_a_room_left_while_the_engine_is_changed_is_not_joined(house: House) -> None:
    media = house.open(RoomUnsuitable(Unsuitable.UDP_BLOCKED))
    leaving: list[asyncio.Future[None]] = []

    async def left_meanwhile() -> None:
        house.direct_rooms[0].on_leave = nothing
        leaving.append(asyncio.ensure_future(media.room.leave(LeaveReason.CLIENT_INITIATED)))
        await leaving[0]

    house.direct_rooms[0].on_leave = left_meanwhile
    with pytest.raises(RoomError, match="left while joining"):
        await media.room.join(SPEC)
    assert [room.joins for room in house.sdk_rooms] == [0]
    await media.carrier.close()


async def test_other_failures_change_no_engine(house: House) -> None:
    media = house.open(RoomError("the server does not answer"))
    with pytest.raises(RoomError, match="does not answer"):
        await media.room.join(SPEC)
    assert house.sdk_rooms == []
    assert media.choice() == EngineChoice(engine="direct")
    await media.carrier.close()


async def test_the_next_calls_do_not_try_again_what_failed_for_a_minute(house: House) -> None:
    first = house.open(RoomUnsuitable(Unsuitable.CODEC_DISABLED))
    await first.room.join(SPEC)
    second = house.open()
    assert second.choice() == EngineChoice(engine="sdk", reason="codec_disabled")
    house.clock.t += MEMORY
    third = house.open()
    assert third.choice() == EngineChoice(engine="direct")
    for media in (first, second, third):
        await media.carrier.close()


async def test_an_encrypted_room_says_nothing_of_other_rooms(house: House) -> None:
    first = house.open(RoomUnsuitable(Unsuitable.ENCRYPTED))
    await first.room.join(SPEC)
    second = house.open()
    assert second.choice() == EngineChoice(engine="direct")
    for media in (first, second):
        await media.carrier.close()


async def test_a_call_that_ends_while_the_engine_is_changed_frees_its_ports(house: House) -> None:
    media = house.open(RoomUnsuitable(Unsuitable.UDP_BLOCKED))
    joining = asyncio.ensure_future(media.room.join(SPEC))
    await asyncio.sleep(0)
    await media.carrier.close()
    results: list[object] = await asyncio.gather(joining, return_exceptions=True)
    assert results == [None] or isinstance(results[0], RoomUnsuitable)
    await media.carrier.close()
    assert house.lease.rtp.fileno() == -1
    assert house.engine.clock().calls == 0


async def test_each_engine_has_a_clock_of_its_own(house: House) -> None:
    assert [part.clock().ought_to_turn for part in house.engine.parts] == [False, False]
    media = house.open()
    direct, sdk = house.engine.parts
    await until(lambda: direct.clock().ought_to_turn)
    assert not sdk.clock().ought_to_turn
    turns = house.engine.clock().turns
    await until(lambda: house.engine.clock().turns > turns)
    await media.carrier.close()


class Follower:
    """A recording that only notes what it is to follow."""

    def __init__(self) -> None:
        self.taps: list[object] = []

    def follow(self, tap: object) -> None:
        self.taps.append(tap)


async def test_a_recording_follows_the_call_to_the_other_engine(house: House) -> None:
    media = house.open(RoomUnsuitable(Unsuitable.UDP_BLOCKED))
    recording = Follower()
    media.carrier.record(recording)  # type: ignore[arg-type]
    assert [type(tap).__name__ for tap in recording.taps] == ["TapReader"]
    await media.room.join(SPEC)
    assert [type(tap).__name__ for tap in recording.taps] == ["TapReader", "PcmTap"]
    await media.carrier.close()

"""The SDK engine on loopback sockets and virtual time, with a room that is a list."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from bridge.media.carrier import SILENT_FRAME, SdkCarrier
from bridge.media.ports import Ports
from bridge.media.sdk import SdkEngine
from bridge.media.seam import MediaLevels, MediaNotice, MediaSpec
from bridge.room.seam import RoomHandlers
from rtp import g711
from rtp.net.socket import open_udp
from rtp.packet import Packet, build, parse
from sdp.negotiated import Hold, Negotiated

pytestmark = pytest.mark.unit

TALKING = MediaLevels(transmit=True, agent_audio=True, caller_audio=True, watchdog=30)
GATED = MediaLevels(transmit=True, agent_audio=False, caller_audio=False, watchdog=30)
SILENT = MediaLevels(transmit=False, agent_audio=False, caller_audio=False, watchdog=None)

TONE = b"\x10\x20" * 160


class FakeRoom:
    """RoomSession and RoomAudio: keeps what is pushed, gives what is queued."""

    def __init__(self, handlers: RoomHandlers) -> None:
        self.pushed: list[bytes] = []
        self.agent = b""
        self.fail = False

    def push(self, pcm: bytes) -> None:
        if self.fail:
            raise RuntimeError("the room broke")
        self.pushed.append(pcm)

    def pull(self, frames: int) -> bytes | None:
        if len(self.agent) < frames * 2:
            return None
        pcm, self.agent = self.agent[: frames * 2], self.agent[frames * 2 :]
        return pcm

    def discard(self) -> None:
        self.agent = b""


class Clock:
    """Virtual monotonic time."""

    def __init__(self) -> None:
        self.t = 1000.0

    def __call__(self) -> float:
        return self.t


class Line:
    """One call of the engine and the carrier at the other end of it."""

    def __init__(self, engine: SdkEngine, ports: Ports, clock: Clock, allow: str) -> None:
        self.clock = clock
        self.peer = open_udp("127.0.0.1", 0)
        self.peer_rtcp = open_udp("127.0.0.1", 0)
        self.notices: list[MediaNotice] = []
        self.lease = ports.lease("127.0.0.1")
        spec = MediaSpec(
            call_id="c",
            signalling_address="127.0.0.1",
            media_allow=(allow,),
            hold_music=False,
        )
        handlers = RoomHandlers(notify=lambda notice: None)
        media = engine.open(spec, self.lease, handlers, self.notices.append)
        assert isinstance(media.carrier, SdkCarrier)
        assert isinstance(media.room, FakeRoom)
        self.carrier = media.carrier
        self.room = media.room
        self.sequence = 65530
        self.timestamp = 0xFFFF_FF00
        self.negotiated = Negotiated(
            remote_address="127.0.0.1",
            remote_port=self.peer.getsockname()[1],
            remote_rtcp_port=self.peer_rtcp.getsockname()[1],
            codec="PCMA",
            payload_type=8,
            receive_codecs=((8, "PCMA"), (0, "PCMU")),
            dtmf_payload_type=101,
            receive_dtmf_payload_type=96,
            ptime=20,
            send=True,
            receive=True,
            hold=None,
        )

    def run(self, seconds: float) -> None:
        """Let virtual time pass in slices of 5 ms."""
        for _ in range(round(seconds / 0.005)):
            self.clock.t += 0.005
            self.carrier.tick(self.clock.t)

    def heard(self) -> list[Packet]:
        """Return the RTP that has arrived at the carrier."""
        packets = []
        while True:
            try:
                packets.append(parse(self.peer.recv(2048)))
            except BlockingIOError:
                return packets

    async def say(self, payload: bytes, payload_type: int = 8, **changes: int) -> None:
        """Send one packet to the bridge and wait until it was read."""
        packet = Packet(payload_type, self.sequence, self.timestamp, 7, payload)
        await self.send(build(packet._replace(**changes)))
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + len(payload)) & 0xFFFF_FFFF

    async def send(self, data: bytes) -> None:
        before = self.counted
        self.peer.sendto(data, ("127.0.0.1", self.lease.port))
        await until(lambda: self.counted > before)

    @property
    def counted(self) -> int:
        stats = self.carrier.stats()
        return stats.packets_received + stats.packets_refused


async def until(happened: Callable[[], bool]) -> None:
    """Turn the loop until *happened*, for at most two seconds."""
    async with asyncio.timeout(2):
        while not happened():  # noqa: ASYNC110 (a socket becomes readable; there is no event)
            await asyncio.sleep(0.001)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ports(clock: Clock) -> Ports:
    return Ports("41000-41999", now=clock)


@pytest.fixture
async def engine(ports: Ports, clock: Clock) -> AsyncIterator[SdkEngine]:
    engine = SdkEngine(FakeRoom, ports, now=clock)  # type: ignore[arg-type]
    yield engine
    await engine.stop()


@pytest.fixture
async def line(engine: SdkEngine, ports: Ports, clock: Clock) -> AsyncIterator[Line]:
    line = Line(engine, ports, clock, "127.0.0.0/8")
    yield line
    line.peer.close()
    line.peer_rtcp.close()


async def test_nothing_leaves_before_the_gate_opens(line: Line) -> None:
    line.run(0.1)
    line.carrier.connect(line.negotiated)
    line.room.agent = TONE * 50
    line.run(1)
    assert line.heard() == []
    assert line.room.agent == b""


async def test_agent_audio_that_came_before_the_gate_is_never_played(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.room.agent = TONE * 10
    line.carrier.apply(TALKING)
    line.run(0.2)
    assert {packet.payload for packet in line.heard()} == {g711.silence("PCMA", 160)}


async def test_silence_goes_out_every_ptime_when_there_is_nothing_to_say(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(GATED)
    line.run(1)
    packets = line.heard()
    assert len(packets) == 50
    assert {packet.payload for packet in packets} == {b"\xd5" * 160}
    assert [packet.marker for packet in packets] == [True] + [False] * 49
    assert {packet.ssrc for packet in packets} == {line.lease.ssrc}
    steps = [(b.timestamp - a.timestamp) % 2**32 for a, b in itertools.pairwise(packets)]
    assert set(steps) == {160}


async def test_the_agent_is_heard_in_the_negotiated_law(line: Line) -> None:
    line.carrier.connect(replace(line.negotiated, codec="PCMU", payload_type=0))
    line.carrier.apply(TALKING)
    line.room.agent = TONE * 5
    line.run(0.1)
    packets = line.heard()
    assert [packet.payload for packet in packets] == [g711.encode("PCMU", TONE)] * 5
    assert {packet.payload_type for packet in packets} == {0}


async def test_the_caller_is_heard_in_either_law(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    for index in range(10):
        codec, payload_type = (("PCMA", 8), ("PCMU", 0))[index % 2]
        await line.say(g711.encode(codec, TONE), payload_type)
        line.run(0.02)
    heard = [pcm for pcm in line.room.pushed if pcm != SILENT_FRAME]
    assert set(heard) == {
        g711.decode(codec, g711.encode(codec, TONE)) for codec in ("PCMA", "PCMU")
    }
    assert len(line.room.pushed) == 10


async def test_hold_stops_everything_and_resume_goes_on_with_a_marker(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    line.run(0.2)
    before = line.heard()
    line.carrier.apply(SILENT)
    line.carrier.connect(replace(line.negotiated, send=False, hold=Hold.SENDONLY))
    for _ in range(50):
        line.room.agent += TONE
        line.run(0.02)
    assert line.heard() == []
    line.room.agent = TONE * 3
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    line.run(0.1)
    after = line.heard()
    assert len(after) == 5
    assert {packet.payload for packet in after} == {g711.silence("PCMA", 160)}
    assert after[0].marker
    assert not after[1].marker
    assert after[0].ssrc == before[0].ssrc
    assert after[0].sequence == (before[-1].sequence + 1) & 0xFFFF
    assert (after[0].timestamp - before[-1].timestamp) % 2**32 == 160 * 51

"""The SDK engine on loopback sockets and virtual time, with a room that is a list."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import pytest
import structlog

from bridge.media.carrier import SILENT_FRAME, SdkCarrier
from bridge.media.ports import Ports
from bridge.media.sdk import SdkEngine
from bridge.media.seam import (
    KeyPressed,
    MediaLevels,
    MediaNotice,
    MediaSpec,
    MediaTimedOut,
    Tap,
)
from bridge.room.seam import RoomHandlers
from rtp import g711, rtcp
from rtp.net.socket import open_udp
from rtp.packet import Packet, build, parse
from sdp.negotiated import Hold, Negotiated
from tests.unit.media.clock import Clock, until

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


class Line:
    """One call of the engine and the carrier at the other end of it."""

    def __init__(
        self, engine: SdkEngine, ports: Ports, clock: Clock, allow: str, host: str = "127.0.0.1"
    ) -> None:
        self.clock = clock
        self.peer = open_udp(host, 0)
        self.peer_rtcp = open_udp(host, 0)
        self.notices: list[MediaNotice] = []
        self.lease = ports.lease(host)
        spec = MediaSpec(
            call_id="c",
            signalling_address=host,
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
            remote_address=host,
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

    def hang_up(self) -> None:
        self.peer.close()
        self.peer_rtcp.close()

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

    async def say(self, payload: bytes, payload_type: int = 8) -> None:
        """Send one packet to the bridge and wait until it was read."""
        packet = Packet(payload_type, self.sequence, self.timestamp, 7, payload)
        await self.send(build(packet))
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + len(payload)) & 0xFFFF_FFFF

    async def send(self, data: bytes) -> None:
        before = self.counted
        self.peer.sendto(data, (self.lease.address, self.lease.port))
        await until(lambda: self.counted > before)

    @property
    def counted(self) -> int:
        stats = self.carrier.stats()
        return stats.packets_received + stats.packets_refused


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ports(clock: Clock) -> Ports:
    return Ports("30000-30499", now=clock)


@pytest.fixture
async def engine(ports: Ports, clock: Clock) -> AsyncIterator[SdkEngine]:
    engine = SdkEngine(FakeRoom, ports, now=clock)  # type: ignore[arg-type]
    yield engine
    await engine.stop()


@pytest.fixture
def dial(engine: SdkEngine, ports: Ports, clock: Clock) -> Iterator[Callable[[str], Line]]:
    """Make calls; their far ends are closed when the test ends."""
    lines: list[Line] = []

    def call(allow: str = "127.0.0.0/8") -> Line:
        lines.append(Line(engine, ports, clock, allow))
        return lines[-1]

    yield call
    for line in lines:
        line.hang_up()


@pytest.fixture
async def line(dial: Callable[[], Line]) -> Line:
    return dial()


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
    """Row 92. Contract 4, RTP: one packet per ptime always, one SSRC, one marker."""
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
    """Row 92. Hold rule 2.3: sending forbidden stops RTP. Failure 7.2: RTP during hold.

    RFC 3264 8.4; the same SSRC and sequence go on, the timestamp over the gap.
    """
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


async def test_what_came_before_the_gate_opened_is_not_heard_in_the_room(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(GATED)
    early = g711.encode("PCMA", TONE)
    for _ in range(10):
        await line.say(early)
        line.run(0.02)
    line.carrier.apply(TALKING)
    line.run(0.2)
    assert set(line.room.pushed) == {SILENT_FRAME}
    assert len(line.room.pushed) == 20


@pytest.mark.parametrize("ptime", [10, 20, 30, 40, 60])
async def test_every_packet_time_is_kept(line: Line, ptime: int) -> None:
    """Row 84. RFC 3551 4.2, RFC 8866 6.4."""
    line.carrier.connect(replace(line.negotiated, ptime=ptime))
    line.carrier.apply(TALKING)
    line.room.agent = TONE * 100
    line.run(1.2)
    packets = line.heard()
    assert len(packets) == 1200 // ptime
    assert {len(packet.payload) for packet in packets} == {ptime * 8}
    voice = b"".join(packet.payload for packet in packets)
    assert voice == g711.encode("PCMA", TONE) * 60


async def test_a_stall_gives_no_burst_and_audio_returns(line: Line) -> None:
    """Row 92. A steady clock with a limit to what is caught up."""
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    line.run(0.1)
    before = line.heard()
    line.clock.t += 0.5
    line.room.agent = TONE * 200
    line.carrier.tick(line.clock.t)
    burst = line.heard()
    assert 1 <= len(burst) <= 3
    assert burst[0].marker
    assert burst[0].sequence == (before[-1].sequence + 1) & 0xFFFF
    line.run(0.1)
    after = line.heard()
    assert len(after) == 5
    passed = (after[-1].timestamp - before[-1].timestamp) % 2**32
    assert passed == pytest.approx(0.6 * 8000, abs=160)
    assert after[-1].payload == g711.encode("PCMA", TONE)
    assert len(line.room.pushed) == 5 + len(burst) + 5


async def test_agent_audio_missed_during_a_stall_is_not_played_late(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    line.run(0.1)
    frames = [n.to_bytes(2, "little") * 160 for n in range(1000, 32000, 1000)]
    line.room.agent = b"".join(frames)
    line.clock.t += 0.5
    line.carrier.tick(line.clock.t)
    missed = 25 - 3
    played = [packet.payload for packet in line.heard()[5:]]
    assert played == [g711.encode("PCMA", pcm) for pcm in frames[missed : missed + 3]]


async def test_keys_of_the_caller_are_told_once(line: Line) -> None:
    """R1 7.1.18."""
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    for body in (b"\x05\x0a\x00\xa0", *[b"\x05\x8a\x03\x20"] * 3):
        await line.send(build(Packet(96, line.sequence, 4000, 7, body)))
        line.sequence += 1
        line.run(0.02)
    assert line.notices == [KeyPressed(digit="5", duration_ms=100)]
    assert set(line.room.pushed) == {SILENT_FRAME}


async def test_our_keys_interrupt_the_audio_and_the_marker_follows(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    line.run(0.1)
    line.carrier.send_dtmf("5")
    line.room.agent = TONE * 100
    line.run(0.5)
    packets = line.heard()
    events = [index for index, packet in enumerate(packets) if packet.payload_type == 101]
    assert events == list(range(5, 15))
    start = (packets[4].timestamp + 160) % 2**32
    assert {packets[index].timestamp for index in events} == {start}
    assert [packets[index].payload[1] & 0x80 for index in events][-4:] == [0, 128, 128, 128]
    assert [packets[index].marker for index in events] == [True] + [False] * 9
    assert packets[15].marker
    assert (packets[15].timestamp - start) % 2**32 == 1600
    assert [b.sequence - a.sequence for a, b in itertools.pairwise(packets)].count(1) >= 28
    voice = [packet.payload for packet in packets[15:]]
    assert voice == [g711.silence("PCMA", 160)] * 4 + [g711.encode("PCMA", TONE)] * 11


async def test_keys_are_dropped_by_a_hold_and_without_telephone_event(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    line.carrier.send_dtmf("123")
    line.carrier.apply(SILENT)
    line.carrier.send_dtmf("4")
    line.carrier.connect(replace(line.negotiated, dtmf_payload_type=None))
    line.carrier.apply(TALKING)
    line.carrier.send_dtmf("5")
    line.run(0.2)
    assert {packet.payload_type for packet in line.heard()} == {8}


async def test_keys_that_a_hold_interrupted_do_not_go_on_after_it(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    line.carrier.send_dtmf("123")
    line.run(0.1)
    line.heard()
    line.carrier.apply(SILENT)
    line.carrier.apply(TALKING)
    line.run(0.2)
    assert {packet.payload_type for packet in line.heard()} == {8}


async def test_agent_audio_is_thrown_away_as_it_comes_while_only_silence_may_go_out(
    line: Line,
) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(GATED)
    line.room.agent = TONE
    line.run(0.02)
    assert line.room.agent == b""


async def test_the_answer_opens_the_window_for_another_source(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    await line.say(b"\xd5" * 160)  # early media
    with open_udp("127.0.0.1", 0) as other:
        early, line.peer = line.peer, other
        for _ in range(4):
            await line.say(b"\xd5" * 160)
        assert line.carrier.stats().packets_received == 1
        line.carrier.apply(TALKING)
        for _ in range(4):
            await line.say(b"\xd5" * 160)
        assert line.carrier.stats().packets_received == 3
        line.run(0.02)
        assert len(line.heard()) == 1
        line.peer = early


@pytest.mark.parametrize("ever", [False, True])
async def test_silence_of_the_wire_is_told_once(line: Line, ever: bool) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(replace(TALKING, watchdog=2.0))
    if ever:
        line.run(1.5)
        await line.say(b"\xd5" * 160)
    line.run(1.9)
    assert line.notices == []
    line.run(1)
    assert line.notices == [MediaTimedOut(ever=ever)]


async def test_a_hold_suspends_the_watchdog_and_resume_starts_it_anew(line: Line) -> None:
    """Row 90. R1 7.1.6. Failure 7.2: hold longer than the media timeout. Failure 7.3: hold ends
    the session.
    """
    line.carrier.connect(line.negotiated)
    line.carrier.apply(replace(TALKING, watchdog=1.0))
    line.run(0.9)
    line.carrier.apply(SILENT)
    line.run(5)
    line.carrier.apply(replace(TALKING, watchdog=1.0))
    line.run(0.9)
    line.carrier.apply(replace(TALKING, watchdog=1.0))  # the same level again
    assert line.notices == []
    line.run(0.2)
    assert line.notices == [MediaTimedOut(ever=False)]


async def test_the_initial_limit_holds_until_the_first_rtp_and_the_other_after_it(
    line: Line,
) -> None:
    """Row 90. Two limits: until the first RTP, and later."""
    line.carrier.connect(line.negotiated)
    line.carrier.apply(replace(TALKING, watchdog=1.0, watchdog_initial=4.0))
    line.run(3.5)
    assert line.notices == []
    await line.say(b"\xd5" * 160)
    line.run(0.9)
    assert line.notices == []
    line.run(0.2)
    assert line.notices == [MediaTimedOut(ever=True)]


async def test_another_limit_counts_from_the_last_rtp_too(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(replace(TALKING, watchdog=5.0))
    await line.say(b"\xd5" * 160)
    line.run(1)
    line.carrier.apply(replace(TALKING, watchdog=2.0))
    line.run(0.9)
    assert line.notices == []
    line.run(0.2)
    assert line.notices == [MediaTimedOut(ever=True)]


async def test_rubbish_does_not_feed_the_watchdog(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(replace(TALKING, watchdog=0.2))
    for data in (b"", b"\x80", build(Packet(18, 1, 1, 7, b"x" * 20))):
        await line.send(data)
        line.run(0.08)
    assert line.notices == [MediaTimedOut(ever=False)]
    assert line.carrier.stats().packets_refused == 3


async def test_reports_go_out_from_the_answer_on_and_give_the_round_trip(line: Line) -> None:
    """Row 91. RFC 3550 6.4."""
    line.carrier.connect(line.negotiated)
    line.run(10)
    line.carrier.apply(SILENT)
    line.run(10)
    with pytest.raises(BlockingIOError):
        line.peer_rtcp.recv(2048)
    line.carrier.apply(TALKING)
    await line.say(b"\xd5" * 160)
    line.run(5)
    (report,) = rtcp.parse(line.peer_rtcp.recv(2048))
    assert isinstance(report, rtcp.Report)
    assert report.ssrc == line.lease.ssrc
    assert report.sender is not None
    assert [block.ssrc for block in report.blocks] == [7]
    answer = rtcp.ReportBlock(
        ssrc=report.ssrc,
        fraction_lost=0,
        cumulative_lost=0,
        highest_sequence=1,
        jitter=0,
        last_report=rtcp.middle(report.sender.ntp),
        delay=0,
    )
    data = rtcp.build(rtcp.Report(ssrc=7, sender=None, blocks=(answer,)), cname="x")
    with open_udp("127.0.0.2", 0) as stranger:
        stranger.sendto(data, ("127.0.0.1", line.lease.port))  # before the RTP, on its port
        await line.say(b"\xd5" * 160)
    assert line.carrier.stats().round_trip_ms is None
    line.peer_rtcp.sendto(data, ("127.0.0.1", line.lease.port + 1))
    await until(lambda: line.carrier.stats().round_trip_ms is not None)
    trip = line.carrier.stats().round_trip_ms
    assert trip is not None
    assert 0 < trip < 5000


async def test_loss_is_counted(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    await line.say(b"\xd5" * 160)
    line.sequence += 3
    await line.say(b"\xd5" * 160)
    stats = line.carrier.stats()
    assert (stats.packets_received, stats.packets_lost, stats.packets_sent) == (2, 3, 0)


async def test_what_comes_after_its_turn_is_counted_as_late(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    for _ in range(4):
        await line.say(b"\xd5" * 160)
        line.run(0.02)
    line.sequence = (line.sequence + 1) & 0xFFFF
    line.timestamp = (line.timestamp + 160) & 0xFFFF_FFFF
    await line.say(b"\xd5" * 160)
    line.run(0.12)
    assert line.carrier.stats().packets_late == 0
    line.sequence = (line.sequence - 2) & 0xFFFF
    line.timestamp = (line.timestamp - 320) & 0xFFFF_FFFF
    await line.say(b"\xd5" * 160)
    stats = line.carrier.stats()
    assert (stats.packets_late, stats.packets_lost) == (1, 0)


async def test_we_follow_the_source_that_was_latched(line: Line) -> None:
    elsewhere = replace(line.negotiated, remote_address="127.0.0.9", remote_port=9)
    line.carrier.connect(elsewhere)
    line.carrier.apply(TALKING)
    line.run(0.1)
    assert line.heard() == []
    for _ in range(3):
        await line.say(b"\xd5" * 160)
    line.run(0.1)
    assert len(line.heard()) == 5


async def test_ipv6_carries_calls_as_well(engine: SdkEngine, ports: Ports, clock: Clock) -> None:
    line = Line(engine, ports, clock, "::1/128", "::1")
    line.carrier.connect(replace(line.negotiated, remote_address="0:0:0:0:0:0:0:1"))
    line.carrier.apply(TALKING)
    for _ in range(5):
        await line.say(g711.encode("PCMA", TONE))
        line.run(0.02)
    assert len(line.heard()) == 5
    assert line.room.pushed[-1] != SILENT_FRAME
    line.hang_up()


async def test_loopback_is_refused_unless_allowed(dial: Callable[[str], Line]) -> None:
    line = dial("192.0.2.0/24")
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    for _ in range(4):
        await line.say(b"\xd5" * 160)
    line.run(0.1)
    assert line.heard() == []
    assert line.carrier.stats().packets_refused == 4


async def test_a_peer_that_is_gone_does_not_stop_us(line: Line) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    line.peer.close()
    line.run(0.2)
    assert line.carrier.stats().packets_sent == 10


async def test_the_error_of_one_call_stays_with_it(dial: Callable[[], Line], clock: Clock) -> None:
    line, other = dial(), dial()
    line.room.fail = True
    with structlog.testing.capture_logs() as logs:
        for each in (line, other):
            each.carrier.connect(each.negotiated)
            each.carrier.apply(TALKING)
        for _ in range(20):
            clock.t += 0.005
            line.carrier.tick(clock.t)
            other.carrier.tick(clock.t)
    assert len(line.heard()) == 5  # the other direction goes on
    assert len(other.heard()) == 5
    assert len(other.room.pushed) == 5
    assert [entry["failures"] for entry in logs] == [1, 2, 4]
    assert {entry["event"] for entry in logs} == {"media.call_failed"}


class Follower:
    """A recording that only notes what it is to follow."""

    def __init__(self) -> None:
        self.taps: list[Tap] = []

    def follow(self, tap: Tap) -> None:
        self.taps.append(tap)


async def test_what_is_recorded_is_what_was_heard_and_sent_and_silence_in_a_hold(
    line: Line,
) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    line.run(0.1)
    recording = Follower()
    line.carrier.record(recording)
    (tap,) = recording.taps
    for _ in range(10):
        await line.say(b"\x2a" * 160)
        line.room.agent += TONE
        line.run(0.02)
    line.carrier.apply(SILENT)
    line.room.agent = TONE * 50
    await line.say(b"\x2a" * 160)
    line.run(1.0)
    left, right, dropped = tap.finish()
    assert dropped == 0
    assert abs(len(left) / 16_000 - 1.2) < 0.03
    heard = {left[n : n + 2] for n in range(0, 4_800, 2)}
    assert len(heard - {b"\0\0"}) == 1  # the caller's only sample
    assert right.count(TONE) == 10
    assert set(left[-12_800:]) == {0}
    assert set(right[-12_800:]) == {0}


async def test_closing_gives_the_ports_back_to_rest(
    engine: SdkEngine, ports: Ports, line: Line
) -> None:
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    assert engine.clock().calls == 1
    await line.carrier.close()
    await line.carrier.close()
    line.run(0.1)
    assert line.heard() == []
    assert line.lease.rtp.fileno() == -1
    assert ports.is_own("127.0.0.1", line.lease.port)
    assert engine.clock().calls == 0


async def test_the_clock_of_the_engine_carries_many_calls_in_real_time() -> None:
    ports = Ports("30500-30999")
    engine = SdkEngine(FakeRoom, ports)  # type: ignore[arg-type]
    await engine.start()
    clock = Clock()
    lines = [Line(engine, ports, clock, "127.0.0.0/8") for _ in range(8)]
    for line in lines:
        line.carrier.connect(line.negotiated)
        line.carrier.apply(TALKING)
    await until(lambda: all(line.carrier.stats().packets_sent >= 15 for line in lines))
    turns = engine.clock().turns
    await engine.stop()
    sent = [line.carrier.stats().packets_sent for line in lines]
    assert max(sent) - min(sent) <= 2
    assert turns >= 40
    assert engine.clock().calls == 0
    for line in lines:
        assert len(line.heard()) >= 15
        line.hang_up()

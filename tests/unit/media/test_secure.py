"""SRTP in the SDK engine, and RTCP's last words, on loopback sockets and virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import structlog

from bridge.media.carrier import SILENT_FRAME, UNAUTHENTIC_SAID_AT
from bridge.media.sdk import SdkEngine
from bridge.media.seam import MediaTimedOut
from rtp import g711, rtcp
from rtp.net.srtp import Key, Receiver, Sender
from rtp.packet import Packet, build, parse
from sdp.crypto import SUITES, Crypto, MasterKey
from tests.unit.media.test_sdk import (
    SILENT,
    TALKING,
    TONE,
    Line,
    clock,
    dial,
    engine,
    line,
    ports,
    until,
)

pytestmark = pytest.mark.unit

__all__ = ["clock", "dial", "engine", "line", "ports"]  # fixtures

SUITE = "AES_CM_128_HMAC_SHA1_80"


def secret(seed: int, suite: str = SUITE) -> bytes:
    return random.Random(seed).randbytes(SUITES[suite])


def agreed(theirs: int = 2, suite: str = SUITE) -> Crypto:
    return Crypto(
        suite=suite,
        send=MasterKey(secret=secret(1, suite)),
        receive=(MasterKey(secret=secret(theirs, suite)),),
    )


class Far:
    """The far end's SRTP, on the sockets of a `Line`."""

    def __init__(self, line: Line, *, theirs: int = 2, suite: str = SUITE) -> None:
        self.line = line
        self.out = Sender(suite, Key(secret=secret(theirs, suite)))
        self.opens = Receiver(suite, [Key(secret=secret(1, suite))])

    def connect(self, crypto: Crypto | None) -> None:
        self.line.carrier.connect(replace(self.line.negotiated, crypto=crypto))

    async def say(self, payload: bytes) -> None:
        packet = Packet(8, self.line.sequence, self.line.timestamp, 7, payload)
        data = self.out.rtp(build(packet))
        assert data is not None
        await self.line.send(data)
        self.line.sequence = (self.line.sequence + 1) & 0xFFFF
        self.line.timestamp = (self.line.timestamp + len(payload)) & 0xFFFF_FFFF

    def raw(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.line.peer.recv(2048))
            except BlockingIOError:
                return found

    def heard(self) -> list[Packet]:
        packets = [self.opens.rtp(data, 0.0) for data in self.raw()]
        assert None not in packets, "not authentic"
        return [parse(packet) for packet in packets if packet is not None]


@pytest.mark.parametrize("suite", SUITES)
async def test_audio_and_reports_are_protected_both_ways(line: Line, suite: str) -> None:
    """Rows 68, 91. RFC 3711 3.3, 3.4."""
    far = Far(line, suite=suite)
    far.connect(agreed(suite=suite))
    line.carrier.apply(TALKING)
    line.room.agent = TONE * 10
    for _ in range(10):
        await far.say(g711.encode("PCMA", TONE))
        line.run(0.02)
    assert {packet.payload for packet in far.heard()} == {g711.encode("PCMA", TONE)}
    assert line.room.pushed[-1] != SILENT_FRAME
    line.run(5)
    report = line.peer_rtcp.recv(2048)
    opened = far.opens.rtcp(report, 0.0)
    assert opened is not None
    assert isinstance(rtcp.parse(opened)[0], rtcp.Report)
    control = far.out.rtcp(_answer_to(opened))
    assert control is not None
    line.peer_rtcp.sendto(_answer_to(opened), ("127.0.0.1", line.lease.port + 1))  # plain
    line.peer_rtcp.sendto(control, ("127.0.0.1", line.lease.port + 1))
    await until(lambda: line.carrier.stats().round_trip_ms is not None)
    assert line.carrier.stats().packets_unauthentic == 1


def _answer_to(report: bytes) -> bytes:
    (theirs,) = rtcp.parse(report)
    assert isinstance(theirs, rtcp.Report)
    assert theirs.sender is not None
    block = rtcp.ReportBlock(
        ssrc=theirs.ssrc,
        fraction_lost=0,
        cumulative_lost=0,
        highest_sequence=1,
        jitter=0,
        last_report=rtcp.middle(theirs.sender.ntp),
        delay=0,
    )
    return rtcp.build(rtcp.Report(ssrc=7, sender=None, blocks=(block,)), cname="x")


async def test_what_is_not_authentic_latches_nothing_and_is_no_sign_of_life(line: Line) -> None:
    """Row 80. Threat 5.1: RTP bleed. Authentication goes before the latch."""
    far = Far(line)
    line.negotiated = replace(line.negotiated, remote_address="127.0.0.9", remote_port=9)
    far.connect(agreed())
    line.carrier.apply(replace(TALKING, watchdog=1.0))
    with structlog.testing.capture_logs() as logs:
        for _ in range(UNAUTHENTIC_SAID_AT + 10):
            await line.say(b"\xd5" * 160)  # in the latch window, with numbers that go on
            line.run(0.02)
    assert far.raw() == []
    assert line.notices == [MediaTimedOut(ever=False)]
    stats = line.carrier.stats()
    assert stats.packets_received == 0
    assert stats.packets_unauthentic == stats.packets_refused == UNAUTHENTIC_SAID_AT + 10
    assert [entry["event"] for entry in logs] == ["media.not_authentic"]
    for _ in range(3):
        await far.say(b"\xd5" * 160)
    line.run(0.1)
    assert len(far.heard()) == 5, "an authentic source is latched after three"


async def test_reports_that_are_not_authentic_count_for_the_one_line_of_the_log(
    line: Line,
) -> None:
    far = Far(line)
    far.connect(agreed())
    line.carrier.apply(TALKING)
    with structlog.testing.capture_logs() as logs:
        for _ in range(UNAUTHENTIC_SAID_AT - 1):
            await line.say(b"\xd5" * 160)
            line.run(0.02)
        plain = rtcp.build(rtcp.Report(ssrc=7, sender=None, blocks=()), cname="x")
        line.peer_rtcp.sendto(plain, ("127.0.0.1", line.lease.port + 1))
        await until(lambda: line.carrier.stats().packets_unauthentic == UNAUTHENTIC_SAID_AT)
        await line.say(b"\xd5" * 160)
    assert [entry["event"] for entry in logs] == ["media.not_authentic"]


async def test_a_hold_over_the_wrap_keeps_ssrc_sequence_and_rollover_counter(line: Line) -> None:
    """Hold rule 2.3: SRTP, sequence and timestamp are kept, so that resume goes on."""
    far = Far(line)
    line.carrier._stream.sequence = 65530
    far.connect(agreed())
    line.carrier.apply(TALKING)
    line.run(0.08)
    before = far.heard()
    line.carrier.apply(SILENT)
    far.connect(agreed())
    line.run(3)
    assert far.raw() == []
    far.connect(agreed())
    line.carrier.apply(TALKING)
    line.run(0.2)
    after = far.heard()
    sequences = [packet.sequence for packet in before + after]
    assert sequences == [(65530 + n) & 0xFFFF for n in range(len(sequences))]
    assert len(before) < 6 < 10 < len(sequences), "it wraps after the hold"
    assert {packet.ssrc for packet in before + after} == {line.lease.ssrc}
    assert after[0].marker


async def test_a_key_of_theirs_that_changes_leaves_ours_alone(line: Line) -> None:
    """RFC 4568 7.1.4: re-keying by a re-INVITE."""
    far = Far(line)
    far.connect(agreed())
    line.carrier.apply(TALKING)
    for _ in range(8):  # over the wrap of theirs
        await far.say(b"\xd5" * 160)
    line.run(0.1)
    assert len(far.heard()) == 5
    far.connect(agreed(theirs=3))
    await far.say(b"\xd5" * 160)  # under way when the key changed
    far.out = Sender(SUITE, Key(secret=secret(3)))
    await far.say(b"\xd5" * 160)
    line.run(0.1)
    assert len(far.heard()) == 5
    assert line.carrier.stats().packets_unauthentic == 0


async def test_plain_rtp_in_between_never_lets_a_key_stream_come_again(line: Line) -> None:
    far = Far(line)
    far.connect(agreed())
    line.carrier.apply(TALKING)
    line.run(0.1)
    first = far.heard()
    with structlog.testing.capture_logs() as logs:
        far.connect(None)
        far.connect(None)
    assert [entry["event"] for entry in logs] == ["media.unsecured"]
    line.run(0.1)
    assert [parse(data).payload_type for data in far.raw()] == [8] * 5
    far.connect(agreed())
    line.run(0.1)
    again = far.heard()
    assert [packet.sequence for packet in again] == [
        (first[-1].sequence + 6 + step) & 0xFFFF for step in range(5)
    ]


async def test_another_suite_and_back_goes_on_with_each_key(line: Line) -> None:
    far, other = Far(line), Far(line, suite="AEAD_AES_256_GCM")
    far.connect(agreed())
    line.carrier.apply(TALKING)
    line.run(0.1)
    assert len(far.heard()) == 5
    far.connect(agreed(suite="AEAD_AES_256_GCM"))
    line.run(0.1)
    assert len(other.heard()) == 5
    far.connect(agreed())
    line.run(0.1)
    assert len(far.heard()) == 5


@pytest.mark.parametrize("protected", [False, True])
async def test_our_stream_ends_with_a_goodbye_when_it_ever_began(
    dial: Callable[[], Line],
    protected: bool,
) -> None:
    """Row 91. RFC 3550 6.3.7, 6.6."""
    silent, talked = dial(), dial()
    far = Far(talked)
    for one in (silent, talked):
        one.carrier.connect(replace(one.negotiated, crypto=agreed() if protected else None))
    talked.carrier.apply(TALKING)
    talked.run(0.1)
    for one in (silent, talked):
        await one.carrier.close()
    with pytest.raises(BlockingIOError):
        silent.peer_rtcp.recv(2048)
    data: bytes | None = talked.peer_rtcp.recv(2048)
    if protected:
        assert data is not None
        data = far.opens.rtcp(data, 0.0)
    assert data is not None
    report, goodbye = rtcp.parse(data)
    assert isinstance(report, rtcp.Report)
    assert goodbye == rtcp.Goodbye(ssrcs=(talked.lease.ssrc,))


def _reports(line: Line) -> list[rtcp.Report]:
    found: list[rtcp.Report] = []
    while True:
        try:
            data = line.peer_rtcp.recv(2048)
        except BlockingIOError:
            return found
        found += [packet for packet in rtcp.parse(data) if isinstance(packet, rtcp.Report)]


async def test_reports_go_on_while_the_line_is_held_but_never_to_a_zero_address(
    line: Line,
) -> None:
    """Row 91. RFC 3264 5.1, 8.4: directions are about RTP; c=0.0.0.0 takes no RTCP either."""
    line.carrier.connect(line.negotiated)
    line.carrier.apply(TALKING)
    line.run(12)
    talking = _reports(line)
    assert talking
    assert all(report.sender is not None for report in talking)
    line.carrier.apply(SILENT)
    line.heard()
    line.run(30)
    held = _reports(line)
    assert len(held) >= 4
    # RFC 3550 6.4: a receiver report when nothing was sent lately.
    assert [report.sender for report in held[2:]] == [None] * len(held[2:])
    assert line.heard() == []
    zero = replace(line.negotiated, remote_address="0.0.0.0", remote_rtcp_port=0)
    line.carrier.connect(zero)
    line.run(30)
    assert _reports(line) == []


async def test_their_goodbye_is_not_the_end_of_the_call(line: Line) -> None:
    """Row 91. RFC 3550 6.6: a BYE ends a source, as a transfer does; the call is SIP's."""
    line.carrier.connect(line.negotiated)
    line.carrier.apply(replace(TALKING, watchdog=2.0))
    await line.say(b"\xd5" * 160)
    report = rtcp.Report(ssrc=7, sender=None, blocks=())
    before = line.carrier._reporter.goodbye
    line.peer_rtcp.sendto(rtcp.build_last(report, cname="x"), ("127.0.0.1", line.lease.port + 1))
    await until(lambda: line.carrier._reporter.goodbye is not before)
    line.run(1)
    await line.say(b"\xd5" * 160)
    line.run(1.5)
    assert line.notices == []
    assert line.carrier.stats().packets_received == 2


async def test_rtp_before_the_answer_and_after_the_end_reaches_nobody(
    line: Line,
    engine: SdkEngine,
) -> None:
    """Row 89. What comes before a session is known is dropped; a port that was used rests."""
    packet = build(Packet(8, 1, 160, 7, b"\xd5" * 160))
    line.peer.sendto(packet, ("127.0.0.1", line.lease.port))
    await until(lambda: _empty(line))
    line.carrier.connect(line.negotiated)
    assert line.counted == 0
    await line.carrier.close()
    line.peer.sendto(packet, ("127.0.0.1", line.lease.port))
    assert line.counted == 0
    assert engine.clock().calls == 0


def _empty(line: Line) -> bool:
    """Tell whether the bridge has read all that came: then there is nothing to peek at."""
    import select

    return not select.select([line.lease.rtp], [], [], 0)[0]

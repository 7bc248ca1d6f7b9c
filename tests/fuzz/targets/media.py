"""RTP and RTCP: single datagrams, and the receive path over many of them."""

from __future__ import annotations

from contextlib import suppress

from bridge.room.mix import CAPACITY, TrackBuffer, mix
from rtp import rtcp
from rtp.dtmf import KEYS, MAX_QUEUED, DtmfReceiver, DtmfSender, EventFrame, Pause
from rtp.jitter import MAX_PACKETS
from rtp.latch import MAX_CANDIDATES, Latch, networks
from rtp.packet import RtpError, Stream, build, is_rtcp, parse, timestamp_distance
from rtp.receiver import Receiver
from rtp.report import Reporter
from tests.fuzz.target import Meter, Target
from tests.unit.fuzz import corpus
from tests.unit.fuzz.mutate import BINARY, Script, mutated

MOST_DATAGRAMS = 80
PEER = "182.76.143.61"
SOURCES = ((PEER, 4000), (PEER, 4002), ("182.76.143.9", 9), ("::1", 1), ("", 0), ("x", 70000))
PAUSES = (0.0, 0.02, 0.02, 0.0001, 0.061, 0.2, 2.5, 100.0)


def datagram(data: bytes, meter: Meter) -> None:
    """One packet of each kind: what was read is written and read again as the same."""
    with suppress(RtpError), meter:
        packet = parse(data)
        again = build(packet)
        assert parse(again) == packet
        assert len(again) <= len(data)
        assert len(again) == len(data) or data[0] & 0x20, "only padding is lost"
        assert -(2**31) <= timestamp_distance(packet.timestamp, 7) < 2**31
    with suppress(rtcp.RtcpError), meter:
        for found in rtcp.parse(data):
            if isinstance(found, rtcp.Report):
                # The sender's own middle 32 bits make the same packet.
                compound = rtcp.build(found, cname="x")
                assert is_rtcp(compound)
                assert rtcp.parse(compound)[0] == found
                for block in found.blocks:
                    trip = rtcp.round_trip(block, 1e6)
                    assert trip is None or 0 <= trip < 60
    keys = DtmfReceiver()
    for at in range(0, min(len(data), 400), 4):
        with meter:
            keys.receive(ssrc=1, timestamp=at // 16, payload=data[at : at + 4], now=at / 100)
            keys.poll(at / 100)
    assert all(key.digit in KEYS and key.duration_ms >= 0 for key in keys.keys)
    assert len(keys.keys) <= MAX_QUEUED


def reception(data: bytes, meter: Meter) -> None:
    """The bytes are decisions: datagrams, sources, pauses, pulls, re-INVITEs, keys to send."""
    script = Script(data)
    latch = Latch(signalling=PEER, allow=networks(["182.76.143.0/24"]), own=lambda _h, p: p == 9)
    receiver = Receiver(latch, target_ms=script.one_of((40, 20, 100)))
    stream = Stream(ssrc=1, sequence=65535, timestamp=2**32 - 1)
    reporter = Reporter(stream=stream, reception=receiver.reception, cname="x")
    sender, tracks = DtmfSender(), [TrackBuffer(), TrackBuffer()]
    now, sequence = 5.0, 65530
    receiver.expect({8: "PCMA", 0: "PCMU"}, 101)
    for _ in range(MOST_DATAGRAMS):
        if script.at >= len(data):
            break
        now += script.one_of(PAUSES)
        command(script, latch, receiver, sender, now)
        said = mutated(script.one_of(corpus.RTP), script, corpus.RTP, kinds=BINARY)
        if script.below(2):  # in sequence, so that it gets as far as the buffer
            sequence += script.one_of((1, 1, 1, 1, 2, 0, -1, 40, -3000, 9000))
            said = audio(script, sequence)
        source = script.one_of(SOURCES)
        with meter:
            receiver.receive(said, source, now)
            reporter.receive(said, now)
        with meter:
            pull(script, receiver, tracks, now)
        talk(script, stream, sender)
        if reporter.due(now):
            rtcp.parse(reporter.build(now))
        bounded(receiver, latch, source)


def command(
    script: Script, latch: Latch, receiver: Receiver, sender: DtmfSender, now: float
) -> None:
    """What a re-INVITE or the room may do at any time."""
    match script.below(16):
        case 1:
            latch.expect(*script.one_of(SOURCES[:4]), now)
            receiver.expect({8: "PCMA", 0: "PCMU"}, 101)
        case 2:
            latch.open(now)
        case 3:
            receiver.expect({0: "PCMU"}, None)
        case 4:
            sender.send("12w#?\u0661" * script.below(60))
        case 5:
            sender.clear()
        case _:
            pass


def audio(script: Script, sequence: int) -> bytes:
    length = script.one_of((160, 160, 80, 480, 1600, 0, 4, 1601))
    kind = script.one_of((8, 8, 0, 101, 13))
    stamp = (sequence * script.one_of((160, 160, 160, 80, 777))) & 0xFFFFFFFF
    head = b"\x80" + bytes([kind]) + (sequence & 0xFFFF).to_bytes(2) + stamp.to_bytes(4)
    payload = bytes(script.byte() for _ in range(4)) if kind == 101 else b"\xd5" * length
    return head + b"\0\0\0" + bytes([script.one_of((7, 7, 7, 8))]) + payload


def pull(script: Script, receiver: Receiver, tracks: list[TrackBuffer], now: float) -> None:
    if not script.below(3):
        return
    samples = script.one_of((160, 160, 80, 240, 480))
    frame = receiver.frame(samples, now)
    assert frame is None or len(frame) == 2 * samples
    for key in receiver.keys(now):
        assert key.digit in KEYS
        assert key.duration_ms >= 0
    script.one_of(tracks).push(bytes(2 * script.below(1000)))
    assert all(track.buffered <= CAPACITY for track in tracks)
    mixed = mix(tracks, 2 * samples)
    assert mixed is None or len(mixed) == 2 * samples


def talk(script: Script, stream: Stream, sender: DtmfSender) -> None:
    """Send what is due; it must be RTP."""
    frame = sender.next_frame(stream.timestamp, 160)
    match frame:
        case EventFrame():
            data = stream.event(
                101, frame.payload, timestamp=frame.timestamp, marker=frame.marker, samples=160
            )
        case Pause() | None:
            data = stream.packet(8, b"\xd5" * 160, 160)
    assert parse(data).ssrc == 1


def bounded(receiver: Receiver, latch: Latch, source: tuple[str, int]) -> None:
    assert receiver.buffer.depth_ms <= 400
    assert len(receiver.buffer._packets) <= MAX_PACKETS
    assert len(latch._candidates) <= MAX_CANDIDATES
    assert len(receiver._dtmf.keys) <= MAX_QUEUED
    assert 0 <= receiver.reception.fraction_lost() <= 255
    assert 0 <= receiver.reception.jitter < 2**31
    assert -(2**23) <= receiver.reception.cumulative_lost < 2**23


TARGETS = (
    Target(name="datagram", run=datagram, seeds=lambda: corpus.RTP[::40], longest=1500),
    Target(
        name="reception",
        run=reception,
        seeds=lambda: [bytes(range(start, start + 100)) for start in (0, 50, 100, 150)],
        longest=1200,
        share=2,
    ),
)

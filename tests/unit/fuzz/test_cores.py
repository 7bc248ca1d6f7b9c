"""100,000 random, mutated and truncated inputs raise nothing out of the pure cores.

Each Hypothesis example is a script of bytes that decides on `BATCH` inputs; every
test counts what it fed, and the counts are added up in `QUOTAS`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from bridge.room.mix import CAPACITY, TrackBuffer, mix
from bridge.sip.framing import Broken, StreamFramer
from bridge.sip.grammar import ParseError
from bridge.sip.message import MAX_MESSAGE, parse, response_to
from rtp import rtcp
from rtp.dtmf import MAX_QUEUED, DtmfReceiver
from rtp.jitter import MAX_PACKETS, JitterBuffer
from rtp.latch import MAX_CANDIDATES, Latch, networks
from rtp.packet import RtpError, Stream
from rtp.packet import parse as parse_rtp
from rtp.receiver import Receiver
from rtp.reception import Reception
from rtp.report import Reporter
from sdp.model import Direction, SdpError
from sdp.negotiate import Answer, OfferAnswer, Rejected
from sdp.parse import parse as parse_sdp
from tests.unit.fuzz import corpus
from tests.unit.fuzz.mutate import BINARY, Script, mutated
from tests.unit.fuzz.rig import STEPS, Rig
from tests.unit.fuzz.stages import OFFER_STATES, STAGES, machine_in, set_up, use

pytestmark = [pytest.mark.unit, pytest.mark.timeout(300)]

BATCH = 50
SCRIPTS = st.binary(min_size=32 * BATCH, max_size=32 * BATCH).map(Script)
FIXED = bytes(range(256)) * (32 * BATCH // 256)

TRANSPORTS = ("tcp", "udp")
# Examples of each test; times BATCH inputs.
PARSERS, FRAMERS, ENDPOINTS = 350, 250, 40
DESCRIPTIONS, OFFERS = 200, 100
DATAGRAMS, PIECES = 300, 200
QUOTAS = {
    "parse": 2 * PARSERS,
    "framer": FRAMERS,
    "endpoint": ENDPOINTS * len(STAGES) * len(TRANSPORTS),
    "sdp": DESCRIPTIONS,
    "offer/answer": OFFERS * len(OFFER_STATES),
    "rtp": DATAGRAMS,
    "pieces": PIECES,
}

Body = Callable[[Script], int]


def fuzz(examples: int, body: Body) -> None:
    """Run *body* on *examples* scripts; it returns how many inputs it fed."""
    fed = 0

    @settings(
        max_examples=examples,
        deadline=None,
        print_blob=True,
        # A failing script is short work to replay by its blob; shrinking takes minutes.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(script=SCRIPTS)
    @example(script=Script(b""))
    @example(script=Script(FIXED))
    @example(script=Script(FIXED[::-1]))
    def run(script: Script) -> None:
        nonlocal fed
        fed += body(Script(script.data))

    run()
    assert fed >= examples * BATCH


def test_the_quotas_add_up_to_100_000_inputs() -> None:
    assert sum(QUOTAS.values()) * BATCH >= 100_000


# SIP messages


def parse_all(script: Script) -> int:
    for _ in range(BATCH):
        data = mutated(script.one_of(corpus.SIP), script, corpus.SIP)
        try:
            use(parse(data))
        except ParseError as error:
            if error.request is not None:
                response_to(error.request, error.status, to_tag="t").encode()
    return BATCH


@pytest.mark.parametrize("half", [1, 2])
def test_no_sip_message_raises_anything_but_parse_error(half: int) -> None:
    """Threat 5.1: Malformed messages."""
    fuzz(PARSERS, parse_all)


def frame_all(script: Script) -> int:
    framer = StreamFramer()
    for _ in range(BATCH):
        data = mutated(script.one_of(corpus.SIP), script, corpus.SIP, most=2)
        size = script.one_of((len(data), 1 + len(data) // 3, 700, 64, 7, 1))
        size = max(size, 1 + len(data) // 200)
        for at in range(0, len(data), size):
            for frame in framer.feed(data[at : at + size]):
                assert not isinstance(frame, bytes) or len(frame) <= MAX_MESSAGE
                assert not isinstance(frame, Broken) or framer.broken
        assert len(framer._buffer) <= MAX_MESSAGE + size
        if framer.broken:
            framer = StreamFramer()
    return BATCH


def test_no_stream_however_cut_raises_out_of_the_framer() -> None:
    """Threat 5.1: Malformed messages."""
    fuzz(FRAMERS, frame_all)


# The endpoint


def endpoint_at(stage: str, transport: str) -> Body:
    def run(script: Script) -> int:
        rig = Rig(script, transport)
        set_up(rig, stage)
        for _ in range(BATCH):
            data = rig.proposal() if script.below(4) < 3 else script.one_of(corpus.SIP)
            most = script.one_of((0, 0, 1, 2))
            hurt = mutated(data, script, (*corpus.EXOTEL, data), most=most)
            rig.said.append(data)
            flow = script.one_of((rig.flow, rig.flow, rig.flow, rig.other, rig.stranger))
            cut = script.place(hurt) if flow.reliable and script.below(4) == 3 else 0
            if cut:
                rig.receive(hurt[:cut], flow)
            if flow.id in rig.living or not flow.reliable:
                rig.receive(hurt[cut:], flow)
            match script.below(8):
                case 1 | 2:
                    rig.wait(script.one_of(STEPS))
                case 3 | 4:
                    rig.command()
                case 5:
                    rig.lose(script.one_of((rig.flow, rig.other)))
                    rig.run()
                case 6:
                    rig.network = script.below(4) > 0
                case _:
                    pass
            rig.check()
        rig.finish()
        return BATCH

    return run


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("stage", STAGES)
def test_nothing_said_to_the_endpoint_raises_or_stays(stage: str, transport: str) -> None:
    """Threat 5.1: Malformed messages."""
    fuzz(ENDPOINTS, endpoint_at(stage, transport))


# SDP


def describe(script: Script) -> int:
    for _ in range(BATCH):
        with suppress(SdpError):
            parse_sdp(mutated(script.one_of(corpus.SDP), script, corpus.SDP))
    return BATCH


def test_no_sdp_raises_anything_but_sdp_error() -> None:
    fuzz(DESCRIPTIONS, describe)


def exchange(machine: OfferAnswer, script: Script) -> None:
    """Give the machine one body, as an offer or as an answer."""
    data = mutated(script.one_of(corpus.SDP), script, corpus.SDP)
    before = machine.snapshot()
    match script.below(4):
        case 0 | 1:
            result = machine.receive_offer(data)
        case 2:
            result = machine.receive_answer(data)
        case _:
            result = machine.receive_answer(data, early=True)
    if isinstance(result, Rejected):
        assert 400 <= result.status < 500
        assert machine.snapshot() == before
        return
    settled = result.negotiated if isinstance(result, Answer) else result
    assert 0 <= settled.remote_port <= 65535
    assert 0 <= settled.payload_type <= 127
    assert settled.codec in ("PCMA", "PCMU")
    assert settled.remote_address != "10.0.0.1"
    assert 0 < settled.ptime <= 200
    if isinstance(result, Answer):
        answer = parse_sdp(result.body)
        # RFC 3264 6: "For each "m=" line in the offer, there MUST be a corresponding "m="
        # line in the answer."
        assert len(answer.media) == len(parse_sdp(data).media)


def negotiate_from(state: str) -> Body:
    def run(script: Script) -> int:
        machine = machine_in(state)
        for _ in range(BATCH):
            exchange(machine, script)
            match script.below(8):
                case 1:
                    parse_sdp(machine.offer(script.one_of(tuple(Direction))))
                case 2:
                    machine.rollback()
                case 3:
                    machine = machine_in(state)
                case _:
                    pass
        return BATCH

    return run


@pytest.mark.parametrize("state", OFFER_STATES)
def test_no_offer_or_answer_raises_or_half_changes_the_session(state: str) -> None:
    fuzz(OFFERS, negotiate_from(state))


# RTP

SOURCES = (("182.76.143.61", 4000), ("182.76.143.61", 4002), ("182.76.143.9", 9), ("::1", 1))
PAUSES = (0.0, 0.02, 0.02, 0.0001, 0.061, 0.2, 2.5, 100.0)


def listen(script: Script) -> int:
    """Feed datagrams to a whole receive path, pull frames and keys, send reports."""
    latch = Latch(signalling=PEER, allow=networks(["182.76.143.0/24"]), own=lambda _h, p: p == 9)
    receiver = Receiver(latch, target_ms=script.one_of((40, 20, 100)))
    stream = Stream(ssrc=1, sequence=65535, timestamp=2**32 - 1)
    reporter = Reporter(stream=stream, reception=receiver.reception, cname="x")
    now, sequence = 5.0, 65530
    for _ in range(BATCH):
        now += script.one_of(PAUSES)
        match script.below(16):
            case 1:
                latch.expect(*script.one_of(SOURCES), now)
                receiver.expect({8: "PCMA", 0: "PCMU"}, 101)
            case 2:
                latch.open(now)
            case 3:
                receiver.expect({0: "PCMU"}, None)
            case _:
                pass
        data = mutated(script.one_of(corpus.RTP), script, corpus.RTP, kinds=BINARY)
        if script.below(2):  # in sequence, so that it gets as far as the buffer
            sequence += script.one_of((1, 1, 1, 1, 2, 0, -1, 40))
            length = script.one_of((160, 160, 80, 480, 1600, 0, 1601))
            kind = script.one_of((8, 8, 0, 101, 13))
            stamp = (sequence * script.one_of((160, 160, 160, 80, 777))) & 0xFFFFFFFF
            data = b"\x80" + bytes([kind]) + (sequence & 0xFFFF).to_bytes(2) + stamp.to_bytes(4)
            data += b"\0\0\0\7" + bytes(length)
        receiver.receive(data, script.one_of(SOURCES), now)
        reporter.receive(data, now)
        if script.below(2):
            samples = script.one_of((160, 160, 80, 240, 480))
            frame = receiver.frame(samples, now)
            assert frame is None or len(frame) == 2 * samples
            receiver.keys(now)
        if reporter.due(now):
            rtcp.parse(reporter.build(now))
        assert receiver.buffer.depth_ms <= 400
        assert len(receiver.buffer._packets) <= MAX_PACKETS
        assert len(latch._candidates) <= MAX_CANDIDATES
        assert len(receiver._dtmf.keys) <= MAX_QUEUED
    return BATCH


PEER = "182.76.143.61"


def test_no_datagram_raises_out_of_the_receive_path() -> None:
    fuzz(DATAGRAMS, listen)


def take_pieces(script: Script) -> int:
    """Feed each part of the receive path by itself: it need not trust the others."""
    buffer, keys, reception = JitterBuffer(), DtmfReceiver(), Reception()
    tracks = [TrackBuffer(), TrackBuffer()]
    now = 0.0
    for _ in range(BATCH):
        now += script.one_of(PAUSES)
        data = mutated(script.one_of(corpus.RTP), script, corpus.RTP, kinds=BINARY)
        with suppress(RtpError):
            packet = parse_rtp(data)
            assert len(packet.payload) <= len(data)
            extended = reception.update(packet.ssrc & 1, packet.sequence)
            reception.arrived(packet.timestamp, now)
            pcm = bytes(2 * min(len(packet.payload), 1600))
            buffer.put(extended, packet.timestamp, pcm, now)
            keys.receive(
                ssrc=packet.ssrc & 3,
                timestamp=packet.timestamp & 3,
                payload=data[: script.below(8)],
                now=now,
            )
        with suppress(rtcp.RtcpError):
            rtcp.parse(data)
        buffer.put(script.below(300), script.below(65536) << 16, bytes(2 * script.below(400)), now)
        samples = script.one_of((160, 80, 240, 1))
        pulled = buffer.pull(samples, now)
        assert pulled is None or len(pulled) == 2 * samples
        assert 0 <= reception.fraction_lost() <= 255
        assert 0 <= reception.jitter < 8000
        keys.poll(now)
        assert len(keys.keys) <= MAX_QUEUED
        script.one_of(tracks).push(bytes(2 * script.below(1000)))
        assert all(track.buffered <= CAPACITY for track in tracks)
        mixed = mix(tracks, 2 * samples)
        assert mixed is None or len(mixed) == 2 * samples
    return BATCH


def test_no_part_of_the_receive_path_raises_by_itself() -> None:
    fuzz(PIECES, take_pieces)

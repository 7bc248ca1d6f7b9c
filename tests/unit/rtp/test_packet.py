"""RTP packets: bytes to fields and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtp.packet import (
    Extension,
    Packet,
    RtpError,
    Stream,
    build,
    is_rtcp,
    parse,
    timestamp_distance,
)

pytestmark = pytest.mark.unit

WORDS = st.integers(0, 0xFFFF_FFFF)
PACKETS = st.builds(
    Packet,
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 0xFFFF),
    timestamp=WORDS,
    ssrc=WORDS,
    payload=st.binary(max_size=200),
    marker=st.booleans(),
    csrc=st.lists(WORDS, max_size=15).map(tuple),
    extension=st.none()
    | st.builds(
        Extension,
        st.integers(0, 0xFFFF),
        st.integers(0, 5).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)),
    ),
)


@given(PACKETS, st.integers(0, 255))
def test_what_was_built_is_parsed_again(packet: Packet, padding: int) -> None:
    """Row 88. RFC 3550 5.1: CSRC, extension, padding."""
    assert parse(build(packet, padding=padding)) == packet


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_any_bytes_parse_or_are_refused_with_rtp_error(data: bytes) -> None:
    try:
        packet = parse(data)
    except RtpError:
        return
    assert len(packet.payload) <= len(data) - 12


def test_the_fields_stand_where_rfc_3550_puts_them() -> None:
    data = bytes.fromhex("80e0 1234 01020304 0a0b0c0d") + b"voice"
    assert parse(data) == Packet(96, 0x1234, 0x01020304, 0x0A0B0C0D, b"voice", marker=True)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "shorter than an RTP header"),
        (b"\x80" + bytes(10), "shorter than an RTP header"),
        (b"\x00" + bytes(11), "RTP version is not 2"),
        (b"\xc0" + bytes(11), "RTP version is not 2"),
        (b"\x81" + bytes(14), "CSRC list runs past the end"),
        (b"\x90" + bytes(14), "header extension runs past the end"),
        (b"\x90" + bytes(11) + b"\0\0\0\x01\0\0\0", "header extension runs past the end"),
        (b"\xa0" + bytes(11) + b"\0", "padding count is wrong"),
        (b"\xa0" + bytes(11) + b"\x02", "padding count is wrong"),
        (b"\xa0" + bytes(11), "padding count is wrong"),
    ],
)
def test_a_broken_packet_is_refused_with_its_reason(data: bytes, text: str) -> None:
    with pytest.raises(RtpError, match=f"^{text}$"):
        parse(data)


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (Packet(0, 0, 0, 0, b"", csrc=tuple(range(16))), "more than 15 CSRC"),
        (Packet(128, 0, 0, 0, b""), "payload type is not 0 to 127"),
        (Packet(0, 65536, 0, 0, b""), "a header field is out of range"),
        (Packet(0, 0, 0, 0, b"", csrc=(-1,)), "a header field is out of range"),
        (
            Packet(0, 0, 0, 0, b"", extension=Extension(0, b"abc")),
            "header extension is not a multiple of four bytes",
        ),
    ],
)
def test_a_packet_that_cannot_be_written_is_refused(packet: Packet, text: str) -> None:
    with pytest.raises(RtpError, match=f"^{text}$"):
        build(packet)


def test_padding_over_a_byte_is_refused() -> None:
    with pytest.raises(RtpError, match=r"^padding is not 0 to 255$"):
        build(Packet(0, 0, 0, 0, b""), padding=256)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x80\xc8\x00\x06", True),
        (b"\x81\xcb", True),
        (b"\x80\x08\x00\x06", False),
        (b"\x80\x88\x00\x06", False),
        (b"\x80", False),
        (b"\x00\xc8", False),
    ],
)
def test_rtcp_is_told_from_rtp_by_its_type(data: bytes, told: bool) -> None:
    """Row 88. RFC 5761 4: RTCP on the port of RTP."""
    assert is_rtcp(data) is told


@pytest.mark.parametrize(
    ("later", "earlier", "distance"),
    [(160, 0, 160), (0, 160, -160), (0, 0xFFFF_FF60, 160), (0xFFFF_FF60, 0, -160)],
)
def test_timestamps_are_compared_modulo_2_to_the_32(
    later: int, earlier: int, distance: int
) -> None:
    assert timestamp_distance(later, earlier) == distance


def stream() -> Stream:
    return Stream(ssrc=7, sequence=0xFFFF, timestamp=0xFFFF_FFFF)


def test_a_stream_counts_over_both_wraps_and_marks_only_its_first_packet() -> None:
    """Row 92. Failure 7.2: marker on every packet."""
    subject = stream()
    packets = [parse(subject.packet(8, b"abc", 160)) for _ in range(3)]
    assert [p.sequence for p in packets] == [0xFFFF, 0, 1]
    assert [p.timestamp for p in packets] == [0xFFFF_FFFF, 159, 319]
    assert [p.marker for p in packets] == [True, False, False]
    assert (subject.packets, subject.octets) == (3, 9)


def test_a_gap_advances_the_timestamp_alone_and_is_followed_by_a_marker() -> None:
    subject = stream()
    subject.packet(8, b"", 160)
    subject.skip(1600)
    after = parse(subject.packet(8, b"", 160))
    assert (after.sequence, after.timestamp, after.marker) == (0, 1759, True)


def test_audio_after_an_event_has_gone_on_in_time_and_is_marked() -> None:
    subject = stream()
    subject.packet(8, b"", 160)
    start = subject.timestamp
    events = [
        parse(subject.event(101, b"", timestamp=start, marker=index == 0, samples=160))
        for index in range(3)
    ]
    after = parse(subject.packet(8, b"", 160))
    assert [(p.sequence, p.timestamp, p.marker) for p in events] == [
        (0, start, True),
        (1, start, False),
        (2, start, False),
    ]
    assert (after.sequence, after.timestamp, after.marker) == (3, start + 480, True)

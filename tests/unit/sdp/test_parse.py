"""The parser: lenient, bounded, and never anything but `SdpError`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdp.model import Attribute, Connection, Direction, RtpMap, SdpError, SessionDescription
from sdp.parse import parse
from sdp.write import write
from tests.growth import growth
from tests.unit.sdp.bodies import FAR, VECTORS, body, vector

pytestmark = pytest.mark.unit

NAMES = sorted(path.stem for path in VECTORS.glob("*.sdp"))
CORPUS = [vector(name) for name in NAMES]


def test_every_vector_parses_and_survives_a_round_trip() -> None:
    assert len(CORPUS) >= 12
    for text in CORPUS:
        description = parse(text)
        if description.origin is not None:
            assert parse(write(description)) == description


def test_exotels_offer_without_a_session_name_is_read_whole() -> None:
    """Row 62. RFC 8866 5."""
    description = parse(vector("exotel-offer"))
    (audio,) = description.media
    assert description.name == "-"
    assert description.connection == Connection(address="182.76.143.61")
    assert (audio.media, audio.port, audio.protocol) == ("audio", 18342, "RTP/AVP")
    assert audio.formats == ("8", "0", "96")
    assert audio.rtpmaps()[96] == RtpMap(
        payload_type=96, encoding="TELEPHONE-EVENT", clock_rate=8000
    )
    assert (audio.rtcp_port, audio.ptime, audio.maxptime) == (18343, 20, None)
    assert audio.direction is Direction.SENDRECV


def test_sloppy_line_ends_spaces_cases_and_gaps_are_read() -> None:
    """Row 62. RFC 8866 9."""
    description = parse(vector("sloppy-line-ends"))
    (audio,) = description.media
    assert description.origin is None
    assert audio.formats == ("8", "0")
    assert audio.connection == Connection(address=FAR, suffix="/127")
    assert audio.rtpmaps()[8] == RtpMap(payload_type=8, encoding="PCMA", clock_rate=8000)
    assert audio.rtpmaps()[0].encoding == "PCMU"
    assert audio.ptime == 30
    assert Attribute(name="x-unknown") in audio.attributes


def test_lines_of_other_types_are_left_out_and_sections_keep_their_own() -> None:
    description = parse(vector("softphone-many-lines"))
    assert [media.media for media in description.media] == ["video", "audio", "text", "audio"]
    assert description.connection is None
    assert [media.connection is None for media in description.media] == [False, False, True, True]
    assert description.timing == "3724394400 3724398000"


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_any_line_end_reads_the_same(end: bytes) -> None:
    assert parse(body("sendonly").replace(b"\r\n", end)) == parse(body("sendonly"))


def test_a_host_name_as_address_is_kept() -> None:
    assert parse(body(address="media.example.net")).connection == Connection(
        address="media.example.net"
    )


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (("sendonly",), Direction.SENDONLY),
        (("SendOnly ",), Direction.SENDONLY),
        (("sendrecv", "inactive"), Direction.INACTIVE),
        (("sendonly:x",), None),
        ((), None),
    ],
)
def test_the_last_direction_of_a_section_counts(
    attributes: tuple[str, ...], expected: Direction | None
) -> None:
    """Row 61. RFC 8866 6.7."""
    assert parse(body(*attributes)).media[0].direction is expected


@pytest.mark.parametrize(
    "value", ["8", "8 PCMA", "8 PCMA/", "8 PCMA/x", "128 PCMA/8000", "² PCMA/8000", "8 PCMA/8000/x"]
)
def test_an_unreadable_rtpmap_is_as_good_as_none(value: str) -> None:
    assert 8 not in parse(body(f"rtpmap:{value}")).media[0].rtpmaps()


@pytest.mark.parametrize(
    ("text", "expected"), [("20.0", 20), ("", None), ("-20", None), ("x", None)]
)
def test_ptime_is_read_as_far_as_it_is_a_number(text: str, expected: int | None) -> None:
    assert parse(body(f"ptime:{text}")).media[0].ptime == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("5000 IN IP4 192.0.2.1", 5000), ("0", None), ("65536", None)]
)
def test_rtcp_port_is_read_when_it_is_a_port(text: str, expected: int | None) -> None:
    assert parse(body(f"rtcp:{text}")).media[0].rtcp_port == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "body does not begin with v=0"),
        (b"o=- 1 1 IN IP4 192.0.2.1\r\n", "body does not begin with v=0"),
        (b"v=1\r\n", "body does not begin with v=0"),
        (b"v=0\r\ngarbage\r\n", "line is not <type>=<value>"),
        (b"v=0\r\nm\r\n", "line is not <type>=<value>"),
        (b"v=0\r\ns=a\0b\r\n", "NUL in body"),
        (b"v=0\r\nc=IN IP4\r\n", "malformed c= line"),
        (b"v=0\r\nc=IN IP4 /127\r\n", "malformed c= line"),
        (b"v=0\r\nm=audio 4000\r\n", "malformed m= line"),
        (b"v=0\r\nm=audio 65536 RTP/AVP 8\r\n", "malformed port in m= line"),
        (b"v=0\r\nm=audio -1 RTP/AVP 8\r\n", "malformed port in m= line"),
        (b"v=0\r\nm=audio \xc2\xb2 RTP/AVP 8\r\n", "malformed port in m= line"),
        (b"v=0\r\nm=audio 4000/ RTP/AVP 8\r\n", "malformed port in m= line"),
        (b"v=0\r\n" + b"m=audio 0 RTP/AVP 8\r\n" * 65, "more than 64 media lines"),
        (b"v=0\r\n" + b"a=x\r\n" * 401, "more than 400 attributes"),
        (b"v=0\r\nm=audio 0 RTP/AVP" + b" 8" * 257, "more than 256 formats in an m= line"),
        (b"v=0\r\n" + b" " * 65536, "body longer than 65536 bytes"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(text: bytes, message: str) -> None:
    with pytest.raises(SdpError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_the_limits_themselves_are_allowed() -> None:
    text = b"v=0\r\n" + b"m=audio 0 RTP/AVP" + b" 8" * 256 + b"\r\n" + b"a=x\r\n" * 400
    (media,) = parse(text).media
    assert (len(media.formats), len(media.attributes)) == (256, 400)


@pytest.mark.parametrize(
    "filler", [b"\r", b"\n \n", b"a=rtpmap:8 ", b"a=:", b"=", b" ", b"\xff", b"c=IN IP4 1/\n"]
)
def test_a_hostile_body_is_read_in_linear_time(filler: bytes) -> None:
    def read_filled(size: int) -> None:
        parsed(b"v=0\r\n" + filler * ((size - 5) // len(filler)))

    assert growth(read_filled, 65_536, 8) < 24  # a quadratic pass: 64


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a vector with some bytes overwritten, cut out or doubled, then cut short."""
    text = bytearray(draw(st.sampled_from(CORPUS)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(text) - 1)))
        width = draw(st.integers(0, 12))
        piece = draw(st.one_of(st.binary(max_size=6), st.just(bytes(text[at : at + 40]))))
        text[at : at + width] = piece
    return bytes(text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text)


def parsed(text: bytes) -> SessionDescription | None:
    try:
        return parse(text)
    except SdpError:
        return None


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(b"v=0\r\n".__add__)))
def test_random_bytes_raise_nothing_but_the_one_error(text: bytes) -> None:
    parsed(text)


@settings(max_examples=300)
@given(mutated())
def test_what_parses_survives_writing_and_reading(text: bytes) -> None:
    description = parsed(text)
    if description is None or description.origin is None:
        return
    assert parse(write(description)) == description


def test_every_truncation_of_every_vector_raises_nothing_but_the_one_error() -> None:
    for text in CORPUS:
        for end in range(len(text)):
            parsed(text[:end])

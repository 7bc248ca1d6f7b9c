"""Cutting a byte stream into messages and keep-alives."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sip.framing import PING, PONG, Broken, Frame, StreamFramer
from bridge.sip.message import MAX_MESSAGE

pytestmark = pytest.mark.unit

HEAD = "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n"


def message(body: bytes = b"", length: str = "Content-Length: {}") -> bytes:
    return f"{HEAD}{length.format(len(body))}\r\n\r\n".encode() + body


PLAIN = message()
BODY = message(b"v=0\r\n\r\ns=-\r\n\r\n")
COMPACT = message(b"\r\n", "L \t:{}")
FOLDED = message("né".encode(), "content-LENGTH:\r\n\t {}")
ZEROS = message(b"abc", "Content-Length: 000000000000000000000000{}")
MESSAGES = [PLAIN, BODY, COMPACT, FOLDED, ZEROS]


def fed(*chunks: bytes) -> list[Frame]:
    framer = StreamFramer()
    return [frame for chunk in chunks for frame in framer.feed(chunk)]


def without_pongs(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame is not PONG]


@pytest.mark.parametrize("data", MESSAGES)
def test_message_cut_at_any_byte_is_the_same_message(data: bytes) -> None:
    """Row 1. RFC 3261 18.3."""
    assert fed(data) == [data]
    for cut in range(len(data) + 1):
        assert fed(data[:cut], data[cut:]) == [data]
    assert fed(*[bytes([byte]) for byte in data]) == [data]


def test_glued_messages_come_apart() -> None:
    """Row 1. RFC 3261 18.3."""
    assert fed(b"".join(MESSAGES)) == MESSAGES


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b"\r\n\r\n", [PING]),
        (b"\r\n", [PONG]),
        (b"\r\n\r\n\r\n", [PING, PONG]),
        (b"\r\n\r\n\r\n\r\n", [PING, PING]),
        (b"\r\n\r\n" + PLAIN, [PING, PLAIN]),
        (b"\r\n" + PLAIN, [PONG, PLAIN]),
        (PLAIN + b"\r\n\r\n", [PLAIN, PING]),
        (PLAIN + b"\r\n" + BODY, [PLAIN, PONG, BODY]),
        (PLAIN + b"\r\n\r\n" + BODY, [PLAIN, PING, BODY]),
    ],
)
def test_keep_alives_are_told_from_messages(data: bytes, frames: list[Frame]) -> None:
    assert fed(data) == frames


def test_lone_line_break_is_reported_at_once_and_may_become_a_ping() -> None:
    framer = StreamFramer()
    assert framer.feed(b"\r") == []
    assert framer.feed(b"\n") == [PONG]
    assert framer.feed(b"\r") == []
    assert framer.feed(b"\n") == [PING]
    assert framer.feed(PLAIN) == [PLAIN]
    assert framer.idle


def test_pong_before_a_message_does_not_make_the_next_line_break_a_ping() -> None:
    assert fed(b"\r\n", PLAIN, b"\r\n") == [PONG, PLAIN, PONG]


PIECES = st.lists(st.sampled_from([*MESSAGES, b"\r\n\r\n"]), max_size=6)


@settings(max_examples=150)
@given(pieces=PIECES, data=st.data())
def test_cuts_and_glue_do_not_change_the_frames(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    expected = [PING if piece == b"\r\n\r\n" else piece for piece in pieces]
    assert without_pongs(fed(*chunks)) == expected
    assert fed(stream) == expected


NOISE = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"a",
        b"Content-Length: 3\r\n",
        b"l:x\r\n",
        b" ",
        HEAD.encode(),
        b"\x00",
        PLAIN,
    ]
)


@settings(max_examples=200)
@given(pieces=st.lists(NOISE, max_size=10), data=st.data())
def test_any_stream_gives_the_same_frames_however_it_is_cut(
    pieces: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    assert shown(fed(*chunks)) == shown(fed(stream))


def shown(frames: list[Frame]) -> list[object]:
    return [
        (str(frame.error), frame.error.status, frame.head) if isinstance(frame, Broken) else frame
        for frame in without_pongs(frames)
    ]


@pytest.mark.parametrize(
    ("lines", "status", "text"),
    [
        ("", 400, "Content-Length is missing"),
        (
            "Content-Length: 0\r\nContent-Length: 0\r\n",
            400,
            "Content-Length appears more than once",
        ),
        ("l: 1\r\nContent-Length: 5\r\n", 400, "Content-Length appears more than once"),
        ("Content-Length: -1\r\n", 400, "Content-Length is negative"),
        ("Content-Length: +1\r\n", 400, "Content-Length is not a number"),
        ("Content-Length: 1 2\r\n", 400, "Content-Length is not a number"),
        ("Content-Length: 1,1\r\n", 400, "Content-Length is not a number"),
        ("Content-Length: 0x1\r\n", 400, "Content-Length is not a number"),
        ("Content-Length:\r\n", 400, "Content-Length is not a number"),
        ("Content-Length\r\n", 400, "Content-Length is not a number"),
        ("Content-Length: \u00b2\r\n", 400, "Content-Length is not a number"),
        ("Content-Length: 65537\r\n", 513, "Content-Length is too large"),
        ("Content-Length: 18446744073709551617\r\n", 513, "Content-Length is too large"),
        ("Content-Length: " + "9" * 9000 + "\r\n", 513, "Content-Length is too large"),
        ("Content-Length: 65500\r\n", 513, f"Message is larger than {MAX_MESSAGE} bytes"),
        ("X: Content-Length: 3\r\n", 400, "Content-Length is missing"),
        ("X: a\n", 400, "Line is not ended by CRLF"),
    ],
)
def test_stream_that_cannot_be_resynchronised_is_broken(lines: str, status: int, text: str) -> None:
    """Row 2. R1 7.1.15."""
    framer = StreamFramer()
    head = f"{HEAD}{lines}\r\n".encode()
    (frame,) = framer.feed(head + b"body" + PLAIN)
    assert isinstance(frame, Broken)
    assert (frame.error.status, str(frame.error)) == (status, text)
    assert head.startswith(frame.head)
    assert framer.broken
    assert not framer.idle
    assert framer.feed(PLAIN) == []


def test_messages_before_the_break_are_given() -> None:
    *frames, last = fed(PLAIN + BODY + HEAD.encode() + b"\r\n")
    assert frames == [PLAIN, BODY]
    assert isinstance(last, Broken)
    assert last.error.request is not None
    assert last.error.request.method == "OPTIONS"


def test_response_that_breaks_the_stream_is_not_to_be_answered() -> None:
    (frame,) = fed(b"SIP/2.0 200 OK\r\nX: 1\r\n\r\n")
    assert isinstance(frame, Broken)
    assert frame.error.request is None


@pytest.mark.parametrize("data", [PLAIN.replace(b"\r\n", b"\n"), b"\n\n", b"\n", b"x\n"])
def test_lines_ended_by_lf_alone_break_the_stream(data: bytes) -> None:
    (frame,) = fed(data)
    assert isinstance(frame, Broken)
    assert str(frame.error) == "Line is not ended by CRLF"


def test_lf_after_a_body_that_ends_with_cr_is_not_a_line_break() -> None:
    data = message(b"\r")
    for cut in range(len(data) + 2):
        stream = data + b"\n"
        frames = fed(stream[:cut], stream[cut:])
        assert frames[0] == data
        assert isinstance(frames[1], Broken)


def test_largest_message_passes_and_one_byte_more_does_not() -> None:
    """Row 13. RFC 3261 21.5.7."""
    room = MAX_MESSAGE - len(message(b"x" * 10_000)) + 10_000
    largest = message(b"x" * room)
    assert len(largest) == MAX_MESSAGE
    assert fed(largest) == [largest]
    (frame,) = fed(message(b"x" * (room + 1)))
    assert isinstance(frame, Broken)
    assert frame.error.status == 513


def test_header_without_end_is_bounded() -> None:
    """Row 13."""
    framer = StreamFramer()
    frames: list[Frame] = []
    for _ in range(MAX_MESSAGE // 64):
        assert frames == []
        frames = framer.feed(b"X" * 62 + b"\r\n")
    (frame,) = frames
    assert isinstance(frame, Broken)
    assert frame.error.status == 513
    assert len(frame.head) == MAX_MESSAGE
    assert framer.broken


class CountingBuffer(bytearray):
    """Counts the bytes a search has to look at."""

    looked_at = 0

    def find(self, sub: object, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        stop = len(self) if end is None else min(end, len(self))
        self.looked_at += max(0, stop - start)
        return bytearray.find(self, sub, start, stop)  # type: ignore[arg-type]


def test_slow_header_is_scanned_in_linear_time() -> None:
    framer = StreamFramer()
    buffer = CountingBuffer()
    framer._buffer = buffer
    sent = 20_000
    for _ in range(sent):
        assert framer.feed(b"x") == []
    assert buffer is framer._buffer
    assert buffer.looked_at <= 5 * sent


def test_body_is_not_scanned_for_headers() -> None:
    framer = StreamFramer()
    data = message(b"\r\n\r\n" * 1000)
    buffer = CountingBuffer()
    framer._buffer = buffer
    frames = [frame for byte in data for frame in framer.feed(bytes([byte]))]
    assert frames == [data]
    assert buffer.looked_at < 5 * 200

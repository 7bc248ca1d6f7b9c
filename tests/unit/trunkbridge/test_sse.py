"""Server-sent events, read as the HTML standard says, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkbridge.sse import LONGEST, Message, Reader

pytestmark = pytest.mark.unit

STREAM = (
    "\ufeffid: 4\nretry: 1000\n\n"
    ": a comment\n\n"
    'event: call_hold\ndata: {"a":\ndata: "\u2028é"}\nid: 5\n\n'
    "data\n\n"
    "data:no space\r\nid\r\n\r\n"
    "id: 6\0\rdata:  two\r\r"
    "future: x\nevent: nothing\n\n"
    "data: unfinished\n"
).encode()

MESSAGES = [
    Message(event="message", data="", id="4"),
    Message(event="call_hold", data='{"a":\n"\u2028é"}', id="5"),
    Message(event="message", data="", id="5"),
    Message(event="message", data="no space", id=""),
    Message(event="message", data=" two", id=""),
]


def test_a_stream_is_read_as_the_standard_says() -> None:
    assert list(Reader().feed(STREAM)) == MESSAGES


@settings(max_examples=100)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_it_does_not_matter_where_it_is_cut(cuts: list[int]) -> None:
    reader, found, start = Reader(), [], 0
    for end in [*sorted(cuts), len(STREAM)]:
        found += list(reader.feed(STREAM[start:end]))
        start = end
    assert found == MESSAGES


def test_every_byte_may_come_alone() -> None:
    reader = Reader()
    found = [m for byte in STREAM for m in reader.feed(bytes([byte]))]
    assert found == MESSAGES


@pytest.mark.parametrize(
    "line", [b"x" * 65536, b"data: " + b"x" * 65530 + b"\n", b"data\n" * 65536]
)
def test_a_message_without_an_end_is_refused(line: bytes) -> None:
    reader = Reader()
    lines = (line for _ in range(LONGEST // 65536 + 2))
    with pytest.raises(ValueError, match="without an end"):
        list(map(list, map(reader.feed, lines)))


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=40)))
def test_nothing_that_comes_raises(pieces: list[bytes]) -> None:
    reader = Reader()
    for piece in pieces:
        list(reader.feed(piece))

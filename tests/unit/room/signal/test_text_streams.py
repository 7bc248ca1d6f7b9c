"""Text streams of others, put together within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from livekit.protocol import models

from bridge.room.signal.streams import (
    IDLE_TIMEOUT,
    STREAM_LIMIT,
    STREAMS_PER_SENDER,
    TEXT_LIMIT,
    TOTAL_LIMIT,
    TextReceived,
    TextStreams,
)

pytestmark = pytest.mark.unit

TOPIC = "lk.chat"
DataStream = models.DataStream


def header(stream: str = "s", topic: str = TOPIC, **fields: object) -> models.DataStream.Header:
    return DataStream.Header(
        stream_id=stream,
        topic=topic,
        text_header=DataStream.TextHeader(),
        **fields,  # type: ignore[arg-type]
    )


def chunk(index: int, content: bytes, stream: str = "s") -> models.DataStream.Chunk:
    return DataStream.Chunk(stream_id=stream, chunk_index=index, content=content)


def trailer(stream: str = "s", reason: str = "") -> models.DataStream.Trailer:
    return DataStream.Trailer(stream_id=stream, reason=reason)


def begun(stream: str = "s", identity: str = "agent") -> TextStreams:
    streams = TextStreams({TOPIC})
    assert streams.header(identity, header(stream), 0.0) is None
    return streams


def test_chunks_become_one_text_also_when_a_character_is_split() -> None:
    streams = begun()
    whole = "grüß".encode()
    streams.chunk("agent", chunk(0, whole[:3]), 0.0)
    streams.chunk("agent", chunk(1, whole[3:]), 0.0)
    received = streams.trailer("agent", trailer())
    assert received == TextReceived(topic=TOPIC, identity="agent", text="grüß")
    assert streams.size == 0


def test_a_short_text_comes_whole_in_its_header() -> None:
    received = TextStreams({TOPIC}).header("agent", header(inline_content=b"hi"), 0.0)
    assert received == TextReceived(topic=TOPIC, identity="agent", text="hi")


def test_topics_that_nobody_wants_cost_nothing() -> None:
    streams = TextStreams({TOPIC})
    streams.header("agent", header(topic="lk.transcription"), 0.0)
    streams.chunk("agent", chunk(0, b"secret"), 0.0)
    assert streams.size == 0
    assert streams.trailer("agent", trailer()) is None


def test_a_stream_of_bytes_is_no_text() -> None:
    streams = TextStreams({TOPIC})
    streams.header("agent", DataStream.Header(stream_id="s", topic=TOPIC), 0.0)
    streams.chunk("agent", chunk(0, b"x"), 0.0)
    assert streams.trailer("agent", trailer()) is None


def test_the_same_stream_id_of_two_senders_are_two_streams() -> None:
    streams = begun()
    streams.header("other", header(), 0.0)
    streams.chunk("agent", chunk(0, b"a"), 0.0)
    streams.chunk("other", chunk(0, b"o"), 0.0)
    received = streams.trailer("other", trailer())
    assert received is not None
    assert received.text == "o"


def test_a_repeated_chunk_counts_once_and_a_hole_ends_the_stream() -> None:
    streams = begun()
    streams.chunk("agent", chunk(0, b"a"), 0.0)
    streams.chunk("agent", chunk(0, b"a"), 0.0)
    streams.chunk("agent", chunk(1, b"b"), 0.0)
    assert streams.size == 2
    streams.chunk("agent", chunk(3, b"d"), 0.0)
    assert streams.size == 0
    assert streams.trailer("agent", trailer()) is None


def test_a_stream_broken_off_or_no_text_is_not_passed_on() -> None:
    streams = begun()
    assert streams.trailer("agent", trailer(reason="error")) is None
    streams = begun()
    streams.chunk("agent", chunk(0, b"\xff"), 0.0)
    assert streams.trailer("agent", trailer()) is None


def test_compressed_text_is_not_taken() -> None:
    compressed = header(compression=1, inline_content=b"x")
    assert TextStreams({TOPIC}).header("agent", compressed, 0.0) is None


def test_a_text_that_is_or_says_that_it_is_too_long_is_given_up() -> None:
    streams = TextStreams({TOPIC})
    streams.header("agent", header(total_length=TEXT_LIMIT + 1), 0.0)
    streams.chunk("agent", chunk(0, b"x"), 0.0)
    assert streams.size == 0
    streams.header("agent", header(total_length=2**64 - 1), 0.0)
    streams = begun()
    for index in range(5):
        streams.chunk("agent", chunk(index, bytes(15_000)), 0.0)
    assert streams.size == 0
    assert streams.header("agent", header(inline_content=bytes(TEXT_LIMIT + 1)), 0.0) is None


def test_streams_are_bounded_by_number_by_sender_and_by_bytes() -> None:
    streams = TextStreams({TOPIC})
    for sender in range(STREAM_LIMIT):
        for number in range(STREAMS_PER_SENDER + 1):
            streams.header(str(sender), header(str(number)), 0.0)
            streams.chunk(str(sender), chunk(0, bytes(TEXT_LIMIT - 1), str(number)), 0.0)
    assert len(streams._streams) <= STREAM_LIMIT
    assert streams.size <= TOTAL_LIMIT
    streams.header("x", header("y" * 10_000), 0.0)
    assert all(len(key) < 200 for _, key in streams._streams)


def test_a_stream_that_stops_is_forgotten() -> None:
    streams = begun()
    streams.chunk("agent", chunk(0, b"a"), 5.0)
    assert streams.next_deadline() == pytest.approx(5.0 + IDLE_TIMEOUT)
    streams.poll(5.0 + IDLE_TIMEOUT)
    assert streams.size == 0
    assert streams.next_deadline() is None


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=400), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_any_text_in_any_chunks_comes_out_as_it_was(text: str, sizes: list[int]) -> None:
    streams = begun()
    data, index = text.encode(), 0
    while data:
        size = sizes[index % len(sizes)]
        streams.chunk("agent", chunk(index, data[:size]), 0.0)
        data, index = data[size:], index + 1
    received = streams.trailer("agent", trailer())
    assert received is not None
    assert received.text == text

"""The writer: strict, and closed to smuggled lines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdp.model import (
    Attribute,
    Connection,
    MediaDescription,
    Origin,
    SdpError,
    SessionDescription,
)
from sdp.parse import parse
from sdp.write import write

pytestmark = pytest.mark.unit

ORIGIN = Origin(session_id="1", version="2", address="192.0.2.1")

token = st.text("abcdefgXYZ0189.-_+/", min_size=1, max_size=12).filter(
    lambda text: not text.startswith("/")
)
text = st.text("abc xyz:/=é", max_size=20).map(str.strip)
connection = st.builds(
    Connection,
    address_type=st.sampled_from(["IP4", "IP6"]),
    address=st.sampled_from(["192.0.2.1", "::", "host.example"]),
    suffix=st.sampled_from(["", "/127", "/127/3"]),
)
attributes = st.lists(
    st.builds(
        Attribute,
        name=st.text("abcdef-", min_size=1, max_size=10),
        value=st.none() | text,
    ),
    max_size=5,
).map(tuple)
media = st.builds(
    MediaDescription,
    media=token,
    port=st.integers(0, 65535),
    port_count=st.integers(0, 9),
    protocol=token,
    formats=st.lists(token, max_size=5).map(tuple),
    connection=st.none() | connection,
    attributes=attributes,
)
description = st.builds(
    SessionDescription,
    origin=st.builds(Origin, username=token, session_id=token, version=token, address=token),
    name=text.filter(bool),
    connection=st.none() | connection,
    timing=st.sampled_from(["0 0", "1 2"]),
    attributes=attributes,
    media=st.lists(media, max_size=4).map(tuple),
)


@given(description)
def test_what_is_written_reads_back_the_same(value: SessionDescription) -> None:
    assert parse(write(value)) == value


def test_lines_come_in_the_order_of_the_rfc_and_end_in_crlf() -> None:
    value = SessionDescription(
        origin=ORIGIN,
        connection=Connection(address="192.0.2.1"),
        attributes=(Attribute(name="tool", value="x"),),
        media=(
            MediaDescription(
                media="audio",
                port=4000,
                port_count=2,
                protocol="RTP/AVP",
                formats=("8",),
                connection=Connection(address="192.0.2.2", suffix="/1"),
                attributes=(Attribute(name="sendrecv"),),
            ),
        ),
    )
    assert write(value) == (
        b"v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=tool:x\r\n"
        b"m=audio 4000/2 RTP/AVP 8\r\nc=IN IP4 192.0.2.2/1\r\na=sendrecv\r\n"
    )


@pytest.mark.parametrize("smuggled", ["a\r\nm=audio 1 RTP/AVP 0", "a\nb", "a\rb", "a\0b"])
def test_a_value_with_a_line_end_is_not_written(smuggled: str) -> None:
    value = SessionDescription(origin=replace(ORIGIN, username=smuggled))
    with pytest.raises(SdpError, match="line end inside a value"):
        write(value)


def test_a_description_without_origin_is_not_written() -> None:
    with pytest.raises(SdpError, match="no origin"):
        write(SessionDescription(origin=None))

"""Nothing a peer sends raises anything but ParseError, nor takes long."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sip.framing import StreamFramer
from bridge.sip.grammar import split_list
from bridge.sip.headers import (
    parse_addresses,
    parse_contact,
    parse_cseq,
    parse_name_addr,
    parse_reasons,
    parse_retry_after,
    parse_route,
    parse_via,
    q850_cause,
)
from bridge.sip.matching import cancelled_key, client_key, server_key
from bridge.sip.message import (
    MAX_MESSAGE,
    Headers,
    Message,
    ParseError,
    Request,
    Response,
    parse,
    read,
    response_to,
)
from bridge.sip.transaction import ack_to, cancel_to
from bridge.sip.uri import parse_uri, same_uri, unescape
from tests.growth import growth

pytestmark = pytest.mark.unit

VECTORS = Path(__file__).parents[2] / "vectors" / "rfc4475"
SEEDS = [path.read_bytes() for path in sorted(VECTORS.glob("*.dat"))]
EXAMPLES = settings(max_examples=150)


def use_everything(message: Message) -> None:
    """Read all there is to read, and answer, as the layers above do."""
    # RFC fields of a message that `parse` gave never raise.
    assert message.call_id
    assert message.cseq.method
    assert message.from_.uri is not None
    message.to.with_tag("t")
    message.top_via.with_source("192.0.2.1", 5060)
    client_key(message)
    _ = message.sdp
    parse_reasons(message.headers)
    q850_cause(message.headers)
    parse_retry_after(message.headers)
    for name in ("Contact", "Record-Route", "Route", "P-Asserted-Identity"):
        allow_parse_error(lambda name=name: parse_addresses(message.headers, name))
    allow_parse_error(lambda: message.contact)
    again = parse_or_limit(message.encode())
    if again is not None:
        assert type(again) is type(message)
        assert again.body == message.body
    # What was parsed can be added to headers of ours.
    Headers(message.headers.items())
    Headers([("To", str(message.to)), ("From", str(message.from_)), ("Via", str(message.top_via))])
    if isinstance(message, Request):
        server_key(message)
        cancelled_key(message)
        assert same_uri(parse_uri(message.uri), parse_uri(message.uri))
        answer = response_to(message, 200, to_tag="t")
        answer.encode()
        ack_to(message, answer).encode()
        cancel_to(message).encode()


def parse_or_limit(data: bytes) -> Message | None:
    """Writing may add a blank or a Content-Length and so pass a limit."""
    try:
        return parse(data)
    except ParseError as error:
        if error.status != 513:
            raise
        return None


def allow_parse_error(action: Callable[[], object]) -> None:
    with contextlib.suppress(ParseError):
        action()


def receive(data: bytes) -> None:
    """Treat *data* as a datagram and as a stream."""
    StreamFramer().feed(data)
    allow_parse_error(lambda: read(data))
    try:
        message = parse(data)
    except ParseError as error:
        if error.request is not None:
            response_to(error.request, error.status, to_tag="t").encode()
        return
    use_everything(message)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_vector_can_be_used(seed: bytes) -> None:
    receive(seed)


@pytest.mark.parametrize("seed", SEEDS[::6])
def test_truncated_messages_are_harmless(seed: bytes) -> None:
    for end in range(0, len(seed), 3):
        receive(seed[:end])
        receive(seed[:end] + b"\r\n\r\n")


@EXAMPLES
@given(st.binary(max_size=400))
def test_random_bytes_are_harmless(data: bytes) -> None:
    receive(data)
    receive(data + b"\r\n\r\n")


TOKENS = [
    *(b"\r\n", b"\r\n ", b"\r", b"\n", b"\x00", b"\\\x00", b"\xff", b'"', b"\\", b"<", b">", b";"),
    *(b"=", b",", b":", b"@", b"[", b"]", b"%", b"?", b"/", b" ", b"\t", b"9999999999999999999999"),
    *(b"-1", b"\xc2\x85", b"\xe2\x80\xa8", b"Via: ", b"l: 5\r\n", b";tag=", b"sip:", b"SIP/2.0"),
]
EDITS = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(0, 8), st.sampled_from(TOKENS)), max_size=6
)


@settings(max_examples=500)
@given(seed=st.sampled_from(SEEDS), edits=EDITS)
def test_mutated_messages_are_harmless(seed: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    data = bytearray(seed)
    for at, removed, inserted in edits:
        place = at % (len(data) + 1)
        data[place : place + removed] = inserted
    receive(bytes(data))


@EXAMPLES
@given(st.sampled_from(SEEDS), st.sampled_from(SEEDS), st.integers(0, 3000), st.integers(0, 3000))
def test_spliced_messages_are_harmless(a: bytes, b: bytes, cut: int, resume: int) -> None:
    receive(a[: cut % (len(a) + 1)] + b[resume % (len(b) + 1) :])


VALUES = st.text(st.sampled_from('ab:;,<>"\\=@[]%?/ \t1\x00\x7fé\udcff*.sip'), max_size=40)
READERS: list[Callable[[str], object]] = [
    parse_uri,
    parse_name_addr,
    parse_contact,
    parse_route,
    parse_via,
    parse_cseq,
]


@settings(max_examples=400)
@given(
    value=VALUES,
    prefix=st.sampled_from(["", "sip:", "<sip:a@h>;", '"x" <', "SIP/2.0/TCP h;", "1 "]),
)
def test_value_readers_raise_parse_errors_only(value: str, prefix: str) -> None:
    text = prefix + value
    unescape(text)
    split_list(text)
    for reader in READERS:
        try:
            read_value = reader(text)
        except ParseError:
            continue
        # What reads is written in a form that reads as the same.
        assert reader(str(read_value)) == read_value


BIG = 60_000
HOSTILE = {
    "quotes": 'X: "' + '\\"' * (BIG // 2),
    "commas": "Via: " + "," * BIG,
    "semicolons": "To: <sip:h>" + ";a" * (BIG // 2),
    "brackets": "To: " + "<" * BIG,
    "folds": "X: a" + "\r\n " * (BIG // 3),
    "blanks": "X: a" + " " * BIG,
    "blank folds": "X:" + "\r\n" + " " * BIG + "x",
    "carriage returns": "X: " + "\r" * BIG,
    "lines": "\r\n".join(["a:"] * (BIG // 4)),
    "escapes": "X: " + "%" * BIG,
    "nothing": "x" * BIG,
    "colons": ":" * BIG,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_shapes_are_read_in_linear_time(name: str) -> None:
    """Threat 5.1: Malformed messages."""

    def read_first(size: int) -> None:
        text = HOSTILE[name][:size]
        value = text.partition(":")[2]
        receive(b"OPTIONS sip:h SIP/2.0\r\n" + text.encode() + b"\r\n\r\n")
        split_list(value)
        unescape(value)
        for reader in READERS:
            allow_parse_error(partial(reader, value))

    assert growth(read_first, len(HOSTILE[name]), 8) < 24  # a quadratic pass: 64


def test_multipart_body_of_delimiters_is_read_in_linear_time() -> None:
    headers = Headers([("Content-Type", "multipart/mixed;boundary=b")])

    def read_delimiters(count: int) -> None:
        assert Response(200, "OK", headers, b"--b\r\n" * count).sdp is None

    assert growth(read_delimiters, MAX_MESSAGE // 5, 8) < 24  # a quadratic pass: 64


def test_numbers_beyond_64_bits_are_refused_everywhere() -> None:
    huge = str(2**64)
    lines = {
        "CSeq": f"CSeq: {huge} OPTIONS",
        "Max-Forwards": f"Max-Forwards: {huge}",
        "Content-Length": f"Content-Length: {huge}",
        "Port": f"Via: SIP/2.0/UDP h:{huge}",
    }
    good = {
        "Via": "Via: SIP/2.0/UDP h;branch=z9hG4bK1",
        "From": "From: <sip:h>;tag=1",
        "To": "To: <sip:h>",
        "Call-ID": "Call-ID: 1",
        "CSeq": "CSeq: 1 OPTIONS",
    }
    for what, line in lines.items():
        fields = {**good, line.partition(":")[0]: line}
        data = "\r\n".join(["OPTIONS sip:h SIP/2.0", *fields.values()]) + "\r\n\r\n"
        with pytest.raises(ParseError, match=f"^{what} is too large$"):
            parse(data.encode())

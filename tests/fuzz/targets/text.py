"""Streams, messages and header values: bytes as they come from the wire."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from bridge.sip.framing import PONG, Broken, Frame, StreamFramer
from bridge.sip.grammar import LWS, ParseError, parse_number, quote, split_list, unquote
from bridge.sip.headers import (
    NameAddr,
    Via,
    parse_addresses,
    parse_contact,
    parse_cseq,
    parse_name_addr,
    parse_reasons,
    parse_retry_after,
    parse_route,
    parse_via,
)
from bridge.sip.message import (
    MAX_HEADERS,
    MAX_LINE,
    MAX_MESSAGE,
    Headers,
    Message,
    Request,
    Response,
    parse,
    response_to,
)
from bridge.sip.uri import parse_uri, same_uri, unescape
from tests.fuzz.target import Meter, Target
from tests.unit.fuzz import corpus
from tests.unit.fuzz.mutate import JUNK, NUMBERS, SDP_LINES, SIP_LINES, Script
from tests.unit.fuzz.stages import use

ROOM = 512  # bytes that an answer may have beyond what it repeats
BYTE_BY_BYTE = 600  # bytes up to which a stream is cut everywhere at once
EVERY_CUT = 80  # bytes up to which it is cut in two at every place

# Framing: what comes out does not depend on how the stream was cut.


def frames_of(pieces: list[bytes], meter: Meter) -> list[Frame]:
    framer = StreamFramer()
    frames: list[Frame] = []
    for piece in pieces:
        with meter:
            got = framer.feed(piece)
        frames += got
        assert len(framer._buffer) <= MAX_MESSAGE + len(piece)
        assert framer.broken == any(isinstance(frame, Broken) for frame in frames)
    return frames


def essence(frames: list[Frame]) -> list[object]:
    """*frames* without `PONG`, which alone depends on the cuts."""
    return [
        (frame.error.text, frame.error.status, frame.head) if isinstance(frame, Broken) else frame
        for frame in frames
        if frame is not PONG
    ]


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = max(sizes[turn % len(sizes)], 1 + len(data) // 2000)
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


def framing(data: bytes, meter: Meter) -> None:
    """Six bytes say how to cut the rest, which is the stream."""
    script, stream = Script(data[:6]), data[6:]
    whole = essence(frames_of([stream], meter))
    for frame in whole:
        if isinstance(frame, bytes):
            assert 0 < len(frame) <= MAX_MESSAGE
            assert frame in stream
            with suppress(ParseError):
                parse(frame)
    sizes = [1 + script.below(size) for size in (4, 16, 200, 200)]
    assert essence(frames_of(cut(stream, sizes), meter)) == whole, "cut in pieces"
    if len(stream) <= BYTE_BY_BYTE:
        assert essence(frames_of(cut(stream, [1]), meter)) == whole, "byte by byte"
    twice = range(1, len(stream)) if len(stream) <= EVERY_CUT else (script.place(stream),)
    for at in twice:
        again = essence(frames_of([stream[:at], stream[at:]], meter))
        assert again == whole, f"cut at {at}"


def streams() -> list[bytes]:
    small = [seed for seed in corpus.EXOTEL if len(seed) < 600]
    one, pause = b"\x03\x0f\x80\x40\x01\x02", b"\r\n\r\n"
    pairs = [one + first + pause + second for first in small for second in small[:2]]
    return [one + seed for seed in corpus.SIP] + pairs + [one + b"".join(corpus.EXOTEL)]


# Messages: what was read is written and read again as the same.


def message(data: bytes, meter: Meter) -> None:
    try:
        with meter:
            read = parse(data)
    except ParseError as error:
        refused(error, data, meter)
        return
    with meter:
        use(read)
    if isinstance(read, Request):
        answered(read, data)
    written = read.encode()
    assert len(written) <= len(data) + ROOM
    if fits(read, written):
        again = parse(written)
        assert alike(again, read)
        assert again.encode() == written


def refused(error: ParseError, data: bytes, meter: Meter) -> None:
    assert 400 <= error.status <= 599
    if error.request is not None:
        with meter:
            refusal = response_to(error.request, error.status, to_tag="t").encode()
        assert len(refusal) <= len(data) + ROOM


def fits(read: Message, written: bytes) -> bool:
    """Whether the Content-Length that we add does not make it too large."""
    lines = [len(f"{name}: {value}") for name, value in read.headers.items()]
    longest = max([len(read.uri) + 40 if isinstance(read, Request) else 0, *lines])
    return len(written) <= MAX_MESSAGE and len(lines) < MAX_HEADERS and longest <= MAX_LINE


def alike(one: Message, other: Message) -> bool:
    if isinstance(one, Request) and isinstance(other, Request):
        start = (one.method, one.uri) == (other.method, other.uri)
    elif isinstance(one, Response) and isinstance(other, Response):
        start = (one.status, one.reason) == (other.status, other.reason)
    else:
        return False
    return start and one.body == other.body and fields(one) == fields(other)


def fields(of: Message) -> list[tuple[str, str]]:
    return [item for item in of.headers.items() if item[0].lower() not in ("content-length", "l")]


def answered(request: Request, data: bytes) -> None:
    """Our answer can be read, belongs to the request, and has a tag in its To."""
    response = response_to(request, 200, to_tag="ours")
    written = response.encode()
    assert len(written) <= len(data) + ROOM
    if fits(response, written):
        again = parse(written)
        assert again.top_via == request.top_via
        assert (again.call_id, again.cseq, again.from_) == (
            request.call_id,
            request.cseq,
            request.from_,
        )
        assert again.to.tag == (request.to.tag or "ours")
        assert same_uri(again.to.uri, request.to.uri) or again.to.uri == request.to.uri


def messages() -> list[bytes]:
    careless = [
        seed.replace(b"<sip:52.66.10.20>\r\n", b"<sip:52.66.10.20>;tag=\r\n", 1)
        for seed in corpus.EXOTEL[2:3]
    ]
    return [*corpus.SIP, *careless]


# Header values: reading, writing and reading gives the same value, alone and in a list.


def value(data: bytes, meter: Meter) -> None:
    """The first byte chooses the grammar, the rest is the text."""
    kind = KINDS[data[0] % len(KINDS)] if data else KINDS[0]
    text = data[1:].decode("utf-8", "surrogateescape")
    if any(char in text for char in "\r\n\0"):
        return  # `Headers` never hands these out
    with meter:
        kind(text)


def fixpoint(read: Callable[[str], object]) -> Callable[[str], None]:
    def one(text: str) -> None:
        try:
            first = read(text)
        except ParseError:
            return
        written = str(first)
        again = read(written)
        assert again == first, "not the same when read again"
        assert str(again) == written

    def run(text: str) -> None:
        one(text)
        for element in split_list(text)[:20]:
            one(element)

    return run


def address(text: str) -> None:
    fixpoint(parse_name_addr)(text)
    with suppress(ParseError):
        read = parse_name_addr(text)
        tagged = parse_name_addr(str(read.with_tag("x")))
        assert tagged.tag == "x"
        if split_list(text) == [text.strip(LWS)]:
            assert listed(["<sip:x@y>", str(tagged)], parse_name_addr)[-1] == tagged


def via(text: str) -> None:
    fixpoint(parse_via)(text)
    with suppress(ParseError):
        read = parse_via(text)
        seen = parse_via(str(read.with_source("192.0.2.9", 4000)))
        assert (seen.host, seen.port, seen.branch) == (read.host, read.port, read.branch)
        if read.wants_rport:
            assert (seen.received, seen.rport) == ("192.0.2.9", 4000)
        if split_list(text) == [text.strip(LWS)]:
            assert listed(["SIP/2.0/UDP y", str(seen)], parse_via)[-1] == seen


def listed(texts: list[str], read: Callable[[str], NameAddr | Via]) -> list[NameAddr | Via]:
    """What a peer reads of a list that we wrote."""
    return [read(element) for element in split_list(", ".join(texts))]


def headers(text: str) -> None:
    """What is read of whole fields, and never raises but for `ParseError`."""
    names = ("Reason", "Retry-After", "Record-Route", "Contact", "P-Asserted-Identity")
    known = Headers([(name, text) for name in names])
    for reason in parse_reasons(known):
        assert [reason] == parse_reasons(Headers([("Reason", str(reason))]))
    wait = parse_retry_after(known)
    assert wait is None or 0 <= wait < 2**31
    for name in names[2:]:
        with suppress(ParseError):
            parse_addresses(known, name)
    with suppress(ParseError):
        assert parse_number(text, "Number", 2**31) <= 2**31
    unescape(text).encode("utf-8", "surrogateescape")
    assert unquote(quote(text)) == text


KINDS = (
    fixpoint(parse_uri),
    address,
    fixpoint(parse_contact),
    fixpoint(parse_route),
    via,
    fixpoint(parse_cseq),
    headers,
)


def values() -> list[bytes]:
    found: dict[bytes, None] = {}
    wanted = {"from": 1, "to": 1, "contact": 2, "m": 2, "record-route": 3, "route": 3}
    wanted |= {"via": 4, "v": 4, "cseq": 5, "reason": 6, "p-asserted-identity": 1}
    for seed in corpus.SIP:
        for line in seed.split(b"\r\n\r\n")[0].split(b"\r\n"):
            name, colon, text = line.partition(b":")
            kind = wanted.get(name.decode("latin-1").strip().lower())
            if colon and kind is not None:
                found[bytes([kind]) + text.strip()] = None
                found[bytes([6]) + text.strip()] = None
            elif not colon and line.endswith(b"SIP/2.0"):
                found[b"\0" + line.split(b" ")[1]] = None
    return list(found)


WORDS = (*SIP_LINES, *SDP_LINES, *JUNK, *NUMBERS[:6], b"\r\n", b"\r\n\r\n", b"SIP/2.0", b";lr")
TARGETS = (
    Target(name="framing", run=framing, seeds=streams, dictionary=WORDS, longest=9000, share=2),
    Target(
        name="message",
        run=message,
        seeds=messages,
        dictionary=WORDS,
        longest=9000,
        share=2,
    ),
    Target(name="value", run=value, seeds=values, dictionary=WORDS, longest=600, share=2),
)

"""SIP messages: header fields, requests, responses; reading and writing them.

Text is decoded as UTF-8 with ``surrogateescape``, so any bytes survive a round trip.
Reading is split-based: no regular expression runs over a header block except the unfold.

RFC 3261 7, 8.1.1, 8.2.6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from bridge.errors import MisuseError
from bridge.sip.bodies import find_sdp
from bridge.sip.grammar import LWS, ParseError, is_token, parse_number, split_list
from bridge.sip.headers import (
    MAX_ELEMENTS,
    CSeq,
    NameAddr,
    Via,
    parse_contact,
    parse_cseq,
    parse_name_addr,
    parse_via,
    split_all,
)
from bridge.sip.registry import COMMON_NAMES, COMPACT_FORMS, REASON_PHRASES
from bridge.sip.uri import parse_uri

__all__ = [
    "MAX_ELEMENTS",
    "MAX_HEADERS",
    "MAX_LINE",
    "MAX_MESSAGE",
    "Headers",
    "Message",
    "ParseError",
    "Request",
    "Response",
    "check",
    "parse",
    "read",
    "read_head",
    "response_to",
]

MAX_MESSAGE = 65_536  # bytes, start line to end of body
MAX_HEADERS = 256
MAX_LINE = 8_192  # characters of a start line or an unfolded header field

_FOLD = re.compile(r"\r\n[ \t]+")
_UNSAFE = re.compile("[\r\n]|(?<!\\\\)\x00")
_WHITE = re.compile("[\x00-\x20\x7f]")
_AT_END = LWS + ";"


# Spellings seen all day, so that reading them is one look-up.
_KNOWN = {
    spelled: COMPACT_FORMS.get(name.lower(), name.lower())
    for name in (*COMMON_NAMES, *COMPACT_FORMS)
    for spelled in (name, name.lower())
}


def _key(name: str) -> str:
    known = _KNOWN.get(name)
    if known is not None:
        return known
    lowered = name.lower()
    return COMPACT_FORMS.get(lowered, lowered)


def _check_text(text: str, what: str) -> None:
    """Refuse what could end a line or not be encoded. NUL may stand in a quoted pair."""
    if text.isascii():
        if not text.isprintable() and _UNSAFE.search(text) is not None:
            raise MisuseError(f"{what} would break the message")
        return
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise MisuseError(f"{what} cannot be encoded") from None
    if _UNSAFE.search(text) is not None:
        raise MisuseError(f"{what} would break the message")


class Headers:
    """Header fields in order.

    Names compare without case and without regard to compact forms; the spelling given is
    the spelling written. A value with CR, LF or a bare NUL raises MisuseError.
    """

    __slots__ = ("_fields",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: list[tuple[str, str, str]] = []
        for name, value in items:
            self.add(name, value)

    @classmethod
    def _trusted(cls, fields: list[tuple[str, str, str]]) -> Headers:
        headers = cls.__new__(cls)
        headers._fields = fields
        return headers

    @staticmethod
    def _field(name: str, value: str) -> tuple[str, str, str]:
        if not is_token(name):
            raise MisuseError("Header name is not a token")
        _check_text(value, "Header value")
        return (_key(name), name, value)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of the first field called *name*."""
        wanted = _key(name)
        for key, _, value in self._fields:
            if key == wanted:
                return value
        return default

    def all(self, name: str) -> list[str]:
        """The value of every field called *name*, in order, not split."""
        wanted = _key(name)
        return [value for key, _, value in self._fields if key == wanted]

    def values(self, name: str) -> list[str]:
        """The comma-separated elements over all fields called *name*, in order.

        At most `MAX_ELEMENTS`: nobody means more, and each costs something.
        """
        return split_all(self.all(name))

    def add(self, name: str, value: str) -> None:
        """Append a field."""
        self._fields.append(self._field(name, value))

    def prepend(self, name: str, value: str) -> None:
        """Put a field before all others."""
        self._fields.insert(0, self._field(name, value))

    def set(self, name: str, value: str) -> None:
        """Replace every field called *name* by one, at the place of the first."""
        new = self._field(name, value)
        places = [at for at, known in enumerate(self._fields) if known[0] == new[0]]
        if not places:
            self._fields.append(new)
            return
        self._fields[places[0]] = new
        for at in reversed(places[1:]):
            del self._fields[at]

    def replace_first(self, name: str, value: str) -> None:
        """Replace the first comma-separated element of the first field called *name*.

        This is how ``received`` gets into the top Via when several share a field.
        """
        key, spelled, _ = self._field(name, value)
        for at, (known, _, old) in enumerate(self._fields):
            if known == key:
                rest = split_list(old)[1:]
                self._fields[at] = (key, spelled, ", ".join([value, *rest]))
                return
        self.add(name, value)

    def remove(self, name: str) -> None:
        """Remove every field called *name*; none is fine."""
        wanted = _key(name)
        self._fields = [known for known in self._fields if known[0] != wanted]

    def names(self) -> list[str]:
        """Full names in lower case, in order, one for each field."""
        return [key for key, _, _ in self._fields]

    def items(self) -> list[tuple[str, str]]:
        """Names as spelled, and values, in order."""
        return [(name, value) for _, name, value in self._fields]

    def copy(self) -> Headers:
        """An independent copy."""
        return Headers._trusted(self._fields.copy())

    def copied(self, *names: str) -> Headers:
        """A copy of only the fields called *names*, in the order of this message."""
        wanted = {_key(name) for name in names}
        return self._chosen(wanted)

    def _chosen(self, keys: Collection[str]) -> Headers:
        return Headers._trusted([known for known in self._fields if known[0] in keys])

    def extend(self, items: Headers | Iterable[tuple[str, str]]) -> None:
        """Append fields."""
        if isinstance(items, Headers):
            self._fields.extend(items._fields)
            return
        for name, value in items:
            self.add(name, value)

    def lines(self, body_length: int) -> Iterator[str]:
        """Header lines to write, with one Content-Length, last when there was none."""
        written = False
        for key, name, value in self._fields:
            if key != "content-length":
                yield f"{name}: {value}"
            elif not written:
                written = True
                yield f"{name}: {body_length}"
        if not written:
            yield f"Content-Length: {body_length}"

    def __contains__(self, name: str) -> bool:
        wanted = _key(name)
        return any(key == wanted for key, _, _ in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._fields == other._fields

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        # Values may be numbers of callers: names only.
        return f"Headers({', '.join(name for _, name, _ in self._fields)})"


T = TypeVar("T")


class _Typed:
    """Typed values of a message, remembered with the text they were read from."""

    __slots__ = ()

    headers: Headers
    body: bytes
    _cache: dict[str, tuple[str, object]]

    def remember_via(self, via: Via) -> None:
        """Note that the first Via element is *via* now; it was written there."""
        text = self.headers.get("Via")
        if text is not None:
            self._cache["Via"] = (text, via)

    def _read(self, name: str, read: Callable[[str], T]) -> T:
        text = self.headers.get(name)
        if text is None:
            raise ParseError(f"{name} is missing")
        known = self._cache.get(name)
        if known is not None and known[0] == text:
            return known[1]  # type: ignore[return-value]
        value = read(text)
        self._cache[name] = (text, value)
        return value

    @property
    def call_id(self) -> str:
        """The Call-ID; raises ParseError."""
        return self._read("Call-ID", _read_call_id)

    @property
    def cseq(self) -> CSeq:
        """The CSeq; raises ParseError."""
        return self._read("CSeq", parse_cseq)

    @property
    def top_via(self) -> Via:
        """The first Via element; raises ParseError."""
        return self._read("Via", _read_top_via)

    @property
    def from_(self) -> NameAddr:
        """The From address; raises ParseError."""
        return self._read("From", parse_name_addr)

    @property
    def to(self) -> NameAddr:
        """The To address; raises ParseError."""
        return self._read("To", parse_name_addr)

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact, None when there is none; raises ParseError."""
        return self._read("Contact", _read_first_contact) if "Contact" in self.headers else None

    @property
    def sdp(self) -> bytes | None:
        """The session description, also out of a multipart body; None when there is none."""
        if not self.body or self.headers.get("Content-Encoding", "identity") != "identity":
            return None
        headers = self.headers
        disposition = headers.get("Content-Disposition")
        return find_sdp(headers.get("Content-Type"), self.body, disposition)

    def _encode(self, start_line: str) -> bytes:
        _check_text(start_line, "Start line")
        lines = "\r\n".join((start_line, *self.headers.lines(len(self.body))))
        return (lines + "\r\n\r\n").encode("utf-8", "surrogateescape") + self.body


@dataclass(slots=True)
class Request(_Typed):
    """A request. ``uri`` is the Request-URI as written."""

    method: str
    uri: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = field(default=b"", repr=False)
    _cache: dict[str, tuple[str, object]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def encode(self) -> bytes:
        """The bytes to send, with the right Content-Length."""
        if not is_token(self.method) or not self.uri or _WHITE.search(self.uri) is not None:
            raise MisuseError("Request line would break the message")
        return self._encode(f"{self.method} {self.uri} SIP/2.0")


@dataclass(slots=True)
class Response(_Typed):
    """A response."""

    status: int
    reason: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = field(default=b"", repr=False)
    _cache: dict[str, tuple[str, object]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def encode(self) -> bytes:
        """The bytes to send, with the right Content-Length."""
        if not 100 <= self.status <= 699:
            raise MisuseError("Status code is out of range")
        return self._encode(f"SIP/2.0 {self.status} {self.reason}")


Message = Request | Response


def _read_call_id(text: str) -> str:
    if not text or _WHITE.search(text) is not None:
        raise ParseError("Call-ID is malformed")
    return text


def _read_top_via(text: str) -> Via:
    elements = split_list(text)
    if not elements:
        raise ParseError("Via is malformed")
    return parse_via(elements[0])


def _read_first_contact(text: str) -> NameAddr:
    elements = split_list(text)
    if not elements:
        raise ParseError("Contact is malformed")
    return parse_contact(elements[0])


def parse(data: bytes) -> Message:
    """Return the message in *data*, one datagram or one frame of a stream.

    On what this returns ``call_id``, ``cseq``, ``top_via``, ``from_`` and ``to`` never
    raise, nor does `parse_uri` of the Request-URI. Bytes after the body are dropped
    (RFC 3261 18.3). Raises ParseError and nothing else; its ``request`` is set when a
    request could be read well enough to be refused with `response_to`.
    """
    message = read(data)
    check(message)
    return message


def read(data: bytes) -> Message:
    """Return the message in *data* without looking into header values.

    Limits: `MAX_MESSAGE`, `MAX_HEADERS`, `MAX_LINE`. Raises ParseError.
    """
    message = read_head(data)
    length = message.headers.all("Content-Length")
    request = message if isinstance(message, Request) else None
    if len(length) > 1:
        raise ParseError("Content-Length appears more than once", 400, request)
    if not length:
        return message
    try:
        size = parse_number(length[0], "Content-Length", MAX_MESSAGE)
    except ParseError as error:
        raise error.with_request(request) from None
    # RFC 3261 18.3: "If the transport packet ends before the end of the message body, this
    # is considered an error."
    if size > len(message.body):
        raise ParseError("Body is shorter than Content-Length", 400, request)
    if size < len(message.body):
        message.body = message.body[:size]
    return message


def read_head(data: bytes) -> Message:
    """Return the message with everything after the header as its body; raises ParseError."""
    if data[:2] == b"\r\n":
        # RFC 3261 7.5: "Implementations processing SIP messages over stream-oriented
        # transports MUST ignore any CRLF appearing before the start-line."
        data = data.lstrip(b"\r\n")
    if len(data) > MAX_MESSAGE:
        raise ParseError(f"Message is larger than {MAX_MESSAGE} bytes", 513)
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        raise ParseError("Header is not ended by an empty line")
    text = head.decode("utf-8", "surrogateescape")
    if "\r\n " in text or "\r\n\t" in text:
        # RFC 3261 7.3.1: folding and a single SP mean the same.
        text = _FOLD.sub(" ", text)
    lines = text.split("\r\n")
    fields, error = _read_fields(lines)
    if error is None and _has_stray(text, len(lines)):
        error = ParseError("Header has a stray CR, LF or NUL")
    # Fields go unchecked only when every line was clean; else they are answered from, never
    # written: a request with an error keeps what `Headers.add` would accept.
    if error is not None:
        fields = [known for known in fields if _UNSAFE.search(known[2]) is None]
    message = _read_start_line(lines[0], Headers._trusted(fields), body)
    if error is not None:
        raise error.with_request(message if isinstance(message, Request) else None)
    return message


def _has_stray(text: str, lines: int) -> bool:
    return (
        text.count("\n") != lines - 1
        or text.count("\r") != lines - 1
        or ("\x00" in text and _UNSAFE.search(text.replace("\r\n", " ")) is not None)
    )


def _read_fields(lines: list[str]) -> tuple[list[tuple[str, str, str]], ParseError | None]:
    """Return what could be read of the header lines, and the first error."""
    fields: list[tuple[str, str, str]] = []
    error: ParseError | None = None
    if len(lines) > MAX_HEADERS + 1:
        error = ParseError(f"Message has more than {MAX_HEADERS} header fields", 513)
        del lines[MAX_HEADERS + 1 :]
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        key = _KNOWN.get(name)
        if key is None:
            name = name.rstrip(LWS)
            if not is_token(name):
                error = error or ParseError("Header line has no name")
                continue
            key = _key(name)
        if not colon:
            error = error or ParseError("Header line has no colon")
        elif len(line) > MAX_LINE:
            error = error or ParseError(f"Header line is longer than {MAX_LINE} characters", 513)
        else:
            fields.append((key, name, value.strip(LWS)))
    return fields, error


def _guessed(line: str, headers: Headers) -> Request | None:
    """Return what a malformed line must have meant, so that its sender can be told."""
    words = line.split()
    if len(words) < 2 or words[-1].upper() != "SIP/2.0" or not is_token(words[0]):
        return None
    return Request(words[0], " ".join(words[1:-1]), headers)


def _read_start_line(line: str, headers: Headers, body: bytes) -> Message:
    if len(line) > MAX_LINE:
        raise ParseError(f"Start line is longer than {MAX_LINE} characters", 513)
    if line[:4].upper() == "SIP/":
        return _read_status_line(line, headers, body)
    words = line.split(" ")
    if len(words) != 3 or not is_token(words[0]) or _WHITE.search(line.replace(" ", "")):
        raise ParseError("Request line is malformed", 400, _guessed(line, headers))
    method, uri, version = words
    request = Request(method, uri, headers, body)
    if version.upper() == "SIP/2.0":
        return request
    if version[:4].upper() == "SIP/":
        raise ParseError("SIP version is not supported", 505, request)
    raise ParseError("Request line is malformed")


def _read_status_line(line: str, headers: Headers, body: bytes) -> Response:
    version, _, rest = line.partition(" ")
    if version.upper() != "SIP/2.0":
        raise ParseError("SIP version is not supported", 505)
    status, _, reason = rest.partition(" ")
    if len(status) != 3 or not (status.isascii() and status.isdigit()):
        raise ParseError("Status code is malformed")
    if not "100" <= status <= "699":
        raise ParseError("Status code is out of range")
    return Response(int(status), reason, headers, body)


def check(message: Message) -> None:
    """Raise ParseError unless the fields every message needs are there once and readable.

    RFC 3261 8.1.1. Max-Forwards may be missing, as RFC 2543 allowed.
    """
    request = message if isinstance(message, Request) else None
    try:
        _check_fields(message)
        if request is not None:
            _check_request(request)
    except ParseError as error:
        raise error.with_request(request) from None


def _check_fields(message: Message) -> None:
    counts = dict.fromkeys(_SINGLE, 0)
    for key in message.headers.names():
        if key in counts:
            counts[key] += 1
    for key, count in counts.items():
        if count > 1:
            raise ParseError(f"{_SINGLE[key]} appears more than once")
    # Each access reads the field, raises when it is missing or malformed, and is remembered.
    message.top_via  # noqa: B018
    message.from_  # noqa: B018
    message.to  # noqa: B018
    message.call_id  # noqa: B018
    message.cseq  # noqa: B018


def _check_request(request: Request) -> None:
    # RFC 3261 8.1.1.5: "The method MUST match that of the request."
    if request.cseq.method != request.method:
        raise ParseError("CSeq names another method")
    hops = request.headers.get("Max-Forwards")
    if hops is not None:
        parse_number(hops, "Max-Forwards", 255)
    parse_uri(request.uri)


def response_to(
    request: Request,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None = None,
    headers: Headers | Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Response:
    """Return a response to *request* (RFC 3261 8.2.6, 12.1.1).

    Copies every Via, From, To, Call-ID, CSeq and Timestamp; Record-Route too where a
    dialog may begin. *to_tag* is added to a To that has none. Works for a request that
    failed `check`: what is not there is not copied.
    """
    dialog_begins = request.method == "INVITE" and 101 <= status <= 299
    copied = request.headers._chosen(_COPIED_WITH_ROUTE if dialog_begins else _COPIED)
    if to_tag is not None:
        _tag_to(copied, to_tag)
    copied.extend(headers)
    phrase = REASON_PHRASES.get(status, "") if reason is None else reason
    return Response(status, phrase, copied, body)


def _tag_to(headers: Headers, tag: str) -> None:
    text = headers.get("To")
    if text is None:
        return
    try:
        known = parse_name_addr(text)
    except ParseError:
        known = None
    if known is not None and known.tag is not None:
        return
    if known is not None and known.param("tag") is not None:
        headers.set("To", str(known.with_tag(tag)))  # in the place of an empty one
        return
    # Appended to the text as written: parameters at the end belong to the header.
    # A semicolon at the end, which reading forgives, would make an empty one before ours.
    headers.set("To", f"{text.rstrip(_AT_END)};tag={tag}")


_COPIED = frozenset(("via", "from", "to", "call-id", "cseq", "timestamp"))
_COPIED_WITH_ROUTE = _COPIED | {"record-route"}
_SINGLE = {
    "from": "From",
    "to": "To",
    "call-id": "Call-ID",
    "cseq": "CSeq",
    "max-forwards": "Max-Forwards",
}

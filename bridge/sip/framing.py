"""Cutting a TCP or TLS byte stream into SIP messages and keep-alives.

RFC 3261 7.5, 18.3; RFC 5626 3.5.1, 4.4.1.

What is between messages: CRLFCRLF is a `PING` (to be answered with one CRLF), a lone CRLF
a `PONG`. A peer may also put CRLFs before a start line for no reason; nothing tells those
apart from keep-alives, so they are reported as such and the message follows. A lone CRLF at
the end of what was read is reported at once, for a pong must not wait for the next message;
should another CRLF follow, that completes a ping. So a ping cut in its middle gives
``PONG, PING``; frames other than `PONG` never depend on how the stream was cut.

Lines ended by LF alone break the stream (400): RFC 3261 25.1 wants CRLF, and a second
opinion on where a line ends is a second opinion on where a message ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from bridge.sip.grammar import ParseError, parse_number
from bridge.sip.message import MAX_MESSAGE, Request, read_head

_END = b"\r\n\r\n"
_FOLD = re.compile(rb"\r\n[ \t]+")
_CR, _LF = b"\r\n"
_LENGTH = re.compile(
    rb"\r\n(?:content-length|l)[ \t]*(?::(.*?))?(?=\r\n)", re.IGNORECASE | re.DOTALL
)
_BARE_LF = re.compile(rb"(?<!\r)\n")


class KeepAlive(Enum):
    """What peers send between messages (RFC 5626 3.5.1)."""

    PING = "ping"  # CRLFCRLF: answer with CRLF
    PONG = "pong"  # CRLF


PING = KeepAlive.PING
PONG = KeepAlive.PONG


@dataclass(frozen=True, slots=True)
class Broken:
    """The stream cannot be understood any more.

    ``error.request`` is the request to answer before closing, when one could be read;
    ``head`` is what was received of the message, at most 64 KiB.
    """

    error: ParseError
    head: bytes


Frame = bytes | KeepAlive | Broken


class StreamFramer:
    """Frames of one connection, in order.

    Holds at most one message (`MAX_MESSAGE`) and what one `feed` brought. Every byte is
    looked at a bounded number of times, however it arrives. Never raises.
    """

    __slots__ = ("_broken", "_buffer", "_half_ping", "_scanned", "_total")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # bytes of an unfinished header already searched for its end
        self._total: int | None = None  # size of the message, once its header is complete
        self._half_ping = False  # a CRLF was reported as PONG and may become a PING
        self._broken = False

    @property
    def broken(self) -> bool:
        """Whether the stream was given up; nothing is accepted any more."""
        return self._broken

    @property
    def idle(self) -> bool:
        """Whether the stream stands between two messages."""
        return not self._buffer and not self._broken

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames completed by *data*; after `Broken` always none."""
        if self._broken:
            return []
        frames: list[Frame] = []
        self._buffer += data
        position = self._skip_line_breaks(0, frames)
        while step := self._take(position, frames):
            position = self._skip_line_breaks(position + step, frames)
        del self._buffer[:position]
        return frames

    def _skip_line_breaks(self, position: int, frames: list[Frame]) -> int:
        buffer = self._buffer
        if self._total is not None:
            return position
        while buffer.startswith(b"\r\n", position):
            if self._half_ping:
                self._half_ping = False
                frames.append(PING)
                position += 2
            elif buffer.startswith(_END, position):
                frames.append(PING)
                position += 4
            elif buffer.startswith(b"\r\n\r", position) and len(buffer) == position + 3:
                break
            else:
                frames.append(PONG)
                position += 2
                self._half_ping = len(buffer) == position
        return position

    def _take(self, position: int, frames: list[Frame]) -> int:
        """Take one message at *position*; return its size, 0 when it is not complete."""
        if self._total is None:
            self._find_head(position, frames)
        if self._total is None or len(self._buffer) - position < self._total:
            return 0
        total = self._total
        frames.append(bytes(self._buffer[position : position + total]))
        self._total = None
        self._scanned = 0
        return total

    def _find_head(self, position: int, frames: list[Frame]) -> None:
        buffer = self._buffer
        available = len(buffer) - position
        if available == 0 or (available < 4 and buffer[position] == _CR):
            return
        self._half_ping = False
        limit = position + MAX_MESSAGE
        resume = position + max(0, self._scanned - 3)
        end = buffer.find(_END, resume, limit)
        stop = end if end >= 0 else min(len(buffer), limit)
        bare = position if buffer[position] == _LF else _find_bare_lf(buffer, resume, stop)
        if bare >= 0:
            self._break(ParseError("Line is not ended by CRLF"), position, bare + 1, frames)
        elif end >= 0:
            self._measure(position, end + 4, frames)
        elif available >= MAX_MESSAGE:
            error = ParseError(f"Message is larger than {MAX_MESSAGE} bytes", 513)
            self._break(error, position, limit, frames)
        else:
            self._scanned = available

    def _measure(self, position: int, end: int, frames: list[Frame]) -> None:
        """Find the size of the message whose header ends at *end*, before its body is kept."""
        head = bytes(self._buffer[position:end])
        try:
            total = len(head) + _content_length(head)
            if total > MAX_MESSAGE:
                raise ParseError(f"Message is larger than {MAX_MESSAGE} bytes", 513)
        except ParseError as error:
            self._break(error.with_request(_readable(head)), position, end, frames)
        else:
            self._total = total

    def _break(self, error: ParseError, start: int, stop: int, frames: list[Frame]) -> None:
        frames.append(Broken(error, bytes(self._buffer[start:stop])))
        self._broken = True
        self._buffer.clear()


def _find_bare_lf(buffer: bytearray, start: int, stop: int) -> int:
    bare = _BARE_LF.search(buffer, start, stop)
    return -1 if bare is None else bare.start()


def _content_length(head: bytes) -> int:
    """Return Content-Length; raises ParseError.

    RFC 3261 18.3: "In the case of stream-oriented transports such as TCP, the Content-Length
    header field indicates the size of the body. The Content-Length header field MUST be used
    with stream oriented transports."
    """
    if b"\r\n " in head or b"\r\n\t" in head:
        head = _FOLD.sub(b" ", head)
    found = _LENGTH.findall(head)
    if len(found) > 1:
        raise ParseError("Content-Length appears more than once")
    if not found:
        raise ParseError("Content-Length is missing")
    text = found[0].strip(b" \t").decode("latin-1")
    if text[:1] == "-":
        raise ParseError("Content-Length is negative")
    try:
        return parse_number(text, "Content-Length", MAX_MESSAGE)
    except ParseError as error:
        status = 513 if error.text.endswith("too large") else 400
        raise ParseError(error.text, status) from None


def _readable(head: bytes) -> Request | None:
    """Return the request a broken message began with, as far as it can be read."""
    try:
        message = read_head(head)
    except ParseError as error:
        return error.request
    return message if isinstance(message, Request) else None

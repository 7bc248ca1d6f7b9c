"""RTP packets on the wire (RFC 3550 section 5.1)."""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER = struct.Struct("!BBHII")
HEADER_SIZE = HEADER.size
_EXTENSION = struct.Struct("!HH")

SEQUENCE_MASK = 0xFFFF
TIMESTAMP_MASK = 0xFFFF_FFFF


class RtpError(ValueError):
    """A datagram is not an RTP packet, or cannot be made one."""


class Extension(NamedTuple):
    """The header extension: *data* is a multiple of four bytes (RFC 3550 5.3.1)."""

    profile: int
    data: bytes


class Packet(NamedTuple):
    """One RTP packet. A named tuple, because one is made for every datagram."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False
    csrc: tuple[int, ...] = ()
    extension: Extension | None = None


def is_rtcp(data: bytes) -> bool:
    """Tell RTCP from RTP on one port by its packet type (RFC 5761 section 4)."""
    return len(data) >= 2 and 192 <= data[1] <= 223 and data[0] >> 6 == 2


def parse(data: bytes) -> Packet:
    """Return the packet in *data*. Raises `RtpError`.

    RFC 3550 5.1, A.1.
    """
    if len(data) < HEADER_SIZE:
        raise RtpError("shorter than an RTP header")
    first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    if first == 0x80:  # version 2, no padding, no extension, no CSRC: nearly all there are
        return Packet(second & 0x7F, sequence, timestamp, ssrc, data[12:], second > 0x7F)
    return _parse_rest(
        data, first, Packet(second & 0x7F, sequence, timestamp, ssrc, b"", second > 0x7F)
    )


def _parse_rest(data: bytes, first: int, bare: Packet) -> Packet:
    """Return *bare* with what follows the fixed header."""
    if first >> 6 != 2:
        raise RtpError("RTP version is not 2")
    start = HEADER_SIZE + 4 * (first & 0x0F)
    if len(data) < start:
        raise RtpError("CSRC list runs past the end")
    csrc = struct.unpack_from(f"!{first & 0x0F}I", data, HEADER_SIZE)
    extension = None
    if first & 0x10:
        if len(data) < start + 4:
            raise RtpError("header extension runs past the end")
        profile, words = _EXTENSION.unpack_from(data, start)
        start += 4 + 4 * words
        if len(data) < start:
            raise RtpError("header extension runs past the end")
        extension = Extension(profile, data[start - 4 * words : start])
    end = len(data) - _padding(data, first, start)
    return bare._replace(payload=data[start:end], csrc=csrc, extension=extension)


def _padding(data: bytes, first: int, start: int) -> int:
    """Return the number of padding bytes at the end of *data*."""
    if not first & 0x20:
        return 0
    # RFC 3550 5.1: the last octet of the padding contains a count of how many
    # padding octets should be ignored, including itself.
    count = data[-1]
    if count == 0 or count > len(data) - start:
        raise RtpError("padding count is wrong")
    return count


def build(packet: Packet, *, padding: int = 0) -> bytes:
    """Return the bytes of *packet* with *padding* (0 to 255) bytes at the end.

    Raises `RtpError` for values that do not fit the header.
    """
    if len(packet.csrc) > 15:
        raise RtpError("more than 15 CSRC")
    if not 0 <= padding <= 255:
        raise RtpError("padding is not 0 to 255")
    if not 0 <= packet.payload_type <= 127:
        raise RtpError("payload type is not 0 to 127")
    if packet.extension is not None and len(packet.extension.data) % 4:
        raise RtpError("header extension is not a multiple of four bytes")
    tail = bytes(padding - 1) + bytes((padding,)) if padding else b""
    try:
        return _header(packet, 0x20 if padding else 0) + packet.payload + tail
    except struct.error as error:
        raise RtpError("a header field is out of range") from error


def _header(packet: Packet, flags: int) -> bytes:
    """Return the header with CSRC list and extension. Raises ``struct.error``."""
    first = 0x80 | flags | len(packet.csrc)
    rest = struct.pack(f"!{len(packet.csrc)}I", *packet.csrc)
    if packet.extension is not None:
        profile, data = packet.extension
        first |= 0x10
        rest += _EXTENSION.pack(profile, len(data) // 4) + data
    second = packet.payload_type | (0x80 if packet.marker else 0)
    return HEADER.pack(first, second, packet.sequence, packet.timestamp, packet.ssrc) + rest


def timestamp_distance(later: int, earlier: int) -> int:
    """Return the signed distance of two 32-bit timestamps, modulo 2**32."""
    return ((later - earlier + 0x8000_0000) & TIMESTAMP_MASK) - 0x8000_0000


class Stream:
    """An outgoing stream: constant SSRC, sequence and timestamp that never go back.

    `skip` advances the timestamp over what was not sent; the next packet then
    carries the marker (RFC 3551 4.1: the first packet of a talkspurt).
    """

    __slots__ = ("marker", "octets", "packets", "sequence", "ssrc", "timestamp")

    def __init__(self, *, ssrc: int, sequence: int, timestamp: int) -> None:
        self.ssrc = ssrc
        self.sequence = sequence
        self.timestamp = timestamp
        self.marker = True
        self.packets = 0
        self.octets = 0

    def packet(self, payload_type: int, payload: bytes, samples: int) -> bytes:
        """Return the next packet and move on by *samples*."""
        data = self._pack(payload_type, payload, self.timestamp, self.marker)
        self.marker = False
        self.timestamp = (self.timestamp + samples) & TIMESTAMP_MASK
        return data

    def event(
        self, payload_type: int, payload: bytes, *, timestamp: int, marker: bool, samples: int
    ) -> bytes:
        """Return a packet of a telephone-event that began at *timestamp*.

        The stream's own timestamp advances by *samples*, as the event lasts.
        """
        data = self._pack(payload_type, payload, timestamp, marker)
        self.timestamp = (self.timestamp + samples) & TIMESTAMP_MASK
        self.marker = True
        return data

    def skip(self, samples: int) -> None:
        """Let *samples* pass unsent."""
        self.timestamp = (self.timestamp + samples) & TIMESTAMP_MASK
        self.marker = True

    def _pack(self, payload_type: int, payload: bytes, timestamp: int, marker: bool) -> bytes:  # noqa: FBT001
        second = payload_type | 0x80 if marker else payload_type
        data = HEADER.pack(0x80, second, self.sequence, timestamp, self.ssrc) + payload
        self.sequence = (self.sequence + 1) & SEQUENCE_MASK
        self.packets += 1
        self.octets += len(payload)
        return data

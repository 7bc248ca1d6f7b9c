"""RTCP: minimal sender and receiver reports, and what theirs say (RFC 3550 section 6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
GOODBYE = 203

_HEADER = struct.Struct("!BBH")
_SENDER = struct.Struct("!IIIII")
_BLOCK = struct.Struct("!IIIIII")
_WORD = struct.Struct("!I")


class RtcpError(ValueError):
    """A datagram is not a compound RTCP packet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportBlock:
    """What one side received of the other's *ssrc* (RFC 3550 6.4.1).

    ``jitter`` in timestamp units, ``delay`` (DLSR) in 1/65536 s, ``last_report``
    (LSR) the middle 32 bits of an NTP time; ``fraction_lost`` in 1/256.
    """

    ssrc: int
    fraction_lost: int
    cumulative_lost: int
    highest_sequence: int
    jitter: int
    last_report: int
    delay: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderInfo:
    """The sender's part of an SR; ``ntp`` is 64 bits."""

    ntp: int
    timestamp: int
    packets: int
    octets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One SR (with ``sender``) or RR."""

    ssrc: int
    sender: SenderInfo | None
    blocks: tuple[ReportBlock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodbye:
    """A BYE: these sources are gone (RFC 3550 6.6)."""

    ssrcs: tuple[int, ...]


RtcpPacket = Report | Goodbye


def ntp(now: float) -> int:
    """Return *now* (seconds) as a 64-bit NTP timestamp.

    RFC 3550 6.4.1: a sender that can keep track of elapsed time but has no
    notion of wallclock time may use the elapsed time instead.
    """
    return int(now * (1 << 32)) & 0xFFFF_FFFF_FFFF_FFFF


def middle(ntp_time: int) -> int:
    """Return the middle 32 bits of a 64-bit NTP timestamp."""
    return ntp_time >> 16 & 0xFFFF_FFFF


def round_trip(block: ReportBlock, now: float) -> float | None:
    """Return the round trip in seconds that *block*, arrived at *now*, proves.

    None when they had no report of ours, or the figures make no sense.
    RFC 3550 6.4.1: A - LSR - DLSR.
    """
    if block.last_report == 0:
        return None
    trip = (middle(ntp(now)) - block.last_report - block.delay) & 0xFFFF_FFFF
    return None if trip >= 60 << 16 else trip / 65536


def build(report: Report, *, cname: str) -> bytes:
    """Return *report* and its SDES CNAME as one compound packet.

    RFC 3550 6.1: an SDES packet containing a CNAME item MUST be included in
    each compound RTCP packet.
    """
    body = _WORD.pack(report.ssrc)
    if report.sender is not None:
        sender = report.sender
        body += _SENDER.pack(
            sender.ntp >> 32,
            sender.ntp & 0xFFFF_FFFF,
            sender.timestamp,
            sender.packets & 0xFFFF_FFFF,
            sender.octets & 0xFFFF_FFFF,
        )
    for block in report.blocks:
        body += _BLOCK.pack(
            block.ssrc,
            block.fraction_lost << 24 | block.cumulative_lost & 0xFF_FFFF,
            block.highest_sequence & 0xFFFF_FFFF,
            block.jitter & 0xFFFF_FFFF,
            block.last_report,
            block.delay & 0xFFFF_FFFF,
        )
    kind = SENDER_REPORT if report.sender is not None else RECEIVER_REPORT
    return _packet(kind, len(report.blocks), body) + _description(report.ssrc, cname)


def build_last(report: Report, *, cname: str) -> bytes:
    """Return *report* as `build` does, with our BYE at its end (RFC 3550 6.1, 6.6)."""
    goodbye = _packet(GOODBYE, 1, _WORD.pack(report.ssrc))
    return build(report, cname=cname) + goodbye


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body


def _description(ssrc: int, cname: str) -> bytes:
    """Return an SDES packet with one CNAME item, ended by zeros (RFC 3550 6.5)."""
    text = cname.encode()[:255]
    chunk = _WORD.pack(ssrc) + bytes((1, len(text))) + text
    chunk += bytes(4 - len(chunk) % 4)
    return _packet(SOURCE_DESCRIPTION, 1, chunk)


def parse(data: bytes) -> list[RtcpPacket]:
    """Return the reports and goodbyes in *data*; other packets are passed over.

    Raises `RtcpError` when *data* is not a valid compound packet (RFC 3550 A.2).
    A single RR or BYE (reduced size, RFC 5506) is accepted.
    """
    packets: list[RtcpPacket] = []
    offset = 0
    if not data:
        raise RtcpError("empty datagram")
    while offset < len(data):
        if len(data) - offset < 4:
            raise RtcpError("shorter than an RTCP header")
        first, kind, words = _HEADER.unpack_from(data, offset)
        if first >> 6 != 2:
            raise RtcpError("RTCP version is not 2")
        end = offset + 4 + 4 * words
        if end > len(data):
            raise RtcpError("RTCP packet runs past the end")
        packet = _parse_body(kind, first & 0x1F, data[offset + 4 : end])
        if packet is not None:
            packets.append(packet)
        offset = end
    return packets


def _parse_body(kind: int, count: int, body: bytes) -> RtcpPacket | None:
    if kind == SENDER_REPORT:
        if len(body) < 24:
            raise RtcpError("sender report is too short")
        high, low, timestamp, packets, octets = _SENDER.unpack_from(body, 4)
        sender = SenderInfo(
            ntp=high << 32 | low, timestamp=timestamp, packets=packets, octets=octets
        )
        return Report(ssrc=_ssrc(body), sender=sender, blocks=_blocks(body[24:], count))
    if kind == RECEIVER_REPORT:
        return Report(ssrc=_ssrc(body), sender=None, blocks=_blocks(body[4:], count))
    if kind == GOODBYE:
        if len(body) < 4 * count:
            raise RtcpError("goodbye is too short")
        return Goodbye(ssrcs=struct.unpack_from(f"!{count}I", body))
    return None


def _ssrc(body: bytes) -> int:
    if len(body) < 4:
        raise RtcpError("report is too short")
    (ssrc,) = _WORD.unpack_from(body)
    return int(ssrc)


def _blocks(body: bytes, count: int) -> tuple[ReportBlock, ...]:
    if len(body) < count * _BLOCK.size:
        raise RtcpError("report block runs past the end")
    return tuple(_block(body, index * _BLOCK.size) for index in range(count))


def _block(body: bytes, offset: int) -> ReportBlock:
    ssrc, loss, highest, jitter, last_report, delay = _BLOCK.unpack_from(body, offset)
    lost = loss & 0xFF_FFFF
    return ReportBlock(
        ssrc=ssrc,
        fraction_lost=loss >> 24,
        cumulative_lost=lost - (1 << 24) if lost & 0x80_0000 else lost,
        highest_sequence=highest,
        jitter=jitter,
        last_report=last_report,
        delay=delay,
    )

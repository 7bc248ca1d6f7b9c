"""What one leg heard: RTP packets in, measurements out. Pure; times are seconds of one clock.

Written against RFC 3550 and RFC 4733 alone, not against the bridge's RTP packages.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.carrier import sound

MAX_RECORDED = 30_000  # packets, ten minutes
MAX_SOURCES = 64
RECENT = 16  # packets that expectations look back at
_FINE = 200  # bins of 0.1 ms, up to 20 ms
_COARSE = 2000  # bins of 1 ms above
DIGITS = "0123456789*#ABCD"


class Packet(NamedTuple):
    """An RTP packet, taken apart."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse(data: bytes) -> Packet | None:
    """Return the RTP packet in *data*, or None. RFC 3550 5.1: CSRC, extension, padding."""
    if len(data) < 12 or data[0] >> 6 != 2:
        return None
    start = 12 + 4 * (data[0] & 0x0F)
    if data[0] & 0x10:
        if len(data) < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    end = len(data) - (data[-1] if data[0] & 0x20 else 0)
    if start > end:
        return None
    return Packet(
        payload_type=data[1] & 0x7F,
        marker=bool(data[1] & 0x80),
        sequence=int.from_bytes(data[2:4], "big"),
        timestamp=int.from_bytes(data[4:8], "big"),
        ssrc=int.from_bytes(data[8:12], "big"),
        payload=bytes(data[start:end]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaReport:
    """What was heard, as numbers. Times in milliseconds.

    ``deviation`` is ``|arrival gap - timestamp gap|`` of consecutive audio packets, which is
    ``|gap - 20|`` at a steady 20 ms.
    """

    sent: int = 0
    packets: int = 0
    audio_packets: int = 0
    malformed: int = 0
    ssrcs: int = 0
    lost: int = 0
    duplicates: int = 0
    reordered: int = 0
    timestamp_faults: int = 0
    markers: int = 0
    rtcp: int = 0
    old_port: int = 0
    srtp: str = ""  # the suite at the end
    unauthentic: int = 0  # SRTP and SRTCP packets that did not pass
    codecs: tuple[str, ...] = ()
    unexpected_payload_types: tuple[int, ...] = ()
    digits: str = ""
    digit_ms: tuple[int, ...] = ()
    deviation_p50: float = 0.0
    deviation_p95: float = 0.0
    deviation_p99: float = 0.0
    deviation_max: float = 0.0
    longest_gap: float = 0.0
    seconds_of_sound: float = 0.0


@dataclass(slots=True)
class Heard:
    """Counts, measures and keeps the received audio of one leg."""

    telephone_event: int | None = None
    packets: int = 0
    audio_packets: int = 0
    malformed: int = 0
    lost: int = 0
    duplicates: int = 0
    reordered: int = 0
    timestamp_faults: int = 0
    markers: int = 0
    digits: str = ""
    first_at: float | None = None
    last_at: float | None = None
    _digit_ms: list[int] = field(default_factory=list)
    _event: tuple[int, int] | None = None  # (SSRC, timestamp) of the last key heard
    _codecs: dict[str, None] = field(default_factory=dict)
    _unexpected: set[int] = field(default_factory=set)
    _ssrcs: set[int] = field(default_factory=set)
    _last: Packet | None = None
    _last_audio: tuple[Packet, float] | None = None
    _deviations: array[int] = field(default_factory=lambda: array("L", [0] * (_FINE + _COARSE)))
    _largest: float = 0.0
    _longest: float = 0.0
    _loud_packets: int = 0
    _first: list[float] = field(default_factory=list)  # arrivals
    _recorded: list[tuple[float, int, int, bytes]] = field(default_factory=list)
    _recent: deque[tuple[float, int, int, bytes]] = field(
        default_factory=lambda: deque(maxlen=RECENT)
    )

    def receive(self, data: bytes, at: float) -> bool:
        """Take a datagram that arrived at *at*; False when it was not RTP."""
        packet = parse(data)
        if packet is None:
            self.malformed += 1
            return False
        self.packets += 1
        self.markers += packet.marker
        if self.first_at is None:
            self.first_at = at
        self.last_at = at
        if len(self._first) < RECENT:
            self._first.append(at)
        if len(self._ssrcs) < MAX_SOURCES:
            self._ssrcs.add(packet.ssrc)
        if not self._in_order(packet):
            return True
        if packet.payload_type in sound.LAWS:
            self._audio(packet, at)
        elif packet.payload_type == self.telephone_event:
            self._key(packet)
        else:
            self._unexpected.add(packet.payload_type)
        return True

    def sounding(self, since: float, hertz: int | None = None, *, packets: int = 5) -> bool:
        """Tell whether the last *packets* audio packets, all after *since*, carry sound."""
        window = list(self._recent)[-packets:]
        if len(window) < packets or window[0][0] < since:
            return False
        samples = array("h")
        for _, _, payload_type, payload in window:
            samples.extend(sound.decode(payload, sound.LAWS[payload_type]))
        return sound.audible(samples, hertz)

    def heard_since(self, since: float) -> bool:
        """Tell whether any RTP packet arrived after *since*."""
        return self.last_at is not None and self.last_at > since

    def before(self, at: float) -> int:
        """Return how many of the first packets arrived before *at*."""
        return sum(arrived < at for arrived in self._first)

    def samples(self) -> array[int]:
        """Return what was recorded, at its timestamps, gaps filled with silence."""
        out = array("h")
        offset = base = 0
        last = None
        for _, timestamp, payload_type, payload in self._recorded:
            if last is None or not 0 <= (timestamp - last) & 0xFFFFFFFF < 0x80000000:
                base, offset = timestamp, len(out)
            last = timestamp
            wanted = offset + ((timestamp - base) & 0xFFFFFFFF)
            if wanted - len(out) > 60 * sound.RATE:  # a jump of the clock is no hour of silence
                base, offset, wanted = timestamp, len(out), len(out)
            if wanted > len(out):
                out.frombytes(bytes(2 * (wanted - len(out))))
            out.extend(sound.decode(payload, sound.LAWS[payload_type]))
        return out

    def report(self, *, sent: int = 0, rtcp: int = 0, old_port: int = 0) -> MediaReport:
        """Return the measurements so far."""
        return MediaReport(
            sent=sent,
            packets=self.packets,
            audio_packets=self.audio_packets,
            malformed=self.malformed,
            ssrcs=len(self._ssrcs),
            lost=self.lost,
            duplicates=self.duplicates,
            reordered=self.reordered,
            timestamp_faults=self.timestamp_faults,
            markers=self.markers,
            rtcp=rtcp,
            old_port=old_port,
            codecs=tuple(self._codecs),
            unexpected_payload_types=tuple(sorted(self._unexpected)),
            digits=self.digits,
            digit_ms=tuple(self._digit_ms),
            deviation_p50=self._percentile(0.50),
            deviation_p95=self._percentile(0.95),
            deviation_p99=self._percentile(0.99),
            deviation_max=round(self._largest * 1000, 2),
            longest_gap=round(self._longest * 1000, 1),
            seconds_of_sound=round(self._loud_packets * sound.FRAME / sound.RATE, 2),
        )

    def _in_order(self, packet: Packet) -> bool:
        last = self._last
        if last is None or last.ssrc != packet.ssrc:
            self._last = packet
            return True
        step = (packet.sequence - last.sequence) & 0xFFFF
        if step == 0:
            self.duplicates += 1
            return False
        if step >= 0x8000:
            self.reordered += 1
            self.lost = max(0, self.lost - 1)
            return False
        self.lost += step - 1
        self._last = packet
        return True

    def _audio(self, packet: Packet, at: float) -> None:
        law = sound.LAWS[packet.payload_type]
        self.audio_packets += 1
        self._codecs[law] = None
        if self._last_audio is not None:
            self._compare(*self._last_audio, packet, at)
        self._last_audio = (packet, at)
        self._loud_packets += sound.loud(packet.payload, law)
        entry = (at, packet.timestamp, packet.payload_type, packet.payload)
        self._recent.append(entry)
        if len(self._recorded) < MAX_RECORDED:
            self._recorded.append(entry)

    def _compare(self, before: Packet, before_at: float, packet: Packet, at: float) -> None:
        self._longest = max(self._longest, at - before_at)
        if packet.ssrc != before.ssrc:
            return
        step = (packet.timestamp - before.timestamp) & 0xFFFFFFFF
        follows = (packet.sequence - before.sequence) & 0xFFFF == 1
        # RFC 3550 5.1: the clock goes on over what is not sent; a marker announces it.
        if (follows and not packet.marker and step != len(before.payload)) or step >= 0x80000000:
            self.timestamp_faults += 1
            return
        deviation = abs((at - before_at) - step / sound.RATE)
        self._largest = max(self._largest, deviation)
        self._deviations[_bin(deviation)] += 1

    def _key(self, packet: Packet) -> None:
        """Count a key once, at its first packet with the E bit. RFC 4733 2.5.1.4."""
        if len(packet.payload) < 4 or not packet.payload[1] & 0x80:
            return
        event = (packet.ssrc, packet.timestamp)
        if event == self._event or packet.payload[0] >= len(DIGITS):
            return
        self._event = event
        if len(self.digits) < 1024:
            self.digits += DIGITS[packet.payload[0]]
            duration = int.from_bytes(packet.payload[2:4], "big")
            self._digit_ms.append(duration * 1000 // sound.RATE)

    def _percentile(self, wanted: float) -> float:
        total = sum(self._deviations)
        seen = 0
        for at, count in enumerate(self._deviations):
            seen += count
            if total and seen >= wanted * total:
                return _milliseconds(at)
        return 0.0


def _bin(deviation: float) -> int:
    """Return the bin of the histogram for a deviation in seconds."""
    if deviation < 0.020:
        return int(deviation * 10_000)
    return min(_FINE + int(deviation * 1000) - 20, _FINE + _COARSE - 1)


def _milliseconds(at: int) -> float:
    """Return the upper edge of a bin."""
    return round((at + 1) / 10, 1) if at < _FINE else float(at - _FINE + 21)

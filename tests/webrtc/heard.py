"""What the tests' WebRTC peer hears and says: received packets as samples, and tones in G.711."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from aiortc.codecs.opus import OpusDecoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtp import RtpPacket
from av import AudioFrame
from numpy.typing import NDArray

from rtp import g711

PCMU, PCMA, OPUS = 0, 8, 111
KEPT = 3000
"""Packets of a track that are kept: a minute."""

PACKET = 160
"""Samples of one packet that we send: 20 ms at 8 kHz."""


@dataclass(slots=True)
class Heard:
    """One remote track: its packets in the order of their arrival, and what reports need."""

    mid: str
    ssrc: int
    packets: deque[RtpPacket] = field(default_factory=lambda: deque(maxlen=KEPT))
    received: int = 0
    first: int = 0  # sequence number
    highest: int = 0  # sequence number, extended by the cycles
    last_sender_report: int = 0  # the middle 32 bits of its NTP time, RFC 3550 6.4.1
    report_at: float = 0.0
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, packet: RtpPacket) -> None:
        """Count and keep one packet."""
        if not self.received:
            self.first = self.highest = packet.sequence_number
        ahead = (packet.sequence_number - self.highest) & 0xFFFF
        if ahead < 0x8000:
            self.highest += ahead
        self.received += 1
        self.packets.append(packet)
        self._more.set()

    async def wait_for(self, packets: int, timeout: float) -> None:
        """Wait until that many packets have come since the start."""
        async with asyncio.timeout(timeout):
            while self.received < packets:
                self._more.clear()
                await self._more.wait()

    def samples(self, last: int = KEPT) -> tuple[NDArray[np.int16], int]:
        """Return the *last* packets decoded, mono, and their sample rate."""
        packets = sorted(list(self.packets)[-last:], key=lambda one: one.timestamp)
        if packets and packets[-1].payload_type == OPUS:
            decoder = OpusDecoder()
            parts = [
                cast(AudioFrame, frame).to_ndarray().astype(np.int16).reshape(-1, 2)[:, 0]
                for packet in packets
                for frame in decoder.decode(JitterFrame(packet.payload, packet.timestamp))
            ]
            return _joined(parts), 48000
        law = _LAWS[packets[-1].payload_type] if packets else g711.PCMU
        parts = [np.frombuffer(g711.decode(law, one.payload), dtype="<i2") for one in packets]
        return _joined(parts), 8000

    def loudest_hertz(self, last: int = 50) -> float:
        """Return the strongest frequency of the *last* packets; 0 for silence."""
        samples, rate = self.samples(last)
        if not len(samples) or not samples.any():
            return 0.0
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        return float(np.argmax(spectrum) * rate / len(samples))


def _joined(parts: list[NDArray[np.int16]]) -> NDArray[np.int16]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int16)


def tone(hertz: float, start: int, law: int, amplitude: int = 9000) -> bytes:
    """Return one packet of a sine from sample *start* on, as G.711; 0 Hz is silence."""
    if not hertz:
        return g711.encode(_LAWS[law], bytes(2 * PACKET))
    step = 2 * math.pi * hertz / 8000
    values = amplitude * np.sin(step * np.arange(start, start + PACKET))
    return g711.encode(_LAWS[law], values.astype("<i2").tobytes())


_LAWS = {PCMU: g711.PCMU, PCMA: g711.PCMA}

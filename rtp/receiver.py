"""The receive path of one stream: latch, payload type, sequence, jitter buffer, events.

Pure: datagrams and `now` go in; frames of PCM and keys come out.
"""

from __future__ import annotations

from collections.abc import Mapping

from rtp import g711
from rtp.dtmf import DtmfReceiver, Key
from rtp.jitter import JitterBuffer
from rtp.latch import Latch, Source
from rtp.packet import Packet, RtpError, parse
from rtp.reception import Reception

COMFORT_NOISE = (13, 19)
"""RFC 3389, and the type that gateways used before it; never decoded, silence to us."""
MAX_PAYLOAD = 200 * g711.RATE // 1000
"""A packet with more audio (200 ms) is refused."""


class Receiver:
    """Everything between a datagram and the PCM of the caller."""

    def __init__(self, latch: Latch, *, target_ms: int = 40) -> None:
        self.latch = latch
        self.reception = Reception()
        self.buffer = JitterBuffer(target_ms=target_ms)
        self.accepted = 0
        self.refused = 0
        self.last_at: float | None = None  # when the last valid packet came
        self._dtmf = DtmfReceiver()
        self._codecs: Mapping[int, str] = {}
        self._dtmf_type: int | None = None
        self._epoch = 0

    def expect(self, codecs: Mapping[int, str], dtmf: int | None) -> None:
        """Take the payload types of *our* SDP: those of audio and of telephone-events."""
        self._codecs = codecs
        self._dtmf_type = dtmf

    def receive(self, data: bytes, source: Source, now: float) -> bool:
        """Take one datagram of *source*; tell whether it counted as RTP of the call."""
        try:
            packet = parse(data)
        except RtpError:
            self.refused += 1
            return False
        if not self._known(packet) or not self.latch.accept(
            source, packet.ssrc, packet.sequence, now
        ):
            self.refused += 1
            return False
        self.accepted += 1
        self.last_at = now
        sequence = self.reception.update(packet.ssrc, packet.sequence)
        if self._epoch != self.reception.epoch:
            self._epoch = self.reception.epoch
            self.buffer.reset()
        if sequence >= 0:
            self._take(packet, sequence, now)
        return True

    def _known(self, packet: Packet) -> bool:
        payload_type = packet.payload_type
        if payload_type in self._codecs:
            return len(packet.payload) <= MAX_PAYLOAD
        return payload_type == self._dtmf_type or payload_type in COMFORT_NOISE

    def _take(self, packet: Packet, sequence: int, now: float) -> None:
        codec = self._codecs.get(packet.payload_type)
        if codec is not None:
            self.reception.arrived(packet.timestamp, now)
            pcm = g711.decode(codec, packet.payload)
            self.buffer.put(sequence, packet.timestamp, pcm, now)
            return
        if packet.payload_type == self._dtmf_type:
            self._dtmf.receive(
                ssrc=packet.ssrc, timestamp=packet.timestamp, payload=packet.payload, now=now
            )
        self.buffer.put(sequence, packet.timestamp, b"", now)

    def frame(self, samples: int, now: float) -> bytes | None:
        """Return the next *samples* of PCM on the steady clock, None: silence."""
        return self.buffer.pull(samples, now)

    def keys(self, now: float) -> list[Key]:
        """Return the keys that ended since the last call."""
        self._dtmf.poll(now)
        if not self._dtmf.keys:
            return []
        keys = list(self._dtmf.keys)
        self._dtmf.keys.clear()
        return keys

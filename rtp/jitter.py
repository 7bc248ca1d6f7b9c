"""A small bounded jitter buffer that plays on the caller's steady clock.

Packets are keyed by extended sequence number (see `rtp.reception`); audio is
16-bit PCM at 8000 Hz. Three things look alike and are told apart:

* a *hole*: later packets are here, this sequence number is not. Concealed.
* a *pause*: sequence numbers go on, the timestamp jumped (DTX, hold). Silence.
* an *underrun*: nothing is here. Concealed while playing stands still; when the
  packet comes late it is played and the delay has grown; when it was lost the
  concealment already played counts for it.
"""

from __future__ import annotations

from rtp.conceal import Concealer
from rtp.g711 import RATE
from rtp.packet import TIMESTAMP_MASK, timestamp_distance

_PER_MS = RATE // 1000
RESYNC_SAMPLES = 100 * _PER_MS
"""A longer jump of the timestamp (100 ms) is not filled but jumped over."""
SHRINK_AFTER_PULLS = 250
"""Pulls with too much in the buffer all the time before one packet is shed."""
MAX_PACKETS = 128


class JitterBuffer:
    """Reorders, delays by about *target_ms*, and fills what is missing.

    Never holds more than *limit_ms* of audio: on overflow the oldest is shed
    until the target is left.
    """

    def __init__(self, *, target_ms: int = 40, limit_ms: int = 200) -> None:
        self.late = 0  # packets that came after their turn
        self.shed = 0  # packets thrown away to keep the delay down
        self._target = target_ms * _PER_MS
        self._limit = limit_ms * _PER_MS
        # Half a frame early: the steady clock adds up to one frame of its own. And a
        # millisecond, so that clocks in step do not depend on rounding.
        self._patience = (target_ms - 11) / 1000
        self._concealer = Concealer()
        self._packets: dict[int, tuple[int, bytes]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all audio: a new source, a restart, or a gate that opens."""
        self._packets.clear()
        self._concealer.forget()
        self._playing = False
        self._filling_since: float | None = None
        self._depth = 0  # samples held in packets
        self._rest = b""  # of the packet being played
        self._last = -1  # sequence number of the packet being played
        self._next = 0  # timestamp of the next sample to play
        self._stalled = 0  # samples concealed while playing stood still
        self._concealed = 0  # samples of the present hole already concealed
        self._lowest = self._limit
        self._pulls = 0

    @property
    def depth_ms(self) -> float:
        """How much audio waits."""
        return (self._depth + len(self._rest) // 2) / _PER_MS

    def put(self, sequence: int, timestamp: int, pcm: bytes, now: float) -> None:
        """Take one packet; empty *pcm* is one without audio (event, comfort noise)."""
        if sequence <= self._last:
            self.late += 1
            return
        if sequence in self._packets or not (pcm or self._packets or self._playing):
            return
        self._packets[sequence] = (timestamp, pcm)
        self._depth += len(pcm) // 2
        if self._filling_since is None:
            self._filling_since = now
        if self._depth > self._limit or len(self._packets) > MAX_PACKETS:
            self._shed_to(self._target)

    def pull(self, samples: int, now: float) -> bytes | None:
        """Return the next *samples* of PCM, or None: silence, nothing to play."""
        if not self._playing and not self._start(now):
            return None
        if not self._rest and self._stalled == 0:
            entry = self._packets.get(self._last + 1)
            if entry is not None and entry[0] == self._next and len(entry[1]) == samples * 2:
                return self._play_whole(entry[1], samples)
        return self._assemble(samples)

    def _play_whole(self, pcm: bytes, samples: int) -> bytes:
        """Play the packet that is next, as a whole."""
        self._last += 1
        del self._packets[self._last]
        self._depth -= samples
        self._next = (self._next + samples) & TIMESTAMP_MASK
        self._concealed = 0
        self._concealer.heard(pcm)
        self._watch_depth()
        return pcm

    def _start(self, now: float) -> bool:
        """Begin to play when the first packet has waited long enough."""
        if self._filling_since is None:
            return False
        if not self._packets:  # what had come was dropped again
            self._filling_since = None
            return False
        if now - self._filling_since < self._patience and self._depth < 2 * self._target:
            return False
        first = min(self._packets)
        self._last = first - 1
        self._next = self._packets[first][0]
        self._playing = True
        self._stalled = self._concealed = 0
        return True

    def _assemble(self, samples: int) -> bytes | None:
        """Put a frame together from pieces of packets, silence and concealment."""
        out = bytearray()
        size = samples * 2
        while len(out) < size:
            wanted = size - len(out)
            if self._rest:
                piece, self._rest = self._rest[:wanted], self._rest[wanted:]
                self._next = (self._next + len(piece) // 2) & TIMESTAMP_MASK
                self._concealer.heard(piece)
                out += piece
            elif self._last + 1 in self._packets:
                out += self._open_next(wanted)
            elif self._packets:
                out += self._fill_hole(wanted)
            else:
                return self._underrun(out, samples)
        self._watch_depth()
        return bytes(out)

    def _open_next(self, wanted: int) -> bytes:
        """Begin the packet whose turn it is; return silence for a pause before it."""
        timestamp, pcm = self._packets[self._last + 1]
        if not pcm:
            self._take_next()
            self._concealer.forget()  # an event or comfort noise: what follows is a pause
            return b""
        gap = self._gap_to(timestamp)
        if 0 < gap <= RESYNC_SAMPLES:
            pause = min(gap, wanted // 2)
            self._next = (self._next + pause) & TIMESTAMP_MASK
            return bytes(pause * 2)
        self._take_next()
        # What the concealment of a hole already covered is not played twice.
        trim = min(self._concealed, -gap) if -RESYNC_SAMPLES <= gap < 0 else 0
        self._rest = pcm[trim * 2 :]
        self._next = (timestamp + trim) & TIMESTAMP_MASK
        self._concealed = 0
        return b""

    def _take_next(self) -> None:
        self._last += 1
        _, pcm = self._packets.pop(self._last)
        self._depth -= len(pcm) // 2

    def _fill_hole(self, wanted: int) -> bytes:
        """Conceal (part of) what is missing before the next packet that is here."""
        following = min(self._packets)
        timestamp, pcm = self._packets[following]
        gap = self._gap_to(timestamp) if pcm else 0
        if not 0 < gap <= RESYNC_SAMPLES:
            self._last = following - 1
            return b""
        missing = min(gap, wanted // 2)
        if missing == gap:
            self._last = following - 1
            self._concealed = 0
        else:
            self._concealed += missing
        self._next = (self._next + missing) & TIMESTAMP_MASK
        return self._concealer.fill(missing)

    def _gap_to(self, timestamp: int) -> int:
        """Return the samples missing before *timestamp*, less those of an underrun."""
        gap = timestamp_distance(timestamp, self._next)
        if self._stalled and gap > 0:
            covered = min(gap, self._stalled)
            self._next = (self._next + covered) & TIMESTAMP_MASK
            gap -= covered
        self._stalled = 0
        return gap

    def _underrun(self, out: bytearray, samples: int) -> bytes | None:
        """Nothing is here: conceal, and after 100 ms start over with the next packet."""
        missing = samples - len(out) // 2
        self._stalled += missing
        out += self._concealer.fill(missing)
        if self._stalled >= RESYNC_SAMPLES:
            self._playing = False
            self._filling_since = None
        return bytes(out)

    def _shed_to(self, samples: int) -> None:
        """Throw away the oldest packets until *samples* are left, but never the newest.

        One packet may be longer than the target (ptime 60 ms): without it the buffer would
        begin to fill again, overflow again, and never play.
        """
        self._rest = b""
        while len(self._packets) > 1 and (
            self._depth > samples or len(self._packets) > MAX_PACKETS // 2
        ):
            oldest = min(self._packets)
            _, pcm = self._packets.pop(oldest)
            self._depth -= len(pcm) // 2
            self._last = oldest
            self.shed += 1
        if self._packets:
            first = min(self._packets)
            self._last = first - 1
            self._next = self._packets[first][0]
        self._stalled = self._concealed = 0

    def _watch_depth(self) -> None:
        """Shed one packet when the delay stayed above the target for long."""
        self._pulls += 1
        if self._depth < self._lowest:
            self._lowest = self._depth
        if self._pulls < SHRINK_AFTER_PULLS:
            return
        if self._lowest > self._target:
            self._shed_to(self._depth - 1)
        self._pulls = 0
        self._lowest = self._limit

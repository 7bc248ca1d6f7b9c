"""What one source sends us: sequence validity, loss and jitter (RFC 3550 A.1, A.3, A.8)."""

from __future__ import annotations

from rtp.g711 import RATE
from rtp.packet import SEQUENCE_MASK, TIMESTAMP_MASK, timestamp_distance

MAX_JUMP = 1000
"""A larger step of the sequence number is a restart of the sender, once confirmed."""
MAX_MISORDER = 100
"""A step further back is a restart as well: nothing is that late (RFC 3550 A.1)."""
_FIRST_CYCLE = 1 << 16
_WINDOW = (1 << 64) - 1
_MAX_TRANSIT_STEP = RATE  # one second: a clock that was set, not jitter


class Reception:
    """Tracks the present SSRC; totals survive a change of SSRC and a restart.

    `update` returns the extended sequence number of a packet to be used, or -1
    for one to be dropped (a duplicate, or the first of a jump). ``epoch``
    changes when the numbering starts over: everything buffered is then void.
    """

    __slots__ = (
        "_base",
        "_expected_before",
        "_jumped_to",
        "_left",
        "_prior_expected",
        "_prior_received",
        "_received",
        "_seen",
        "_transit",
        "_unique",
        "_unique_before",
        "duplicates",
        "epoch",
        "highest",
        "jitter",
        "ssrc",
    )

    def __init__(self) -> None:
        self.ssrc: int | None = None
        self.epoch = 0
        self.highest = 0
        self.duplicates = 0
        self.jitter = 0.0  # in timestamp units
        self._expected_before = 0
        self._unique_before = 0
        self._unique = 0
        self._received = 0
        self._base = 1
        self._seen = 0
        self._jumped_to = -1
        self._left: int | None = None  # the SSRC before the present one
        self._transit: int | None = None
        self._prior_expected = 0
        self._prior_received = 0

    def update(self, ssrc: int, sequence: int) -> int:
        """Account for a packet; return its extended sequence number or -1."""
        if ssrc != self.ssrc:
            return self._change(ssrc, sequence)
        step = ((sequence - self.highest + 0x8000) & SEQUENCE_MASK) - 0x8000
        if step == 1:  # nearly always
            self.highest += 1
            self._seen = (self._seen << 1 | 1) & _WINDOW
            self._received += 1
            self._unique += 1
            self._jumped_to = -1
            return self.highest
        if step > MAX_JUMP or step < -MAX_MISORDER or sequence == self._jumped_to:
            # RFC 3550 A.1: two sequential packets: assume the other side restarted.
            if sequence == self._jumped_to:
                return self._restart(ssrc, sequence)
            self._jumped_to = (sequence + 1) & SEQUENCE_MASK
            return -1
        self._jumped_to = -1
        return self._ahead(step) if step > 0 else self._behind(-step)

    def _change(self, ssrc: int, sequence: int) -> int:
        """Follow a new SSRC at once, but back to the one before only for two in a row.

        A straggler of the old source, or two sources at once, must not void
        the buffer with every packet.
        """
        if ssrc == self._left and sequence != self._jumped_to:
            self._jumped_to = (sequence + 1) & SEQUENCE_MASK
            return -1
        self._left = self.ssrc
        return self._restart(ssrc, sequence)

    def _ahead(self, step: int) -> int:
        self.highest += step
        self._seen = (self._seen << min(step, 64) | 1) & _WINDOW
        self._received += 1
        self._unique += 1
        return self.highest

    def _behind(self, back: int) -> int:
        """A reordered packet, a duplicate, or one too old to tell (taken for a duplicate)."""
        self._received += 1
        extended = self.highest - back
        if back >= 64 or self._seen >> back & 1 or extended < self._base:
            self.duplicates += 1
            return -1
        self._seen |= 1 << back
        self._unique += 1
        return extended

    def _restart(self, ssrc: int, sequence: int) -> int:
        """Start a new numbering; no loss is counted across it."""
        self._expected_before += self.expected
        self._unique_before += self._unique
        self.ssrc = ssrc
        self.epoch += 1
        self.highest = self._base = _FIRST_CYCLE + sequence
        self._seen = 1
        self._received = self._unique = 1
        self._jumped_to = -1
        self._transit = None
        self._prior_expected = self._prior_received = 0
        return self.highest

    def arrived(self, timestamp: int, now: float) -> None:
        """Take the arrival at *now* (seconds) of an audio packet into the jitter.

        RFC 3550 A.8. Not for telephone-events, whose timestamps stand still.
        """
        transit = (int(now * RATE) - timestamp) & TIMESTAMP_MASK
        if self._transit is not None:
            step = abs(timestamp_distance(transit, self._transit))
            if step < _MAX_TRANSIT_STEP:
                self.jitter += (step - self.jitter) / 16
        self._transit = transit

    @property
    def expected(self) -> int:
        """Packets the present numbering should have had so far."""
        return self.highest - self._base + 1 if self.ssrc is not None else 0

    @property
    def received(self) -> int:
        """Different packets received over all numberings."""
        return self._unique_before + self._unique

    @property
    def lost(self) -> int:
        """Packets lost on the wire over all numberings; duplicates do not make up for them."""
        return self._expected_before + self.expected - self.received

    @property
    def cumulative_lost(self) -> int:
        """The present SSRC's loss as a report block has it: may be negative (RFC 3550 A.3)."""
        return max(-0x80_0000, min(0x7F_FFFF, self.expected - self._received))

    def fraction_lost(self) -> int:
        """Return the loss since the last call in 1/256 (RFC 3550 A.3)."""
        expected = self.expected - self._prior_expected
        received = self._received - self._prior_received
        self._prior_expected = self.expected
        self._prior_received = self._received
        lost = expected - received
        if expected <= 0 or lost <= 0:
            return 0
        return min(255, (lost << 8) // expected)

"""Telephone-events, both ways (RFC 4733 section 2). Durations run on the 8000 Hz clock."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from rtp.g711 import RATE

EVENT = struct.Struct("!BBH")
KEYS = "0123456789*#ABCD"
MAX_DURATION = 0xFFFF
"""A longer event goes on in a new segment (RFC 4733 2.5.1.3)."""
SHORT_SEGMENT = MAX_DURATION - RATE * 60 // 1000
"""Senders that only count whole packets end a segment up to 60 ms before that."""

LOST_END_AFTER = 0.2
"""Seconds without an update after which an event counts as ended: over three updates of 60 ms."""
_REMEMBERED = 16

TONE_SAMPLES = RATE * 160 // 1000
PAUSE_SAMPLES = RATE * 80 // 1000
WAIT_SAMPLES = RATE // 2
VOLUME = 10  # -10 dBm0
END_PACKETS = 3
MAX_QUEUED = 128


class Key(NamedTuple):
    """A key that was pressed and let go."""

    digit: str
    duration_ms: int


@dataclass(slots=True)
class _Event:
    ssrc: int
    timestamp: int
    code: int
    duration: int
    updated_at: float
    before: int = 0  # samples in segments before this one

    @property
    def key(self) -> Key:
        return Key(KEYS[self.code], (self.before + self.duration) * 1000 // RATE)


class DtmfReceiver:
    """Reports each key once, by (SSRC, timestamp, key), whatever packets are lost.

    An event whose end packets are all lost ends when another begins or when
    nothing was heard of it for `LOST_END_AFTER`.
    """

    __slots__ = ("_current", "_finished", "keys")

    def __init__(self) -> None:
        self.keys: deque[Key] = deque(maxlen=MAX_QUEUED)
        self._current: _Event | None = None
        self._finished: deque[tuple[int, int, int]] = deque(maxlen=_REMEMBERED)

    def receive(self, *, ssrc: int, timestamp: int, payload: bytes, now: float) -> None:
        """Take one telephone-event packet; a finished key is appended to ``keys``."""
        if len(payload) < EVENT.size:
            return
        code, flags, duration = EVENT.unpack_from(payload)
        if code >= len(KEYS) or (ssrc, timestamp, code) in self._finished:
            return
        event = self._find(ssrc, timestamp, code, now)
        event.duration = max(event.duration, duration)
        event.updated_at = now
        if flags & 0x80:
            self._finish()

    def poll(self, now: float) -> None:
        """End an event of which nothing has been heard for too long."""
        if self._current is not None and now - self._current.updated_at >= LOST_END_AFTER:
            self._finish()

    def _find(self, ssrc: int, timestamp: int, code: int, now: float) -> _Event:
        """Return the event a packet belongs to: the present one, its next segment, or a new one."""
        current = self._current
        if current is not None:
            same = (current.ssrc, current.code) == (ssrc, code)
            passed = (timestamp - current.timestamp) & 0xFFFF_FFFF
            if same and passed == 0:
                return current
            # RFC 4733 2.5.1.3: the RTP timestamp of the next segment is that of the first
            # plus the duration that segment had reached.
            if same and SHORT_SEGMENT <= passed <= MAX_DURATION:
                self._finished.append((current.ssrc, current.timestamp, current.code))
                current.timestamp = timestamp
                current.before += passed
                current.duration = 0
                return current
            self._finish()
        self._current = _Event(ssrc, timestamp, code, 0, now)
        return self._current

    def _finish(self) -> None:
        current = self._current
        if current is None:
            return
        self._finished.append((current.ssrc, current.timestamp, current.code))
        self.keys.append(current.key)
        self._current = None


class EventFrame(NamedTuple):
    """One event packet to send."""

    timestamp: int
    payload: bytes
    marker: bool


class Pause(NamedTuple):
    """Silence to send between digits."""


class DtmfSender:
    """Plays queued digits one packet time at a time."""

    __slots__ = ("_code", "_duration", "_ends", "_pause", "_queue", "_start")

    def __init__(self) -> None:
        self._queue: deque[str] = deque()
        self._code = -1  # the event being sent
        self._start = 0
        self._duration = 0
        self._ends = 0
        self._pause = 0

    def send(self, digits: str) -> None:
        """Queue *digits* (``0-9*#A-D``, ``w`` half a second); others are passed over.

        More than `MAX_QUEUED` waiting are dropped.
        """
        for digit in digits.upper():
            if (digit in KEYS or digit == "W") and len(self._queue) < MAX_QUEUED:
                self._queue.append(digit)

    def clear(self) -> None:
        """Drop everything: the line was closed."""
        self._queue.clear()
        self._code = -1
        self._pause = 0

    @property
    def busy(self) -> bool:
        """Whether something is being played or waits."""
        return self._code >= 0 or self._pause > 0 or bool(self._queue)

    def next_frame(self, timestamp: int, samples: int) -> EventFrame | Pause | None:
        """Return what goes out for the *samples* from *timestamp* on; None: audio."""
        if self._code < 0 and not self._begin(timestamp):
            return None if self._pause <= 0 and not self._queue else self._rest(samples)
        return self._event(samples)

    def _begin(self, timestamp: int) -> bool:
        """Start the next digit when the pause is over; tell whether an event plays."""
        if self._pause > 0 or not self._queue:
            return False
        digit = self._queue.popleft()
        if digit == "W":
            self._pause = WAIT_SAMPLES
            return False
        self._code = KEYS.index(digit)
        self._start = timestamp
        self._duration = 0
        self._ends = 0
        return True

    def _rest(self, samples: int) -> Pause:
        self._pause -= samples
        return Pause()

    def _event(self, samples: int) -> EventFrame:
        first = self._duration == 0
        if self._ends == 0:
            self._duration = min(MAX_DURATION, self._duration + samples)
        ending = self._duration >= TONE_SAMPLES
        payload = EVENT.pack(self._code, VOLUME | (0x80 if ending else 0), self._duration)
        frame = EventFrame(self._start, payload, first)
        if ending:
            # RFC 4733 2.5.1.4: the final packet for each event SHOULD be sent a total of
            # three times.
            self._ends += 1
            if self._ends == END_PACKETS:
                self._code = -1
                self._pause = PAUSE_SAMPLES
        return frame

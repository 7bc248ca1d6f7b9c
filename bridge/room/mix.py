"""The PCM of other participants: one small buffer per track, mixed on demand. Pure.

A track's frames arrive from the SDK with jitter (a thread hop, a loop that was
busy); the engine pulls on a steady clock. Each buffer waits for a little audio
before it starts to play, waits for more after it ran dry, and gives latency
back when it turns out never to be needed.

PCM is 16-bit little-endian mono at 8000 Hz.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

SAMPLE_WIDTH = 2
BYTES_PER_MS = 16
CAPACITY = 100 * BYTES_PER_MS
"""Bytes kept per track; the oldest go first."""

PREBUFFER_MIN = 20 * BYTES_PER_MS
PREBUFFER_MAX = 60 * BYTES_PER_MS
PREBUFFER_STEP = 20 * BYTES_PER_MS
CALM_PULLS = 250
"""Pulls without running dry (5 s at 20 ms) after which a step of latency is given back."""

QUIET_RMS = 200
"""Below it a frame may be dropped unheard."""


class TrackBuffer:
    """The audio of one track between the SDK and the clock that pulls it."""

    __slots__ = ("_calm", "_data", "_dropped", "_filling", "_floor", "_prebuffer", "_stale")

    def __init__(self) -> None:
        self._data = bytearray()
        self._prebuffer = PREBUFFER_MIN
        self._filling = True
        self._stale = False  # nobody pulled for so long that audio was lost
        self._calm = 0
        self._floor = CAPACITY
        self._dropped = 0

    @property
    def buffered(self) -> int:
        """Bytes waiting."""
        return len(self._data)

    @property
    def dropped(self) -> int:
        """Bytes that had to go because nobody pulled in time."""
        return self._dropped

    def push(self, pcm: bytes) -> None:
        """Append *pcm*; above `CAPACITY` the oldest bytes go."""
        self._data += pcm
        excess = len(self._data) - CAPACITY
        if excess > 0:
            excess += excess % SAMPLE_WIDTH
            self._drop(excess)
            self._stale = True

    def pull(self, size: int) -> bytes | None:
        """Return the next *size* bytes, the last ones padded with silence, or None."""
        if self._stale:
            self._catch_up(size)
        if self._filling:
            if len(self._data) < max(size, self._prebuffer):
                return None
            self._filling = False
        if len(self._data) < size:
            return self._run_dry(size)
        pcm = bytes(self._data[:size])
        del self._data[:size]
        self._settle(pcm)
        return pcm

    def clear(self) -> None:
        """Drop what waits; play starts again with a fresh prebuffer."""
        self._data.clear()
        self._filling = True
        self._stale = False
        self._restart_calm()

    def _catch_up(self, size: int) -> None:
        """After a stall play what is newest: what is lost leaves no latency behind."""
        self._stale = False
        self._drop(max(0, len(self._data) - self._prebuffer - size))

    def _drop(self, excess: int) -> None:
        del self._data[:excess]
        self._dropped += excess

    def _run_dry(self, size: int) -> bytes | None:
        """Wait for more than last time before playing again."""
        rest = bytes(self._data)
        self.clear()
        self._prebuffer = min(self._prebuffer + PREBUFFER_STEP, PREBUFFER_MAX)
        return rest.ljust(size, b"\0") if rest else None

    def _settle(self, pcm: bytes) -> None:
        """Give back latency that a calm stretch has shown to be unneeded."""
        self._calm += 1
        self._floor = min(self._floor, len(self._data))
        if self._calm < CALM_PULLS:
            return
        spare = self._floor - (self._prebuffer - len(pcm))
        if spare < len(pcm):
            self._prebuffer = max(self._prebuffer - PREBUFFER_STEP, PREBUFFER_MIN)
            self._restart_calm()
        elif audioop.rms(bytes(self._data[: len(pcm)]), SAMPLE_WIDTH) < QUIET_RMS:
            del self._data[: len(pcm)]
            self._restart_calm()

    def _restart_calm(self) -> None:
        self._calm = 0
        self._floor = CAPACITY


def mix(buffers: Iterable[TrackBuffer], size: int) -> bytes | None:
    """Return the next *size* bytes of all *buffers* added and clipped, None: nothing."""
    total: bytes | None = None
    for buffer in buffers:
        pcm = buffer.pull(size)
        if pcm is not None:
            total = pcm if total is None else audioop.add(total, pcm, SAMPLE_WIDTH)
    return total


def is_zero(pcm: bytes) -> bool:
    """Tell whether *pcm* is digital silence, sample for sample."""
    return not any(pcm)

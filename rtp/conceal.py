"""Concealment of short losses: repeat the last good audio, fading, then silence."""

from __future__ import annotations

from rtp.g711 import RATE, scale

FADE_SAMPLES = RATE * 60 // 1000
"""After 60 ms of loss there is only silence."""


class Concealer:
    """Remembers the last audio and fills holes with it.

    Each filled piece is fainter than the one before, linearly down to nothing
    at 60 ms of loss.
    """

    __slots__ = ("_filled", "_last")

    def __init__(self) -> None:
        self._last = b""
        self._filled = 0

    def heard(self, pcm: bytes) -> None:
        """Remember *pcm*, the audio just played."""
        self._last = pcm
        self._filled = 0

    def forget(self) -> None:
        """Fill the next hole with silence: what comes is a pause, not a loss."""
        self._last = b""

    def fill(self, samples: int) -> bytes:
        """Return *samples* of PCM for a hole."""
        size = samples * 2
        if not self._last or self._filled >= FADE_SAMPLES:
            self._filled += samples
            return bytes(size)
        # The middle of the piece decides its loudness.
        factor = max(0.0, 1 - (self._filled + samples / 2) / FADE_SAMPLES)
        self._filled += samples
        repeated = self._last * (size // len(self._last) + 1)
        return scale(repeated[:size], factor)

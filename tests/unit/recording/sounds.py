"""Tones, taps that play them, and what is heard in a file."""

from __future__ import annotations

import math
from array import array
from collections import deque
from pathlib import Path

import av

RATE = 8000


def tone(hertz: float, seconds: float, *, level: int = 12_000) -> bytes:
    """Return a sine as PCM16 of 8 kHz."""
    step = 2 * math.pi * hertz / RATE
    return array(
        "h", (round(level * math.sin(step * n)) for n in range(round(seconds * RATE)))
    ).tobytes()


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE))


class PlayedTap:
    """A tap that has what the test has put in."""

    def __init__(self) -> None:
        self.pieces: deque[tuple[bytes, bytes]] = deque()
        self.late: deque[tuple[bytes, bytes]] = deque()  # only `finish` gives it
        self.dropped = 0

    def read(self) -> tuple[bytes, bytes, int]:
        left, right = self.pieces.popleft() if self.pieces else (b"", b"")
        return left, right, self.dropped

    def finish(self) -> tuple[bytes, bytes, int]:
        if self.pieces or not self.late:
            return self.read()
        left, right = self.late.popleft()
        return left, right, self.dropped


def decode(path: Path) -> tuple[array[int], array[int]]:
    """Return left and right of a file as samples of 8 kHz."""
    both = array("h")
    resampler = av.AudioResampler(format="s16", layout="stereo", rate=RATE)
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        for frame in (*container.decode(stream), None):
            for piece in resampler.resample(frame):
                both.frombytes(bytes(piece.planes[0])[: 4 * piece.samples])
    return both[0::2], both[1::2]


def level(samples: array[int]) -> float:
    """Return the root of the mean square."""
    return math.sqrt(sum(x * x for x in samples) / max(1, len(samples)))


def sounds(samples: array[int], hertz: float) -> bool:
    """Whether a tone is most of what is heard (Goertzel)."""
    whole = level(samples)
    if whole < 100:
        return False
    step = 2 * math.pi * hertz / RATE
    real = sum(x * math.cos(step * n) for n, x in enumerate(samples))
    imaginary = sum(x * math.sin(step * n) for n, x in enumerate(samples))
    of_tone = math.hypot(real, imaginary) * math.sqrt(2) / len(samples)
    return of_tone > 0.8 * whole


def part(samples: array[int], begin: float, end: float) -> array[int]:
    """Return the seconds from *begin* to *end*."""
    return samples[round(begin * RATE) : round(end * RATE)]

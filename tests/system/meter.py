"""Judges a tone that somebody heard: how high, how loud, and the longest stretch without it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

AUDIBLE = 1000.0  # RMS of 16-bit samples; the tones of the tests have 6,400 and more
BLOCK = 0.010  # seconds


def judge(samples: Any, rate: int = 8000) -> dict[str, float]:
    """Return what *samples* (16-bit) hold between the first sound and the last.

    ``seconds``; ``hertz`` by zero crossings; ``dbov``, RMS below full scale; ``gap_ms``, the
    longest stretch without sound.
    """
    pcm = np.asarray(samples, dtype=np.float64)
    size = int(rate * BLOCK)
    blocks = pcm[: len(pcm) // size * size].reshape(-1, size)
    loud = np.flatnonzero(np.sqrt((blocks**2).mean(axis=1)) >= AUDIBLE) if len(blocks) else []
    if not len(loud):
        return {"seconds": 0.0, "hertz": 0.0, "dbov": -127.0, "gap_ms": 0.0}
    heard = blocks[loud[0] : loud[-1] + 1].ravel()
    seconds = len(heard) / rate
    crossings = np.count_nonzero(np.diff(heard < 0))
    level = math.sqrt(float((heard**2).mean())) / 32768
    quiet = int(np.diff(loud).max(initial=1)) - 1
    return {
        "seconds": round(seconds, 2),
        "hertz": round(float(crossings) / 2 / seconds, 1),
        "dbov": round(20 * math.log10(level), 2),
        "gap_ms": quiet * BLOCK * 1000,
    }

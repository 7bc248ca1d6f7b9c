"""G.711, both laws: to and from 16-bit little-endian PCM, and one law to the other.

Codecs are named as in SDP: ``PCMU`` and ``PCMA`` (RFC 3551 section 4.5.14).
"""

from __future__ import annotations

import functools
import warnings

with warnings.catch_warnings():
    # Deprecated in the standard library; from 3.13 the distribution audioop-lts has it.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

PCMU = "PCMU"
PCMA = "PCMA"
RATE = 8000

SILENCE_BYTE = {PCMU: 0xFF, PCMA: 0xD5}
"""What zero amplitude is in each law."""

_ALL = bytes(range(256))
ULAW_TO_ALAW = audioop.lin2alaw(audioop.ulaw2lin(_ALL, 2), 2)
"""A table for ``bytes.translate``."""
ALAW_TO_ULAW = audioop.lin2ulaw(audioop.alaw2lin(_ALL, 2), 2)
"""A table for ``bytes.translate``."""

_DECODE = {PCMU: audioop.ulaw2lin, PCMA: audioop.alaw2lin}
_ENCODE = {PCMU: audioop.lin2ulaw, PCMA: audioop.lin2alaw}


def decode(codec: str, payload: bytes) -> bytes:
    """Return PCM, two bytes for each byte of *payload*."""
    pcm: bytes = _DECODE[codec](payload, 2)
    return pcm


def encode(codec: str, pcm: bytes) -> bytes:
    """Return one byte for each sample of *pcm*, whose length must be even."""
    payload: bytes = _ENCODE[codec](pcm, 2)
    return payload


def translate(payload: bytes, *, source: str, target: str) -> bytes:
    """Return *payload* of law *source* in law *target*, without a way over PCM."""
    if source == target:
        return payload
    return payload.translate(ULAW_TO_ALAW if source == PCMU else ALAW_TO_ULAW)


@functools.lru_cache(maxsize=32)
def silence(codec: str, samples: int) -> bytes:
    """Return *samples* of silence in *codec*."""
    return bytes((SILENCE_BYTE[codec],)) * samples


def scale(pcm: bytes, factor: float) -> bytes:
    """Return *pcm* with every sample times *factor*, saturated."""
    scaled: bytes = audioop.mul(pcm, 2, factor)
    return scaled

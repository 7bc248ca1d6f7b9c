"""What is said while engines are measured: the same speech for all, as G.711 and as Opus.

Speech is espeak-ng's, the marker is a burst of 100 ms at the end of a second of near silence.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.engines.tools import RELEASE, NoTools
from rtp import g711

RATE = 48_000
BITS = 24_000
"""What libwebrtc gives an agent's microphone track by default."""
TEXT = (
    "Good morning, and thank you for calling. Your order of the third of May has left our "
    "warehouse in Pune and should be with you on Thursday afternoon. If nobody is at home, the "
    "driver will leave it with a neighbour and send you a message. Is there anything else that "
    "I can do for you today? You may also ask me for the opening hours of the shop, or have me "
    "put you through to somebody who can change the address of the delivery."
)

Samples = NDArray[np.int16]


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Files of the same sound: G.711 (u-law) and packets of Opus; and of the marker."""

    ulaw: Path
    opus: Path
    marker_ulaw: Path
    marker_opus: Path


def make(folder: Path) -> Sound:
    """Make the files in *folder*. Raises `NoTools`."""
    sound = Sound(
        ulaw=folder / "speech.ulaw",
        opus=folder / "speech.pack",
        marker_ulaw=folder / "marker.ulaw",
        marker_opus=folder / "marker.pack",
    )
    for samples, ulaw, opus in (
        (speech(), sound.ulaw, sound.opus),
        (marker(), sound.marker_ulaw, sound.marker_opus),
    ):
        ulaw.write_bytes(g711.encode(g711.PCMU, narrow(samples).tobytes()))
        _pack(samples, opus)
    return sound


def speech() -> Samples:
    """Return the text as spoken, 48 kHz, whole packets."""
    if shutil.which("espeak-ng") is None:
        raise NoTools("no espeak-ng: the bench has nothing to say")
    said = subprocess.run(
        ["espeak-ng", "--stdout", "-v", "en", TEXT], capture_output=True, check=True
    ).stdout
    with wave.open(io.BytesIO(said)) as file:
        rate = file.getframerate()
        # espeak-ng tells the length of a stream as unknown, so all of it is read.
        raw = np.frombuffer(said[44:], dtype="<i2").astype(np.float64)
    count = len(raw) * RATE // rate // 960 * 960
    at = np.arange(count) * (rate / RATE)
    return np.asarray(np.interp(at, np.arange(len(raw)), raw), dtype=np.int16)


def marker() -> Samples:
    """Return 45 packets of near silence and 5 of a tone, 48 kHz."""
    at = np.arange(RATE)
    loud = np.where(at >= 45 * 960, 12_000, 4)
    return np.asarray(loud * np.cos(2 * np.pi * 1000 * at / RATE), dtype=np.int16)


def narrow(samples: Samples) -> Samples:
    """Return 48 kHz as 8 kHz: the mean of six, which is enough of a filter here."""
    return np.asarray(samples.reshape(-1, 6).mean(axis=1), dtype=np.int16)


def _pack(samples: Samples, path: Path) -> None:
    command = [str(RELEASE / "pack"), f"bits={BITS}", f"out={path}"]
    subprocess.run(command, input=samples.tobytes(), check=True)

"""The demo agent's greeting: synthesised speech, or chimes where there is no synthesiser."""

from __future__ import annotations

import audioop
import io
import math
import shutil
import subprocess
import wave
from array import array
from pathlib import Path
from typing import Final

RATE: Final = 8000
_CHIMES: Final = ((523, 0.25), (659, 0.25), (784, 0.4))


def make_greeting(path: Path, text: str) -> None:
    """Write *text* as speech to *path*: WAV, 16-bit mono at 8000 Hz.

    By espeak-ng when it is installed, else three chimes.
    """
    spoken = _speech(text)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(spoken if spoken is not None else chimes())


def _speech(text: str) -> bytes | None:
    program = shutil.which("espeak-ng")
    if program is None:
        return None
    made = subprocess.run(  # noqa: S603 (our own text)
        [program, "--stdout", text], capture_output=True, check=False, timeout=30
    )
    if made.returncode != 0:
        return None
    with wave.open(io.BytesIO(made.stdout), "rb") as file:
        # A pipe's header says no length: all frames there are.
        pcm = file.readframes(len(made.stdout))
        rate = file.getframerate()
    resampled, _ = audioop.ratecv(pcm, 2, 1, rate, RATE, None)
    return resampled


def chimes() -> bytes:
    """Return three decaying tones."""
    samples = array("h")
    for hertz, seconds in _CHIMES:
        count = int(seconds * RATE)
        samples.extend(
            int(9000 * math.exp(-4 * n / count) * math.sin(2 * math.pi * hertz * n / RATE))
            for n in range(count)
        )
    return samples.tobytes()

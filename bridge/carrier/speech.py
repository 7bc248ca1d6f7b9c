"""A greeting as a WAV file (8 kHz mono): spoken by espeak-ng when it is there, else chimes."""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from array import array
from pathlib import Path

from bridge.carrier import sound

GREETING = "Hello. This is the trunk bridge demo agent. You are connected."
CHIME = ((523.25, 0.35), (659.25, 0.35), (783.99, 0.35), (1046.5, 0.9))  # Hz, seconds
PEAK = 0.5  # of full scale
_TIMEOUT = 20.0  # seconds for espeak-ng


def write_greeting(path: Path, text: str = GREETING) -> str:
    """Write a greeting to *path*; return what made it, ``espeak-ng`` or ``chime``."""
    spoken = speak(text)
    sound.write_wav(path, spoken if spoken is not None else chime())
    return "chime" if spoken is None else "espeak-ng"


def speak(text: str) -> array[int] | None:
    """Return *text* spoken, None when espeak-ng is missing or fails."""
    program = shutil.which("espeak-ng")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "spoken.wav"
        command = [program, "-v", "en-us", "-s", "150", "-w", str(file), "--", text]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT)  # noqa: S603
            samples = sound.read_wav(file)
        except (OSError, subprocess.SubprocessError, ValueError, EOFError):
            return None
    return _levelled(samples) if samples else None


def chime() -> array[int]:
    """Return rising bell tones, each with its octave and a decay."""
    out = array("h")
    for hertz, seconds in CHIME:
        count = int(seconds * sound.RATE)
        for at in range(count):
            decay = math.exp(-4.0 * at / count) * min(1.0, at / 80)
            angle = 2 * math.pi * hertz * at / sound.RATE
            value = 0.7 * math.sin(angle) + 0.3 * math.sin(2 * angle)
            out.append(round(32767 * PEAK * decay * value))
    return out


def _levelled(samples: array[int]) -> array[int]:
    peak = max(abs(sample) for sample in samples) or 1
    gain = 32767 * PEAK / peak
    return array("h", [round(sample * gain) for sample in samples])

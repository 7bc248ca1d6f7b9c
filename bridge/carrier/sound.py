"""Sound of the carrier: G.711, tones, Goertzel, WAV files. Pure but for reading and writing files.

G.711 is written out here from the recommendation and not shared with the bridge: this side
judges what the other side made. 8 kHz mono, 20 ms frames of 160 bytes.
"""

from __future__ import annotations

import math
import operator
import sys
import wave
from array import array
from collections.abc import Sequence
from functools import cache
from pathlib import Path

RATE = 8000  # Hz
FRAME = 160  # samples, 20 ms
LAWS = {0: "PCMU", 8: "PCMA"}
SILENCE = {"PCMU": b"\xff", "PCMA": b"\xd5"}
AUDIBLE = 200.0  # RMS of 16-bit samples: about -44 dBFS
_LOBES = 8  # of the sinc, at 8 kHz
TONAL = 0.5  # share of the energy of a window at one frequency


def _ulaw_to_linear(code: int) -> int:
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
    return (0x84 - magnitude) if code & 0x80 else (magnitude - 0x84)


def _alaw_to_linear(code: int) -> int:
    code ^= 0x55
    mantissa = (code & 0x0F) << 4
    segment = (code & 0x70) >> 4
    magnitude = mantissa + 8 if segment == 0 else (mantissa + 0x108) << (segment - 1)
    return magnitude if code & 0x80 else -magnitude


@cache
def _decoding(law: str) -> tuple[int, ...]:
    decode = _alaw_to_linear if law == "PCMA" else _ulaw_to_linear
    return tuple(decode(code) for code in range(256))


@cache
def _encoding(law: str) -> bytes:
    """Return the nearest code for each 16-bit sample, shifted right by 2 (16384 entries)."""
    ordered = sorted((value, code) for code, value in enumerate(_decoding(law)))
    table = bytearray()
    at = 0
    for shifted in range(-8192, 8192):
        sample = shifted * 4 + 2
        while at + 1 < len(ordered) and abs(ordered[at + 1][0] - sample) <= abs(
            ordered[at][0] - sample
        ):
            at += 1
        table.append(ordered[at][1])
    return bytes(table)


def encode(samples: Sequence[int], law: str) -> bytes:
    """Return *samples* (16-bit) in A-law or u-law."""
    table = _encoding(law)
    return bytes([table[(sample >> 2) + 8192] for sample in samples])


def decode(payload: bytes, law: str) -> array[int]:
    """Return the 16-bit samples of an A-law or u-law *payload*."""
    table = _decoding(law)
    return array("h", [table[code] for code in payload])


def tone(hertz: float, seconds: float = 1.0, level: float = 0.3) -> array[int]:
    """Return a sine; one second of a whole frequency loops without a click."""
    step = 2 * math.pi * hertz / RATE
    amplitude = 32767 * level
    count = int(seconds * RATE)
    return array("h", [round(amplitude * math.sin(step * at)) for at in range(count)])


@cache
def tone_frames(hertz: int, law: str) -> tuple[bytes, ...]:
    """Return one second of a tone as 50 frames."""
    return frames(encode(tone(hertz), law), law)


def frames(data: bytes, law: str) -> tuple[bytes, ...]:
    """Cut encoded *data* into 20 ms frames, the last one filled up with silence."""
    cut = [data[at : at + FRAME] for at in range(0, len(data), FRAME)]
    if cut and len(cut[-1]) < FRAME:
        cut[-1] = cut[-1].ljust(FRAME, SILENCE[law])
    return tuple(cut)


def rms(samples: Sequence[int]) -> float:
    """Return the root mean square of *samples*."""
    if not samples:
        return 0.0
    return math.sqrt(sum(sample * sample for sample in samples) / len(samples))


def share(samples: Sequence[int], hertz: float) -> float:
    """Return which part of the energy of *samples* is at *hertz* (0 to about 1); Goertzel."""
    energy = float(sum(sample * sample for sample in samples))
    if not energy:
        return 0.0
    coefficient = 2 * math.cos(2 * math.pi * hertz / RATE)
    before = last = 0.0
    for sample in samples:
        before, last = last, sample + coefficient * last - before
    power = last * last + before * before - coefficient * last * before
    return 2 * power / (len(samples) * energy)


@cache
def _quiet_codes(law: str) -> bytes:
    return bytes(code for code, value in enumerate(_decoding(law)) if abs(value) < AUDIBLE)


def loud(payload: bytes, law: str) -> bool:
    """Tell whether a quarter of *payload* is above the threshold: cheap, for every packet."""
    return 4 * len(payload.translate(None, _quiet_codes(law))) > len(payload)


def audible(samples: Sequence[int], hertz: int | None = None) -> bool:
    """Tell whether there is sound in *samples*, at *hertz* when given."""
    if rms(samples) < AUDIBLE:
        return False
    return hertz is None or share(samples, hertz) >= TONAL


def read_wav(path: Path | str) -> array[int]:
    """Return the samples of a 16-bit WAV file as 8 kHz mono; ValueError for anything else."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise ValueError(f"{path}: only 16-bit WAV files can be played")
            channels, rate = file.getnchannels(), file.getframerate()
            samples = array("h", file.readframes(file.getnframes()))
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path}: not a WAV file: {error}") from None
    if sys.byteorder == "big":
        samples.byteswap()
    return resample(samples[::channels], rate)


def resample(samples: array[int], rate: int) -> array[int]:
    """Return *samples* of *rate* Hz at 8 kHz, band-limited by a windowed sinc."""
    if rate == RATE:
        return samples
    half = math.ceil(_LOBES * max(1.0, rate / RATE))  # taps on each side
    padded = [0] * half + list(samples) + [0] * (half + 1)
    taps: dict[int, list[float]] = {}
    out = array("h")
    for at in range(len(samples) * RATE // rate):
        start, phase = divmod(at * rate, RATE)
        if phase not in taps:
            taps[phase] = _sinc(half, phase / RATE, min(1.0, RATE / rate))
        window = padded[start + 1 : start + 1 + 2 * half]
        value = sum(map(operator.mul, taps[phase], window))
        out.append(max(-32768, min(32767, round(value))))
    return out


def _sinc(half: int, fraction: float, cutoff: float) -> list[float]:
    """Return taps for a sample *fraction* after the middle, normalised to a gain of 1."""
    taps = []
    for at in range(-half + 1, half + 1):
        x = (at - fraction) * cutoff
        bell = 0.5 + 0.5 * math.cos(math.pi * min(1.0, abs(at - fraction) / half))
        taps.append(bell * (math.sin(math.pi * x) / (math.pi * x) if x else 1.0))
    total = sum(taps)
    return [tap / total for tap in taps]


def write_wav(path: Path | str, samples: array[int]) -> None:
    """Write *samples* as an 8 kHz mono WAV file."""
    if sys.byteorder == "big":
        samples = samples[:]
        samples.byteswap()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())

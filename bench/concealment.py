"""How speech from the room sounds at the phone when packets are lost: PESQ-NB over zero fill.

``python -m bench.concealment [SEEDS]``: four to six voices of about eight seconds, Opus at
24 kb/s with and without in-band FEC and G.711, 5 % of the packets lost at random and in bursts
(Gilbert-Elliott, 2.5 packets on average), some seeds each. The reference is the same stream
without a loss; zero fill has zeros where a packet was lost and a decoder that is not told of it,
as bridges without concealment do. Needs espeak-ng and the packages ``av``,
``numpy`` and ``pesq``.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pesq  # type: ignore[import-untyped]
from trunkbridge_native import Playout

RATE = 8000
ROOM_RATE = 48000
PTIME = 0.020
FRAME = 160
LOSS = 0.05
BURST = 2.5  # packets
BITRATE = 24000
PHASE = 0.005
"""Seconds between the arrival of a packet on time and the carrier's tick."""

VOICES = {
    "en-us": "Good morning, thank you for calling the support line. I can see that your order left"
    " our warehouse yesterday, and it should arrive before six in the evening.",
    "en-gb+f3": "Your appointment is booked for Tuesday the fourteenth at half past nine. Please"
    " bring your identity card, and call us back if you need to change the time.",
    "en-in": "Sir, the payment of four thousand two hundred rupees has been received on your"
    " account. Kindly check it and confirm the last three digits with me please.",
    "en-us+f4": "Could you please tell me the name of the street, and the number of the house? I"
    " will send a technician to look at the line this afternoon.",
    "de+m3": "Guten Tag, Sie sprechen mit dem Kundendienst. Ihre Bestellung ist heute Morgen"
    " angekommen und liegt für Sie an der Theke bereit.",
    "hi+f2": "नमस्ते, आपका स्वागत है। आपकी शिकायत दर्ज कर ली गई है"
    " और हमारा कर्मचारी कल सुबह दस बजे आपके घर आएगा।",
}

Pcm = np.ndarray[Any, np.dtype[np.int16]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One voice as packets of 20 ms, and how it sounds when all of them come."""

    codec: str
    packets: list[bytes]
    clean: Pcm


def main() -> None:
    """Measure and print."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{'stream':10} {'loss':7} {'n':>4}   zero   ours   gain  worst  fec ms")
    for name, streams in sorted(all_streams().items()):
        for pattern in ("random", "bursts"):
            rows = [score(one, pattern, seed) for one in streams for seed in range(seeds)]
            zero, ours = (statistics.fmean(r[n] for r in rows) for n in (0, 1))
            worst = min(r[1] - r[0] for r in rows)
            fec = statistics.fmean(r[2] for r in rows)
            figures = f"{zero:6.2f} {ours:6.2f} {ours - zero:+6.2f} {worst:+6.2f} {fec:7.0f}"
            print(f"{name:10} {pattern:7} {len(rows):4d} {figures}")


def all_streams() -> dict[str, list[Stream]]:
    """Return all voices, by how they are encoded."""
    spoken = [speak(voice, text) for voice, text in VOICES.items()]
    return {
        "opus": [stream("opus", opus(pcm)) for pcm in spoken],
        "opus+fec": [stream("opus", opus(pcm, fec="1", packet_loss="10")) for pcm in spoken],
        "PCMU": [stream("PCMU", pcmu(pcm)) for pcm in spoken],
    }


def stream(codec: str, packets: list[bytes]) -> Stream:
    """Return *packets* with their sound."""
    clean, _ = play(codec, packets, frozenset())
    return Stream(codec=codec, packets=packets, clean=clean)


def score(one: Stream, pattern: str, seed: int) -> tuple[float, float, float]:
    """Return the PESQ-NB of zero fill and of ours, and the ms that came from FEC."""
    chance = random.Random(f"{pattern} {seed} {len(one.packets)}")
    count = len(one.packets)
    lost = at_random(count, chance) if pattern == "random" else in_bursts(count, chance)
    heard, stats = play(one.codec, one.packets, lost)
    zero = filled(one, lost)
    return nb(one.clean, zero), nb(one.clean, heard), stats["fec_ms"]


def filled(one: Stream, lost: frozenset[int]) -> Pcm:
    """Return *one* with zeros for what is *lost*, by a decoder that is not told of it."""
    came = [packet for n, packet in enumerate(one.packets) if n not in lost]
    told, _ = play(one.codec, came, frozenset())
    zero = np.zeros_like(one.clean)
    frames_left = iter(told.reshape(-1, FRAME))
    for n in range(len(one.packets)):
        if n not in lost:
            zero[n * FRAME : (n + 1) * FRAME] = next(frames_left)
    return zero


def nb(clean: Pcm, heard: Pcm) -> float:
    """Return the PESQ-NB (P.862.1 scale) of *heard*."""
    return float(pesq.pesq(RATE, clean, heard, "nb"))


def play(codec: str, packets: list[bytes], lost: frozenset[int]) -> tuple[Pcm, dict[str, float]]:
    """Return what leaves towards the carrier when the packets *lost* never come."""
    playout = Playout()
    out: list[bytes] = []
    step = FRAME * (6 if codec == "opus" else 1)
    for n, packet in enumerate(packets):
        if n not in lost:
            playout.push(n * PTIME, 1, n, n * step, codec, packet)
        out.append(playout.pull(n * PTIME + PHASE, FRAME) or bytes(2 * FRAME))
    return np.frombuffer(b"".join(out), np.int16), playout.stats()


def at_random(count: int, chance: random.Random) -> frozenset[int]:
    """Return which packets are lost, each for itself."""
    return frozenset(n for n in range(3, count) if chance.random() < LOSS)


def in_bursts(count: int, chance: random.Random) -> frozenset[int]:
    """Return which packets are lost by a Gilbert-Elliott channel."""
    leave = 1 / BURST
    enter = leave * LOSS / (1 - LOSS)
    lost, bad = set(), False
    for n in range(3, count):
        bad = chance.random() < (1 - leave if bad else enter)
        if bad:
            lost.add(n)
    return frozenset(lost)


def speak(voice: str, text: str) -> Pcm:
    """Return *text* at 48 kHz, spoken by espeak-ng."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "spoken.wav"
        command = ["espeak-ng", "-v", voice, "-s", "140", "-w", str(file), "--", text]
        subprocess.run(command, check=True, capture_output=True)
        with av.open(str(file)) as container:
            pcm = np.concatenate(list(resampled(container.decode(audio=0), ROOM_RATE)))
    return (pcm * (16000 / max(1, int(np.abs(pcm).max())))).astype(np.int16)


def resampled(frames: Any, rate: int) -> Iterator[Pcm]:
    """Yield *frames* at *rate*, mono."""
    resampler = av.AudioResampler("s16", "mono", rate)
    for frame in (*frames, None):
        for done in resampler.resample(frame):
            yield done.to_ndarray()[0].astype(np.float64)


def opus(pcm: Pcm, **options: str) -> list[bytes]:
    """Return *pcm* (48 kHz) as Opus packets of 20 ms."""
    codec: Any = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = ROOM_RATE, "mono", "s16"
    codec.bit_rate, codec.time_base = BITRATE, Fraction(1, ROOM_RATE)
    codec.options = {"application": "voip", **options}
    packets: list[bytes] = []
    for frame in frames(pcm, ROOM_RATE // 50, ROOM_RATE):
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets


def pcmu(pcm: Pcm) -> list[bytes]:
    """Return *pcm* (48 kHz) as PCMU packets of 20 ms."""
    codec: Any = av.CodecContext.create("pcm_mulaw", "w")
    codec.sample_rate, codec.layout, codec.format = RATE, "mono", "s16"
    codec.time_base = Fraction(1, RATE)
    narrow = np.concatenate(list(resampled(frames(pcm, ROOM_RATE // 50, ROOM_RATE), RATE)))
    packets: list[bytes] = []
    for frame in frames(narrow.astype(np.int16), FRAME, RATE):
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets


def frames(pcm: Pcm, size: int, rate: int) -> Iterator[Any]:
    """Yield *pcm* in whole frames of *size* samples."""
    for at in range(0, len(pcm) - size + 1, size):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(pcm[None, at : at + size]), format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = rate, at
        yield frame


if __name__ == "__main__":
    main()

"""Speech from the room through loss, pauses and FEC, on a clock of the test's."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import pytest

pytestmark = pytest.mark.unit

native: Any = pytest.importorskip("trunkbridge_native", reason="native/ is not built")
av: Any = pytest.importorskip("av")
np: Any = pytest.importorskip("numpy")

ROOM_RATE = 48000
RATE = 8000
FRAME = 160
PTIME = 0.020
PHASE = 0.005
STEP = {"opus": 960, "red": 960, "PCMU": 160, "PCMA": 160}
ENCODER = {"opus": "libopus", "PCMU": "pcm_mulaw", "PCMA": "pcm_alaw"}


def voice(seconds: float, rate: int) -> Any:
    """A voice of about 130 Hz that swells and pauses."""
    t = np.arange(int(seconds * rate)) / rate
    pitch = 2 * math.pi * np.cumsum(130 + 20 * np.sin(3.1 * t)) / rate
    loud = np.clip(np.sin(2.3 * t), 0.05, 1) * np.where((0.7 * t) % 1 < 0.8, 1, 0.01)
    return (sum(np.sin(k * pitch) / k for k in range(1, 16)) * loud * 6000).astype(np.int16)


def encode(codec: str, pcm: Any, **options: str) -> list[bytes]:
    rate = ROOM_RATE if codec == "opus" else RATE
    context = av.CodecContext.create(ENCODER[codec], "w")
    context.sample_rate, context.layout, context.format = rate, "mono", "s16"
    context.time_base = Fraction(1, rate)
    if codec == "opus":
        context.bit_rate = 24000
        context.options = {"application": "voip", **options}
    size = rate // 50
    packets: list[bytes] = []
    for at in range(0, len(pcm) - size + 1, size):
        frame = av.AudioFrame.from_ndarray(pcm[None, at : at + size].copy(), "s16", "mono")
        frame.sample_rate, frame.pts = rate, at
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets


def speech(codec: str, seconds: float = 6.0, **options: str) -> list[bytes]:
    rate = ROOM_RATE if codec == "opus" else RATE
    return encode(codec, voice(seconds, rate), **options)


def play(
    codec: str, packets: list[bytes], lost: Iterable[int] = ()
) -> tuple[Any, dict[str, float]]:
    playout = native.Playout()
    out = []
    gone = set(lost)
    for n, packet in enumerate(packets):
        if n not in gone:
            playout.push(n * PTIME, 1, n, n * STEP[codec], codec, packet)
        out.append(playout.pull(n * PTIME + PHASE, FRAME) or bytes(2 * FRAME))
    return np.frombuffer(b"".join(out), np.int16).astype(float), playout.stats()


def losses(count: int, seed: int = 1) -> set[int]:
    chance = random.Random(seed)
    return {n for n in range(5, count) if chance.random() < 0.05}


def missed(clean: Any, heard: Any, lost: Iterable[int]) -> float:
    """Energy of what differs where packets were lost, of the energy that was there."""
    where = np.concatenate([np.arange(n * FRAME, (n + 1) * FRAME) for n in sorted(lost)])
    # The spectrum of each lost frame: a shift in phase is no loss to an ear.
    one = np.abs(np.fft.rfft(clean[where].reshape(-1, FRAME)))
    other = np.abs(np.fft.rfft(heard[where].reshape(-1, FRAME)))
    return float(((one - other) ** 2).sum() / (one**2).sum())


@pytest.mark.parametrize("codec", ["opus", "PCMU", "PCMA"])
def test_speech_arrives_as_it_was_said(codec: str) -> None:
    heard, stats = play(codec, speech(codec))
    said = voice(6.0, RATE).astype(float)[: len(heard)]
    level = math.sqrt((heard**2).mean() / (said**2).mean())
    assert 0.8 < level < 1.2
    assert stats["lost"] == stats["late"] == stats["concealed_ms"] == 0
    assert stats["wait_mean_ms"] < 8


@pytest.mark.parametrize("codec", ["opus", "PCMU", "PCMA"])
def test_what_is_lost_is_made_up_from_what_was_heard_before(codec: str) -> None:
    packets = speech(codec)
    lost = losses(len(packets))
    clean, _ = play(codec, packets)
    heard, stats = play(codec, packets, lost)
    assert stats["lost"] == len(lost)
    assert 0 < stats["concealed_ms"] <= 20 * len(lost)
    assert len(heard) == len(clean)
    assert missed(clean, heard, lost) < 0.35  # zeros would be 1


def test_fec_is_waited_for_where_packets_are_lost() -> None:
    packets = speech("opus", seconds=12.0, fec="1", packet_loss="10")
    lost = losses(len(packets))
    _, stats = play("opus", packets, lost)
    assert stats["fec_ms"] >= 20 * len(lost) / 3
    assert 20 <= stats["target_ms"] <= 30
    _, stats = play("opus", packets)
    assert stats["target_ms"] < 10


def red(packets: list[bytes], n: int) -> bytes:
    """Packet *n* with a copy of the one before it (RFC 2198)."""
    before = packets[n - 1] if n else b""
    head = (0x80 | 111) << 24 | STEP["opus"] << 10 | len(before)
    return (head.to_bytes(4, "big") if n else b"") + bytes([111]) + before + packets[n]


def test_what_is_lost_is_heard_from_the_copy_in_the_next_packet() -> None:
    packets = speech("opus", seconds=12.0)
    lost = losses(len(packets))
    _, plain = play("opus", packets, lost)
    packed = [red(packets, n) for n in range(len(packets))]
    _, stats = play("red", packed, lost)
    assert stats["lost"] == len(lost)
    assert stats["invalid"] == stats["late"] == 0
    assert stats["fec_ms"] >= 20 * len(lost) * 0.75
    assert stats["concealed_ms"] < plain["concealed_ms"] / 3
    assert 20 <= stats["target_ms"] <= 30
    _, stats = play("red", packed)
    assert stats["target_ms"] < 10
    assert stats["concealed_ms"] == stats["fec_ms"] == 0


def test_a_pause_of_the_sender_is_no_loss() -> None:
    packets = speech("opus", seconds=2.0)
    playout = native.Playout()
    # 20 packets, one that says nothing more comes, 400 ms of pause in the timestamps.
    for n, packet in enumerate(packets[:80]):
        start = n * PTIME + n // 20 * 0.400
        said = packet[:1] if n % 20 == 19 else packet
        playout.push(start, 1, n, round(start * ROOM_RATE), "opus", said)
        playout.pull(start + PHASE, FRAME)
        if n % 20 == 19:
            for silent in range(1, 21):
                playout.pull(start + PHASE + silent * PTIME, FRAME)
    stats = playout.stats()
    assert stats["lost"] == stats["late"] == stats["concealed_ms"] == 0
    assert stats["packets"] == 80


def test_silence_is_not_decoded_and_speech_after_it_is_whole() -> None:
    quiet = np.zeros(ROOM_RATE * 2, np.int16)
    packets = encode("opus", np.concatenate([voice(2.0, ROOM_RATE), quiet, voice(2.0, ROOM_RATE)]))
    heard, stats = play("opus", packets)
    assert stats["skipped_ms"] > 1500
    first, second = heard[: RATE * 2], heard[RATE * 4 : RATE * 6]
    both = min(len(first), len(second))
    assert (
        0.8 < (second[:both] ** 2).sum() / (first[:both] ** 2).sum() < 1.25
    )  # the encoder is warm by then


def test_times_and_codecs_that_are_none_are_refused() -> None:
    playout = native.Playout()
    with pytest.raises(ValueError, match="codec is opus, red, PCMU or PCMA"):
        playout.push(0.0, 1, 1, 1, "G722", b"1")
    with pytest.raises(ValueError, match="not a time"):
        playout.pull(-1.0, 160)
    with pytest.raises(ValueError, match="more than a second"):
        playout.pull(0.0, 8001)
    assert playout.slot(0.0, 0.020) is None

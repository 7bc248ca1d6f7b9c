"""The receive path: every vector, and anything at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtp import g711
from rtp.latch import Latch, networks
from rtp.packet import Packet, build
from rtp.receiver import Receiver

pytestmark = pytest.mark.unit

VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "rtp").glob("*.jsonl"))


class Replay:
    """Runs the lines of one vector and checks what comes of them."""

    def __init__(self, first: dict[str, Any]) -> None:
        own = {(address, port) for address, port in first["own"]}
        latch = Latch(
            signalling=first["signalling"],
            allow=networks(first["allow"]),
            own=lambda address, port: (address, port) in own,
        )
        self.receiver = Receiver(latch)
        self.gate_open = True
        self.loudness = 1 << 15

    def line(self, line: dict[str, Any]) -> None:
        if "hex" in line:
            address, port = line["from"]
            data = bytes.fromhex(line["hex"])
            assert self.receiver.receive(data, (address, port), line["t"]) is line["accepted"]
        else:
            getattr(self, line["do"])(line)

    def expect(self, line: dict[str, Any]) -> None:
        self.receiver.latch.expect(line["address"], line["port"], line["t"])
        self.receiver.expect({int(k): v for k, v in line["codecs"].items()}, line["dtmf"])

    def window(self, line: dict[str, Any]) -> None:
        self.receiver.latch.open(line["t"])

    def gate(self, line: dict[str, Any]) -> None:
        if line["open"] and not self.gate_open:
            self.receiver.buffer.reset()  # as `SdkCarrier.apply` does
        self.gate_open = line["open"]

    def forwarded(self, line: dict[str, Any]) -> None:
        """What the direct engine passes on as it came; here it is decoded."""

    def frame(self, line: dict[str, Any]) -> None:
        samples, wanted = line["samples"], line["pcm"]
        pcm = self.receiver.frame(samples, line["t"])
        if pcm is None or not self.gate_open:
            pcm = bytes(samples * 2)
        assert len(pcm) == samples * 2
        loudness = max(abs(x) for x in memoryview(pcm).cast("h"))
        if wanted == "silence":
            assert loudness == 0
        elif wanted == "concealed":
            assert 0 < loudness < self.loudness
        else:
            byte = bytes.fromhex(wanted["byte"])
            assert pcm == g711.decode(wanted["law"], byte * samples)
        self.loudness = loudness

    def keys(self, line: dict[str, Any]) -> None:
        assert [list(key) for key in self.receiver.keys(line["t"])] == line["keys"]

    def stats(self, line: dict[str, Any]) -> None:
        found = {
            "received": self.receiver.accepted,
            "refused": self.receiver.refused,
            "lost": self.receiver.reception.lost,
            "target": self.receiver.latch.target and list(self.receiver.latch.target),
        }
        wanted = {key: value for key, value in line.items() if key not in ("t", "do")}
        assert {key: found[key] for key in wanted} == wanted


def test_there_are_vectors() -> None:
    assert len(VECTORS) >= 30


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vector_is_received_as_it_says(path: Path) -> None:
    """Rows 80, 81, 82, 83, 84, 85, 87, 88. R1 7.1.17. Each vector by its name."""
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    replay = Replay(lines[0])
    for number, line in enumerate(lines[1:], start=2):
        try:
            replay.line(line)
        except AssertionError as error:
            raise AssertionError(f"{path.name}:{number}: {error}") from error


def receiver() -> Receiver:
    latch = Latch(signalling="192.0.2.1", allow=(), own=lambda address, port: False)
    latch.expect("192.0.2.10", 4000, 0.0)
    receiver = Receiver(latch)
    receiver.expect({8: "PCMA", 0: "PCMU"}, 101)
    return receiver


@pytest.mark.parametrize("payload_type", [13, 19])
def test_comfort_noise_is_a_sign_of_life_and_silence(payload_type: int) -> None:
    """Row 87. RFC 3389: never decoded as audio, and no loss."""
    subject = receiver()
    source = ("192.0.2.10", 4000)
    for number in range(4):
        voice = build(Packet(8, number, number * 160, 1, b"\x10" * 160))
        assert subject.receive(voice, source, number / 50)
    for number in range(4, 30):
        noise = build(Packet(payload_type, number, number * 160, 1, b"\x30" * 11))
        assert subject.receive(noise, source, number / 50)
    heard = [subject.frame(160, 0.1 + number / 50) for number in range(20)]
    assert [pcm for pcm in heard[4:] if pcm is not None and any(pcm)] == []
    assert subject.last_at == 29 / 50
    assert (subject.reception.lost, subject.refused) == (0, 0)


SOURCES = st.sampled_from([("192.0.2.10", 4000), ("192.0.2.11", 9), ("nonsense", 0)])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=64), SOURCES), max_size=30))
def test_no_datagram_raises(datagrams: list[tuple[bytes, tuple[str, int]]]) -> None:
    subject = receiver()
    for index, (data, source) in enumerate(datagrams):
        subject.receive(data, source, index / 50)
        subject.frame(160, index / 50)
        subject.keys(index / 50)
    assert subject.accepted + subject.refused == len(datagrams)


PACKETS = st.builds(
    Packet,
    payload_type=st.sampled_from([0, 8, 13, 101]),
    sequence=st.integers(0, 40) | st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 20).map(lambda n: n * 160) | st.integers(0, 0xFFFF_FFFF),
    ssrc=st.integers(1, 2),
    payload=st.binary(max_size=8) | st.integers(0, 1600).map(bytes),
    marker=st.booleans(),
    csrc=st.just(()),
    extension=st.none(),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PACKETS | st.sampled_from([10, 80, 160, 480]), max_size=80))
def test_any_stream_gives_whole_frames_and_bounded_memory(steps: list[Packet | int]) -> None:
    subject = receiver()
    now = 0.0
    for step in steps:
        now += 0.005
        if isinstance(step, int):
            pcm = subject.frame(step, now)
            assert pcm is None or len(pcm) == 2 * step
            continue
        assert subject.receive(build(step), ("192.0.2.10", 4000), now)
        assert subject.buffer.depth_ms <= 400
        assert subject.reception.lost >= 0
    subject.keys(now)


def test_memory_is_bounded_by_packets_without_end() -> None:
    subject = receiver()
    for index in range(2000):
        data = build(Packet(8, index & 0xFFFF, index * 160, 1, b"\x10" * 160))
        subject.receive(data, ("192.0.2.10", 4000), index / 1000)
        event = build(Packet(101, index & 0xFFFF, index * 160, 2, b"\x01\x80\x00\xa0"))
        subject.receive(event, ("192.0.2.10", 4000), index / 1000)
    assert subject.buffer.depth_ms <= 200
    assert len(subject.keys(3.0)) <= 128

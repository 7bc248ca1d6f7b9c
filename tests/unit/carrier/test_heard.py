"""Measurements of received RTP, the sound itself, and SDP read from bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.carrier import bodies, sound
from bridge.carrier.bodies import Ours
from bridge.carrier.heard import Heard, parse

pytestmark = pytest.mark.unit

TONE = sound.tone_frames(1000, "PCMA")
QUIET = sound.SILENCE["PCMA"] * sound.FRAME
OURS = Ours(address="192.0.2.1", port=4000, session=1, version=7)


def packet(
    sequence: int,
    timestamp: int | None = None,
    *,
    payload: bytes = QUIET,
    payload_type: int = 8,
    marker: bool = False,
    ssrc: int = 1,
) -> bytes:
    stamp = sequence * 160 if timestamp is None else timestamp
    kind = payload_type | (0x80 if marker else 0)
    return struct.pack("!BBHII", 0x80, kind, sequence & 0xFFFF, stamp & 0xFFFFFFFF, ssrc) + payload


def heard(*sequences: int) -> Heard:
    result = Heard()
    for sequence in sequences:
        result.receive(packet(sequence), sequence * 0.02)
    return result


def test_a_steady_stream_has_no_faults() -> None:
    report = heard(*range(65500, 65600)).report()
    assert (report.audio_packets, report.lost, report.timestamp_faults) == (100, 0, 0)
    assert report.deviation_p99 <= 0.1
    assert report.ssrcs == 1


def test_losses_duplicates_and_reordering_are_told_apart() -> None:
    report = heard(1, 2, 2, 5, 4, 6).report()
    assert (report.lost, report.duplicates, report.reordered) == (1, 1, 1)


def test_deviations_are_measured_in_percentiles() -> None:
    ear = Heard()
    for at in range(101):
        ear.receive(packet(at), at * 0.02 + (0.030 if at == 100 else 0.0))
    report = ear.report()
    assert report.deviation_p50 <= 0.1
    assert report.deviation_max == pytest.approx(30.0)
    assert report.longest_gap == pytest.approx(50.0)


def test_a_timestamp_that_jumps_without_a_marker_is_a_fault() -> None:
    ear = Heard()
    ear.receive(packet(1, 160), 0.0)
    ear.receive(packet(2, 960), 0.1)
    ear.receive(packet(3, 8000, marker=True), 0.98)
    assert ear.report().timestamp_faults == 1


def test_a_key_counts_once_however_often_its_end_is_sent() -> None:
    ear = Heard(telephone_event=101)
    for at, (digit, flags, duration) in enumerate(
        [(5, 10, 160), (5, 10, 320), (5, 0x8A, 480), (5, 0x8A, 480), (5, 0x8A, 480)]
    ):
        body = struct.pack("!BBH", digit, flags, duration)
        ear.receive(packet(at, 777, payload=body, payload_type=101), at * 0.02)
    assert (ear.digits, ear.report().digit_ms) == ("5", (60,))


def test_sound_counts_only_when_all_of_it_came_after_the_moment() -> None:
    ear = Heard()
    for at in range(10):
        ear.receive(packet(at, payload=TONE[at]), at * 0.02)
    assert ear.sounding(0.05, 1000)
    assert not ear.sounding(0.05, 700)
    assert not ear.sounding(0.15, 1000)
    assert ear.report().seconds_of_sound == pytest.approx(0.2)


def test_the_recording_fills_gaps_with_silence() -> None:
    ear = Heard()
    ear.receive(packet(1, 0, payload=TONE[0]), 0.0)
    ear.receive(packet(2, 800, payload=TONE[1], marker=True), 0.1)
    samples = ear.samples()
    assert len(samples) == 960
    assert set(samples[160:800]) == {0}


def test_padding_and_extension_are_not_payload() -> None:
    head = struct.pack("!BBHII", 0xB1, 8, 1, 2, 3) + bytes(4) + struct.pack("!HHI", 1, 1, 9)
    read = parse(head + b"ab" + b"\0\2")
    assert read is not None
    assert read.payload == b"ab"


@given(st.binary(max_size=64))
def test_any_datagram_is_taken(data: bytes) -> None:
    ear = Heard(telephone_event=101)
    assert ear.receive(data, 0.0) is (parse(data) is not None)


@pytest.mark.parametrize("law", ["PCMA", "PCMU"])
def test_g711_survives_the_round_trip_to_the_nearest_code(law: str) -> None:
    codes = bytes(range(256))
    again = sound.encode(sound.decode(codes, law), law)
    assert sound.decode(again, law) == sound.decode(codes, law)


def test_g711_has_the_values_of_the_recommendation() -> None:
    assert list(sound.decode(b"\xd5\x55\xaa\x2a", "PCMA")) == [8, -8, 32256, -32256]
    assert list(sound.decode(b"\xff\x7f\x80\x00", "PCMU")) == [0, 0, 32124, -32124]


def test_a_wav_file_comes_back(tmp_path: Path) -> None:
    samples = sound.tone(440, 0.1)
    sound.write_wav(tmp_path / "a.wav", samples)
    assert sound.read_wav(tmp_path / "a.wav") == samples


@pytest.mark.parametrize(
    ("name", "wording", "address"),
    [
        ("offer", "sendrecv", "192.0.2.1"),
        ("sendonly-session", "sendonly", "192.0.2.1"),
        ("inactive", "inactive", "192.0.2.1"),
        ("zero-address-sendonly", "sendonly", "0.0.0.0"),
        ("zero-address-ipv6", "sendrecv", "::"),
        ("no-media", "port0", "192.0.2.1"),
        ("t38", "port0", "192.0.2.1"),
    ],
)
def test_bodies_say_what_their_name_says(name: str, wording: str, address: str) -> None:
    read = bodies.read(bodies.write(name, OURS))
    assert (read.wording, read.address, read.version) == (wording, address, 7)


def test_every_body_has_a_template_and_every_answer_an_expectation() -> None:
    for name in bodies.ANSWERS:
        raw = bodies.write(name, OURS)
        assert b"$" not in raw
        offer = bodies.read(raw)
        assert bodies.read(bodies.answer_to(offer, OURS)).wording == bodies.ANSWERS[name]


def test_media_level_wins_over_session_level() -> None:
    raw = bodies.write("sendonly-session", OURS).replace(b"a=ptime:20", b"a=inactive")
    assert bodies.read(raw).direction == "inactive"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_a_body(raw: bytes) -> None:
    assert bodies.read(raw).direction in ("sendrecv", "sendonly", "recvonly", "inactive")

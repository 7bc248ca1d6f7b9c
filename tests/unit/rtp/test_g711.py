"""Both laws of G.711."""

from __future__ import annotations

import struct

import pytest

from rtp import g711

pytestmark = pytest.mark.unit

LAWS = [g711.PCMU, g711.PCMA]
ALL = bytes(range(256))


def samples(pcm: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(pcm) // 2}h", pcm))


@pytest.mark.parametrize("codec", LAWS)
def test_every_byte_survives_decoding_and_encoding(codec: str) -> None:
    again = g711.encode(codec, g711.decode(codec, ALL))
    # u-law has two zeros; the negative one comes back as the positive.
    expected = ALL.replace(b"\x7f", b"\xff") if codec == g711.PCMU else ALL
    assert again == expected


@pytest.mark.parametrize(
    ("codec", "byte", "sample"),
    [
        ("PCMU", 0x00, -32124),
        ("PCMU", 0x80, 32124),
        ("PCMU", 0xFF, 0),
        ("PCMA", 0x2A, -32256),
        ("PCMA", 0xAA, 32256),
        ("PCMA", 0xD5, 8),
        ("PCMA", 0x55, -8),
    ],
)
def test_known_values_of_g711(codec: str, byte: int, sample: int) -> None:
    assert samples(g711.decode(codec, bytes((byte,)))) == [sample]


@pytest.mark.parametrize("source", LAWS)
@pytest.mark.parametrize("target", LAWS)
def test_the_table_gives_what_the_way_over_pcm_gives(source: str, target: str) -> None:
    payload = ALL.replace(b"\x7f", b"\xff")
    over_pcm = g711.encode(target, g711.decode(source, payload))
    assert g711.translate(payload, source=source, target=target) == over_pcm


@pytest.mark.parametrize("codec", LAWS)
def test_silence_is_as_quiet_as_the_law_can(codec: str) -> None:
    quiet = g711.silence(codec, 240)
    assert len(quiet) == 240
    assert max(abs(x) for x in samples(g711.decode(codec, quiet))) <= 8


def test_scaling_saturates() -> None:
    assert samples(g711.scale(struct.pack("<3h", 100, -30000, 30000), 2.0)) == [200, -32768, 32767]

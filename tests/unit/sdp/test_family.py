"""Of which family an offer wants its audio."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdp.family import audio_family
from tests.unit.sdp.bodies import body

pytestmark = pytest.mark.unit

RFC5118 = Path(__file__).parents[2] / "vectors" / "rfc5118"


@pytest.mark.parametrize(
    ("address", "family"),
    [
        ("192.0.2.1", 4),
        ("0.0.0.0", 4),
        ("2001:db8::1", 6),
        ("::", 6),
        ("::ffff:192.0.2.1", 4),  # IPv4 in IPv6 clothes
        ("media.example", None),
        ("fe80::1%eth0", None),
    ],
)
def test_the_address_of_the_audio_tells_its_family(address: str, family: int | None) -> None:
    assert audio_family(body(address=address)) == family


@pytest.mark.parametrize(
    ("name", "family"), [("ipv6-in-sdp", 6), ("mult-ip-in-sdp", 4), ("ipv4-mapped-ipv6", 4)]
)
def test_the_bodies_of_rfc_5118_tell_theirs(name: str, family: int) -> None:
    _, _, sent = (RFC5118 / f"{name}.dat").read_bytes().partition(b"\r\n\r\n")
    assert audio_family(sent) == family


@pytest.mark.parametrize("offer", [b"", b"nonsense", body(port=0)])
def test_what_has_no_audio_tells_nothing(offer: bytes) -> None:
    assert audio_family(offer) is None

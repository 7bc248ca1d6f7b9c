"""Directions and hold dialects, by table."""

from __future__ import annotations

import pytest

from sdp.direction import answer_direction, hold_answer_direction, hold_of, literal_address
from sdp.model import Direction
from sdp.negotiated import Hold
from sdp.parse import parse
from tests.unit.sdp.bodies import body, vector

pytestmark = pytest.mark.unit

SR, SO, RO, IN = (Direction(name) for name in ("sendrecv", "sendonly", "recvonly", "inactive"))

# offered: what we answer when we want SR, SO, RO, IN
MATRIX = {
    SR: (SR, SO, RO, IN),
    SO: (RO, IN, RO, IN),
    RO: (SO, SO, IN, IN),
    IN: (IN, IN, IN, IN),
}


@pytest.mark.parametrize(
    ("offered", "wanted", "expected"),
    [
        (offered, wanted, expected)
        for offered, row in MATRIX.items()
        for wanted, expected in zip((SR, SO, RO, IN), row, strict=True)
    ],
)
def test_answer_is_the_reverse_of_the_offer_narrowed_by_our_wish(
    offered: Direction, wanted: Direction, expected: Direction
) -> None:
    assert answer_direction(offered, wanted) is expected
    assert hold_answer_direction(offered, wanted, zero=False) is expected


@pytest.mark.parametrize(("offered", "expected"), [(SR, RO), (SO, RO), (RO, SO), (IN, IN)])
def test_a_zero_address_is_answered_by_its_attribute_and_never_sendrecv(
    offered: Direction, expected: Direction
) -> None:
    """Hold rule 2.3: zero address. RFC 6337 5.4."""
    assert hold_answer_direction(offered, SR, zero=True) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (body(), None),
        (body("sendrecv"), None),
        (body("recvonly"), None),
        (body("sendonly"), Hold.SENDONLY),
        (body("inactive"), Hold.INACTIVE),
        (body(address="0.0.0.0"), Hold.ZERO_ADDRESS),
        (body(address="::"), Hold.ZERO_ADDRESS),
        (body(address="0:0:0:0:0:0:0:0"), Hold.ZERO_ADDRESS),
        (body(address="::ffff:0.0.0.0"), Hold.ZERO_ADDRESS),
        (body("sendonly", address="0.0.0.0"), Hold.ZERO_ADDRESS),
        (body("recvonly", address="0.0.0.0"), Hold.ZERO_ADDRESS),
        (body("inactive", address="0.0.0.0"), Hold.INACTIVE),
        (body("inactive", address="0.0.0.0", port=0), Hold.NO_MEDIA),
        (body(port=0), Hold.NO_MEDIA),
        (body(port=0, after="m=video 0 RTP/AVP 99"), Hold.NO_MEDIA),
        (body(port=0, after="m=image 4020 udptl t38"), None),
        (body(before="a=sendonly"), Hold.SENDONLY),
        (body("sendrecv", before="a=inactive"), None),
        (body("sendonly", before="a=sendrecv"), Hold.SENDONLY),
        (body(after="c=IN IP4 0.0.0.0"), Hold.ZERO_ADDRESS),
        (body(address="0.0.0.0", after="c=IN IP4 192.0.2.9"), None),
        (b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nc=IN IP4 192.0.2.9\r\nm=audio 4 RTP/AVP 8\r\n", None),
        (b"v=0\r\nm=audio 4 RTP/AVP 8\r\n", None),
        (b"v=0\r\n", None),
        (vector("asterisk-hold-sendonly"), Hold.SENDONLY),
        (vector("cucm-hold-inactive"), Hold.INACTIVE),
        (vector("genesys-hold-zero-address"), Hold.ZERO_ADDRESS),
        (vector("freeswitch-session-sendrecv-media-sendonly"), Hold.SENDONLY),
        (vector("session-level-sendonly"), Hold.SENDONLY),
        (vector("all-ports-zero"), Hold.NO_MEDIA),
        (vector("t38-reinvite"), None),
        (vector("exotel-offer"), None),
    ],
)
def test_hold_is_recognised_in_every_dialect(text: bytes, expected: Hold | None) -> None:
    """Row 61. R1 7.1.4. Hold rule 2.3: direction of the media, else of the session, else sendrecv.
    RFC 8866 6.7.
    """
    assert hold_of(parse(text)) is expected


@pytest.mark.parametrize("text", ["host.example", "fe80::1%eth0", "010.0.0.1", "1.2.3", "", "²"])
def test_what_is_no_literal_address_is_none(text: str) -> None:
    assert literal_address(text) is None


def test_a_mapped_address_comes_out_as_ipv4() -> None:
    assert str(literal_address("::ffff:192.0.2.1")) == "192.0.2.1"

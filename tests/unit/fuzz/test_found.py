"""What fuzzing found, each as the smallest input that showed it."""

from __future__ import annotations

import pytest

from bridge.sip.message import parse, response_to

pytestmark = pytest.mark.unit


def options(to: str) -> bytes:
    return (
        "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\n"
        f"From: <sip:a@b>;tag=1\r\nTo: {to}\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n"
    ).encode()


@pytest.mark.parametrize(
    "to", ["<sip:a@b>;", "sip:a@b;", "<sip:a@b>;tag", "<sip:a@b>;tag=;x=1", '"A" <sip:a@b>; tag=""']
)
def test_our_tag_can_be_read_whatever_the_peer_left_of_one(to: str) -> None:
    response = response_to(parse(options(to)), 200, to_tag="ours")
    assert parse(response.encode()).to.tag == "ours"

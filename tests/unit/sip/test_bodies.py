"""Bodies beside and around the session description: multipart, disposition, handling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.bodies import find_sdp, is_beyond_us
from bridge.sip.events import IncomingInvite
from tests.unit.sip.link import Net, sdp

pytestmark = pytest.mark.unit

A, P = "192.0.2.1", "198.51.100.7"
SDP, OTHER = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n", b"v=0\r\no=- 2 2 IN IP4 192.0.2.2\r\n"
ISUP = b"\x01\x11\x48\x00"


def part(content_type: str, content: bytes, disposition: str = "") -> bytes:
    head = f"Content-Type: {content_type}\r\n"
    if disposition:
        head += f"Content-Disposition: {disposition}\r\n"
    return head.encode() + b"\r\n" + content


def multipart(*parts: bytes, boundary: str = "b1") -> bytes:
    mark = f"--{boundary}".encode()
    return b"".join(mark + b"\r\n" + each + b"\r\n" for each in parts) + mark + b"--\r\n"


MIXED = "multipart/mixed;boundary=b1"


@pytest.mark.parametrize(
    ("content_type", "disposition", "body", "found", "beyond"),
    [
        ("application/sdp", "session", SDP, SDP, False),
        ("application/sdp", "Session ; handling=required", SDP, SDP, False),
        ("application/sdp", "render", SDP, SDP, False),
        ("application/sdp", "early-session", SDP, None, True),
        ("application/sdp", "early-session;handling=optional", SDP, None, False),
        ("text/plain", None, b"hi", None, True),
        ("text/plain", "x;handling=OPTIONAL", b"hi", None, False),
        ("text/plain", 'x;handling="optional"', b"hi", None, False),
        # Beside an SDP, what says nothing may be ignored and what is required may not.
        (MIXED, None, multipart(part("application/isup", ISUP), part("application/sdp", SDP)), SDP,
         False),
        (MIXED, None, multipart(part("application/isup", ISUP, "signal;handling=required"),
                                part("application/sdp", SDP)), SDP, True),
        (MIXED, None, multipart(part("application/isup", ISUP, "signal;\r\n handling=required"),
                                part("application/sdp", SDP)), SDP, True),
        (MIXED, None, multipart(part("application/sdp", SDP),
                                part("application/pidf+xml", b"<x/>", "x;handling=optional")), SDP,
         False),
        # The session's description, not that of its early media (RFC 3959).
        (MIXED, None, multipart(part("application/sdp", OTHER, "early-session;handling=optional"),
                                part("application/sdp", SDP, "session")), SDP, False),
        (MIXED, None, multipart(part("application/sdp", SDP), part("application/sdp", OTHER)), SDP,
         False),
        # RFC 2046 5.1.4: the last one is the best one.
        ("multipart/alternative;boundary=b1", None,
         multipart(part("application/sdp", OTHER), part("application/sdp", SDP)), SDP, False),
        ("multipart/alternative;boundary=b1", None,
         multipart(part("text/plain", b"hi", "render;handling=required"),
                   part("application/sdp", SDP)), SDP, False),
        ("multipart/signed;boundary=b1;protocol=x", None,
         multipart(part("application/sdp", SDP),
                   part("application/pkcs7-signature", b"\x00", "x;handling=optional")), SDP,
         False),
        # Without an SDP in it everything has to be optional.
        (MIXED, None, multipart(part("text/plain", b"hi")), None, True),
        (MIXED, None, multipart(part("text/plain", b"hi", "x;handling=optional")), None, False),
        (MIXED, "x;handling=optional", multipart(part("text/plain", b"hi")), None, False),
        # Parts that cannot be found.
        ("multipart/mixed", None, multipart(part("application/sdp", SDP)), None, True),
        ("multipart/mixed;boundary=other", None, multipart(part("application/sdp", SDP)), None,
         True),
        ('multipart/mixed;boundary="b1', None, multipart(part("application/sdp", SDP)), None, True),
    ],
)  # fmt: skip
def test_the_session_description_and_what_must_not_be_ignored(
    content_type: str, disposition: str | None, body: bytes, found: bytes | None, beyond: bool
) -> None:
    """Row 38. RFC 3261 20.11; RFC 5621 3, 5, 8; RFC 2046 5.1."""
    assert find_sdp(content_type, body, disposition) == found
    assert is_beyond_us(content_type, body, disposition) is beyond


def test_parts_within_parts_are_looked_through() -> None:
    """Row 38. RFC 5621 3.2."""
    inner = multipart(part("text/plain", b"hi"), part("application/sdp", SDP), boundary="in")
    nested = part("multipart/related;boundary=in", inner)
    assert find_sdp(MIXED, multipart(part("application/isup", ISUP), nested)) == SDP
    assert not is_beyond_us(MIXED, multipart(nested), None)


@pytest.mark.parametrize("required", [False, True])
def test_a_part_that_must_be_understood_refuses_an_invite_and_a_reinvite(required: bool) -> None:
    """Row 38. RFC 3261 8.2.3: 415 with Accept; a re-INVITE's refusal changes nothing."""
    net = Net()
    agent, peer = net.agent(A), net.peer(P)
    agent.answers()
    flow = peer.flow_to(agent)
    disposition = "signal;handling=" + ("required" if required else "optional")
    body = multipart(part("application/isup", ISUP, disposition), part("application/sdp", sdp(P)))
    invite = peer.invite(agent, flow, body=body)
    invite.headers.set("Content-Type", MIXED)
    peer.say(invite, flow)
    if required:
        refused = peer.response("INVITE", 415)
        assert refused.headers.values("Accept") == ["application/sdp", "multipart/mixed"]
        assert agent.of(IncomingInvite) == []
        return
    accepted = peer.response("INVITE", 200)
    peer.say(peer.in_dialog("ACK", accepted, flow, cseq=1), flow)
    again = peer.in_dialog("INVITE", accepted, flow, cseq=2)
    again.body = body.replace(b"handling=optional", b"handling=required")
    again.headers.set("Content-Type", MIXED)
    peer.say(again, flow)
    assert peer.statuses("INVITE")[-1] == 415
    assert agent.endpoint.occupied == 1


@given(st.binary(max_size=200), st.text(max_size=40), st.text(max_size=40))
def test_no_body_raises(body: bytes, content_type: str, disposition: str) -> None:
    for kind in (content_type, MIXED, "multipart/alternative;boundary=b1", None):
        find_sdp(kind, b"--b1\r\n" + body, disposition)
        is_beyond_us(kind, b"--b1\n" + body, disposition)


def test_a_field_folded_as_often_as_there_is_room_is_read_in_one_go() -> None:
    """RFC 2046 5.1: each fold costs what it is long, and the value is whole afterwards."""
    folds = b"\r\n " * 20_000
    head = b"--b1\r\nContent-Type: application/sdp;" + folds + b"x=1\r\n\r\n"
    assert find_sdp(MIXED, head + SDP + b"\r\n--b1--") == SDP

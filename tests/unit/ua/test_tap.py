"""The ladder: masked, bounded, in order."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.flow import Flow
from bridge.ua.tap import Ladder, masked, sdp_direction

pytestmark = pytest.mark.unit

FLOW = Flow(id=1, transport="tcp", local=("10.0.0.1", 5070), remote=("192.0.2.9", 5070))


def message(call_id: str, line: str = "BYE sip:x@y SIP/2.0", body: str = "") -> bytes:
    return f"{line}\r\nVia: SIP/2.0/TCP z\r\nCall-ID: {call_id}\r\n\r\n{body}".encode()


def test_messages_of_a_call_stand_in_order_with_time_and_direction() -> None:
    times = count(10)
    ladder = Ladder(wall=lambda: float(next(times)))
    ladder.sent(
        message("a", "INVITE sip:+919876543210@host:5070;user=phone SIP/2.0", "v=0\r\n"), FLOW
    )
    ladder.received(message("b"), FLOW)
    ladder.received(message("a", "SIP/2.0 200 OK", "v=0\r\na=sendonly\r\n"), FLOW)
    assert [(r.at, r.direction, r.first_line, r.sdp, r.peer) for r in ladder.of("a")] == [
        (10.0, "out", "INVITE sip:***@host:5070;user=phone SIP/2.0", "sendrecv", "192.0.2.9"),
        (12.0, "in", "SIP/2.0 200 OK", "sendonly", "192.0.2.9"),
    ]


def test_the_compact_call_id_counts() -> None:
    ladder = Ladder()
    ladder.received(b"SIP/2.0 100 Trying\r\ni: compact\r\n\r\n", FLOW)
    assert len(ladder.of("compact")) == 1


def test_both_dimensions_are_bounded_and_the_oldest_goes_first() -> None:
    ladder = Ladder(calls=3, messages=2)
    for call in "abcd":
        for number in range(5):
            ladder.received(message(call, f"SIP/2.0 18{number} x"), FLOW)
    assert ladder.of("a") == []
    assert [rung.first_line for rung in ladder.of("d")] == ["SIP/2.0 183 x", "SIP/2.0 184 x"]


def test_a_flood_of_refused_calls_pushes_out_no_call_that_runs() -> None:
    """Threat 5.1: INVITE and REGISTER flood. What an operator needs is still there after it."""
    ladder = Ladder(calls=8)
    for call in ("runs", "rings", "ours"):
        first = f"INVITE sip:{call}@h SIP/2.0\r\nCSeq: 1 INVITE"
        (ladder.sent if call == "ours" else ladder.received)(message(call, first), FLOW)
    ladder.sent(message("runs", "SIP/2.0 200 OK\r\nCSeq: 1 INVITE"), FLOW)
    ladder.sent(message("rings", "SIP/2.0 180 Ringing\r\nCSeq: 1 INVITE"), FLOW)
    for n in range(100):
        ladder.received(message(f"flood{n}", "INVITE sip:x@h SIP/2.0\r\nCSeq: 1 INVITE"), FLOW)
        ladder.sent(message(f"flood{n}", "SIP/2.0 503 No\r\nCSeq: 1 INVITE"), FLOW)
    assert [len(ladder.of(call)) for call in ("runs", "rings", "ours")] == [2, 2, 1]
    assert len(ladder.of("flood99")) == len(ladder.of("flood98")) == 2
    assert ladder.of("flood97") == []


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("INVITE tel:+919876543210 SIP/2.0", "INVITE tel:*** SIP/2.0"),
        ("INVITE tel:+91-98;phone-context=x SIP/2.0", "INVITE tel:*** SIP/2.0"),
        ("BYE sip:trunkbridge@10.0.0.1:5070 SIP/2.0", "BYE sip:trunkbridge@10.0.0.1:5070 SIP/2.0"),
        ("OPTIONS sip:192.0.2.1:5060 SIP/2.0", "OPTIONS sip:192.0.2.1:5060 SIP/2.0"),
        ("INVITE sip:09876543210;x=1:pw@h SIP/2.0", "INVITE sip:***@h SIP/2.0"),
        ("INVITE SIPS:0987@h SIP/2.0", "INVITE SIPS:***@h SIP/2.0"),
        ("INVITE sip:a\x1b[2J@h SIP/2.0", "INVITE sip:***@h SIP/2.0"),
        ("INVITE sip:" + "0987" * 60 + "@h SIP/2.0", "INVITE sip:***@h SIP/2.0"),
        ("INVITE sip:09876543210 SIP/2.0", "INVITE sip:*** SIP/2.0"),
        ("INVITE sip:1@h:50600;rn=+919876543210 SIP/2.0", "INVITE sip:***@h:50600;rn=+*** SIP/2.0"),
        ("INVITE sip:h.example;to=919876543210 SIP/2.0", "INVITE sip:h.example;to=*** SIP/2.0"),
        ("SIP/2.0 404 No +919876543210 here", "SIP/2.0 404 No +*** here"),
        ("SIP/2.0 200 O\x1bK", "SIP/2.0 200 O?K"),
    ],
)
def test_first_lines_are_masked(line: str, shown: str) -> None:
    """Threat 5.1: Privacy."""
    assert masked(line) == shown


@pytest.mark.parametrize(
    ("body", "direction"),
    [
        (b"", None),
        (b"Signal=5\r\n", None),
        (b"v=0\r\nm=audio 1 RTP/AVP 8\r\n", "sendrecv"),
        (b"v=0\r\na=sendrecv\r\nm=audio 1 RTP/AVP 8\r\na=inactive\r\n", "inactive"),
        (b"v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 1 RTP/AVP 8\r\n", "zero-address"),
        (b"--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\na=recvonly\r\n--x--", "recvonly"),
    ],
)
def test_the_direction_of_a_description_is_shown(body: bytes, direction: str | None) -> None:
    assert sdp_direction(body) == direction


@given(st.binary(max_size=300))
def test_nothing_a_peer_sends_breaks_the_ladder(data: bytes) -> None:
    """Threat 5.1: Malformed messages."""
    ladder = Ladder()
    ladder.received(b"x\r\nCall-ID: a" + data, FLOW)
    ladder.received(data, FLOW)
    assert all(rung.first_line.isprintable() for rung in ladder.of("a"))

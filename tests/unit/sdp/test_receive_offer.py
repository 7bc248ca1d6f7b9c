"""Their offers, our answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdp.model import Direction
from sdp.negotiate import Answer, LocalMedia, OfferAnswer, Rejected
from sdp.negotiated import Hold, Negotiated
from tests.unit.sdp.bodies import (
    FAR,
    LOCAL,
    answered,
    applied,
    body,
    direction,
    lines,
    machine,
    vector,
    version,
)

pytestmark = pytest.mark.unit


def test_exotels_offer_is_answered_with_one_codec_and_their_event_type() -> None:
    result = answered(machine(), vector("exotel-offer"))
    assert result.body == (
        b"v=0\r\no=- 4711 1 IN IP4 52.66.10.20\r\ns=-\r\nc=IN IP4 52.66.10.20\r\nt=0 0\r\n"
        b"m=audio 20000 RTP/AVP 8 96\r\na=rtpmap:8 PCMA/8000\r\n"
        b"a=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    )
    assert result.changed
    assert result.negotiated == Negotiated(
        remote_address="182.76.143.61",
        remote_port=18342,
        remote_rtcp_port=18343,
        codec="PCMA",
        payload_type=8,
        receive_codecs=((8, "PCMA"),),
        dtmf_payload_type=96,
        receive_dtmf_payload_type=96,
        ptime=20,
        send=True,
        receive=True,
        hold=None,
    )


HOLDS = [
    # offer, answered direction, hold, send, receive
    (body("sendonly"), "recvonly", Hold.SENDONLY, False, True),
    (body("inactive"), "inactive", Hold.INACTIVE, False, False),
    (body(before="a=sendonly"), "recvonly", Hold.SENDONLY, False, True),
    (body("sendonly", before="a=sendrecv"), "recvonly", Hold.SENDONLY, False, True),
    (body(address="0.0.0.0"), "recvonly", Hold.ZERO_ADDRESS, False, True),
    (body("sendrecv", address="0.0.0.0"), "recvonly", Hold.ZERO_ADDRESS, False, True),
    (body("sendonly", address="0.0.0.0"), "recvonly", Hold.ZERO_ADDRESS, False, True),
    (body("recvonly", address="0.0.0.0"), "sendonly", Hold.ZERO_ADDRESS, False, False),
    (body("inactive", address="0.0.0.0"), "inactive", Hold.INACTIVE, False, False),
    (body(address="::"), "recvonly", Hold.ZERO_ADDRESS, False, True),
    (body(after="c=IN IP4 0.0.0.0"), "recvonly", Hold.ZERO_ADDRESS, False, True),
    (vector("asterisk-hold-sendonly"), "recvonly", Hold.SENDONLY, False, True),
    (vector("cucm-hold-inactive"), "inactive", Hold.INACTIVE, False, False),
    (vector("genesys-hold-zero-address"), "recvonly", Hold.ZERO_ADDRESS, False, True),
    (vector("session-level-sendonly"), "recvonly", Hold.SENDONLY, False, True),
    # not holds
    (body("recvonly"), "sendonly", None, True, False),
    (body("sendrecv", before="a=inactive"), "sendrecv", None, True, True),
    (body(), "sendrecv", None, True, True),
]


@pytest.mark.parametrize("first", [None, body(port=9998), body("sendonly", port=9998)])
@pytest.mark.parametrize(("offer", "answer", "hold", "send", "receive"), HOLDS)
def test_every_direction_and_hold_dialect_is_answered_first_or_later(
    first: bytes | None, offer: bytes, answer: str, hold: Hold | None, send: bool, receive: bool
) -> None:
    """Hold rule 2.3: answers by direction. RFC 3264 6.1."""
    us = machine()
    if first is not None:
        answered(us, first)
    result = answered(us, offer)
    assert direction(result.body) == answer
    assert lines(result.body, "c") == ["IN IP4 52.66.10.20"]
    assert lines(result.body, "m")[0].startswith("audio 20000 ")
    assert result.changed
    negotiated = result.negotiated
    assert (negotiated.hold, negotiated.send, negotiated.receive) == (hold, send, receive)
    assert us.active == negotiated


@pytest.mark.parametrize("dialect", [offer for offer, _, hold, *_ in HOLDS if hold])
def test_hold_and_resume_end_where_they_began(dialect: bytes) -> None:
    us = machine()
    before = answered(us, body()).negotiated
    answered(us, dialect)
    resumed = answered(us, body(version=3))
    assert resumed.changed
    assert resumed.negotiated == before
    assert direction(resumed.body) == "sendrecv"


def test_all_ports_zero_takes_the_media_away_and_keeps_the_codec() -> None:
    """Hold rule 2.3: port 0. RFC 3264 8.2."""
    us = machine()
    before = answered(us, body(formats="0 101")).negotiated
    result = answered(us, vector("all-ports-zero"))
    assert lines(result.body, "m") == ["audio 0 RTP/AVP 8 101", "video 0 RTP/AVP 99"]
    assert result.negotiated == replace(
        before,
        remote_address="",
        remote_port=0,
        remote_rtcp_port=0,
        send=False,
        receive=False,
        hold=Hold.NO_MEDIA,
    )
    assert answered(us, vector("all-ports-zero")).changed is False
    assert answered(us, body(formats="0 101")).negotiated == before


def test_a_first_offer_without_ports_is_a_hold_with_the_codec_its_lines_name() -> None:
    negotiated = answered(machine(), body(port=0, formats="0 8 101")).negotiated
    assert (negotiated.hold, negotiated.codec, negotiated.dtmf_payload_type) == (
        Hold.NO_MEDIA,
        "PCMU",
        101,
    )
    bare = answered(machine(), b"v=0\r\nm=audio 0 RTP/AVP\r\n")
    assert lines(bare.body, "m") == ["audio 0 RTP/AVP 0"]
    assert (bare.negotiated.codec, bare.negotiated.payload_type) == ("PCMA", 8)


@pytest.mark.parametrize(
    "offer",
    [
        vector("t38-reinvite"),
        vector("exotel-srtp-offer"),
        body(formats="18 101"),
        body(formats="101"),
        body(formats="x y"),
        body("rtpmap:96 opus/48000/2", formats="96"),
        body("rtpmap:8 PCMA/16000", formats="8"),
        body("rtpmap:8 G729/8000", formats="8"),
        body("rtpmap:8 PCMA/8000/2", formats="8"),
        body(protocol="UDP/TLS/RTP/SAVPF"),
        body(port=0, after="m=video 5000 RTP/AVP 8"),
        body(address="media.example.net"),
        body(address="239.1.1.1/127"),
        body(address="ff02::1"),
        body(address="2a03:b0c0::1"),
        body(address="61.246.82.75%eth0"),
        body(address="6.6.6.6"),
        b"v=0\r\nm=audio 4000 RTP/AVP 8\r\n",
        b"v=0\r\ns=-\r\n",
    ],
)
@pytest.mark.parametrize("first", [None, body(), body("inactive")])
def test_an_unusable_offer_is_refused_and_changes_nothing(
    first: bytes | None, offer: bytes
) -> None:
    us = machine(refuse=frozenset({("6.6.6.6", 4000)}))
    if first is not None:
        answered(us, first)
    before = us.snapshot()
    result = us.receive_offer(offer)
    assert isinstance(result, Rejected)
    assert result.status == 488
    assert us.snapshot() == before
    if first is not None:
        assert answered(us, first).changed is False


@pytest.mark.parametrize(
    "offer", [b"", b"hello", b"v=0\r\nm=audio x RTP/AVP 8\r\n", b"\xff" * 70000]
)
def test_an_unreadable_offer_is_400(offer: bytes) -> None:
    us = machine()
    assert us.receive_offer(offer) == Rejected(status=400, reason="SDP cannot be parsed")
    assert us.active is None


@pytest.mark.parametrize(
    ("formats", "codecs", "expected"),
    [
        ("8 0", ("PCMA", "PCMU"), (8, "PCMA")),
        ("0 8", ("PCMA", "PCMU"), (0, "PCMU")),
        ("0 8", ("PCMA",), (8, "PCMA")),
        ("18 9 0 8", ("PCMU",), (0, "PCMU")),
        ("8 8 0", ("PCMA",), (8, "PCMA")),
        ("97 8", ("PCMU", "PCMA"), (97, "PCMU")),
    ],
)
def test_the_first_of_their_codecs_that_the_trunk_has_is_taken(
    formats: str, codecs: tuple[str, ...], expected: tuple[int, str]
) -> None:
    """Row 59. RFC 3264 6.1, RFC 3551 6."""
    us = machine(replace(LOCAL, codecs=codecs))
    result = answered(us, body("rtpmap:97 pcmu/8000/1", formats=formats))
    assert result.negotiated.receive_codecs == (expected,)
    assert (result.negotiated.payload_type, result.negotiated.codec) == expected
    assert lines(result.body, "m") == [f"audio 20000 RTP/AVP {expected[0]}"]
    assert f"rtpmap:{expected[0]} {expected[1]}/8000" in lines(result.body, "a")


def test_without_telephone_event_there_is_none() -> None:
    result = answered(machine(), body(formats="8"))
    assert result.negotiated.dtmf_payload_type is None
    assert result.negotiated.receive_dtmf_payload_type is None
    assert b"telephone-event" not in result.body


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ((), 20),
        (("ptime:10",), 10),
        (("ptime:30",), 30),
        (("ptime:60",), 60),
        (("ptime:5",), 10),
        (("ptime:25",), 20),
        (("ptime:150",), 60),
        (("ptime:999999999999",), 20),
        (("ptime:0",), 20),
        (("ptime:abc",), 20),
        (("ptime:40", "maxptime:30"), 30),
        (("maxptime:10",), 10),
        (("maxptime:1",), 10),
        (("maxptime:150",), 20),
    ],
)
def test_their_packet_time_is_ours(attributes: tuple[str, ...], expected: int) -> None:
    result = answered(machine(), body(*attributes))
    assert result.negotiated.ptime == expected
    assert f"ptime:{expected}" in lines(result.body, "a")


def test_session_level_packet_time_counts_when_the_media_has_none() -> None:
    assert answered(machine(), vector("session-level-sendonly")).negotiated.ptime == 30
    both = answered(machine(), body("ptime:10", before="a=ptime:30"))
    assert both.negotiated.ptime == 10


def test_lines_keep_number_and_order_and_the_others_are_refused() -> None:
    """Row 60. RFC 3264 6."""
    result = answered(machine(), vector("softphone-many-lines"))
    assert lines(result.body, "m") == [
        "video 0 RTP/AVP 96",
        "audio 20000 RTP/AVPF 0 99",
        "text 0 RTP/AVP 98 100",
        "audio 0 RTP/AVP 8",
    ]
    assert result.negotiated.codec == "PCMU"
    assert result.negotiated.dtmf_payload_type == 99


def test_of_savp_and_avp_on_one_port_the_plain_line_is_taken() -> None:
    """Row 60. RFC 3264 6."""
    result = answered(machine(), vector("freeswitch-savp-and-avp"))
    assert lines(result.body, "m") == ["audio 0 RTP/SAVP 0 8 101", "audio 20000 RTP/AVP 0 101"]


def test_a_sloppy_body_is_answered_strictly() -> None:
    """Row 62. RFC 8866 5."""
    result = answered(machine(), vector("sloppy-line-ends"))
    assert lines(result.body, "m") == ["audio 20000 RTP/AVP 8"]
    assert result.negotiated.remote_address == FAR
    assert result.negotiated.ptime == 30


@pytest.mark.parametrize(
    ("attributes", "refused", "expected"),
    [
        ((), 0, 4001),
        (("rtcp:5000",), 0, 5000),
        (("rtcp:5000 IN IP4 9.9.9.9",), 0, 5000),
        (("rtcp:0",), 0, 4001),
        (("rtcp:5000",), 5000, 0),
        ((), 4001, 0),
    ],
)
def test_rtcp_goes_where_they_say_or_next_door_or_nowhere(
    attributes: tuple[str, ...], refused: int, expected: int
) -> None:
    us = machine(refuse=frozenset({(FAR, refused)}))
    assert answered(us, body(*attributes)).negotiated.remote_rtcp_port == expected


def test_ice_mux_and_bundle_are_left_alone() -> None:
    """Row 69. RFC 3605, RFC 5761, RFC 8445: what is not answered is not in force."""
    offer = body(
        "rtcp:4009",
        "rtcp-mux",
        "ice-ufrag:abcd",
        "ice-pwd:0123456789abcdef012345",
        "candidate:1 1 UDP 2130706431 10.0.0.9 9 typ host",
        "mid:0",
        before="a=ice-lite\na=group:BUNDLE 0",
    )
    result = answered(machine(), offer)
    assert {line.partition(":")[0] for line in lines(result.body, "a")} == {
        "rtpmap",
        "fmtp",
        "ptime",
        "sendrecv",
    }
    assert result.negotiated.remote_rtcp_port == 4009
    assert (result.negotiated.remote_address, result.negotiated.remote_port) == (FAR, 4000)


def test_the_last_port_has_no_rtcp_next_door() -> None:
    assert answered(machine(), body(port=65535)).negotiated.remote_rtcp_port == 0


def test_ipv6_is_spoken_to_ipv6() -> None:
    us = machine(replace(LOCAL, address="2a01:4f8::1"))
    result = answered(us, body(address="2a03:b0c0::0:1"))
    assert result.negotiated.remote_address == "2a03:b0c0::1"
    assert lines(result.body, "c") == ["IN IP6 2a01:4f8::1"]
    assert lines(result.body, "o") == ["- 4711 1 IN IP6 2a01:4f8::1"]


def test_an_advertised_host_name_stands_as_it_is() -> None:
    us = machine(replace(LOCAL, address="sip.example.net"))
    assert lines(answered(us, body()).body, "c") == ["IN IP4 sip.example.net"]


@pytest.mark.parametrize("offer", [body(), *(offer for offer, *_ in HOLDS), body(port=0)])
def test_a_repeated_offer_is_a_refresh_whatever_its_origin_says(offer: bytes) -> None:
    """Row 63. Hold rule 2.3: same content is a refresh. RFC 3264 8."""
    us = machine()
    first = answered(us, offer)
    for again in (offer, offer.replace(b"o=- 99 1", b"o=bob 7 8"), offer.replace(b"s=-", b"s=x")):
        result = answered(us, again)
        assert result == Answer(body=first.body, negotiated=first.negotiated, changed=False)
    assert us.snapshot().version == 1


def test_a_new_attribute_that_settles_nothing_changes_nothing() -> None:
    us = machine()
    first = answered(us, body())
    again = answered(us, body("ssrc:1 cname:x", version=2))
    assert (again.body, again.changed) == (first.body, False)


@pytest.mark.parametrize(
    "later",
    [
        body(port=4002),
        body(address="61.246.82.76"),
        body("rtcp:5000"),
    ],
)
def test_moved_media_is_a_change_with_the_same_answer(later: bytes) -> None:
    """Row 66. R1 7.1.7. RFC 3264 8.3.1."""
    us = machine()
    first = answered(us, body())
    moved = answered(us, later)
    assert moved.changed
    assert moved.negotiated.hold is None
    assert moved.body == first.body


def test_version_grows_by_one_per_change_and_the_session_id_stays() -> None:
    """Row 63. RFC 3264 5, 8."""
    us = machine()
    steps = [body(), body("sendonly"), body("sendonly"), body(), body(port=4002), body("inactive")]
    bodies = [answered(us, step).body for step in steps]
    assert [version(text) for text in bodies] == [1, 2, 2, 3, 3, 4]
    assert {lines(text, "o")[0].split()[1] for text in bodies} == {"4711"}


def test_sendonly_to_inactive_is_a_change_of_hold() -> None:
    us = machine()
    answered(us, body("sendonly"))
    result = answered(us, body("inactive"))
    assert (result.changed, result.negotiated.hold) == (True, Hold.INACTIVE)


def test_an_offer_while_ours_is_outstanding_is_glare() -> None:
    us = machine()
    answered(us, body())
    us.offer()
    before = us.snapshot()
    result = us.receive_offer(body("sendonly"))
    assert isinstance(result, Rejected)
    assert result.status == 491
    assert us.snapshot() == before


def test_while_we_hold_their_offer_is_answered_by_our_wish() -> None:
    us = machine()
    answered(us, body())
    us.offer(Direction.SENDONLY)
    applied(us, body("recvonly", version=2))
    assert us.wanted is Direction.SENDONLY
    result = answered(us, body("sendrecv", port=4010, version=3))
    assert direction(result.body) == "sendonly"
    assert result.negotiated.hold is None
    assert (result.negotiated.send, result.negotiated.receive) == (True, False)
    both = answered(us, body("sendonly", port=4010, version=4))
    assert direction(both.body) == "inactive"
    assert both.negotiated.hold is Hold.SENDONLY


@pytest.mark.parametrize("codecs", [(), ("OPUS",), ("PCMA", "G729")])
def test_codecs_we_cannot_speak_are_our_own_error(codecs: tuple[str, ...]) -> None:
    local = LocalMedia(address="52.66.10.20", port=2, codecs=codecs, session_id=1)
    with pytest.raises(ValueError, match="codecs must name PCMA, PCMU or both"):
        OfferAnswer(local, destination_allowed=lambda address, port: True)

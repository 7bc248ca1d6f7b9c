"""What becomes of the RFC 5118 torture messages: IPv6 wherever SIP names an address."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.sip.endpoint import EndpointConfig
from bridge.sip.flow import Flow
from bridge.sip.headers import parse_via
from bridge.sip.message import ParseError, Request, parse
from bridge.sip.target import (
    HostHop,
    reply_hops,
    stamp_source,
    uri_hop,
    write_contact,
    write_via,
)
from bridge.sip.uri import SipUri, parse_uri
from sdp.negotiate import Answer, LocalMedia, OfferAnswer

pytestmark = pytest.mark.unit

VECTORS = Path(__file__).parents[2] / "vectors" / "rfc5118"
NAMES = sorted(path.stem for path in VECTORS.glob("*.dat"))
READ = [name for name in NAMES if name != "ipv6-bad"]
SIX = LocalMedia(address="2001:db8::99", port=20000, codecs=("PCMU", "PCMA"), session_id=1)
FOUR = LocalMedia(address="198.51.100.9", port=20000, codecs=("PCMU", "PCMA"), session_id=1)


def vector(name: str) -> bytes:
    return (VECTORS / f"{name}.dat").read_bytes()


def request(name: str) -> Request:
    message = parse(vector(name))
    assert isinstance(message, Request)
    return message


def answer(local: LocalMedia, offer: bytes) -> object:
    return OfferAnswer(local, destination_allowed=lambda _address, _port: True).receive_offer(offer)


def test_there_are_all_twelve() -> None:
    """Row 17. RFC 5118 4: two sections have two messages."""
    assert len(NAMES) == 12


@pytest.mark.parametrize("name", READ)
def test_a_message_that_is_read_survives_a_round_trip(name: str) -> None:
    message = request(name)
    assert message.encode() == parse(message.encode()).encode()
    assert message.body == vector(name).partition(b"\r\n\r\n")[2]


def test_4_1_an_address_in_brackets_is_a_host() -> None:
    message = request("ipv6-good")
    assert parse_uri(message.uri) == SipUri(host="2001:db8::10")
    assert (message.top_via.host, message.top_via.port) == ("2001:db8::9:1", None)
    assert message.contact is not None
    assert message.contact.uri == SipUri(user="caller", host="2001:db8::1")


def test_4_2_an_address_without_brackets_is_refused() -> None:
    with pytest.raises(ParseError) as caught:
        parse(vector("ipv6-bad"))
    assert (caught.value.status, str(caught.value)) == (400, "Port is not a number")
    assert caught.value.request is not None  # whom to answer


def test_4_3_what_stands_in_the_brackets_is_no_port() -> None:
    assert parse_uri(request("port-ambiguous").uri) == SipUri(host="2001:db8::10:5070")


def test_4_4_what_stands_after_the_brackets_is_the_port() -> None:
    assert parse_uri(request("port-unambiguous").uri) == SipUri(host="2001:db8::10", port=5070)


@pytest.mark.parametrize("name", ["via-received-param-with-delim", "via-received-param-no-delim"])
def test_4_5_received_is_read_with_and_without_brackets(name: str) -> None:
    assert request(name).top_via.received == "2001:db8::9:255"


def test_4_5_the_received_we_write_has_no_brackets() -> None:
    message = request("via-received-param-no-delim")
    peer = ("2001:db8::7", 5062)
    stamp_source(message, Flow(id=1, transport="udp", local=("2001:db8::10", 5060), remote=peer))
    assert "received=2001:db8::7" in (message.headers.get("Via") or "")


def test_4_6_media_goes_to_the_ipv6_address() -> None:
    offer = request("ipv6-in-sdp").sdp
    assert offer is not None
    spoken = offer.replace(b"RTP/AVP 2\r\n", b"RTP/AVP 0\r\n")  # G.726 is not spoken here
    taken = answer(SIX, spoken)
    assert isinstance(taken, Answer)
    assert (taken.negotiated.remote_address, taken.negotiated.remote_port) == ("2001:db8::20", 6000)
    assert b"c=IN IP6 2001:db8::99" in taken.body
    assert b"m=video 0 " in taken.body
    assert not isinstance(answer(FOUR, spoken), Answer)  # from IPv4 there is no way there


def test_4_7_a_path_may_mix_families() -> None:
    hops = [parse_via(text) for text in request("mult-ip-in-header").headers.all("Via")]
    assert [(hop.transport, hop.host, hop.port, hop.received) for hop in hops] == [
        ("UDP", "2001:db8::9:1", 6050, None),
        ("UDP", "192.0.2.1", None, None),
        ("TCP", "2001:db8::9:255", None, "192.0.2.200"),
    ]


def test_4_8_each_media_line_has_the_family_of_its_own_connection() -> None:
    offer = request("mult-ip-in-sdp").sdp
    assert offer is not None
    taken = answer(FOUR, offer)
    assert isinstance(taken, Answer)
    assert (taken.negotiated.remote_address, taken.negotiated.remote_port) == ("192.0.2.1", 22334)
    assert b"c=IN IP4 198.51.100.9" in taken.body
    assert b"m=video 0 " in taken.body


def test_4_9_ipv4_in_ipv6_clothes_is_read_and_media_goes_to_the_ipv4_address() -> None:
    message = request("ipv4-mapped-ipv6")
    assert message.top_via.sent_by == "[::ffff:192.0.2.10]:19823"
    assert message.contact is not None
    assert message.contact.uri == SipUri(user="ted", host="::ffff:192.0.2.2")
    assert message.sdp is not None
    taken = answer(FOUR, message.sdp.replace(b"RTP/AVP 2\r\n", b"RTP/AVP 0\r\n"))
    assert isinstance(taken, Answer)
    assert taken.negotiated.remote_address == "192.0.2.2"


@pytest.mark.parametrize("name", ["ipv6-bug-abnf-3-colons", "ipv6-correct-abnf-2-colons"])
def test_4_10_one_colon_too_many_is_forgiven(name: str) -> None:
    message = request(name)
    assert parse_uri(message.uri) == SipUri(user="user", host="2001:db8::192.0.2.1")
    assert message.to.uri == SipUri(user="user", host="2001:db8::192.0.2.1")


# What we write, and where we go


FLOW = Flow(id=1, transport="tcp", local=("2001:db8::5", 5070), remote=("2001:db8::9", 40_000))


def test_our_own_addresses_are_written_in_brackets() -> None:
    """Row 17. RFC 3261 25.1: IPv6reference."""
    config = EndpointConfig()
    assert write_contact(config, FLOW, "bob") == "<sip:bob@[2001:db8::5]:5070;transport=tcp>"
    assert write_via(config, FLOW, "z9hG4bK1").startswith("SIP/2.0/TCP [2001:db8::5]:5070;branch=")
    advertised = EndpointConfig(advertise="2001:db8::ad")
    assert "@[2001:db8::ad]:5070" in write_contact(advertised, FLOW, "bob")


def test_an_advertised_address_is_told_to_peers_of_its_family_only() -> None:
    config = EndpointConfig(advertise="203.0.113.9")
    four = Flow(id=2, transport="tcp", local=("10.0.0.5", 5070), remote=("192.0.2.9", 40_000))
    assert "@203.0.113.9:5070" in write_contact(config, four, "bob")
    assert "@[2001:db8::5]:5070" in write_contact(config, FLOW, "bob")
    assert "@bridge.example:5070" in write_contact(
        EndpointConfig(advertise="bridge.example"), FLOW, "bob"
    )


def test_a_route_or_contact_with_an_ipv6_address_leads_there() -> None:
    there = HostHop("tcp", "2001:db8::20", 5080)
    assert uri_hop("<sip:[2001:db8::20]:5080;lr;transport=tcp>", "udp") == there
    assert uri_hop("sip:bob@[2001:db8::20]:5080", "tcp") == there


@pytest.mark.parametrize("maddr", ["[2001:db8::66]", "2001:db8::66"])
def test_maddr_in_a_uri_is_read_with_and_without_brackets(maddr: str) -> None:
    target = uri_hop(f"sip:bob@[2001:db8::20];maddr={maddr}", "tcp")
    assert target == HostHop("tcp", "2001:db8::66", None)


def test_maddr_in_a_via_leads_no_response_astray() -> None:
    """Row 17. RFC 3261 18.2.2 has it for multicast, which we do not do."""
    via = b"Via: SIP/2.0/TCP [2001:db8::9];maddr=[2001:db8::66];branch=z9hG4bK1"
    old = b"Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111"
    message = parse(vector("ipv6-good").replace(old, via))
    assert isinstance(message, Request)
    hop = reply_hops(message, FLOW)[0]
    assert hop == HostHop("tcp", "2001:db8::9", 5060, trusted=True)


def test_a_response_goes_back_to_the_ipv6_source() -> None:
    message = request("ipv6-good")
    hop, *others = reply_hops(message, FLOW)
    assert hop == HostHop("tcp", "2001:db8::9", 5060, trusted=True)
    assert others == [HostHop("tcp", "2001:db8::9:1", None)]  # of the Via, if that fails

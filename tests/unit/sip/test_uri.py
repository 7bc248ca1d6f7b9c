"""SIP, SIPS and tel URIs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.grammar import ParseError
from bridge.sip.uri import (
    OtherUri,
    SipUri,
    TelUri,
    parse_hostport,
    parse_uri,
    same_uri,
    unescape,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sip:example.com", SipUri(host="example.com")),
        ("SIP:Example.COM", SipUri(host="Example.COM")),
        ("sips:a@h:5061", SipUri(scheme="sips", user="a", host="h", port=5061)),
        ("sip:a:secret@h", SipUri(user="a", password="secret", host="h")),
        ("sip:@h", SipUri(user="", host="h")),
        (
            "sip:+919876543210@203.0.113.7:5070;transport=tcp;lr",
            SipUri(
                user="+919876543210",
                host="203.0.113.7",
                port=5070,
                params=(("transport", "tcp"), ("lr", None)),
            ),
        ),
        ("sip:a;b?c@h", SipUri(user="a;b?c", host="h")),
        ("sip:h?Replaces=a%40b", SipUri(host="h", headers="Replaces=a%40b")),
        ("sip:a@h?Replaces=x@y", SipUri(user="a", host="h", headers="Replaces=x@y")),
        ("sip:a@[2001:db8::1]:5060", SipUri(user="a", host="2001:db8::1", port=5060)),
        ("sip:a@host_name", SipUri(user="a", host="host_name")),
        ("tel:+91-22;phone-context=x", TelUri(number="+91-22", params=(("phone-context", "x"),))),
        ("urn:service:sos", OtherUri("urn", "urn:service:sos")),
    ],
)
def test_uri_is_read(text: str, expected: object) -> None:
    uri = parse_uri(text)
    assert uri == expected
    assert parse_uri(str(uri)) == uri


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "URI has no scheme"),
        ("example.com", "URI has no scheme"),
        ("sip:", "Host is malformed"),
        ("sip:a@", "Host is malformed"),
        ("sip:a@h:", "Port is not a number"),
        ("sip:a@h:0", "Port is zero"),
        ("sip:a@h:65536", "Port is too large"),
        ("sip:a@h:" + "9" * 5000, "Port is too large"),
        ("sip:a@h:١", "Port is not a number"),
        ("sip:a b@h", "URI has a character that must be escaped"),
        ("sip:a\r\nb@h", "URI has a character that must be escaped"),
        ("sip:a\x00@h", "URI has a character that must be escaped"),
        ("<sip:a@h>", "URI has a character that must be escaped"),
        ("sip:a@hö", "Host is malformed"),
        ("sip:a@b@c", "Host is malformed"),
        ("sip:a@[::1", "IPv6 address is malformed"),
        ("sip:a@[::1%eth0]", "IPv6 address is malformed"),
        ("sip:a@[1:2:3:4]", "IPv6 address is malformed"),
        ("sip:a@[1.2.3.4]", "IPv6 address is malformed"),
        ("sip:a@[::1]x", "Text after the IPv6 address"),
        ("sip:a@h;=x", "Parameter has no name"),
        ("tel:", "Telephone number is malformed"),
        ("tel:alice", "Telephone number is malformed"),
        ("x:", "URI is empty"),
        (":x", "URI scheme is malformed"),
        ("1x:y", "URI scheme is malformed"),
    ],
)
def test_malformed_uri_is_refused(text: str, error: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_uri(text)
    assert str(caught.value) == error
    assert caught.value.status == 400


def test_parameters_are_found_without_case() -> None:
    uri = parse_uri("sip:h;Transport=TCP;LR")
    assert isinstance(uri, SipUri)
    assert uri.transport == "tcp"
    assert uri.lr
    assert uri.param("absent") is None


def test_absent_transport_is_none_and_tel_parameters_are_found() -> None:
    assert SipUri(host="h").transport is None
    tel = parse_uri("tel:7042;Phone-Context=example.com")
    assert isinstance(tel, TelUri)
    assert tel.param("phone-context") == "example.com"
    assert tel.param("ext") is None


def test_parameter_can_be_removed() -> None:
    uri = SipUri(host="h", params=(("lr", None), ("Transport", "udp")))
    assert str(uri.without_param("LR")) == "sip:h;Transport=udp"


# RFC 3261 19.1.4, and rows of our own.
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:a@[2001:DB8:0::1]", "sip:a@[2001:db8::1]"),
        ("tel:+1-201-555", "tel:+1(201)555"),
        ("urn:x:y", "urn:x:y"),
    ],
)
def test_uris_are_the_same(a: str, b: str) -> None:
    assert same_uri(parse_uri(a), parse_uri(b))
    assert same_uri(parse_uri(b), parse_uri(a))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("sip:ALICE@AtlanTa.CoM;Transport=udp", "sip:alice@AtlanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sips:bob@biloxi.com"),
        ("sip:bob@biloxi.com;maddr=1.2.3.4", "sip:bob@biloxi.com"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:biloxi.com", "sip:@biloxi.com"),
        ("sip:a%3Bb@h", "sip:a;b@h"),
        ("sip:a@h", "tel:1"),
        ("tel:1;phone-context=a", "tel:1"),
    ],
)
def test_uris_differ(a: str, b: str) -> None:
    assert not same_uri(parse_uri(a), parse_uri(b))
    assert not same_uri(parse_uri(b), parse_uri(a))


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("h : 5060", "h", 5060), ("[::1] :5060", "::1", 5060), ("h", "h", None)],
)
def test_hostport_allows_blanks_around_the_colon(text: str, host: str, port: int | None) -> None:
    assert parse_hostport(text) == (host, port)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("a", "a"), ("%41%zz%4", "A%zz%4"), ("%C3%A9", "é"), ("%FF", "\udcff"), ("%2", "%2")],
)
def test_escapes_are_decoded(text: str, plain: str) -> None:
    """Row 15. RFC 3261 19.1.2."""
    assert unescape(text) == plain


USERS = st.text("abcXYZ019+-_.!~*'()&=$,;?/", min_size=1, max_size=12)
HOSTS = st.sampled_from(["example.com", "192.0.2.1", "2001:db8::1", "h_1"])
NAMES = st.text("abcXYZ-.!", min_size=1, max_size=6)


@given(
    user=st.none() | USERS,
    host=HOSTS,
    port=st.none() | st.integers(1, 65535),
    params=st.lists(st.tuples(NAMES, st.none() | NAMES), max_size=4),
)
def test_what_is_written_reads_back(
    user: str | None, host: str, port: int | None, params: list[tuple[str, str | None]]
) -> None:
    uri = SipUri(user=user, host=host, port=port, params=tuple(params))
    assert parse_uri(str(uri)) == uri
    assert same_uri(uri, uri)

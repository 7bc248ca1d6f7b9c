"""Typed header values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.grammar import ParseError, parse_number, split_list
from bridge.sip.headers import (
    CSeq,
    NameAddr,
    Reason,
    Via,
    parse_addresses,
    parse_contact,
    parse_cseq,
    parse_name_addr,
    parse_reasons,
    parse_retry_after,
    parse_route,
    parse_via,
    q850_cause,
)
from bridge.sip.message import Headers
from bridge.sip.uri import SipUri, TelUri

pytestmark = pytest.mark.unit

ALICE = SipUri(user="alice", host="h")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<sip:alice@h>", NameAddr(uri=ALICE)),
        ("<sip:alice@h>;tag=1", NameAddr(uri=ALICE, params=(("tag", "1"),))),
        ("sip:alice@h;tag=1", NameAddr(uri=ALICE, params=(("tag", "1"),))),
        ("sip:alice@h ; tag = 1", NameAddr(uri=ALICE, params=(("tag", "1"),))),
        ("Alice <sip:alice@h>", NameAddr(display="Alice", uri=ALICE)),
        ("Alice B. C<sip:alice@h>", NameAddr(display="Alice B. C", uri=ALICE)),
        ("Bell, Alice <sip:alice@h>", NameAddr(display="Bell, Alice", uri=ALICE)),
        ('"" <sip:alice@h>', NameAddr(display="", uri=ALICE)),
        ('"A \\"<x>\\", B\\\\" <sip:alice@h>', NameAddr(display='A "<x>", B\\', uri=ALICE)),
        ('"A"<sip:alice@h>', NameAddr(display="A", uri=ALICE)),
        ("< sip:alice@h >", NameAddr(uri=ALICE)),
        ("<sip:alice@h>;", NameAddr(uri=ALICE)),
        ('<sip:alice@h>;x="a;b\\"c"', NameAddr(uri=ALICE, params=(("x", '"a;b\\"c"'),))),
        ("<tel:+911234>", NameAddr(uri=TelUri(number="+911234"))),
        ('sip:alice@h;x="<"', NameAddr(uri=ALICE, params=(("x", '"<"'),))),
    ],
)
def test_address_is_read(text: str, expected: NameAddr) -> None:
    """Row 14. RFC 3261 20."""
    address = parse_name_addr(text)
    assert address == expected
    assert parse_name_addr(str(address)) == address


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "URI has no scheme"),
        ('"Alice <sip:alice@h>', "Quoted string is not closed"),
        ('"Alice\\" <sip:alice@h>', "Quoted string is not closed"),
        ('Al"ice <sip:alice@h>', "Quoted string is not closed"),
        ('"Alice" sip:alice@h', "Display name is not followed by an address"),
        ('"Alice" B <sip:alice@h>', "Display name is not followed by an address"),
        ("<sip:alice@h", "Angle bracket is not closed"),
        ("<sip:alice@h>, <sip:bob@h>", "Text after the address"),
        ("<sip:alice@h>;=1", "Parameter has no name"),
        ("<sip:alice@h>;;tag=1", "Parameter has no name"),
        ('<sip:alice@h>;x="', "Quoted string is not closed"),
        ("<sip:alice@h>;x=\x01", "Parameter has a control character"),
        ("<>", "URI has no scheme"),
    ],
)
def test_malformed_address_is_refused(text: str, error: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_name_addr(text)
    assert str(caught.value) == error


def test_tag_is_found_without_case_and_replaced() -> None:
    address = parse_name_addr("<sip:alice@h>;Tag=1;x=2")
    assert address.tag == "1"
    assert str(address.with_tag("9")) == "<sip:alice@h>;x=2;tag=9"
    assert parse_name_addr("<sip:alice@h>;tag").tag is None


def test_parameter_is_unquoted_on_access() -> None:
    address = parse_name_addr('<sip:alice@h>;reason="no \\"answer\\""')
    assert address.param("reason") == 'no "answer"'
    assert str(address) == '<sip:alice@h>;reason="no \\"answer\\""'


def test_bare_contact_gives_uri_parameters_to_the_uri() -> None:
    contact = parse_contact("sip:203.0.113.7:443;transport=tls;expires=60")
    assert str(contact.uri) == "sip:203.0.113.7:443;transport=tls"
    assert contact.params == (("expires", "60"),)
    bracketed = parse_contact("<sip:203.0.113.7:443>;transport=tls")
    assert bracketed.params == (("transport", "tls"),)


def test_wildcard_contact_is_refused() -> None:
    with pytest.raises(ParseError, match=r"^Contact is a wildcard$"):
        parse_contact(" * ")


def test_record_route_without_brackets_keeps_lr() -> None:
    """Row 14."""
    route = parse_route("sip:198.51.100.1:443;transport=tls;lr")
    assert isinstance(route.uri, SipUri)
    assert route.uri.lr
    assert str(route) == "<sip:198.51.100.1:443;transport=tls;lr>"


@pytest.mark.parametrize("param", ['x=">"', "x=a b", "x=a?b", "x=a@b"])
def test_parameter_that_cannot_stand_in_a_uri_stays_with_the_header(param: str) -> None:
    route = parse_route(f"sip:h;lr;{param}")
    assert str(route) == f"<sip:h;lr>;{param}"
    assert parse_route(str(route)) == route
    assert parse_route("tel:1;x=2").params == (("x", "2"),)


def test_route_elements_come_in_order_over_mixed_forms() -> None:
    headers = Headers(
        [
            ("Record-Route", "<sip:a;lr>, <sip:b;lr>;x=1"),
            ("Via", "SIP/2.0/UDP h"),
            ("record-route", "sip:c;lr"),
        ]
    )
    addresses = parse_addresses(headers, "Record-Route")
    assert [str(address) for address in addresses] == [
        "<sip:a;lr>",
        "<sip:b;lr>;x=1",
        "<sip:c;lr>",
    ]


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        ("", []),
        (" , ,", []),
        ("a", ["a"]),
        ("a, b ,c", ["a", "b", "c"]),
        ('"a, b" <sip:x,y>, c', ['"a, b" <sip:x,y>', "c"]),
        ('"a\\", b", c', ['"a\\", b"', "c"]),
        ('"open, c', ['"open, c']),
        ("<open, c", ["<open, c"]),
        ('a\\, "b, c", d', ["a\\", '"b, c"', "d"]),
        ('"<", b', ['"<"', "b"]),
    ],
)
def test_lists_split_outside_quotes_and_brackets(value: str, elements: list[str]) -> None:
    """Row 14. RFC 3261 7.3.1."""
    assert split_list(value) == elements


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SIP/2.0/UDP h", Via(transport="UDP", host="h")),
        ("SIP/2.0/tcp h:5060", Via(transport="TCP", host="h", port=5060)),
        (
            "SIP / 2.0 / TLS\th : 5061 ; branch = z9hG4bK1",
            Via(transport="TLS", host="h", port=5061, params=(("branch", "z9hG4bK1"),)),
        ),
        (
            "SIP/2.0/UDP [::1]:9;rport",
            Via(transport="UDP", host="::1", port=9, params=(("rport", None),)),
        ),
    ],
)
def test_via_is_read(text: str, expected: Via) -> None:
    via = parse_via(text)
    assert via == expected
    assert parse_via(str(via)) == via


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "Via is malformed"),
        ("SIP/2.0", "Via is malformed"),
        ("SIP/2.0/UDP", "Via is malformed"),
        ("SIP/2.0/ h", "Via is malformed"),
        ("SIP/7.0/UDP h", "Via has an unknown protocol"),
        ("HTTP/2.0/UDP h", "Via has an unknown protocol"),
        ("SIP/2.0/UDP ;branch=x", "Host is malformed"),
        ("SIP/2.0/UDP a b", "Host is malformed"),
        ("SIP/2.0/UDP h:x", "Port is not a number"),
    ],
)
def test_malformed_via_is_refused(text: str, error: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_via(text)
    assert str(caught.value) == error


def test_via_tells_rport_and_received() -> None:
    asked = parse_via("SIP/2.0/UDP h;rport;branch=b")
    assert asked.wants_rport
    assert asked.rport is None
    told = parse_via("SIP/2.0/UDP h;rport=5099;received=[::1]")
    assert not told.wants_rport
    assert (told.rport, told.received) == (5099, "::1")
    assert parse_via("SIP/2.0/UDP h;rport=x").rport is None


@pytest.mark.parametrize(
    ("via", "source", "expected"),
    [
        ("SIP/2.0/UDP 1.2.3.4;branch=b", "1.2.3.4", "SIP/2.0/UDP 1.2.3.4;branch=b"),
        ("SIP/2.0/UDP h;branch=b", "1.2.3.4", "SIP/2.0/UDP h;branch=b;received=1.2.3.4"),
        (
            "SIP/2.0/UDP 1.2.3.4;rport;branch=b",
            "1.2.3.4",
            "SIP/2.0/UDP 1.2.3.4;rport=99;branch=b;received=1.2.3.4",
        ),
        ("SIP/2.0/UDP h;received=6.6.6.6", "1.2.3.4", "SIP/2.0/UDP h;received=1.2.3.4"),
    ],
)
def test_source_is_written_into_via(via: str, source: str, expected: str) -> None:
    """Row 10. RFC 3261 18.2.1, RFC 3581 4."""
    assert str(parse_via(via).with_source(source, 99)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 INVITE", CSeq(1, "INVITE")),
        ("0009 \t BYE", CSeq(9, "BYE")),
        ("2147483647 A", CSeq(2**31 - 1, "A")),
    ],
)
def test_cseq_is_read(text: str, expected: CSeq) -> None:
    assert parse_cseq(text) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "CSeq is malformed"),
        ("1", "CSeq is malformed"),
        ("1 INVITE x", "CSeq is malformed"),
        ("1 IN@VITE", "CSeq is malformed"),
        ("-1 INVITE", "CSeq is not a number"),
        ("+1 INVITE", "CSeq is not a number"),
        ("2147483648 INVITE", "CSeq is too large"),
        ("9" * 5000 + " INVITE", "CSeq is too large"),
    ],
)
def test_malformed_cseq_is_refused(text: str, error: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_cseq(text)
    assert str(caught.value) == error


def test_reasons_are_read_and_broken_ones_left_out() -> None:
    """Row 45. RFC 3326 2: also without cause."""
    headers = Headers(
        [
            ("Reason", 'SIP ;cause=200 ;text="Call completed elsewhere", Q.850;cause=16'),
            ("Reason", "Q.850"),
            ("Reason", "Q.850;cause=x"),
            ("Reason", ";cause=1"),
            ("Reason", 'Preemption;cause=1;text="'),
        ]
    )
    assert parse_reasons(headers) == [
        Reason(protocol="SIP", cause=200, text="Call completed elsewhere"),
        Reason(protocol="Q.850", cause=16),
        Reason(protocol="Q.850"),
        Reason(protocol="Q.850"),
        Reason(protocol="Preemption"),
    ]
    assert q850_cause(headers) == 16
    assert q850_cause(Headers()) is None


def test_reason_is_written() -> None:
    assert (
        str(Reason(protocol="Q.850", cause=16, text='a "b"')) == 'Q.850;cause=16;text="a \\"b\\""'
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5),
        ("18000;duration=3600", 18000),
        ("120 (I'm in a meeting)", 120),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("9" * 50, 2**31 - 1),
    ],
)
def test_retry_after_is_read(value: str, seconds: int | None) -> None:
    """Row 46. RFC 3261 20.33."""
    assert parse_retry_after(Headers([("Retry-After", value)])) == seconds
    assert parse_retry_after(Headers()) is None


@given(st.integers(0, 2**70), st.integers(0, 2**64))
def test_numbers_are_read_or_refused_by_size(number: int, largest: int) -> None:
    if number <= largest:
        assert parse_number(f"000{number}", "It", largest) == number
    else:
        with pytest.raises(ParseError, match=r"^It is too large$"):
            parse_number(str(number), "It", largest)


NO_LINE_ENDS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


@given(display=NO_LINE_ENDS, tag=st.text("abc019.-", min_size=1))
def test_any_display_name_survives_a_round_trip(display: str, tag: str) -> None:
    address = NameAddr(display=display, uri=ALICE).with_tag(tag)
    assert parse_name_addr(str(address)) == address
    Headers([("From", str(address))])

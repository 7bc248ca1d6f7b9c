"""Numbers: contract 3."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.trunk import TrunkConfig
from bridge.sip.message import Headers, Request
from bridge.trunk.numbers import (
    Number,
    called_number,
    caller_number,
    is_number_of,
    normalise,
    uri_of,
    write,
)

pytestmark = pytest.mark.unit


def plan(**settings: Any) -> TrunkConfig:
    return TrunkConfig(**{"name": "t", "host": "h.example.com", **settings})


def invite(uri: str = "sip:carrier.example.com", **headers: str) -> Request:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request("INVITE", uri, Headers(named))


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("+919876543210", "US", "+919876543210"),
        ("919876543210", "IN", "+919876543210"),
        ("09876543210", "IN", "+919876543210"),
        ("9876543210", "IN", "+919876543210"),
        ("00919876543210", "IN", "+919876543210"),
        ("022-6789 1234", "IN", "+912267891234"),
        ("(212) 555-0123", "US", "+12125550123"),
        ("+39 06 1234 5678", "IN", "+390612345678"),  # the leading zero belongs to the number
        ("1000", "IN", "1000"),
        ("112", "IN", "112"),
        ("911", "US", "911"),
        ("alice", "IN", "alice"),
        ("1800FLOWERS", "US", "1800FLOWERS"),
        ("+", "IN", "+"),
        ("", "IN", ""),
        ("+999123456789", "IN", "+999123456789"),
        ("9" * 40, "IN", "9" * 40),
        ("٩٨٧٦٥٤٣٢١٠", "IN", "٩٨٧٦٥٤٣٢١٠"),
    ],
)
def test_a_number_is_e164_or_what_was_received(text: str, country: str, number: str) -> None:
    """R1 7.1.23."""
    assert normalise(text, country) == number


@given(st.text(max_size=80), st.sampled_from(["IN", "US", "GB"]))
def test_normalising_twice_changes_nothing_more_and_never_raises(text: str, country: str) -> None:
    once = normalise(text, country)
    assert normalise(once, country) == once


@pytest.mark.parametrize(
    ("number_format", "number", "written"),
    [
        ("e164", "+919876543210", "+919876543210"),
        ("bare", "+919876543210", "919876543210"),
        ("national-0", "+919876543210", "09876543210"),
        ("national-0", "+12125550123", "+12125550123"),  # not a number of the country
        ("bare", "+12125550123", "12125550123"),
        ("e164", "1000", "1000"),
        ("bare", "1000", "1000"),
        ("national-0", "1000", "1000"),
    ],
)
def test_a_number_is_written_as_the_trunk_wants_it(
    number_format: str, number: str, written: str
) -> None:
    assert write(number, plan(number_format=number_format)) == written


@given(st.integers(6_000_000_000, 9_999_999_999), st.sampled_from(["e164", "bare", "national-0"]))
def test_what_is_written_is_understood_again(national: int, number_format: str) -> None:
    trunk = plan(number_format=number_format)
    assert normalise(write(f"+91{national}", trunk), "IN") == f"+91{national}"


def test_user_phone_is_on_the_uri() -> None:
    """Row 43. Failure 7.3: user=phone. RFC 3261 19.1.1: and never a transport."""
    assert str(uri_of("+919876543210", "h", plan(user_phone=True))) == (
        "sip:+919876543210@h;user=phone"
    )
    assert str(uri_of("1000", "h", plan(), port=5070)) == "sip:1000@h:5070"


@pytest.mark.parametrize(
    ("request_", "received", "number"),
    [
        (invite("sip:09876543210@h"), "09876543210", "+919876543210"),
        (invite("sip:+919876543210@h;user=phone"), "+919876543210", "+919876543210"),
        (invite("sip:%2B919876543210@h"), "+919876543210", "+919876543210"),
        (invite("sip:+919876543210;npdi;rn=1@h"), "+919876543210", "+919876543210"),
        (invite("tel:+91-98765-43210"), "+91-98765-43210", "+919876543210"),
        (invite("sip:1000@h", To="<sip:+919876543210@h>"), "1000", "1000"),
        (
            invite("tel:9876543210;phone-context=+91"),
            "+919876543210",
            "+919876543210",
        ),
        (invite("sip:1000@h", Diversion="<sip:1009@h>;reason=unconditional"), "1000", "1000"),
        (
            invite("sip:h", P_Called_Party_ID="<sip:1001@h>", To="<sip:1002@h>"),
            "1001",
            "1001",
        ),
        (invite("sip:h", To='"Ann, B" <sip:1002@h>;tag=1'), "1002", "1002"),
        (invite("sip:h", P_Called_Party_ID="<<<", To="sip:1002@h"), "1002", "1002"),
        (invite("urn:service:sos", To="<sip:112@h>"), "112", "112"),
        (invite("sip:h", To="<sip:h>"), "", ""),
        (invite("sip:a%0d%0ab@h"), "a%0d%0ab", "a%0d%0ab"),
    ],
)
def test_the_called_number(request_: Request, received: str, number: str) -> None:
    """Row 43. Request-URI, then P-Called-Party-ID, then To (contract 3)."""
    assert called_number(request_, plan()) == Number(received=received, number=number)


FROM = "<sip:+911111111111@h>;tag=1"


@pytest.mark.parametrize(
    ("headers", "number"),
    [
        ({"From": "<sip:09876543210@h>;tag=1"}, "+919876543210"),
        ({"From": "sip:09876543210@h;tag=1"}, "+919876543210"),
        ({"From": FROM, "Remote_Party_ID": "<sip:1001@h>;party=calling"}, "1001"),
        (
            {
                "From": FROM,
                "Remote_Party_ID": "<sip:1001@h>",
                "P_Asserted_Identity": '"A" <sip:1002@h>',
            },
            "1002",
        ),
        (
            {"From": FROM, "P_Asserted_Identity": "<sip:ann@h>, <tel:+919876543210>"},
            "+919876543210",
        ),
        ({"From": FROM, "P_Asserted_Identity": "<sip:h>"}, "+911111111111"),
        ({"From": FROM, "P_Asserted_Identity": "<<"}, "+911111111111"),
        ({"From": '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1'}, "anonymous"),
        ({"From": "<sip:Restricted@h>;tag=1"}, "anonymous"),
        ({"From": "<sip:h>;tag=1"}, "anonymous"),
        ({"From": FROM, "Privacy": "id"}, "anonymous"),
        (
            {"From": FROM, "Privacy": "critical; ID", "P_Asserted_Identity": "<sip:1@h>"},
            "anonymous",
        ),
        ({"From": FROM, "Privacy": "none"}, "+911111111111"),
        ({"From": FROM, "Remote_Party_ID": "<sip:1001@h>;privacy=full"}, "anonymous"),
        ({"From": FROM, "Remote_Party_ID": "<sip:1001@h>;privacy=off"}, "1001"),
        (
            {"From": "<sip:anonymous@anonymous.invalid>", "P_Asserted_Identity": "<sip:1001@h>"},
            "1001",
        ),
        ({"From": "@@@"}, "anonymous"),
        ({}, "anonymous"),
        (
            {"From": FROM, "P_Asserted_Identity": "<tel:+919876543210>, <sip:ann@h>"},
            "+919876543210",
        ),
        ({"From": FROM, "P_Preferred_Identity": "<sip:1002@h>"}, "+911111111111"),
        ({"From": FROM, "Remote_Party_ID": "<sip:1001@h>;party=called"}, "+911111111111"),
        (
            {"From": FROM, "Remote_Party_ID": "<sip:1001@h>;party=called, <sip:1003@h>"},
            "1003",
        ),
        ({"From": FROM, "Remote_Party_ID": "<sip:1001@h>;privacy=uri"}, "anonymous"),
        ({"From": FROM, "Remote_Party_ID": "<sip:1001@h>;privacy=name"}, "1001"),
        ({"From": FROM, "Privacy": "header"}, "anonymous"),
        ({"From": FROM, "Privacy": "session"}, "+911111111111"),
        ({"From": FROM, "Diversion": "<sip:1009@h>", "History_Info": "<sip:8@h>"}, "+911111111111"),
        ({"From": "<tel:98765-43210;phone-context=+91>;tag=1"}, "+919876543210"),
        ({"From": "<tel:+91(98765)43.210>;tag=1"}, "+919876543210"),
        ({"From": "<tel:09876543210;phone-context=ims.example.com>"}, "+919876543210"),
        ({"From": "<tel:1000;phone-context=ims.example.com>"}, "1000"),
        ({"From": "<tel:9876543210;phone-context=nonsense+>"}, "+919876543210"),
        ({"From": "<sip:9876543210;phone-context=+91@h;user=phone>;tag=1"}, "+919876543210"),
    ],
)
def test_the_callers_number(headers: dict[str, str], number: str) -> None:
    """Row 43. RFC 3323, 3325, 3966: who calls, and when that is withheld (contract 3)."""
    caller = caller_number(invite(**headers), plan())
    assert caller.number == number
    assert caller.withheld is (number == "anonymous")


@given(st.text(max_size=100))
def test_no_header_breaks_the_numbers(text: str) -> None:
    value = "".join(c for c in text if c.isprintable())
    request = invite("sip:h", From=value, To=value, P_Asserted_Identity=value, Privacy=value)
    request.uri = text
    called_number(request, plan())
    assert caller_number(request, plan()).number


@pytest.mark.parametrize("user", ["wats\u2028n", "\udcff12", "%0A", "%FF", "a\x85b", "\u202e7"])
def test_a_number_can_always_be_shown_and_written_as_utf8(user: str) -> None:
    request = invite(f"sip:{user}@h", From=f"<sip:{user}@h>;tag=1", To=f"<sip:{user}@h>")
    for found in (called_number(request, plan()), caller_number(request, plan())):
        for text in (found.number, found.received):
            text.encode("utf-8")
            assert text.isprintable()


NUMBER = Number(received="09876543210", number="+919876543210")


@pytest.mark.parametrize(
    "pattern",
    ["*", "+919876543210", "919876543210", "09876543210", "9876543210", "098-7654 3210"],
)
def test_a_routes_number_may_be_written_in_any_form(pattern: str) -> None:
    assert is_number_of(pattern, NUMBER, plan())


@pytest.mark.parametrize("pattern", ["+919876543211", "1000", "", "+9198765432*"])
def test_another_number_is_another_number(pattern: str) -> None:
    assert not is_number_of(pattern, NUMBER, plan())


def test_a_foreign_number_matches_as_the_trunk_writes_it() -> None:
    trunk = plan(number_format="bare", country="IN")
    received = Number(received="12125550123", number=normalise("12125550123", "IN"))
    assert is_number_of("+12125550123", received, trunk)


def test_an_extension_matches_itself_only() -> None:
    extension = Number(received="1000", number="1000")
    assert is_number_of("1000", extension, plan())
    assert not is_number_of("100", extension, plan())

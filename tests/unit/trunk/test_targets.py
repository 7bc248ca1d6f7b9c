"""Where a call may be transferred: what is a target, and which patterns allow it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bridge.trunk.targets import is_allowed, matches, read_target, refer_uri
from tests.growth import growth

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class Plan:
    country: str = "IN"
    number_format: str = "e164"
    user_phone: bool = False


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("+91 80 4567 8900", "+918045678900"),
        ("080-45678900", "+918045678900"),
        (" +918045678900 ", "+918045678900"),
        ("tel:+91-80-4567-8900", "+918045678900"),
        ("1000", "1000"),
        ("*72#", "*72#"),
        ("sip:support@pbx.example.com", "sip:support@pbx.example.com"),
        ("SIP:support@PBX.example.com:5080", "sip:support@pbx.example.com:5080"),
        (
            "sip:+918045678900@c.example;user=phone;transport=tcp",
            "sip:+918045678900@c.example;user=phone;transport=tcp",
        ),
        ("sips:a@[2001:DB8::1]", "sips:a@[2001:db8::1]"),
    ],
)
def test_a_target_is_read_as_it_is_compared(text: str, target: str) -> None:
    assert read_target(text, "IN") == target


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "+", "+91", "bob", "1000 or so", "9" * 40, "+" + "9" * 300, "९८७६५४३२१०"),
        *("tel:", "tel:1000;phone-context=x", "mailto:a@b", "http://10.0.0.1/", "sip:", "sip:@x"),
        *("sip:a@b?Replaces=x", "sip:a:secret@b", "sip:a@b;method=BYE", "sip:a@b;maddr=10.0.0.1"),
        *("sip:a@b>;x", "sip:a@b\r\nVia: x", "+91\n8045678900", "sip:a@b c"),
    ],
)
def test_what_cannot_be_called_or_says_more_than_whom_to_call_is_no_target(text: str) -> None:
    assert read_target(text, "IN") is None


@pytest.mark.parametrize(
    ("pattern", "target", "allowed"),
    [
        ("+9180*", "+918045678900", True),
        ("+9180*", "+912245678900", False),
        ("+91??????????", "+918045678900", True),
        ("+91?????????", "+918045678900", False),
        ("080 4567 8900", "+918045678900", True),
        (" +918045678900 ", "+918045678900", True),
        ("*", "+442071838750", True),
        ("*", "1000", True),
        ("*", "sip:a@evil.example", False),
        ("1???", "1000", True),
        ("1???", "+918045678900", False),
        ("1000", "10000", False),
        ("", "1000", False),
        ("sip:*@pbx.example.com", "sip:support@pbx.example.com", True),
        ("sip:*@pbx.example.com", "sip:support@pbx.example.com;transport=tcp", True),
        ("SIP:*@PBX.example.com", "sip:support@pbx.example.com", True),
        ("sip:*@pbx.example.com", "sip:support@pbx.example.com.evil.example", False),
        ("sip:*@pbx.example.com", "sip:support@evil.example", False),
        ("sip:*@pbx.example.com", "sip:x%40pbx.example.com@evil.example", False),
        ("sip:*@pbx.example.com", "sip:support@pbx.example.com:5080", False),
        ("sip:*@pbx.example.com:*", "sip:support@pbx.example.com:5080", True),
        ("sip:*@pbx.example.com", "sips:support@pbx.example.com", False),
        ("sip:*@pbx.example.com", "sip:pbx.example.com", False),
        ("sip:pbx.example.com", "sip:pbx.example.com", True),
        ("sip:sup?ort@10.0.0.5:5080", "sip:support@10.0.0.5:5080", True),
        ("sip:support@*", "sip:%73upport@anywhere.example", True),
        ("sip:support@x", "sip:Support@x", False),
        ("sip:*@[2001:db8::1]", "sip:a@[2001:db8::1]", True),
        ("tel:+91*", "+918045678900", False),
    ],
)
def test_patterns_allow_what_they_look_like(pattern: str, target: str, *, allowed: bool) -> None:
    assert is_allowed(target, [pattern], "IN") is allowed
    assert is_allowed(target, ["+1", pattern, "sip:q@q"], "IN") is allowed


def test_without_patterns_nothing_is_allowed() -> None:
    assert not is_allowed("+918045678900", [], "IN")


@pytest.mark.parametrize(
    ("target", "plan", "uri"),
    [
        ("+918045678900", Plan(), "sip:+918045678900@c.example"),
        ("+918045678900", Plan(number_format="bare"), "sip:918045678900@c.example"),
        (
            "+918045678900",
            Plan(number_format="national-0", user_phone=True),
            "sip:08045678900@c.example;user=phone",
        ),
        ("+442071838750", Plan(number_format="national-0"), "sip:+442071838750@c.example"),
        ("*72#", Plan(), "sip:*72%23@c.example"),
        ("sip:a@b;transport=tcp", Plan(user_phone=True), "sip:a@b;transport=tcp"),
    ],
)
def test_a_number_is_referred_to_as_the_trunk_writes_it(target: str, plan: Plan, uri: str) -> None:
    assert refer_uri(target, "c.example", plan) == uri


def test_no_pattern_takes_long() -> None:
    def match(stars: int) -> None:
        assert not matches("*a" * stars + "b", "a" * 3 * stars)
        assert matches("*a" * stars + "*", "a" * 3 * stars)

    assert growth(match, 24, 2) < 16  # a pattern that is tried in every way: 2 ** 12

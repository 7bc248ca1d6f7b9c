"""Whose a certificate is. RFC 5922 7."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.transport.identity import identities, proves

pytestmark = pytest.mark.unit


def certificate(*names: tuple[str, str], common: str = "cn.example") -> dict[str, Any]:
    subject = ((("organizationName", "A Carrier"),), (("commonName", common),))
    return {"subject": subject, "subjectAltName": names} if names else {"subject": subject}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([("DNS", "A.example"), ("DNS", "b.example.")], ["a.example", "b.example"]),
        ([("URI", "sip:a.example"), ("DNS", "b.example")], ["a.example"]),
        ([("URI", "sip:a.example:5061;transport=tls")], ["a.example"]),
        ([("URI", "sip:[2001:db8::1]:5061")], ["2001:db8::1"]),
        ([("URI", "sip:bob@a.example"), ("DNS", "b.example")], ["b.example"]),
        ([("URI", "https://a.example/"), ("DNS", "b.example")], ["b.example"]),
        ([("IP Address", "2001:DB8:0:0::1")], ["2001:db8::1"]),
        ([("email", "a@b.example")], []),
        ([], ["cn.example"]),
    ],
)
def test_the_identities_of_a_certificate(names: list[tuple[str, str]], found: list[str]) -> None:
    """Row 18. RFC 5922 7.1: sip URIs, else DNS names; the Common Name when nothing else is."""
    assert identities(certificate(*names)) == found


@pytest.mark.parametrize(
    ("name", "host", "proven"),
    [
        ("sip.carrier.example", "SIP.carrier.example", True),
        ("sip.carrier.example", "sip.carrier.example.", True),
        ("carrier.example", "sip.carrier.example", False),
        ("sip.carrier.example", "carrier.example", False),
        ("*.carrier.example", "sip.carrier.example", True),
        ("*.carrier.example", "a.sip.carrier.example", False),
        ("*.carrier.example", "carrier.example", False),
        ("s*.carrier.example", "sip.carrier.example", False),
        ("*.example", "carrier.example", False),
        ("*", "carrier", False),
        ("*.0.0.1", "127.0.0.1", False),
        ("", "", False),
    ],
)
def test_a_name_proves_itself_only(name: str, host: str, proven: bool) -> None:
    assert proves(certificate(("DNS", name)), [host]) is proven


def test_one_of_several_hosts_is_enough_and_an_address_is_one() -> None:
    shown = certificate(("DNS", "a.example"), ("IP Address", "192.0.2.1"))
    assert proves(shown, ["192.0.2.9", "a.example"])
    assert proves(shown, ["192.0.2.1"])
    assert not proves(shown, ["192.0.2.9", "b.example"])
    assert not proves({}, ["a.example"])

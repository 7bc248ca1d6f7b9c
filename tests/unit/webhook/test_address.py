"""Where a webhook may go: URLs, and the addresses a name stands for."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.webhook.address import MAX_URL, check_address, check_url, receiver_of

pytestmark = pytest.mark.unit

PRIVATE = "is private or reserved, allowed only with [webhook] allow_private"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "http://example.com",
        "https://example.com:8443/hook?token=a&b=c#part",
        "https://EXAMPLE.com./",
        "https://exämple.com/",
        "https://a_b.example.com/",
        "http://8.8.8.8/",
        "http://[2606:4700::1111]:80/",
        "http://[::ffff:8.8.8.8]/",
        "http://[64:ff9b::808:808]/",
    ],
)
def test_a_url_in_the_public_internet_is_taken(url: str) -> None:
    assert check_url(url, allow_private=False) == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1/", "127.0.0.1"),
        ("http://127.0.0.1./", "127.0.0.1"),
        ("http://127.9.8.7:8080/x", "127.9.8.7"),
        ("http://10.0.0.1/", "10.0.0.1"),
        ("http://172.16.0.1/", "172.16.0.1"),
        ("http://192.168.1.1/", "192.168.1.1"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("http://100.64.0.1/", "100.64.0.1"),
        ("http://192.0.0.8/", "192.0.0.8"),
        ("http://198.18.0.1/", "198.18.0.1"),
        ("http://240.0.0.1/", "240.0.0.1"),
        ("http://255.255.255.255/", "255.255.255.255"),
        ("http://[::1]/", "::1"),
        ("http://[fe80::1]/", "fe80::1"),
        ("http://[fc00::1]/", "fc00::1"),
        ("http://[fec0::1]/", "fec0::1"),
        ("http://[2001:db8::1]/", "2001:db8::1"),
        ("http://[::ffff:10.0.0.1]/", "::ffff:a00:1"),
        ("http://[::127.0.0.1]/", "::7f00:1"),
        ("http://[2002:a00:1::]/", "2002:a00:1::"),
        ("http://[64:ff9b::a00:1]/", "64:ff9b::a00:1"),
        ("http://[64:ff9b:1::1]/", "64:ff9b:1::1"),
        ("http://１２７.0.0.1/", "127.0.0.1"),
    ],
)
def test_a_private_address_is_refused_unless_allowed(url: str, shown: str) -> None:
    with pytest.raises(ValueError, match=r"is private or reserved") as refused:
        check_url(url, allow_private=False)
    text = str(refused.value)
    assert text.endswith(PRIVATE)
    assert ipaddress.ip_address(text.split()[0]) == ipaddress.ip_address(shown)
    assert check_url(url, allow_private=True) == url


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "localhost.", "app.localhost"])
def test_names_of_this_machine_are_refused_unless_allowed(host: str) -> None:
    with pytest.raises(ValueError, match=r"is this machine, allowed only with"):
        check_url(f"http://{host}:8000/", allow_private=False)
    assert check_url(f"http://{host}:8000/", allow_private=True)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "no URL: it has spaces, control characters or backslashes"),
        ("example.com/hook", "scheme '', allowed: http, https"),
        ("ftp://example.com/", "scheme 'ftp', allowed: http, https"),
        ("file:///etc/passwd", "scheme 'file', allowed: http, https"),
        ("http://", "'' is no host"),
        ("http:///path", "'' is no host"),
        ("http://user:secret@example.com/", "credentials in the URL are not allowed"),
        ("http://@example.com/", "credentials in the URL are not allowed"),
        ("http://a b/", "no URL: it has spaces"),
        ("http://example.com\r\nX: y", "no URL: it has spaces"),
        ("http://example.com\\@10.0.0.1/", "no URL: it has spaces"),
        ("http://example.com:0/", "port 0, allowed: 1 to 65535"),
        ("http://example.com:65536/", "no URL: Port out of range 0-65535"),
        ("http://example.com:x/", "no URL: Port could not be cast"),
        ("http://[::1/", "no URL: Invalid IPv6 URL"),
        ("http://[fe80::1%25eth0]/", "has a zone"),
        ("http://2130706433/", "'2130706433' is no IPv4 address"),
        ("http://127.1/", "'127.1' is no IPv4 address"),
        ("http://0x7f000001/", "'0x7f000001' is no IPv4 address"),
        ("http://0177.0.0.1/", "'0177.0.0.1' is no IPv4 address"),
        ("http://a..b/", "'a..b' is no host"),
        ("http://exa%6dple.com/", "is no host"),
        ("http://0.0.0.0/", "0.0.0.0 is no address of a receiver"),
        ("http://[::]/", ":: is no address of a receiver"),
        ("http://239.1.2.3/", "239.1.2.3 is no address of a receiver"),
        ("http://" + "a" * MAX_URL, f"longer than {MAX_URL} characters"),
    ],
)
def test_what_is_no_receiver_is_refused_always_and_says_why(url: str, why: str) -> None:
    for allow_private in (False, True):
        with pytest.raises(ValueError, match=re.escape(why)):
            check_url(url, allow_private=allow_private)


def test_a_refusal_shows_no_credentials() -> None:
    with pytest.raises(ValueError, match=r"^credentials") as refused:
        check_url("http://user:hush@example.com/", allow_private=True)
    assert "hush" not in str(refused.value)


@given(st.text(max_size=60) | st.from_regex(r"https?://[\[\]0-9a-fx.:@%]{0,40}/?", fullmatch=True))
def test_any_text_is_taken_or_refused_as_a_value(url: str) -> None:
    try:
        assert check_url(url, allow_private=False) == url
    except ValueError:
        receiver_of(url)
    else:
        assert receiver_of(url).startswith(("http://", "https://"))


@given(st.ip_addresses(v=4))
def test_an_ipv6_address_is_as_private_as_the_ipv4_one_it_carries(
    inner: ipaddress.IPv4Address,
) -> None:
    carriers = [
        ipaddress.IPv6Address((0xFFFF << 32) | int(inner)),
        ipaddress.IPv6Address((0x64FF9B << 96) | int(inner)),
    ]

    def taken(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        try:
            check_address(address, allow_private=False)
        except ValueError:
            return False
        return True

    assert {taken(carrier) for carrier in carriers} == {taken(inner)}


def test_a_receiver_is_scheme_host_and_port() -> None:
    assert receiver_of("https://Example.com/a?token=b") == "https://example.com:443"
    assert receiver_of("http://[::1]:8080/a") == "http://[::1]:8080"
    assert receiver_of("no url") == ""

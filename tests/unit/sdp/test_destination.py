"""Where RTP may go."""

from __future__ import annotations

import pytest

from sdp.destination import destination_policy

pytestmark = pytest.mark.unit

LOCAL_ONLY = [
    "127.0.0.1",
    "127.255.255.254",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "169.254.169.254",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "::1",
    "fc00::1",
    "fdff::1",
    "fe80::1",
    "64:ff9b::a00:1",
    "2001:0:53aa::1",
    "2001:db8::1",
    "2002:a00:1::1",
    "4000::1",
    "::ffff:10.0.0.1",
]
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "ff02::1",
    "::ffff:224.0.0.1",
    "fe80::1%eth0",
    "host.example",
    "",
]


def nobody(address: str, port: int) -> bool:
    return False


@pytest.mark.parametrize(
    "address",
    [
        "182.76.143.61",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "2a03:b0c0::1",
        "2001:200::1",
        "::ffff:182.76.143.61",
    ],
)
def test_global_unicast_addresses_pass(address: str) -> None:
    assert destination_policy(media_allow=(), own=nobody)(address, 4000)


@pytest.mark.parametrize("address", LOCAL_ONLY)
def test_addresses_without_global_meaning_pass_only_by_media_allow(address: str) -> None:
    """Threat 5.1: Voice hammer."""
    assert not destination_policy(media_allow=(), own=nobody)(address, 4000)
    assert not destination_policy(media_allow=("10.200.0.0/16",), own=nobody)(address, 4000)
    assert destination_policy(media_allow=("0.0.0.0/0", "::/0"), own=nobody)(address, 4000)


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_never_pass(address: str) -> None:
    """Threat 5.1: Voice hammer."""
    assert not destination_policy(media_allow=("0.0.0.0/0", "::/0"), own=nobody)(address, 4000)


def test_media_allow_takes_single_addresses_and_networks_with_host_bits() -> None:
    allowed = destination_policy(media_allow=("10.0.0.5", "192.168.7.9/24"), own=nobody)
    assert allowed("10.0.0.5", 4000)
    assert not allowed("10.0.0.6", 4000)
    assert allowed("192.168.7.200", 4000)


def test_a_port_of_ours_never_passes_in_any_spelling_of_the_address() -> None:
    """Threat 5.1: Voice hammer."""
    own = {("52.66.10.20", 20000)}.__contains__
    allowed = destination_policy(media_allow=(), own=lambda *target: own(target))
    assert not allowed("52.66.10.20", 20000)
    assert not allowed("::ffff:52.66.10.20", 20000)
    assert allowed("52.66.10.20", 30000)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_no_port_no_destination(port: int) -> None:
    assert not destination_policy(media_allow=(), own=nobody)("182.76.143.61", port)


def test_a_malformed_network_is_the_operators_error() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        destination_policy(media_allow=("10.0.0.0/33",), own=nobody)

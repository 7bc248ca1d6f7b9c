"""Sources and rates, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.trunk import TrunkConfig
from bridge.trunk.admission import (
    Admission,
    Gcra,
    call_rate,
    has_room,
    signalling_hosts,
    split_proxy,
)

pytestmark = pytest.mark.unit


def trunk(name: str, **settings: Any) -> TrunkConfig:
    return TrunkConfig(**{"name": name, "host": "sip.example.com", **settings})


def names(*wanted: str) -> frozenset[str]:
    return frozenset(wanted)


def test_nothing_is_admitted_by_default() -> None:
    """R1 7.1.22."""
    admission = Admission([trunk("a")])
    assert admission.admit("192.0.2.1", 0) is None
    assert Admission().admit("127.0.0.1", 0) is None


def test_allow_admits_new_calls_and_in_dialog_requests() -> None:
    admission = Admission([trunk("a", allow=["192.0.2.0/28"]), trunk("b", allow=["192.0.2.1"])])
    assert admission.admit("192.0.2.1", 0) == (names("a", "b"), names("a", "b"))
    assert admission.admit("192.0.2.15", 0) == (names("a"), names("a"))
    assert admission.admit("192.0.2.16", 0) is None


def test_resolved_hosts_are_sources_in_dialogs_only() -> None:
    admission = Admission([trunk("a", allow=["10.0.0.0/8"])])
    assert admission.learn("a", ["192.0.2.9"], 100)
    assert admission.admit("192.0.2.9", 100) == (names("a"), names())


def test_a_literal_host_is_a_source_for_good() -> None:
    admission = Admission(
        [trunk("a", host="192.0.2.9", outbound_proxy="[2001:db8::1]:5070")], keep=10
    )
    assert not admission.learn("a", ["192.0.2.9"], 5)
    assert admission.admit("192.0.2.9", 1e9) == (names("a"), names())
    assert admission.admit("2001:db8::1", 1e9) == (names("a"), names())


def test_an_address_a_host_had_stays_known_for_longer_than_a_call() -> None:
    admission = Admission([trunk("a")], keep=15_000)
    assert admission.learn("a", ["192.0.2.1"], 0)
    assert admission.learn("a", ["192.0.2.2"], 60)
    assert not admission.learn("a", ["192.0.2.2"], 120)
    assert admission.admit("192.0.2.1", 14_999) is not None
    assert admission.admit("192.0.2.1", 15_001) is None
    assert admission.admit("192.0.2.2", 15_001) is not None


@pytest.mark.parametrize("network", ["192.0.2.0/24", "::ffff:192.0.2.0/120"])
@pytest.mark.parametrize("source", ["192.0.2.7", "::ffff:192.0.2.7", "::FFFF:c000:0207"])
def test_mapped_addresses_are_ipv4(network: str, source: str) -> None:
    admission = Admission([trunk("a", allow=[network])])
    assert admission.admit(source, 0) == (names("a"), names("a"))


def test_ipv6_networks_and_scopes() -> None:
    admission = Admission([trunk("a", allow=["2001:db8::/32", "fe80::/10"])])
    assert admission.admit("2001:db8:1::5", 0) is not None
    assert admission.admit("2001:db9::5", 0) is None
    assert admission.admit("fe80::1%eth0", 0) is not None
    assert admission.admit("0.0.0.1", 0) is None


def test_a_v4_default_route_does_not_admit_v6() -> None:
    admission = Admission([trunk("a", allow=["0.0.0.0/0"])])
    assert admission.admit("8.8.8.8", 0) is not None
    assert admission.admit("2001:db8::1", 0) is None


def test_a_peer_of_our_own_flow_is_admitted_for_no_trunk() -> None:
    admission = Admission([trunk("a")], keep=100)
    admission.reached("198.51.100.4", 10)
    assert admission.admit("198.51.100.4", 50) == (names(), names())
    assert admission.admit("198.51.100.4", 111) is None


def test_a_reload_keeps_what_was_learned_for_trunks_that_remain() -> None:
    old = Admission([trunk("a"), trunk("b")])
    old.learn("a", ["192.0.2.1"], 0)
    old.learn("b", ["192.0.2.2"], 0)
    old.reached("192.0.2.3", 0)
    new = Admission([trunk("a")])
    new.inherit(old)
    assert new.admit("192.0.2.1", 1) == (names("a"), names())
    assert new.admit("192.0.2.2", 1) is None
    assert new.admit("192.0.2.3", 1) == (names(), names())


def test_what_is_learned_is_bounded() -> None:
    admission = Admission([trunk("a")])
    admission.learn("a", ["192.0.2.1"], 0)
    for number in range(64):
        admission.learn("a", [f"198.51.100.{number}"], number)
    assert admission.admit("192.0.2.1", 64) is None
    assert admission.admit("198.51.100.63", 64) is not None


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("64:ff9b::a01:203", False),  # 10.1.2.3 behind NAT64
        ("2002:7f00:1::1", False),  # 127.0.0.1 by 6to4
        ("10.1.2.3", True),  # a source of the trunk
        ("10.9.9.9", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.1.75", False),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:127.0.0.1", False),
        ("255.255.255.255", False),
        ("no address", False),
    ],
)
def test_a_peer_cannot_send_us_into_our_own_network(address: str, allowed: bool) -> None:
    """Threat 5.1: SSRF."""
    admission = Admission([trunk("a", allow=["10.1.0.0/16"]), trunk("b", allow=["10.9.0.0/16"])])
    assert admission.may_dial(address, "a", 0) is allowed


def test_a_peer_that_we_dialled_once_opens_nothing_to_other_trunks() -> None:
    """Threat 5.1: SSRF."""
    admission = Admission([trunk("a")])
    admission.reached("10.7.7.7", 0)
    assert admission.admit("10.7.7.7", 1) is not None
    assert not admission.may_dial("10.7.7.7", "a", 1)


@given(st.text(max_size=60))
def test_no_text_is_admitted_or_raises(text: str) -> None:
    assert Admission([trunk("a", allow=["10.0.0.0/8"])]).admit(text + "x", 0) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("proxy.example.com", ("proxy.example.com", None)),
        ("proxy.example.com:5080", ("proxy.example.com", 5080)),
        ("192.0.2.1:5080", ("192.0.2.1", 5080)),
        ("2001:db8::1", ("2001:db8::1", None)),
        ("[2001:db8::1]", ("2001:db8::1", None)),
        ("[2001:db8::1]:5080", ("2001:db8::1", 5080)),
    ],
)
def test_proxies_are_split(text: str, expected: tuple[str, int | None]) -> None:
    assert split_proxy(text) == expected


def test_hosts_to_resolve_are_host_and_proxy() -> None:
    hosts = signalling_hosts(trunk("a", port=5070, outbound_proxy="p.example.com"))
    assert [(h.host, h.port) for h in hosts] == [("sip.example.com", 5070), ("p.example.com", None)]


def test_a_burst_passes_then_the_rate_counts() -> None:
    limiter = Gcra(rate=2, burst=3)
    assert [limiter.allow("a", 0) for _ in range(4)] == [True, True, True, False]
    assert limiter.wait("a", 0) == pytest.approx(0.5)
    assert limiter.wait("b", 0) == 0
    assert not limiter.allow("a", 0.49)
    assert limiter.allow("a", 0.5)
    assert not limiter.allow("a", 0.51)
    assert limiter.allow("b", 0.51)


@given(st.lists(st.floats(0, 100), max_size=200), st.integers(1, 20))
def test_never_more_than_burst_and_rate_within_any_window(times: list[float], burst: int) -> None:
    limiter = Gcra(rate=5, burst=burst)
    passed = [at for at in sorted(times) if limiter.allow("a", at)]
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            window = passed[last] - passed[first]
            assert last - first + 1 <= burst + window * 5 + 1e-6


def test_keys_are_bounded_and_the_quietest_is_forgotten() -> None:
    limiter = Gcra(rate=1, burst=1, keys=2)
    assert limiter.allow("a", 0)
    assert limiter.allow("b", 0)
    assert limiter.allow("c", 0)
    assert limiter.allow("a", 0)  # forgotten, so it starts anew
    assert not limiter.allow("c", 0)


@pytest.mark.parametrize(("rate", "at_once"), [(3, 3), (0.5, 1), (2.9, 2)])
def test_calls_per_second_let_one_second_of_calls_start_at_once(rate: float, at_once: int) -> None:
    limiter = call_rate(rate)
    assert sum(limiter.allow("t", 0) for _ in range(10)) == at_once
    assert limiter.allow("t", 1 / rate)


def test_max_calls() -> None:
    assert has_room(99, 100)
    assert not has_room(100, 100)

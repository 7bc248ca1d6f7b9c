"""Addresses and networks of the latch; its course over time is in the vectors."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtp.latch import MAX_CANDIDATES, RETURN_PROBATION, Latch, canonical, networks, trusted

pytestmark = pytest.mark.unit


def latch(signalling: str = "198.51.100.1", allow: tuple[str, ...] = ()) -> Latch:
    return Latch(signalling=signalling, allow=networks(allow), own=lambda address, port: False)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.31.255.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:127.0.0.1",
    ],
)
def test_inner_addresses_need_media_allow(address: str) -> None:
    """Threat 5.1: RTP bleed."""
    assert not trusted(address, ())
    assert trusted(address, networks(["0.0.0.0/0", "::/0"]))


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "ff02::1", "", "host.example"],
)
def test_no_media_ever_goes_to_these(address: str) -> None:
    assert not trusted(address, networks(["0.0.0.0/0", "::/0"]))


@pytest.mark.parametrize("address", ["192.0.2.1", "172.32.0.1", "2001:db8::1", "::ffff:192.0.2.1"])
def test_public_addresses_are_trusted(address: str) -> None:
    assert trusted(address, ())


def test_addresses_are_compared_in_one_form() -> None:
    assert canonical("2001:0DB8:0:0::0001") == "2001:db8::1"
    assert canonical("::ffff:192.0.2.1") == "192.0.2.1"
    assert canonical("host.example") == "host.example"


def test_a_source_in_the_ipv6_64_is_learnt_and_one_outside_is_not() -> None:
    subject = latch(signalling="2001:db8:9::1")
    subject.expect("2001:DB8:1:0::1", 4000, 0.0)
    near, far = ("2001:db8:1::2", 4000), ("2001:db8:1:1::2", 4000)
    assert [subject.accept(far, 1, n, 0.0) for n in range(5)] == [False] * 5
    assert [subject.accept(near, 1, n, 0.0) for n in range(3)] == [False, False, True]
    assert subject.target == near


def test_sequence_numbers_of_a_probation_wrap() -> None:
    subject = latch()
    subject.expect("192.0.2.1", 4000, 0.0)
    source = ("192.0.2.2", 4000)
    assert [subject.accept(source, 1, n, 0.0) for n in (65534, 65535, 0)] == [False, False, True]


def test_many_sources_do_not_grow_memory_nor_keep_the_true_one_out() -> None:
    subject = latch()
    subject.expect("192.0.2.1", 4000, 0.0)
    for port in range(1, 5000):
        assert not subject.accept(("192.0.2.2", port), 1, 1, 0.0)
    assert len(subject._candidates) <= MAX_CANDIDATES
    true = ("192.0.2.3", 4000)
    assert [subject.accept(true, 1, n, 0.0) for n in range(3)] == [False, False, True]


def test_a_source_that_stays_after_its_address_changed_in_sdp_is_learnt_again_slowly() -> None:
    subject = latch()
    subject.expect("192.0.2.1", 4000, 0.0)
    source = ("192.0.2.2", 4000)
    for n in range(3):
        subject.accept(source, 1, n, 0.0)
    subject.expect("192.0.2.1", 4002, 1.0)
    told = [subject.accept(source, 1, n, 1.0) for n in range(3, 3 + RETURN_PROBATION)]
    assert told == [False] * (RETURN_PROBATION - 1) + [True]


def test_the_tail_of_the_old_source_does_not_count_after_two_changes_in_a_row() -> None:
    subject = latch()
    subject.expect("192.0.2.1", 4000, 0.0)
    old = ("192.0.2.1", 4000)
    subject.accept(old, 1, 1, 0.0)
    subject.expect("192.0.2.5", 4000, 1.0)
    subject.expect("192.0.2.6", 4000, 1.0)
    assert [subject.accept(old, 1, n, 1.0) for n in range(2, 12)] == [False] * 10


def test_a_window_that_was_told_closes_again() -> None:
    """Row 80. Contract 4, RTP: outside the window nobody new is learnt."""
    subject = latch()
    subject.expect("192.0.2.1", 4000, 0.0)
    subject.accept(("192.0.2.1", 4000), 1, 1, 0.0)
    subject.open(0.0)
    subject.accept(("192.0.2.1", 4000), 1, 2, 3.5)
    other = ("192.0.2.2", 4000)
    assert [subject.accept(other, 2, n, 3.6) for n in range(5)] == [False] * 5


def test_our_own_port_in_sdp_is_no_target() -> None:
    subject = Latch(signalling="198.51.100.1", allow=(), own=lambda address, port: port == 4000)
    subject.expect("192.0.2.1", 4000, 0.0)
    assert subject.target is None
    assert not subject.accept(("192.0.2.1", 4000), 1, 1, 0.0)


@pytest.mark.parametrize(("address", "port"), [("host.example", 4000), ("192.0.2.1", 0), ("", 0)])
def test_what_is_no_address_is_nowhere(address: str, port: int) -> None:
    subject = latch()
    subject.expect(address, port, 0.0)
    assert subject.target is None


def test_a_bad_network_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        networks(["10.0.0.0/40"])


# Whatever happens, nobody outside is heard or sent to.

SDP = ["192.0.2.1", "192.0.2.2", "127.0.0.1", "10.0.0.1", "", "0.0.0.0", "224.0.0.1"]
SOURCES = ["192.0.2.1", "192.0.2.99", "198.51.100.7", "203.0.113.1", "127.0.0.1", "10.0.0.1"]
PORTS = st.sampled_from([4000, 4002, 20_000])
STEPS = st.one_of(
    st.tuples(st.just("expect"), st.sampled_from(SDP), PORTS),
    st.tuples(st.just("open"), st.just(""), st.just(0)),
    st.tuples(st.just("burst"), st.sampled_from(SOURCES), PORTS),
    st.tuples(st.just("wait"), st.just(""), st.integers(0, 4)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_no_course_of_events_lets_a_stranger_in(steps: list[tuple[str, str, int]]) -> None:
    """Row 80. Threat 5.1: RTP bleed. RFC 7362 4: a window, probation, allowed networks."""
    subject = Latch(signalling="198.51.100.1", allow=(), own=lambda address, port: port == 20_000)
    allowed = [ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("198.51.100.0/24")]
    now, sequence = 0.0, 0
    for what, address, number in steps:
        match what:
            case "expect":
                subject.expect(address, number, now)
            case "open":
                subject.open(now)
            case "wait":
                now += number
            case _:
                for _ in range(4):
                    sequence += 1
                    if subject.accept((address, number), 1, sequence, now):
                        assert number != 20_000
                        assert any(ipaddress.ip_address(address) in net for net in allowed)
        if subject.target is not None:
            host, port = subject.target
            assert port != 20_000
            assert any(ipaddress.ip_address(host) in net for net in allowed)

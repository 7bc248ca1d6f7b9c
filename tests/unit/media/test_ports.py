"""Leases of ports: pairs, rest, exhaustion, our own addresses."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest

from bridge.media.ports import Ports, PortsExhausted
from bridge.media.seam import Lease
from tests.unit.media.clock import Clock

pytestmark = pytest.mark.unit


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


@pytest.fixture
def leases() -> Iterator[list[Lease]]:
    held: list[Lease] = []
    yield held
    for lease in held:
        lease.rtp.close()
        lease.rtcp.close()


def test_a_lease_is_an_even_port_and_the_next_one_bound(leases: list[Lease]) -> None:
    ports = Ports("31000-31099")
    leases.extend(ports.lease("127.0.0.1") for _ in range(5))
    for lease in leases:
        assert lease.port % 2 == 0
        assert lease.rtp.getsockname() == ("127.0.0.1", lease.port)
        assert lease.rtcp.getsockname() == ("127.0.0.1", lease.port + 1)
    assert len({lease.port for lease in leases}) == 5
    assert len({(lease.ssrc, lease.sequence, lease.timestamp) for lease in leases}) == 5


@pytest.mark.parametrize("address", ["0.0.0.0", "::1", "::"])
def test_any_and_ipv6_addresses_are_bound(address: str, leases: list[Lease]) -> None:
    leases.append(Ports("31100-31199").lease(address))
    assert leases[0].rtp.getsockname()[0] == address


def test_an_exhausted_range_is_a_clear_error(leases: list[Lease], clock: Clock) -> None:
    ports = Ports("31201-31206", now=clock)  # 31202 and 31204
    leases.extend(ports.lease("127.0.0.1") for _ in range(2))
    assert {lease.port for lease in leases} == {31202, 31204}
    with pytest.raises(PortsExhausted, match=r"^no free pair of media ports in 31201-31206$"):
        ports.lease("127.0.0.1")


def test_a_used_port_rests_before_it_is_used_again(leases: list[Lease], clock: Clock) -> None:
    """Row 89. Threat 5.1: RTP bleed. Late packets of one call never reach the next."""
    ports = Ports("31300-31301", now=clock)
    lease = ports.lease("127.0.0.1")
    ports.release(lease)
    ports.release(lease)
    clock.t = 4.9
    assert ports.available == 0
    with pytest.raises(PortsExhausted):
        ports.lease("127.0.0.1")
    clock.t = 5.0
    leases.append(ports.lease("127.0.0.1"))
    assert leases[0].port == 31300
    assert ports.available == 0


def test_a_port_of_another_process_is_passed_over(leases: list[Lease], clock: Clock) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 31401))  # the RTCP half of 31400
        ports = Ports("31400-31403", now=clock, choice=random.Random(1))
        leases.append(ports.lease("127.0.0.1"))
        assert leases[0].port == 31402
        with pytest.raises(PortsExhausted):
            ports.lease("127.0.0.1")


def test_an_address_that_is_not_ours_cannot_be_leased(clock: Clock) -> None:
    with pytest.raises(PortsExhausted, match="cannot be bound"):
        Ports("31500-31599", now=clock).lease("192.0.2.1")


def test_our_ports_are_known_as_ours_in_use_and_at_rest(leases: list[Lease], clock: Clock) -> None:
    ports = Ports("31600-31699", own=["203.0.113.7"], now=clock)
    lease = ports.lease("127.0.0.1")
    for port in (lease.port, lease.port + 1):
        assert ports.is_own("127.0.0.1", port)
        assert ports.is_own("203.0.113.7", port)
        assert not ports.is_own("192.0.2.1", port)
    assert not ports.is_own("127.0.0.1", lease.port + 2)
    assert not ports.is_own("127.0.0.1", lease.port - 1)
    ports.release(lease)
    assert ports.is_own("127.0.0.1", lease.port)
    clock.t = 6.0
    assert not ports.is_own("127.0.0.1", lease.port)


@pytest.mark.parametrize("span", ["", "20000", "a-b", "20001-20001", "65535-65536", "30-20", "0-0"])
def test_a_range_without_a_pair_is_refused(span: str) -> None:
    with pytest.raises(ValueError, match=r"range of ports|no even port"):
        Ports(span)


def test_pairs_are_told_apart_as_free_used_and_resting(clock: Clock) -> None:
    ports = Ports("31700-31707", now=clock)
    first, second = ports.lease("127.0.0.1"), ports.lease("127.0.0.1")
    assert (ports.available, ports.used, ports.resting) == (2, 2, 0)
    ports.release(first)
    assert (ports.available, ports.used, ports.resting) == (2, 1, 1)
    ports.release(second)
    clock.t = 5.0
    assert (ports.available, ports.used, ports.resting) == (4, 0, 0)

"""Names to addresses, against a name server of our own on loopback."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from bridge.transport import resolver as module
from bridge.transport.resolver import Resolver
from bridge.transport.service import ServiceTarget, order_targets
from tests.unit.transport.name_server import NameServer, serve

pytestmark = pytest.mark.unit

HOST = "127.0.0.1"


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    server = await serve(HOST)
    yield server
    server.transport.close()
    await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def resolver(
    server: NameServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Resolver]:
    async def nowhere(self: Resolver, host: str) -> list[str]:
        return []

    monkeypatch.setattr(Resolver, "_by_system", nowhere)
    resolver = Resolver(nameservers=[HOST], nameserver_port=server.port, timeout=4.0, clock=clock)
    yield resolver
    await resolver.stop()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
@pytest.mark.parametrize(
    ("transport", "port", "expected"),
    [("tcp", 5070, 5070), ("udp", None, 5060), ("tls", None, 5061)],
)
async def test_literals_are_known_at_once(
    resolver: Resolver,
    server: NameServer,
    host: str,
    address: str,
    transport: str,
    port: int | None,
    expected: int,
) -> None:
    known = resolver.cached(transport, host, port)
    assert known is not None
    assert known.addresses == ((address, expected),)
    assert server.asked == []


async def test_a_port_means_no_srv_and_ipv4_comes_first(
    resolver: Resolver, server: NameServer
) -> None:
    server.zone = {
        ("sip.example.com", "AAAA"): (60, ["2001:db8::5"]),
        ("sip.example.com", "A"): (60, ["192.0.2.5"]),
    }
    found = await resolver.resolve("tcp", "sip.example.com", 5070)
    assert found.addresses == (("192.0.2.5", 5070), ("2001:db8::5", 5070))
    assert {kind for _, kind in server.asked} == {"A", "AAAA"}


async def test_only_families_we_listen_on_are_asked_for(
    resolver: Resolver, server: NameServer
) -> None:
    resolver.families = frozenset({4})
    server.zone = {("sip.example.com", "A"): (60, ["192.0.2.5"])}
    await resolver.resolve("tcp", "sip.example.com", 5070)
    assert server.asked == [("sip.example.com", "A")]


async def test_without_a_port_srv_gives_hosts_and_ports_by_priority(
    resolver: Resolver, server: NameServer
) -> None:
    server.zone = {
        ("_sip._tcp.example.com", "SRV"): (
            60,
            ["20 0 5080 backup.example.com.", "10 0 5070 first.example.com."],
        ),
        ("first.example.com", "A"): (60, ["192.0.2.1", "192.0.2.2"]),
        ("backup.example.com", "A"): (60, ["192.0.2.9"]),
    }
    found = await resolver.resolve("tcp", "example.com", None)
    assert set(found.addresses[:2]) == {("192.0.2.1", 5070), ("192.0.2.2", 5070)}
    assert found.addresses[2:] == (("192.0.2.9", 5080),)


async def test_without_srv_the_hosts_own_address_and_the_default_port_count(
    resolver: Resolver, server: NameServer
) -> None:
    server.zone = {("example.com", "A"): (60, ["192.0.2.1"])}
    found = await resolver.resolve("udp", "example.com", None)
    assert found.addresses == (("192.0.2.1", 5060),)
    assert server.asked[0] == ("_sip._udp.example.com", "SRV")


async def test_an_srv_target_of_a_dot_means_no_service(
    resolver: Resolver, server: NameServer
) -> None:
    server.zone = {
        ("_sip._tcp.example.com", "SRV"): (60, ["0 0 0 ."]),
        ("example.com", "A"): (60, ["192.0.2.1"]),
    }
    assert (await resolver.resolve("tcp", "example.com", None)).addresses == ()


async def test_answers_are_kept_for_their_ttl(
    resolver: Resolver, server: NameServer, clock: Clock
) -> None:
    resolver.families = frozenset({4})
    server.zone = {("sip.example.com", "A"): (30, ["192.0.2.5"])}
    await resolver.resolve("tcp", "sip.example.com", 5070)
    clock.now += 29
    assert resolver.cached("tcp", "SIP.example.com", 5070) is not None
    clock.now += 2
    assert resolver.cached("tcp", "sip.example.com", 5070) is None
    server.zone = {("sip.example.com", "A"): (30, ["192.0.2.6"])}
    found = await resolver.resolve("tcp", "sip.example.com", 5070)
    assert found.addresses == (("192.0.2.6", 5070),)


async def test_the_last_known_address_serves_while_the_name_server_is_away(
    resolver: Resolver, server: NameServer, clock: Clock
) -> None:
    server.zone = {("sip.example.com", "A"): (30, ["192.0.2.5"])}
    await resolver.resolve("tcp", "sip.example.com", 5070)
    clock.now += 3600
    server.broken = True
    found = await resolver.resolve("tcp", "sip.example.com", 5070)
    assert found.addresses == (("192.0.2.5", 5070),)
    # RFC 8767 5: it is not asked again with every call, but soon.
    assert resolver.cached("tcp", "sip.example.com", 5070) is not None
    clock.now += 31
    assert resolver.cached("tcp", "sip.example.com", 5070) is None


async def test_an_answer_a_day_past_its_time_is_worth_nothing(
    resolver: Resolver, server: NameServer, clock: Clock
) -> None:
    """Row 16. Stale if error, bounded (RFC 8767 4)."""
    server.zone = {("sip.example.com", "A"): (30, ["192.0.2.5"])}
    await resolver.resolve("tcp", "sip.example.com", 5070)
    clock.now += 86_400 + 31
    server.broken = True
    assert (await resolver.resolve("tcp", "sip.example.com", 5070)).addresses == ()


async def test_a_name_that_is_gone_is_not_served_from_memory(
    resolver: Resolver, server: NameServer, clock: Clock
) -> None:
    """Row 16. NXDOMAIN is an answer, no failure."""
    server.zone = {("sip.example.com", "A"): (30, ["192.0.2.5"])}
    await resolver.resolve("tcp", "sip.example.com", 5070)
    clock.now += 31
    server.zone = {}
    assert (await resolver.resolve("tcp", "sip.example.com", 5070)).addresses == ()


async def test_that_there_is_nothing_is_remembered_as_long_as_the_zone_says(
    resolver: Resolver, server: NameServer, clock: Clock
) -> None:
    """Row 16. RFC 2308 5, and never longer than a minute."""
    server.soa = 20
    assert (await resolver.resolve("tcp", "sip.example.com", 5070)).addresses == ()
    server.zone = {("sip.example.com", "A"): (30, ["192.0.2.5"])}
    assert (await resolver.resolve("tcp", "sip.example.com", 5070)).addresses == ()
    clock.now += 21
    assert (await resolver.resolve("tcp", "sip.example.com", 5070)).addresses != ()
    server.soa = 7200
    await resolver.resolve("tcp", "other.example.com", 5070)
    assert resolver.cached("tcp", "other.example.com", 5070) is not None
    clock.now += 61
    assert resolver.cached("tcp", "other.example.com", 5070) is None


async def test_naptr_names_the_srv_records_of_the_trunks_own_transport(
    resolver: Resolver, server: NameServer
) -> None:
    """Row 16. RFC 3263 4.1: records of other services, flags or with a regexp are discarded."""
    server.zone = {
        ("example.com", "NAPTR"): (
            60,
            [
                '10 50 "s" "SIPS+D2T" "" _sips._tcp.secure.example.com.',
                '20 10 "s" "SIP+D2T" "" _sip._tcp.second.example.com.',
                '10 90 "s" "SIP+D2T" "" _sip._tcp.first.example.com.',
                '5 0 "s" "SIP+D2U" "" _sip._udp.example.com.',
                '1 0 "u" "SIP+D2T" "!.*!sip:x@y!" .',
                '1 0 "a" "SIP+D2T" "" host.example.com.',
            ],
        ),
        ("_sip._tcp.first.example.com", "SRV"): (60, ["1 1 5071 one.example.com."]),
        ("_sip._tcp.second.example.com", "SRV"): (60, ["0 1 5072 two.example.com."]),
        ("_sip._tcp.example.com", "SRV"): (60, ["0 1 5073 two.example.com."]),
        ("one.example.com", "A"): (60, ["192.0.2.1"]),
        ("two.example.com", "A"): (60, ["192.0.2.2"]),
    }
    found = await resolver.resolve("tcp", "example.com", None)
    assert found.addresses == (("192.0.2.1", 5071), ("192.0.2.2", 5072))


async def test_naptr_of_other_transports_only_leaves_the_srv_of_ours(
    resolver: Resolver, server: NameServer
) -> None:
    """Row 16."""
    server.zone = {
        ("example.com", "NAPTR"): (60, ['1 1 "s" "SIP+D2T" "" _sip._tcp.example.com.']),
        ("_sip._udp.example.com", "SRV"): (60, ["0 1 5073 two.example.com."]),
        ("two.example.com", "A"): (60, ["192.0.2.2"]),
    }
    found = await resolver.resolve("udp", "example.com", None)
    assert found.addresses == (("192.0.2.2", 5073),)


async def test_a_name_server_that_is_deaf_to_naptr_costs_no_call(
    resolver: Resolver, server: NameServer
) -> None:
    """Row 16. Some boxes drop what they do not know."""
    server.deaf_to = "NAPTR"
    server.zone = {
        ("_sip._tcp.example.com", "SRV"): (60, ["0 1 5073 two.example.com."]),
        ("two.example.com", "A"): (60, ["192.0.2.2"]),
    }
    found = await resolver.resolve("tcp", "example.com", None)
    assert found.addresses == (("192.0.2.2", 5073),)


@pytest.mark.parametrize(("host", "port"), [("example.com", 5060), ("192.0.2.9", None)])
async def test_with_a_port_or_an_address_no_service_is_looked_up(
    resolver: Resolver, server: NameServer, host: str, port: int | None
) -> None:
    """Row 16. RFC 3263 4.2."""
    server.zone = {("example.com", "A"): (60, ["192.0.2.9"])}
    assert (await resolver.resolve("tcp", host, port)).addresses == (("192.0.2.9", 5060),)
    assert not {kind for _, kind in server.asked} & {"SRV", "NAPTR"}


async def test_weights_spread_the_calls_of_one_answer(
    resolver: Resolver, server: NameServer
) -> None:
    """Row 16. RFC 2782: drawn for every call, not once for the lifetime of the answer."""
    resolver._rng = random.Random(7)
    server.zone = {
        ("_sip._tcp.example.com", "SRV"): (
            60,
            [
                "1 75 5071 one.example.com.",
                "1 25 5072 two.example.com.",
                "1 0 5073 two.example.com.",
            ],
        ),
        ("one.example.com", "A"): (60, ["192.0.2.1"]),
        ("two.example.com", "A"): (60, ["192.0.2.2"]),
    }
    await resolver.resolve("tcp", "example.com", None)
    asked = len(server.asked)
    first: Counter[int] = Counter()
    for _ in range(400):
        known = resolver.cached("tcp", "example.com", None)
        assert known is not None
        assert len(known.addresses) == 3
        first[known.addresses[0][1]] += 1
    assert 260 < first[5071] < 340
    assert first[5072] > 60
    assert len(server.asked) == asked


async def test_a_cname_is_followed_and_its_lifetime_counts(
    resolver: Resolver, server: NameServer, clock: Clock
) -> None:
    """Row 16."""
    server.zone = {
        ("sip.example.com", "CNAME"): (10, ["pool.example.com."]),
        ("pool.example.com", "A"): (600, ["192.0.2.7"]),
        ("pool.example.com", "AAAA"): (600, ["2001:db8::7"]),
    }
    found = await resolver.resolve("tcp", "sip.example.com", 5070)
    assert found.addresses == (("192.0.2.7", 5070), ("2001:db8::7", 5070))
    clock.now += 11
    assert resolver.cached("tcp", "sip.example.com", 5070) is None


async def test_an_unknown_name_is_empty_and_asked_again(
    resolver: Resolver, server: NameServer
) -> None:
    assert (await resolver.resolve("tcp", "nobody.example.com", 5070)).addresses == ()
    server.zone = {("nobody.example.com", "A"): (30, ["192.0.2.5"])}
    assert (await resolver.resolve("tcp", "nobody.example.com", 5070)).addresses != ()


async def test_a_name_server_that_says_nothing_costs_the_timeout_only(
    server: NameServer, resolver: Resolver
) -> None:
    server.silent = True
    resolver._timeout = 0.1
    found = await asyncio.wait_for(resolver.resolve("tcp", "sip.example.com", 5070), 30)
    assert found.addresses == ()


async def test_concurrent_questions_are_asked_once(resolver: Resolver, server: NameServer) -> None:
    resolver.families = frozenset({4})
    server.zone = {("sip.example.com", "A"): (30, ["192.0.2.5"])}
    found = await asyncio.gather(
        *(resolver.resolve("tcp", "sip.example.com", 5070) for _ in range(5))
    )
    assert {one.addresses for one in found} == {(("192.0.2.5", 5070),)}
    assert len(server.asked) == 1


async def test_the_cache_is_bounded(server: NameServer, resolver: Resolver) -> None:
    resolver._cache_size = 2
    server.zone = {(f"{n}.example.com", "A"): (30, ["192.0.2.5"]) for n in range(3)}
    for n in range(3):
        await resolver.resolve("tcp", f"{n}.example.com", 5070)
    assert resolver.cached("tcp", "0.example.com", 5070) is None
    assert resolver.cached("tcp", "2.example.com", 5070) is not None


async def test_localhost_is_known_without_dns() -> None:
    resolver = Resolver(families=(4,))
    assert (await resolver.resolve("tcp", "localhost", 5070)).addresses == ((HOST, 5070),)
    await resolver.stop()


async def test_names_of_the_hosts_file_win_over_dns(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_hosts_file", lambda: frozenset({"sip.example.com"}))

    async def system(self: Resolver, host: str) -> list[str]:
        return ["192.0.2.77"]

    monkeypatch.setattr(Resolver, "_by_system", system)
    resolver = Resolver(nameservers=[HOST], nameserver_port=server.port)
    found = await resolver.resolve("tcp", "sip.example.com", 5070)
    assert found.addresses == (("192.0.2.77", 5070),)
    assert server.asked == []


def test_the_hosts_file_is_read_without_comments(tmp_path: Any) -> None:
    file = tmp_path / "hosts"
    file.write_text("127.0.0.1 localhost Gateway # not.this\n# 1.2.3.4 nor.this\n\n")
    assert module._hosts_file(str(file)) == {"localhost", "gateway"}
    assert module._hosts_file(str(tmp_path / "none")) == frozenset()


def test_weights_decide_how_often_a_target_comes_first() -> None:
    rng = random.Random(1)
    targets = [
        ServiceTarget(host="heavy", port=1, priority=0, weight=90),
        ServiceTarget(host="light", port=1, priority=0, weight=10),
        ServiceTarget(host="never first", port=1, priority=1, weight=1000),
    ]
    first = Counter(order_targets(targets, rng)[0].host for _ in range(1000))
    assert 850 < first["heavy"] < 950
    assert first["never first"] == 0
    assert len(order_targets(targets, rng)) == 3

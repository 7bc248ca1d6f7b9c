"""Names to addresses, against a name server of our own on loopback."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from bridge.transport import resolver as module
from bridge.transport.resolver import Resolver, _Target, order_targets

pytestmark = pytest.mark.unit

HOST = "127.0.0.1"


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Answers from ``zone``: (name, type) -> (ttl, texts). ``silent`` answers nothing."""

    zone: dict[tuple[str, str], tuple[int, list[str]]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    silent: bool = False
    port: int = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if self.silent:
            return
        answer = dns.message.make_response(query)
        if (name, kind) in self.zone:
            ttl, texts = self.zone[name, kind]
            answer.answer.append(dns.rrset.from_text(question.name, ttl, "IN", kind, *texts))
        elif not any(known == name for known, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=(HOST, 0))
    yield server
    transport.close()
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
    resolver = Resolver(nameservers=[HOST], nameserver_port=server.port, timeout=1.0, clock=clock)
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
    server.zone = {}
    found = await resolver.resolve("tcp", "sip.example.com", 5070)
    assert found.addresses == (("192.0.2.5", 5070),)


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
    found = await asyncio.wait_for(resolver.resolve("tcp", "sip.example.com", 5070), 2)
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
        _Target(host="heavy", port=1, priority=0, weight=90),
        _Target(host="light", port=1, priority=0, weight=10),
        _Target(host="never first", port=1, priority=1, weight=1000),
    ]
    first = Counter(order_targets(targets, rng)[0].host for _ in range(1000))
    assert 850 < first["heavy"] < 950
    assert first["never first"] == 0
    assert len(order_targets(targets, rng)) == 3

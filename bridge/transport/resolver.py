"""From a host name to addresses and ports: literals, /etc/hosts, SRV, A and AAAA.

RFC 3263 4.2 without NAPTR: the transport is always known here, from the trunk
or from a ``transport=`` parameter.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
import dns.rrset
import structlog
from dns.rdtypes.IN.SRV import SRV

from bridge.transport.flow import Address, canonical

log = structlog.get_logger(__name__)

_DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061}
_SRV = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}
_MIN_TTL, _MAX_TTL = 5.0, 3600.0
_HOSTS_TTL = 60.0  # /etc/hosts and the system's resolver name no TTL
_MAX_TARGETS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Addresses in the order to try them. ``ttl`` in seconds; empty: nothing was found."""

    addresses: tuple[Address, ...]
    ttl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    host: str
    port: int
    priority: int
    weight: int


class Resolver:
    """Looks names up, remembers the answers for their TTL, and never raises.

    *families* are the address families that our listeners can reach: 4, 6.
    """

    def __init__(
        self,
        *,
        nameservers: Sequence[str] = (),
        nameserver_port: int = 53,
        timeout: float = 5.0,
        families: Iterable[int] = (4, 6),
        cache_size: int = 1024,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._timeout = timeout
        self.families = frozenset(families)
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 (spreads load, RFC 2782)
        self._cache: OrderedDict[tuple[str, str, int | None], tuple[float, Resolved]] = (
            OrderedDict()
        )
        self._cache_size = cache_size
        self._running: dict[tuple[str, str, int | None], asyncio.Task[Resolved]] = {}
        self._dns: dns.asyncresolver.Resolver | None
        try:
            self._dns = dns.asyncresolver.Resolver(configure=not nameservers)
        except dns.resolver.NoResolverConfiguration:
            self._dns = None
        if self._dns is not None:
            if nameservers:
                self._dns.nameservers = list(nameservers)
                self._dns.port = nameserver_port
            self._dns.timeout = min(2.0, timeout)
            self._dns.lifetime = timeout

    def cached(self, transport: str, host: str, port: int | None) -> Resolved | None:
        """Return what is known without asking anyone: a literal, or a fresh answer."""
        literal = self._literal(transport, host, port)
        if literal is not None:
            return literal
        entry = self._cache.get((transport, host.lower(), port))
        return entry[1] if entry is not None and entry[0] > self._clock() else None

    async def resolve(self, transport: str, host: str, port: int | None) -> Resolved:
        """Return the addresses of *host*; without *port* those of its SRV records first.

        Takes at most the timeout; a concurrent question for the same is asked once.
        """
        known = self.cached(transport, host, port)
        if known is not None:
            return known
        key = (transport, host.lower(), port)
        task = self._running.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._look_up(key))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        # One waiter that is cancelled must not take the answer from the others.
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Give up every question still open."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _literal(self, transport: str, host: str, port: int | None) -> Resolved | None:
        address = canonical(host.strip("[]"))
        try:
            ipaddress.ip_address(address)
        except ValueError:
            return None
        chosen = port if port is not None else _DEFAULT_PORT[transport]
        return Resolved(addresses=((address, chosen),), ttl=_MAX_TTL)

    async def _look_up(self, key: tuple[str, str, int | None]) -> Resolved:
        transport, host, port = key
        try:
            async with asyncio.timeout(self._timeout):
                found = await self._ask(transport, host, port)
        except TimeoutError:
            found = None
        if found is None or not found.addresses:
            log.warning("dns.nothing_found", host=host, transport=transport)
            stale = self._cache.get(key)
            # Better the last known address than none while the name server is away.
            return stale[1] if stale is not None else Resolved(addresses=(), ttl=_MIN_TTL)
        found = Resolved(addresses=found.addresses, ttl=min(max(found.ttl, _MIN_TTL), _MAX_TTL))
        self._cache[key] = (self._clock() + found.ttl, found)
        self._cache.move_to_end(key)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return found

    async def _ask(self, transport: str, host: str, port: int | None) -> Resolved | None:
        if port is None:
            # RFC 3263 4.2: without a port, SRV first, then A or AAAA with the default port.
            by_service = await self._by_service(f"{_SRV[transport]}.{host}")
            if by_service is not None:
                return by_service
        chosen = port if port is not None else _DEFAULT_PORT[transport]
        addresses, ttl = await self._by_host(host)
        return Resolved(addresses=tuple((a, chosen) for a in addresses), ttl=ttl)

    async def _by_service(self, name: str) -> Resolved | None:
        """The addresses behind the SRV records of *name*; None when there are none."""
        answer = await self._query(name, dns.rdatatype.SRV)
        if answer is None:
            return None
        targets = [
            _Target(
                host=record.target.to_text(omit_final_dot=True),
                port=record.port,
                priority=record.priority,
                weight=record.weight,
            )
            for record in answer
            if isinstance(record, SRV)
        ]
        # RFC 2782: a single target "." means the service is decidedly not available.
        targets = [target for target in targets if target.host not in ("", ".")]
        ordered = order_targets(targets, self._rng)[:_MAX_TARGETS]
        found = await asyncio.gather(*(self._by_host(target.host) for target in ordered))
        addresses = [
            (address, target.port)
            for target, (hosts, _) in zip(ordered, found, strict=True)
            for address in hosts
        ]
        ttl = min((ttl for _, ttl in found), default=_MAX_TTL)
        return Resolved(addresses=tuple(dict.fromkeys(addresses)), ttl=min(ttl, float(answer.ttl)))

    async def _by_host(self, host: str) -> tuple[list[str], float]:
        """The addresses of a host name, IPv4 first, and how long they are good for."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            return [canonical(host)], _MAX_TTL
        if "." in host.rstrip(".") and host.lower() not in _hosts_file():
            addresses, ttl = await self._by_dns(host)
            if addresses:
                return addresses, ttl
        return await self._by_system(host), _HOSTS_TTL

    async def _by_dns(self, host: str) -> tuple[list[str], float]:
        kinds = [
            kind
            for family, kind in ((4, dns.rdatatype.A), (6, dns.rdatatype.AAAA))
            if family in self.families
        ]
        answers = await asyncio.gather(*(self._query(host, kind) for kind in kinds))
        addresses = [record.to_text() for answer in answers if answer for record in answer]
        ttl = min((float(answer.ttl) for answer in answers if answer), default=_MIN_TTL)
        return addresses, ttl

    async def _query(self, name: str, kind: dns.rdatatype.RdataType) -> dns.rrset.RRset | None:
        if self._dns is None:
            return None
        try:
            answer = await self._dns.resolve(
                name, kind, raise_on_no_answer=False, search=False, lifetime=self._timeout
            )
        except (dns.exception.DNSException, OSError, ValueError) as failure:
            log.debug("dns.query_failed", host=name, error=type(failure).__name__)
            return None
        return None if answer.rrset is None else answer.rrset

    async def _by_system(self, host: str) -> list[str]:
        """What the system's own resolver knows: /etc/hosts, mDNS, container names."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, None, type=socket.SOCK_STREAM
            )
        except (OSError, ValueError):
            return []
        addresses = [canonical(str(entry[4][0])) for entry in found]
        wanted = [a for a in addresses if (6 if ":" in a else 4) in self.families]
        return sorted(dict.fromkeys(wanted), key=lambda address: ":" in address)


def order_targets(targets: Sequence[_Target], rng: random.Random) -> list[_Target]:
    """Return SRV targets in the order to try them: by priority, within it drawn by weight.

    RFC 2782.
    """
    ordered: list[_Target] = []
    for priority in sorted({target.priority for target in targets}):
        left = [target for target in targets if target.priority == priority]
        # Weight 0 goes first in the running sum, so that it has a small chance at all.
        left.sort(key=lambda target: target.weight)
        while left:
            drawn = rng.randint(0, sum(target.weight for target in left))
            running = 0
            for target in left:
                running += target.weight
                if running >= drawn:
                    break
            ordered.append(target)
            left.remove(target)
    return ordered


def _hosts_file(path: str = "/etc/hosts") -> frozenset[str]:
    """The names of the hosts file, in lower case: they win over DNS."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(1_000_000)
    except OSError:
        return frozenset()
    names: set[str] = set()
    for line in text.splitlines():
        names.update(name.lower() for name in line.partition("#")[0].split()[1:])
    return frozenset(names)

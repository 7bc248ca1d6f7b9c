"""From a host name to addresses and ports: literals, /etc/hosts, NAPTR, SRV, A and AAAA.

RFC 3263 4. The transport is always known here, from the trunk or from a ``transport=``
parameter: NAPTR only chooses among the services of that transport.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import dns.asyncresolver
import dns.exception
import dns.message
import dns.rdatatype
import dns.resolver
import structlog
from dns.rdata import Rdata

from bridge.transport.flow import Address, canonical
from bridge.transport.service import (
    SRV_PREFIX,
    ServiceTarget,
    draw_addresses,
    order_targets,
    read_naptr,
    read_targets,
)

log = structlog.get_logger(__name__)

_DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061}
_MIN_TTL, _MAX_TTL = 1.0, 3600.0
_MAX_NEGATIVE_TTL = 60.0  # RFC 2308 5 allows hours; a carrier that mends its zone waits for us
_HOSTS_TTL = 60.0  # /etc/hosts and the system's resolver name no TTL
_STALE = 86_400.0  # RFC 8767 4: an answer may be used so long after its TTL when none is got
_STALE_AGAIN = 30.0  # RFC 8767 5: and so long before it is asked for again
_MAX_TARGETS = 16

Key = tuple[str, str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Addresses in the order to try them. ``ttl`` in seconds; empty: nothing was found."""

    addresses: tuple[Address, ...]
    ttl: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What a name server said: records, or that there are none. ``failed``: it said nothing.

    ``ttl`` 0 of an empty reply: nothing was said about how long that holds.
    """

    records: tuple[Rdata, ...] = ()
    ttl: float = 0.0
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The servers behind a name: groups in order, targets to be drawn within each."""

    groups: tuple[tuple[ServiceTarget, ...], ...] = ()
    ttl: float = 0.0
    failed: bool = False

    @property
    def empty(self) -> bool:
        return not any(target.addresses for group in self.groups for target in group)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An answer in the cache, fresh until ``until``, better than none until ``stale_until``."""

    found: _Found
    until: float
    stale_until: float


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
        self._cache: OrderedDict[Key, _Entry] = OrderedDict()
        self._cache_size = cache_size
        self._running: dict[Key, asyncio.Task[None]] = {}
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
        return self._drawn(entry) if entry is not None and entry.until > self._clock() else None

    def _drawn(self, entry: _Entry) -> Resolved:
        ttl = max(entry.until - self._clock(), _MIN_TTL)
        return Resolved(addresses=draw_addresses(entry.found.groups, self._rng), ttl=ttl)

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
        await asyncio.shield(task)
        entry = self._cache.get(key)
        if entry is None or entry.until <= self._clock():
            return Resolved(addresses=(), ttl=_MIN_TTL)
        return self._drawn(entry)

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

    async def _look_up(self, key: Key) -> None:
        """Ask, and enter the answer into the cache."""
        transport, host, port = key
        try:
            async with asyncio.timeout(self._timeout):
                found = await self._ask(transport, host, port)
        except TimeoutError:
            found = _Found(failed=True)
        now = self._clock()
        if not found.empty:
            self._enter(key, found, min(max(found.ttl, _MIN_TTL), _MAX_TTL), now)
            return
        log.warning("dns.nothing_found", host=host, transport=transport)
        known = self._cache.get(key)
        if not found.failed:
            # RFC 2308: that there is nothing holds for as long as the zone's SOA says.
            self._cache.pop(key, None)
            if found.ttl > 0:
                self._enter(key, found, min(found.ttl, _MAX_NEGATIVE_TTL), now)
        elif known is not None and not known.found.empty and now < known.stale_until:
            # RFC 8767: better the last known address than none while the name server is away.
            self._cache[key] = replace(known, until=now + _STALE_AGAIN)

    def _enter(self, key: Key, found: _Found, ttl: float, now: float) -> None:
        self._cache[key] = _Entry(found=found, until=now + ttl, stale_until=now + ttl + _STALE)
        self._cache.move_to_end(key)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    async def _ask(self, transport: str, host: str, port: int | None) -> _Found:
        before = _Found()
        if port is None:
            # RFC 3263 4.2: without a port, SRV first, then A or AAAA with the default port.
            before = await self._by_service(transport, host)
            if before.groups or (before.failed and self._has(transport, host, port)):
                return before
        chosen = port if port is not None else _DEFAULT_PORT[transport]
        addresses, ttl, failed = await self._by_host(host)
        target = ServiceTarget(
            host=host, port=chosen, priority=0, weight=0, addresses=tuple(addresses)
        )
        return _Found(
            groups=((target,),) if addresses else (),
            ttl=_shortest(before.ttl, ttl),
            failed=failed,
        )

    def _has(self, transport: str, host: str, port: int | None) -> bool:
        known = self._cache.get((transport, host, port))
        return known is not None and not known.found.empty and self._clock() < known.stale_until

    async def _by_service(self, transport: str, host: str) -> _Found:
        """The servers by SRV: of the names that NAPTR gives, else of the transport's own name.

        Both are asked for at once, so that a zone without NAPTR costs no second round trip.
        """
        own = f"{SRV_PREFIX[transport]}.{host}"
        srv, naptr = await asyncio.gather(
            self._query(own, dns.rdatatype.SRV, 0.6), self._query(host, dns.rdatatype.NAPTR, 0.4)
        )
        names = [name for name in read_naptr(naptr.records, transport) if name.lower() != own]
        replies = await asyncio.gather(
            *(self._query(name, dns.rdatatype.SRV, 0.4) for name in names)
        )
        chosen = [reply for reply in replies if reply.records]
        if not chosen:
            chosen = [srv]
        elif own in read_naptr(naptr.records, transport):
            chosen.append(srv)
        found = await asyncio.gather(*(self._with_addresses(reply) for reply in chosen))
        groups = tuple(group for one in found if (group := one.groups))
        return _Found(
            groups=tuple(group for several in groups for group in several),
            ttl=_shortest(naptr.ttl, *(one.ttl for one in found)),
            failed=any(one.failed for one in found),
        )

    async def _with_addresses(self, reply: _Reply) -> _Found:
        """The targets of an SRV answer, each with its addresses."""
        if not reply.records:
            return _Found(ttl=reply.ttl, failed=reply.failed)
        # Only so many are looked up; which ones is drawn, as the RFC wants it.
        targets = order_targets(read_targets(reply.records), self._rng)[:_MAX_TARGETS]
        found = await asyncio.gather(*(self._by_host(target.host) for target in targets))
        group = tuple(
            replace(target, addresses=tuple(addresses))
            for target, (addresses, _, _) in zip(targets, found, strict=True)
        )
        return _Found(
            groups=(group,),
            ttl=_shortest(reply.ttl, *(ttl for _, ttl, _ in found)),
            failed=any(failed for _, _, failed in found),
        )

    async def _by_host(self, host: str) -> tuple[list[str], float, bool]:
        """The addresses of a host name, IPv4 first; how long they hold; whether asking failed."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            return [canonical(host)], _MAX_TTL, False
        ttl, failed = 0.0, False
        if "." in host.rstrip(".") and host.lower() not in _hosts_file():
            addresses, ttl, failed = await self._by_dns(host)
            if addresses:
                return addresses, ttl, False
        found = await self._by_system(host)
        return found, _HOSTS_TTL if found else ttl, failed and not found

    async def _by_dns(self, host: str) -> tuple[list[str], float, bool]:
        kinds = [
            kind
            for family, kind in ((4, dns.rdatatype.A), (6, dns.rdatatype.AAAA))
            if family in self.families
        ]
        replies = await asyncio.gather(*(self._query(host, kind, 0.9) for kind in kinds))
        addresses = [record.to_text() for reply in replies for record in reply.records]
        with_records = [reply.ttl for reply in replies if reply.records]
        ttl = _shortest(*(with_records or [reply.ttl for reply in replies]))
        return addresses, ttl, any(reply.failed for reply in replies)

    async def _query(self, name: str, kind: dns.rdatatype.RdataType, share: float) -> _Reply:
        """Ask for records, following CNAMEs, within *share* of the timeout. Never raises."""
        if self._dns is None:
            return _Reply()
        try:
            answer = await self._dns.resolve(
                name, kind, raise_on_no_answer=False, search=False, lifetime=self._timeout * share
            )
        except dns.resolver.NXDOMAIN as nothing:
            responses = nothing.kwargs.get("responses", {}).values()
            return _Reply(ttl=_shortest(*(_negative_ttl(one) for one in responses)))
        except (dns.exception.DNSException, OSError, ValueError) as failure:
            log.debug("dns.query_failed", host=name, error=type(failure).__name__)
            return _Reply(failed=True)
        if answer.rrset is None:
            return _Reply(ttl=_negative_ttl(answer.response))
        # Of the whole chain: a CNAME may be shorter-lived than what it leads to.
        return _Reply(records=tuple(answer.rrset), ttl=float(answer.chaining_result.minimum_ttl))

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


def _shortest(*ttls: float) -> float:
    """Return the shortest of lifetimes, of which 0 says nothing."""
    return min((ttl for ttl in ttls if ttl > 0), default=0.0)


def _negative_ttl(response: dns.message.QueryMessage) -> float:
    """Return how long "there is nothing" holds (RFC 2308 5); 0 without a SOA that says so."""
    if not any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority):
        return 0.0
    try:
        return float(response.resolve_chaining().minimum_ttl)
    except dns.exception.DNSException:
        return 0.0


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

"""Who may talk to us, and how often: sources of trunks and rates of new calls.

Contract 3, "Sources". Pure: addresses and resolved host sets come in as values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from math import inf
from typing import Protocol

from sdp.destination import destination_policy

_is_public = destination_policy(media_allow=(), own=lambda _host, _port: False)

_LEARNED_PER_TRUNK = 64
_PEERS = 4096


class TrunkSettings(Protocol):
    """What admission reads of a trunk's configuration."""

    @property
    def name(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def dialled_port(self) -> int | None: ...
    @property
    def transport(self) -> str: ...
    @property
    def outbound_proxy(self) -> str: ...
    @property
    def allow(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SignallingHost:
    """A host a trunk is reached at. ``port`` None: SRV decides."""

    trunk: str
    transport: str
    host: str
    port: int | None


def signalling_hosts(trunk: TrunkSettings) -> list[SignallingHost]:
    """Return the hosts whose addresses are in-dialog sources of *trunk*."""
    hosts = [
        SignallingHost(
            trunk=trunk.name,
            transport=trunk.transport,
            host=trunk.host,
            port=trunk.dialled_port,
        )
    ]
    if trunk.outbound_proxy:
        host, port = split_proxy(trunk.outbound_proxy)
        hosts.append(
            SignallingHost(trunk=trunk.name, transport=trunk.transport, host=host, port=port)
        )
    return hosts


def split_proxy(text: str) -> tuple[str, int | None]:
    """Return host and port of ``HOST``, ``HOST:PORT``, an IPv6 literal or ``[IPv6]:PORT``."""
    if _address(text.strip("[]")) is not None:
        return text.strip("[]"), None
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit():
        return host.strip("[]"), int(port)
    return text, None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@dataclass(frozen=True, slots=True)
class _Block:
    """One network of one trunk as integers, for a fast scan."""

    version: int
    network: int
    mask: int
    trunk: str


def _block(trunk: str, text: str) -> _Block:
    network: IPv4Network | IPv6Network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:  # ::ffff:192.0.2.0/120 is 192.0.2.0/24
            network = ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False)
    return _Block(network.version, int(network.network_address), int(network.netmask), trunk)


class Admission:
    """The sources of every trunk, in the order of the file.

    A peer is admitted when a trunk knows it, or when we have opened a flow to it
    ourselves: it is then the peer of a dialog's own connection, and whatever it
    sends must still match a dialog. *keep* is how many seconds an address that a
    host once resolved to, or a peer of ours, stays known: longer than any call,
    because name servers hand out a different subset each time.
    """

    def __init__(self, trunks: Iterable[TrunkSettings] = (), *, keep: float = 15_000.0) -> None:
        self._keep = keep
        self._allowed: list[_Block] = []
        self._hosts: list[SignallingHost] = []
        self._learned: dict[str, OrderedDict[str, float]] = {}
        self._peers: OrderedDict[str, float] = OrderedDict()
        for trunk in trunks:
            self._allowed.extend(_block(trunk.name, text) for text in trunk.allow)
            hosts = signalling_hosts(trunk)
            self._hosts.extend(hosts)
            literals = (_address(host.host) for host in hosts)
            self._learned[trunk.name] = OrderedDict(
                (str(address), inf) for address in literals if address is not None
            )

    @property
    def hosts(self) -> Sequence[SignallingHost]:
        """What has to be resolved, for `learn`."""
        return self._hosts

    def learn(self, trunk: str, addresses: Iterable[str], now: float) -> bool:
        """Take addresses that a host of *trunk* resolves to as its in-dialog sources.

        Returns whether one of them is new.
        """
        known = self._learned.get(trunk)
        if known is None:
            return False
        found = {str(address) for address in map(_address, addresses) if address is not None}
        new = not found <= known.keys()
        for address in found:
            if known.get(address) != inf:  # configured as a literal: stays for good
                _remember(known, address, now, _LEARNED_PER_TRUNK)
        return new

    def reached(self, ip: str, now: float) -> None:
        """Take a peer that we opened a flow to as known."""
        address = _address(ip)
        if address is not None:
            _remember(self._peers, str(address), now, _PEERS)

    def inherit(self, older: Admission) -> None:
        """Keep what an admission before a reload had learned, for trunks that still exist."""
        self._peers.update(older._peers)
        for trunk, known in older._learned.items():
            if trunk in self._learned:
                self._learned[trunk].update(known)

    def admit(self, ip: str, now: float) -> tuple[frozenset[str], frozenset[str]] | None:
        """Return the trunks whose in-dialog sources, and whose ``allow``, include *ip*.

        None: unknown, nothing of it may be read. Both sets may be empty for a peer
        of our own flows.
        """
        address = _address(ip)
        if address is None:
            return None
        number, version = int(address), address.version
        new_call = frozenset(
            block.trunk
            for block in self._allowed
            if block.version == version and number & block.mask == block.network
        )
        text = str(address)
        since = now - self._keep
        in_dialog = frozenset(
            trunk for trunk, known in self._learned.items() if known.get(text, since) > since
        )
        if not new_call and not in_dialog and self._peers.get(text, since) <= since:
            return None
        return new_call | in_dialog, new_call

    def may_dial(self, ip: str, trunk: str, now: float) -> bool:
        """Whether a flow may be opened to *ip*: a source of *trunk*, or a public address.

        A peer names the next hop (Contact, Record-Route); without this it could
        make us connect to hosts of our own network, or of another carrier's.
        """
        address = _address(ip)
        if address is None or address.is_unspecified:
            return False
        known = self.admit(ip, now)
        if known is not None and trunk in known[0]:
            return True
        return _is_public(str(address), 1)


def _remember(table: OrderedDict[str, float], key: str, now: float, limit: int) -> None:
    table[key] = now
    table.move_to_end(key)
    while len(table) > limit:
        table.popitem(last=False)


class Gcra:
    """A generic cell rate limiter per key: *rate* a second, *burst* at once.

    Holds at most *keys* keys; the one that was quiet for longest goes first.
    """

    def __init__(self, *, rate: float, burst: int, keys: int = 16_384) -> None:
        self._interval = 1.0 / rate
        self._tolerance = self._interval * max(burst - 1, 0)
        self._keys = keys
        self._due: OrderedDict[str, float] = OrderedDict()  # theoretical arrival times

    def allow(self, key: str, now: float) -> bool:
        """Count one arrival; whether it conforms. What does not conform is not counted."""
        due = max(self._due.get(key, now), now)
        if due - now > self._tolerance + 1e-9:
            return False
        _remember(self._due, key, due + self._interval, self._keys)
        return True

    def wait(self, key: str, now: float) -> float:
        """Return the seconds until `allow` would say yes."""
        return max(0.0, self._due.get(key, now) - now - self._tolerance)


def call_rate(calls_per_second: float) -> Gcra:
    """Return the limiter of a trunk's ``calls_per_second``; keys are trunk names.

    One second's worth of calls may start at once.
    """
    return Gcra(rate=calls_per_second, burst=max(1, int(calls_per_second)))


def has_room(running: int, max_calls: int) -> bool:
    """Whether one more call fits under ``max_calls``."""
    return running < max_calls

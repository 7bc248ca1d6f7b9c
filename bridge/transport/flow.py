"""What a transport and its owner tell each other.

A transport knows sockets; its owner (`bridge.ua`) knows who may talk and what
the bytes mean. Every call here is synchronous and must not block.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import count
from typing import Protocol

from bridge.errors import BridgeError
from bridge.sip.flow import Flow

Admitted = tuple[frozenset[str], frozenset[str]]
"""Trunks whose in-dialog sources, and trunks whose ``allow``, include a peer."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Dial:
    """A connection that is wanted.

    ``trunk`` says whose certificates are used, and ``name`` the host that the peer's
    certificate has to be of; both for TLS only.
    """

    remote: Address
    trunk: str = ""
    name: str = ""


class ListenError(BridgeError):
    """A listen address cannot be used; the text names it."""


class SendError(BridgeError):
    """Bytes could not be given to the kernel, and never will be."""


class Owner(Protocol):
    """The side that decides. `received` is only called for admitted peers."""

    def admit(self, address: str) -> Admitted | None:
        """Return the trunks that know *address*, or None: nothing of it is read."""

    def opened(self, flow: Flow) -> None:
        """A connection was accepted or dialled, or a UDP peer was heard for the first time."""

    def received(self, data: bytes, flow: Flow) -> None:
        """Bytes came: a chunk of a stream, or one whole datagram."""

    def lost(self, flow: Flow) -> None:
        """The connection is gone. Called once, after the last `received`."""

    def unreachable(self, dial: Dial, why: str) -> None:
        """A connection could not be made; said before whoever wanted it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A listener: what was asked for and what the kernel gave."""

    transport: str
    host: str
    port: int

    @property
    def wildcard(self) -> bool:
        """Whether every local address is listened on."""
        return ip_address(self.host).is_unspecified

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"


SOMEWHERE = ("192.0.2.1", "2001:db8::1")
"""RFC 5737, RFC 3849: addresses of nobody, only to ask for the default route."""


class Sparing:
    """Lets at most *most* log lines through each second, and counts the others."""

    __slots__ = ("_left", "_more", "_most", "_until")

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most
        self._until = 0.0
        self._more = 0

    def more(self, now: float) -> int | None:
        """Return how many were left out since the last line; None: leave this one out too."""
        if now >= self._until:
            self._left, self._until = self._most, now + 1.0
        if self._left == 0:
            self._more += 1
            return None
        self._left -= 1
        more, self._more = self._more, 0
        return more


_next_id = count(1).__next__


def next_flow_id() -> int:
    """Return an id that no flow of this process has had."""
    return _next_id()


def canonical(host: str) -> str:
    """Return an address literal in its one spelling; IPv4-mapped IPv6 becomes IPv4.

    Text that is no address is returned as it is.
    """
    try:
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def is_literal(host: str) -> bool:
    """Whether *host* is an address and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def family_of(host: str) -> socket.AddressFamily:
    """Return the address family of a literal."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def route_address(host: str, port: int) -> str | None:
    """Return the local address the kernel would use to reach *host* (a literal), or None.

    Connecting a UDP socket chooses the route and sends nothing.
    """
    with socket.socket(family_of(host), socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port or 9))
        except OSError:
            return None
        local = canonical(probe.getsockname()[0])
    return None if ip_address(local).is_unspecified else local


def listener_for(host: str, listeners: list[Bound]) -> Bound | None:
    """Return the listener a peer at *host* (a literal) should be served from.

    The one bound to the route's own address, else a wildcard of the family, else
    the first of the family.
    """
    family = [b for b in listeners if family_of(b.host) is family_of(host)]
    if len(family) > 1:
        route = route_address(host, 0)
        exact = next((b for b in family if b.host == route), None)
        return exact or next((b for b in family if b.wildcard), family[0])
    return family[0] if family else None

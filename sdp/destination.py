"""Where our RTP may go: nobody makes us flood a victim or our own network.

The tables are our own because ``ipaddress.is_global`` has changed its mind
between patch releases of Python. Sources: the IANA special-purpose address
registries (RFC 6890), RFC 6598, RFC 4193.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from sdp.direction import literal_address

Network = IPv4Network | IPv6Network

NEVER: Final[tuple[Network, ...]] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network, and unspecified
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and limited broadcast
            "::/128",
            "ff00::/8",
        ),
    )
)
BY_PERMISSION: Final[tuple[Network, ...]] = tuple(
    map(
        ip_network,
        (
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",  # carrier-grade NAT
            "169.254.0.0/16",
            "192.0.0.0/24",  # IETF protocol assignments
            "192.0.2.0/24",  # documentation
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",
            "203.0.113.0/24",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
            "64:ff9b::/96",  # NAT64: an IPv4 address in disguise
            "2001::/23",  # IETF protocol assignments, Teredo
            "2001:db8::/32",
            "2002::/16",  # 6to4
        ),
    )
)
IPV6_GLOBAL: Final = IPv6Network("2000::/3")


def destination_policy(
    *, media_allow: Sequence[str], own: Callable[[str, int], bool]
) -> Callable[[str, int], bool]:
    """Return the test for (address, port) that RTP is to be sent to.

    Global unicast addresses pass. Loopback, private, link-local and other
    addresses without global meaning pass inside *media_allow* (networks as
    ``10.1.0.0/16`` or single addresses). Multicast, broadcast, unspecified
    and reserved addresses never do, nor what *own* says is a port of ours,
    nor port 0. Raises ValueError for a malformed network.
    """
    permitted: tuple[Network, ...] = tuple(ip_network(text, strict=False) for text in media_allow)

    def allowed(address: str, port: int) -> bool:
        parsed = literal_address(address)
        if parsed is None or not 0 < port <= 65535 or _inside(parsed, NEVER):
            return False
        if _by_permission(parsed) and not _inside(parsed, permitted):
            return False
        return not own(str(parsed), port)

    return allowed


def _inside(address: IPv4Address | IPv6Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def _by_permission(address: IPv4Address | IPv6Address) -> bool:
    unassigned = isinstance(address, IPv6Address) and address not in IPV6_GLOBAL
    return unassigned or _inside(address, BY_PERMISSION)

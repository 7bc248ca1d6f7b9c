"""Where a webhook may go: which URLs, and which addresses a name may stand for.

Pure. A receiver is named by whoever may place a call, and is asked from inside our network:
without these rules the bridge would carry requests to its neighbours (SSRF). `check_url` is
asked when a URL is given and again before each attempt, `check_address` of every address that
DNS answers, at the moment of connecting.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

import idna

MAX_URL: Final = 2048
"""Characters of the longest URL that is taken."""

_SCHEMES: Final = {"http": 80, "https": 443}
_PRINTABLE: Final = re.compile(r"[!-~\u00a1-\ud7ff\ue000-\U0010ffff]+")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_LOCAL_NAMES: Final = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_IPV4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_SITE_LOCAL: Final = ipaddress.IPv6Network("fec0::/10")
_PROTOCOLS: Final = ipaddress.IPv4Network("192.0.0.0/24")  # RFC 6890; is_global of old Pythons

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_url(url: str, *, allow_private: bool) -> str:
    """Return *url* when a webhook may go there. Raises ``ValueError`` that says why not.

    Refused are other schemes than http and https, credentials in the URL, literal private,
    loopback, link-local and reserved addresses however they are written, and the names of this
    machine; the last two are taken with *allow_private* (``[webhook] allow_private``). What a
    name resolves to is checked when it is connected to (`check_address`).
    """
    parts = _split(url)
    host = _host(parts)
    address = _literal(host)
    if address is not None:
        check_address(address, allow_private=allow_private)
    elif not allow_private and is_local_name(host):
        msg = f"{host} is this machine, allowed only with [webhook] allow_private"
        raise ValueError(msg)
    return url


def check_address(address: str | Address, *, allow_private: bool) -> None:
    """Raise ``ValueError`` when a webhook may not be sent to *address*.

    An IPv6 address that carries an IPv4 one (mapped, compatible, 6to4, Teredo, NAT64) is what
    it carries, too.
    """
    found = ipaddress.ip_address(address) if isinstance(address, str) else address
    for one in (found, *_carried(found)):
        if one.is_multicast or one.is_unspecified:
            msg = f"{found} is no address of a receiver"
            raise ValueError(msg)
        if not allow_private and not _is_public(one):
            msg = f"{found} is private or reserved, allowed only with [webhook] allow_private"
            raise ValueError(msg)


def receiver_of(url: str) -> str:
    """Return who is asked by *url*: scheme, host and port, without path and query.

    What is counted and bounded per receiver; fit for logs. ``""`` for what is no URL.
    """
    try:
        parts = _split(url)
        host = _host(parts)
        port = parts.port or _SCHEMES[parts.scheme]
    except ValueError:
        return ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def is_local_name(host: str) -> bool:
    """Whether the name *host* (lower case) means this machine wherever it is asked (RFC 6761)."""
    name = host.rstrip(".")
    return name in _LOCAL_NAMES or name.endswith(".localhost")


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL:
        msg = f"longer than {MAX_URL} characters"
        raise ValueError(msg)
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        msg = "no URL: it has spaces, control characters or backslashes"
        raise ValueError(msg)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as failure:
        msg = f"no URL: {failure}"
        raise ValueError(msg) from failure
    if parts.scheme not in _SCHEMES:
        msg = f"scheme {parts.scheme!r}, allowed: http, https"
        raise ValueError(msg)
    if "@" in parts.netloc:
        msg = "credentials in the URL are not allowed: deliveries are signed"
        raise ValueError(msg)
    if port == 0:
        msg = "port 0, allowed: 1 to 65535"
        raise ValueError(msg)
    return parts


def _host(parts: SplitResult) -> str:
    """Return the host in ASCII, lower case. Raises ``ValueError`` when it is none."""
    host = parts.hostname or ""
    if ":" in host:
        return host
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True).decode()
    except idna.IDNAError as failure:
        msg = f"{host!r} is no host: {failure}"
        raise ValueError(msg) from failure
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        msg = f"{host!r} is no host"
        raise ValueError(msg)
    return name


def _literal(host: str) -> Address | None:
    """Return the address that *host* is, None for a name.

    What ends in a number is an address or nothing (WHATWG URL, "ends in a number"): resolvers
    read ``127.1``, ``0x7f000001`` and ``2130706433`` as 127.0.0.1.
    """
    if ":" in host:
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError as failure:
            msg = f"[{host}] is no IPv6 address"
            raise ValueError(msg) from failure
        if address.scope_id is not None:
            msg = f"[{host}] has a zone"
            raise ValueError(msg)
        return address
    name = host.removesuffix(".")
    if not _NUMBER.fullmatch(name.rpartition(".")[2]):
        return None
    try:
        return ipaddress.IPv4Address(name)
    except ValueError as failure:
        msg = f"{host!r} is no IPv4 address: write four decimal numbers"
        raise ValueError(msg) from failure


def _carried(address: Address) -> list[Address]:
    """Return the IPv4 addresses that an IPv6 one stands for on its way."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    teredo = address.teredo
    found = [address.ipv4_mapped, address.sixtofour, teredo[1] if teredo else None]
    if address in _NAT64 or (address in _IPV4_COMPATIBLE and int(address) > 1):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None or address in _NAT64:
            return True  # what it carries is asked apart
        if address in _NAT64_LOCAL or address in _SITE_LOCAL:
            return False
    elif address in _PROTOCOLS:
        return False
    return address.is_global and not address.is_reserved

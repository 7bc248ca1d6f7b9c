"""Whose a certificate is: the SIP domains it names. RFC 5922 7. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any


def identities(certificate: Mapping[str, Any]) -> list[str]:
    """Return the hosts that *certificate* (as `ssl` tells it) is of, in lower case.

    RFC 5922 7.1: the URIs of the scheme sip without a user part first; only when there is
    none, the DNS names; the Common Name only of a certificate without alternative names.
    Addresses are compared with addresses.
    """
    names = [(str(kind), str(value)) for kind, value in certificate.get("subjectAltName", ())]
    addresses = [_address(value) for kind, value in names if kind == "IP Address"]
    uris = [value for kind, value in names if kind == "URI" and value.lower().startswith("sip:")]
    # 7.1: a URI with a user part is of that user, not of the domain.
    domains = [_host_of(uri) for uri in uris if "@" not in uri]
    if not domains:
        domains = [value for kind, value in names if kind == "DNS"]
    if not names:
        # 7.1: only a certificate without any alternative name may be named by its CN.
        subject = (pair for part in certificate.get("subject", ()) for pair in part)
        domains = [str(value) for key, value in subject if key == "commonName"]
    return [name.lower().rstrip(".") for name in (*domains, *addresses)]


def proves(certificate: Mapping[str, Any], hosts: Iterable[str]) -> bool:
    """Whether *certificate* is of one of *hosts* (names or addresses)."""
    found = identities(certificate)
    return any(_is_of(name, host) for host in hosts for name in found)


def _is_of(name: str, host: str) -> bool:
    """Whether *name* of a certificate is *host*; letter case does not count (RFC 5922 7.2).

    DEVIATION: RFC 5922 7.2: "Implementations MUST NOT match any form of wildcard"; a star
    as the whole first label of a DNS name stands for one label, as on the web. Carriers
    present such certificates.
    """
    wanted = _address(host).lower().rstrip(".")
    if name == wanted:
        return bool(name)
    star, _, domain = name.partition(".")
    if star != "*" or "." not in domain or _is_address(wanted):
        return False
    label, _, rest = wanted.partition(".")
    return bool(label) and rest == domain


def _host_of(uri: str) -> str:
    """Return the host of a ``sip:`` URI without a user part."""
    hostport = re.split("[;?]", uri[4:], maxsplit=1)[0]
    if hostport.startswith("["):
        return hostport[1:].partition("]")[0]
    return hostport.partition(":")[0]


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _address(text: str) -> str:
    """Return an address in its one spelling; any other text as it is."""
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        return text

"""Which of our addresses the media of a server is reached from."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from bridge.room.seam import RoomError

_ELSEWHERE: Final = (("198.51.100.1", 9), ("2001:db8::1", 9))
"""Nobody's (RFC 5737, RFC 3849): only a route towards them is asked for."""


async def local_address(url: str) -> str:
    """Return the local address of the way to the server at *url*. Raises `RoomError`.

    Of a server on this machine the outward address, if there is one: from it loopback,
    our own addresses and containers are all reached, from loopback only loopback is.
    """
    host = urlsplit(url).hostname or ""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
    except OSError as error:
        msg = "the room could not be joined: the server's name is unknown"
        raise RoomError(msg) from error
    # IPv4 first: servers name candidates of theirs in IPv4, if of one kind only.
    for family, _type, _protocol, _name, address in sorted(
        found, key=lambda entry: entry[0] != socket.AF_INET
    ):
        local = route_from(family, (str(address[0]), 9))
        if local is None:
            continue
        if ipaddress.ip_address(local.partition("%")[0]).is_loopback:
            version = 1 if family == socket.AF_INET6 else 0
            return route_from(family, _ELSEWHERE[version]) or local
        return local
    msg = "the room could not be joined: no way to the server"
    raise RoomError(msg)


def route_from(family: int, far: tuple[str, int]) -> str | None:
    """Return the local address that packets to *far* leave from; nothing is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(far)
            return str(probe.getsockname()[0])
    except OSError:
        return None

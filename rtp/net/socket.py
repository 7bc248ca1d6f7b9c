"""UDP sockets for RTP: nonblocking, drained in bounded turns, never fatal."""

from __future__ import annotations

import socket
from collections.abc import Callable

MAX_DATAGRAM = 2048
DRAIN_LIMIT = 64
"""Datagrams read in one turn at most; the loop calls again when more wait."""


def open_udp(address: str, port: int) -> socket.socket:
    """Return a nonblocking UDP socket bound to *address* (IPv4 or IPv6) and *port*.

    Raises ``OSError`` when it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.settimeout(0)  # nonblocking
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def drain(
    sock: socket.socket,
    take: Callable[[bytes, tuple[str, int]], None],
    limit: int = DRAIN_LIMIT,
) -> int:
    """Give each waiting datagram with its source to *take*; return how many there were.

    At most *limit*. Socket errors (an ICMP message that came back, a closed
    socket) end the turn and nothing else.
    """
    receive = sock.recvfrom
    for count in range(limit):
        try:
            data, source = receive(MAX_DATAGRAM)
        except ConnectionError:
            continue  # ICMP unreachable for something we sent; the next datagram is behind it
        except OSError:
            return count
        take(data, source[:2])
    return limit


def send(sock: socket.socket, data: bytes, target: tuple[str, int]) -> bool:
    """Send one datagram; False when the network did not take it (it is lost, as on the wire)."""
    try:
        sock.sendto(data, target)
    except OSError:
        return False
    return True

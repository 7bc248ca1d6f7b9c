"""SIP messages to a capture server (Homer, heplify-server, sngrep) as HEP version 3 over UDP.

The packet is a magic, a length, and chunks of vendor, type, length and value:
https://github.com/sipcapture/HEP, "HEP3 network protocol specification", revision 36.
Datagrams may be lost: a capture server that is away, or slow, never touches a call.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

import structlog

from bridge.ua.capture import Captured

log = structlog.get_logger(__name__)

_FAMILY: Final = {4: 2, 6: 10}  # AF_INET, AF_INET6 of Linux, as the specification says
_UDP: Final = 17
_TCP: Final = 6
_SIP: Final = 1
_DATAGRAM: Final = 65_507  # the largest payload of UDP over IPv4
RESOLVE_EVERY: Final = 60.0


def hep3(captured: Captured, *, agent: int, password: str = "") -> bytes:
    """Return *captured* as one HEP3 packet. *agent* is the capture agent's id, 32 bits."""
    source, destination = captured.source, captured.destination
    addresses = (3, 4) if source[0].version == 4 else (5, 6)
    seconds = int(captured.at)
    chunks = [
        _chunk(1, struct.pack("!B", _FAMILY[source[0].version])),
        _chunk(2, struct.pack("!B", _UDP if captured.transport == "udp" else _TCP)),
        _chunk(addresses[0], source[0].packed),
        _chunk(addresses[1], destination[0].packed),
        _chunk(7, struct.pack("!H", source[1])),
        _chunk(8, struct.pack("!H", destination[1])),
        _chunk(9, struct.pack("!I", seconds)),
        _chunk(10, struct.pack("!I", int((captured.at - seconds) * 1_000_000))),
        _chunk(11, struct.pack("!B", _SIP)),
        _chunk(12, struct.pack("!I", agent)),
    ]
    if password:
        chunks.append(_chunk(14, password.encode()))
    if captured.call_id:
        chunks.append(_chunk(17, captured.call_id.encode()))
    chunks.append(_chunk(15, captured.message))
    body = b"".join(chunks)
    return b"HEP3" + struct.pack("!H", 6 + len(body)) + body


def fits(captured: Captured) -> bool:
    """Whether a message leaves room for the chunks beside it in one datagram."""
    return len(captured.message) <= _DATAGRAM - 1024


def _chunk(kind: int, value: bytes) -> bytes:
    return struct.pack("!HHH", 0, kind, 6 + len(value)) + value


class HepSender:
    """Sends messages to one capture server; what cannot go at once is dropped and counted."""

    def __init__(self, host: str, port: int, *, agent: int, password: str = "") -> None:
        self._host = host
        self._port = port
        self._agent = agent
        self._password = password
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self.sent = 0
        self.dropped = 0

    def start(self) -> None:
        """Look the server up, and again every minute: its address may change."""
        self._task = asyncio.get_running_loop().create_task(self._keep_resolved())

    def take(self, captured: Captured) -> None:
        """Send *captured*, or drop it."""
        if self._socket is None or not fits(captured):
            self.dropped += 1
            return
        try:
            self._socket.send(hep3(captured, agent=self._agent, password=self._password))
        except OSError:  # nobody listens, or the buffer is full
            self.dropped += 1
        else:
            self.sent += 1

    async def stop(self) -> None:
        """Send no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._close()

    async def _keep_resolved(self) -> None:
        known: tuple[object, ...] | None = None
        while True:
            try:
                found = await asyncio.get_running_loop().getaddrinfo(
                    self._host, self._port, type=socket.SOCK_DGRAM
                )
            except OSError as failure:
                log.warning("hep.unresolved", host=self._host, error=str(failure))
            else:
                if found[0] != known or self._socket is None:
                    known = found[0]
                    self._open(found[0][0], found[0][4])
            await asyncio.sleep(RESOLVE_EVERY)

    def _open(self, family: int, address: tuple[object, ...]) -> None:
        self._close()
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.settimeout(0)
        try:
            made.connect(address)
        except OSError as failure:
            made.close()
            log.warning("hep.unresolved", host=self._host, error=str(failure))
            return
        self._socket = made

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

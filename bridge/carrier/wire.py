"""Sockets of the carrier: TCP connections and the UDP socket, whole messages in and out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Protocol, cast

from bridge.sip.framing import PING, Broken, StreamFramer
from bridge.sip.message import ParseError, Request, Response, parse

Address = tuple[str, int]


class Peer(Protocol):
    """Where a message came from and may be answered to."""

    transport_name: str  # "TCP" | "TLS" | "UDP"
    remote: Address
    closed: bool

    def send(self, data: bytes) -> None:
        """Send one whole message; nothing happens when the peer is gone."""

    def close(self) -> None:
        """Close the connection; a UDP peer has none."""


Receiver = Callable[[Request | Response, Peer], None]
Rejecter = Callable[[ParseError], None]


class Stream(asyncio.Protocol):
    """One TCP or TLS connection."""

    def __init__(
        self,
        receive: Receiver,
        reject: Rejecter,
        lost: Callable[[Stream], None],
        *,
        transport_name: str = "TCP",
    ) -> None:
        self.transport_name = transport_name
        self.remote: Address = ("", 0)
        self.closed = False
        self._receive = receive
        self._reject = reject
        self._lost = lost
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.remote = transport.get_extra_info("peername")[:2]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.closed = True
        self._lost(self)
        if not self._gone.done():
            self._gone.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until a closed connection is gone."""
        if self._transport is not None:
            await self._gone

    def data_received(self, data: bytes) -> None:
        for frame in self._framer.feed(data):
            if isinstance(frame, bytes):
                _deliver(frame, self, self._receive, self._reject)
            elif isinstance(frame, Broken):
                self._reject(frame.error)
                self.close()
            elif frame is PING:
                self.send(b"\r\n")

    def send(self, data: bytes) -> None:
        """Write *data*; dropped when the connection is closed."""
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    def close(self) -> None:
        """Close after what was written."""
        self.closed = True
        if self._transport is not None:
            self._transport.close()


class Datagrams(asyncio.DatagramProtocol):
    """The UDP socket; one :class:`DatagramPeer` per remote address and message.

    *loss* is the share of datagrams, each way, that the network is made to lose.
    """

    def __init__(self, receive: Receiver, reject: Rejecter, *, loss: float = 0.0) -> None:
        self._receive = receive
        self._reject = reject
        self._loss = loss
        self._transport: asyncio.DatagramTransport | None = None
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self._lost.done():
            self._lost.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if data.strip(b"\r\n\0") and not self.loses_one():
            _deliver(data, self.peer(addr[:2]), self._receive, self._reject)

    def peer(self, remote: Address) -> DatagramPeer:
        """Return the peer at *remote*."""
        return DatagramPeer(self, remote)

    def loses_one(self) -> bool:
        """Whether the next datagram is lost, by chance."""
        return self._loss > 0 and random.random() < self._loss

    def send(self, data: bytes, remote: Address) -> None:
        """Send one datagram, unless it is lost."""
        assert self._transport is not None
        if not self.loses_one():
            self._transport.sendto(data, remote)

    async def close(self) -> None:
        """Close the socket and wait until it is."""
        if self._transport is not None:
            self._transport.close()
            await self._lost


class DatagramPeer:
    """A UDP address."""

    transport_name = "UDP"

    def __init__(self, socket: Datagrams, remote: Address) -> None:
        self.remote = remote
        self.closed = False
        self._socket = socket

    def send(self, data: bytes) -> None:
        self._socket.send(data, self.remote)

    def close(self) -> None:
        """There is no connection."""


def _deliver(data: bytes, peer: Peer, receive: Receiver, reject: Rejecter) -> None:
    try:
        message = parse(data)
    except ParseError as error:
        reject(error)
        return
    receive(message, peer)

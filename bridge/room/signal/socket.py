"""The websocket under LiveKit's signalling: open, send, receive, end; no decision."""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from bridge.room.seam import RoomError

MESSAGE_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of one message; a room of thousands is told of in one."""

QUEUE_LIMIT: Final = 1024
"""Messages that may wait to be written; a socket that takes none is dead."""

CLOSE_TIMEOUT: Final = 0.5

_silent = logging.getLogger("bridge.room.signal.websocket")
_silent.setLevel(logging.CRITICAL + 1)  # at DEBUG it would log the token and the attributes
_silent.propagate = False


class SocketRefused(RoomError):
    """The server, or a proxy before it, answered, and not with a websocket."""

    def __init__(self, status: int, *, about_room: bool = False) -> None:
        super().__init__(f"the room could not be joined: HTTP {status}")
        self.status = status
        self.about_room = about_room  # it understood us, and has no such room

    @property
    def speaks_otherwise(self) -> bool:
        """Whether this path is not known there."""
        return self.status in (404, 405) and not self.about_room

    @property
    def is_final(self) -> bool:
        """Whether asking again is no use."""
        return 400 <= self.status < 500 and self.status not in (408, 425, 429)


class SocketFailed(RoomError):
    """No websocket came about."""

    def __init__(self) -> None:
        super().__init__("the room could not be joined: the server is not reached")


class Socket:
    """One open websocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._waiting: deque[bytes] = deque()
        self._writer: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str, path: str, token: str, *, timeout: float) -> Socket:
        """Open *path* on the server at *url* (ws, wss, http or https). Raises `RoomError`."""
        address = websocket_url(url)
        try:
            async with asyncio.timeout(timeout):
                connection = await connect(
                    address + path,
                    additional_headers={"Authorization": f"Bearer {token}"},
                    user_agent_header="trunkbridge",
                    compression=None,
                    proxy=None,
                    ssl=_tls() if address.startswith("wss:") else None,
                    open_timeout=None,
                    ping_interval=None,
                    close_timeout=CLOSE_TIMEOUT,
                    max_size=MESSAGE_LIMIT,
                    max_queue=None,
                    logger=_silent,
                )
        except InvalidStatus as error:
            body = (error.response.body or b"")[:256]
            raise SocketRefused(
                error.response.status_code, about_room=b"room" in body.lower()
            ) from None
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI, WebSocketException) as error:
            raise SocketFailed from error
        return cls(connection)

    def send(self, data: bytes) -> None:
        """Send one binary message, in order, as soon as the network takes it."""
        if len(self._waiting) >= QUEUE_LIMIT:
            self.abort()
            return
        self._waiting.append(data)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield every binary message until the socket ends, however it does."""
        try:
            async for message in self._connection:
                if isinstance(message, bytes):
                    yield message
        except (ConnectionClosed, OSError):
            return

    async def ended(self, timeout: float) -> None:
        """Wait until the server has closed the socket, at most *timeout* seconds."""
        ending = asyncio.ensure_future(self._connection.wait_closed())
        await asyncio.wait({ending}, timeout=timeout)
        ending.cancel()

    def abort(self) -> None:
        """End it at once: it is dead, or nobody is to hear of it."""
        self._waiting.clear()
        self._connection.transport.abort()

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._connection.send(self._waiting.popleft())
        except (ConnectionClosed, OSError):
            self._waiting.clear()
        finally:
            self._writer = None


def websocket_url(url: str) -> str:
    """Return *url* with a websocket's scheme and without a slash at its end."""
    if url.startswith("http"):
        url = "ws" + url.removeprefix("http")
    return url.rstrip("/")


@functools.cache
def _tls() -> ssl.SSLContext:
    """Return the default context, made once: loading the roots takes tens of milliseconds."""
    return ssl.create_default_context()

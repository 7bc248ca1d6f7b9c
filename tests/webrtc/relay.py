"""A TCP relay before a livekit-server: with TLS, without a path, and with a pair of scissors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import urlsplit

HEAD_LIMIT = 64 * 1024
CHUNK = 64 * 1024


class Relay:
    """Passes connections on to the server at *url*.

    Requests for *refused* paths are answered 404, as a server does that does not know them.
    """

    def __init__(
        self, url: str, *, tls: ssl.SSLContext | None = None, refused: Collection[str] = ()
    ) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._tls = tls
        self._refused = frozenset(refused)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.paths: list[str] = []  # of every request that came

    async def start(self) -> str:
        """Listen on a free port of loopback; return the URL."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._tls, limit=HEAD_LIMIT
        )
        port = self._server.sockets[0].getsockname()[1]
        return f"{'wss' if self._tls else 'ws'}://127.0.0.1:{port}"

    def cut(self) -> int:
        """Break every connection that stands; return how many."""
        writers = list(self._writers)
        for writer in writers:
            writer.transport.abort()
        return len(writers)

    async def stop(self) -> None:
        """Break everything and listen no more."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._relay(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode().partition("?")[0]
        self.paths.append(path)
        if path in self._refused:
            writer.write(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            await writer.drain()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        try:
            far_writer.write(head)
            up = asyncio.ensure_future(_pump(reader, far_writer))
            down = asyncio.ensure_future(_pump(far_reader, writer))
            try:
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in (up, down):
                    one.cancel()
                await asyncio.wait({up, down})
        finally:
            far_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()

"""The way to a livekit-server's signalling, to be cut: a TCP relay of loopback."""

from __future__ import annotations

import asyncio
import contextlib


class Cable:
    """Relays connections to *port* until it is cut; media takes another way."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._stalled = asyncio.Event()
        self._stalled.set()
        self.port = 0
        self.accepted = 0

    async def plug(self) -> None:
        """Accept connections, at the same port as before."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def unplug(self) -> None:
        """Refuse connections, and cut those that are there."""
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """End the connections that are there, without a word."""
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Cut, and pass nothing on of the connections to come."""
        self._stalled.clear()
        self.cut()

    def go_on(self) -> None:
        """Pass everything on again."""
        self._stalled.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        try:
            await self._stalled.wait()
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
                self._writers.add(far_writer)
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            await asyncio.sleep(0)
            writer.write(data)
            await writer.drain()
    writer.transport.abort()

"""The way to a livekit-server's signalling, to be cut: a TCP relay of loopback.

It may change what the server says of its media port (`relay` is there then), and say
something in the client's place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct

PATIENCE = 0.02  # seconds for the other half of what may be a port
NOTHING_MORE = b"nothing more"
OF_OLD = (b"GET /rtc/v1", b"GET /rtc/v0")  # there is no such path: 404


class Cable:
    """Relays connections to *port* until it is cut; media takes another way.

    *media*: the server's UDP port, and the one that its candidates shall name instead. Both
    have as many digits, so that no length of a message changes. *old*: a server that does not
    know ``/rtc/v1`` yet.
    """

    def __init__(
        self, port: int, media: tuple[int, int] | None = None, *, old: bool = False
    ) -> None:
        self._target = port
        self._paths = OF_OLD if old else (b"", b"")
        self._media = (b"", b"")
        if media is not None:
            real, told = (f" {one} typ".encode() for one in media)
            assert len(real) == len(told)
            self._media = real, told
        self._far_writers: set[asyncio.StreamWriter] = set()
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

    def say(self, message: bytes) -> None:
        """Send a binary message to the server in the client's place, by every websocket.

        The client must be silent meanwhile: a frame of its own is not to be cut in two.
        RFC 6455 5.2: masked, as all that a client sends.
        """
        assert len(message) < 126
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(message))
        for writer in self._far_writers:
            writer.write(struct.pack("!BB", 0x82, 0x80 | len(message)) + mask + masked)

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
                self._far_writers.add(far_writer)
                try:
                    back = _pump(far_reader, writer, *self._media)
                    await asyncio.gather(_pump(reader, far_writer, *self._paths), back)
                finally:
                    self._far_writers.discard(far_writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, real: bytes = b"", told: bytes = b""
) -> None:
    kept = b""
    with contextlib.suppress(OSError):
        while data := await _more(reader, PATIENCE if kept else None):
            if data is NOTHING_MORE:
                data, kept = kept, b""
            elif real:
                data, kept = _rewritten(kept + data, real, told)
            await asyncio.sleep(0)
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def _more(reader: asyncio.StreamReader, within: float | None) -> bytes:
    """Return what came next, `NOTHING_MORE` if nothing does for a while, b"" at the end."""
    try:
        return await asyncio.wait_for(reader.read(65536), within)
    except TimeoutError:
        return NOTHING_MORE


def _rewritten(data: bytes, real: bytes, told: bytes) -> tuple[bytes, bytes]:
    """Return *data* with *told* for *real*, and its end if that may be the half of one."""
    data = data.replace(real, told)
    for size in range(len(real) - 1, 0, -1):
        if data.endswith(real[:size]):
            return data[:-size], data[-size:]
    return data, b""

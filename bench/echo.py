"""The floor: an event loop that frames requests and writes one fixed answer to each INVITE.

``python bench/echo.py CORE STATUS``; prints its port.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys

import uvloop

_LENGTH = re.compile(rb"\r\nContent-Length: *([0-9]+)")
_FIELDS = re.compile(rb"\r\n(Via:[^\r]+|From:[^\r]+|To:[^\r]+|Call-ID:[^\r]+|CSeq:[^\r]+)")


class Echo(asyncio.Protocol):
    """Answers with the five fields that an answer needs; nothing is parsed or kept."""

    def __init__(self, line: bytes) -> None:
        self._line = line
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        at = 0
        out: list[bytes] = []
        while (end := buffer.find(b"\r\n\r\n", at)) >= 0:
            found = _LENGTH.search(buffer, at, end + 2)
            size = end + 4 - at + (int(found[1]) if found else 0)
            if len(buffer) - at < size:
                break
            if buffer.startswith(b"INVITE ", at):
                fields = b"\r\n".join(_FIELDS.findall(buffer, at, end))
                out += [self._line, fields, b"\r\nContent-Length: 0\r\n\r\n"]
            at += size
        self._buffer = buffer[at:]
        if out:
            self._transport.write(b"".join(out))  # type: ignore[attr-defined]


async def serve(line: bytes) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: Echo(line), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    uvloop.install()
    asyncio.run(serve(b"SIP/2.0 " + sys.argv[2].encode() + b" Refused\r\n"))

"""HTTP/1.1 as it is read from the wire, by llhttp, with limits to what a peer may send.

The parser keeps what it has not understood yet: a head or a trailer that does not end would
be kept for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD: Final = 64 * 1024
"""Bytes of a request until its body begins."""

WHOLE: Final = 8 * 1024 * 1024
"""Bytes of a request on the wire; of a body `bridge.api.auth.MAX_BODY` is let through, and a
chunk of one byte is five of overhead."""


CONNECTIONS: Final = 2048
"""Open at once: descriptors that calls need, too."""

HEAD_WITHIN: Final = 10.0
"""Seconds for a request until its body begins, from the connection or its first byte."""

BODY_WITHIN: Final = 30.0
"""Seconds for its body."""


class BadHead(Exception):
    """The head of a request that is answered with 400."""


class Wire(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._got = 0  # bytes of the request that is being read
        self._in_head = True
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever; one connection too many is closed."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
            return
        self._wait(HEAD_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        self._wait(None)
        super().connection_lost(exc)

    def _wait(self, seconds: float | None) -> None:
        """Give the peer *seconds* for what comes next; None: it has said what it has to."""
        if self._patience is not None:
            self._patience.cancel()
        self._patience = None if seconds is None else self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read what there is, unless it is too much."""
        if self._patience is None and self._in_head:  # the first byte of another request
            self._wait(HEAD_WITHIN)
        if self._got > (HEAD if self._in_head else WHOLE):
            self.send_400_response("Too large.")
            return
        self._got += len(data)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        # RFC 9112 3.2: A server MUST respond with a 400 (Bad Request) status code to any
        # HTTP/1.1 request message that lacks a Host header field and to any request message
        # that contains more than one Host header field line.
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise BadHead
        self._in_head = False
        self._wait(BODY_WITHIN)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Begin anew."""
        self._got = 0
        self._in_head = True
        self._wait(None)
        super().on_message_complete()

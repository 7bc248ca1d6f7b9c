"""uvicorn in a thread and loop of its own, so that no request delays a call."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Final

import uvicorn
from fastapi import FastAPI

from bridge.api.wire import Wire
from bridge.errors import BridgeError

STALLED_AFTER: Final = 30_000
"""Milliseconds; a stream's keep-alive makes sure that there is something to read."""


class ApiServer:
    """Serves *app* on an address; `start` returns when it listens.

    A connection whose client has read nothing for *stalled_after* milliseconds, although
    there was something to read, is closed.
    """

    def __init__(
        self, app: FastAPI, host: str, port: int, *, stalled_after: int = STALLED_AFTER
    ) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._stalled_after = stalled_after
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; the real port once started."""
        return self._host, self._port

    async def start(self) -> None:
        """Listen. Raises `BridgeError` when the address is taken."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by connections: whoever takes nothing of what we send is gone in the end.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._stalled_after)
        try:
            listener.bind((self._host, self._port))
            listener.listen(128)
        except OSError as failure:
            listener.close()
            why = failure.strerror or str(failure)
            raise BridgeError(f"http.listen: {self._host}:{self._port}: {why}") from failure
        self._port = listener.getsockname()[1]
        settings = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            http=Wire,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(settings)
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._serve, args=(listener, started), name="http", daemon=True
        )
        self._thread.start()
        await asyncio.to_thread(started.wait, 10)

    def _serve(self, listener: socket.socket, started: threading.Event) -> None:
        assert self._server is not None
        server = self._server

        async def serve() -> None:
            started.set()
            await server.serve(sockets=[listener])

        asyncio.run(serve())

    async def answers(self) -> bool:
        """Whether ``GET /healthz`` gets 200 over a connection of its own; the caller waits.

        Tells a server whose thread has ended or is stuck from one that lives.
        """
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        try:
            reader, writer = await asyncio.open_connection(host, self._port)
        except OSError:
            return False
        try:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return (await reader.readline()).split(b" ")[1:2] == [b"200"]
        except OSError:
            return False
        finally:
            writer.close()

    async def stop(self) -> None:
        """Finish running requests, then stop."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        await asyncio.to_thread(self._thread.join, 5)

"""A receiver as an application would write it: checks every signature as seed 004 shows."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from tests.serving import serving

SECRET: Final = "s3cr3t-of-the-webhook-ü"
NODE: Final = shutil.which("node")

Behave = Callable[["Heard"], Awaitable[web.StreamResponse | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A request as it came. ``nth``: of this delivery id, from 1."""

    path: str
    headers: dict[str, str]
    raw: bytes
    at: float
    nth: int

    @property
    def delivery(self) -> str:
        return self.headers["X-Trunkbridge-Delivery"]

    @property
    def body(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.raw)
        return document


async def verified(request: web.Request, webhook_secret: str) -> bytes:
    """Seed 004's Python snippet, with our prefix; `request.body()` is Starlette's name."""
    raw_body = await request.read()  # bytes — do not re-serialize
    received = request.headers["X-Trunkbridge-Signature"]  # e.g. "sha256=abc123..."
    expected = "sha256=" + hmac.new(webhook_secret.encode(), raw_body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(expected, received)
    return raw_body


@dataclass(slots=True)
class Receiver:
    """What it heard, and how it answers: by *behave*, 200 when that returns None."""

    behave: Behave | None = None
    heard: list[Heard] = field(default_factory=list)
    refused: int = 0
    url: str = ""
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        try:
            raw = await verified(request, SECRET)
        except (AssertionError, KeyError):
            self.refused += 1
            return web.Response(status=401)
        delivery = request.headers["X-Trunkbridge-Delivery"]
        one = Heard(
            path=request.path_qs,
            headers=dict(request.headers),
            raw=raw,
            at=time.monotonic(),
            nth=1 + sum(h.delivery == delivery for h in self.heard),
        )
        async with self._news:
            self.heard.append(one)
            self._news.notify_all()
        answer = await self.behave(one) if self.behave is not None else None
        return answer if answer is not None else web.Response(text="ok")

    async def until(self, enough: Callable[[list[Heard]], bool], seconds: float = 8.0) -> None:
        """Wait until what was heard is *enough*."""
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: enough(self.heard))


@asynccontextmanager
async def receiving(behave: Behave | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver on a free port of loopback."""
    receiver = Receiver(behave)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.answer)
    async with serving(app, shutdown_timeout=0.1) as port:
        receiver.url = f"http://127.0.0.1:{port}/hook"
        yield receiver


@asynccontextmanager
async def raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Run a server that speaks as *talk* does; yields its URL."""
    talking: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/raw"
    finally:
        server.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)

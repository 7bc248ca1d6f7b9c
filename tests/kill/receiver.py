"""A webhook receiver as customers have them: it checks the signature, and is not always well."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from tests.kill.ledger import Delivery, Ledger
from tests.serving import serving

ILL = 0.08  # of the requests are answered 500
DEAF = 0.04  # are taken, and the answer is lost


class Receiver:
    """Listens on loopback; once it is open. `heard` is told of each request."""

    def __init__(
        self,
        ledger: Ledger,
        chance: random.Random,
        *,
        secret: str,
        prefix: str = "X-Trunkbridge-",
    ) -> None:
        self.url = ""
        self.well = False  # True: every request is taken
        self.heard: Callable[[str], None] = lambda _: None
        self._ledger = ledger
        self._chance = chance
        self._secret = secret
        self._prefix = prefix

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen until the end of the block."""
        app = web.Application()
        app.router.add_post("/hook", self._take)
        async with serving(app) as port:
            self.url = f"http://127.0.0.1:{port}/hook"
            yield

    async def _take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        signature = request.headers.get(f"{self._prefix}Signature", "")
        wanted = "sha256=" + hmac.new(self._secret.encode(), raw, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signature, wanted):
            self._ledger.fault(f"a webhook with a wrong signature: {signature[:20]}")
            return web.Response(status=401)
        ill = not self.well and self._chance.random() < ILL
        one = Delivery(
            id=request.headers.get(f"{self._prefix}Delivery", ""),
            event=request.headers.get(f"{self._prefix}Event", ""),
            body=json.loads(raw),
            taken=not ill,
        )
        self._ledger.deliveries.append(one)
        self._ledger.done["webhook refused" if ill else "webhook"] += 1
        self.heard("webhook")
        if ill:
            return web.Response(status=500)
        if not self.well and self._chance.random() < DEAF and request.transport is not None:
            request.transport.abort()
        return web.Response(status=204)

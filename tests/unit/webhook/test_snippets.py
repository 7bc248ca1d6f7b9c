"""Seed 004's own snippets, verbatim, verify what we send."""

from __future__ import annotations

import asyncio
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bridge.webhook.outbox import Claimed
from bridge.webhook.sender import Sender, Settings
from tests.serving import serving
from tests.unit.webhook.receiver import NODE, SECRET

pytestmark = pytest.mark.unit

PYTHON = """\
import hmac, hashlib

raw_body = await request.body()                            # bytes — do not re-serialize
received = request.headers["X-CallMissed-Signature"]       # e.g. "sha256=abc123..."
expected = "sha256=" + hmac.new(
    webhook_secret.encode(), raw_body, hashlib.sha256
).hexdigest()
assert hmac.compare_digest(expected, received)
"""

JAVASCRIPT = """\
const received = req.headers["x-callmissed-signature"];   // "sha256=..."
const expected = "sha256=" + crypto
  .createHmac("sha256", webhookSecret)
  .update(rawBody)                                        // raw Buffer / string
  .digest("hex");

if (!crypto.timingSafeEqual(Buffer.from(expected), Buffer.from(received))) {
  return res.status(401).send("invalid signature");
}
"""

RECEIVER = """\
import crypto from "node:crypto";
import http from "node:http";
const webhookSecret = process.argv[2];
function verify(req, res, rawBody) {
%s
  return res.status(200).send("ok");
}
const server = http.createServer((req, res) => {
  const parts = [];
  req.on("data", (part) => parts.push(part));
  req.on("end", () => {
    res.status = (code) => { res.statusCode = code; return res; };
    res.send = (text) => res.end(text);
    verify(req, res, Buffer.concat(parts));
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""


async def sent_to(url: str, *, secret: str = SECRET) -> int | None:
    """Send one delivery; return the status of the answer."""
    claimed = Claimed(
        id="0b9f8d0c-2c1e-5d46-9a53-5d6f0a7c1e22",
        seq=4,
        call_id="c1",
        event="call.answered",
        url=url,
        receiver=url,
        body='{"event":"call_answered","who":"J\\u00fcrgen","spaced": "as it is"}',
        attempts=0,
        give_up_at=0.0,
    )
    settings = Settings(secret=secret, header_prefix="X-CallMissed-", allow_private=True)
    async with Sender(settings, clock=time.time, connections=1) as sender:
        answer = await sender.send(claimed)
    assert answer.error == ""
    return answer.status


class Request:
    """A request as Starlette has it."""

    def __init__(self, inner: web.Request) -> None:
        self._inner = inner
        self.headers = inner.headers

    async def body(self) -> bytes:
        return await self._inner.read()


@pytest.mark.parametrize(("secret", "status"), [(SECRET, 200), ("another", 401)])
async def test_the_python_snippet_verifies(secret: str, status: int) -> None:
    names: dict[str, Any] = {}
    code = "async def verify(request, webhook_secret):\n" + textwrap.indent(PYTHON, "    ")
    exec(code, names)

    async def answer(request: web.Request) -> web.Response:
        try:
            await names["verify"](Request(request), SECRET)
        except AssertionError:
            return web.Response(status=401)
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", answer)
    async with serving(app) as port:
        assert await sent_to(f"http://127.0.0.1:{port}/hook", secret=secret) == status


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize(("secret", "status"), [(SECRET, 200), ("another", 401)])
async def test_the_javascript_snippet_verifies(tmp_path: Path, secret: str, status: int) -> None:
    assert NODE is not None
    script = tmp_path / "receiver.mjs"
    script.write_text(RECEIVER % textwrap.indent(JAVASCRIPT, "  "), "utf-8")
    process = await asyncio.create_subprocess_exec(
        NODE, str(script), SECRET, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        assert await sent_to(f"http://127.0.0.1:{int(line)}/hook", secret=secret) == status
    finally:
        process.kill()
        await process.communicate()

"""Asks a daemon's API at a rate: ``python bench/asker.py``, one JSON object on standard input.

``url`` (host, port), ``rate`` a second, ``seconds``, ``asks``: a list of ``[name, weight,
request]``, each request the bytes of one HTTP request as text. They are begun by the clock,
whether or not earlier ones are answered; a latency runs from when it was begun, a wait for one
of the connections included, and ``late`` is how late that was by the clock. Prints
``{"begun": wall time}`` and then ``{"late": [...], "asked": {name: [[status, seconds], ...]}}``.
Nothing of the bridge is imported, and no HTTP library: it must cost less than what it measures.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from typing import Any

CONNECTIONS = 32


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self) -> None:
        self.buffer = b""
        self.answer: asyncio.Future[int] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Look for the end of the answer."""
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found or self.answer is None:
            return
        lowered = head.lower()
        at = lowered.find(b"content-length:")
        if at >= 0:
            length = int(lowered[at + 15 :].split(b"\r\n", 1)[0])
            if len(body) < length:
                return
        elif not body.endswith(b"0\r\n\r\n"):  # chunked
            return
        self.buffer = b""
        answer, self.answer = self.answer, None
        if not answer.done():
            answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that was awaited does not come."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(0)

    async def ask(self, request: bytes) -> int:
        """Return the status."""
        assert self.transport is not None
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer


async def run(given: dict[str, Any]) -> None:
    """Ask until the time is over, wait for what is open, print."""
    host, port = given["url"]
    rate, seconds = float(given["rate"]), float(given["seconds"])
    asks = [(name, weight, text.encode()) for name, weight, text in given["asks"]]
    loop = asyncio.get_running_loop()
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        _, connection = await loop.create_connection(Connection, host, port)
        free.put_nowait(connection)
    chance = random.Random(7)
    weights = [weight for _, weight, _ in asks]
    asked: dict[str, list[tuple[int, float]]] = {name: [] for name, *_ in asks}
    late: list[float] = []

    async def one(name: str, request: bytes, due: float) -> None:
        connection = await free.get()
        status = await connection.ask(request)
        asked[name].append((status, time.perf_counter() - due))
        if status == 0:
            _, connection = await loop.create_connection(Connection, host, port)
        free.put_nowait(connection)

    sys.stdout.write(json.dumps({"begun": time.time()}) + "\n")
    sys.stdout.flush()
    began = time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()
    for number in range(round(rate * seconds)):
        due = began + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        late.append(time.perf_counter() - due)
        name, _, request = chance.choices(asks, weights)[0]
        task = loop.create_task(one(name, request, time.perf_counter()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    sys.stdout.write(json.dumps({"late": late, "asked": asked}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    document = json.loads(sys.stdin.readline())
    if document.get("core") is not None:
        os.sched_setaffinity(0, {document["core"]})
    asyncio.run(run(document))

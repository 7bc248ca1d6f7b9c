"""300 API calls a second on a daemon with one core, while 20 calls run.

Blocks with the load and without take turns, on the same daemon and the same calls: what the
API takes, and what it does to the calls (``call_hold`` at a stock agent, RTP towards the
carrier). Calls of the API that dial go to a trunk whose carrier is busy.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from bench.calls import Calls, Holder, running
from bench.local import CORE, elsewhere
from bench.pacing import deviations
from bench.table import Row, row
from bench.usage import Usage
from tests.system.harness import Desk

CALLS = 20
AGENTS = 5
RATE = 300.0
BLOCK = 10.0  # seconds
BLOCKS = 3  # with the load, and as many without
TARGET = 50.0  # ms, p99 of the API
MIX = {
    "GET a call": 30,
    "GET its events": 20,
    "GET a page of 20 calls": 20,
    "GET the active calls": 14,
    "POST a call, refused (422)": 8,
    "POST a call again, same key (201)": 7.7,
    "POST a call, dialled (201)": 0.3,
}


async def measure(desk: Desk, servers: list[int], store: str = "") -> list[Row]:
    """Return the rows of this bench, on the default store or on *store*."""
    sections: dict[str, Mapping[str, Any]] = {"store": {"url": store}} if store else {}
    with elsewhere():
        async with running(
            desk, calls=CALLS, agents=AGENTS, core=CORE, servers=servers, sections=sections
        ) as calls:
            return await _measured(calls, "PostgreSQL" if store else "SQLite")


async def _measured(calls: Calls, name: str) -> list[Row]:
    asks = await _asks(calls)
    usage = Usage({"bridge": [calls.bridge.pid], "carrier and bench": [os.getpid()]})
    windows: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    holds: dict[bool, list[float]] = {True: [], False: []}
    answers: list[dict[str, Any]] = []
    with Holder(calls) as holder:
        for number in range(2 * BLOCKS):
            loaded = number % 2 == 1
            since = time.time()
            asker = await _asker(calls, asks) if loaded else None
            while time.time() < since + BLOCK:
                holds[loaded].append(await holder.hold())
            windows[loaded].append((since, time.time()))
            if asker is not None:
                answers.append(await _answered(asker))
    print(f"{usage.report()}; load average {os.getloadavg()[0]:.1f}; store {name}")
    return _rows(calls, name, windows, holds, answers)


async def _asks(calls: Calls) -> list[tuple[str, float, str]]:
    """Return the requests of `MIX`; the calls that they are about are made first."""
    bridge = calls.bridge
    async with httpx.AsyncClient(base_url=bridge.url, timeout=30) as http:
        running_now = (await http.get("/api/v1/calls/active")).json()
        known = str(running_now[0]["id"])
        host = f"127.0.0.1:{bridge.http_port}"
        dial = {"phone_number": "+919000000000", "trunk": "carrier", "ring_timeout": 5}
        again = {"Idempotency-Key": "the same again"}
        (await http.post("/api/v1/calls", json=dial, headers=again)).raise_for_status()

    def get(path: str) -> str:
        return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"

    def post(body: Mapping[str, Any], *more: str) -> str:
        text = json.dumps(body)
        lines = (
            "POST /api/v1/calls HTTP/1.1",
            f"Host: {host}",
            "Content-Type: application/json",
            f"Content-Length: {len(text)}",
            *more,
        )
        return "\r\n".join(lines) + f"\r\n\r\n{text}"

    texts = (
        get(f"/api/v1/calls/{known}"),
        get(f"/api/v1/calls/{known}/events"),
        get("/api/v1/calls?page_size=20"),
        get("/api/v1/calls/active"),
        post({**dial, "phone_number": "none"}),
        post(dial, "Idempotency-Key: the same again"),
        post(dial),
    )
    return [(what, weight, text) for (what, weight), text in zip(MIX.items(), texts, strict=True)]


async def _asker(calls: Calls, asks: list[tuple[str, float, str]]) -> asyncio.subprocess.Process:
    asker = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("asker.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    given = {
        "url": ["127.0.0.1", calls.bridge.http_port],
        "rate": RATE,
        "seconds": BLOCK,
        "asks": asks,
    }
    assert asker.stdin is not None
    assert asker.stdout is not None
    asker.stdin.write(json.dumps(given).encode() + b"\n")
    asker.stdin.write_eof()
    await asker.stdout.readline()  # it has begun
    return asker


async def _answered(asker: asyncio.subprocess.Process) -> dict[str, Any]:
    assert asker.stdout is not None
    answer: dict[str, Any] = json.loads(await asker.stdout.readline())
    await asker.wait()
    return answer


def _rows(
    calls: Calls,
    name: str,
    windows: Mapping[bool, list[tuple[float, float]]],
    holds: Mapping[bool, list[float]],
    answers: list[dict[str, Any]],
) -> list[Row]:
    took: dict[str, list[float]] = {what: [] for what in MIX}
    statuses: Counter[str] = Counter()
    for answer in answers:
        for what, some in answer["asked"].items():
            took[what] += [seconds for _, seconds in some]
            statuses.update(f"{what}: {status}" for status, _ in some)
    print(", ".join(f"{what} x{count}" for what, count in sorted(statuses.items())))
    late = [seconds for answer in answers for seconds in answer["late"]]
    whole = [seconds for some in took.values() for seconds in some]
    beside = f"{RATE:g} a second, {CALLS} calls, one core, {name}"
    rows = [
        row(f"API on {name}, all", whole, beside=f"{beside}; wanted p99 <= {TARGET:g}"),
        *(row(f"  {what}", some, beside=beside) for what, some in took.items()),
        row("  the asker's own lateness", late, beside=beside),
    ]
    for loaded in (True, False):
        with_it = "with the API's load" if loaded else "without"
        without = "" if not loaded else "without"
        heard = [leg.media.heard for leg in calls.legs]
        gaps = [gap for since, until in windows[loaded] for gap in deviations(heard, since, until)]
        rows.append(
            row(
                f"call_hold, {with_it}",
                holds[loaded],
                beside=beside,
                floor=f"call_hold, {without}" if without else "",
            )
        )
        rows.append(
            row(
                f"|gap - 20 ms| of RTP, {with_it}",
                gaps,
                beside=f"{beside}; {sum(one.lost for one in heard)} lost in all",
                floor=f"|gap - 20 ms| of RTP, {without}" if without else "",
            )
        )
    return rows

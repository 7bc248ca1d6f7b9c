"""The rows of docs/carrier-rows.md that show from outside, by SIPp against the running daemon."""

from __future__ import annotations

import asyncio
import re
from itertools import cycle
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.system.harness import Bridge, Desk, Sipp, now_number
from tests.system.sipp_rows import CALLED, ROWS, STREAMS_ONLY, write
from tests.system.test_sipp import listening

pytestmark = pytest.mark.system

CALLER = "+919876543210"
TURNS = 6  # of a scenario that is told to come later
HOSTS = cycle(f"127.0.2.{n}" for n in range(1, 255))  # each SIPp has all ports to itself
AT_ONCE = 3  # scenarios under way together


def scenario(folder: Path, name: str, *, port: int, **options: object) -> Sipp:
    """Return a SIPp with the scenario of a row."""
    place = folder / f"row-{name.replace(' ', '-')}-{port}"
    place.mkdir()
    file = write(place, name)
    return Sipp(folder=place, scenario=str(file.with_suffix("")), port=port, **options)  # type: ignore[arg-type]


async def call_the_bridge(desk: Desk, bridge: Bridge, name: str, transport: str) -> str | None:
    """Run a scenario that calls; return what went wrong.

    A bridge that is behind refuses new calls with 503, which is no matter of these rows: the
    caller comes again when it was told to, as a carrier would.
    """
    for _ in range(TURNS):
        sipp = scenario(
            desk.folder,
            name,
            port=free_port(),
            host=next(HOSTS),
            target=f"127.0.0.1:{bridge.sip_port}",
            transport=transport,
            keys={"number": now_number(), "caller": CALLER},
        )
        try:
            await sipp.start()
            status = await sipp.ended()
        finally:
            await sipp.stop()
        if status == 0:
            return None
        later = re.search(r"^SIP/2.0 503 .*?^Retry-After: (\d+)", sipp.messages, re.M | re.S)
        if later is None:
            break
        await asyncio.sleep(min(int(later[1]), 10))
    return f"{name}: {sipp.story()}"


@pytest.mark.parametrize("transport", ["t1", "u1"])
async def test_sipp_calls_and_every_row_is_answered_as_it_says(desk: Desk, transport: str) -> None:
    """Rows 20, 24, 25, 26, 27, 33, 35, 38, 39, 50, 51, 53, 54, 59, 60, 61, 62, 65, 66, 67, 97, 98.

    By SIPp, from outside.
    """
    bridge = await desk.bridge()
    turns = asyncio.Semaphore(AT_ONCE)

    async def run(name: str) -> str | None:
        async with turns:
            return await call_the_bridge(desk, bridge, name, transport)

    names = [name for name in ROWS if transport != "u1" or name not in STREAMS_ONLY]
    assert [failure for failure in await asyncio.gather(*map(run, names)) if failure] == []


async def test_sipp_is_called_and_every_row_is_met_as_it_says(desk: Desk) -> None:
    """Rows 23, 24, 29, 30, 57, 58. By SIPp, from outside."""
    port = free_port()
    bridge = await desk.bridge(port)
    for name in CALLED:
        sipp = scenario(desk.folder, name, port=port, target="")
        await sipp.start()
        await listening(port)
        call = await bridge.dial("+919000000005")
        await sipp.passed()
        await bridge.ended(call.id)
        await sipp.stop()

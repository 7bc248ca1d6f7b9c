"""``python -m bench [hold_latency] [pacing]``: measure, print a table and the ratios."""

from __future__ import annotations

import argparse
import asyncio
import platform
import tempfile
from pathlib import Path

from bench import hold_latency, pacing, room_return
from bench.table import Row, print_table
from tests.system.conftest import started_server
from tests.system.harness import AgentHost, Desk

BENCHES = {"hold_latency": hold_latency.measure, "pacing": pacing.measure}
BENCHES["room_return"] = room_return.measure


async def run(names: list[str], folder: Path) -> list[Row]:
    """Run the benches *names*, one after another, against one livekit-server."""
    rows: list[Row] = []
    private = started_server(folder)
    try:
        for name in names:
            place = folder / name
            place.mkdir()
            host = AgentHost(place / "agents.log")
            other = AgentHost(place / "floor.log")
            try:
                async with Desk(private.server, host, place) as desk:
                    rows += await BENCHES[name](desk, other)
            finally:
                host.stop()
                other.stop()
    finally:
        private.stop()
    return rows


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], metavar="BENCH")
    names = parser.parse_args().names or list(BENCHES)
    with tempfile.TemporaryDirectory(prefix="trunkbridge-bench-") as folder:
        rows = asyncio.run(run(names, Path(folder)))
    print(f"{platform.machine()}, Python {platform.python_version()}, loopback; times in ms")
    print_table(rows)


if __name__ == "__main__":
    main()

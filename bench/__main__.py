"""``python -m bench [NAME...]``: measure, print a table and the ratios."""

from __future__ import annotations

import argparse
import asyncio
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from bench import accepted, api_load, blaster, hold_latency, journal, pacing, refused, room_return
from bench.engines import report as engines_report
from bench.engines import run as engines
from bench.engines import steady
from bench.hold_latency import Scale
from bench.table import Row, print_table
from tests.system.conftest import PrivateLiveKit, started_server
from tests.system.harness import AgentHost, Desk

Bench = Callable[[Desk, PrivateLiveKit, Scale], Awaitable[list[Row]]]


async def _hold_latency(desk: Desk, livekit: PrivateLiveKit, scale: Scale) -> list[Row]:
    process = livekit.process
    return await hold_latency.measure(desk, scale, [] if process is None else [process.pid])


async def _pacing(desk: Desk, _livekit: PrivateLiveKit, _scale: Scale) -> list[Row]:
    return await pacing.measure(desk)


async def _journal(desk: Desk, livekit: PrivateLiveKit, scale: Scale) -> list[Row]:
    process = livekit.process
    return await journal.measure(desk, scale.holds, [] if process is None else [process.pid])


async def _api(desk: Desk, livekit: PrivateLiveKit, _scale: Scale) -> list[Row]:
    process = livekit.process
    return await api_load.measure(desk, [] if process is None else [process.pid])


async def _room_return(_desk: Desk, _livekit: PrivateLiveKit, _scale: Scale) -> list[Row]:
    return await room_return.measure()


BENCHES: dict[str, Bench] = {
    "hold_latency": _hold_latency,
    "pacing": _pacing,
    "room_return": _room_return,
    "journal": _journal,
    "api": _api,
}

LOCAL: dict[str, Callable[[Path], list[Row]]] = {
    "refused": lambda folder: refused.measure(folder, refused.Scale()),
    "accepted": lambda folder: accepted.measure(folder, accepted.Scale()),
    "blaster": lambda folder: blaster.measure(folder, blaster.Scale()),
}
"""Benches that need no livekit-server."""


async def run(names: list[str], scale: Scale, folder: Path) -> list[Row]:
    """Run the benches *names*, one after another, against one livekit-server."""
    rows: list[Row] = []
    private = started_server(folder)
    try:
        for name in names:
            place = folder / name
            place.mkdir()
            host = AgentHost(place / "agents.log")
            try:
                async with Desk(private.server, host, place) as desk:
                    rows += await BENCHES[name](desk, private, scale)
            finally:
                host.stop()
    finally:
        private.stop()
    return rows


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=["engines", "steady", *BENCHES, *LOCAL, []], metavar="BENCH"
    )
    parser.add_argument("--quick", action="store_true", help="engines: a minute or two, no search")
    parser.add_argument("--turns", type=int, help="engines: blocks of each arm (4)")
    parser.add_argument("--only", action="append", default=[], help="engines: this arm or part")
    parser.add_argument("--out", type=Path, default=engines_report.FOLDER, help="of engines")
    parser.add_argument("--calls", type=int, default=10, help="of hold_latency (default 10)")
    parser.add_argument(
        "--holds", type=int, default=250, help="of hold_latency and journal (default 250)"
    )
    parser.add_argument(
        "--agents-per-process", type=int, default=5, help="of hold_latency (default 5)"
    )
    parser.add_argument("--minutes", type=int, default=10, help="of steady (default 10)")
    given = parser.parse_args()
    if "steady" in given.names:
        sys.exit(asyncio.run(steady.main(given.minutes)))
    if not given.names or "engines" in given.names:
        plan = engines.QUICK if given.quick else engines.Plan()
        plan = replace(plan, only=tuple(given.only), turns=given.turns or plan.turns)
        failed = engines.main(plan, given.out)
        if given.names == ["engines"]:
            sys.exit(failed)
    scale = Scale(calls=given.calls, holds=given.holds, agents_per_process=given.agents_per_process)
    with tempfile.TemporaryDirectory(prefix="trunkbridge-bench-") as folder:
        place = Path(folder)
        rows = [
            one
            for name, bench in LOCAL.items()
            if not given.names or name in given.names
            for one in bench(place)
        ]
        names = [name for name in BENCHES if not given.names or name in given.names]
        if names:
            rows += asyncio.run(run(names, scale, place))
    print(f"{platform.machine()}, Python {platform.python_version()}, loopback; times in ms")
    print_table(rows)


if __name__ == "__main__":
    main()

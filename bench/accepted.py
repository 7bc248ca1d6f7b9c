"""200 INVITEs a second that are answered, acknowledged and hung up, on one TCP connection.

The daemon runs on one core, its room is a fake that is joined at once; SIP, offer and
answer, ports, RTP, the call and the journal are real. From the writing of an INVITE to its
200 as read. Interleaved, round by round, with the floor: an event loop that frames the same
bytes and writes one fixed answer.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from bench import local
from bench.caller import Caller
from bench.refused import Sum
from bench.table import Row, percentile, row

FLOOR = "framing and a fixed answer (480)"
ROUTES = [{"number": "*", "answer": "now"}]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured: INVITEs a second, seconds of a round and of a call, rounds."""

    rate: float = 200.0
    seconds: float = 5.0
    hold: float = 0.2
    rounds: int = 4


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Return the rows of this bench."""
    with (
        local.bridge(
            folder / "accepted",
            trunk={"max_calls": 1000},
            routes=ROUTES,
            options={"rate": 1e6, "burst": 1e6},
        ) as (port, pid),
        local.echo(480) as (floor_port, floor_pid),
        local.elsewhere(),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
    ):
        sink.bind(("127.0.0.1", 0))  # where their RTP goes; nobody reads it
        caller = Caller(port, "accepted", media_port=sink.getsockname()[1])
        floor = Caller(floor_port, "floor")
        caller.run(scale.rate / 4, 1.0, hold=scale.hold)
        floor.run(scale.rate / 4, 1.0)
        ours, bare = Sum(), Sum()
        for _ in range(scale.rounds):
            ours.add(caller, pid, scale.rate, scale.seconds, hold=scale.hold)
            bare.add(floor, floor_pid, scale.rate, scale.seconds)
        print(
            f"accepted: answers {ours.finals}, none {ours.unanswered}, BYE {ours.byes},"
            f" calls left {caller.running};"
            f" the daemon used {ours.share:.0f} % of its core, the floor {bare.share:.0f} %;"
            f" the caller was late by p99 {percentile(ours.late, 0.99) * 1000:.2f} ms;"
            f" {local.load()}"
        )
        caller.close()
        floor.close()
    beside = f"{scale.rate:g} INVITEs/s, {scale.rounds} rounds of {scale.seconds:g} s"
    return [
        row("INVITE -> 200", ours.latency, beside=beside, floor=FLOOR),
        row(FLOOR, bare.latency, beside=f"{beside} between them"),
    ]

"""The stock daemon with a door for the benches: ``python -m bench.opened run --config ...``.

The same command and the same `Daemon`, on the core ``BENCH_CORE`` if that is given. Its ledger
can leave out the write of a ``call_hold`` (that is the control arm) and says how long the
others took. The door (`tests.door`) takes ``journal on``, ``journal off``, or ``taken`` for the
writes since it was asked last.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Sequence
from typing import Any

from bridge import daemon as daemon_module
from bridge.__main__ import main
from bridge.adapters import Ledger
from bridge.call.ports import JournalRecord
from bridge.events import CallHold
from tests.door import OpenDaemon, run_as

CORE = "BENCH_CORE"


class TimedLedger(Ledger):
    """The daemon's ledger, with a watch on ``call_hold``."""

    written_first = True
    taken: list[tuple[float, float]] = []  # noqa: RUF012 (one ledger in a process)
    """Seconds the caller was held up, and until the event was safe."""

    def append(self, call_id: str, records: Sequence[JournalRecord]) -> Awaitable[None]:
        """Write, unless it is a ``call_hold`` of the control arm."""
        if not any(isinstance(record.event, CallHold) for record in records):
            return super().append(call_id, records)
        began = time.perf_counter()
        if not self.written_first:
            skipped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            skipped.set_result(None)
            return skipped
        done = asyncio.ensure_future(super().append(call_id, records))
        held_up = time.perf_counter() - began

        def safe(_: asyncio.Future[None]) -> None:
            self.taken.append((held_up, time.perf_counter() - began))

        if done.done():
            safe(done)
        else:
            done.add_done_callback(safe)
        return done


class OpenedDaemon(OpenDaemon):
    """Switches the ledger's watch."""

    def answer(self, what: str, how: str = "") -> Any:
        """Return what the watch has seen, or do as told."""
        match what:
            case "journal":
                TimedLedger.written_first = how == "on"
            case "switch":
                sys.setswitchinterval(float(how))
            case "taken":
                taken, TimedLedger.taken = TimedLedger.taken, []
                return taken
        return "ok"


daemon_module.Ledger = TimedLedger  # type: ignore[attr-defined]
run_as(OpenedDaemon)

if __name__ == "__main__":
    if CORE in os.environ:
        os.sched_setaffinity(0, {int(os.environ[CORE])})
    main()

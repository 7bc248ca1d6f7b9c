"""The stock daemon with a door for looking in: ``python -m tests.soak.inside run --config ...``.

The door (`tests.door`) answers each line with what no metric tells: tables, tasks, and how
many objects of a kind are alive.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
import threading
from collections import Counter
from typing import Any

from bridge.__main__ import main
from tests.door import OpenDaemon, run_as

POOL = "asyncio_"  # threads of the loop's executor: made when needed, then kept, bounded
OURS = ("bridge.", "rtp.", "sdp.", "livekit.rtc.")


class SeenDaemon(OpenDaemon):
    """A daemon that can be looked into."""

    def answer(self, what: str, how: str = "") -> dict[str, Any]:
        """Return what there is inside; ``deep`` looks at every object."""
        return self._look(deep=what == "deep")

    def _look(self, *, deep: bool) -> dict[str, Any]:
        if deep:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # what malloc only keeps is no leak
        endpoint, ports = self._endpoint, self._ports
        layer, courier = endpoint.layer, endpoint.layer.courier
        ports._wake()
        return {
            "calls": len(self.service.running),
            "ports": len(ports._taken) - len(ports._resting),
            "tasks": len(asyncio.all_tasks()) - 1,  # this one
            "sessions": len(endpoint.core.sessions),
            "dialogs": len(endpoint.core.dialogs),
            "transactions": len(layer.clients) + len(layer.servers),
            "deliveries": len(courier.deliveries) + len(courier.waiting),
            "timers": len(layer.agenda),
            "flows": len(endpoint.framers),
            "connections": len(self._agent._tcp._connections),
            "service": len(self.service._sessions) + len(self.service._limits._accepting),
            "journal": len(self._journal.open_calls()),
            "pool": sum(thread.name.startswith(POOL) for thread in threading.enumerate()),
            "blocks": sys.getallocatedblocks() if deep else 0,
            "kinds": kinds() if deep else {},
        }


def kinds() -> dict[str, int]:
    """How many objects of each class of ours, and of the SDK, are alive."""
    found: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        if kind.__module__.startswith(OURS):
            found[f"{kind.__module__}.{kind.__qualname__}"] += 1
    return dict(found)


run_as(SeenDaemon)

if __name__ == "__main__":
    main()

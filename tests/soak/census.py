"""What is counted during a soak, and the verdict: everything back where it began."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from livekit import api

from tests.system.harness import Server, room_service
from tests.system.opened import OpenBridge

# Must be nought when no call is up, whatever happened before.
ABSOLUTE = (
    *("calls", "ports", "sessions", "dialogs", "transactions", "deliveries", "timers"),
    *("flows", "connections", "service", "journal", "rooms", "participants"),
)
# Of those, what is nought a few seconds after the last call; SIP takes 64 * T1.
SOON = ("calls", "ports", "flows", "connections", "journal", "rooms", "participants")
# Must not be more than after the warm-up.
RELATIVE = ("tasks", "fds", "threads")

RSS_ROOM_MB = 24.0
"""What resident memory may grow by after the warm-up, whatever the length: libwebrtc keeps
its arenas and pools at the size of the busiest moment, glibc the heaps of each thread."""
RSS_PER_CALL_KB = 450.0
"""And by each call. Nearly all of it is the SDK's (livekit 1.1.21 to 1.2.1): leaving a room in
which somebody else publishes loses the peer connections for good, 220 to 350 kB, measured with
the bare SDK as well (livekit/rust-sdks#1378). What is ours is judged by `BLOCKS_PER_CALL`."""
BLOCKS_PER_CALL = 400
"""Objects of Python that a call may leave: bounded caches that still fill (ladders, claims)."""
BLOCKS_ROOM = 20_000
KIND_ROOM = 3
"""Objects of one class that may be left over (the last message of a connection and the like)."""
CACHES = (
    "bridge.ua.tap.Rung",
    "bridge.call.idempotency",
    "bridge.sip.message",
    "bridge.sip.uri",  # the last thousand that were read
    "bridge.sip.screening.Refusal",  # of the last half minute, forgotten by the next one
    "bridge.transport.udp._Peer",  # UDP peers of the last while; at most so many
    "bridge.sip.flow.Flow",  # one for each of those; those of TCP are counted
    "bridge.ua.watch",
    "bridge.events",  # they go with their `Call`, which is counted
)
CALL = "bridge.call.call.Call"


class SeenBridge(OpenBridge):
    """A daemon process whose inside can be looked at (`tests.soak.inside`)."""

    program = ("-m", "tests.soak.inside")

    async def look(self, *, deep: bool = False) -> dict[str, object]:
        """What the daemon says of its inside."""
        return dict(await self.ask("deep" if deep else "look"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Everything counted at one moment. ``at``: seconds of the steady clock; ``rss`` in MB."""

    at: float
    rss: float
    counts: dict[str, int]
    blocks: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    threads: Counter[str] = field(default_factory=Counter)

    def not_back(self, before: Census | None, absolute: tuple[str, ...] = ABSOLUTE) -> list[str]:
        """What is not where it was *before*; without that, what should be nought."""
        left = [f"{name} {self.counts[name]}" for name in absolute if self.counts[name]]
        if before is not None:
            left += [
                f"{name} {before.counts[name]} -> {self.counts[name]}"
                for name in RELATIVE
                if self.counts[name] > before.counts[name]
            ]
            if self.counts["threads"] > before.counts["threads"]:
                left[-1] += f" ({', '.join((self.threads - before.threads).elements())})"
        return left


async def take(bridge: SeenBridge, server: Server, *, deep: bool = False) -> Census:
    """Count everything now; rooms as -1 when the server does not answer."""
    inside = await bridge.look(deep=deep)
    kinds, blocks = inside.pop("kinds"), int(str(inside.pop("blocks")))
    pool = int(str(inside.pop("pool")))
    assert isinstance(kinds, dict)
    process = Path(f"/proc/{bridge.pid}")
    rooms, participants = await on_server(server)
    threads = Counter(thread_names(process))
    counts = {
        **{name: int(str(value)) for name, value in inside.items()},
        "fds": len(list((process / "fd").iterdir())),
        "threads": threads.total() - pool,
        "rooms": rooms,
        "participants": participants,
    }
    pages = int((process / "statm").read_text().split()[1])
    rss = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Census(
        at=time.monotonic(), rss=rss, counts=counts, blocks=blocks, kinds=kinds, threads=threads
    )


def thread_names(process: Path) -> list[str]:
    """What the threads of a process call themselves; those that end meanwhile are left out."""
    found = []
    for task in (process / "task").iterdir():
        with suppress(OSError):
            found.append((task / "comm").read_text().strip())
    return found


async def on_server(server: Server) -> tuple[int, int]:
    """Rooms and participants that livekit-server knows."""
    try:
        async with room_service(server) as service, asyncio.timeout(5):
            rooms = (await service.room.list_rooms(api.ListRoomsRequest())).rooms
    except Exception:
        return -1, -1
    return len(rooms), sum(room.num_participants for room in rooms)


def slope(samples: list[Census]) -> float:
    """MB of resident memory gained in a minute: least squares through *samples*; for show."""
    if len(samples) < 3:
        return 0.0
    xs = [(sample.at - samples[0].at) / 60 for sample in samples]
    ys = [sample.rss for sample in samples]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread


def memory_verdict(before: Census, after: Census, calls: int) -> list[str]:
    """What is wrong with memory after *calls* calls."""
    wrong = []
    allowed = RSS_ROOM_MB + RSS_PER_CALL_KB * calls / 1024
    grown = after.rss - before.rss
    if grown > allowed:
        wrong.append(f"memory grew by {grown:.1f} MB, more than {allowed:.1f}")
    left = after.blocks - before.blocks
    if left > BLOCKS_ROOM + BLOCKS_PER_CALL * calls:
        wrong.append(f"{left} objects of Python are left by {calls} calls")
    return wrong


def kinds_verdict(before: Census, after: Census) -> list[str]:
    """Classes of which more objects are alive than before."""
    return [
        f"{after.kinds[kind] - before.kinds.get(kind, 0)} more {kind}"
        for kind in sorted(after.kinds)
        if after.kinds[kind] > before.kinds.get(kind, 0) + KIND_ROOM and not kind.startswith(CACHES)
    ]

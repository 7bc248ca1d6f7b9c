"""One daemon without a livekit-server: ``python -m bench.bridge_process FOLDER OPTIONS``.

Everything is the daemon's own but the room: its session and the server's API are fakes
that say yes at once. OPTIONS is JSON: ``core``, ``config`` (the TOML text), ``rate`` and
``burst`` (new calls a second of one source, in the place of the default), ``profile``
(a file for cProfile). Prints a line of JSON when it listens; SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import json
import os
import signal
import sys
from collections.abc import Awaitable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import uvloop

from bridge import daemon as daemon_module
from bridge.config.loading import load
from bridge.daemon import Daemon
from bridge.observe import logs
from bridge.room import sdk
from bridge.room.dispatch import EnsuredRoom
from bridge.room.seam import JoinSpec, LeaveReason, RoomHandlers
from bridge.trunk.admission import Gcra
from bridge.trunk.gate import Gate


class FakeRoom:
    """A room session that is joined at once, hears nothing and loses everything."""

    def __init__(self, handlers: RoomHandlers) -> None:
        self.handlers = handlers

    async def join(self, spec: JoinSpec) -> None:
        """Be in the room."""

    def publish(self, payload: bytes, topic: str, to: Sequence[str] = ()) -> Awaitable[None]:
        """Have it sent."""
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def publish_dtmf(self, digit: str) -> None:
        """Have it sent."""

    async def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Have them set."""

    def mute(self, muted: bool) -> None:
        """Be muted."""

    def subscribe(self, wanted: bool) -> None:
        """Hear the others."""

    def others(self) -> Sequence[str]:
        """Nobody is there."""
        return ()

    async def leave(self, reason: LeaveReason) -> None:
        """Be gone."""

    def push(self, pcm: bytes) -> None:
        """Lose it."""

    def pull(self, frames: int) -> bytes | None:
        """Say nothing."""
        return None

    def discard(self) -> None:
        """Have nothing."""


class FakeService:
    """livekit-server's API, which says yes."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    async def ensure_room(self, room: str, *, metadata: str = "") -> EnsuredRoom:
        """Have it."""
        return EnsuredRoom(sid="RM_bench", made=True)

    async def participants(self, room: str) -> Collection[str]:
        """Nobody is there."""
        return ()

    async def described(self) -> dict[str, str]:
        """No room is there."""
        return {}

    async def rooms(self, names: Collection[str]) -> dict[str, Any]:
        """None of them is there."""
        return {}

    async def dispatch_agent(self, room: str, agent: str, metadata: str) -> str:
        """Have it asked."""
        return "AD_bench"

    async def is_taken(self, room: str, dispatch: str) -> bool:
        """Somebody came."""
        return True

    async def recall_agent(self, room: str, dispatch: str) -> None:
        """Have it taken back."""

    async def delete_room(self, room: str) -> None:
        """Have it deleted."""

    async def alive(self) -> bool:
        """Be there."""
        return True

    async def close(self) -> None:
        """Be closed."""


async def serve(folder: Path, options: Mapping[str, Any]) -> None:
    """Run the daemon until SIGTERM."""
    path = folder / "trunkbridge.toml"
    path.write_text(options["config"])
    config = load(path)
    logs.configure(config.log.level, config.log.format)
    with (
        mock.patch.object(daemon_module, "RoomService", FakeService),
        mock.patch.object(sdk, "SdkRoom", FakeRoom),
    ):
        daemon = Daemon(config, path=path)
    if "rate" in options:
        rates = [Gcra(rate=options["rate"], burst=int(options["burst"])) for _ in range(2)]
        daemon._agent._gate = Gate(sources=rates[0], trunks=rates[1])
    await daemon.start()
    gc.collect()
    gc.freeze()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(json.dumps({"sip": daemon.sip_addresses}), file=sys.stdout, flush=True)
    profile = cProfile.Profile() if options.get("profile") else None
    if profile is not None:
        profile.enable()
    await stop.wait()
    if profile is not None:
        profile.disable()
        profile.dump_stats(options["profile"])
    await daemon.stop()


def main() -> None:
    """Start on one core."""
    options = json.loads(sys.argv[2])
    os.sched_setaffinity(0, {options["core"]})
    uvloop.install()
    asyncio.run(serve(Path(sys.argv[1]), options))


if __name__ == "__main__":
    main()

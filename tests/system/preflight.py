"""Whether a livekit-server answers connectivity checks: ``python -m tests.system.preflight``.

About one instance in seven of livekit-server 1.13.5 as ICE-lite with a media port on loopback
never answers a check, for as long as it lives: tcpdump shows valid Binding requests (USERNAME,
PRIORITY, ICE-CONTROLLING, MESSAGE-INTEGRITY, FINGERPRINT) to the candidate that it named, and
nothing in return. Other instances answer the same peer at once. A test that needs such a server
asks first. The arguments are its URL, key and secret; exit status 0: it answers.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys

from bridge.media.direct import DirectEngine
from bridge.media.ports import Ports
from bridge.media.seam import MediaSpec
from bridge.native import is_built
from bridge.room.seam import JoinSpec, LeaveReason, RoomHandlers, RoomUnsuitable
from bridge.room.signal.session import SignalRoom
from bridge.room.tokens import LiveKitKeys, bridge_token
from tests.system.harness import ROOT

PATIENCE = 15.0


def answers(url: str, key: str, secret: str) -> bool:
    """Join a room of the server from a process of its own, if the native core is there."""
    if not is_built():
        return True
    command = [sys.executable, "-m", "tests.system.preflight", url, key, secret]
    return subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == 0


async def _joins(url: str, key: str, secret: str) -> bool:
    from trunkbridge_native import Core

    ports = Ports("39000-39999")
    engine = DirectEngine(
        Core(threads=1, priority=0), lambda h, p, law: SignalRoom(h, p, codec=law), ports
    )
    await engine.start()
    spec = MediaSpec(
        call_id="preflight",
        signalling_address="127.0.0.1",
        media_allow=("127.0.0.0/8",),
        hold_music=False,
    )
    handlers = RoomHandlers(notify=lambda _notice: None)
    media = engine.open(spec, ports.lease("127.0.0.1"), handlers, lambda _notice: None)
    token = bridge_token(
        LiveKitKeys(api_key=key, api_secret=secret),
        room="preflight",
        identity="preflight",
        name="preflight",
        metadata="",
        attributes={},
    )
    try:
        async with asyncio.timeout(PATIENCE):
            wanted = JoinSpec(url=url, room="preflight", identity="preflight", token=token)
            await media.room.join(wanted)
    except RoomUnsuitable:
        return False
    finally:
        await media.room.leave(LeaveReason.CLIENT_INITIATED)
        await media.carrier.close()
        await engine.stop()
    return True


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(_joins(*sys.argv[1:4])) else 1)

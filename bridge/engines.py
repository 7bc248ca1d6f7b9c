"""Builds the media engine that the configuration asks for."""

from __future__ import annotations

from collections.abc import Callable

from bridge import native
from bridge.config.sections import MediaConfig
from bridge.errors import BridgeError
from bridge.media.choose import ChoosingEngine
from bridge.media.direct import DirectEngine
from bridge.media.ports import Ports
from bridge.media.sdk import SdkEngine
from bridge.media.seam import ClockReading, Engine, Law
from bridge.room import sdk
from bridge.room.seam import RoomHandlers, RoomSession
from bridge.room.signal.port import PeerFactory
from bridge.room.signal.session import SignalRoom

PRIORITY = 10
"""SCHED_FIFO priority that the media threads ask for; ``LimitRTPRIO=10`` grants it."""
NOT_BUILT = "not_built"
"""Why calls of ``auto`` use the SDK engine where there is no native core."""


def engine_of(config: MediaConfig, ports: Ports) -> Engine:
    """Return the engine. Raises `BridgeError` when the direct one is demanded and cannot be."""
    if config.engine == "sdk":
        return SdkEngine(sdk.SdkRoom, ports)
    if not native.is_built():
        if config.engine == "direct":
            raise BridgeError("media.engine: the native core is not installed")
        return SdkEngine(sdk.SdkRoom, ports, reason=NOT_BUILT)
    from trunkbridge_native import Core  # only where it is wanted: it starts threads

    try:
        core = Core(threads=config.threads, priority=PRIORITY)
    except OSError as failure:
        raise BridgeError(f"media.engine: the media core does not start: {failure}") from failure
    direct = DirectEngine(core, _room, ports)
    if config.engine == "direct":
        return direct
    return ChoosingEngine(direct, SdkEngine(sdk.SdkRoom, ports))


def uses_sdk(config: MediaConfig) -> bool:
    """Tell whether a call may need the livekit SDK."""
    return config.engine != "direct"


def clocks_of(engine: Engine) -> list[Callable[[], ClockReading]]:
    """Return each clock of *engine*: one that stands still is not hidden by another."""
    parts = engine.parts if isinstance(engine, ChoosingEngine) else (engine,)
    return [part.clock for part in parts]


def _room(handlers: RoomHandlers, peers: PeerFactory, codec: Law) -> RoomSession:
    return SignalRoom(handlers, peers, codec=codec)

"""Sessions by our own signalling on the native core, as a call has them, without a carrier."""

from __future__ import annotations

from typing import Any

from bridge.media.direct import DirectEngine
from bridge.media.ports import Ports
from bridge.media.seam import MediaSpec
from bridge.room.seam import RoomHandlers
from bridge.room.signal.session import SignalRoom
from tests.system.engines import need
from tests.system.harness import media_ports
from tests.system.room.kit import Signal


class Native(Signal):
    """As `Signal`, but the transports are the product's own; nobody speaks on the phone."""

    def __init__(self) -> None:
        super().__init__()
        need("direct")
        from trunkbridge_native import Core  # only where it is built

        self._ports = Ports(media_ports())
        self._engine = DirectEngine(Core(threads=1, priority=0), _room, self._ports)
        self._carriers: list[Any] = []
        self._started = False

    def make(self, handlers: RoomHandlers) -> SignalRoom:
        spec = MediaSpec(
            call_id=f"call-{len(self._carriers)}",
            signalling_address="127.0.0.1",
            media_allow=(),
            hold_music=False,
        )
        media = self._engine.open(spec, self._ports.lease("127.0.0.1"), handlers, lambda _: None)
        self._carriers.append(media.carrier)
        assert isinstance(media.room, SignalRoom)
        return media.room

    async def start(self) -> None:
        """Start to listen to the core."""
        self._started = True
        await self._engine.start()

    async def settle(self) -> None:
        await super().settle()
        if self._started:
            await self._engine.stop()


def _room(handlers: RoomHandlers, peers: Any, codec: str) -> SignalRoom:
    return SignalRoom(handlers, peers, codec=codec)

"""Room sessions on the native core, its carrier's side played by the test itself."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from bridge.media.direct import DirectTransports, _peer_event
from bridge.native import is_built
from bridge.room.joining import settle
from bridge.room.seam import RoomHandlers
from bridge.room.signal.port import PeerEvent
from bridge.room.signal.session import SignalRoom
from rtp import g711, packet
from tests.system.harness import missing
from tests.system.room.kit import DEADLINE, FRAME_MS, cut_signalling, is_tone, ticks, tone

if TYPE_CHECKING:
    from trunkbridge_native import Core


class Carrier:
    """The far end of one call: a plain RTP phone with PCMU."""

    def __init__(self, core: Core) -> None:
        self._ours, rtcp, self._phone = (_bound() for _ in range(3))
        self._heard: deque[bytes] = deque(maxlen=10)
        self.told: Callable[[PeerEvent], None] = lambda _event: None
        self.handle = core.open(
            self._ours.fileno(),
            rtcp.fileno(),
            ssrc=random.getrandbits(32),
            sequence=0,
            timestamp=0,
            track="PCMU",
            signalling="127.0.0.1",
            allow=["127.0.0.0/8"],
            cname="test",
        )
        rtcp.close()
        core.connect(
            self.handle,
            remote=self._phone.getsockname(),
            remote_rtcp_port=0,
            codec="PCMU",
            payload_type=0,
            receive_codecs=[(0, "PCMU")],
            dtmf_payload_type=None,
            receive_dtmf_payload_type=None,
            ptime=20,
            crypto=None,
        )
        core.apply(
            self.handle,
            transmit=True,
            agent_audio=True,
            caller_audio=True,
            watchdog=None,
            watchdog_initial=None,
        )
        asyncio.get_running_loop().add_reader(self._phone.fileno(), self._receive)

    def _receive(self) -> None:
        received = packet.parse(self._phone.recv(2048))
        self._heard.append(g711.decode(g711.PCMU, received.payload))

    async def hear(self, hertz: float) -> None:
        self._heard.clear()
        async with asyncio.timeout(DEADLINE):
            async for _ in ticks():
                if len(self._heard) == 10 and is_tone(b"".join(self._heard), hertz):
                    return

    async def play(self, hertz: float) -> None:
        """Say a tone until cancelled."""
        first = random.getrandbits(15)
        async for count in ticks():
            spoken = packet.Packet(
                payload_type=0,
                sequence=(first + count) & 0xFFFF,
                timestamp=160 * count,
                ssrc=77,
                payload=g711.encode(g711.PCMU, tone(hertz, count * FRAME_MS)),
            )
            self._phone.sendto(packet.build(spoken), self._ours.getsockname())

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._phone.fileno())
        self._ours.close()
        self._phone.close()


class Native:
    """Sessions by our own signalling, on the native core."""

    def __init__(self) -> None:
        if not is_built():
            missing("the native media core (scripts/native.sh)")
        from trunkbridge_native import Core

        self._core: Core = Core(threads=1, priority=0)
        self._carriers: dict[int, Carrier] = {}
        self._of: dict[SignalRoom, Carrier] = {}
        self._listening = False

    def make(self, handlers: RoomHandlers) -> SignalRoom:
        if not self._listening:
            self._listening = True
            asyncio.get_running_loop().add_reader(self._core.fileno(), self._drain)
        carrier = Carrier(self._core)
        self._carriers[carrier.handle] = carrier

        def transports(told: Callable[[PeerEvent], None]) -> DirectTransports:
            carrier.told = told
            return DirectTransports(self._core, carrier.handle, told, lambda: None)

        session = SignalRoom(handlers, transports, codec="PCMU")
        self._of[session] = carrier
        return session

    def _drain(self) -> None:
        for handle, kind, *details in self._core.drain():
            if kind in _OF_PEERS:
                self._carriers[handle].told(_peer_event(kind, details))

    async def hear(self, session: Any, hertz: float) -> None:
        await self._of[session].hear(hertz)

    @asynccontextmanager
    async def playing(self, session: Any, hertz: float) -> AsyncIterator[None]:
        task = asyncio.create_task(self._of[session].play(hertz))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def cut_signalling(self, session: Any) -> None:
        await cut_signalling(session)

    async def settle(self) -> None:
        await settle()

    async def finish(self) -> None:
        await settle()
        asyncio.get_running_loop().remove_reader(self._core.fileno())
        for carrier in self._carriers.values():
            self._core.close(carrier.handle)
            carrier.close()
        self._core.stop()


_OF_PEERS = frozenset(
    ("offer", "answer", "connected", "disconnected", "peer_closed", "channel", "data", "track")
)


def _bound() -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    bound.setblocking(False)
    return bound

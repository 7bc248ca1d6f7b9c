"""The SDK engine: PCM between the carrier's RTP and a room session on the livekit SDK."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from bridge.media.carrier import SdkCarrier
from bridge.media.ports import Ports
from bridge.media.seam import (
    CallMedia,
    ClockReading,
    EngineChoice,
    Lease,
    MediaNotice,
    MediaSpec,
)
from bridge.media.ticker import Ticker
from bridge.room.seam import RoomAudio, RoomHandlers, RoomSession


class SdkRoomSession(RoomSession, RoomAudio, Protocol):
    """A room session that also carries PCM."""


class SdkEngine:
    """Implements `bridge.media.seam.Engine` on one ticker of the running loop.

    *room_factory* makes the room session of a call; *now* is monotonic seconds; *reason* says
    why it is not the direct engine, where that was wanted.
    """

    def __init__(
        self,
        room_factory: Callable[[RoomHandlers], SdkRoomSession],
        ports: Ports,
        now: Callable[[], float] = time.monotonic,
        *,
        reason: str | None = None,
    ) -> None:
        self._room_factory = room_factory
        self._ports = ports
        self._now = now
        self._ticker = Ticker(now)
        self._calls: set[SdkCarrier] = set()
        self._choice = EngineChoice(engine="sdk", reason=reason)

    def clock(self) -> ClockReading:
        """Return how the ticker is now."""
        self._forget_closed()
        return ClockReading(
            calls=len(self._calls),
            turns=self._ticker.turns,
            missed=self._ticker.missed,
            late=self._ticker.late,
            ought_to_turn=self._ticker.ought_to_turn(),
        )

    def open(
        self,
        spec: MediaSpec,
        lease: Lease,
        room: RoomHandlers,
        notify: Callable[[MediaNotice], None],
    ) -> CallMedia:
        """Return the media of one call; nothing is sent until it is told to.

        Raises ``ValueError`` when ``media_allow`` has something that is no network.
        """
        session = self._room_factory(room)
        carrier = SdkCarrier(
            spec=spec,
            lease=lease,
            room=session,
            notify=notify,
            ports=self._ports,
            ticker=self._ticker,
            now=self._now,
        )
        self._forget_closed()
        self._calls.add(carrier)
        return CallMedia(carrier=carrier, room=session, choice=lambda: self._choice)

    async def start(self) -> None:
        """Start the clock on the running loop."""
        self._ticker.start()

    async def stop(self) -> None:
        """Stop the clock and close the carrier side of every call."""
        self._ticker.stop()
        for carrier in tuple(self._calls):
            await carrier.close()
        self._calls.clear()

    def _forget_closed(self) -> None:
        self._calls = {carrier for carrier in self._calls if not carrier.closed}

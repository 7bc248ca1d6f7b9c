"""Which engine carries a call: the direct one where it can, else the SDK's.

The choice is made behind the port lease: what SDP promised stays true when a room turns
out to be out of the direct engine's reach. Its reason is told by `CallMedia.choice`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields, replace

import structlog

from bridge.media.direct import DirectCarrier, DirectEngine
from bridge.media.sdk import SdkEngine
from bridge.media.seam import (
    CallMedia,
    CarrierMedia,
    ClockReading,
    EngineChoice,
    Lease,
    MediaLevels,
    MediaNotice,
    MediaSpec,
    MediaStats,
    Recording,
)
from bridge.room.seam import (
    JoinSpec,
    LeaveReason,
    RoomError,
    RoomHandlers,
    RoomSession,
    RoomUnsuitable,
    Unsuitable,
)
from sdp.negotiated import Negotiated

log = structlog.get_logger(__name__)

MEMORY = 60.0
"""Seconds in which calls do not try the direct engine again on a server that it cannot use."""

_OF_THE_ROOM = (Unsuitable.ENCRYPTED,)
"""Reasons that say nothing about other rooms of the same server."""

_COUNTED = tuple(
    item.name for item in fields(MediaStats) if item.name not in {"jitter_ms", "round_trip_ms"}
)
"""What of the counters only grows, also when the engine is changed."""


class ChoosingEngine:
    """Implements `bridge.media.seam.Engine`: direct first, the SDK engine where that fails."""

    def __init__(
        self,
        direct: DirectEngine,
        sdk: SdkEngine,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._direct = direct
        self._sdk = sdk
        self._now = now
        self._unsuitable: tuple[Unsuitable, float] | None = None

    def open(
        self,
        spec: MediaSpec,
        lease: Lease,
        room: RoomHandlers,
        notify: Callable[[MediaNotice], None],
    ) -> CallMedia:
        """Return the media of one call; nothing flows until it is told to."""
        known = self._known()
        if known is not None:
            media = self._sdk.open(spec, lease, room, notify)
            return replace(media, choice=lambda: _instead(known))
        direct = self._direct.open(spec, lease, room, notify)
        assert isinstance(direct.carrier, DirectCarrier)
        call = _Call(
            direct.carrier,
            direct,
            lambda again: self._sdk.open(spec, again, room, notify),
            self._learn,
        )
        return CallMedia(
            carrier=ChosenCarrier(call), room=ChosenRoom(call), choice=lambda: call.choice
        )

    def clock(self) -> ClockReading:
        """Return both engines' clocks together; see `parts` for each."""
        direct, sdk = (part.clock() for part in self.parts)
        return ClockReading(
            calls=direct.calls + sdk.calls,
            turns=direct.turns + sdk.turns,
            missed=direct.missed + sdk.missed,
            late=direct.late + sdk.late,
            ought_to_turn=direct.ought_to_turn or sdk.ought_to_turn,
        )

    @property
    def parts(self) -> tuple[DirectEngine, SdkEngine]:
        """The engines, each with a clock of its own."""
        return (self._direct, self._sdk)

    async def start(self) -> None:
        """Start both."""
        await self._direct.start()
        await self._sdk.start()

    async def stop(self) -> None:
        """Stop both."""
        await self._direct.stop()
        await self._sdk.stop()

    def _known(self) -> Unsuitable | None:
        if self._unsuitable is None or self._now() >= self._unsuitable[1]:
            return None
        return self._unsuitable[0]

    def _learn(self, why: Unsuitable) -> None:
        if why in _OF_THE_ROOM:
            return
        if self._known() is None:
            log.warning("media.direct_unsuitable", reason=why.value, seconds=MEMORY)
        self._unsuitable = (why, self._now() + MEMORY)


class _Call:
    """What both sides of one call's media share while an engine may still be changed."""

    def __init__(
        self,
        direct: DirectCarrier,
        media: CallMedia,
        open_sdk: Callable[[Lease], CallMedia],
        learn: Callable[[Unsuitable], None],
    ) -> None:
        self.media = media
        self.choice: EngineChoice | None = media.choice()
        self.levels: MediaLevels | None = None
        self.negotiated: Negotiated | None = None
        self.recording: Recording | None = None
        self.muted = False
        self.wanted = False
        self.attributes: dict[str, str] = {}
        self.closed = False
        self.left = False
        self.before: MediaStats | None = None  # what the engine before had counted
        self.changing = asyncio.Lock()
        self._direct: DirectCarrier | None = direct
        self._open_sdk = open_sdk
        self._learn = learn

    async def change(self, why: Unsuitable) -> bool:
        """Go on with the SDK engine; False when it is too late for that."""
        self._learn(why)
        direct = self._direct
        if direct is None or self.is_closed() or self._would_use_keys_twice():
            return False
        async with self.changing:
            await self.media.room.leave(LeaveReason.CLIENT_INITIATED)
            lease = await direct.surrender()
            # Meanwhile: whoever closes waits for us, and more may have been agreed and sent.
            if self.is_closed() or self._would_use_keys_twice():
                return False
            self._direct = None
            self.before = direct.stats()
            self.media = self._open_sdk(lease)
            self.choice = _instead(why)
            await self._apply_again()
        log.info("media.engine_changed", reason=why.value)
        return True

    def is_closed(self) -> bool:
        """Whether the call has closed its media."""
        return self.closed

    async def _apply_again(self) -> None:
        """Bring the engine to where the call is: everything it was told is a level."""
        carrier, room = self.media.carrier, self.media.room
        if self.negotiated is not None:
            carrier.connect(self.negotiated)
        if self.levels is not None:
            carrier.apply(self.levels)
        if self.recording is not None:
            carrier.record(self.recording)
        room.mute(self.muted)
        room.subscribe(self.wanted)
        if self.attributes:
            await room.set_attributes(self.attributes)

    def _would_use_keys_twice(self) -> bool:
        """Whether SRTP of ours went out: a second context would use its key stream again."""
        secure = self.negotiated is not None and self.negotiated.crypto is not None
        return secure and self.media.carrier.stats().packets_sent > 0


class ChosenCarrier:
    """The carrier's side, whichever engine has it."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    @property
    def _now(self) -> CarrierMedia:
        return self._call.media.carrier

    def connect(self, negotiated: Negotiated) -> None:
        """Send to and accept from what was negotiated."""
        self._call.negotiated = negotiated
        self._now.connect(negotiated)

    def apply(self, levels: MediaLevels) -> None:
        """Open or close what may flow."""
        self._call.levels = levels
        self._now.apply(levels)

    def send_dtmf(self, digits: str) -> None:
        """Play *digits*."""
        self._now.send_dtmf(digits)

    def stats(self) -> MediaStats:
        """Return the counters so far."""
        now, before = self._now.stats(), self._call.before
        if before is None:
            return now
        sums = {name: getattr(before, name) + getattr(now, name) for name in _COUNTED}
        return replace(now, **sums)

    def record(self, recording: Recording) -> None:
        """Let *recording* hear both directions, also of an engine that takes over."""
        self._call.recording = recording
        self._now.record(recording)

    async def close(self) -> None:
        """Stop and give the ports back to rest."""
        self._call.closed = True
        async with self._call.changing:
            await self._now.close()


class ChosenRoom:
    """The room's side, whichever engine has it. A join may change the engine."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    @property
    def _now(self) -> RoomSession:
        return self._call.media.room

    async def join(self, spec: JoinSpec) -> None:
        """Join and publish the track. Raises `RoomError`."""
        self._call.left = False
        try:
            await self._now.join(spec)
        except RoomUnsuitable as unsuitable:
            if not await self._call.change(unsuitable.why):
                raise
            if self.is_left():  # while the engine was changed
                msg = "left while joining"
                raise RoomError(msg) from unsuitable
            await self._now.join(spec)

    def is_left(self) -> bool:
        """Return whether the room was left since the join began."""
        return self._call.left

    def publish(self, payload: bytes, topic: str, to: Sequence[str] = ()) -> Awaitable[None]:
        """Send a reliable data message."""
        return self._now.publish(payload, topic, to)

    async def publish_dtmf(self, digit: str) -> None:
        """Send one LiveKit SipDTMF."""
        await self._now.publish_dtmf(digit)

    async def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Merge *attributes* into our participant's."""
        self._call.attributes.update(attributes)
        await self._now.set_attributes(attributes)

    def mute(self, muted: bool) -> None:  # noqa: FBT001 (a level)
        """Mute or unmute our track."""
        self._call.muted = muted
        self._now.mute(muted)

    def subscribe(self, wanted: bool) -> None:  # noqa: FBT001 (a level)
        """Subscribe to all audio of all others, or stop."""
        self._call.wanted = wanted
        self._now.subscribe(wanted)

    def others(self) -> Sequence[str]:
        """Return the identities of the other participants now in the room."""
        return self._now.others()

    async def leave(self, reason: LeaveReason) -> None:
        """Leave and free everything."""
        self._call.left = True
        await self._now.leave(reason)


def _instead(why: Unsuitable) -> EngineChoice:
    return EngineChoice(engine="sdk", reason=why.value)

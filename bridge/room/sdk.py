"""A call's place in its room through the livekit SDK: `RoomSession` and `RoomAudio`.

Keeps what outlives a connection: the levels (mute, subscription, attributes)
and the order of what is sent. Each join makes a `Link`. A link whose server was
gone and is back is given up at once (``RoomClosed(LOST)``): the SDK repairs it
too, but seconds later, because its pauses grow to 7 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence

import structlog
from livekit import rtc

from bridge.errors import MisuseError
from bridge.room import convention, sdk_dispatch
from bridge.room.attributes import AttributeWriter
from bridge.room.joining import GOODBYE, INTRODUCTION, Joining, keep, room_error
from bridge.room.outbox import Outbox
from bridge.room.sdk_audio import TrackFeeder
from bridge.room.sdk_dispatch import send_data
from bridge.room.sdk_link import Link
from bridge.room.sdk_quiet import quiet_native_logs
from bridge.room.seam import (
    JoinSpec,
    LeaveReason,
    RoomAudio,
    RoomClosed,
    RoomError,
    RoomGone,
    RoomHandlers,
    RoomNotice,
    RoomReconnected,
    RoomReconnecting,
    RoomSession,
)
from bridge.room.watch import Away, watch_of

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT = 5.0
"""Seconds per signalling attempt; the SDK makes up to four."""

OWN_GHOST = 10.0
"""Seconds after giving up a link in which a participant with our identity is its ghost:
the SDK's repair may reach the server at the very moment that we give it up."""


async def warm_up() -> None:
    """Load the native half and make its WebRTC factory, before a call has to wait for it.

    Cold, that is half a second in which the loop stands still.
    """
    quiet_native_logs()
    sdk_dispatch.dispatcher()
    await TrackFeeder("warm-up").close()


class SdkRoom(RoomSession, RoomAudio):
    """One call's room session; join, leave and rejoin on the same object."""

    def __init__(self, handlers: RoomHandlers, *, connect_timeout: float = CONNECT_TIMEOUT) -> None:
        self._handlers = handlers
        self._connect_timeout = connect_timeout
        self._link: Link | None = None
        self._joining: Joining[Link] | None = None
        self._given_up: Link | None = None
        self._ghost_until = 0.0  # of the loop's clock
        self._away: Away | None = None
        self._url = ""
        self._outbox: Outbox[rtc.LocalParticipant] = Outbox()
        self._attributes = AttributeWriter()
        self._muted = False
        self._wanted = False

    # RoomSession.

    async def join(self, spec: JoinSpec) -> None:
        """Join and publish the (silent) track. Raises `RoomError`."""
        if self._link is not None or self._joining is not None:
            msg = "joined already, or joining"
            raise MisuseError(msg)
        quiet_native_logs()
        self._url = spec.url
        self._outbox.renew()
        joining = Joining(Link(self, self._handlers))
        self._joining = joining
        task = keep(self._connect(joining, spec))
        try:
            await asyncio.wait({task, joining.given_up}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            joining.give_up(LeaveReason.CLIENT_INITIATED)
            raise
        finally:
            self._joining = None
            if joining.given_up.done() and joining.connected:  # in the turn before: too late for it
                keep(joining.link.close(joining.reason))
        if joining.given_up.done():
            msg = "left while joining"
            raise RoomError(msg)
        if joining.error is not None:
            raise joining.error
        self._adopt(joining)

    def publish(self, payload: bytes, topic: str, to: Sequence[str] = ()) -> Awaitable[None]:
        """Send a reliable data message, to all or to the identities in *to*.

        Begins at once when nothing else waits; waits, in order, while the SDK
        repairs its connection or a join is awaited. Done when the SDK has sent it.
        Raises `RoomError`, also when the room is lost meanwhile.
        """
        return self._outbox.send(lambda local: send_data(local, payload, topic=topic, to=to))

    async def publish_dtmf(self, digit: str) -> None:
        """Send one LiveKit SipDTMF; a key that is none is a `RoomError`."""
        code = convention.dtmf_code(digit)
        if code is None:
            msg = "no such key"
            raise RoomError(msg)

        async def effect(local: rtc.LocalParticipant) -> None:
            await local.publish_dtmf(code=code, digit=digit.upper())

        await self._outbox.send(effect)

    async def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Merge *attributes* into our participant's; kept over reconnects and rejoins.

        Returns at once: a confirmation that is late must not delay an event.
        """
        self._attributes.put(attributes)

    def mute(self, muted: bool) -> None:  # noqa: FBT001 (a level)
        """Mute or unmute our track; a level, kept over a rejoin."""
        self._muted = muted
        if self._link is not None:
            self._link.mute(muted)

    def subscribe(self, wanted: bool) -> None:  # noqa: FBT001 (a level)
        """Subscribe to all audio of all others, now and later, or stop; a level."""
        self._wanted = wanted
        if self._link is not None:
            self._link.subscribe(wanted)

    def others(self) -> Sequence[str]:
        """Return the identities of the other participants now in the room."""
        return self._link.others() if self._link is not None else []

    async def leave(self, reason: LeaveReason) -> None:
        """Leave and free everything; safe at any time, any number of times.

        A join under way fails at once with `RoomError`; its connect finishes
        on its own and then disconnects.
        """
        if self._joining is not None:
            self._joining.give_up(reason)
        self._is_back()
        self._outbox.close(RoomError("the room was left"))
        link, self._link = self._link, None
        if link is not None:
            await self._attributes.settled(GOODBYE)
            self._attributes.pause()
            await asyncio.wait({keep(link.close(reason))})

    # RoomAudio.

    def push(self, pcm: bytes) -> None:
        """Publish 20 ms (320 bytes) of caller audio; dropped while not joined."""
        if self._link is not None:
            self._link.push(pcm)

    def pull(self, frames: int) -> bytes | None:
        """Return the next *frames* samples of all others mixed, or None: silence."""
        return self._link.pull(frames) if self._link is not None else None

    def discard(self) -> None:
        """Drop all audio of others that has arrived and was not pulled."""
        if self._link is not None:
            self._link.discard()

    # LinkOwner.

    def link_notice(self, link: Link, notice: RoomNotice) -> None:
        """Pass on what our present link tells; keep it back while joining."""
        if self._joining is not None and link is self._joining.link:
            self._joining.notices.append(notice)
        elif link is self._link:
            if isinstance(notice, RoomReconnected) and self._server_was_gone:
                self._returned()  # the SDK was faster; but the new server has forgotten the room
                return
            if link.replaced and asyncio.get_running_loop().time() < self._ghost_until:
                notice = RoomClosed(why=RoomGone.LOST)
            self._apply(link, notice)
            self._handlers.notify(notice)

    def _apply(self, link: Link, notice: RoomNotice) -> None:
        """Let our own state follow before the call hears of it."""
        match notice:
            case RoomReconnecting():
                self._outbox.pause()
                self._attributes.pause()
                if self._away is None:
                    self._away = watch_of(self._url).away(self._returned)
            case RoomReconnected():
                self._is_back()
                self._outbox.open(link.local, self._restore)
            case RoomClosed(why=RoomGone.LOST):
                self._is_back()
                self._lose()
                self._forget(link)
            case RoomClosed():
                self._is_back()
                self._outbox.close(RoomError("the room is gone"))
                self._forget(link)
            case _:
                pass

    def _lose(self) -> None:
        self._outbox.lose()
        self._attributes.pause()

    @property
    def _server_was_gone(self) -> bool:
        return self._away is not None and self._away.absence.server_was_gone

    def _is_back(self) -> None:
        if self._away is not None:
            self._away.over()
            self._away = None

    def _returned(self) -> None:
        """The server is back: give up the link that the SDK still repairs."""
        self._is_back()
        link, self._link = self._link, None
        if link is None:
            return
        log.info("room.given_up")
        self._lose()
        self._given_up = link
        self._ghost_until = asyncio.get_running_loop().time() + OWN_GHOST
        keep(link.give_up())
        self._handlers.notify(RoomClosed(why=RoomGone.LOST))

    def _forget(self, link: Link) -> None:
        self._link = None
        keep(link.free())

    async def _connect(self, joining: Joining[Link], spec: JoinSpec) -> None:
        link = joining.link
        try:
            if self._given_up is not None:  # two with our identity would throw each other out
                await self._given_up.disconnected()
                self._given_up = None
            await link.connect(spec, timeout=self._connect_timeout, muted=self._muted)
        except Exception as error:
            joining.error = room_error(error, "the join failed")
        if joining.error is not None or joining.given_up.done():
            await link.close(joining.reason)
        else:
            joining.connected = True

    def _adopt(self, joining: Joining[Link]) -> None:
        link = joining.link
        self._link = link
        link.mute(self._muted)
        link.subscribe(self._wanted)
        self._outbox.open(link.local, self._introduce if link.others() else self._restore)
        loop = asyncio.get_running_loop()
        for notice in joining.notices:
            loop.call_soon(self.link_notice, link, notice)

    async def _introduce(self, local: rtc.LocalParticipant) -> None:
        """Let those who are there learn of us before the first message."""
        await self._restore(local)
        await asyncio.sleep(INTRODUCTION)

    async def _restore(self, local: rtc.LocalParticipant) -> None:
        """Contract 4: after a rejoin the attributes come before anything else."""
        await self._attributes.restore(local)

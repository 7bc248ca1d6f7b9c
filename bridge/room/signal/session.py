"""A call's place in its room by our own signalling: `RoomSession` for the direct engine.

Keeps what outlives a participant: the levels (mute, subscription, attributes) and the order
of what is sent. Each join makes a `Link`. One whose server was gone and is back is given up
at once (``RoomClosed(LOST)``): the new server does not know it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress

import structlog

from bridge.errors import MisuseError
from bridge.room.attributes import AttributeWriter
from bridge.room.joining import (
    GOODBYE,
    INTRODUCTION,
    INTRODUCTION_TIMEOUT,
    Joining,
    keep,
    room_error,
)
from bridge.room.seam import (
    JoinSpec,
    LeaveReason,
    ParticipantJoined,
    RoomClosed,
    RoomError,
    RoomGone,
    RoomHandlers,
    RoomNotice,
    RoomReconnected,
    RoomReconnecting,
    RoomSession,
)
from bridge.room.signal.exchange import Exchange
from bridge.room.signal.link import DATA_GRACE, Link
from bridge.room.signal.messages import Law
from bridge.room.signal.port import PeerEvent, PeerFactory
from bridge.room.watch import Away, watch_of

log = structlog.get_logger(__name__)


class SignalRoom(RoomSession):
    """One call's room session; join, leave and rejoin on the same object.

    *codec*, ``PCMU`` or ``PCMA``, is what our track is published as. *address* is the local
    one that the media leaves from; None: that of the route to the server.
    """

    def __init__(
        self,
        handlers: RoomHandlers,
        peers: PeerFactory,
        *,
        codec: str,
        address: str | None = None,
    ) -> None:
        self._handlers = handlers
        self._law = Law[codec]
        self._address = address
        self._peer = peers(self._peer_event)
        self._link: Link | None = None
        self._joining: _Joining | None = None
        self._leaving: Link | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._away: Away | None = None
        self._url = ""
        self._exchange = Exchange(
            handlers,
            transmit=self._peer.send,
            kind_of=self._kind_of,
            told=self._told,
            speaker=self._speaker,
        )
        self._attributes = AttributeWriter()
        self._opening: asyncio.Task[None] | None = None
        self._arrival = asyncio.Event()  # of the next one to join
        self._muted = False
        self._wanted = False

    # RoomSession.

    async def join(self, spec: JoinSpec) -> None:
        """Join and publish the (silent) track. Raises `RoomError`, `RoomUnsuitable` among them."""
        if self._link is not None or self._joining is not None:
            msg = "joined already, or joining"
            raise MisuseError(msg)
        self._url = spec.url
        self._exchange.renew()
        joining = _Joining(Link(self, self._peer, law=self._law, address=self._address))
        self._joining = joining
        task = keep(self._connect(joining, spec, self._finishing))
        self._finishing = task
        try:
            await asyncio.wait({task, joining.given_up}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            joining.give_up(LeaveReason.CLIENT_INITIATED)
            raise
        finally:
            self._joining = None
            if joining.given_up.done() and joining.connected:  # in the turn before: too late for it
                self._finishing = keep(joining.link.close(joining.reason))
        if joining.given_up.done():
            msg = "left while joining"
            raise RoomError(msg)
        if joining.error is not None:
            raise joining.error
        self._adopt(joining)

    def publish(self, payload: bytes, topic: str, to: Sequence[str] = ()) -> Awaitable[None]:
        """Send a reliable data message, to all or to the identities in *to*.

        Begins at once when nothing else waits; waits, in order, while the connection is
        resumed or a join is awaited. Raises `RoomError`, also when the room is lost meanwhile.
        """
        return self._exchange.publish(payload, topic, to)

    async def publish_dtmf(self, digit: str) -> None:
        """Send one LiveKit SipDTMF; a key that is none is a `RoomError`."""
        await self._exchange.publish_dtmf(digit)

    async def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Merge *attributes* into our participant's; kept over reconnects and rejoins.

        Returns at once: a confirmation that is late must not delay an event.
        """
        self._attributes.put(attributes)

    def mute(self, muted: bool) -> None:  # noqa: FBT001 (a level)
        """Mute or unmute our track; a level, kept over a rejoin."""
        self._muted = muted
        self._peer.mute(muted)
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

        A join under way fails at once with `RoomError`; what it had begun ends on its own.
        """
        if self._joining is not None:
            self._joining.give_up(reason)
        self._is_back()
        self._hold()
        self._exchange.close(RoomError("the room was left"))
        link, self._link = self._link, None
        if link is not None:
            self._leaving = link
            self._finishing = keep(self._take_leave(link, reason))
            await asyncio.wait({self._finishing})

    async def _take_leave(self, link: Link, reason: LeaveReason) -> None:
        # Contract 4: flushed for at most 500 ms; the link takes the rest of it.
        until = asyncio.get_running_loop().time() + GOODBYE - DATA_GRACE
        await self._attributes.settled(GOODBYE - DATA_GRACE)
        self._attributes.pause()
        await self._exchange.finish(until)
        await link.close(reason, after=self._exchange.moved_at)
        if self._leaving is link:
            self._leaving = None

    # LinkOwner.

    def link_joined(self, link: Link, identity: str) -> None:
        """Our messages go out under this identity."""
        if self._is_current(link):
            self._exchange.joined(identity)

    def link_resumed(self, link: Link, last_message: int) -> None:
        """The server has seen our messages up to this number."""
        if self._is_current(link):
            self._exchange.resumed(last_message)

    def receive_states(self) -> list[tuple[str, int]]:
        """Return what we have seen of the others' messages."""
        return self._exchange.receive_states()

    def link_notice(self, link: Link, notice: RoomNotice) -> None:
        """Pass on what our present link tells; keep it back while joining."""
        if self._joining is not None and link is self._joining.link:
            self._joining.notices.append(notice)
        elif link is self._link:
            self._apply(link, notice)
            self._handlers.notify(notice)

    def _told(self, notice: RoomNotice) -> None:
        """Pass on what came by the data channels."""
        link = self._joining.link if self._joining is not None else self._link
        if link is not None:
            self.link_notice(link, notice)

    def _is_current(self, link: Link) -> bool:
        return link is self._link or (self._joining is not None and link is self._joining.link)

    def _apply(self, link: Link, notice: RoomNotice) -> None:
        """Let our own state follow before the call hears of it."""
        match notice:
            case ParticipantJoined():
                self._exchange.present(notice.identity)
                self._arrival.set()
                self._arrival = asyncio.Event()
            case RoomReconnecting():
                self._hold()
                self._attributes.pause()
                if self._away is None:
                    self._away = watch_of(self._url).away(self._returned)
            case RoomReconnected():
                self._is_back()
                self._opening = keep(self._open(link, carried=False, introduced=True))
            case RoomClosed(why=RoomGone.LOST):
                self._is_back()
                self._lose(link)
                self._forget(link)
            case RoomClosed():
                self._is_back()
                self._hold()
                self._exchange.close(RoomError("the room is gone"))
                self._attributes.pause()
                self._forget(link)
            case _:
                pass

    async def _kind_of(self, identity: str) -> str:
        """Return a caller's kind; wait a little for one we have not been told of yet."""
        with suppress(TimeoutError):
            async with asyncio.timeout(INTRODUCTION_TIMEOUT):
                while (kind := self._known_kind(identity)) is None:
                    await self._arrival.wait()
                return kind
        return "unknown"

    def _known_kind(self, identity: str) -> str | None:
        return self._link.kind_of(identity) if self._link is not None else None

    def _speaker(self, identity: str, track: str) -> str:
        link = self._link or self._leaving
        if self._joining is not None:
            link = self._joining.link
        return link.speaker(identity, track) if link is not None else "unknown"

    def _peer_event(self, event: PeerEvent) -> None:
        link = self._link or self._leaving
        if self._joining is not None:
            link = self._joining.link
        if link is not None:
            self._exchange.peer_event(event)
            link.peer_event(event)

    def _hold(self) -> None:
        """Let messages wait."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        self._exchange.hold()

    def _lose(self, link: Link) -> None:
        self._hold()
        self._exchange.lose(link.others())
        self._attributes.pause()

    def _is_back(self) -> None:
        if self._away is not None:
            self._away.over()
            self._away = None

    def _returned(self) -> None:
        """The server is back: give up the link that is still being repaired."""
        self._is_back()
        link, self._link = self._link, None
        if link is None:
            return
        log.info("room.given_up")
        self._lose(link)
        self._finishing = keep(link.close(None))
        self._handlers.notify(RoomClosed(why=RoomGone.LOST))

    def _forget(self, link: Link) -> None:
        self._link = None
        self._finishing = keep(link.free())

    async def _connect(
        self, joining: _Joining, spec: JoinSpec, before: asyncio.Task[None] | None
    ) -> None:
        link = joining.link
        if before is not None:  # two with our identity would throw each other out
            await asyncio.wait({before})
        try:
            joining.carried = await link.connect(
                spec, self._attributes.carried(), muted=self._muted, wanted=self._wanted
            )
        except Exception as error:
            joining.error = room_error(error, "the join failed")
        if joining.given_up.done():
            await link.close(joining.reason)
        elif joining.error is not None:
            await link.close(None)
        else:
            joining.connected = True

    def _adopt(self, joining: _Joining) -> None:
        link = joining.link
        self._link = link
        link.mute(self._muted)
        link.subscribe(self._wanted)
        for identity in link.others():
            self._exchange.present(identity)
        introduced = not link.others()
        if joining.carried and introduced:
            self._attributes.attach(link)
            self._exchange.release()
        else:
            opening = self._open(link, carried=joining.carried, introduced=introduced)
            self._opening = keep(opening)
        loop = asyncio.get_running_loop()
        for notice in joining.notices:
            loop.call_soon(self.link_notice, link, notice)

    async def _open(self, link: Link, *, carried: bool, introduced: bool) -> None:
        """Let messages go; contract 4: after a rejoin the attributes come before anything else."""
        if carried:
            self._attributes.attach(link)
        else:
            await self._attributes.restore(link)
        if not introduced:
            await asyncio.sleep(INTRODUCTION)
        self._exchange.release()


class _Joining(Joining[Link]):
    """A join under way; giving it up ends its waiting at once."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.carried = False  # the attributes went with it

    def give_up(self, reason: LeaveReason) -> None:
        """Nobody wants the result any more."""
        if not self.given_up.done():
            self.link.fail(RoomError("left while joining"))
        super().give_up(reason)

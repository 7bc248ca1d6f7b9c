"""One participant of ours at one server: its sockets, its transports, from join to close.

The machine (`room.signal.protocol`) decides what is said; this is its shell. A lost socket
is resumed on a new one and a lost path repaired by an ICE restart, both under
``RoomReconnecting`` and ``RoomReconnected``; what cannot be repaired is
``RoomClosed(LOST)``, and a rejoin makes another link.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any, Final, Protocol, assert_never

import structlog

from bridge.room.seam import (
    JoinSpec,
    LeaveReason,
    RoomClosed,
    RoomError,
    RoomGone,
    RoomNotice,
    RoomReconnected,
    RoomReconnecting,
    RoomUnsuitable,
    Unsuitable,
)
from bridge.room.signal import outputs
from bridge.room.signal.address import local_address
from bridge.room.signal.conversation import Conversation
from bridge.room.signal.messages import Law, OwnTrack, Way
from bridge.room.signal.outputs import Action, Output
from bridge.room.signal.port import (
    AnswerMade,
    ChannelOpened,
    DataDelivered,
    DataReceived,
    OfferMade,
    PeerClosed,
    PeerConnected,
    PeerDisconnected,
    PeerEvent,
    PeerPort,
    Side,
    TrackHeard,
)
from bridge.room.signal.protocol import Signalling
from bridge.room.signal.socket import Socket, SocketFailed, SocketRefused
from bridge.room.watch import watch_of

log = structlog.get_logger(__name__)

RECEIVERS: Final = 1
"""Receiving sections of the first offer; the server asks for more when it needs them."""

JOIN_TIMEOUT: Final = 20.0
"""Seconds for all of a join, names that are slow to be resolved included."""

OFFER_TIMEOUT: Final = 3.0
SOCKET_TIMEOUT: Final = 5.0
FIRST_TIMEOUT: Final = 5.0
"""Seconds for the first message on a socket."""

DIAL_PAUSES: Final = (0.1, 0.4)
"""Seconds before another try at a server that is not reached."""

RELAY_PATIENCE: Final = 1.5
"""Seconds after the join in which a server names its candidates."""

PATH_PATIENCE: Final = 5.0
"""Seconds after the join in which the media path comes about."""

RESUME_PATIENCE: Final = 15.0
RESUME_TIMEOUT: Final = 3.0
"""Seconds of one try; on a way that was broken a new connection is faster than the old one."""

RESUME_PAUSE: Final = 0.1
SHORT: Final = 1.0
"""Seconds without a socket after which the media path is suspected, too."""

REPAIR_PATIENCE: Final = 10.0
"""Seconds that an ICE restart has."""

LEAVE_GRACE: Final = 0.5
"""Seconds in which the reason follows when the transport closes first."""

GOODBYE: Final = 0.5
DATA_GRACE: Final = 0.1
"""Seconds that the last message has to reach the others before our goodbye does."""


class LinkOwner(Protocol):
    """Whom a link reports to, always outside of the link's own methods."""

    def link_joined(self, link: Link, identity: str) -> None:
        """We are in, under *identity*."""

    def link_resumed(self, link: Link, last_message: int) -> None:
        """The same participant goes on; the server has seen its messages up to this number."""

    def receive_states(self) -> list[tuple[str, int]]:
        """Return participant SIDs and the numbers of their last messages that we have."""

    def link_notice(self, link: Link, notice: RoomNotice) -> None:
        """Something happened in the room; after ``RoomClosed`` nothing more does."""


class Link:
    """One participant of ours. *address* is the local one; None: by the route to the server."""

    def __init__(
        self, owner: LinkOwner, peer: PeerPort, *, law: Law, address: str | None = None
    ) -> None:
        self._owner = owner
        self._peer = peer
        self._law = law
        self._fixed_address = address
        self._address = ""
        self._url = ""
        self._token = ""
        self._talk: Conversation | None = None
        self._sides: tuple[Side, ...] = ()
        self._resuming: asyncio.Task[None] | None = None
        self._parting: asyncio.TimerHandle | None = None
        self._repairing: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._offer: asyncio.Future[str] = self._loop.create_future()
        self._joined: asyncio.Future[None] = self._loop.create_future()
        self._taken: asyncio.Future[None] = self._loop.create_future()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._resumed: asyncio.Future[None] | None = None
        self._failure: asyncio.Future[RoomError] = self._loop.create_future()
        self._confirmations: dict[int, asyncio.Future[bool]] = {}
        self._up: set[Side] = set()
        self._answered = False
        self._standing = False
        self._away_since: float | None = None
        self._closed = False
        self._muted = False
        self._wanted = False
        self.replaced = False  # another participant with our identity came

    # The join.

    async def connect(
        self,
        spec: JoinSpec,
        attributes: Mapping[str, str],
        *,
        muted: bool,
        wanted: bool,
    ) -> bool:
        """Join and publish; tell whether *attributes* went with it. Raises `RoomError`."""
        self._url, self._token = spec.url, spec.token
        self._muted, self._wanted = muted, wanted
        try:
            async with asyncio.timeout(JOIN_TIMEOUT):
                return await self._connect(spec, attributes)
        except TimeoutError:
            msg = "the room could not be joined in time"
            raise RoomError(msg) from None

    async def _connect(self, spec: JoinSpec, attributes: Mapping[str, str]) -> bool:
        self._address = self._fixed_address or await local_address(spec.url)
        track = OwnTrack(cid=f"TR_{uuid.uuid4().hex[:12]}", name=spec.track_name, law=self._law)
        rode = await self._enter(Way.V1, track, attributes)
        if rode is None:
            rode = await self._enter(Way.V0, track, attributes)
        if rode is None:
            raise RoomUnsuitable(Unsuitable.SIGNALLING)
        await self._settle()
        return rode and all(attributes.values())  # a join deletes none: an empty one is left out

    async def _enter(self, way: Way, track: OwnTrack, attributes: Mapping[str, str]) -> bool | None:
        """Open the socket with our offer; None: the server does not know this way."""
        machine = Signalling(way=way, track=track, muted=self._muted, wanted=self._wanted)
        talk = self._talk = Conversation(machine, self._perform, self._socket_lost)
        self._offer = self._loop.create_future()
        self._close_sides()
        if way is Way.V0:
            self._open_side(Side.SUBSCRIBER, None, 0)
        self._open_side(Side.PUBLISHER, track.cid, RECEIVERS if way is Way.V1 else 0)
        if not await self._until(self._offer, OFFER_TIMEOUT):
            msg = "the room could not be joined: no offer was made"
            raise RoomError(msg)
        path, rode = machine.join_path(self._offer.result(), attributes)
        try:
            socket = await self._dial(path)
        except SocketRefused as refusal:
            if refusal.speaks_otherwise:
                return None
            raise
        talk.attach(socket)
        return rode

    def _open_side(self, side: Side, track: str | None, receivers: int) -> None:
        self._sides += (side,)
        self._peer.open(side, address=self._address, track=track, receivers=receivers)

    async def _dial(self, path: str) -> Socket:
        for pause in (*DIAL_PAUSES, None):
            try:
                return await Socket.open(self._url, path, self._token, timeout=SOCKET_TIMEOUT)
            except SocketRefused as refusal:
                if refusal.is_final or pause is None:
                    raise
            except SocketFailed:
                if pause is None:
                    raise
            if await self._until(self._loop.create_future(), pause):
                break
        raise SocketFailed

    async def _settle(self) -> None:
        """Wait until we are in, our track is taken and media can flow."""
        assert self._talk is not None
        paths = self._talk.machine.paths
        if not await self._until(self._joined, FIRST_TIMEOUT):
            msg = "the room could not be joined: the server says nothing"
            raise RoomError(msg)
        if not await self._until(self._connected, RELAY_PATIENCE):
            if paths.relayed_only:
                raise RoomUnsuitable(Unsuitable.RELAY_ONLY)
            if not await self._until(self._connected, PATH_PATIENCE - RELAY_PATIENCE):
                raise self._no_path()
        if not await self._until(self._taken, FIRST_TIMEOUT):
            msg = "the track could not be published"
            raise RoomError(msg)
        self._standing = True

    def _no_path(self) -> RoomError:
        if self._answered:
            return RoomUnsuitable(Unsuitable.UDP_BLOCKED)
        return RoomError("the room could not be joined: our offer was not answered")

    async def _until(self, milestone: asyncio.Future[Any], timeout: float) -> bool:
        """Wait for *milestone*; False: not in time. Raises what made it impossible."""
        either: set[asyncio.Future[Any]] = {milestone, self._failure}
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._failure.done():  # first: what is reached may still be of no use
            raise self._failure.result()
        return milestone.done()

    def fail(self, error: RoomError) -> None:
        """Have a join under way end with *error*."""
        if not self._failure.done():
            self._failure.set_result(error)

    # What the session asks.

    def mute(self, muted: bool) -> None:  # noqa: FBT001 (a level)
        """Show our track as muted, or not."""
        self._muted = muted
        if self._talk is not None:
            self._talk.machine.mute(muted)
            self._talk.run()

    def subscribe(self, wanted: bool) -> None:  # noqa: FBT001 (a level)
        """Have the audio of the others sent to us, or not."""
        self._wanted = wanted
        if self._talk is not None:
            self._talk.machine.subscribe(wanted)
            self._talk.run()

    def others(self) -> list[str]:
        """Return the identities of the others."""
        return self._talk.machine.others() if self._talk is not None else []

    def kind_of(self, identity: str) -> str | None:
        """Return the kind of another participant, None while it has not been told of."""
        return self._talk.machine.kind_of(identity) if self._talk is not None else None

    def speaker(self, identity: str, track: str) -> str:
        """Return the kind of whom words are that *identity* sent of *track*."""
        return self._talk.machine.speaker(identity, track) if self._talk is not None else "unknown"

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        """Merge *attributes* into ours; done when the server has confirmed it."""
        if self._talk is None or not self._talk.has_socket:
            msg = "the room is away"
            raise RoomError(msg)
        number = self._talk.machine.set_attributes(attributes)
        confirmed: asyncio.Future[bool] = self._loop.create_future()
        self._confirmations[number] = confirmed
        self._talk.run()
        try:
            if not await confirmed:
                msg = "the attributes were refused"
                raise RoomError(msg)
        finally:
            self._confirmations.pop(number, None)

    # The end.

    async def close(self, reason: LeaveReason | None, *, after: float = float("-inf")) -> None:
        """Leave and free everything. None: we come back at once.

        *after* is when our last message left or, where that is known, reached the server (of
        the loop's clock): the goodbye takes another way, and must not overtake it.
        """
        self._stop()
        if self._resuming is not None:
            self._resuming.cancel()
        if self._talk is not None and self._talk.has_socket:
            await asyncio.wait({self._joined}, timeout=GOODBYE)
            await asyncio.sleep(min(after + DATA_GRACE - self._loop.time(), DATA_GRACE))
            self._talk.machine.leave(reason)
            self._talk.run()
            await self._talk.ended(GOODBYE)
        await self.free()

    async def free(self) -> None:
        """Free sockets, transports and timers; the far end is gone already, or we are to it."""
        self._stop()
        self._close_sides()
        for confirmed in self._confirmations.values():
            confirmed.cancel()
        if self._resuming is not None and self._resuming is not asyncio.current_task():
            self._resuming.cancel()
            await asyncio.wait({self._resuming})
        if self._talk is not None:
            await self._talk.free(GOODBYE)

    def _close_sides(self) -> None:
        for side in self._sides:
            self._peer.close(side)
        self._sides = ()
        self._up.clear()

    def _stop(self) -> None:
        """Nothing is told any more, nothing repaired."""
        self._closed = True
        if self._talk is not None:
            self._talk.stop()
        for timer in (self._parting, self._repairing):
            if timer is not None:
                timer.cancel()
        self._parting = self._repairing = None

    # What the machine wants done.

    def _perform(self, output: Output) -> None:
        match output:
            case outputs.Transmit():
                pass  # sent already
            case outputs.AcceptAnswer():
                self._answered = True
                self._peer.accept_answer(Side.PUBLISHER, output.sdp)
            case outputs.AcceptOffer():
                self._peer.accept_offer(output.side, output.sdp)
            case outputs.AddCandidate():
                self._peer.add_candidate(output.side, output.candidate)
            case outputs.AddReceivers():
                self._peer.add_receivers(Side.PUBLISHER, output.count)
            case outputs.RestartIce():
                self._peer.restart_ice(Side.PUBLISHER)
            case outputs.JoinedRoom():
                if not self._closed:
                    self._owner.link_joined(self, output.identity)
                _reached(self._joined)
            case outputs.TrackTaken():
                _reached(self._taken)
            case outputs.FoundUnsuitable():
                if self._standing:
                    log.warning("room.unsuitable", why=output.why.value)
                self.fail(RoomUnsuitable(output.why))
            case outputs.Told():
                self._notify(output.notice)
            case outputs.Confirmed():
                confirmed = self._confirmations.get(output.request)
                if confirmed is not None and not confirmed.done():
                    confirmed.set_result(output.accepted)
            case outputs.TokenRefreshed():
                self._token = output.token
            case outputs.Resumed():
                self._owner.link_resumed(self, output.last_message)
                if self._resumed is not None:
                    _reached(self._resumed)
            case outputs.ResumeRefused():
                self._lose()
            case outputs.Dismissed():
                self._dismissed(output)
            case outputs.SocketSilent():
                self._drop_socket()
            case outputs.Ignored():
                log.debug("room.signal_ignored", what=output.what, detail=output.detail)
            case _:
                assert_never(output)

    def _notify(self, notice: RoomNotice) -> None:
        if not self._closed:
            self._owner.link_notice(self, notice)

    def _dismissed(self, dismissal: outputs.Dismissed) -> None:
        if not self._standing:
            self.fail(RoomError("the room could not be joined: the server sent us away"))
            return
        self.replaced = dismissal.replaced
        if dismissal.action is Action.RESUME:
            self._drop_socket()
        else:
            self._end(dismissal.gone)

    def _lose(self) -> None:
        self._end(RoomGone.LOST)

    def _end(self, gone: RoomGone) -> None:
        """The room is gone for us."""
        if self._closed:
            return
        self._notify(RoomClosed(why=gone))
        self._stop()

    # Away and back.

    def _socket_lost(self) -> None:
        if not self._standing:
            self.fail(RoomError("the connection was lost while joining"))
            return
        self._go_away()
        if self._resuming is None:
            self._resuming = self._loop.create_task(self._resume())

    def _drop_socket(self) -> None:
        if self._talk is not None:
            self._talk.drop()

    def _go_away(self) -> None:
        if self._away_since is None and not self._closed:
            self._away_since = self._loop.time()
            self._notify(RoomReconnecting())

    def _come_back(self) -> None:
        """Tell that the connection is back, if all of it is."""
        whole = self._talk is not None and self._talk.has_socket and self._resuming is None
        if self._away_since is None or not whole or not self._up.issuperset(self._sides):
            return
        self._away_since = None
        self._notify(RoomReconnected())

    async def _resume(self) -> None:
        """Take up the signalling on a new socket, as often as it takes."""
        began = self._loop.time()
        pause = 0.0
        while self._loop.time() - began < RESUME_PATIENCE:
            if await self._resume_once():
                self._resuming = None
                self._resumed_after(self._loop.time() - began)
                return
            if self._closed:
                return
            await asyncio.sleep(pause)
            pause = min(pause + RESUME_PAUSE, 1.0)
            await watch_of(self._url).answering(RESUME_PATIENCE)
        self._resuming = None
        self._lose()

    async def _resume_once(self) -> bool:
        talk = self._talk
        assert talk is not None
        try:
            if not self._fixed_address and await local_address(self._url) != self._address:
                self._lose()  # our transports are bound to an address that leads there no more
                return False
            path = talk.machine.resume_path(
                media_lost=not self._up.issuperset(self._sides),
                received=self._owner.receive_states(),
            )
            socket = await Socket.open(self._url, path, self._token, timeout=RESUME_TIMEOUT)
        except SocketRefused as refusal:
            if refusal.is_final:
                self._lose()
            return False
        except RoomError:
            return False
        self._resumed = self._loop.create_future()
        talk.attach(socket)
        return await talk.answered(self._resumed, FIRST_TIMEOUT)

    def _resumed_after(self, seconds: float) -> None:
        log.info("room.resumed", ms=round(seconds * 1000))
        if seconds > SHORT or not self._up.issuperset(self._sides):
            self._restart_ice()
        self._come_back()

    def _restart_ice(self) -> None:
        if self._talk is not None:
            self._talk.machine.restart_ice()
            self._talk.run()

    # The transports.

    def peer_event(self, event: PeerEvent) -> None:
        """Take what came of the transports."""
        talk = self._talk
        if talk is None or self._closed:
            return
        machine = talk.machine
        match event:
            case OfferMade():
                if self._offer.done():
                    machine.offer_made(event.sdp, self._loop.time())
                else:
                    self._offer.set_result(event.sdp)
            case AnswerMade():
                machine.answer_made(event.side, event.sdp)
            case PeerConnected():
                self._path_up(event.side)
            case PeerDisconnected():
                self._path_down(event.side)
            case PeerClosed():
                self._path_closed(event)
            case ChannelOpened():
                machine.channel_opened(event.side, event.label, event.stream)
            case DataReceived() | DataDelivered() | TrackHeard():
                pass
            case _:
                assert_never(event)
        talk.run()

    def _path_up(self, side: Side) -> None:
        self._up.add(side)
        if self._up.issuperset(self._sides):
            if self._repairing is not None:
                self._repairing.cancel()
                self._repairing = None
            _reached(self._connected)
            self._come_back()

    def _path_down(self, side: Side) -> None:
        """Restart ICE. The subscriber's is the server's to restart: it does at a resume."""
        self._up.discard(side)
        if not self._standing:
            return
        self._go_away()
        if self._repairing is None:
            self._repairing = self._loop.call_later(REPAIR_PATIENCE, self._lose)
        if side is Side.SUBSCRIBER:
            self._drop_socket()
        elif self._talk is not None and self._talk.has_socket:
            self._talk.machine.probe(self._loop.time())
            self._talk.machine.restart_ice()

    def _path_closed(self, event: PeerClosed) -> None:
        self._up.discard(event.side)
        log.info("room.transport_closed", why=event.why)
        if not self._standing:
            timed_out = event.why == "timeout"
            msg = "the room could not be joined: the transport was closed"
            self.fail(self._no_path() if timed_out else RoomError(msg))
        elif self._parting is None:
            self._parting = self._loop.call_later(LEAVE_GRACE, self._lose)


def _reached(milestone: asyncio.Future[None]) -> None:
    if not milestone.done():
        milestone.set_result(None)

"""The direct engine: the native core moves the packets, Python signals (design, Media).

The core (`trunkbridge_native`) has the sockets of the carrier and of the room on threads
of its own. What it has to tell comes by an eventfd to the loop, a batch at a time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from bridge.media.ports import Ports
from bridge.media.seam import (
    CallMedia,
    ClockReading,
    EngineChoice,
    KeyPressed,
    Law,
    Lease,
    MediaFailed,
    MediaLevels,
    MediaNotice,
    MediaSpec,
    MediaStats,
    MediaTimedOut,
    Recording,
)
from bridge.room.seam import RoomHandlers, RoomSession
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
    PeerFactory,
    Side,
    TrackHeard,
)
from rtp import g711
from rtp.latch import canonical
from sdp.crypto import Crypto
from sdp.negotiated import Negotiated

if TYPE_CHECKING:
    from trunkbridge_native import Core

log = structlog.get_logger(__name__)

CHOICE = EngineChoice(engine="direct")
FAREWELL = 2.0
"""Seconds the core has to confirm that a call's media is closed."""
BEHIND = 1.0
"""Seconds without a turn of one media thread that has calls: then the clock stands."""

RoomFactory = Callable[[RoomHandlers, PeerFactory, Law], RoomSession]
"""Makes a call's room session on the transports of its second argument; the third: its law."""


class DirectEngine:
    """Implements `bridge.media.seam.Engine` on the native core."""

    def __init__(self, core: Core, rooms: RoomFactory, ports: Ports) -> None:
        self._core = core
        self._rooms = rooms
        self._ports = ports
        self._calls: dict[int, DirectCarrier] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turned = 0

    def open(
        self,
        spec: MediaSpec,
        lease: Lease,
        room: RoomHandlers,
        notify: Callable[[MediaNotice], None],
    ) -> CallMedia:
        """Return the media of one call; nothing flows until it is told to.

        Raises ``ValueError`` when ``media_allow`` has something that is no network.
        """
        carrier = DirectCarrier(self._core, spec, lease, notify, self._ports, self._forget)
        self._calls[carrier.handle] = carrier
        session = self._rooms(room, carrier.transports, spec.track)
        return CallMedia(carrier=carrier, room=session, choice=lambda: CHOICE)

    def clock(self) -> ClockReading:
        """Return how the media threads are now."""
        turns = self._core.turns()
        if turns.behind < BEHIND:  # of several threads one that hangs is not hidden by another
            self._turned = turns.turns
        return ClockReading(
            calls=len(self._calls),
            turns=self._turned,
            missed=turns.missed,
            late=turns.late,
            ought_to_turn=turns.calls > 0,
        )

    async def start(self) -> None:
        """Listen to the core on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._core.fileno(), self._drain)
        log.info("media.direct", realtime=self._core.turns().realtime)

    async def stop(self) -> None:
        """Close the media of every call and end the threads."""
        try:
            await asyncio.gather(*(carrier.close() for carrier in tuple(self._calls.values())))
        finally:
            if self._loop is not None:
                self._loop.remove_reader(self._core.fileno())
                self._loop = None
            self._core.stop()

    def _forget(self, handle: int) -> None:
        self._calls.pop(handle, None)

    def _drain(self) -> None:
        for handle, kind, *details in self._core.drain():
            carrier = self._calls.get(handle)
            if carrier is None:
                continue
            try:
                carrier.told(kind, details)
            except Exception:  # one call's bug is no other's
                log.exception("media.notice_failed", call_id=carrier.call_id, kind=kind)


class DirectCarrier:
    """Implements `bridge.media.seam.CarrierMedia`; made by the engine."""

    def __init__(
        self,
        core: Core,
        spec: MediaSpec,
        lease: Lease,
        notify: Callable[[MediaNotice], None],
        ports: Ports,
        forget: Callable[[int], None],
    ) -> None:
        self.call_id = spec.call_id
        self._core = core
        self._lease = lease
        self._notify = notify
        self._ports = ports
        self._forget = forget
        self._secure = False
        self._last: MediaStats | None = None  # once it is closed
        self._gone: asyncio.Future[Lease] | None = None
        self._transports: DirectTransports | None = None
        self.handle = core.open(
            lease.rtp.fileno(),
            lease.rtcp.fileno(),
            ssrc=lease.ssrc,
            sequence=lease.sequence,
            timestamp=lease.timestamp,
            track=spec.track,
            signalling=canonical(spec.signalling_address),
            allow=list(spec.media_allow),
            cname=secrets.token_hex(12),
        )

    # What the call tells us.

    def connect(self, negotiated: Negotiated) -> None:
        """Take what was negotiated. The stream's identity goes on (RFC 3264 8.3)."""
        self._note_security(negotiated.crypto)
        nowhere = not negotiated.remote_address or not 0 < negotiated.remote_port < 65536
        self._core.connect(
            self.handle,
            remote=None if nowhere else (negotiated.remote_address, negotiated.remote_port),
            remote_rtcp_port=negotiated.remote_rtcp_port,
            codec=negotiated.codec,
            payload_type=negotiated.payload_type,
            receive_codecs=[
                (payload_type, codec)
                for payload_type, codec in negotiated.receive_codecs
                if codec in g711.SILENCE_BYTE
            ],
            dtmf_payload_type=negotiated.dtmf_payload_type,
            receive_dtmf_payload_type=negotiated.receive_dtmf_payload_type,
            ptime=min(60, max(10, negotiated.ptime)),
            crypto=_keys(negotiated.crypto),
        )

    def _note_security(self, crypto: Crypto | None) -> None:
        if crypto is None and self._secure:
            log.warning("media.unsecured", call_id=self.call_id)
        if crypto is not None and not self._secure:
            log.info("media.secured", call_id=self.call_id, suite=crypto.suite)
        self._secure = crypto is not None

    def apply(self, levels: MediaLevels) -> None:
        """Open or close what may flow, at once."""
        self._core.apply(
            self.handle,
            transmit=levels.transmit,
            agent_audio=levels.agent_audio,
            caller_audio=levels.caller_audio,
            watchdog=levels.watchdog,
            watchdog_initial=levels.watchdog_initial,
        )

    def send_dtmf(self, digits: str) -> None:
        """Queue *digits*; dropped when nothing may go out or they take no telephone-events."""
        self._core.send_dtmf(self.handle, digits)

    def stats(self) -> MediaStats:
        """Return the counters so far."""
        return self._last or self._read_stats()

    def record(self, recording: Recording) -> None:
        """Let *recording* hear both directions; nothing of a call that is closed."""
        with suppress(KeyError, RuntimeError):  # the core was stopped, or knows it no more
            recording.follow(self._core.tap(self.handle))

    def _read_stats(self) -> MediaStats:
        read = self._core.stats(self.handle)
        return MediaStats(
            packets_received=read.packets_received,
            packets_sent=read.packets_sent,
            packets_lost=read.packets_lost,
            packets_refused=read.packets_refused,
            jitter_ms=read.jitter_ms,
            round_trip_ms=read.round_trip_ms,
            packets_late=read.packets_late,
            packets_shed=read.packets_shed,
            packets_unauthentic=read.packets_unauthentic,
        )

    async def close(self) -> None:
        """Stop and give the ports back to rest; a second time does nothing.

        The room's transports go on: `call_ended` is yet to be sent.
        """
        self._ports.release(await self._stop(goodbye=True))

    async def surrender(self) -> Lease:
        """Stop, and return the lease as it is now: another engine goes on with its stream."""
        return await self._stop(goodbye=False)

    async def _stop(self, *, goodbye: bool) -> Lease:
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
            self._hang_up(goodbye=goodbye)
        try:
            async with asyncio.timeout(FAREWELL):
                return await asyncio.shield(self._gone)
        except TimeoutError:
            log.error("media.not_closed", call_id=self.call_id)
            self._closed(self._lease.sequence, self._lease.timestamp)
            return self._lease

    def _hang_up(self, *, goodbye: bool) -> None:
        try:
            self._last = self._read_stats()
            self._core.hang_up(self.handle, goodbye=goodbye)
        except (KeyError, RuntimeError):  # the core was stopped, or knows nothing of the call
            self._closed(self._lease.sequence, self._lease.timestamp)

    # What the core tells us.

    def told(self, kind: str, details: list[Any]) -> None:
        """Take one of the core's notes."""
        match kind, details:
            case "key", [digit, duration_ms]:
                self._notify(KeyPressed(digit=digit, duration_ms=duration_ms))
            case "timed_out", [ever]:
                self._notify(MediaTimedOut(ever=ever))
            case "not_authentic", []:
                log.warning("media.not_authentic", call_id=self.call_id)
            case "hung_up", [sequence, timestamp, packets]:
                self._last = self._read_stats()
                self._closed(sequence, timestamp, packets)
            case "fault", [what]:
                log.error("media.fault", call_id=self.call_id, fault=what)
                self._notify(MediaFailed())
            case _:
                if self._transports is not None:
                    self._transports.told(_peer_event(kind, details))

    def _closed(self, sequence: int, timestamp: int, packets: int | None = None) -> None:
        if self._last is not None and packets is not None:
            self._last = replace(self._last, packets_sent=packets)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(replace(self._lease, sequence=sequence, timestamp=timestamp))
        self._retire()

    def _retire(self) -> None:
        """Let the core forget the call when neither carrier nor room uses it."""
        over = self._gone is not None and self._gone.done()
        if over and (self._transports is None or not self._transports.in_use):
            with suppress(RuntimeError):  # a core that was stopped has closed every call
                self._core.close(self.handle)
            self._forget(self.handle)

    def transports(self, told: Callable[[PeerEvent], None]) -> DirectTransports:
        """Return the room's transports of this call; *told* hears of them."""
        self._transports = DirectTransports(self._core, self.handle, told, self._retire)
        return self._transports


class DirectTransports:
    """Implements `bridge.room.signal.port.PeerPort` for one call of the core."""

    def __init__(
        self,
        core: Core,
        handle: int,
        told: Callable[[PeerEvent], None],
        unused: Callable[[], None],
    ) -> None:
        self.told = told
        self._core = core
        self._handle = handle
        self._unused = unused
        self._open: set[Side] = set()

    @property
    def in_use(self) -> bool:
        """Whether a transport is open."""
        return bool(self._open)

    def open(self, side: Side, *, address: str, track: str | None, receivers: int) -> None:
        """Make a transport that uses the local *address*."""
        self._open.add(side)
        with self._asking(side):
            self._core.peer_open(
                self._handle, int(side), address=address, track=track, receivers=receivers
            )

    def accept_answer(self, side: Side, sdp: str) -> None:
        """Take the server's answer to our offer."""
        with self._asking(side):
            self._core.peer_answer(self._handle, int(side), sdp)

    def accept_offer(self, side: Side, sdp: str) -> None:
        """Take the server's offer."""
        with self._asking(side):
            self._core.peer_offer(self._handle, int(side), sdp)

    def add_candidate(self, side: Side, candidate: str) -> None:
        """Take one of the server's candidates."""
        with self._asking(side):
            self._core.peer_candidate(self._handle, int(side), candidate)

    def add_receivers(self, side: Side, count: int) -> None:
        """Offer again with *count* more receiving sections."""
        with self._asking(side):
            self._core.peer_receivers(self._handle, int(side), count)

    def restart_ice(self, side: Side) -> None:
        """Offer again with new ICE credentials."""
        with self._asking(side):
            self._core.peer_restart_ice(self._handle, int(side))

    def send(self, label: str, data: bytes) -> None:
        """Send one message on our data channel *label*."""
        with self._asking(Side.PUBLISHER):
            self._core.peer_send(self._handle, label, data)

    def mute(self, muted: bool) -> None:  # noqa: FBT001 (a level)
        """Send no packets on our track."""
        with self._asking(Side.PUBLISHER):
            self._core.peer_mute(self._handle, muted)

    def close(self, side: Side) -> None:
        """Close a transport."""
        with suppress(RuntimeError):  # a core that was stopped has closed every transport
            self._core.peer_close(self._handle, int(side))
        self._open.discard(side)
        if not self._open:
            self._unused()

    @contextmanager
    def _asking(self, side: Side) -> Iterator[None]:
        """Let a core that takes no commands (stopped, or stuck) be a transport that is lost."""
        try:
            yield
        except RuntimeError:
            asyncio.get_running_loop().call_soon(self._lose, side)

    def _lose(self, side: Side) -> None:
        if side in self._open:  # once
            self.close(side)
            self.told(PeerClosed(side=side, why="fault"))


def _peer_event(kind: str, details: list[Any]) -> PeerEvent:
    side = Side(details[0])
    match kind, details[1:]:
        case "offer", [sdp]:
            return OfferMade(side=side, sdp=sdp)
        case "answer", [sdp]:
            return AnswerMade(side=side, sdp=sdp)
        case "connected", []:
            return PeerConnected(side=side)
        case "disconnected", []:
            return PeerDisconnected(side=side)
        case "peer_closed", [why]:
            return PeerClosed(side=side, why=why)
        case "channel", [label, stream]:
            return ChannelOpened(side=side, label=label, stream=stream)
        case "data", [label, data]:
            return DataReceived(side=side, label=label, data=data)
        case "delivered", [label, count]:
            return DataDelivered(side=side, label=label, count=count)
        case "track", [mid]:
            return TrackHeard(side=side, mid=mid)
        case _:
            msg = f"the core told {kind!r}, which is unknown"
            raise ValueError(msg)


def _keys(crypto: Crypto | None) -> tuple[Any, ...] | None:
    """Return *crypto* as the core takes it: (suite, send, [receive…], window)."""
    if crypto is None:
        return None
    send, *receive = ((key.secret, key.mki, key.lifetime) for key in (crypto.send, *crypto.receive))
    return (crypto.suite, send, receive, crypto.window)

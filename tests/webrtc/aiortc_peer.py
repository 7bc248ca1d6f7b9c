"""`PeerPort` on aiortc: the independent WebRTC peer of the tests (nothing of it is ours).

Every method returns at once and its work is done in order; events come on the loop's thread,
never from inside a method. Beyond the port it says tones, keeps what it hears and can lose its
datagrams.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities, RTCSctpTransport, SackChunk
from aiortc.rtp import (
    HeaderExtensionsMap,
    RtcpPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSenderInfo,
    RtcpSrPacket,
    RtpPacket,
)
from aiortc.sdp import MediaDescription, SessionDescription, candidate_to_sdp

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
from tests.webrtc.descriptions import (
    CODECS,
    MESSAGE_LIMIT,
    Description,
    identity,
    sending,
    usable_codecs,
)
from tests.webrtc.heard import PACKET, PCMA, PCMU, Heard, tone
from tests.webrtc.path import Dtls, Path

RELIABLE, LOSSY = "_reliable", "_lossy"
CONNECT_TIMEOUT = 15.0
QUEUE_LIMIT = 4 * 1024 * 1024
"""Bytes that may wait for our data channels; more closes the transport."""
REPORT_PERIOD = 3.0
_NTP_OFFSET = 2_208_988_800  # seconds from 1900 to 1970


class AiortcPeer(PeerPort):
    """The transports of one call. End with `finish` (`close` of both sides is part of it)."""

    def __init__(self, notify: Callable[[PeerEvent], None], *, law: int = PCMU) -> None:
        assert law in {PCMU, PCMA}
        self._notify = notify
        self._law = law
        self._certificate = RTCCertificate.generateCertificate()
        self._sides: dict[Side, _Transport] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._muted = False
        self._hertz = 0.0

    # PeerPort.

    def open(self, side: Side, *, address: str, track: str | None, receivers: int) -> None:
        """Make a transport; the publisher's makes the first offer."""
        self.close(side)
        transport = _Transport(side, self._notify, self._certificate, address)
        transport.muted, transport.hertz = self._muted, self._hertz
        self._sides[side] = transport
        if side is Side.PUBLISHER:
            transport.make_channels()
            transport.do(lambda: transport.first_offer(track, self._law, receivers))

    def accept_answer(self, side: Side, sdp: str) -> None:
        """Take the server's answer to our offer."""
        if (transport := self._sides.get(side)) is not None:
            transport.do(lambda: transport.take_answer(sdp))

    def accept_offer(self, side: Side, sdp: str) -> None:
        """Take the server's offer; makes `AnswerMade`."""
        if (transport := self._sides.get(side)) is not None:
            transport.do(lambda: transport.take_offer(sdp))

    def add_candidate(self, side: Side, candidate: str) -> None:
        """Take one of the server's candidates."""
        if (transport := self._sides.get(side)) is not None:
            transport.do(lambda: transport.take_candidate(candidate))

    def add_receivers(self, side: Side, count: int) -> None:
        """Offer again with *count* more receiving sections, at least one."""
        if (transport := self._sides.get(side)) is not None:
            transport.do(lambda: transport.more_receivers(max(count, 1)))

    def restart_ice(self, side: Side) -> None:
        """Offer again with new ICE credentials."""
        if (transport := self._sides.get(side)) is not None:
            transport.do(transport.offer_restart)

    def send(self, label: str, data: bytes) -> None:
        """Send one message on our data channel *label*, in order."""
        if (transport := self._sides.get(Side.PUBLISHER)) is not None:
            transport.send(label, data)

    def mute(self, muted: bool) -> None:
        """Send no packets on our track; a level, kept over everything."""
        self._muted = muted
        for transport in self._sides.values():
            transport.muted = muted

    def close(self, side: Side) -> None:
        """Close a transport; nothing more is told of it."""
        if (transport := self._sides.pop(side, None)) is not None:
            transport.silence()
            task = asyncio.get_running_loop().create_task(transport.end())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    # For tests.

    def play(self, hertz: float) -> None:
        """Say a tone from now on; 0 is silence."""
        self._hertz = hertz
        for transport in self._sides.values():
            transport.hertz = hertz

    def heard(self, mid: str, side: Side = Side.PUBLISHER) -> Heard | None:
        """Return what came last under *mid*."""
        transport = self._sides.get(side)
        found = [one for one in transport.heard.values() if one.mid == mid] if transport else []
        return found[-1] if found else None

    def tracks(self) -> list[Heard]:
        """Return everything heard so far on both transports that are open."""
        return [one for transport in self._sides.values() for one in transport.heard.values()]

    def packets_sent(self) -> int:
        """Return the number of packets that our track has sent."""
        return sum(transport.packets_sent for transport in self._sides.values())

    def cut(self, lost: bool, side: Side = Side.PUBLISHER) -> None:
        """Lose all datagrams of one transport but ICE's, or none again."""
        if (transport := self._sides.get(side)) is not None:
            transport.path.cut = lost

    async def finish(self) -> None:
        """Close everything and wait until it is closed."""
        for side in list(self._sides):
            self.close(side)
        if self._closing:
            await asyncio.wait(set(self._closing))


class _Transport:
    """One PeerConnection."""

    def __init__(
        self,
        side: Side,
        notify: Callable[[PeerEvent], None],
        certificate: RTCCertificate,
        address: str,
    ) -> None:
        self._side = side
        self._notify = notify
        self._told = True
        self._loop = asyncio.get_running_loop()
        self._ours = Description(certificate=certificate)
        self.path = Path(address, self._path_changed)
        self._dtls = Dtls(self.path, certificate, self._rtp, self._rtcp)
        self._dtls.on("statechange", self._dtls_changed)
        self._sctp = _Sctp(self._dtls, self._acknowledged)
        self._sctp.on("datachannel", self._watch)
        self._channels: dict[str, RTCDataChannel] = {}
        self._waiting: list[tuple[str, bytes]] = []  # for a channel of ours to open
        self._under_way = 0  # messages on the reliable channel
        self._work: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._tasks: set[asyncio.Future[None]] = set()
        self._spawn(self._worker())
        self._answered_as = ""  # our DTLS role, once it is settled
        self._mids: dict[int, str] = {}  # SSRC -> mid, as the server describes it
        self.heard: dict[int, Heard] = {}
        self._early: dict[int, Heard] = {}  # not described yet
        self._ssrc = random.getrandbits(32)
        self._payload_type: int | None = None  # None: we send nothing
        self._sequence = random.getrandbits(15)
        self._timestamp = random.getrandbits(31)
        self._sent_at = 0.0
        self._octets = 0
        self.packets_sent = 0
        self.muted = False
        self.hertz = 0.0

    # Order of work, and its end.

    def do(self, step: Callable[[], Awaitable[None]]) -> None:
        """Have *step* done after all steps before it."""
        self._work.put_nowait(step)

    async def _worker(self) -> None:
        while True:
            step = await self._work.get()
            try:
                await step()
            except (AssertionError, ValueError, KeyError, OSError):
                self._tell(PeerClosed(side=self._side, why="sdp"))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell(self, event: PeerEvent) -> None:
        if self._told:
            self._loop.call_soon(self._pass_on, event)
        if isinstance(event, PeerClosed):
            self._told = False

    def _pass_on(self, event: PeerEvent) -> None:
        if self._notify is not _nobody:
            self._notify(event)

    def silence(self) -> None:
        """Tell nothing any more, not even what is under way."""
        self._told = False
        self._notify = _nobody

    async def end(self) -> None:
        """Say goodbye and free everything."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._dtls.state == "connected":
            with suppress(ConnectionError):
                await self._sctp.stop()
        await self._dtls.stop()
        await self.path.close()

    # Descriptions.

    async def first_offer(self, track: str | None, law: int, receivers: int) -> None:
        """Offer the data channels, what receives, then our track."""
        self._ours.add_data("0")
        self._add_receivers(receivers)
        if track is not None:
            self._payload_type = law
            self._ours.add_sender(self._next_mid(), law, self._ssrc, track)
        await self._offer_on_new_path()

    def _next_mid(self) -> str:
        return str(len(self._ours.sections))

    def _add_receivers(self, count: int) -> None:
        for _ in range(count):
            self._ours.add_receiver(self._next_mid(), list(CODECS.values()), "recvonly")

    async def more_receivers(self, count: int) -> None:
        """Offer *count* more at the end."""
        self._add_receivers(count)
        self._offer()

    async def offer_restart(self) -> None:
        """Offer new ICE credentials."""
        await self._offer_on_new_path()

    async def _offer_on_new_path(self) -> None:
        await self._gather(controlling=True)
        self._offer()

    async def _gather(self, *, controlling: bool) -> None:
        await self.path.gather(controlling=controlling)
        self._ours.username, self._ours.password = self.path.credentials
        self._ours.candidates = self.path.candidates

    def _offer(self) -> None:
        sdp = self._ours.text(self._answered_as or "auto")
        self._tell(OfferMade(side=self._side, sdp=sdp))

    async def take_answer(self, sdp: str) -> None:
        """Connect by the first answer, and by each with new ICE credentials."""
        theirs = SessionDescription.parse(sdp)
        self._learn(theirs)
        # RFC 5763 5: who answers ``active`` is the DTLS client.
        role = "server" if identity(theirs)[1].role == "client" else "client"
        await self._meet(theirs, role)

    async def take_offer(self, sdp: str) -> None:
        """Answer, and connect as the server's DTLS client."""
        theirs = SessionDescription.parse(sdp)
        self._learn(theirs)
        ice, _ = identity(theirs)
        if self.path.is_new(ice.usernameFragment or ""):
            await self._gather(controlling=ice.iceLite)
        self._ours.sections.clear()
        for offered in theirs.media:
            self._answer_section(offered)
        role = self._answered_as or "client"
        self._tell(AnswerMade(side=self._side, sdp=self._ours.text(role)))
        await self._meet(theirs, role)

    def _answer_section(self, offered: MediaDescription) -> None:
        mid, codecs = offered.rtp.muxId, usable_codecs(offered)
        if offered.kind == "application":
            self._ours.add_data(mid)
        elif sending(offered) and codecs:
            self._ours.add_receiver(mid, codecs, "recvonly")
        elif offered.kind == "audio" and offered.port and codecs:
            self._ours.add_receiver(mid, codecs, "inactive")
        else:
            self._ours.add_refused(mid, offered)

    def _learn(self, theirs: SessionDescription) -> None:
        """Note which SSRC belongs to which section, and tell of those heard already."""
        for section in theirs.media:
            if sending(section) and section.ssrc:
                self._mids[section.ssrc[0].ssrc] = section.rtp.muxId
        for ssrc in [one for one in self._early if one in self._mids]:
            self._introduce(self._early.pop(ssrc))

    async def _meet(self, theirs: SessionDescription, role: str) -> None:
        ice, _ = identity(theirs)
        for candidate in [one for section in theirs.media for one in section.ice_candidates]:
            await self.path.add_candidate(candidate_to_sdp(candidate))
        if self.path.is_new(ice.usernameFragment or ""):
            self._spawn(self._connect(theirs, role))

    async def take_candidate(self, candidate: str) -> None:
        """Give a candidate of the server to ICE."""
        await self.path.add_candidate(candidate)

    async def _connect(self, theirs: SessionDescription, role: str) -> None:
        ice, dtls = identity(theirs)
        username, password = ice.usernameFragment or "", ice.password or ""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self.path.connect(username, password, lite=ice.iceLite)
                if not self._answered_as:
                    self._answered_as = role
                    await self._start(dtls.fingerprints, role)
        except (ConnectionError, TimeoutError):
            self._tell(PeerClosed(side=self._side, why="timeout"))

    async def _start(self, fingerprints: list[RTCDtlsFingerprint], role: str) -> None:
        self._dtls.set_role(role)
        await self._dtls.start(RTCDtlsParameters(fingerprints=fingerprints))
        if self._dtls.state != "connected":
            return
        self._tell(PeerConnected(side=self._side))
        self._spawn(self._speak())
        self._spawn(self._report())
        await self._sctp.start(RTCSctpCapabilities(maxMessageSize=MESSAGE_LIMIT), 5000)

    def _path_changed(self, up: bool) -> None:
        if self._dtls.state != "connected":
            return  # the first path: told when DTLS stands
        made = PeerConnected(side=self._side) if up else PeerDisconnected(side=self._side)
        self._tell(made)

    def _dtls_changed(self) -> None:
        if self._dtls.state == "closed":
            self._tell(PeerClosed(side=self._side, why="remote"))
        elif self._dtls.state == "failed":
            self._tell(PeerClosed(side=self._side, why="fault"))

    # Data channels.

    def make_channels(self) -> None:
        """Make those that the client opens; they open with the association."""
        for parameters in (
            RTCDataChannelParameters(label=RELIABLE),
            RTCDataChannelParameters(label=LOSSY, ordered=False, maxRetransmits=0),
        ):
            channel = RTCDataChannel(self._sctp, parameters)
            self._channels[channel.label] = channel
            channel.on("open", partial(self._opened, channel))
            self._listen(channel)

    def send(self, label: str, data: bytes) -> None:
        """Send now, or when the channel opens."""
        channel = self._channels.get(label)
        if channel is None or channel.readyState in {"closing", "closed"}:
            return
        if channel.readyState == "connecting":
            self._waiting.append((label, data))
        else:
            self._send(channel, data)
        waiting = sum(len(one) for _, one in self._waiting)
        if waiting + channel.bufferedAmount > QUEUE_LIMIT:
            self._tell(PeerClosed(side=self._side, why="overflow"))

    def _opened(self, channel: RTCDataChannel) -> None:
        self._tell(ChannelOpened(side=self._side, label=channel.label, stream=channel.id or 0))
        ready = [data for label, data in self._waiting if label == channel.label]
        self._waiting = [one for one in self._waiting if one[0] != channel.label]
        for data in ready:
            self._send(channel, data)

    def _send(self, channel: RTCDataChannel, data: bytes) -> None:
        self._under_way += channel.label == RELIABLE
        channel.send(data)

    def _acknowledged(self) -> None:
        """Tell what was delivered once nothing at all is under way."""
        if self._under_way and self._sctp.is_idle and not self._channels[RELIABLE].bufferedAmount:
            count, self._under_way = self._under_way, 0
            self._tell(DataDelivered(side=self._side, label=RELIABLE, count=count))

    def _watch(self, channel: RTCDataChannel) -> None:
        """Listen to a channel that the server opened."""
        self._tell(ChannelOpened(side=self._side, label=channel.label, stream=channel.id or 0))
        self._listen(channel)

    def _listen(self, channel: RTCDataChannel) -> None:
        def take(data: bytes | str) -> None:
            message = data.encode() if isinstance(data, str) else data
            self._tell(DataReceived(side=self._side, label=channel.label, data=message))

        channel.on("message", take)

    # Media.

    def _rtp(self, data: bytes) -> None:
        try:
            packet = RtpPacket.parse(data, HeaderExtensionsMap())
        except ValueError:
            return
        heard = self.heard.get(packet.ssrc) or self._early.get(packet.ssrc)
        if heard is None:
            mid = self._mids.get(packet.ssrc)
            heard = Heard(mid=mid or "", ssrc=packet.ssrc)
            if mid is None:
                self._early[packet.ssrc] = heard
            else:
                self._introduce(heard)
        if packet.payload:  # a probe has none
            heard.take(packet)

    def _introduce(self, heard: Heard) -> None:
        heard.mid = self._mids[heard.ssrc]
        self.heard[heard.ssrc] = heard
        self._tell(TrackHeard(side=self._side, mid=heard.mid))

    def _rtcp(self, data: bytes) -> None:
        try:
            packets = RtcpPacket.parse(data)
        except ValueError:
            return
        for packet in packets:
            if isinstance(packet, RtcpSrPacket) and (heard := self.heard.get(packet.ssrc)):
                heard.last_sender_report = (packet.sender_info.ntp_timestamp >> 16) & 0xFFFFFFFF
                heard.report_at = time.monotonic()

    async def _speak(self) -> None:
        """Send a packet every 20 ms of our own clock; the timestamp goes on while muted."""
        if self._payload_type is None:
            return
        extensions = HeaderExtensionsMap()
        due = time.monotonic()
        count = 0
        while True:
            self._sequence = (self._sequence + (not self.muted)) & 0xFFFF
            self._timestamp = (self._timestamp + PACKET) & 0xFFFFFFFF
            self._sent_at = time.monotonic()
            if not self.muted:
                packet = RtpPacket(
                    payload_type=self._payload_type,
                    sequence_number=self._sequence,
                    timestamp=self._timestamp,
                    ssrc=self._ssrc,
                )
                packet.payload = tone(self.hertz, count * PACKET, self._payload_type)
                await self._dtls.send_media(packet.serialize(extensions))
                self.packets_sent += 1
                self._octets += PACKET
            count += 1
            due += 0.02
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _report(self) -> None:
        """Send RTCP: SR for our track, RR for theirs (RFC 3550 6.4)."""
        while True:
            await asyncio.sleep(REPORT_PERIOD)
            blocks = [_block(heard) for heard in list(self.heard.values())[-31:]]
            if self._payload_type is None:
                if blocks:
                    packet = bytes(RtcpRrPacket(ssrc=self._ssrc, reports=blocks))
                    await self._dtls.send_media(packet)
                continue
            late = int((time.monotonic() - self._sent_at) * 8000)
            sender = RtcpSenderInfo(
                ntp_timestamp=int((time.time() + _NTP_OFFSET) * 2**32),
                rtp_timestamp=(self._timestamp + late) & 0xFFFFFFFF,
                packet_count=self.packets_sent,
                octet_count=self._octets,
            )
            report = RtcpSrPacket(ssrc=self._ssrc, sender_info=sender, reports=blocks)
            await self._dtls.send_media(bytes(report))


class _Sctp(RTCSctpTransport):
    """Tells when the far end acknowledged something (RFC 4960 3.3.4)."""

    def __init__(self, dtls: Dtls, acknowledged: Callable[[], None]) -> None:
        super().__init__(dtls)
        self._acknowledged = acknowledged

    @property
    def is_idle(self) -> bool:
        """Whether everything that was given to SCTP has arrived."""
        return not (self._sent_queue or self._outbound_queue or self._data_channel_queue)

    async def _receive_sack_chunk(self, chunk: SackChunk) -> None:
        await super()._receive_sack_chunk(chunk)
        self._acknowledged()


def _block(heard: Heard) -> RtcpReceiverInfo:
    known = bool(heard.last_sender_report)
    delay = int((time.monotonic() - heard.report_at) * 65536) if known else 0
    return RtcpReceiverInfo(
        ssrc=heard.ssrc,
        fraction_lost=0,
        packets_lost=max(0, heard.highest - heard.first + 1 - heard.received),
        highest_sequence=heard.highest,
        jitter=0,
        lsr=heard.last_sender_report,
        dlsr=delay,
    )


def _nobody(event: PeerEvent) -> None:
    del event

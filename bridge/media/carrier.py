"""The carrier's side of one call for an engine that handles PCM.

RTP comes in by the loop's reader and waits in the jitter buffer; everything
else happens in `SdkCarrier.tick`, on the clock that all calls share.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import structlog

from bridge.media.ports import Ports
from bridge.media.seam import (
    KeyPressed,
    Lease,
    MediaLevels,
    MediaNotice,
    MediaSpec,
    MediaStats,
    MediaTimedOut,
    Recording,
)
from bridge.media.secure import SecureLine
from bridge.media.tap import PcmTap
from bridge.media.ticker import Ticker
from bridge.room.seam import RoomAudio
from rtp import g711
from rtp.clock import Due, PacketClock
from rtp.dtmf import DtmfSender, EventFrame, Pause
from rtp.latch import Latch, canonical, networks
from rtp.net.socket import drain, send
from rtp.packet import Stream, is_rtcp
from rtp.receiver import Receiver
from rtp.report import Reporter
from sdp.crypto import Crypto
from sdp.negotiated import Negotiated

log = structlog.get_logger(__name__)

FRAME_SAMPLES = 160
FRAME_SECONDS = FRAME_SAMPLES / g711.RATE
SILENT_FRAME = bytes(FRAME_SAMPLES * 2)
MAX_CAUGHT_UP = 50
"""Frames of agent audio dropped one by one after a stall; beyond that, all that waits."""

UNAUTHENTIC_SAID_AT = 50
"""Packets of SRTP that did not pass, after which it is logged: once in a call."""

CLOSED = MediaLevels(transmit=False, agent_audio=False, caller_audio=False, watchdog=None)


class SdkCarrier:
    """Implements `bridge.media.seam.CarrierMedia`; made by the engine.

    The room gets 20 ms on every beat from the start, silence while
    ``caller_audio`` is closed or nothing comes, so that the published track
    runs without a gap from the join on.
    """

    def __init__(
        self,
        *,
        spec: MediaSpec,
        lease: Lease,
        room: RoomAudio,
        notify: Callable[[MediaNotice], None],
        ports: Ports,
        ticker: Ticker,
        now: Callable[[], float],
    ) -> None:
        self._call_id = spec.call_id
        self._lease = lease
        self._room = room
        self._notify = notify
        self._ports = ports
        self._ticker = ticker
        self._now = now
        self._latch = Latch(
            signalling=spec.signalling_address,
            allow=networks(spec.media_allow),
            own=ports.is_own,
        )
        self._receiver = Receiver(self._latch)
        self._stream = Stream(ssrc=lease.ssrc, sequence=lease.sequence, timestamp=lease.timestamp)
        self._reporter = Reporter(
            stream=self._stream, reception=self._receiver.reception, cname=secrets.token_hex(12)
        )
        self._dtmf = DtmfSender()
        self._negotiated: Negotiated | None = None
        self._levels = CLOSED
        self._answered = False  # transmit has been open before
        self._watched_from = 0.0
        self._timed_out = False
        self._samples = FRAME_SAMPLES  # of one packet that we send
        self._rtcp_source: tuple[str, int] | None = None
        self._secured = SecureLine()
        self._secure = False  # SRTP is agreed on
        self._tap: PcmTap | None = None
        self._failures = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(lease.rtp, self._rtp_readable)
        self._loop.add_reader(lease.rtcp, self._rtcp_readable)
        self._due_at = start = ticker.add(self)
        self._hearing = PacketClock(start=start, period=FRAME_SECONDS)
        self._speaking = PacketClock(start=start, period=FRAME_SECONDS)

    # What the call tells us.

    def connect(self, negotiated: Negotiated) -> None:
        """Take what was negotiated. The stream's identity goes on (RFC 3264 8.3)."""
        self._negotiated = negotiated
        self._take_keys(negotiated.crypto)
        self._latch.expect(negotiated.remote_address, negotiated.remote_port, self._now())
        codecs = {
            payload_type: codec
            for payload_type, codec in negotiated.receive_codecs
            if codec in g711.SILENCE_BYTE
        }
        self._receiver.expect(codecs, negotiated.receive_dtmf_payload_type)
        samples = min(60, max(10, negotiated.ptime)) * g711.RATE // 1000
        if samples != self._samples:
            self._samples = samples
            self._speaking.period = samples / g711.RATE

    def _take_keys(self, crypto: Crypto | None) -> None:
        if crypto is None:
            if self._secure:
                log.warning("media.unsecured", call_id=self._call_id)
            self._secure = False
            return
        if not self._secure:
            log.info("media.secured", call_id=self._call_id, suite=crypto.suite)
        self._secure = True
        self._secured.agree(crypto, self._now())

    def apply(self, levels: MediaLevels) -> None:
        """Open or close what may flow, at once."""
        before, self._levels = self._levels, levels
        now = self._now()
        if levels.transmit and not self._answered:
            self._answered = True
            self._latch.open(now)  # the answer after early media
        if not levels.transmit:
            self._dtmf.clear()
        if levels.agent_audio != before.agent_audio:
            self._room.discard()
        if levels.caller_audio and not before.caller_audio:
            self._receiver.buffer.reset()  # nothing heard while closed is played later
        if before.watchdog is None:
            self._watched_from = now  # a limit that only changes counts from the last RTP
        if levels.watchdog != before.watchdog:
            self._timed_out = False

    def send_dtmf(self, digits: str) -> None:
        """Queue *digits*; dropped when nothing may go out or they take no telephone-events."""
        negotiated = self._negotiated
        if self._levels.transmit and negotiated and negotiated.dtmf_payload_type is not None:
            self._dtmf.send(digits)

    def stats(self) -> MediaStats:
        """Return the counters so far."""
        trip = self._reporter.round_trip
        return MediaStats(
            packets_received=self._receiver.accepted,
            packets_sent=self._stream.packets,
            packets_lost=max(0, self._receiver.reception.lost),
            packets_refused=self._receiver.refused,
            jitter_ms=self._receiver.reception.jitter * 1000 / g711.RATE,
            round_trip_ms=None if trip is None else trip * 1000,
            packets_late=self._receiver.buffer.late,
            packets_shed=self._receiver.buffer.shed,
            packets_unauthentic=self._secured.failures,
        )

    def record(self, recording: Recording) -> None:
        """Let *recording* hear both directions from now on."""
        self._tap = PcmTap(self._now())
        recording.follow(self._tap)

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    async def close(self) -> None:
        """Stop and give the ports back to rest; a second time does nothing."""
        if self._closed:
            return
        self._closed = True
        self._attempt(self._say_goodbye)
        self._ticker.remove(self)
        self._loop.remove_reader(self._lease.rtp)
        self._loop.remove_reader(self._lease.rtcp)
        self._ports.release(self._lease)

    # What the network tells us.

    def _rtp_readable(self) -> None:
        self._attempt(drain, self._lease.rtp, self._rtp_arrived)

    def _rtcp_readable(self) -> None:
        self._attempt(drain, self._lease.rtcp, self._rtcp_arrived)

    def _rtp_arrived(self, data: bytes, source: tuple[str, int]) -> None:
        if self._negotiated is None:
            return
        if is_rtcp(data):
            self._rtcp_arrived(data, source)
            return
        now = self._now()
        if self._secure:
            # What is not authentic is nobody's: it latches nothing, and is no sign of life.
            packet = self._secured.open_rtp(data, now)
            if packet is None:
                self._receiver.refused += 1
                self._unauthentic()
                return
            data = packet
        self._receiver.receive(data, source, now)

    def _unauthentic(self) -> None:
        if self._secured.failures == UNAUTHENTIC_SAID_AT:
            log.warning("media.not_authentic", call_id=self._call_id)

    def _rtcp_arrived(self, data: bytes, source: tuple[str, int]) -> None:
        target = self._latch.target
        if target is None or source[0] != target[0]:
            return
        now = self._now()
        if self._secure:
            packets = self._secured.open_rtcp(data, now)
            if packets is None:
                self._unauthentic()
                return
            data = packets
        if self._reporter.receive(data, now):
            self._rtcp_source = source

    # What the clock tells us.

    def tick(self, now: float) -> None:
        """Do what is due. An error of this call is logged and stays with it."""
        if now < self._due_at or self._closed:
            return
        due = self._hearing.due(now)
        if due.frames:
            self._attempt(self._hear, due.frames, now)
            self._attempt(self._look_after, now)
        due = self._speaking.due(now)
        if due.frames:
            self._attempt(self._speak, due, now)
        self._due_at = min(self._hearing.next_at, self._speaking.next_at)

    def _attempt(self, step: Callable[..., object], *arguments: object) -> None:
        try:
            step(*arguments)
        except Exception:
            self._failed()

    def _hear(self, frames: int, now: float) -> None:
        """Give the room what the carrier said."""
        open_ = self._levels.caller_audio
        for _ in range(frames):
            pcm = self._receiver.frame(FRAME_SAMPLES, now)
            heard = pcm if open_ and pcm is not None else SILENT_FRAME
            self._room.push(heard)
            if self._tap is not None:
                self._tap.caller(heard, now)

    def _look_after(self, now: float) -> None:
        """Tell keys and silence of the wire; report."""
        for key in self._receiver.keys(now):
            self._notify(KeyPressed(digit=key.digit, duration_ms=key.duration_ms))
        self._watch(now)
        # RFC 3264 5.1: RTCP is still sent and received for sendonly, recvonly, and inactive
        # streams.
        if self._answered and self._reporter.due(now):
            self._report(self._reporter.build(now))

    def _watch(self, now: float) -> None:
        heard_at = self._receiver.last_at
        limit = self._levels.watchdog
        if heard_at is None and limit is not None:
            limit = self._levels.watchdog_initial or limit
        if limit is None or self._timed_out:
            return
        since = self._watched_from if heard_at is None else max(heard_at, self._watched_from)
        if now - since >= limit:
            self._timed_out = True
            self._notify(MediaTimedOut(ever=heard_at is not None))

    def _speak(self, due: Due, now: float) -> None:
        """Send what is due; what was not sent in time only advances the timestamp."""
        if due.skipped:
            self._stream.skip(due.skipped * self._samples)
            self._drop_agent_audio(due.skipped)
        target = self._latch.target
        negotiated = self._negotiated
        if negotiated is None or target is None or not self._levels.transmit:
            self._stream.skip(due.frames * self._samples)
            self._room.discard()
            return
        for _ in range(due.frames):
            self._send(self._next_packet(negotiated, now), target)

    def _send(self, packet: bytes, target: tuple[str, int]) -> None:
        if not self._secure:
            send(self._lease.rtp, packet, target)
            return
        protected = self._secured.protect_rtp(packet)
        if protected is not None:
            send(self._lease.rtp, protected, target)

    def _drop_agent_audio(self, frames: int) -> None:
        """Drop what should have been played during a stall: it must not come late."""
        if frames > MAX_CAUGHT_UP:
            self._room.discard()
            return
        for _ in range(frames):
            self._room.pull(self._samples)

    def _next_packet(self, negotiated: Negotiated, now: float) -> bytes:
        """Return the next packet: an event, the agent, or silence."""
        samples = self._samples
        pcm = self._agent_audio(samples)
        if self._tap is not None:
            self._tap.sent(bytes(2 * samples) if pcm is None else pcm, now)
        if self._dtmf.busy and negotiated.dtmf_payload_type is not None:
            frame = self._dtmf.next_frame(self._stream.timestamp, samples)
            if isinstance(frame, EventFrame):
                return self._stream.event(
                    negotiated.dtmf_payload_type,
                    frame.payload,
                    timestamp=frame.timestamp,
                    marker=frame.marker,
                    samples=samples,
                )
            if isinstance(frame, Pause):
                pcm = None
        codec = negotiated.codec
        payload = g711.silence(codec, samples) if pcm is None else g711.encode(codec, pcm)
        return self._stream.packet(negotiated.payload_type, payload, samples)

    def _agent_audio(self, samples: int) -> bytes | None:
        if self._levels.agent_audio:
            return self._room.pull(samples)
        self._room.discard()
        return None

    def _say_goodbye(self) -> None:
        # RFC 3550 6.3.7: a participant which never sent an RTP or RTCP packet MUST NOT send
        # a BYE packet when it leaves the group.
        if self._stream.packets:
            self._report(self._reporter.build_last(self._now()))

    def _report(self, packets: bytes) -> None:
        target = self._rtcp_target()
        if target is None:
            return
        data = self._secured.protect_rtcp(packets) if self._secure else packets
        if data is not None:
            send(self._lease.rtcp, data, target)

    def _rtcp_target(self) -> tuple[str, int] | None:
        """Return where reports go: as signalled, or where theirs come from when latched."""
        target = self._latch.target
        negotiated = self._negotiated
        if target is None or negotiated is None or negotiated.remote_rtcp_port == 0:
            return None  # also a zero address, to which nothing is sent (RFC 3264 8.4)
        if target == (canonical(negotiated.remote_address), negotiated.remote_port):
            port = negotiated.remote_rtcp_port
            return (target[0], port) if 0 < port < 65536 else None
        source = self._rtcp_source
        return source if source is not None and source[0] == target[0] else None

    def _failed(self) -> None:
        """Log the present exception, ever more rarely."""
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:
            log.exception("media.call_failed", call_id=self._call_id, failures=self._failures)

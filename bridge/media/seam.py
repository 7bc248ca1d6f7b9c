"""The seam between a call and its media engine (design, seam 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from bridge.room.seam import RoomHandlers, RoomSession
from sdp.negotiated import Negotiated

if TYPE_CHECKING:
    import socket  # the pure call machine imports this seam


Law = Literal["PCMU", "PCMA"]
"""How G.711 is encoded, by its name in SDP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A bound pair of ports and the RTP identity that travels with it."""

    rtp: socket.socket
    rtcp: socket.socket
    address: str  # the local address bound
    port: int  # even; RTCP on port + 1
    ssrc: int
    sequence: int
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSpec:
    """What stays the same for a call. Networks are CIDR strings."""

    call_id: str
    signalling_address: str  # the peer of the SIP dialog: its network may send media
    track: Law = "PCMU"  # law of a G.711 track in the room: the trunk's first codec
    media_allow: tuple[str, ...]
    hold_music: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLevels:
    """What may flow now: a pure function of the call's state, applied whole.

    ``transmit``: RTP leaves us (silence when there is nothing to say).
    ``agent_audio``: the room's audio goes out; else it is discarded, never kept.
    ``caller_audio``: the carrier's audio enters the room.
    ``watchdog``: seconds without RTP before `MediaTimedOut`, None: suspended;
    ``watchdog_initial`` the same while none has come yet.
    """

    transmit: bool
    agent_audio: bool
    caller_audio: bool
    watchdog: float | None
    watchdog_initial: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaTimedOut:
    """No RTP came for the watchdog's time. ``ever``: some had come before."""

    ever: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPressed:
    """A telephone-event ended (or its three end packets were lost)."""

    digit: str
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFailed:
    """The media of this call broke by a fault of ours; nothing flows any more."""


MediaNotice = MediaTimedOut | KeyPressed | MediaFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaStats:
    """Counters of one call's carrier side."""

    packets_received: int
    packets_sent: int
    packets_lost: int
    packets_refused: int
    jitter_ms: float
    round_trip_ms: float | None
    packets_late: int = 0  # came after their turn
    packets_shed: int = 0  # thrown away to keep the delay down
    packets_unauthentic: int = 0  # SRTP that did not pass, among those refused


class Tap(Protocol):
    """Both directions of a call's audio since it was put in, for one thread that reads.

    Reads never wait. They return what the caller said and what was sent to the caller (PCM16,
    8 kHz, as many samples of each), and how many samples found no room so far.
    """

    def read(self) -> tuple[bytes, bytes, int]:
        """Return what is complete, 10 s at most."""

    def finish(self) -> tuple[bytes, bytes, int]:
        """Return also what may still change; again and again until it is empty."""


class Recording(Protocol):
    """What a call is recorded to."""

    def follow(self, tap: Tap) -> None:
        """Take what *tap* hears from now on; what was followed before hears nothing more."""


class CarrierMedia(Protocol):
    """The carrier's side of one call's audio. All methods are synchronous."""

    def connect(self, negotiated: Negotiated) -> None:
        """Send to and accept from what was negotiated; again on each change.

        The same ports, SSRC, sequence and timestamp go on (RFC 3264 8.3).
        """

    def apply(self, levels: MediaLevels) -> None:
        """Open or close what may flow."""

    def send_dtmf(self, digits: str) -> None:
        """Play *digits* (``0-9*#A-D``, ``w`` half a second) as RFC 4733 events."""

    def stats(self) -> MediaStats:
        """Return the counters so far."""

    def record(self, recording: Recording) -> None:
        """Let *recording* hear both directions from now on."""

    async def close(self) -> None:
        """Stop and give the ports back to rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """Which engine carries a call. ``reason``: why not the direct one, where that was wanted."""

    engine: str  # "direct" | "sdk"
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallMedia:
    """Both sides of one call's media, and by whom they are carried now."""

    carrier: CarrierMedia
    room: RoomSession
    choice: Callable[[], EngineChoice | None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """How an engine's clock is. ``turns`` stand still while there is nothing to do."""

    calls: int
    turns: int
    missed: int  # turns left out after stalls
    late: float  # lateness of all turns, summed, seconds
    ought_to_turn: bool  # there is something to do: ``turns`` must advance


class Engine(Protocol):
    """Makes the media of calls."""

    def open(
        self,
        spec: MediaSpec,
        lease: Lease,
        room: RoomHandlers,
        notify: Callable[[MediaNotice], None],
    ) -> CallMedia:
        """Return the media of one call; nothing flows until it is told to."""

    def clock(self) -> ClockReading:
        """Return how the clock is now."""

    async def start(self) -> None:
        """Start the engine's clock."""

    async def stop(self) -> None:
        """Stop everything."""

"""The media core of the direct engine. Times are seconds unless a name says otherwise."""

from collections.abc import Sequence
from typing import Any, final

# (secret, mki, lifetime)
_Key = tuple[bytes, bytes, int | None]

@final
class Turns:
    """All media threads together."""

    turns: int
    late: float
    """Time that turns began too late, summed."""
    missed: int
    """Packets towards carriers that were not sent in time; their time was skipped."""
    datagrams: int
    calls: int
    faults: int
    """Calls that ended by a bug."""
    realtime: bool
    """All media threads run under SCHED_FIFO."""
    behind: float
    """Time since the last turn of the thread that is furthest behind and has calls."""

@final
class CallStats:
    """One call, at most a tenth of a second old. ``room_*``: our track, as the server reports."""

    packets_received: int
    packets_sent: int
    packets_lost: int
    packets_refused: int
    packets_unauthentic: int
    packets_forwarded: int
    jitter_ms: float
    round_trip_ms: float | None
    packets_late: int
    packets_shed: int
    room_packets_sent: int
    room_packets_silence: int
    """Packets among them that are silence of ours."""
    room_packets_received: int
    room_packets_lost: int
    room_round_trip_ms: float | None
    room_loss: float | None
    room_jitter_ms: float
    playout_lost: int
    playout_concealed_ms: int
    playout_fec_ms: int
    playout_target_ms: float
    playout_depth_ms: float
    playout_wait_mean_ms: float
    playout_wait_max_ms: float
    playout_jitter_ms: float

@final
class Core:
    """Carrier RTP on one side, a LiveKit room's WebRTC on the other, on threads of their own.

    Every method returns at once; what comes of it is told by `drain`. Methods for a call
    that is over do nothing. ``RuntimeError``: the core was stopped.
    """

    def __new__(cls, *, threads: int = 1, priority: int = 10, tick: float = 0.0025) -> Core:
        """Start the threads. *priority*: SCHED_FIFO for the media threads, 0 for none."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while `drain` has something."""

    def drain(self) -> list[tuple[Any, ...]]:
        """Return what happened, in order for each call: ``(call, kind, *fields)``.

        ======================  ==========================================================
        ``offer``, ``answer``   side, sdp
        ``connected``           side; ICE and DTLS stand, or ICE does again
        ``disconnected``        side; ICE lost its consent
        ``peer_closed``         side, why: remote, timeout, overflow, fault, sdp
        ``channel``             side, label, SCTP stream
        ``data``                side, label, bytes
        ``delivered``           side, label, how many more of our messages the far end has
        ``track``               side, mid; the first packet of a remote stream
        ``timed_out``           ever: the carrier's RTP stayed away, whether some had come
        ``key``                 digit, milliseconds
        ``not_authentic``       SRTP that does not pass; once in a call
        ``hung_up``             sequence, timestamp, packets sent, of the carrier's side
        ``closed``              sequence, timestamp, packets sent; the last of a call
        ``fault``               text; a bug ended the call's media, `close` it
        ======================  ==========================================================
        """

    def turns(self) -> Turns:
        """Return how the media threads are."""

    def stop(self) -> None:
        """Close every call and end the threads; waits for them."""

    def open(
        self,
        rtp_fd: int,
        rtcp_fd: int,
        *,
        ssrc: int,
        sequence: int,
        timestamp: int,
        track: str = "PCMU",
        signalling: str,
        allow: Sequence[str],
        cname: str,
    ) -> int:
        """Begin a call on these sockets, which are duplicated; nothing flows yet.

        *ssrc*, *sequence*, *timestamp*: of our stream, which goes on. *track*: the law of the
        track in the room. *signalling*: the peer of the dialog, *allow*: networks that may
        send media besides. Raises ``ValueError``, ``OSError``.
        """

    def connect(
        self,
        call: int,
        *,
        remote: tuple[str, int] | None,
        remote_rtcp_port: int,
        codec: str,
        payload_type: int,
        receive_codecs: Sequence[tuple[int, str]],
        dtmf_payload_type: int | None,
        receive_dtmf_payload_type: int | None,
        ptime: int,
        crypto: tuple[str, _Key, Sequence[_Key], int | None] | None,
    ) -> None:
        """Take what was negotiated; again on each change.

        *crypto*: (suite, key that we send with, keys that we receive with, replay window), a
        key being (secret, mki, lifetime). Raises ``ValueError`` for a codec other than G.711.
        """

    def apply(
        self,
        call: int,
        *,
        transmit: bool,
        agent_audio: bool,
        caller_audio: bool,
        watchdog: float | None,
        watchdog_initial: float | None,
    ) -> None:
        """Open or close what may flow."""

    def send_dtmf(self, call: int, digits: str) -> None:
        """Queue *digits* (``0-9*#A-D``, ``w`` half a second) as RFC 4733 events."""

    def stats(self, call: int) -> CallStats:
        """Return the counters so far. Raises ``KeyError`` when the call is over."""

    def hang_up(self, call: int, *, goodbye: bool = True) -> None:
        """End the carrier's side and close its sockets; the transports go on; makes ``hung_up``.

        *goodbye*: the last RTCP report says BYE; not where somebody else goes on with the stream.
        """

    def tap(self, call: int) -> TapReader:
        """Listen to both directions of the call from now on. Raises ``KeyError``."""

    def close(self, call: int) -> None:
        """End a call and its transports; makes ``closed``. After that no packet leaves."""

    def peer_open(
        self, call: int, side: int, *, address: str, track: str | None, receivers: int
    ) -> None:
        """Make a transport that uses the local *address*.

        Side 0 makes the first ``offer``: both data channels, *receivers* sections that receive
        audio, and one that sends G.711 with the track id *track*. Side 1 waits for the server's.
        Replaces a transport that is there.
        """

    def peer_answer(self, call: int, side: int, sdp: str) -> None:
        """Take the server's answer to our offer."""

    def peer_offer(self, call: int, side: int, sdp: str) -> None:
        """Take the server's offer; makes ``answer``. An offer of ours under way is made again."""

    def peer_candidate(self, call: int, side: int, text: str) -> None:
        """Take one of the server's candidates (``candidate:…``); unusable ones are no error."""

    def peer_receivers(self, call: int, side: int, count: int) -> None:
        """Offer again so that *count* more sections receive; idle ones are used again."""

    def peer_restart_ice(self, call: int, side: int) -> None:
        """Offer again with new ICE credentials."""

    def peer_send(self, call: int, label: str, data: bytes) -> None:
        """Send a message on our data channel *label*, in order.

        It waits until the channel is open and has room; more than 256 messages or 1 MiB
        waiting end the transport (``peer_closed`` ``overflow``), and so do more than 4,096 or
        4 MiB that have not reached it; what is sent after that goes nowhere. Raises
        ``ValueError`` for an empty one and for more than 64 KiB.
        """

    def peer_mute(self, call: int, muted: bool) -> None:
        """Send nothing on our track; a level, kept over everything."""

    def peer_close(self, call: int, side: int) -> None:
        """Close a transport; nothing more is told of it."""

@final
class Playout:
    """The room's tracks of one call on the test's own clock; times are since any moment."""

    def __init__(self) -> None: ...
    def push(
        self,
        at: float,
        ssrc: int,
        sequence: int,
        timestamp: int,
        codec: str,
        payload: bytes,
    ) -> None: ...
    def pull(self, at: float, samples: int) -> bytes | None: ...
    def discard(self, at: float) -> None: ...
    def remove(self, ssrc: int) -> None: ...
    def slot(self, at: float, period: float) -> float | None: ...
    def ready_in(self, at: float, period: float) -> float | None: ...
    def stats(self) -> dict[str, float]: ...

@final
class TapReader:
    """Both directions of one call for a recorder. Reads never wait."""

    def read(self) -> tuple[bytes, bytes, int]:
        """Return what the caller said and what went out (PCM16, 8 kHz, as long), and samples
        dropped so far."""
    def finish(self) -> tuple[bytes, bytes, int]:
        """Return the rest, after the call; call it until the tracks are empty."""

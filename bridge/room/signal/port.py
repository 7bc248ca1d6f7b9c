"""The seam between LiveKit's signalling and a WebRTC stack (design, seam 5).

The native core implements it (`bridge.media.direct`), and aiortc in tests. Every
method returns at once; what comes of it is a `PeerEvent`, told on the loop's thread
and never from inside a method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class Side(IntEnum):
    """Which PeerConnection: signalling v1 has the first only, v0 has both."""

    PUBLISHER = 0
    SUBSCRIBER = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferMade:
    """Our offer is ready to be sent."""

    side: Side
    sdp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMade:
    """Our answer to the server's offer is ready to be sent."""

    side: Side
    sdp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConnected:
    """ICE and DTLS stand: media can flow."""

    side: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDisconnected:
    """ICE lost its consent; it may come back by itself (`PeerConnected`) or by a restart."""

    side: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerClosed:
    """The transport is gone for good: closed by the far end, failed, or ended by us.

    ``why``: a static word for logs (``remote``, ``timeout``, ``overflow``, ``fault``, ``sdp``).
    """

    side: Side
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelOpened:
    """A data channel stands. ``stream``: its SCTP stream id."""

    side: Side
    label: str
    stream: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReceived:
    """One message of a data channel."""

    side: Side
    label: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDelivered:
    """The far end has *count* more of our messages on a reliable channel, in order.

    It may be told late, for many at once, but never for one that may still be lost.
    """

    side: Side
    label: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackHeard:
    """The first packet of a remote track came. ``mid`` as in the server's description."""

    side: Side
    mid: str


PeerEvent = (
    OfferMade
    | AnswerMade
    | PeerConnected
    | PeerDisconnected
    | PeerClosed
    | ChannelOpened
    | DataReceived
    | DataDelivered
    | TrackHeard
)


class PeerPort(Protocol):
    """The WebRTC transports of one call. A side that was closed may be opened again."""

    def open(self, side: Side, *, address: str, track: str | None, receivers: int) -> None:
        """Make a transport that uses the local *address*.

        As `Side.PUBLISHER` it makes the first offer (`OfferMade`): both data channels,
        *receivers* audio sections that receive (Opus 111, PCMU 0, PCMA 8), after them one
        that sends G.711 with the track id *track* (None: none). As `Side.SUBSCRIBER` it
        waits for the server's offer.
        """

    def accept_answer(self, side: Side, sdp: str) -> None:
        """Take the server's answer to our offer."""

    def accept_offer(self, side: Side, sdp: str) -> None:
        """Take the server's offer; makes `AnswerMade`."""

    def add_candidate(self, side: Side, candidate: str) -> None:
        """Take one of the server's candidates (``candidate:…``); unusable ones are no error."""

    def add_receivers(self, side: Side, count: int) -> None:
        """Offer again with *count* more receiving sections, at least one; makes `OfferMade`."""

    def restart_ice(self, side: Side) -> None:
        """Offer again with new ICE credentials; makes `OfferMade`."""

    def send(self, label: str, data: bytes) -> None:
        """Send one message on our data channel *label*, in order; too many: `PeerClosed`."""

    def mute(self, muted: bool) -> None:  # noqa: FBT001 (a level)
        """Send no packets on our track; a level, kept over everything."""

    def close(self, side: Side) -> None:
        """Close a transport; nothing more is told of it."""


PeerFactory = Callable[[Callable[[PeerEvent], None]], PeerPort]
"""Makes the transports of one call; its argument is told every event."""

"""What the signalling machine wants done and what it found. PURE."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bridge.room.seam import RoomGone, RoomNotice, Unsuitable
from bridge.room.signal.port import Side


class Action(Enum):
    """What the server wants of one that it tells to leave."""

    DISCONNECT = "disconnect"  # it is over, `RoomGone` says why
    RESUME = "resume"  # the same participant, on a new socket
    RECONNECT = "reconnect"  # a new participant


# To the server.


@dataclass(frozen=True, slots=True, kw_only=True)
class Transmit:
    """Send one binary message on the socket."""

    data: bytes


# To the WebRTC transports.


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptAnswer:
    """Give the server's answer to the publisher."""

    sdp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptOffer:
    """Give the server's offer to the transport of *side*, which will make an answer."""

    side: Side
    sdp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCandidate:
    """Give one of the server's candidates to the transport of *side*."""

    side: Side
    candidate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddReceivers:
    """Have the publisher offer again, with *count* more receiving sections."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartIce:
    """Have the publisher offer again, with new ICE credentials."""


# To the session.


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedRoom:
    """The server has taken us in."""

    identity: str
    sid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackTaken:
    """The server has published our track as the G.711 that it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundUnsuitable:
    """This server or room is none for this engine."""

    why: Unsuitable


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A notice for the call."""

    notice: RoomNotice


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The server has dealt with the request of this number."""

    request: int
    accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRefreshed:
    """A newer token of ours, for a resume."""

    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The server took us back on this socket; what we are and want was told it again.

    ``last_message``: the number of the last reliable message of ours that it has.
    """

    last_message: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRefused:
    """The server no longer knows this participant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dismissed:
    """The server tells us to leave. ``replaced``: another with our identity came."""

    action: Action
    gone: RoomGone
    replaced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketSilent:
    """Nothing has come for too long: this socket is dead, whatever its state is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """Something worth a line in the log. ``what`` is a static word, ``detail`` an enum's name."""

    what: str
    detail: str = ""


Output = (
    Transmit
    | AcceptAnswer
    | AcceptOffer
    | AddCandidate
    | AddReceivers
    | RestartIce
    | JoinedRoom
    | TrackTaken
    | FoundUnsuitable
    | Told
    | Confirmed
    | TokenRefreshed
    | Resumed
    | ResumeRefused
    | Dismissed
    | SocketSilent
    | Ignored
)

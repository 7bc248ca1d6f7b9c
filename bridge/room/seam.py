"""The seam between a call and its LiveKit room.

`RoomSession` is implemented by ``room.sdk`` (the livekit SDK) and, later, by
``room.signal``. A session tells the call what happened through one callable,
``notify``, always on the loop's thread; it never calls back from inside one of
its own methods.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from bridge.errors import BridgeError


class RoomError(BridgeError):
    """The room could not be joined or reached."""


class Unsuitable(Enum):
    """Why a room cannot be joined by the direct engine; the value stands in the call's record."""

    UDP_BLOCKED = "udp_blocked"  # signalling works, no media path came about
    RELAY_ONLY = "relay_only"  # the server offers TURN or TCP candidates only
    CODEC_DISABLED = "codec_disabled"  # the server did not publish our G.711 track as such
    ENCRYPTED = "e2ee"  # the others' audio is encrypted end to end
    SIGNALLING = "signalling"  # the server speaks neither /rtc/v1 nor /rtc as we do


class RoomUnsuitable(RoomError):
    """The server is there, but this engine cannot carry the call; another may."""

    def __init__(self, why: Unsuitable) -> None:
        super().__init__(f"the direct engine cannot be used here: {why.value}")
        self.why = why


class LeaveReason(Enum):
    """Why we leave; the server passes these to the other participants."""

    CLIENT_INITIATED = "client_initiated"
    USER_REJECTED = "user_rejected"
    USER_UNAVAILABLE = "user_unavailable"


class RoomGone(Enum):
    """Why the room ended for us without our leaving."""

    DELETED = "deleted"
    REMOVED = "removed"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinSpec:
    """How to join: everything that stays the same over a rejoin."""

    url: str
    room: str
    identity: str
    token: str
    track_name: str = "sip_audio"


# What a session reports.


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantJoined:
    """Another participant is in the room (also one that was there at our join)."""

    identity: str
    kind: str  # "standard" | "agent" | "sip" | "ingress" | "egress" | …
    at_join: bool  # it was there before us


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticipantLeft:
    """Another participant left; ``others`` remain besides us."""

    identity: str
    others: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioPublished:
    """Another participant has published an audio track (no samples awaited)."""

    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomReconnecting:
    """The connection is down; what we send waits, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomReconnected:
    """The connection is back; attributes and mute must be applied again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomClosed:
    """The room is gone for us. ``LOST`` may be rejoined."""

    why: RoomGone


@dataclass(frozen=True, slots=True, kw_only=True)
class DtmfRequested:
    """A participant sent SipDTMF: play it to the carrier."""

    digit: str


RoomNotice = (
    ParticipantJoined
    | ParticipantLeft
    | AudioPublished
    | RoomReconnecting
    | RoomReconnected
    | RoomClosed
    | DtmfRequested
)


class RpcRefused(BridgeError):
    """An RPC handler refuses; the caller sees ``code`` and the text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


RpcHandler = Callable[[str, str, str], Awaitable[str]]
"""``(caller identity, caller kind, payload) -> reply``; raises `RpcRefused`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomStream:
    """What a participant streamed, once it has ended: ``text``, or ``data`` of a byte stream.

    ``identity`` is whom it was sent as: an agent sends its user's words under the user's name.
    ``kind`` is that of the participant whose words they are: the owner of the transcribed track
    when an agent names one that is known, else ``identity``'s; ``unknown`` when nobody knows.
    ``lasted`` is the time from its first word to its last, in seconds. ``whole`` is False when
    it was broken off: its sender or we went, or it told a reason.
    """

    topic: str
    identity: str
    kind: str
    text: str
    data: bytes = b""
    attributes: Mapping[str, str] = field(default_factory=dict)
    lasted: float = 0.0
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomHandlers:
    """What a session calls on the loop's thread; ``stream`` hears the streams on ``topics``."""

    notify: Callable[[RoomNotice], None]
    rpc: Mapping[str, RpcHandler] = field(default_factory=dict)
    stream: Callable[[RoomStream], None] | None = None
    topics: Collection[str] = ()


class RoomSession(Protocol):
    """One call's place in one room."""

    async def join(self, spec: JoinSpec) -> None:
        """Join and publish the (silent) track. Raises `RoomError`.

        Called again with the same spec to rejoin after ``RoomClosed(LOST)``.
        Never cancelled by the caller (a cancelled SDK connect kills the process).
        """

    def publish(self, payload: bytes, topic: str, to: Sequence[str] = ()) -> Awaitable[None]:
        """Send a reliable data message, to all or to the identities in *to*.

        It begins in this very turn of the loop when it can; the result is done when it is sent.
        """

    async def publish_dtmf(self, digit: str) -> None:
        """Send one LiveKit SipDTMF."""

    async def set_attributes(self, attributes: Mapping[str, str]) -> None:
        """Merge *attributes* into our participant's."""

    def mute(self, muted: bool) -> None:  # noqa: FBT001 (a level, not a mode)
        """Mute or unmute our track; a level, kept over a rejoin."""

    def subscribe(self, wanted: bool) -> None:  # noqa: FBT001
        """Subscribe to all audio of all others, now and later, or stop; a level."""

    def others(self) -> Sequence[str]:
        """Return the identities of the other participants now in the room."""

    async def leave(self, reason: LeaveReason) -> None:
        """Leave and free everything; safe at any time, any number of times."""


class RoomAudio(Protocol):
    """The audio of a room session for an engine that handles PCM (SDK engine).

    PCM is 16-bit little-endian mono at 8000 Hz.
    """

    def push(self, pcm: bytes) -> None:
        """Publish 20 ms (320 bytes) of caller audio; dropped while not joined."""

    def pull(self, frames: int) -> bytes | None:
        """Return the next *frames* samples of all others mixed, or None: silence."""

    def discard(self) -> None:
        """Drop all audio of others that has arrived and was not pulled."""

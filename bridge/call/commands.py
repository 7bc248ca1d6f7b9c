"""Everything a call asks to be done. Pure data; `bridge.call.call` does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from bridge.events import CallEvent
from bridge.media.seam import MediaLevels
from bridge.room.seam import LeaveReason
from bridge.sip.headers import Reason
from sdp.model import Direction
from sdp.negotiated import Negotiated


class HoldResult(Enum):
    """What became of a wish for our own hold, or for its end."""

    DONE = "done"
    NOT_ANSWERED = "not_answered"  # the call is not answered
    ALREADY = "already"  # it is so already
    UNDER_WAY = "under_way"  # an earlier wish is not settled
    REFUSED = "refused"  # the far end did not agree; nothing changed
    TIMED_OUT = "timed_out"  # no answer in time; a late one is undone
    ENDED = "ended"  # the call ended over it


class TransferResult(Enum):
    """What became of a wish for a transfer."""

    ACCEPTED = "accepted"  # the far end tries; how that goes are events
    NOT_ANSWERED = "not_answered"  # the call is not answered
    UNDER_WAY = "under_way"  # an earlier transfer is not settled
    REFUSED = "refused"  # the far end will not
    TIMED_OUT = "timed_out"  # no answer in time
    ENDED = "ended"  # the call ended over it


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferReply:
    """The answer to who asked for a transfer; ``status`` is what SIP said, if it did."""

    result: TransferResult
    status: int | None = None


# SIP: edges, done at once.


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """Send the INVITE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """Send 180."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Send 200."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """Refuse with *status*."""

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Send CANCEL; the session still passes its final event up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye:
    """Send BYE (the session waits for the ACK of our 2xx first, RFC 3261 15)."""

    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reoffer:
    """Send a re-INVITE; `Reoffered` follows, or the end."""

    direction: Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class Refer:
    """Send a REFER to *to*, a number or a URI; `ReferAnswered` follows, or the end.

    ``other``: the id of our call with *to* that the far end is to take over.
    """

    to: str
    other: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRefer:
    """Answer the far end's REFER: 202, or a refusal."""

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TellReferred:
    """Notify the far end how far the call is that it has asked for."""

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Ask whether the far end still knows the dialog; `Probed` follows, or the end."""


# Media: done at once.


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectMedia:
    """Send to and accept from what was negotiated."""

    negotiated: Negotiated


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyLevels:
    """Open or close what may flow; a level."""

    levels: MediaLevels


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayDigits:
    """Play keys to the far end."""

    digits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseMedia:
    """Stop the carrier's side and give its ports back."""


# Room.


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRoom:
    """Join; ends in `Joined` or `JoinFailed`. Never cancelled."""

    attributes: Mapping[str, str]
    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchAgent:
    """Ask the named agent to come; ends in `Dispatched` or `DispatchFailed`.

    ``instead_of``: an earlier dispatch, which stands if a worker has taken it.
    """

    instead_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallAgent:
    """Take a dispatch back, and the agent it has brought."""

    dispatch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendRoom:
    """The room is away: keep what is queued for it, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatTo:
    """Send an earlier event again, unchanged, to one participant."""

    identity: str
    event: CallEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUp:
    """Send the events with a seq above *after*, up to *upto*, to one participant."""

    identity: str
    after: int
    upto: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRoom:
    """The room is (again) there: apply all levels, then send ``repeats``, before what waits."""

    attributes: Mapping[str, str]
    muted: bool
    subscribed: bool
    repeats: tuple[RepeatTo | CatchUp, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAttributes:
    """Merge into our participant's attributes; a level, in order with the events."""

    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMute:
    """Mute or unmute our track; a level, at once."""

    muted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSubscribed:
    """Subscribe to the others' audio or stop; a level, at once."""

    subscribed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishKey:
    """Send one SipDTMF to the room."""

    digit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushRoom:
    """Tell with `Flushed` when all that was queued before has been sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveRoom:
    """Drop what is queued and leave; ends in `RoomLeft`."""

    reason: LeaveReason


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRoom:
    """Delete the room we made, *delay* seconds from now."""

    delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyTo:
    """Tell who asked with *ticket* what became of it."""

    ticket: int
    result: HoldResult | TransferReply


@dataclass(frozen=True, slots=True, kw_only=True)
class DialReferred:
    """Begin a call to *to* beside this one; `ReferredTold` follows."""

    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Nothing more will happen."""


SipCommand = (
    Dial
    | Ring
    | Answer
    | Reject
    | Cancel
    | Bye
    | Reoffer
    | Probe
    | Refer
    | AnswerRefer
    | TellReferred
)
MediaCommand = ConnectMedia | ApplyLevels | PlayDigits | CloseMedia
RoomCommand = (
    JoinRoom
    | DispatchAgent
    | RecallAgent
    | SuspendRoom
    | RestoreRoom
    | SetAttributes
    | SetMute
    | SetSubscribed
    | RepeatTo
    | CatchUp
    | PublishKey
    | FlushRoom
    | LeaveRoom
    | DeleteRoom
)
Command = SipCommand | MediaCommand | RoomCommand | ReplyTo | DialReferred | Finish

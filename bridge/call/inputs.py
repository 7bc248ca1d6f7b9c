"""Everything that can happen to a call.

The SIP session's events, the media's and the room's notices are inputs as they
are; the rest is defined here. Every effect a command starts ends in exactly one
of these, or in a deadline of the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bridge.media.seam import KeyPressed, MediaFailed, MediaTimedOut
from bridge.room.seam import (
    AudioPublished,
    DtmfRequested,
    ParticipantJoined,
    ParticipantLeft,
    RoomClosed,
    RoomReconnected,
    RoomReconnecting,
)
from bridge.sip.events import (
    Answered,
    Cancelled,
    Confirmed,
    Ended,
    Failed,
    KeyReported,
    Probed,
    Progressed,
    ReferAnswered,
    ReferAsked,
    ReferProgressed,
    Reoffered,
    SessionChanged,
)


class By(Enum):
    """Who asks us to hang up."""

    API = "api"
    AGENT = "agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The call starts: posted once, first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomPrepared:
    """The room exists. ``made``: we made it, so we delete it. ``sid``: the server's id of it."""

    identity: str
    made: bool
    sid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """We are in the room (again); ``others`` are the identities there now."""

    others: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinFailed:
    """The join, or a rejoin, did not work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """The agent was asked to come, by *dispatch*."""

    dispatch: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchFailed:
    """The agent could not be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The event *seq* has been sent to the room."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Flushed:
    """Everything queued for the room has been sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomLeft:
    """We left the room, or gave up leaving it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogFormed:
    """The SIP dialog's identifiers became known (or changed)."""

    sip_call_id: str
    sip_tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReady:
    """A participant called ``bridge.Ready``."""

    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsAsked:
    """The API or a control RPC wants keys played to the far end."""

    digits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAsked:
    """Somebody on our side wants our own hold, or its end.

    A ``ticket`` is answered by exactly one `ReplyTo`; None: nobody waits.
    """

    hold: bool
    ticket: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferAsked:
    """Somebody on our side wants the far end to call *to* instead; it may.

    ``other``: the id of our call with *to*, which it is to take over (attended). A
    ``ticket`` is answered by exactly one `ReplyTo`; None: nobody waits.
    """

    to: str
    by: By
    other: str = ""
    ticket: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferredTold:
    """The call that the far end has asked for: its SIP status, 200 and above is the last."""

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HangUp:
    """Somebody on our side ends the call."""

    by: By


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """The bridge stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectFailed:
    """A SIP or media command raised: a bug, or resources ran out.

    ``sip_lost``: it was the one that opens or closes the session, so that no
    final event of the session will come.
    """

    sip_lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRecorded:
    """The journal has ``call_ended``, or has failed to take it: it can be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineReached:
    """`next_deadline` has passed."""


SipInput = (
    Progressed
    | Answered
    | Confirmed
    | Failed
    | Cancelled
    | SessionChanged
    | Reoffered
    | Ended
    | KeyReported
    | Probed
    | ReferAnswered
    | ReferProgressed
    | ReferAsked
)
MediaInput = MediaTimedOut | KeyPressed | MediaFailed
RoomInput = (
    ParticipantJoined
    | ParticipantLeft
    | AudioPublished
    | RoomReconnecting
    | RoomReconnected
    | RoomClosed
    | DtmfRequested
    | RoomPrepared
    | Joined
    | JoinFailed
    | Dispatched
    | DispatchFailed
    | Published
    | EndRecorded
    | Flushed
    | RoomLeft
    | AgentReady
)
ControlInput = (
    Begun
    | DialogFormed
    | DigitsAsked
    | HoldAsked
    | TransferAsked
    | ReferredTold
    | HangUp
    | Shutdown
    | EffectFailed
    | DeadlineReached
)
Input = SipInput | MediaInput | RoomInput | ControlInput

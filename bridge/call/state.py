"""The state of one call: a frozen value, with every deadline in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from bridge.call.inputs import By
from bridge.call.outcome import Outcome
from bridge.call.plan import CallPlan
from bridge.errors import MisuseError
from bridge.events import CallAnswered, CallHold
from bridge.media.seam import MediaLevels
from bridge.room.seam import LeaveReason
from sdp.negotiated import Negotiated

SNAPSHOT_VERSION: Final = 5


class Phase(StrEnum):
    """Where the phone's side of the call is."""

    NEW = "new"
    PREPARING = "preparing"  # outbound: joining and dispatching, nothing dialled
    DIALING = "dialing"  # the INVITE is out
    RINGING = "ringing"  # a 18x came, or we sent our 180
    ANSWERING = "answering"  # our 200 is out, its ACK has not come
    ANSWERED = "answered"
    CANCELLING = "cancelling"  # CANCEL is out; the verdict stands
    ENDED = "ended"  # call_ended is out; leaving
    DONE = "done"


class RoomPhase(StrEnum):
    """Where our place in the room is."""

    NONE = "none"
    JOINING = "joining"
    JOINED = "joined"
    RECONNECTING = "reconnecting"  # the session repairs itself
    LOST = "lost"  # waiting for the next attempt to rejoin
    REJOINING = "rejoining"
    GONE = "gone"  # deleted, or we were removed, or the join failed
    LEAVING = "leaving"
    LEFT = "left"


class Again(StrEnum):
    """Whether a repeated dispatch is on its way to the server, and still wanted."""

    NO = "no"
    ASKED = "asked"
    UNWANTED = "unwanted"  # a former agent came back meanwhile


class Timer(StrEnum):
    """What a deadline is for."""

    JOIN = "join"
    DISPATCH = "dispatch"
    RING = "ring"
    AGENT = "agent"
    AGENT_GONE = "agent_gone"
    AGENT_AGAIN = "agent_again"  # a room that its server forgot waits for its agent
    GATE = "gate"
    RESUME = "resume"
    REOFFER = "reoffer"
    REFER = "refer"
    TRANSFERRED = "transferred"  # for the BYE of who was transferred
    PROBE = "probe"
    MAX_DURATION = "max_duration"
    CANCEL = "cancel"
    REJOIN = "rejoin"
    ROOM_LOST = "room_lost"
    FLUSH = "flush"
    LEAVE = "leave"
    SETTLE = "settle"


CLOSED: Final = MediaLevels(transmit=False, agent_audio=False, caller_audio=False, watchdog=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomLevels:
    """What our participant must show; applied whole after a (re)join."""

    muted: bool
    subscribed: bool
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastKey:
    """The key that came last, and by which way, to tell doubles."""

    digit: str
    in_band: bool  # RFC 4733, else INFO
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnReoffer:
    """Our re-INVITE that is not settled: ``hold``, else the end of our hold.

    ``expired``: who asked was told that it failed, so a late success is undone.
    """

    hold: bool
    ticket: int | None
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTransfer:
    """A transfer we asked for, until it has failed or the call ends.

    ``done``: the new call is answered. ``untold``: no more will be told of it; ``silent``
    when the far end said so.
    """

    to: str
    by: By
    ticket: int | None
    accepted: bool = False
    done: bool = False
    untold: bool = False
    silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TheirTransfer:
    """A transfer the far end asked for; ``done``: the new call is answered."""

    to: str
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallState:
    """Everything a call knows. Times ending in ``_at`` are of the given clock;
    those ending in ``_wall`` are seconds since the epoch. ``told`` has the last event
    that each participant was there for; one that left by itself is no longer in it."""

    plan: CallPlan
    phase: Phase = Phase.NEW
    room: RoomPhase = RoomPhase.NONE
    seq: int = 0
    deadlines: Mapping[Timer, float] = field(default_factory=lambda: MappingProxyType({}))

    # Phone.
    sip_call_id: str = ""
    sip_tag: str = ""
    negotiated: Negotiated | None = None
    early: bool = False  # early media is connected and wanted
    settled: bool = True  # no SIP session of ours is open
    sip_status: int | None = None
    q850: int | None = None
    carrier_ids: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    dialed_at: float | None = None
    rang_at: float | None = None
    answered_at: float | None = None
    held_at: float | None = None
    own_hold: bool = False  # we hold the far end; apart from its own hold
    reoffer: OwnReoffer | None = None
    transfer: OwnTransfer | None = None
    referred: TheirTransfer | None = None
    missed_probes: int = 0  # in a row
    last_key: LastKey | None = None
    keys_since: float = 0.0  # start of the second in which keys are counted
    keys: int = 0

    # Gate.
    gate_open: bool = False  # call_answered has reached the room (or 500 ms have passed)
    resuming: int | None = None  # seq of the call_resume that must reach the room first
    answered_event: CallAnswered | None = None
    hold_event: CallHold | None = None
    sent_seq: int = 0  # the last event that is known to have reached the room

    # Room.
    identity: str = ""
    room_made: bool = False
    room_sid: str = ""  # the server's own id of the room: another one is another room
    forgotten: bool = False  # the server had forgotten the room we are in, and our dispatch
    joined_once: bool = False
    rejoined_at: float | None = None
    lost_early: bool = False  # lost before `Joined` was taken
    others: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()  # those of them that are of kind AGENT
    former: frozenset[str] = frozenset()  # agents that were there when the room was lost
    again: Again = Again.NO
    asked_again: int = 0  # times since the room was lost
    second: str = ""  # our last dispatch of another agent in the place of a former one
    told: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    company: bool = False  # somebody else has been in the room
    agent_seen: bool = False
    rejoins: int = 0

    # End.
    verdict: Outcome | None = None
    leave_reason: LeaveReason = LeaveReason.CLIENT_INITIATED
    ended_at: float | None = None

    # What was last applied.
    media_levels: MediaLevels = CLOSED
    room_levels: RoomLevels | None = None

    @property
    def held(self) -> bool:
        """Whether the far end holds us."""
        return self.held_at is not None

    @property
    def answered(self) -> bool:
        """Whether the call was answered, now or before it ended."""
        return self.answered_at is not None

    @property
    def over(self) -> bool:
        """Whether call_ended has been emitted."""
        return self.phase in (Phase.ENDED, Phase.DONE)


_SLOTS: Final = {
    item.name: (CallState.__dict__[item.name].__get__, CallState.__dict__[item.name].__set__)
    for item in fields(CallState)
}


def renewed(state: CallState, changes: Mapping[str, Any]) -> CallState:
    """Return *state* with *changes*: `dataclasses.replace`, several times a step, in half the time.

    Raises ``TypeError`` for a field that does not exist.
    """
    if not changes.keys() <= _SLOTS.keys():
        raise TypeError(f"no such field: {changes.keys() - _SLOTS.keys()}")
    new = object.__new__(CallState)
    for name, (read, write) in _SLOTS.items():
        write(new, changes[name] if name in changes else read(state))
    return new


def next_deadline(state: CallState) -> float | None:
    """Return when `DeadlineReached` is due, or None."""
    return min(state.deadlines.values(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSnapshot:
    """A `CallState` whose times are all wall time."""

    version: int
    state: CallState


_TIMES: Final = tuple(f.name for f in fields(CallState) if f.name.endswith("_at"))


def _shifted(state: CallState, shift: float) -> CallState:
    changes: dict[str, Any] = {}
    for name in _TIMES:
        value: float | None = getattr(state, name)
        changes[name] = None if value is None else value + shift
    key = state.last_key
    changes["deadlines"] = MappingProxyType({t: at + shift for t, at in state.deadlines.items()})
    changes["last_key"] = None if key is None else replace(key, at=key.at + shift)
    changes["keys_since"] = state.keys_since + shift
    return renewed(state, changes)


def snapshot(state: CallState, now: float, wall: float) -> MachineSnapshot:
    """Return *state* with wall times, to be kept over a restart."""
    return MachineSnapshot(version=SNAPSHOT_VERSION, state=_shifted(state, wall - now))


def restore(saved: MachineSnapshot, now: float, wall: float) -> CallState:
    """Return the state of *saved* on another clock.

    The room leg is not alive after a restart: post ``RoomClosed(LOST)`` next,
    and the call rejoins under the same identity. Raises `MisuseError` for a
    snapshot of another version.
    """
    if saved.version != SNAPSHOT_VERSION:
        msg = f"snapshot version {saved.version} is not {SNAPSHOT_VERSION}"
        raise MisuseError(msg)
    return _shifted(saved.state, now - wall)

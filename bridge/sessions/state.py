"""The life of one web call, as a function: what is known of its room in, what follows out.

Pure. News come from LiveKit's webhooks, which may be late, doubled, in any order or missing,
and from looks at the room, which are complete but rare. A participant is known by the id that
the server gave to this one stay (``sid``), and what is known of a stay only ever grows: it was
there, then it is gone. So the order of the webhooks decides nothing.

What nobody has seen is no news: a session ends for someone's absence only by a look at the room
that was taken when the patience was over (``looked_at``), so that none ends because LiveKit
was away. Times are wall time in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, assert_never

from bridge.call.outcome import SessionEnd

STAYS_KEPT: Final = 200
"""Stays that are remembered; the oldest that are over are forgotten first."""

OVERLAP: Final = 2.0
"""Seconds: a look asked for within them of a webhook may not have seen what that told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long what is waited for. Seconds."""

    join: float = 60.0  # contract 5: a web call never joined
    departure: float = 10.0  # a user who left may come back: a page that is loaded again
    agent: float = 20.0  # contract 4: no agent
    agent_gone: float = 10.0
    room_lost: float = 30.0  # contract 4: a room that stays away


class Phase(Enum):
    """Where a session stands."""

    WAITING = "waiting"  # nobody has joined
    ACTIVE = "active"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """One stay in the room. ``here``: it can hear and be heard, no longer on its way in."""

    sid: str
    agent: bool
    joined_at: float | None = None
    here: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """A webhook: somebody joined."""

    who: Participant


class Leaving(Enum):
    """Why somebody left the room."""

    WANTED = "wanted"
    REMOVED = "removed"  # with the room, which was deleted
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Went:
    """A webhook: somebody left."""

    who: Participant
    how: Leaving = Leaving.WANTED


class RoomEnd(Enum):
    """Why the server ended a room."""

    DELETED = "deleted"  # somebody asked for it
    EMPTY = "empty"
    SERVER = "server"  # it shut down, or failed
    UNKNOWN = "unknown"  # an older server says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomFinished:
    """A webhook: the room is gone."""

    room_sid: str
    how: RoomEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """All who are in the room, as asked for at ``asked_at``. ``room_sid`` None: there is none."""

    asked_at: float
    room_sid: str | None
    present: Sequence[Participant] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomMade:
    """We made the room, with a dispatch of the agent in it."""

    room_sid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAway:
    """LiveKit did not answer: it may come back with nothing of what it had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAsked:
    """We end it."""

    why: SessionEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed."""


Input = Came | Went | RoomFinished | Looked | RoomMade | ServerAway | EndAsked | Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The first user is in the room."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """It is over. ``at``: since when."""

    why: SessionEnd
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomWanted:
    """Our room is gone while its user may still come: make it again.

    ``there``: the user's client has made it already; only the agent's dispatch is missing.
    """

    there: bool


Output = Joined | Ended | RoomWanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """What is known of one stay. ``gone_at`` None: it lasts.

    ``how`` is how it ended, as a webhook said; None when only a look at the room did not find it.
    """

    agent: bool
    noted_at: float
    gone_at: float | None = None
    how: Leaving | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """One session. ``joined_at``: when its first user came.

    ``agent_since`` is when the patience with a missing agent began; ``users_since`` and
    ``agents_since``: since when there is none of them, None while there is one or none came yet.
    """

    created_at: float
    max_duration: float
    wants_agent: bool
    timing: Timing = field(default_factory=Timing)
    phase: Phase = Phase.WAITING
    joined_at: float | None = None
    agent_since: float | None = None
    agent_seen: bool = False
    users_since: float | None = None
    agents_since: float | None = None
    room_sid: str | None = None
    old_rooms: tuple[str, ...] = ()
    room_since: float | None = None  # since when the room is not there
    server_away: bool = False  # since the last look
    looked_at: float = 0.0
    stays: Mapping[str, Stay] = field(default_factory=dict)


def new_state(
    *, created_at: float, max_duration: float, wants_agent: bool, timing: Timing
) -> SessionState:
    """Return a session that nobody has joined."""
    return SessionState(
        created_at=created_at, max_duration=max_duration, wants_agent=wants_agent, timing=timing
    )


def restored_state(
    *,
    created_at: float,
    joined_at: float | None,
    max_duration: float,
    wants_agent: bool,
    timing: Timing,
    wall: float,
) -> SessionState:
    """Return a session as a restart finds it: what is in its room, the first look tells."""
    return SessionState(
        created_at=created_at,
        max_duration=max_duration,
        wants_agent=wants_agent,
        timing=timing,
        phase=Phase.WAITING if joined_at is None else Phase.ACTIVE,
        joined_at=joined_at,
        agent_since=None if joined_at is None else wall,
    )


def step(state: SessionState, event: Input, wall: float) -> tuple[SessionState, list[Output]]:
    """Return the session after *event* at *wall*, and what follows from it."""
    if state.phase is Phase.ENDED:
        return state, []
    out: list[Output] = []
    match event:
        case Came():
            state = _came(state, event, wall)
        case Went():
            state = _went(state, event, wall)
        case RoomFinished():
            if _of_this_room(state, event.room_sid):
                return _finished(state, event, wall)
        case Looked():
            state = _looked(state, event, wall, out)
        case RoomMade():
            state = _entered(state, event.room_sid)
        case ServerAway():
            state = replace(state, server_away=True)
        case EndAsked():
            return _ended(state, event.why, wall)
        case Tick():
            pass
        case _:
            assert_never(event)
    state = _levels(state, wall, out)
    due = _due(state, wall)
    if due is None:
        return state, out
    state, ends = _ended(state, *due)
    return state, [*(o for o in out if isinstance(o, Joined)), *ends]


def _ended(state: SessionState, why: SessionEnd, at: float) -> tuple[SessionState, list[Output]]:
    return replace(state, phase=Phase.ENDED), [Ended(why=why, at=at)]


# What the news say.


def _of_this_room(state: SessionState, sid: str) -> bool:
    return sid not in state.old_rooms and (state.room_sid is None or sid == state.room_sid)


def _entered(state: SessionState, sid: str) -> SessionState:
    """Note which room it is now."""
    if sid == state.room_sid:
        return replace(state, room_since=None)
    old = state.old_rooms
    if state.room_sid is not None:
        old = (*old, state.room_sid)[-8:]
    return replace(state, room_sid=sid, old_rooms=old, room_since=None)


def _came(state: SessionState, event: Came, wall: float) -> SessionState:
    who = event.who
    if not who.here or who.sid in state.stays:
        return state
    return _note(state, who, Stay(agent=who.agent, noted_at=wall), wall)


def _went(state: SessionState, event: Went, wall: float) -> SessionState:
    who, known = event.who, state.stays.get(event.who.sid)
    if known is not None and known.how is not None:
        return state
    stay = Stay(
        agent=who.agent,
        noted_at=wall if known is None else known.noted_at,
        gone_at=wall if known is None or known.gone_at is None else known.gone_at,
        how=event.how,
    )
    return _note(state, who, stay, wall)


def _note(state: SessionState, who: Participant, stay: Stay, wall: float) -> SessionState:
    stays = dict(state.stays)
    stays[who.sid] = stay
    if len(stays) > STAYS_KEPT:
        over = [sid for sid, one in stays.items() if one.gone_at is not None]
        stays.pop(over[0] if over else next(iter(stays)))
    state = replace(state, stays=stays)
    if stay.agent:
        return replace(state, agent_seen=True)
    if state.joined_at is None:
        at = wall if who.joined_at is None else who.joined_at
        # The server's clock is another one: its moment counts where it is possible at all.
        return replace(state, joined_at=min(max(at, state.created_at), wall))
    return state


def _finished(
    state: SessionState, event: RoomFinished, wall: float
) -> tuple[SessionState, list[Output]]:
    """End with the room, unless its user may still come into it."""
    left_at = state.users_since
    if event.how is RoomEnd.SERVER:
        return _without_room(replace(state, server_away=True), wall), []
    if state.joined_at is None:
        if event.how is RoomEnd.DELETED:
            return _ended(state, SessionEnd.ROOM_DELETED, wall)
        return _without_room(state, wall), []  # the server keeps no room that nobody joins
    if left_at is not None:
        return _ended(state, _left_how(state), left_at)
    empty = event.how is RoomEnd.EMPTY
    return _ended(state, SessionEnd.USER_LEFT if empty else SessionEnd.ROOM_DELETED, wall)


def _left_how(state: SessionState) -> SessionEnd:
    """Return why a session ends whose users are gone."""
    removed = any(one.how is Leaving.REMOVED for one in state.stays.values() if not one.agent)
    return SessionEnd.ROOM_DELETED if removed else SessionEnd.USER_LEFT


def _looked(state: SessionState, event: Looked, wall: float, out: list[Output]) -> SessionState:
    if event.asked_at < state.looked_at:
        return state  # an older look that took longer
    looked = replace(state, looked_at=event.asked_at)
    if event.room_sid is None:
        if state.room_since is None:
            looked = _without_room(looked, wall)
        if state.joined_at is None:
            out.append(RoomWanted(there=False))
        return looked
    another = state.room_sid is not None and event.room_sid != state.room_sid
    looked = replace(_entered(looked, event.room_sid), server_away=False)
    if another and state.wants_agent and not any(one.agent for one in event.present):
        out.append(RoomWanted(there=True))  # the server began anew, and has lost the dispatch
        users = {sid: stay for sid, stay in looked.stays.items() if not stay.agent}
        looked = replace(looked, stays=users, agent_seen=False, agent_since=wall)
    return _seen(looked, event, wall)


def _without_room(state: SessionState, wall: float) -> SessionState:
    """Note that there is no room, and nobody in it."""
    stays = {
        sid: stay if stay.gone_at is not None else replace(stay, gone_at=wall)
        for sid, stay in state.stays.items()
    }
    return replace(state, room_since=wall, stays=stays)


def _seen(state: SessionState, event: Looked, wall: float) -> SessionState:
    """Take who is there and who is not; what a webhook said is not contradicted."""
    there = {one.sid: one for one in event.present}
    stays = dict(state.stays)
    for sid, stay in state.stays.items():
        if sid in there and stay.gone_at is not None and stay.how is None:
            stays[sid] = replace(stay, gone_at=None)
        elif sid not in there and stay.gone_at is None and stay.noted_at < event.asked_at - OVERLAP:
            stays[sid] = replace(stay, gone_at=wall)
    state = replace(state, stays=stays)
    for one in event.present:
        if one.here and one.sid not in stays:
            state = _note(state, one, Stay(agent=one.agent, noted_at=wall), wall)
    return state


# What follows.


def _levels(state: SessionState, wall: float, out: list[Output]) -> SessionState:
    """Set what depends on who is there."""
    if state.phase is Phase.WAITING and state.joined_at is not None:
        out.insert(0, Joined(at=state.joined_at))
        state = replace(state, phase=Phase.ACTIVE, agent_since=wall)
    users = [one for one in state.stays.values() if not one.agent]
    agents = [one for one in state.stays.values() if one.agent]
    users_since = _since(users, state.users_since)
    if not users and state.phase is Phase.ACTIVE:  # after a restart, and nobody there
        known = state.users_since
        users_since = known if known is not None else (state.looked_at or None)
    agents_since = _since(agents, state.agents_since)
    return replace(state, users_since=users_since, agents_since=agents_since)


def _since(stays: Sequence[Stay], known: float | None) -> float | None:
    """Return since when all of *stays* are over; None: not all, or there are none."""
    gone = [one.gone_at for one in stays if one.gone_at is not None]
    if not stays or len(gone) < len(stays):
        return None
    return known if known is not None else max(gone)


def _due(state: SessionState, wall: float) -> tuple[SessionEnd, float] | None:
    """Return why it is over now, and since when; None: it is not."""
    if state.joined_at is not None and wall >= state.joined_at + state.max_duration:
        return SessionEnd.MAX_DURATION, wall
    for why, deadline, since in _absences(state):
        if wall >= deadline and state.looked_at >= deadline:
            return why, wall if since is None else since
    return None


_Due = tuple[SessionEnd, float, float | None]


def _absences(state: SessionState) -> list[_Due]:
    """Return what it ends of when nothing changes: why, when, and since when it then is over."""
    timing = state.timing
    if state.joined_at is None:
        return [(SessionEnd.NEVER_JOINED, state.created_at + timing.join, None)]
    if state.room_since is not None:
        return [_without_room_due(state, state.room_since)]
    if state.users_since is not None:
        since = state.users_since
        return [(_left_how(state), since + timing.departure, since)]
    if state.agents_since is not None:
        return [(_agent_gone_how(state), state.agents_since + timing.agent_gone, None)]
    if state.wants_agent and not state.agent_seen and state.agent_since is not None:
        return [(SessionEnd.NO_AGENT, state.agent_since + timing.agent, None)]
    return []


def _without_room_due(state: SessionState, gone_since: float) -> _Due:
    """Return what follows when there is no room: its user had left, or lost it."""
    timing, users = state.timing, [one for one in state.stays.values() if not one.agent]
    had_left = all(one.how is not None or (one.gone_at or 0) < gone_since for one in users)
    if had_left and state.users_since is not None:
        since = state.users_since
        return _left_how(state), since + timing.departure, since
    if state.server_away:
        return SessionEnd.ROOM_LOST, gone_since + timing.room_lost, gone_since
    return SessionEnd.ROOM_DELETED, gone_since + timing.departure, gone_since


def _agent_gone_how(state: SessionState) -> SessionEnd:
    """Return why a session ends whose agents are gone: they wanted to, unless all failed."""
    agents = [one for one in state.stays.values() if one.agent]
    failed = all(one.how is Leaving.FAILED for one in agents)
    return SessionEnd.AGENT_LOST if failed else SessionEnd.AGENT_GONE


def next_deadline(state: SessionState) -> float | None:
    """Return when time itself changes something; None when it is over."""
    if state.phase is Phase.ENDED:
        return None
    found = [deadline for _, deadline, _ in _absences(state)]
    if state.joined_at is not None:
        found.append(state.joined_at + state.max_duration)
    return min(found, default=None)


def wants_look(state: SessionState, wall: float) -> bool:
    """Whether a patience is over, and only a look at the room is missing."""
    return state.phase is not Phase.ENDED and any(
        wall >= deadline > state.looked_at for _, deadline, _ in _absences(state)
    )

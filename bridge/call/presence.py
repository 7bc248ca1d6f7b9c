"""Transitions of our place in the room: joining, company, being away."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from bridge.call.agents import answer, await_agent, fetch_agent, note_agent, recall
from bridge.call.commands import (
    CatchUp,
    JoinRoom,
    RepeatTo,
    Ring,
    SuspendRoom,
)
from bridge.call.inputs import (
    Begun,
    EndRecorded,
    Flushed,
    Joined,
    JoinFailed,
    Published,
    RoomLeft,
    RoomPrepared,
)
from bridge.call.levels import attributes
from bridge.call.outcome import LocalEnd
from bridge.call.phone import open_after_resume, open_gate
from bridge.call.plan import AnswerMode
from bridge.call.state import CallState, Phase, RoomPhase, Timer
from bridge.call.turn import FLUSH_PATIENCE, Turn, finish, hang_up, leave, left
from bridge.events import CallRinging
from bridge.room.seam import (
    ParticipantJoined,
    ParticipantLeft,
    RoomClosed,
    RoomGone,
    RoomReconnected,
    RoomReconnecting,
)

JOIN_PATIENCE: Final = 20.0
ROOM_PATIENCE: Final = 30.0  # seconds a room may stay away (contract 4, Ending)
REJOIN_PAUSE: Final = 0.25  # after the first rejoin that failed; then twice as long each time
REJOIN_PAUSE_LIMIT: Final = 2.0

_AGENT_KIND: Final = "agent"
_THERE: Final = (RoomPhase.JOINED, RoomPhase.RECONNECTING)
_ON_THE_WAY: Final = (RoomPhase.JOINING, RoomPhase.REJOINING)


def begun(turn: Turn, _event: Begun) -> None:
    """Start: an outbound call joins first, an inbound one rings or answers at once."""
    plan = turn.state.plan
    if not plan.inbound:
        turn.set(phase=Phase.PREPARING)
    elif plan.answer_mode is AnswerMode.NOW:
        turn.set(settled=False)
        answer(turn)
    else:
        turn.set(phase=Phase.RINGING, rang_at=turn.now, settled=False)
        turn.do(Ring())
        turn.tell(CallRinging, early_media=False)
        turn.arm(Timer.AGENT, plan.agent_timeout)
    turn.set(room=RoomPhase.JOINING)
    turn.do(JoinRoom(attributes=attributes(turn.state), again=False))
    turn.arm(Timer.JOIN, JOIN_PATIENCE)


def prepared(turn: Turn, event: RoomPrepared) -> None:
    """The room exists; remember whether it is ours, and whether the server forgot it.

    Whose it is was decided at the first time: of a room that vanished with its server
    only the name is left, and it may be another's.
    """
    state = turn.state
    if not state.joined_once:
        turn.set(identity=event.identity, room_made=state.room_made or event.made)
    elif event.sid != state.room_sid:
        turn.set(forgotten=True)
    turn.set(room_sid=event.sid)


def joined(turn: Turn, event: Joined) -> None:
    """We are in: restore everything before anything queued, then go on."""
    state = turn.state
    if state.room not in _ON_THE_WAY:
        return
    if state.lost_early and not state.over:
        turn.set(lost_early=False)
        turn.arm_unless_armed(Timer.ROOM_LOST, ROOM_PATIENCE)
        rejoin(turn)
        return
    turn.set(room=RoomPhase.JOINED, joined_once=True, lost_early=False, rejoins=0)
    turn.disarm(Timer.JOIN, Timer.REJOIN, Timer.ROOM_LOST, Timer.SETTLE)
    turn.restored = True
    if state.over:
        turn.flush = True
        turn.arm(Timer.FLUSH, FLUSH_PATIENCE)
        return
    company = state.company or bool(event.others)
    if state.joined_once:
        turn.set(rejoined_at=turn.now)
    turn.set(others=event.others, agents=state.agents & event.others, company=company)
    if state.joined_once:
        for identity in sorted(event.others):  # what is queued reaches them anyway
            turn.repeats += _missed(state, identity, upto=state.sent_seq)
    _tell(turn, event.others, state.sent_seq)
    _watch_company(turn)
    if not state.joined_once:
        fetch_agent(turn)
    else:
        await_agent(turn)


def join_failed(turn: Turn, _event: JoinFailed) -> None:
    """The room could not be joined."""
    state = turn.state
    if state.room not in _ON_THE_WAY:
        return
    turn.set(lost_early=False)
    if state.over:
        turn.set(room=RoomPhase.GONE)
        leave(turn)
    elif state.room is RoomPhase.JOINING:
        turn.disarm(Timer.JOIN)
        turn.set(room=RoomPhase.GONE)
        hang_up(turn, LocalEnd.ROOM_UNAVAILABLE)
    else:
        turn.set(room=RoomPhase.LOST)
        pause = REJOIN_PAUSE * 2.0 ** min(state.rejoins - 1, 10)
        turn.arm(Timer.REJOIN, min(pause, REJOIN_PAUSE_LIMIT))


def rejoin(turn: Turn) -> None:
    """Try again to get into the room, under the same identity."""
    turn.set(room=RoomPhase.REJOINING, rejoins=turn.state.rejoins + 1)
    turn.do(JoinRoom(attributes=attributes(turn.state), again=True))


def participant_joined(turn: Turn, event: ParticipantJoined) -> None:
    """Somebody is there; one who comes late hears what was told before."""
    state = turn.state
    turn.set(others=state.others | {event.identity}, company=True)
    turn.disarm(Timer.AGENT_GONE)
    if not event.at_join and state.room in _THERE:
        for repeat in _missed(state, event.identity, upto=state.seq):
            turn.do(repeat)
        _tell(turn, (event.identity,), state.seq)
    if event.kind == _AGENT_KIND:
        turn.set(agents=turn.state.agents | {event.identity}, forgotten=False)
        turn.disarm(Timer.AGENT_AGAIN)
        if event.identity in state.former:
            recall(turn)
        note_agent(turn)


def _missed(state: CallState, identity: str, *, upto: int) -> list[RepeatTo | CatchUp]:
    """Return what *identity*, who is there now, has to be told of the events up to *upto*.

    Contract 4: a late joiner is sent call_answered, and call_hold while held, again. One
    that was there before the room was lost, and comes back later than we did, has no gap:
    it is sent what it missed, and nothing twice.
    """
    after = state.told.get(identity)
    if after is not None:
        return [CatchUp(identity=identity, after=after, upto=upto)] if after < upto else []
    return [
        RepeatTo(identity=identity, event=event)
        for event in (state.answered_event, state.hold_event)
        if event is not None and event.seq <= upto
    ]


def _tell(turn: Turn, identities: Iterable[str], seq: int) -> None:
    """Note that *identities* know of all events up to *seq*."""
    told = dict(turn.state.told)
    for identity in identities:
        told[identity] = max(seq, told.get(identity, 0))
    turn.set(told=MappingProxyType(told))


def participant_left(turn: Turn, event: ParticipantLeft) -> None:
    """Somebody left, perhaps the last one."""
    state = turn.state
    others = state.others - {event.identity} if event.others else frozenset()
    gone = {identity for identity in state.others | {event.identity} if identity not in others}
    told = {identity: seq for identity, seq in state.told.items() if identity not in gone}
    turn.set(others=others, agents=state.agents & others, told=MappingProxyType(told))
    _watch_company(turn)


def _watch_company(turn: Turn) -> None:
    state = turn.state
    alone = state.company and not state.others and state.room is RoomPhase.JOINED
    if not alone:
        turn.disarm(Timer.AGENT_GONE)
    elif state.plan.agent_gone_timeout > 0:
        turn.arm_unless_armed(Timer.AGENT_GONE, state.plan.agent_gone_timeout)


def reconnecting(turn: Turn, _event: RoomReconnecting) -> None:
    """The session repairs its connection; what we send waits."""
    if turn.state.room is not RoomPhase.JOINED:
        return
    turn.set(room=RoomPhase.RECONNECTING)
    turn.do(SuspendRoom())
    if not turn.state.over:
        turn.disarm(Timer.AGENT_GONE, Timer.AGENT_AGAIN)
        turn.arm_unless_armed(Timer.ROOM_LOST, ROOM_PATIENCE)


def reconnected(turn: Turn, _event: RoomReconnected) -> None:
    """The connection is back."""
    if turn.state.room is not RoomPhase.RECONNECTING:
        return
    turn.set(room=RoomPhase.JOINED)
    turn.restored = True
    turn.disarm(Timer.ROOM_LOST)
    if turn.state.over:
        turn.flush = True
    else:
        _watch_company(turn)
        await_agent(turn)


def closed(turn: Turn, event: RoomClosed) -> None:
    """The room is gone for us; a lost one is rejoined."""
    state = turn.state
    there = state.room in _THERE
    if event.why is RoomGone.LOST:
        if there and not state.over:
            turn.do(SuspendRoom())
            turn.set(former=state.former | state.agents, second="", asked_again=0)
            turn.disarm(Timer.AGENT_GONE, Timer.AGENT_AGAIN)
            turn.arm_unless_armed(Timer.ROOM_LOST, ROOM_PATIENCE)
            rejoin(turn)
        elif there:
            leave(turn)
        elif state.room in _ON_THE_WAY:
            turn.set(lost_early=True)
        return
    if event.why is RoomGone.DELETED:
        turn.set(room_made=False)
    if there:
        turn.set(room=RoomPhase.GONE)
    if state.over:
        if there:
            leave(turn)
        return
    hang_up(turn, LocalEnd.ROOM_DELETED if event.why is RoomGone.DELETED else LocalEnd.REMOVED)


def published(turn: Turn, event: Published) -> None:
    """An event reached the room: what waited for it may open."""
    state = turn.state
    turn.set(sent_seq=max(state.sent_seq, event.seq))
    _tell(turn, state.others, event.seq)
    first = state.answered_event
    if first is not None and event.seq >= first.seq and not state.gate_open:
        open_gate(turn)
    if state.resuming is not None and event.seq >= state.resuming:
        open_after_resume(turn)


def end_recorded(turn: Turn, _event: EndRecorded) -> None:
    """The end is on its way to the room: from here on it has half a second."""
    if Timer.FLUSH in turn.state.deadlines:
        turn.arm(Timer.FLUSH, FLUSH_PATIENCE)


def flushed(turn: Turn, _event: Flushed) -> None:
    """The room has heard of the end."""
    if turn.state.room is RoomPhase.JOINED:
        leave(turn)


def room_left(turn: Turn, _event: RoomLeft) -> None:
    """We are out."""
    if turn.state.room is RoomPhase.LEAVING:
        left(turn)


def abandon(turn: Turn) -> None:
    """A join or a session that never ended: finish without it."""
    if turn.state.room in _ON_THE_WAY:
        left(turn)
    else:
        turn.set(settled=True)
        finish(turn)

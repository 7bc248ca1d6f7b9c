"""The call machine: a table from (phase, input) to what is done about it.

``step(state, input, now, wall)`` is pure: it returns the next state, commands
and events. An input that has no row for the phase changes nothing. Time is
only ever an argument; deadlines are a field of the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from bridge.call import agents, own_hold, peer, phone, presence, referred, transfer
from bridge.call.commands import (
    ApplyLevels,
    Command,
    FlushRoom,
    RestoreRoom,
    SetAttributes,
    SetMute,
    SetSubscribed,
)
from bridge.call.inputs import (
    AgentReady,
    Begun,
    By,
    DeadlineReached,
    DialogFormed,
    DigitsAsked,
    Dispatched,
    DispatchFailed,
    EffectFailed,
    EndRecorded,
    Flushed,
    HangUp,
    HoldAsked,
    Input,
    Joined,
    JoinFailed,
    Published,
    ReferredTold,
    RoomLeft,
    RoomPrepared,
    Shutdown,
    TransferAsked,
)
from bridge.call.levels import changed, media_levels, room_levels
from bridge.call.outcome import LocalEnd
from bridge.call.plan import CallPlan
from bridge.call.state import (
    CallState,
    MachineSnapshot,
    Phase,
    RoomPhase,
    Timer,
    next_deadline,
    restore,
    snapshot,
)
from bridge.call.turn import Turn, hang_up, leave, left
from bridge.events import CallEvent
from bridge.media.seam import KeyPressed, MediaFailed, MediaLevels, MediaTimedOut
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

__all__ = [
    "TIMERS",
    "TRANSITIONS",
    "MachineSnapshot",
    "Step",
    "initial",
    "next_deadline",
    "restore",
    "snapshot",
    "step",
]

Handler = Callable[[Turn, Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one input led to. Events are numbered and in order."""

    state: CallState
    commands: tuple[Command, ...]
    events: tuple[CallEvent, ...]


def _hung_up(turn: Turn, event: HangUp) -> None:
    hang_up(turn, LocalEnd.API if event.by is By.API else LocalEnd.AGENT)


def _shut_down(turn: Turn, _event: Shutdown) -> None:
    hang_up(turn, LocalEnd.SHUTDOWN)


def _effect_failed(turn: Turn, event: EffectFailed) -> None:
    if event.sip_lost:
        phone.session_lost(turn)
    else:
        hang_up(turn, LocalEnd.INTERNAL_ERROR)


def _effect_failed_late(turn: Turn, event: EffectFailed) -> None:
    if event.sip_lost:
        phone.session_lost(turn)


def _media_failed(turn: Turn, _event: MediaFailed) -> None:
    hang_up(turn, LocalEnd.INTERNAL_ERROR)


def _hang_up_at(why: LocalEnd) -> Callable[[Turn], None]:
    def fire(turn: Turn) -> None:
        hang_up(turn, why)

    return fire


TIMERS: Final[Mapping[Timer, Callable[[Turn], None]]] = MappingProxyType(
    {
        Timer.JOIN: _hang_up_at(LocalEnd.ROOM_UNAVAILABLE),
        Timer.DISPATCH: agents.dispatch_unanswered,
        Timer.RING: _hang_up_at(LocalEnd.RING_TIMEOUT),
        Timer.AGENT: _hang_up_at(LocalEnd.NO_AGENT),
        Timer.AGENT_GONE: _hang_up_at(LocalEnd.AGENT_GONE),
        Timer.AGENT_AGAIN: agents.dispatch_again,
        Timer.GATE: phone.open_gate,
        Timer.RESUME: phone.open_after_resume,
        Timer.REOFFER: own_hold.expired,
        Timer.REFER: transfer.unanswered,
        Timer.TRANSFERRED: transfer.not_hung_up,
        Timer.PROBE: peer.probe,
        Timer.MAX_DURATION: _hang_up_at(LocalEnd.MAX_DURATION),
        Timer.CANCEL: phone.cancel_unanswered,
        Timer.REJOIN: presence.rejoin,
        Timer.ROOM_LOST: _hang_up_at(LocalEnd.ROOM_LOST),
        Timer.FLUSH: leave,
        Timer.LEAVE: left,
        Timer.SETTLE: presence.abandon,
    }
)


def _deadline_reached(turn: Turn, _event: DeadlineReached) -> None:
    """Fire every due timer once, the earliest first; firing one may stop others."""
    while True:
        due = sorted((at, t) for t, at in turn.state.deadlines.items() if at <= turn.now)
        if not due:
            return
        timer = due[0][1]
        turn.disarm(timer)
        TIMERS[timer](turn)


_LIVE: Final = (
    Phase.PREPARING,
    Phase.DIALING,
    Phase.RINGING,
    Phase.ANSWERING,
    Phase.ANSWERED,
    Phase.CANCELLING,
)
_LIVE_OR_LEAVING: Final = (*_LIVE, Phase.ENDED)

_EVERYWHERE: Final[Mapping[tuple[Phase, ...], Mapping[type, Handler]]] = {
    _LIVE: {
        HangUp: _hung_up,
        Shutdown: _shut_down,
        EffectFailed: _effect_failed,
        MediaFailed: _media_failed,
        DialogFormed: phone.dialog_formed,
        Dispatched: agents.dispatched,
        DispatchFailed: agents.dispatch_failed,
        ParticipantJoined: presence.participant_joined,
        ParticipantLeft: presence.participant_left,
        AudioPublished: agents.agent_speaks,
        AgentReady: agents.agent_speaks,
        Published: presence.published,
    },
    _LIVE_OR_LEAVING: {
        DeadlineReached: _deadline_reached,
        HoldAsked: own_hold.asked_unanswered,
        TransferAsked: transfer.asked_unanswered,
        RoomPrepared: presence.prepared,
        Joined: presence.joined,
        JoinFailed: presence.join_failed,
        RoomReconnecting: presence.reconnecting,
        RoomReconnected: presence.reconnected,
        RoomClosed: presence.closed,
    },
}

_BY_PHASE: Final[Mapping[Phase, Mapping[type, Handler]]] = {
    Phase.NEW: {Begun: presence.begun},
    Phase.PREPARING: {},
    Phase.DIALING: {
        Progressed: phone.progressed,
        Answered: phone.answered,
        Failed: phone.failed,
        SessionChanged: phone.changed_early,
    },
    Phase.RINGING: {
        Progressed: phone.progressed,
        Answered: phone.answered,
        Failed: phone.failed,
        SessionChanged: phone.changed_early,
        Cancelled: phone.cancelled,
        Ended: phone.ended,
    },
    Phase.ANSWERING: {
        Confirmed: phone.confirmed,
        Cancelled: phone.cancelled,
        Ended: phone.ended,
    },
    Phase.ANSWERED: {
        SessionChanged: phone.changed,
        Reoffered: own_hold.reoffered,
        Probed: peer.probed,
        HoldAsked: own_hold.asked,
        TransferAsked: transfer.asked,
        ReferAnswered: transfer.answered,
        ReferProgressed: transfer.progressed,
        ReferAsked: referred.asked,
        ReferredTold: referred.told,
        Ended: phone.ended,
        MediaTimedOut: phone.media_timed_out,
        KeyPressed: phone.key_pressed,
        KeyReported: phone.key_reported,
        DtmfRequested: phone.play_key,
        DigitsAsked: phone.play_digits,
    },
    Phase.CANCELLING: {
        Answered: phone.answered_too_late,
        Failed: phone.failed_after_cancel,
        Ended: phone.ended_after_cancel,
    },
    Phase.ENDED: {
        Answered: phone.answered_after_end,
        Failed: phone.settled_after_end,
        Cancelled: phone.settled_after_end,
        Ended: phone.settled_after_end,
        EffectFailed: _effect_failed_late,
        EndRecorded: presence.end_recorded,
        Flushed: presence.flushed,
        RoomLeft: presence.room_left,
    },
    Phase.DONE: {},
}


def _rows() -> Iterator[tuple[tuple[Phase, type], Handler]]:
    for phases, handlers in _EVERYWHERE.items():
        for phase in phases:
            for kind, handler in handlers.items():
                yield (phase, kind), handler
    for phase, handlers in _BY_PHASE.items():
        for kind, handler in handlers.items():
            yield (phase, kind), handler


TRANSITIONS: Final[Mapping[tuple[Phase, type], Handler]] = MappingProxyType(dict(_rows()))


def initial(plan: CallPlan, now: float, wall: float) -> CallState:
    """Return the state before `Begun`. The clocks are the maker's of *plan*."""
    _ = (now, wall)
    return CallState(plan=plan)


def step(state: CallState, event: Input, now: float, wall: float) -> Step:
    """Return what *event* leads to at *now* (monotonic) and *wall* (epoch) seconds."""
    handler = TRANSITIONS.get((state.phase, type(event)))
    if handler is None:
        return Step(state=state, commands=(), events=())
    turn = Turn(state, now, wall)
    if isinstance(event, Progressed | Answered | Failed | Cancelled | Ended):
        phone.note_carrier_ids(turn, event.headers)
    handler(turn, event)
    peer.watch(turn)
    _emit_media_levels(turn)
    _emit_room_levels(turn)
    return Step(state=turn.state, commands=tuple(turn.commands), events=tuple(turn.events))


def _emit_media_levels(turn: Turn) -> None:
    state = turn.state
    old, new = state.media_levels, media_levels(state)
    if new == old:
        return
    command = ApplyLevels(levels=new)
    if _opens(old, new):
        turn.commands.append(command)
    else:
        turn.commands.insert(0, command)  # closing comes before everything else
    turn.set(media_levels=new)


def _opens(old: MediaLevels, new: MediaLevels) -> bool:
    return (
        (new.transmit and not old.transmit)
        or (new.agent_audio and not old.agent_audio)
        or (new.caller_audio and not old.caller_audio)
    )


def _emit_room_levels(turn: Turn) -> None:
    state = turn.state
    new = room_levels(state)
    if turn.restored:
        turn.do(
            RestoreRoom(
                attributes=new.attributes,
                muted=new.muted,
                subscribed=new.subscribed,
                repeats=tuple(turn.repeats),
            )
        )
        turn.set(room_levels=new)
    elif state.room is RoomPhase.JOINED and new != state.room_levels:
        _emit_changed(turn)
    if turn.flush:
        turn.do(FlushRoom())


def _emit_changed(turn: Turn) -> None:
    old, new = turn.state.room_levels, room_levels(turn.state)
    if old is None or old.muted is not new.muted:
        turn.do(SetMute(muted=new.muted))
    if old is None or old.subscribed is not new.subscribed:
        turn.do(SetSubscribed(subscribed=new.subscribed))
    difference = changed({} if old is None else old.attributes, new.attributes)
    if difference:
        turn.do(SetAttributes(attributes=difference))
    turn.set(room_levels=new)

"""One turn of the machine: the state being changed, and what comes out.

Here is also what several transitions share: telling an event, hanging up,
ending, leaving.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, TypeVar

from bridge.call.commands import (
    Bye,
    Cancel,
    CatchUp,
    CloseMedia,
    Command,
    DeleteRoom,
    Finish,
    HoldResult,
    LeaveRoom,
    Reject,
    RepeatTo,
    ReplyTo,
    TransferReply,
    TransferResult,
)
from bridge.call.outcome import (
    LocalEnd,
    Outcome,
    Result,
    bye_reason,
    local_outcome,
    reject_status,
    transferred_outcome,
)
from bridge.call.state import CallState, Phase, RoomPhase, Timer, renewed
from bridge.events import CallEnded, CallEvent
from bridge.room.seam import LeaveReason

E = TypeVar("E", bound=CallEvent)

CANCEL_PATIENCE: Final = 2.0  # seconds for the final response to our CANCEL
FLUSH_PATIENCE: Final = 0.5  # seconds for call_ended to reach the room, once it is recorded
RECORD_PATIENCE: Final = 5.0  # seconds for the journal to have it; then it is sent all the same
LEAVE_PATIENCE: Final = 5.0
DELETE_DELAY: Final = 5.0  # seconds from call_ended to the deletion of our room
REJOIN_PATIENCE: Final = 2.0  # seconds after the end for a rejoin to bring call_ended there
SETTLE_PATIENCE: Final = 60.0  # seconds after the end for a join or a session still open

_LEAVE_REASONS: Final = MappingProxyType(
    {
        Result.BUSY: LeaveReason.USER_REJECTED,
        Result.REJECTED: LeaveReason.USER_REJECTED,
        Result.NO_ANSWER: LeaveReason.USER_UNAVAILABLE,
        Result.UNREACHABLE: LeaveReason.USER_UNAVAILABLE,
    }
)


def ms(seconds: float) -> int:
    """Return whole milliseconds, never negative."""
    return max(0, round(seconds * 1000))


class Turn:
    """What one step works on. Lives for one step only."""

    __slots__ = ("commands", "events", "flush", "now", "repeats", "restored", "state", "wall")

    def __init__(self, state: CallState, now: float, wall: float) -> None:
        self.state = state
        self.now = now
        self.wall = wall
        self.commands: list[Command] = []
        self.events: list[CallEvent] = []
        self.repeats: list[RepeatTo | CatchUp] = []  # to send first in a room that is there again
        self.restored = False  # the room is (again) there: apply its levels whole
        self.flush = False  # ask for `Flushed` after everything of this turn

    def set(self, **changes: Any) -> None:
        """Change fields of the state."""
        self.state = renewed(self.state, changes)

    def do(self, command: Command) -> None:
        """Ask for something to be done, after what was asked before."""
        self.commands.append(command)

    def tell(self, kind: type[E], **values: Any) -> E:
        """Emit the next event; the number has no gap."""
        seq = self.state.seq + 1
        event = kind(call_id=self.state.plan.call_id, seq=seq, at=self.wall, **values)
        self.events.append(event)
        self.set(seq=seq)
        return event

    def arm(self, timer: Timer, seconds: float) -> None:
        """Set *timer* to fire *seconds* from now."""
        self._deadlines({**self.state.deadlines, timer: self.now + seconds})

    def arm_unless_armed(self, timer: Timer, seconds: float) -> None:
        """Set *timer* if it is not running."""
        if timer not in self.state.deadlines:
            self.arm(timer, seconds)

    def disarm(self, *timers: Timer) -> None:
        """Stop *timers*, running or not."""
        if any(timer in self.state.deadlines for timer in timers):
            self._deadlines({t: at for t, at in self.state.deadlines.items() if t not in timers})

    def disarm_all(self) -> None:
        """Stop every timer."""
        self._deadlines({})

    def _deadlines(self, deadlines: dict[Timer, float]) -> None:
        self.set(deadlines=MappingProxyType(deadlines))


def hang_up(turn: Turn, why: LocalEnd) -> None:
    """End the call from our side, by whatever SIP allows in its phase."""
    state = turn.state
    transfer = state.transfer
    if transfer is not None and transfer.done:
        why, verdict = LocalEnd.TRANSFERRED, transferred_outcome(transfer.by)
    else:
        verdict = local_outcome(why, state.plan.direction, answered=state.answered)
    match state.phase:
        case Phase.NEW | Phase.PREPARING:
            end(turn, verdict)
        case Phase.RINGING if state.plan.inbound:
            turn.do(Reject(status=reject_status(why)))
            turn.set(settled=True, sip_status=reject_status(why))
            end(turn, verdict)
        case Phase.DIALING | Phase.RINGING:
            turn.do(Cancel())
            turn.set(phase=Phase.CANCELLING, verdict=verdict)
            turn.disarm(Timer.RING, Timer.AGENT, Timer.AGENT_GONE, Timer.AGENT_AGAIN)
            turn.arm(Timer.CANCEL, CANCEL_PATIENCE)
        case Phase.ANSWERING | Phase.ANSWERED:
            turn.do(Bye(reason=bye_reason(why)))
            turn.set(settled=True)
            end(turn, verdict)
        case Phase.CANCELLING | Phase.ENDED | Phase.DONE:
            pass  # who came first decides


def reply(turn: Turn, ticket: int | None, result: HoldResult | TransferReply) -> None:
    """Answer *ticket*, if anybody waits."""
    if ticket is not None:
        turn.do(ReplyTo(ticket=ticket, result=result))


def end(turn: Turn, verdict: Outcome) -> None:
    """Emit call_ended, close everything, and start to leave the room."""
    state = turn.state
    answered_at = state.answered_at
    if state.reoffer is not None:
        reply(turn, state.reoffer.ticket, HoldResult.ENDED)
        turn.set(reoffer=None)
    if state.transfer is not None:
        reply(turn, state.transfer.ticket, TransferReply(result=TransferResult.ENDED))
        turn.set(transfer=None)
    turn.set(
        phase=Phase.ENDED,
        verdict=verdict,
        ended_at=turn.now,
        leave_reason=_LEAVE_REASONS.get(verdict.outcome, LeaveReason.CLIENT_INITIATED),
    )
    turn.tell(
        CallEnded,
        outcome=verdict.outcome.value,
        reason=verdict.reason,
        ended_by=verdict.ended_by.value,
        sip_status=state.sip_status,
        q850=state.q850,
        duration_ms=0 if answered_at is None else ms(turn.now - answered_at),
    )
    turn.disarm_all()
    turn.do(CloseMedia())
    depart(turn)


def depart(turn: Turn) -> None:
    """Leave the room once it has heard of the end, if it is there to hear."""
    match turn.state.room:
        case RoomPhase.JOINED:
            turn.flush = True
            turn.arm(Timer.FLUSH, RECORD_PATIENCE + FLUSH_PATIENCE)  # `EndRecorded` shortens it
        case RoomPhase.RECONNECTING:
            turn.arm(Timer.FLUSH, FLUSH_PATIENCE)
        case RoomPhase.JOINING:
            turn.arm(Timer.SETTLE, SETTLE_PATIENCE)  # the join is finished, then left
        case RoomPhase.REJOINING:
            turn.arm(Timer.SETTLE, REJOIN_PATIENCE)  # it may be a moment from being there again
        case RoomPhase.LOST | RoomPhase.GONE:
            leave(turn)
        case RoomPhase.NONE | RoomPhase.LEAVING | RoomPhase.LEFT:
            finish(turn)


def leave(turn: Turn) -> None:
    """Leave the room; `RoomLeft` or the deadline follows."""
    turn.do(LeaveRoom(reason=turn.state.leave_reason))
    turn.set(room=RoomPhase.LEAVING)
    turn.disarm(Timer.FLUSH, Timer.SETTLE)
    turn.arm(Timer.LEAVE, LEAVE_PATIENCE)


def left(turn: Turn) -> None:
    """Note that we are out of the room; one that we made goes away too."""
    state = turn.state
    turn.set(room=RoomPhase.LEFT)
    turn.disarm(Timer.LEAVE, Timer.FLUSH)
    if state.room_made and state.ended_at is not None:
        turn.do(DeleteRoom(delay=max(0.0, state.ended_at + DELETE_DELAY - turn.now)))
    finish(turn)


def finish(turn: Turn) -> None:
    """Finish when neither the room nor the SIP session needs us any more."""
    state = turn.state
    if state.phase is not Phase.ENDED or state.room not in (RoomPhase.NONE, RoomPhase.LEFT):
        return
    if not state.settled:
        turn.arm_unless_armed(Timer.SETTLE, SETTLE_PATIENCE)
        return
    turn.set(phase=Phase.DONE)
    turn.disarm_all()
    turn.do(Finish())

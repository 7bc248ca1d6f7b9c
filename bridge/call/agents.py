"""Transitions of the agent: asked, seen, forgotten by a new server, asked again, taken back."""

from __future__ import annotations

from typing import Final

from bridge.call.commands import Answer, DispatchAgent, RecallAgent
from bridge.call.inputs import AgentReady, Dispatched, DispatchFailed
from bridge.call.outcome import LocalEnd
from bridge.call.phone import dial
from bridge.call.state import Again, Phase, RoomPhase, Timer
from bridge.call.turn import Turn, hang_up
from bridge.room.seam import AudioPublished

DISPATCH_PATIENCE: Final = 10.0
AGENT_RETURN: Final = 2.0  # seconds an agent has to come back into a room its server forgot
AGENT_TRIES: Final = 5  # every `AGENT_RETURN`; then the pauses double
AGENT_PAUSE_LIMIT: Final = 30.0

_AWAY: Final = (RoomPhase.RECONNECTING, RoomPhase.LOST, RoomPhase.REJOINING)


def fetch_agent(turn: Turn) -> None:
    """Ask the named agent to come; without one an outbound call dials at once."""
    if turn.state.plan.agent:
        turn.do(DispatchAgent())
        turn.arm(Timer.DISPATCH, DISPATCH_PATIENCE)
    elif turn.state.phase is Phase.PREPARING:
        dial(turn)


def dispatched(turn: Turn, event: Dispatched) -> None:
    """The agent was asked: an outbound call dials at once."""
    turn.disarm(Timer.DISPATCH)
    match turn.state.again:
        case Again.ASKED:
            turn.set(second=event.dispatch)
            _ask_again_later(turn)
        case Again.UNWANTED:
            turn.do(RecallAgent(dispatch=event.dispatch))
        case Again.NO:
            pass
    turn.set(again=Again.NO)
    if turn.state.phase is Phase.PREPARING:
        dial(turn)


def dispatch_failed(turn: Turn, _event: DispatchFailed) -> None:
    """The agent could not be asked; nothing is lost when one is there already.

    While the room is away it is asked again after the rejoin.
    """
    turn.disarm(Timer.DISPATCH)
    state = turn.state
    turn.set(again=Again.NO)
    if state.room in _AWAY:
        turn.set(forgotten=True)
    elif state.again is not Again.NO and state.phase is not Phase.PREPARING:
        _ask_again_later(turn)
    elif not state.agent_seen:
        hang_up(turn, LocalEnd.NO_AGENT)
    elif state.phase is Phase.PREPARING:
        dial(turn)


def dispatch_unanswered(turn: Turn) -> None:
    """No word whether the agent was asked."""
    dispatch_failed(turn, DispatchFailed())


def agent_speaks(turn: Turn, _event: AudioPublished | AgentReady) -> None:
    """Another participant can speak: what a ringing inbound call waits for."""
    note_agent(turn)
    plan = turn.state.plan
    if plan.inbound and turn.state.phase is Phase.RINGING:
        turn.disarm(Timer.AGENT)
        answer(turn)


def note_agent(turn: Turn) -> None:
    """Somebody is there who can be the agent."""
    turn.set(agent_seen=True)
    if turn.state.phase is Phase.ANSWERED:
        turn.disarm(Timer.AGENT)


def answer(turn: Turn) -> None:
    """Send 200 to an inbound call."""
    turn.set(phase=Phase.ANSWERING, sip_status=200)
    turn.do(Answer())


def await_agent(turn: Turn) -> None:
    """Give the agent time to come back into a room that its server forgot."""
    state = turn.state
    if state.forgotten and state.plan.agent:
        turn.arm(Timer.AGENT_AGAIN, AGENT_RETURN)


def dispatch_again(turn: Turn) -> None:
    """The server forgot our dispatch with the room, and the agent did not come back by itself."""
    state = turn.state
    if not state.agents:
        turn.set(again=Again.ASKED, asked_again=state.asked_again + 1)
        turn.do(DispatchAgent(instead_of=state.second))
        turn.arm(Timer.DISPATCH, DISPATCH_PATIENCE)


def _ask_again_later(turn: Turn) -> None:
    """A worker that has lost its server too is told of no dispatch made before it is back."""
    if turn.state.forgotten and not turn.state.agents:
        pause = AGENT_RETURN * 2.0 ** min(max(turn.state.asked_again - AGENT_TRIES, 0), 10)
        turn.arm(Timer.AGENT_AGAIN, min(pause, AGENT_PAUSE_LIMIT))


def recall(turn: Turn) -> None:
    """A former agent is back: one that was asked in its place is one too many."""
    state = turn.state
    if state.again is Again.ASKED:
        turn.set(again=Again.UNWANTED)
    if state.second:
        turn.do(RecallAgent(dispatch=state.second))
        turn.set(second="")

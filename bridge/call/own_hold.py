"""Transitions of our own hold (contract 4, Hold): apart from the far end's.

It is in force from the answer to our re-INVITE on, and never published. A wish
whose answer comes after its deadline was reported as failed, so it is undone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bridge.call.commands import HoldResult, Reoffer
from bridge.call.inputs import HoldAsked
from bridge.call.state import OwnReoffer, Timer
from bridge.call.turn import Turn, reply
from bridge.sip.events import Reoffered
from sdp.model import Direction

REOFFER_PATIENCE: Final = 7.0  # seconds for the answer, a wait after 491 included


def asked(turn: Turn, event: HoldAsked) -> None:
    """Somebody wants our own hold, or its end."""
    state = turn.state
    if state.reoffer is not None:
        reply(turn, event.ticket, HoldResult.UNDER_WAY)
    elif state.own_hold is event.hold:
        reply(turn, event.ticket, HoldResult.ALREADY)
    else:
        _begin(turn, OwnReoffer(hold=event.hold, ticket=event.ticket))
        if event.ticket is not None:
            turn.arm(Timer.REOFFER, REOFFER_PATIENCE)


def asked_unanswered(turn: Turn, event: HoldAsked) -> None:
    """There is nothing to hold: not yet, or no longer."""
    reply(turn, event.ticket, HoldResult.ENDED if turn.state.over else HoldResult.NOT_ANSWERED)


def _begin(turn: Turn, wish: OwnReoffer) -> None:
    """Offer sendonly (RFC 3264 8.4), or the full session again."""
    turn.set(reoffer=wish)
    turn.do(Reoffer(direction=Direction.SENDONLY if wish.hold else Direction.SENDRECV))


def reoffered(turn: Turn, event: Reoffered) -> None:
    """Our re-INVITE is settled."""
    wish = turn.state.reoffer
    if wish is None:
        return
    turn.disarm(Timer.REOFFER)
    turn.set(reoffer=None)
    reply(turn, wish.ticket, HoldResult.DONE if event.ok else HoldResult.REFUSED)
    if event.ok:
        turn.set(own_hold=wish.hold)
        if wish.expired:
            _begin(turn, OwnReoffer(hold=not wish.hold, ticket=None))


def expired(turn: Turn) -> None:
    """No answer to our re-INVITE in time: who asked need not wait longer."""
    wish = turn.state.reoffer
    if wish is not None:
        reply(turn, wish.ticket, HoldResult.TIMED_OUT)
        turn.set(reoffer=replace(wish, ticket=None, expired=True))

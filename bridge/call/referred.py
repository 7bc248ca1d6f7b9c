"""Transitions of a transfer that the far end asks for (contract 3, ``refer_in``).

The bridge never relays SIP to SIP: it calls the target itself, by the same trunk and into
the same room, beside this call. The far end is told how that goes and hangs up here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bridge.call.commands import AnswerRefer, DialReferred, TellReferred
from bridge.call.inputs import ReferredTold
from bridge.call.state import TheirTransfer
from bridge.call.turn import Turn
from bridge.events import CallTransfer
from bridge.sip.events import ReferAsked
from bridge.trunk.targets import is_allowed, read_called

DECLINED: Final = 603


def asked(turn: Turn, event: ReferAsked) -> None:
    """The far end wants us to call somebody: when the trunk lets it."""
    plan = turn.state.plan
    target = read_called(event.target, plan.country) if event.plain else None
    allowed = target is not None and is_allowed(target, plan.transfer_allow, plan.country)
    if target is None or not plan.refer_in or not allowed or turn.state.referred is not None:
        turn.do(AnswerRefer(status=DECLINED))
        return
    turn.set(referred=TheirTransfer(to=target))
    turn.do(AnswerRefer(status=202))
    turn.do(DialReferred(to=target))


def told(turn: Turn, event: ReferredTold) -> None:
    """The call that the far end has asked for is further, or failed."""
    referred = turn.state.referred
    if referred is None or referred.done:
        return
    turn.do(TellReferred(status=event.status))
    turn.tell(CallTransfer, to=referred.to, status=event.status)
    if event.status >= 300:
        turn.set(referred=None)
    elif event.status >= 200:
        turn.set(referred=replace(referred, done=True))

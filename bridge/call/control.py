"""What an application may do to a call that runs: our own hold, keys to the far end.

The HTTP API's side of what agents do by RPC (contract 4); the same states forbid it.
"""

from __future__ import annotations

from bridge.call.call import Call
from bridge.call.commands import HoldResult
from bridge.call.inputs import DigitsAsked
from bridge.call.phone import is_playable
from bridge.call.requests import BadRequest, NotDone, WrongState
from bridge.call.rpc import HOLD_REFUSALS, WRONG_STATE, why_no_digits


async def set_hold(call: Call, *, hold: bool) -> None:
    """Hold the far end, or end our hold; returns when the far end agreed.

    Raises `WrongState` when the call's state forbids it, `NotDone` when the far end does
    not agree or does not answer.
    """
    result = await call.set_hold(hold=hold)
    if result is HoldResult.DONE:
        return
    if result is HoldResult.ALREADY:
        raise WrongState(
            "the call is on our hold already" if hold else "the call is not on our hold"
        )
    code, text = HOLD_REFUSALS[result]
    raise (WrongState if code == WRONG_STATE else NotDone)(text)


def send_digits(call: Call, digits: str) -> None:
    """Play *digits* to the far end.

    Raises `BadRequest` for what are no keys, `WrongState` when they cannot be played now.
    """
    if not is_playable(digits):
        raise BadRequest("digits", "must be 1 to 64 of 0-9 * # A-D w")
    refusal = why_no_digits(call.state)
    if refusal is not None:
        raise WrongState(refusal)
    call.post(DigitsAsked(digits=digits))

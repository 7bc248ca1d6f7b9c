"""What an application may do to a call that runs: our own hold, a transfer, keys.

The HTTP API's side of what agents do by RPC (contract 4); the same states forbid it.
"""

from __future__ import annotations

from bridge.call.call import Call
from bridge.call.commands import HoldResult, TransferResult
from bridge.call.inputs import By, DigitsAsked
from bridge.call.phone import is_playable
from bridge.call.requests import BadRequest, NotDone, WrongState
from bridge.call.rpc import (
    HOLD_REFUSALS,
    WRONG_STATE,
    why_no_digits,
    why_not_transferred,
)
from bridge.call.target import read


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


async def transfer(call: Call, to: str) -> None:
    """Ask the far end to call *to* instead; returns when it has agreed to try.

    Raises `BadRequest` for what is no target, `NotAllowed` for one that ``transfer_allow``
    does not name, `WrongState`, and `NotDone` when the far end refuses or does not answer.
    """
    target = read(to, call.plan, call.beside)
    reply = await call.transfer(target, By.API)
    if reply.result is not TransferResult.ACCEPTED:
        code, text = why_not_transferred(reply)
        raise (WrongState if code == WRONG_STATE else NotDone)(text)

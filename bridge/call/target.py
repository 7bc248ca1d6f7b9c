"""Whom a call may be transferred to: what the doors are given, read and judged.

``to`` is a number, a ``tel:`` or a ``sip:`` URI; or ``call:`` and the id of another call of
this instance, whose far end is to be given this one (attended, RFC 5589 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bridge.call.plan import CallPlan
from bridge.call.ports import Beside
from bridge.call.requests import BadRequest, NotAllowed, WrongState
from bridge.call.state import Phase
from bridge.trunk.targets import is_allowed, read_target

ATTENDED: Final = "call:"
NO_TARGET: Final = "must be a phone number, a tel: or a sip: URI, or call: and a call's id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom the far end is to call; ``other``: the id of the call that is to be taken over."""

    to: str
    other: str = ""


def read(to: object, plan: CallPlan, beside: Beside) -> Target:
    """Return the target of a transfer of the call of *plan*.

    Raises `BadRequest` for what is none, `NotAllowed` for one that ``transfer_allow`` does not
    name, `WrongState` when the other call is not there, or not answered.
    """
    if isinstance(to, str) and to.startswith(ATTENDED):
        target = _attended(to.removeprefix(ATTENDED), plan, beside)
    else:
        found = read_target(to, plan.country) if isinstance(to, str) else None
        if found is None:
            raise BadRequest("to", NO_TARGET)
        target = Target(to=found)
    if not is_allowed(target.to, plan.transfer_allow, plan.country):
        raise NotAllowed("the trunk's transfer_allow does not allow this target")
    return target


def _attended(call_id: str, plan: CallPlan, beside: Beside) -> Target:
    other = None if call_id == plan.call_id else beside.other(call_id)
    # Its far end must be one that the far end of this call can reach: the carrier's.
    if other is None or other.plan.trunk != plan.trunk:
        raise WrongState("there is no such other call on this trunk")
    if other.state.phase is not Phase.ANSWERED:
        raise WrongState("the other call is not answered")
    return Target(to=other.plan.phone_number, other=call_id)

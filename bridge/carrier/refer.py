"""Transfers at the carrier: a REFER of the far end answered, and its progress told or heard.

RFC 3515 2.4. A script that says nothing of it accepts every REFER and tells 100 and 200.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.carrier import steps
from bridge.carrier.exchange import StepFailed
from bridge.sip.message import Request
from bridge.sip.registry import REASON_PHRASES

if TYPE_CHECKING:
    from bridge.carrier.call import Leg
    from bridge.carrier.wire import Peer

_STATUS_LINE = re.compile(rb"SIP/2\.0 ([1-6][0-9][0-9])\b")


@dataclass(slots=True)
class Transfers:
    """The REFERs of one leg. ``scripted``: the script answers them, not we at once."""

    scripted: bool = False
    waiting: list[tuple[Request, Peer]] = field(default_factory=list)
    heard: list[int] = field(default_factory=list)  # statuses the far end has notified
    expected: int = 0  # of those, how many the script has asked for


def referred(leg: Leg, request: Request, peer: Peer) -> None:
    """Take a REFER of the far end."""
    if leg.transfers.scripted:
        leg.transfers.waiting.append((request, peer))
        return
    leg.respond(request, peer, 202)
    leg.spawn(tell_transfer(leg))


def notified(leg: Leg, request: Request, peer: Peer) -> None:
    """Note what the far end tells of a transfer that we asked for; anything gets its 200."""
    leg.respond(request, peer, 200)
    found = _STATUS_LINE.match(request.body)
    if found is not None and len(leg.transfers.heard) < 100:
        leg.transfers.heard.append(int(found[1]))


async def tell_transfer(leg: Leg) -> None:
    """Tell the far end that its transfer went well."""
    for status in (100, 200):
        await _notify(leg, status, 200)


async def answer_refer(leg: Leg, step: steps.AnswerRefer) -> None:
    """Answer the next REFER of the far end, which may still come."""
    waiting = leg.transfers.waiting
    await leg.until(lambda: bool(waiting) or leg.over, step.within, "no REFER came")
    if not waiting:
        raise StepFailed("the call ended before a REFER")
    request, peer = waiting.pop(0)
    headers = () if step.notifies else (("Refer-Sub", "false"),)
    leg.respond(request, peer, step.status, headers=headers)


async def notify(leg: Leg, step: steps.Notify) -> None:
    """Tell the far end how far its transfer is; see how it answers."""
    await _notify(leg, step.status, step.answered)


async def expect_notify(leg: Leg, step: steps.ExpectNotify) -> None:
    """Wait until the far end tells of this status, after what was expected before."""
    heard, first = leg.transfers.heard, leg.transfers.expected

    def came() -> bool:
        return step.status in heard[first:]

    await leg.until(
        lambda: came() or leg.over, step.within, f"no {step.status} notified, but {heard[first:]}"
    )
    if not came():
        raise StepFailed(f"the call ended before {step.status} was notified")
    leg.transfers.expected = heard.index(step.status, first) + 1


async def _notify(leg: Leg, status: int, answered: int) -> None:
    over = status >= 200
    state = "terminated;reason=noresource" if over else "active;expires=60"
    phrase = REASON_PHRASES.get(status, "Progress")
    exchange = leg.send(
        "NOTIFY",
        await leg.reach(),
        body=f"SIP/2.0 {status} {phrase}\r\n".encode("ascii"),
        content_type="message/sipfrag;version=2.0",
        headers=(("Event", "refer"), ("Subscription-State", state)),
    )
    response = await leg.answered(exchange)
    if response.status != answered:
        raise StepFailed(f"NOTIFY was answered {response.status}, {answered} expected")

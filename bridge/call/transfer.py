"""Transitions of a transfer (contract 4, `bridge.Transfer`): REFER, and what is told of it.

The far end is asked to call somebody else. Whoever asked is answered when it has agreed to
try; how that goes is told by `call_transfer`. When the new call is answered the far end hangs
up here; one that does not is hung up. A transfer that failed leaves the call as it was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bridge.call.commands import Refer, TransferReply, TransferResult
from bridge.call.inputs import TransferAsked
from bridge.call.outcome import LocalEnd
from bridge.call.state import OwnTransfer, Timer
from bridge.call.turn import Turn, hang_up, reply
from bridge.events import CallTransfer
from bridge.sip.events import ReferAnswered, ReferProgressed

REFER_PATIENCE: Final = 7.0  # seconds for the answer to the REFER
BYE_PATIENCE: Final = 5.0  # seconds from the last word to their BYE
UNTOLD_PATIENCE: Final = 60.0  # the same, when they have said that they will tell nothing
UNTOLD: Final = 408  # told when no last word of an accepted transfer came
NOTHING_MORE: Final = 202  # the far end took it and will tell nothing (RFC 4488)


def asked(turn: Turn, event: TransferAsked) -> None:
    """Somebody wants the far end to be transferred."""
    pending = turn.state.transfer
    if pending is not None and not pending.untold:
        reply(turn, event.ticket, TransferReply(result=TransferResult.UNDER_WAY))
        return
    turn.disarm(Timer.TRANSFERRED)
    turn.set(transfer=OwnTransfer(to=event.to, by=event.by, ticket=event.ticket))
    turn.do(Refer(to=event.to, other=event.other))
    turn.arm(Timer.REFER, REFER_PATIENCE)


def asked_unanswered(turn: Turn, event: TransferAsked) -> None:
    """There is nobody to transfer: not yet, or no longer."""
    over = turn.state.over
    result = TransferResult.ENDED if over else TransferResult.NOT_ANSWERED
    reply(turn, event.ticket, TransferReply(result=result))


def answered(turn: Turn, event: ReferAnswered) -> None:
    """The far end agreed to try, or refused."""
    transfer = turn.state.transfer
    if transfer is None or transfer.accepted:
        return
    if event.status < 300:
        _accept(turn, transfer)
        return
    result = TransferResult.TIMED_OUT if event.status == 408 else TransferResult.REFUSED
    _settle(turn, transfer, TransferReply(result=result, status=event.status))
    turn.set(transfer=None)
    turn.tell(CallTransfer, to=transfer.to, status=event.status)


def progressed(turn: Turn, event: ReferProgressed) -> None:
    """The far end told how its new call goes."""
    transfer = turn.state.transfer
    if transfer is None or transfer.done or transfer.untold:
        return
    transfer = _accept(turn, transfer)
    status = event.status
    if status is not None:
        turn.tell(CallTransfer, to=transfer.to, status=status)
    if not event.over:
        return
    if status is None or status == NOTHING_MORE:
        turn.set(transfer=replace(transfer, untold=True, silent=status is not None))
        turn.arm(Timer.TRANSFERRED, BYE_PATIENCE if status is None else UNTOLD_PATIENCE)
    elif status < 300:
        turn.set(transfer=replace(transfer, done=True))
        turn.arm(Timer.TRANSFERRED, BYE_PATIENCE)
    else:
        turn.set(transfer=None)


def unanswered(turn: Turn) -> None:
    """No answer to the REFER in time: who asked need not wait longer."""
    transfer = turn.state.transfer
    if transfer is not None:
        _settle(turn, transfer, TransferReply(result=TransferResult.TIMED_OUT))


def not_hung_up(turn: Turn) -> None:
    """The far end has not hung up: it has its new call, or nobody knows whether it has."""
    transfer = turn.state.transfer
    if transfer is None:
        return
    if transfer.done:
        hang_up(turn, LocalEnd.TRANSFERRED)
        return
    turn.set(transfer=None)
    if not transfer.silent:
        turn.tell(CallTransfer, to=transfer.to, status=UNTOLD)


def _accept(turn: Turn, transfer: OwnTransfer) -> OwnTransfer:
    _settle(turn, transfer, TransferReply(result=TransferResult.ACCEPTED))
    accepted = replace(transfer, accepted=True, ticket=None)
    turn.set(transfer=accepted)
    return accepted


def _settle(turn: Turn, transfer: OwnTransfer, answer: TransferReply) -> None:
    """Answer who waits, once."""
    turn.disarm(Timer.REFER)
    reply(turn, transfer.ticket, answer)
    turn.set(transfer=replace(transfer, ticket=None))

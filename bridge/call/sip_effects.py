"""SIP commands, done at once on the session of a call."""

from __future__ import annotations

from typing import assert_never

from bridge.call.commands import (
    Answer,
    AnswerRefer,
    Bye,
    Cancel,
    Dial,
    Probe,
    Refer,
    Reject,
    Reoffer,
    Ring,
    SipCommand,
    TellReferred,
)
from bridge.call.ports import Beside, SipPort


def do_sip(sip: SipPort, command: SipCommand, beside: Beside) -> None:
    """Do *command*. Raises what the port raises."""
    match command:
        case Dial():
            sip.dial()
        case Ring():
            sip.ring()
        case Answer():
            sip.answer()
        case Reject():
            sip.reject(command.status)
        case Cancel():
            sip.cancel()
        case Bye():
            sip.bye(command.reason)
        case Reoffer():
            sip.reoffer(command.direction)
        case Probe():
            sip.probe()
        case Refer():
            sip.refer(command.to, beside.session_of(command.other) if command.other else None)
        case AnswerRefer():
            sip.answer_refer(command.status)
        case TellReferred():
            sip.tell_referred(command.status)
        case _:
            assert_never(command)

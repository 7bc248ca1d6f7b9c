"""INVITE with Replaces or Join: nobody takes over a call of ours, but each is told why.

RFC 3891 3; RFC 3911. `Supported` does not list either.
"""

from __future__ import annotations

from bridge.sip.core import UserAgentCore
from bridge.sip.dialog import DialogId
from bridge.sip.events import SessionId
from bridge.sip.flow import Flow
from bridge.sip.grammar import LWS, ParseError, find_param, parse_params
from bridge.sip.message import Request
from bridge.sip.screening import Refusal
from bridge.sip.session import Phase


def refusal(core: UserAgentCore, request: Request, flow: Flow) -> Refusal | None:
    """Return how an INVITE that would take a call over is refused; None for any other."""
    wishes = [*request.headers.all("Replaces"), *request.headers.all("Join")]
    if not wishes:
        return None
    # RFC 3891 3: "If more than one Replaces header field is present in an INVITE, [...] the
    # UAS MUST reject the request with a 400 Bad Request response." RFC 3911 4: nor with Join.
    wanted = _dialog_of(wishes[0]) if len(wishes) == 1 else None
    if wanted is None:
        return Refusal(400)
    session = core.sessions.get(core.dialogs.get(wanted[0], SessionId(0)))
    if session is None or not session.admits(flow):
        # "If no match is found, the UAS rejects the INVITE and returns a 481".
        return Refusal(481)
    if wanted[1] and session.phase is not Phase.INVITED:
        # "If the dialog is confirmed and the early-only flag is there: 486 Busy Here".
        return Refusal(486)
    return Refusal(603)


def _dialog_of(value: str) -> tuple[DialogId, bool] | None:
    """Return the dialog a Replaces or Join names, as we know it, and ``early-only``."""
    call_id, _, rest = value.partition(";")
    try:
        params = parse_params(rest)
    except ParseError:
        return None
    ours, theirs = find_param(params, "to-tag"), find_param(params, "from-tag")
    if not call_id.strip(LWS) or not ours or not theirs:
        return None
    # RFC 3891 6.1: a tag of zero stands for none as well.
    remote = "" if theirs == "0" else theirs
    return (call_id.strip(LWS), ours, remote), find_param(params, "early-only") is not None

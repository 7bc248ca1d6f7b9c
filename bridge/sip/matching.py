"""Which transaction a message belongs to. RFC 3261 17.1.3 and 17.2.3."""

from __future__ import annotations

from bridge.sip.headers import MAGIC_COOKIE
from bridge.sip.message import Message, Request

TransactionKey = tuple[str, ...]


def client_key(message: Message) -> TransactionKey:
    """Return the key of a response, or of the request it answers (RFC 3261 17.1.3)."""
    return (message.top_via.branch or "", message.cseq.method)


def server_key(request: Request) -> TransactionKey:
    """Return the key of a request; an ACK has that of its INVITE (RFC 3261 17.2.3)."""
    return _server_key(request, "INVITE" if request.method == "ACK" else request.method)


def cancelled_key(cancel: Request) -> TransactionKey:
    """Return the key of the INVITE a CANCEL is for (RFC 3261 9.2)."""
    return _server_key(cancel, "INVITE")


def _server_key(request: Request, method: str) -> TransactionKey:
    via = request.top_via
    branch = via.branch or ""
    if branch.startswith(MAGIC_COOKIE) and len(branch) > len(MAGIC_COOKIE):
        return (branch, via.sent_by, method)
    # RFC 2543 peers: everything that makes the request what it is. The To tag is left out
    # for INVITE, whose ACK carries the one of our response.
    to_tag = "" if method == "INVITE" else request.to.tag or ""
    return (
        "",
        method,
        request.uri,
        request.call_id,
        request.from_.tag or "",
        to_tag,
        str(request.cseq.number),
        str(via),
    )

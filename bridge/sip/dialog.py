"""A dialog: its identity, sequence numbers, route set and remote target.

RFC 3261 12. The session that lives in it is in `session`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bridge.sip.grammar import ParseError
from bridge.sip.headers import MAGIC_COOKIE, MAX_CSEQ, parse_route
from bridge.sip.message import Headers, Request, Response
from bridge.sip.uri import SipUri, parse_uri

DialogId = tuple[str, str, str]
"""Call-ID, local tag, remote tag (``""`` for a peer that sets none)."""

MAX_ROUTES = 32


class Sequence(Enum):
    """What the CSeq of a request in a dialog tells."""

    NEW = "new"
    LATE = "late"  # lower than one we have seen


@dataclass(slots=True, kw_only=True)
class Dialog:
    """One dialog of ours. ``local`` and ``remote`` are From and To of our requests.

    The route set is fixed when the dialog begins (RFC 3261 12.2: "requests
    within a dialog [...] do not affect the dialog's route set"); only the
    remote target is refreshed.
    """

    call_id: str
    local_tag: str
    remote_tag: str
    local: str
    remote: str
    remote_target: str
    route_set: tuple[str, ...]
    local_cseq: int
    remote_cseq: int | None

    @property
    def id(self) -> DialogId:
        """What requests of the peer are matched by."""
        return (self.call_id, self.local_tag, self.remote_tag)

    @property
    def next_hop(self) -> str:
        """The URI or Route element that decides where a request goes.

        RFC 3261 12.2.1.1, 8.1.2: the first route when there is one, strict or
        loose, and the remote target only without. Record-Route wins over Contact.
        """
        return self.route_set[0] if self.route_set else self.remote_target

    def judge(self, cseq: int) -> Sequence:
        """Take the CSeq of a request that is neither ACK nor CANCEL.

        RFC 3261 12.2.2: "If the remote sequence number was not empty, but the sequence
        number of the request is lower than the remote sequence number, the request is out
        of order and MUST be rejected with a 500 (Server Internal Error) response."
        """
        if self.remote_cseq is not None and cseq < self.remote_cseq:
            return Sequence.LATE
        self.remote_cseq = cseq
        return Sequence.NEW

    def request(self, method: str) -> Request:
        """Return a request in this dialog, with the next CSeq; Via and Contact are not in it."""
        self.local_cseq = min(self.local_cseq + 1, MAX_CSEQ)
        return self._request(method, self.local_cseq)

    def ack(self, cseq: int) -> Request:
        """Return the ACK of a 2xx to our INVITE with *cseq*.

        RFC 3261 13.2.2.4: "The sequence number of the CSeq header field MUST be the same
        as the INVITE being acknowledged, but the CSeq method MUST be ACK."
        """
        return self._request("ACK", cseq)

    def _request(self, method: str, cseq: int) -> Request:
        uri, routes = self._routed()
        headers = Headers()
        for route in routes:
            headers.add("Route", route)
        headers.add("Max-Forwards", "70")
        headers.add("From", self.local)
        headers.add("To", self.remote)
        headers.add("Call-ID", self.call_id)
        headers.add("CSeq", f"{cseq} {method}")
        return Request(method, uri, headers)

    def _routed(self) -> tuple[str, tuple[str, ...]]:
        """Return Request-URI and Route header fields (RFC 3261 12.2.1.1)."""
        if not self.route_set:
            return self.remote_target, ()
        first = _route_uri(self.route_set[0])
        if first is None or first.lr:
            return self.remote_target, self.route_set
        # "If the first URI does not contain the lr parameter [it] is placed into the
        # Request-URI [...] and the remote target URI as the last Route value."
        bare = first.without_param("method")
        uri = SipUri(
            scheme=bare.scheme, user=bare.user, host=bare.host, port=bare.port, params=bare.params
        )
        return str(uri), (*self.route_set[1:], f"<{self.remote_target}>")

    def refresh(self, message: Request | Response) -> None:
        """Take a new remote target from the Contact, when there is a usable one."""
        target = contact_uri(message)
        if target is not None:
            self.remote_target = target


def contact_uri(message: Request | Response) -> str | None:
    """Return the URI of the Contact; None when it has none that a request could be sent to."""
    try:
        contact = message.contact
    except ParseError:
        return None
    if contact is None or not isinstance(contact.uri, SipUri):
        return None
    # RFC 3261 19.1.1: headers and method are not allowed in a Request-URI.
    bare = contact.uri.without_param("method")
    uri = SipUri(
        scheme=bare.scheme,
        user=bare.user,
        password=bare.password,
        host=bare.host,
        port=bare.port,
        params=bare.params,
    )
    return str(uri)


def record_routes(message: Request | Response) -> tuple[str, ...]:
    """Return the Record-Route elements as Route values; unreadable ones are left out."""
    routes: list[str] = []
    for element in message.headers.values("Record-Route")[:MAX_ROUTES]:
        try:
            routes.append(str(parse_route(element)))
        except ParseError:
            continue
    return tuple(routes)


def _route_uri(route: str) -> SipUri | None:
    try:
        uri = parse_route(route).uri
    except ParseError:
        return None
    return uri if isinstance(uri, SipUri) else None


def as_callee(invite: Request, local_tag: str) -> Dialog | None:
    """Return the dialog that *invite* of a peer begins; None when its Contact is unusable.

    RFC 3261 12.1.1: "The route set MUST be set to the list of URIs in the Record-Route
    header field from the request, taken in order".
    """
    target = contact_uri(invite) or _older_target(invite)
    if target is None:
        return None
    return Dialog(
        call_id=invite.call_id,
        local_tag=local_tag,
        remote_tag=invite.from_.tag or "",
        local=str(invite.to.with_tag(local_tag)),
        remote=str(invite.from_),
        remote_target=target,
        route_set=record_routes(invite),
        local_cseq=0,
        remote_cseq=invite.cseq.number,
    )


def _older_target(invite: Request) -> str | None:
    """Return the target of a caller of RFC 2543, where Contact was optional.

    RFC 4475 3.4.1: elements "that want to maintain backwards compatibility" accept it.
    """
    branch = invite.top_via.branch or ""
    if "Contact" in invite.headers or invite.from_.tag or branch.startswith(MAGIC_COOKIE):
        return None
    target = str(invite.from_.uri)
    return target if is_request_uri(target) else None


def as_caller(invite: Request, response: Response) -> Dialog:
    """Return the dialog that *response* to our *invite* begins.

    RFC 3261 12.1.2: "The route set MUST be set to the list of URIs in the Record-Route
    header field from the response, taken in reverse order". Without To tag (RFC 2543)
    the remote tag is empty; without a usable Contact requests go where the INVITE went.
    """
    tag = response.to.tag
    target = contact_uri(response)
    return Dialog(
        call_id=invite.call_id,
        local_tag=invite.from_.tag or "",
        remote_tag=tag or "",
        local=str(invite.from_),
        remote=str(invite.to if tag is None else invite.to.with_tag(tag)),
        remote_target=invite.uri if target is None else target,
        route_set=tuple(reversed(record_routes(response))),
        local_cseq=invite.cseq.number,
        remote_cseq=None,
    )


def is_request_uri(text: str) -> bool:
    """Whether *text* is a URI we serve: SIP, SIPS or tel."""
    try:
        uri = parse_uri(text)
    except ParseError:
        return False
    return uri.__class__.__name__ != "OtherUri"

"""The dialog of one leg, kept by hand. RFC 3261 12; nothing of the bridge's session code."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from bridge.sip.headers import NameAddr, parse_route
from bridge.sip.message import ParseError, Request, Response
from bridge.sip.uri import SipUri, parse_uri

FIRST_CSEQ = 102  # as Asterisk counts
ALLOW = "INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, SUBSCRIBE, NOTIFY, INFO, PUBLISH, MESSAGE"


def new_branch() -> str:
    """Return a fresh branch."""
    return f"z9hG4bK{secrets.token_hex(10)}"


def new_tag() -> str:
    """Return a fresh tag, shaped like Asterisk's."""
    return f"as{secrets.token_hex(8)}"


@dataclass(slots=True, kw_only=True)
class Dialog:
    """Who talks to whom: the fields every request of this leg is written from."""

    call_id: str
    local: str  # From of our requests, with its tag
    local_tag: str
    remote: str  # To of our requests, with its tag once known
    remote_tag: str | None = None
    target: str  # Request-URI
    contact: str  # our Contact, with brackets
    sent_by: str  # host:port of our Via
    record_route: str | None = None  # what we write into Record-Route, with brackets
    user_agent: str = "trunkbridge-carrier"
    allow: str = ALLOW
    routes: list[str] = field(default_factory=list)
    cseq: int = FIRST_CSEQ - 1
    remote_cseq: int = 0

    def request(
        self,
        method: str,
        transport: str,
        *,
        body: bytes = b"",
        content_type: str = "application/sdp",
        headers: tuple[tuple[str, str], ...] = (),
        cseq: int | None = None,
        branch: str | None = None,
    ) -> Request:
        """Return the next request of the dialog; *cseq* is given for ACK and CANCEL alone."""
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        via = f"SIP/2.0/{transport} {self.sent_by};branch={branch or new_branch()};rport"
        request = Request(method, self.target)
        add = request.headers.add
        add("Via", via)
        add("Max-Forwards", "70")
        for route in self.routes:
            add("Route", route)
        add("From", self.local)
        add("To", self.remote)
        add("Call-ID", self.call_id)
        add("CSeq", f"{cseq} {method}")
        if method not in ("BYE", "CANCEL"):
            add("Contact", self.contact)
        add("User-Agent", self.user_agent)
        if method == "INVITE":
            add("Allow", self.allow)
            add("Supported", "replaces")
        for name, value in headers:
            add(name, value)
        if body:
            add("Content-Type", content_type)
            request.body = body
        return request

    def answered(self, response: Response) -> None:
        """Learn the far end from a dialog-forming or target-refreshing response."""
        if self.remote_tag is None and response.to.tag is not None:
            self.remote_tag = response.to.tag
            self.remote = response.headers.get("To", self.remote) or self.remote
            # RFC 3261 12.1.2: the route set is the Record-Route, in reverse order.
            self.routes = self._foreign(response.headers.values("Record-Route"))[::-1]
        self.refresh(response)

    def called(self, invite: Request) -> None:
        """Learn the far end from its INVITE."""
        self.remote_tag = invite.from_.tag
        # RFC 3261 12.1.1: the route set is the Record-Route, in order.
        self.routes = self._foreign(invite.headers.values("Record-Route"))
        self.remote_cseq = invite.cseq.number
        self.refresh(invite)

    def refresh(self, message: Request | Response) -> None:
        """Take the remote target of *message* (RFC 3261 12.2.1.2)."""
        contact = message.contact
        if contact is not None:
            self.target = str(contact.uri)

    def next_hop(self) -> tuple[str, int, str]:
        """Return host, port and transport of where the next request goes."""
        uri = parse_route(self.routes[0]).uri if self.routes else parse_uri(self.target)
        if not isinstance(uri, SipUri):
            raise ParseError("the far end gave no SIP address to send requests to")
        return uri.host, uri.port or 5060, (uri.transport or "udp").upper()

    def faults(self, request: Request) -> list[str]:
        """Return what is wrong with an in-dialog *request* of the far end."""
        found = []
        if request.method not in ("ACK", "CANCEL"):
            if request.cseq.number <= self.remote_cseq:
                found.append(f"{request.method} repeats CSeq {request.cseq.number}")
            self.remote_cseq = max(self.remote_cseq, request.cseq.number)
        if request.from_.tag != self.remote_tag:
            found.append(f"{request.method} has another From tag")
        if self.record_route is not None:
            routes = [parse_route(value) for value in request.headers.values("Route")]
            if not any(_same_place(route, self.record_route) for route in routes):
                found.append(f"{request.method} lacks the Route of our Record-Route")
        if request.uri != self.contact.strip("<>"):
            found.append(f"{request.method} is not addressed to our Contact")
        return found

    def _foreign(self, routes: list[str]) -> list[str]:
        """Return *routes* without our own Record-Route: we are that proxy, too."""
        ours = self.record_route
        return [
            value for value in routes if ours is None or not _same_place(parse_route(value), ours)
        ]


def cancel_for(invite: Request) -> Request:
    """Return the CANCEL. RFC 3261 9.1: branch, Request-URI and CSeq number of the INVITE."""
    request = Request("CANCEL", invite.uri)
    request.headers.add("Via", str(invite.top_via))
    request.headers.extend(invite.headers.copied("Max-Forwards", "From", "To", "Call-ID", "Route"))
    request.headers.add("CSeq", f"{invite.cseq.number} CANCEL")
    return request


def ack_for(invite: Request, refusal: Response) -> Request:
    """Return the ACK of a non-2xx. RFC 3261 17.1.1.3: same branch, the To of the response."""
    ack = Request("ACK", invite.uri)
    ack.headers.add("Via", str(invite.top_via))
    ack.headers.extend(invite.headers.copied("Max-Forwards", "From", "Call-ID", "Route"))
    ack.headers.add("To", refusal.headers.get("To") or "")
    ack.headers.add("CSeq", f"{invite.cseq.number} ACK")
    return ack


def info_digit(info: Request) -> str:
    """Return the key in an INFO (application/dtmf-relay or application/dtmf), or nothing."""
    kind = (info.headers.get("Content-Type") or "").lower()
    if not kind.startswith("application/dtmf"):
        return ""
    text = info.body.decode("ascii", "replace")
    return (text.partition("Signal=")[2] or text).strip()[:1]


def _same_place(route: NameAddr, ours: str) -> bool:
    uri, own = route.uri, parse_route(ours).uri
    return isinstance(uri, SipUri) and isinstance(own, SipUri) and uri.hostport == own.hostport

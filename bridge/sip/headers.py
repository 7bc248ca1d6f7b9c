"""Typed header values, parsed on demand. ``str()`` writes them.

RFC 3261 20, RFC 3326 (Reason), RFC 3581 (rport).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bridge.sip.grammar import (
    LWS,
    Params,
    ParseError,
    closing_quote,
    find_param,
    is_token,
    parse_number,
    parse_params,
    quote,
    split_list,
    unquote,
    write_params,
)
from bridge.sip.uri import SipUri, Uri, parse_hostport, parse_uri, write_hostport

if TYPE_CHECKING:
    from bridge.sip.message import Headers

MAGIC_COOKIE = "z9hG4bK"
MAX_CSEQ = 2**31 - 1

# What belongs to a URI and never to a Contact header (RFC 3261 19.1.1, 20.10; RFC 5626, 5923).
_URI_PARAMS = frozenset({"transport", "maddr", "lr", "user", "ttl", "method", "ob", "alias"})
_NOT_IN_URI = re.compile('[\x00-\x20\x7f"<>?@]')


@dataclass(frozen=True, slots=True, kw_only=True)
class NameAddr:
    """An address with display name and header parameters (To, From, Contact, Route ...).

    ``display`` is unquoted and unescaped; None when there is none.
    """

    display: str | None = None
    uri: Uri
    params: Params = ()

    def param(self, name: str) -> str | None:
        """The value of a header parameter (lower-case *name*); empty when it has none."""
        return find_param(self.params, name)

    @property
    def tag(self) -> str | None:
        """The tag; None when absent or empty."""
        return find_param(self.params, "tag") or None

    def with_tag(self, tag: str) -> NameAddr:
        """A copy with the tag set."""
        others = tuple(p for p in self.params if p[0].lower() != "tag")
        return replace(self, params=(*others, ("tag", tag)))

    def __str__(self) -> str:
        display = f"{quote(self.display)} " if self.display is not None else ""
        return f"{display}<{self.uri}>{write_params(self.params)}"


def parse_name_addr(text: str) -> NameAddr:
    """Return the address; raises ParseError.

    The parameters of a URI without angle brackets belong to the header
    (RFC 3261 20). A display name of other than tokens is accepted unquoted.
    """
    text = text.strip(LWS)
    if text[:1] == '"':
        end = closing_quote(text)
        if end < 0:
            raise ParseError("Quoted string is not closed")
        opening = end + 1
        while text[opening : opening + 1] in (" ", "\t"):
            opening += 1
        if text[opening : opening + 1] != "<":
            raise ParseError("Display name is not followed by an address")
        return _angled(unquote(text[: end + 1]), text, opening)
    opening = text.find("<")
    if opening < 0 or text[:5].lower().startswith(("sip:", "sips:", "tel:")):
        uri, semicolon, params = text.partition(";")
        return NameAddr(
            uri=parse_uri(uri.rstrip(LWS)), params=parse_params(params) if semicolon else ()
        )
    display = text[:opening].strip(LWS)
    if '"' in display:
        raise ParseError("Quoted string is not closed")
    return _angled(display or None, text, opening)


def _angled(display: str | None, text: str, opening: int) -> NameAddr:
    closing = text.find(">", opening)
    if closing < 0:
        raise ParseError("Angle bracket is not closed")
    rest = text[closing + 1 :].lstrip(LWS)
    if rest and rest[0] != ";":
        raise ParseError("Text after the address")
    # RFC 4475 3.1.2.15: spaces inside the brackets are wrong but harmless.
    uri = parse_uri(text[opening + 1 : closing].strip(LWS))
    return NameAddr(display=display, uri=uri, params=parse_params(rest[1:]) if rest else ())


def parse_contact(text: str) -> NameAddr:
    """Return a Contact; raises ParseError, also for ``*``.

    DEVIATION: RFC 3261 20 gives the parameters of a bare URI to the header. Exotel sends
    bare Contact URIs; what can only be a URI parameter (``transport`` ...) goes to the
    URI, else our in-dialog requests would leave by the wrong transport.
    """
    if text.strip(LWS) == "*":
        raise ParseError("Contact is a wildcard")
    return _moved_to_uri(text, _URI_PARAMS)


def parse_route(text: str) -> NameAddr:
    """Return a Route or Record-Route element; raises ParseError.

    DEVIATION: a bare URI is not allowed here (RFC 3261 20.30, 20.34) but Exotel sends it;
    all its parameters are taken as URI parameters, else ``lr`` would be lost.
    """
    return _moved_to_uri(text, None)


def _moved_to_uri(text: str, names: frozenset[str] | None) -> NameAddr:
    """Read an address; of a bare URI, give it back the parameters *names* (None: all).

    What could not stand in a URI (quotes, blanks, ``?``) stays with the header.
    """
    address = parse_name_addr(text)
    if "<" in text or not isinstance(address.uri, SipUri):
        return address
    moved = tuple(
        (name, value)
        for name, value in address.params
        if (names is None or name.lower() in names)
        and _NOT_IN_URI.search(f"{name}{value or ''}") is None
    )
    kept = tuple(param for param in address.params if param not in moved)
    return replace(address, uri=replace(address.uri, params=moved), params=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Via:
    """One hop of a Via header; ``host`` of IPv6 without brackets, ``transport`` upper case."""

    transport: str
    host: str
    port: int | None = None
    params: Params = ()

    def param(self, name: str) -> str | None:
        """The value of a parameter (lower-case *name*); empty when it has none."""
        return find_param(self.params, name)

    @property
    def branch(self) -> str | None:
        """The branch; None when absent or empty."""
        return find_param(self.params, "branch") or None

    @property
    def rport(self) -> int | None:
        """The port the request came from, when the server filled it in (RFC 3581)."""
        value = find_param(self.params, "rport")
        valid = value is not None and value.isascii() and value.isdigit() and len(value) < 6
        return int(value) if value is not None and valid else None

    @property
    def wants_rport(self) -> bool:
        """Whether the client asks for the port it sent from (RFC 3581 3)."""
        return find_param(self.params, "rport") == ""

    @property
    def received(self) -> str | None:
        """The address the request came from, without brackets (RFC 5118 4.5)."""
        value = find_param(self.params, "received")
        return value.strip("[]") if value else None

    @property
    def sent_by(self) -> str:
        """Host in lower case and port when given: part of the transaction key."""
        return write_hostport(self.host.lower(), self.port)

    def with_source(self, host: str, port: int) -> Via:
        """A copy as RFC 3261 18.2.1 and RFC 3581 4 want it, seen from address *host*.

        ``received`` is set when the sent-by host differs or ``rport`` was asked for.
        """
        params = [p for p in self.params if p[0].lower() != "received"]
        wants = self.wants_rport
        if wants:
            params = [
                (name, str(port) if name.lower() == "rport" else value) for name, value in params
            ]
        if wants or self.host.lower() != host.lower():
            params.append(("received", host))
        return replace(self, params=tuple(params))

    def __str__(self) -> str:
        sent_by = write_hostport(self.host, self.port)
        return f"SIP/2.0/{self.transport} {sent_by}{write_params(self.params)}"


def parse_via(text: str) -> Via:
    """Return one Via element; raises ParseError."""
    pieces = text.split("/", 2)
    if len(pieces) != 3:
        raise ParseError("Via is malformed")
    if pieces[0].strip(LWS).upper() != "SIP" or pieces[1].strip(LWS) != "2.0":
        raise ParseError("Via has an unknown protocol")
    words = pieces[2].strip(LWS).replace("\t", " ").split(" ", 1)
    if len(words) != 2 or not is_token(words[0]):
        raise ParseError("Via is malformed")
    hostport, semicolon, params = words[1].partition(";")
    host, port = parse_hostport(hostport.strip(LWS))
    return Via(
        transport=words[0].upper(),
        host=host,
        port=port,
        params=parse_params(params) if semicolon else (),
    )


@dataclass(frozen=True, slots=True)
class CSeq:
    """A sequence number and the method it numbers."""

    number: int
    method: str

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


def parse_cseq(text: str) -> CSeq:
    """Return the CSeq; raises ParseError."""
    words = text.replace("\t", " ").split(" ")
    words = [word for word in words if word]
    if len(words) != 2 or not is_token(words[1]):
        raise ParseError("CSeq is malformed")
    # RFC 3261 8.1.1.5: "The sequence number value MUST be expressible as a 32-bit unsigned
    # integer and MUST be less than 2**31."
    return CSeq(parse_number(words[0], "CSeq", MAX_CSEQ), words[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a request was sent: ``Q.850``, ``SIP``, ``Preemption`` (RFC 3326, RFC 6432).

    ``cause`` is None when the header has none or an unreadable one.
    """

    protocol: str
    cause: int | None = None
    text: str | None = None

    def __str__(self) -> str:
        cause = "" if self.cause is None else f";cause={self.cause}"
        text = "" if self.text is None else f";text={quote(self.text)}"
        return f"{self.protocol}{cause}{text}"


def parse_reasons(headers: Headers) -> list[Reason]:
    """Return every readable Reason value; malformed ones are left out."""
    return _reasons(headers.values("Reason"))


def _reasons(values: Iterable[str]) -> list[Reason]:
    reasons: list[Reason] = []
    for value in values:
        protocol, _, rest = value.partition(";")
        protocol = protocol.strip(LWS)
        if not is_token(protocol):
            continue
        try:
            params = parse_params(rest)
        except ParseError:
            params = ()
        cause = find_param(params, "cause")
        text = find_param(params, "text")
        reasons.append(Reason(protocol=protocol, cause=_cause(cause), text=text))
    return reasons


def _cause(text: str | None) -> int | None:
    try:
        return None if text is None else parse_number(text.strip(LWS), "Cause", 999)
    except ParseError:
        return None


def q850_cause(headers: Headers) -> int | None:
    """Return the cause of the first ``Reason: Q.850`` that has one."""
    for reason in parse_reasons(headers):
        if reason.protocol.upper() == "Q.850" and reason.cause is not None:
            return reason.cause
    return None


def sip_cause(fields: Iterable[tuple[str, str]]) -> int | None:
    """Return the cause of the first ``Reason: SIP`` among header *fields* that has one."""
    found = _reasons(value for name, value in fields if name.lower() == "reason")
    causes = (reason.cause for reason in found if reason.protocol.upper() == "SIP")
    return next((cause for cause in causes if cause is not None), None)


def parse_retry_after(headers: Headers) -> int | None:
    """Return the seconds of Retry-After, at most 2**31-1; None when absent or unreadable.

    Comment and parameters are ignored (RFC 3261 20.33).
    """
    value = headers.get("Retry-After")
    if value is None:
        return None
    digits = value.partition(";")[0].partition("(")[0].strip(LWS)
    if not (digits.isascii() and digits.isdigit()):
        return None
    try:
        return parse_number(digits, "Retry-After", MAX_CSEQ)
    except ParseError:
        return MAX_CSEQ


def parse_addresses(headers: Headers, name: str) -> list[NameAddr]:
    """Return every address of a list header; raises ParseError.

    Route, Record-Route and Path are read by `parse_route`, Contact by `parse_contact`.
    """
    match name.lower():
        case "route" | "record-route" | "path":
            read = parse_route
        case "contact" | "m":
            read = parse_contact
        case _:
            read = parse_name_addr
    return [read(value) for value in split_all(headers.all(name))]


MAX_ELEMENTS = 128


def split_all(values: list[str]) -> list[str]:
    """Return the comma-separated elements of several fields, in order; at most `MAX_ELEMENTS`."""
    elements: list[str] = []
    for value in values:
        elements.extend(split_list(value))
        if len(elements) > MAX_ELEMENTS:
            return elements[:MAX_ELEMENTS]
    return elements

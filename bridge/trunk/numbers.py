"""Numbers: E.164 inside, the trunk's own writing outside. Pure.

Contract 3, "Numbers".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol
from urllib.parse import unquote

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat, ValidationResult

from bridge.sip.headers import NameAddr, parse_addresses
from bridge.sip.message import ParseError, Request
from bridge.sip.uri import OtherUri, SipUri, TelUri, parse_uri, unescape

ANONYMOUS: Final = "anonymous"

_DIALABLE = re.compile(r"\+?\(?[0-9][0-9 ().-]{0,63}")
_MAX_LENGTH = 128
# RFC 3323 4.2 and what carriers write in the user part instead of a number.
_WITHHELD_USERS = frozenset(("anonymous", "restricted", "unavailable", "unknown", "private"))
_WITHHELD_PRIVACY = frozenset(("id", "user", "header", "full"))
# Remote-Party-ID's own words (draft-ietf-sip-privacy): `name` hides no number.
_WITHHELD_REMOTE = frozenset(("full", "uri", "id", "user", "header"))


class NumberPlan(Protocol):
    """How a trunk writes numbers: three keys of its configuration."""

    @property
    def country(self) -> str: ...
    @property
    def number_format(self) -> str: ...
    @property
    def user_phone(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number of a message: as received, and as used inside."""

    received: str
    number: str

    @property
    def withheld(self) -> bool:
        """Whether the far party does not show its number."""
        return self.number == ANONYMOUS


@lru_cache(maxsize=4096)  # a call asks for the same ones again and again; read, never changed
def _parsed(text: str, country: str) -> PhoneNumber | None:
    if not _DIALABLE.fullmatch(text):
        return None
    try:
        parsed = phonenumbers.parse(text, country)
    except NumberParseException:
        return None
    # An extension such as 1000 parses too; it is no number of the public network.
    reason = phonenumbers.is_possible_number_with_reason(parsed)
    return parsed if reason == ValidationResult.IS_POSSIBLE else None


def normalise(text: str, country: str) -> str:
    """Return *text* as E.164 when it is a number in *country* or an international one.

    Anything else is returned exactly as it is: ``1000`` stays ``1000``.
    """
    parsed = _parsed(text, country)
    if parsed is None:
        return text
    return phonenumbers.format_number(parsed, PhoneNumberFormat.E164)


def write(number: str, plan: NumberPlan) -> str:
    """Return *number* the way the trunk wants it in a user part.

    What is no E.164 number is written as it is. ``national-0`` is for numbers of
    the trunk's ``country``; others are written as E.164.
    """
    parsed = _parsed(number, plan.country)
    if parsed is None:
        return number
    e164 = phonenumbers.format_number(parsed, PhoneNumberFormat.E164)
    match plan.number_format:
        case "bare":
            return e164[1:]
        case "national-0":
            if parsed.country_code == phonenumbers.country_code_for_region(plan.country):
                return "0" + phonenumbers.national_significant_number(parsed)
            return e164
        case _:
            return e164


def uri_of(number: str, host: str, plan: NumberPlan, *, port: int | None = None) -> SipUri:
    """Return the URI of *number* at *host* for Request-URI, From or To of this trunk."""
    return SipUri(
        scheme="sip",
        user=write(number, plan),
        host=host,
        port=port,
        params=(("user", "phone"),) if plan.user_phone else (),
    )


def is_number_of(pattern: str, number: Number, plan: NumberPlan) -> bool:
    """Whether a route's ``number`` means *number*: ``*``, or any form of it.

    Forms: as configured, E.164, and as the trunk writes it.
    """
    if pattern == "*":
        return True
    e164 = normalise(pattern, plan.country)
    return not {pattern, e164, write(e164, plan)}.isdisjoint((number.received, number.number))


def called_number(request: Request, plan: NumberPlan, *, own: str = "") -> Number:
    """Return the dialled number: of the Request-URI, else P-Called-Party-ID, else To.

    *own* is the user of our registered Contact: in the Request-URI it says where we are and
    not who was dialled, and counts only when nothing else is there.
    """
    users: Iterable[str] = _called_users(request)
    if own:
        known = list(users)
        ours = bool(known) and known[0] in (own, unescape(own))
        users = [*known[1:], own] if ours else known
    for user in users:
        if user:
            return Number(received=user, number=normalise(user, plan.country))
    return Number(received="", number="")


def _called_users(request: Request) -> Iterator[str]:
    with suppress(ParseError):
        yield _user(parse_uri(request.uri))
    for name in ("P-Called-Party-ID", "To"):
        for address in _addresses(request, name):
            yield _user(address.uri)


def caller_number(request: Request, plan: NumberPlan) -> Number:
    """Return the caller's number: of P-Asserted-Identity, Remote-Party-ID, else From.

    ``anonymous`` when the caller withholds it: by a Privacy header (RFC 3323,
    RFC 3325 9.3), ``privacy=full`` in Remote-Party-ID, or an anonymous user.
    """
    if _wants_privacy(request):
        return Number(received="", number=ANONYMOUS)
    for name in ("P-Asserted-Identity", "Remote-Party-ID", "From"):
        found = [
            _caller(address, plan)
            for address in _addresses(request, name)
            if (_user(address.uri) and _is_calling(address)) or name == "From"
        ]
        # RFC 3325 9.1: there may be a sip: and a tel: URI; the one that is a number counts.
        best = next((n for n in found if n.number.startswith("+")), found[0] if found else None)
        if best is not None:
            return best
    return Number(received="", number=ANONYMOUS)


def _caller(address: NameAddr, plan: NumberPlan) -> Number:
    user = _user(address.uri)
    hidden = (address.param("privacy") or "").lower() in _WITHHELD_REMOTE
    host = address.uri.host.lower() if isinstance(address.uri, SipUri) else ""
    if hidden or not user or user.lower() in _WITHHELD_USERS or host == "anonymous.invalid":
        return Number(received=user, number=ANONYMOUS)
    return Number(received=user, number=normalise(user, plan.country))


def _is_calling(address: NameAddr) -> bool:
    """Whether an identity is the caller's: Remote-Party-ID may name the called party too."""
    return (address.param("party") or "calling").lower() == "calling"


def _wants_privacy(request: Request) -> bool:
    tokens = {
        token.strip().lower()
        for value in request.headers.values("Privacy")
        for token in value.split(";")
    }
    return not tokens.isdisjoint(_WITHHELD_PRIVACY)


def _addresses(request: Request, name: str) -> list[NameAddr]:
    try:
        return parse_addresses(request.headers, name)
    except ParseError:
        return []


def _user(uri: SipUri | TelUri | OtherUri) -> str:
    """The user part as text: unescaped, without telephone parameters.

    Never with what cannot be shown or written as UTF-8 (controls, lone surrogates): it
    goes into events, attributes and identities.
    """
    match uri:
        case SipUri():
            text = uri.user or ""
        case TelUri():
            text = _in_context(uri.number, uri.params)
        case _:
            return ""
    plain = unquote(text, errors="replace")
    if not plain.isprintable():
        plain = "".join(char for char in text if char.isprintable())
    # RFC 3261 19.1.6: a telephone-subscriber carries its parameters in the user part.
    number, semicolon, rest = plain.partition(";")
    if semicolon and _DIALABLE.fullmatch(number):
        params = tuple(_param(part) for part in rest.split(";"))
        plain = _in_context(number, params)
    return plain[:_MAX_LENGTH]


def _param(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    return name, value if equals else None


def _in_context(number: str, params: Iterable[tuple[str, str | None]]) -> str:
    """Return a number of a tel: URI with the context that makes it unique.

    RFC 3966 5.1.5: the phone-context of a local number is the prefix of a global one, or a
    domain: then it is read as a number of the trunk's country.
    """
    context = next((v for n, v in params if n.lower() == "phone-context"), None) or ""
    is_prefix = context.startswith("+") and _DIALABLE.fullmatch(context) is not None
    return number if number.startswith("+") or not is_prefix else context + number

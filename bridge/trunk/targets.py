"""Where a call may be transferred: targets, and the patterns of ``transfer_allow``. Pure.

Contract 3 and 4. A target is a number in any form the trunk or E.164 would write, a
``tel:`` URI, or a ``sip:`` URI. A pattern is written like what it allows, with ``*`` for any
run of characters and ``?`` for exactly one:

- ``+9180*``, ``+91??????????``, ``080 4567 8900``, ``1000``, ``*``: numbers, compared as
  E.164 (what is no number of the public network: as it is). Never a ``sip:`` URI.
- ``sip:*@pbx.example.com``, ``sip:support@10.0.0.5:5080``: that scheme; user, and host with
  port, each by its own part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from bridge.sip.grammar import ParseError
from bridge.sip.uri import SipUri, TelUri, parse_uri, unescape
from bridge.trunk.numbers import NumberPlan, normalise, uri_of

LONGEST: Final = 256
_SCHEMES: Final = ("sip", "sips", "tel")
_PARAMS: Final = frozenset(("user", "transport"))
_NUMBER: Final = re.compile(r"\+[0-9]{3,15}|[0-9*#]{1,32}")
_SEPARATORS: Final = str.maketrans("", "", " ().-")


def read_target(text: str, country: str) -> str | None:
    """Return the target as it is compared and told: E.164, an extension, or a SIP URI.

    None for what cannot be called, or would say more than whom to call (URI headers, a
    password, unknown parameters).
    """
    text = text.strip()
    if not 0 < len(text) <= LONGEST or not text.isascii() or not text.isprintable():
        return None
    scheme, colon, _ = text.partition(":")
    if not colon:
        return _number(text, country)
    if scheme.lower() not in _SCHEMES:
        return None
    try:
        uri = parse_uri(text)
    except ParseError:
        return None
    match uri:
        case TelUri():
            return None if uri.params else _number(uri.digits, country)
        case SipUri():
            return _sip(uri)
        case _:
            return None


def read_called(uri: str, country: str) -> str | None:
    """Return the number that a URI of a peer means, whatever host it names.

    We are the ones to call it, by the trunk: only its user part counts.
    """
    try:
        parsed = parse_uri(uri)
    except ParseError:
        return None
    match parsed:
        case TelUri():
            return read_target(parsed.digits, country)
        case SipUri():
            user = unescape(parsed.user or "").partition(";")[0]
            return None if ":" in user else read_target(user, country)
        case _:
            return None


def is_allowed(target: str, patterns: Iterable[str], country: str) -> bool:
    """Whether a pattern allows *target*, as `read_target` has returned it."""
    return any(_allows(pattern.strip(), target, country) for pattern in patterns)


def refer_uri(target: str, domain: str, plan: NumberPlan) -> str:
    """Return the URI to refer to: a number as the trunk writes it, at *domain*."""
    if ":" in target:
        return target
    uri = uri_of(target, domain, plan)
    return str(replace(uri, user=(uri.user or "").replace("#", "%23")))


def _number(text: str, country: str) -> str | None:
    number = normalise(text, country)
    if not number.startswith("+") or number == text:
        number = number.translate(_SEPARATORS)
    return number if _NUMBER.fullmatch(number) else None


def _sip(uri: SipUri) -> str | None:
    plain = all(name.lower() in _PARAMS for name, _ in uri.params)
    if not plain or uri.headers or uri.password is not None or uri.user == "":
        return None
    return str(replace(uri, host=uri.host.lower()))


def _allows(pattern: str, target: str, country: str) -> bool:
    scheme, colon, rest = pattern.partition(":")
    if ":" in target:
        return bool(colon) and _allows_uri(scheme.lower(), rest, target)
    if colon:
        return False
    if "*" not in pattern and "?" not in pattern:
        return _number(pattern, country) == target
    return matches(pattern, target)


def _allows_uri(scheme: str, rest: str, target: str) -> bool:
    try:
        uri = parse_uri(target)
    except ParseError:
        return False
    if not isinstance(uri, SipUri) or uri.scheme != scheme:
        return False
    user, at, hostport = rest.rpartition("@")
    if bool(at) is not (uri.user is not None):
        return False
    return matches(user, unescape(uri.user or "")) and matches(hostport.lower(), uri.hostport)


def matches(pattern: str, text: str) -> bool:
    """Whether *text* is what *pattern* says; at most len(pattern) * len(text) steps."""
    at = here = 0
    star, resume = -1, 0
    while here < len(text):
        char = pattern[at] if at < len(pattern) else ""
        if char == "*":
            star, resume = at, here
            at += 1
        elif char and char in ("?", text[here]):
            at += 1
            here += 1
        elif star >= 0:
            at, resume = star + 1, resume + 1
            here = resume
        else:
            return False
    return not pattern[at:].strip("*")

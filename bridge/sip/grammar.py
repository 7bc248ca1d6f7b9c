"""Lexical rules every SIP codec here shares: the parse error, quoting, lists, parameters.

All splitting is linear in its input. Only SP and TAB count as white space: `str.strip()`
without arguments would also eat Unicode spaces a peer sent.

RFC 3261 25.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bridge.errors import BridgeError

if TYPE_CHECKING:
    from bridge.sip.message import Request

LWS = " \t"

Params = tuple[tuple[str, str | None], ...]
"""Parameters in order, names and values as written (a quoted value keeps its quotes)."""

_ALPHABET = "-.!%*_+`'~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_LIST_MARKS = re.compile(r'[\\",<>]')
_PARAM_MARKS = re.compile(r'[\\";]')
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE = re.compile('(["\\\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f])')
_MAX_DIGITS = 20


class ParseError(BridgeError):
    """A peer sent something that cannot be understood.

    ``status`` is the code that would refuse it. ``request`` is what could be
    read of a request, enough for `response_to`; None for responses and garbage.
    """

    def __init__(self, text: str, status: int = 400, request: Request | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.request = request

    def with_request(self, request: Request | None) -> ParseError:
        """The same error, naming the request it was found in."""
        return ParseError(self.text, self.status, request)


def is_token(text: str) -> bool:
    """Whether *text* is a non-empty RFC 3261 token."""
    return text != "" and text.strip(_ALPHABET) == ""


def has_control(text: str) -> bool:
    """Whether *text* has a control character other than TAB."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def parse_number(text: str, what: str, largest: int) -> int:
    """Return a decimal number; raises ParseError naming *what*.

    Never converts more digits than fit 64 bits, so a long number costs nothing.
    """
    if not (text.isascii() and text.isdigit()):
        raise ParseError(f"{what} is not a number")
    digits = text.lstrip("0")
    if len(digits) > _MAX_DIGITS or int(digits or "0") > largest:
        raise ParseError(f"{what} is too large")
    return int(digits or "0")


def split_list(value: str) -> list[str]:
    """Return the comma-separated elements, stripped; empty ones are dropped.

    Commas inside quotes or angle brackets do not separate (RFC 3261 7.3.1, 20.10).
    """
    if "," not in value:
        only = value.strip(LWS)
        return [only] if only else []
    if '"' not in value and "<" not in value:
        return [part for raw in value.split(",") if (part := raw.strip(LWS))]
    return [part for raw in _split_marked(value) if (part := raw.strip(LWS))]


def _split_marked(value: str) -> list[str]:
    parts: list[str] = []
    start = skip = 0
    quoted = angled = False
    for mark in _LIST_MARKS.finditer(value):
        at = mark.start()
        if at < skip:
            continue
        char = value[at]
        if char == "\\":
            skip = at + 2 if quoted else at
        elif char == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif char == "<":
            angled = True
        elif char == ">":
            angled = False
        elif not angled:
            parts.append(value[start:at])
            start = at + 1
    parts.append(value[start:])
    return parts


def closing_quote(text: str, opening: int = 0) -> int:
    """Return where the quoted string that opens at *opening* ends, or -1."""
    at = opening + 1
    while True:
        quote = text.find('"', at)
        if quote < 0:
            return -1
        slash = text.find("\\", at, quote)
        if slash < 0:
            return quote
        at = slash + 2


def unquote(text: str) -> str:
    """Return *text* without its quotes and escapes; unquoted text as it is."""
    if len(text) >= 2 and text[0] == '"' and text[-1] == '"':
        inner = text[1:-1]
        return _ESCAPED.sub(r"\1", inner) if "\\" in inner else inner
    return text


def quote(text: str) -> str:
    """Return *text* as a quoted string (RFC 3261 25.1)."""
    return '"' + _TO_ESCAPE.sub(r"\\\1", text) + '"'


def parse_params(text: str) -> Params:
    """Return the parameters of *text*, which is what follows the first semicolon.

    A semicolon at the end is forgiven, an empty parameter elsewhere is not. Raises
    ParseError.
    """
    if '"' in text:
        parts = _split_params(text)
    else:
        if has_control(text):
            raise ParseError("Parameter has a control character")
        parts = text.split(";")
    params: list[tuple[str, str | None]] = []
    if not parts[-1].strip(LWS):
        parts.pop()
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip(LWS)
        if not name:
            raise ParseError("Parameter has no name")
        params.append((name, value.strip(LWS) if equals else None))
    return tuple(params)


def _split_params(text: str) -> list[str]:
    parts: list[str] = []
    start = skip = 0
    quoted = False
    for mark in _PARAM_MARKS.finditer(text):
        at = mark.start()
        if at < skip:
            continue
        char = text[at]
        if char == "\\":
            skip = at + 2 if quoted else at
        elif char == '"':
            quoted = not quoted
        elif not quoted:
            parts.append(text[start:at])
            start = at + 1
    if quoted:
        raise ParseError("Quoted string is not closed")
    parts.append(text[start:])
    return parts


def find_param(params: Params, name: str) -> str | None:
    """Return the value of the first parameter called *name*, unquoted.

    A parameter without a value gives the empty string; an absent one None.
    """
    for known, value in params:
        if known == name or known.lower() == name:
            return "" if value is None else unquote(value)
    return None


def write_params(params: Params) -> str:
    """Return ``;name=value`` for every parameter."""
    if not params:
        return ""
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in params)

"""SIP, SIPS and tel URIs.

RFC 3261 19.1, RFC 3966, RFC 5118 (IPv6 references).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from functools import lru_cache

from bridge.sip.grammar import (
    LWS,
    Params,
    ParseError,
    find_param,
    has_control,
    parse_number,
    parse_params,
    write_params,
)

_HOST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
_SCHEME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-."
_UNRESERVED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.!~*'()")
_TEL = "0123456789abcdefABCDEF*#+-.()"
_SEPARATORS = str.maketrans("", "", "-.()")
_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_UNSAFE = re.compile('[\x00-\x20\x7f"<>]')
_BOTH_OR_NEITHER = ("user", "ttl", "method", "maddr", "transport")


@dataclass(frozen=True, slots=True, kw_only=True)
class SipUri:
    """A ``sip:`` or ``sips:`` URI, escapes kept as written.

    ``host`` of an IPv6 reference is kept without brackets. ``headers`` is what
    follows the question mark.
    """

    scheme: str = "sip"
    user: str | None = None
    password: str | None = None
    host: str
    port: int | None = None
    params: Params = ()
    headers: str = ""

    def param(self, name: str) -> str | None:
        """The value of a parameter (lower-case *name*); empty when it has none."""
        return find_param(self.params, name)

    @property
    def transport(self) -> str | None:
        """The ``transport`` parameter in lower case."""
        value = self.param("transport")
        return value.lower() if value else None

    @property
    def lr(self) -> bool:
        """Whether this is a loose router (RFC 3261 16.12)."""
        return self.param("lr") is not None

    @property
    def hostport(self) -> str:
        """Host, in brackets when IPv6, and port when there is one."""
        return write_hostport(self.host, self.port)

    def without_param(self, name: str) -> SipUri:
        """A copy without parameter *name*."""
        wanted = name.lower()
        return replace(self, params=tuple(p for p in self.params if p[0].lower() != wanted))

    def __str__(self) -> str:
        user = ""
        if self.user is not None:
            user = f"{self.user}@" if self.password is None else f"{self.user}:{self.password}@"
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{self.hostport}{write_params(self.params)}{headers}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TelUri:
    """A ``tel:`` URI; ``number`` as written, visual separators included (RFC 3966)."""

    number: str
    params: Params = ()

    def param(self, name: str) -> str | None:
        """The value of a parameter (lower-case *name*); empty when it has none."""
        return find_param(self.params, name)

    @property
    def digits(self) -> str:
        """The number without visual separators."""
        return self.number.translate(_SEPARATORS)

    def __str__(self) -> str:
        return f"tel:{self.number}{write_params(self.params)}"


@dataclass(frozen=True, slots=True)
class OtherUri:
    """A URI of a scheme we do not speak; ``text`` is the whole URI as written."""

    scheme: str
    text: str

    def __str__(self) -> str:
        return self.text


Uri = SipUri | TelUri | OtherUri


_MOST_KEPT = 256  # characters of a URI that is remembered


def parse_uri(text: str) -> Uri:
    """Return the URI; raises ParseError.

    ``sip:[2001:db8::10:5070]`` is a host without port (RFC 5118 4.3).
    """
    # A call names the same few URIs in every message.
    return _parse_again(text) if len(text) <= _MOST_KEPT else _parse_long_again(text)


def _parse(text: str) -> Uri:
    # _UNSAFE covers ASCII controls, white space and the delimiters of name-addr.
    if _UNSAFE.search(text) is not None:
        raise ParseError("URI has a character that must be escaped")
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    if not colon:
        raise ParseError("URI has no scheme")
    if scheme in ("sip", "sips"):
        return _parse_sip(scheme, rest)
    if scheme == "tel":
        return _parse_tel(rest)
    if not scheme or scheme.strip(_SCHEME) or not scheme[0].isalpha():
        raise ParseError("URI scheme is malformed")
    if not rest:
        raise ParseError("URI is empty")
    return OtherUri(scheme, text)


_parse_again = lru_cache(maxsize=1024)(_parse)
_parse_long_again = lru_cache(maxsize=2)(_parse)  # within one message; they may be of 8 KiB


def _parse_sip(scheme: str, rest: str) -> SipUri:
    user: str | None = None
    password: str | None = None
    # A user part may hold ';', '?' and '/' (RFC 3261 25.1), so it is cut off first.
    userinfo, at, after = rest.partition("@")
    if at:
        rest = after
        user, colon, secret = userinfo.partition(":")
        password = secret if colon else None
    rest, _, headers = rest.partition("?")
    hostport, semicolon, params = rest.partition(";")
    host, port = parse_hostport(hostport)
    return SipUri(
        scheme=scheme,
        user=user,
        password=password,
        host=host,
        port=port,
        params=parse_params(params) if semicolon else (),
        headers=headers,
    )


def _parse_tel(rest: str) -> TelUri:
    number, semicolon, params = rest.partition(";")
    if not number or number.strip(_TEL):
        raise ParseError("Telephone number is malformed")
    return TelUri(number=number, params=parse_params(params) if semicolon else ())


def parse_hostport(text: str) -> tuple[str, int | None]:
    """Return host (IPv6 without brackets) and port; raises ParseError.

    White space around the colon is allowed, as in Via (RFC 3261 25.1).
    """
    if text.startswith("["):
        host, bracket, tail = text[1:].partition("]")
        # RFC 5118 4.10: RFC 3261's grammar made peers write one colon too many.
        host = host.replace(":::", "::")
        if not bracket or not is_ipv6(host):
            raise ParseError("IPv6 address is malformed")
        tail = tail.strip(LWS)
        if not tail:
            return host, None
        if tail[0] != ":":
            raise ParseError("Text after the IPv6 address")
        return host, _parse_port(tail[1:])
    host, colon, port = text.partition(":")
    host = host.strip(LWS)
    if not host or host.strip(_HOST):
        raise ParseError("Host is malformed")
    return host, _parse_port(port) if colon else None


def _parse_port(text: str) -> int:
    port = parse_number(text.strip(LWS), "Port", 65535)
    if port == 0:
        raise ParseError("Port is zero")
    return port


def is_ipv6(text: str) -> bool:
    """Whether *text* is an IPv6 address without brackets and zone."""
    if ":" not in text or "%" in text or has_control(text):
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def write_hostport(host: str, port: int | None) -> str:
    """Return ``host[:port]``, with brackets around an IPv6 host."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def same_uri(a: Uri, b: Uri) -> bool:
    """Whether two URIs are equal (RFC 3261 19.1.4, RFC 3966 4)."""
    if isinstance(a, SipUri) and isinstance(b, SipUri):
        return (
            a.scheme == b.scheme
            and _compared(a.user) == _compared(b.user)
            and _compared(a.password) == _compared(b.password)
            and _compared_host(a.host) == _compared_host(b.host)
            and a.port == b.port
            and _same_params(a, b)
            and _compared_headers(a.headers) == _compared_headers(b.headers)
        )
    if isinstance(a, TelUri) and isinstance(b, TelUri):
        same_number = a.digits.lower() == b.digits.lower()
        return same_number and _lowered(a.params) == _lowered(b.params)
    return a == b


def _same_params(a: SipUri, b: SipUri) -> bool:
    ours, theirs = _lowered(a.params), _lowered(b.params)
    # RFC 3261 19.1.4: "A user, ttl, or method uri-parameter appearing in only one URI
    # never matches, even if it contains the default value." maddr and transport likewise.
    if any((name in ours) != (name in theirs) for name in _BOTH_OR_NEITHER):
        return False
    return all(theirs[name] == value for name, value in ours.items() if name in theirs)


def _lowered(params: Params) -> dict[str, str]:
    return {name.lower(): _compared(value or "").lower() for name, value in params}


def _compared_headers(headers: str) -> list[str]:
    fields: list[str] = []
    for field in headers.split("&"):
        name, equals, value = field.partition("=")
        fields.append(f"{_compared(name).lower()}{equals}{_compared(value)}")
    return sorted(fields)


def _compared_host(host: str) -> str:
    return ipaddress.IPv6Address(host).compressed if is_ipv6(host) else host.lower()


def _compared(text: str | None) -> str:
    # None and "" differ only for the user part; a space cannot occur in either.
    if text is None:
        return " "
    return _ESCAPE.sub(_unescape_one, text) if "%" in text else text


def _unescape_one(match: re.Match[str]) -> str:
    char = chr(int(match[1], 16))
    # RFC 3261 19.1.4: only characters that are not reserved equal their escapes.
    return char if char in _UNRESERVED else match[0].upper()


def unescape(text: str) -> str:
    """Return *text* with ``%XX`` decoded as UTF-8; bad escapes stay as they are.

    Only for showing and comparing: the result may hold any character.
    """
    if "%" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape")
    out = bytearray()
    at = 0
    while (percent := raw.find(b"%", at)) >= 0:
        out += raw[at:percent]
        digits = raw[percent + 1 : percent + 3]
        if len(digits) == 2 and _ESCAPE.fullmatch("%" + digits.decode("latin-1")):
            out.append(int(digits, 16))
            at = percent + 3
        else:
            out += b"%"
            at = percent + 1
    out += raw[at:]
    return out.decode("utf-8", "surrogateescape")

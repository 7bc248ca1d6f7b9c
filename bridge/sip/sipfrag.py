"""What a NOTIFY of a REFER says: Event, Subscription-State, and the sipfrag in its body.

RFC 3420; RFC 3515 2.4.4 to 2.4.6; RFC 6665 4.1.3, 8.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bridge.sip.grammar import LWS, ParseError, find_param, parse_params
from bridge.sip.message import Request

REFER_EVENT: Final = "refer"
SIPFRAG: Final = "message/sipfrag"

_STATUS_LINE = re.compile(rb"[\r\n]*SIP/2\.0[ \t]+([1-6][0-9][0-9])(?![0-9])", re.IGNORECASE)
_LONGEST_EXPIRES = 86_400  # seconds; what is longer is read as this


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One NOTIFY. ``status`` is that of its Status-Line, None without a readable one.

    ``terminated``: nothing follows. ``expires``: seconds left, None when it does not say.
    """

    status: int | None
    terminated: bool
    expires: int | None


def event_of(request: Request) -> tuple[str, str | None]:
    """Return the event package in lower case (``""`` for none), and the ``id``."""
    package, params = _split(request.headers.get("Event"))
    return package, find_param(params, "id")


def is_fragment(request: Request) -> bool:
    """Whether the body, if there is one, is a sipfrag (or does not say what it is)."""
    kind, _ = _split(request.headers.get("Content-Type"))
    return not request.body or kind in ("", SIPFRAG)


def read_notice(request: Request) -> Notice:
    """Return what a NOTIFY tells; what cannot be read tells nothing. Never raises."""
    state, params = _split(request.headers.get("Subscription-State"))
    found = _STATUS_LINE.match(request.body[:256])
    return Notice(
        status=None if found is None else int(found[1]),
        terminated=state == "terminated",
        expires=_seconds(find_param(params, "expires")),
    )


def _split(value: str | None) -> tuple[str, tuple[tuple[str, str | None], ...]]:
    """Return the first word of a field in lower case, and its parameters."""
    word, _, rest = (value or "").partition(";")
    try:
        params = parse_params(rest)
    except ParseError:
        params = ()
    return word.strip(LWS).lower(), params


def _seconds(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    return _LONGEST_EXPIRES if len(text) > 9 else min(int(text), _LONGEST_EXPIRES)

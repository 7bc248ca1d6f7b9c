"""Which headers are copied into the room, and which into a call's record. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

ID_LIMIT: Final = 256  # characters of a carrier's id; a longer one is cut
IDS_LIMIT: Final = 8


def copied_headers(headers: Iterable[tuple[str, str]], patterns: Sequence[str]) -> dict[str, str]:
    """Return the first value of each header that one of *patterns* (``X-*``) matches.

    Names are compared without case (RFC 3261 7.3.1) and returned in lower case.
    """
    wanted = [pattern.lower() for pattern in patterns]
    found: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        if lower not in found and any(fnmatchcase(lower, pattern) for pattern in wanted):
            found[lower] = value
    return found


SAID_BY_ANY: Final = ("retry-after", "warning")
"""Kept of every carrier's refusals: when to come back, and what was not understood (RFC 3261
20.33, 20.43)."""

_BEGINNINGS: Final = frozenset(("X-", "x-", "Re", "re", "Wa", "wa"))
"""Of any header that is kept: what decides most messages without a pattern."""


def carrier_ids(headers: Iterable[tuple[str, str]], patterns: Sequence[str]) -> dict[str, str]:
    """Return what a carrier says of its own about a call: the first value of each such header.

    As `copied_headers` of headers named ``X-…`` and of `SAID_BY_ANY`, but bounded and without
    what cannot be shown: these go into records.
    """
    # Most messages have none, and refusals by the thousand come through here.
    extra = [(name, value) for name, value in headers if name[:2] in _BEGINNINGS]
    found: dict[str, str] = {}
    for name, value in copied_headers(extra, patterns).items() if extra and patterns else ():
        text = "".join(char for char in value if char.isprintable()).strip()[:ID_LIMIT]
        if text and len(found) < IDS_LIMIT:
            found[name] = text
    return found

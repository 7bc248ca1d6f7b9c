"""Which headers of an inbound call are copied into the room. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase


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

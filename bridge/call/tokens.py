"""Whether a token to join a room with, as it was given out, still counts."""

from __future__ import annotations

from typing import Final

import jwt

SPARE: Final = 60.0
"""Seconds a token must count still to be given out again."""


def is_over(token: str, now: float) -> bool:
    """Whether *token* counts no longer at *now* (wall seconds), or hardly; its ``exp`` says.

    What has no ``exp``, or is no JWT at all, is not judged: False.
    """
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return False
    until = claims.get("exp")
    return isinstance(until, int | float) and until - SPARE <= now

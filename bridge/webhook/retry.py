"""What follows from an attempt: delivered, once more later, or dead. And the signature.

Pure: the time and the chance are given.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

LIFETIME: Final = 24 * 3600.0
"""Seconds for which a delivery is tried, from when it was made or replayed."""

FIRST_DELAY: Final = 1.0
LONGEST_DELAY: Final = 3600.0
AT_LEAST: Final = 5
"""Attempts of a delivery that was late already when its turn came."""

_DELIVERED: Final = range(200, 300)
_GONE: Final = 410
_SAY_WHEN: Final = (429, 503)
_DOUBLINGS: Final = 12  # 2**12 seconds are above LONGEST_DELAY


class State(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one attempt: a status, or without one an error in a word of ours.

    ``retry_after`` are the seconds that the receiver asked for. ``hopeless``: no attempt of
    this delivery can do better, as its URL is one that may not be asked.
    """

    status: int | None = None
    error: str = ""
    retry_after: float | None = None
    hopeless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a delivery. ``next_at`` counts while it waits; the rest is what was heard."""

    state: State
    next_at: float = 0.0
    status: int | None = None
    error: str = ""


def judge(
    answer: Answer, *, attempts: int, give_up_at: float, now: float, chance: float
) -> Verdict:
    """Return what follows from *answer*, that of attempt number *attempts* (1 is the first).

    A delay is chosen between 0 and a bound that doubles from 1 s to 1 h (full jitter; *chance*
    is from 0 to 1), and is never shorter than the ``Retry-After`` of a 429 or 503, of which at
    most 1 h counts. 410 Gone ends it at once: nobody is there any more.
    """
    status = answer.status
    if status is not None and status in _DELIVERED:
        return Verdict(state=State.DELIVERED, status=status)
    if status == _GONE or answer.hopeless:
        return Verdict(state=State.DEAD, status=status, error=answer.error)
    bound = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(attempts - 1, _DOUBLINGS))
    delay = max(bound * chance, asked_delay(answer))
    if now + delay > give_up_at and attempts >= AT_LEAST:
        return Verdict(state=State.DEAD, status=status, error=answer.error)
    return Verdict(state=State.WAITING, next_at=now + delay, status=status, error=answer.error)


def asked_delay(answer: Answer) -> float:
    """Return for how many seconds the receiver wants to be left alone."""
    if answer.status not in _SAY_WHEN or answer.retry_after is None:
        return 0.0
    return min(max(answer.retry_after, 0.0), LONGEST_DELAY)


def retry_after(header: str | None, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for; None without a valid one.

    RFC 9110 10.2.3: either a number of seconds or an HTTP-date.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return (date - datetime.fromtimestamp(now, UTC)).total_seconds()


def signature(secret: str, body: bytes) -> str:
    """Return the signature of the raw *body*: ``sha256=`` and the HMAC-SHA256 in hex."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def signed_headers(
    *, prefix: str, secret: str, user_agent: str, delivery: str, event: str, body: bytes
) -> dict[str, str]:
    """Return the headers of a POST of *body*."""
    return {
        "Content-Type": "application/json",
        "User-Agent": user_agent,
        f"{prefix}Event": event,
        f"{prefix}Delivery": delivery,
        f"{prefix}Signature": signature(secret, body),
    }

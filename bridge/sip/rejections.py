"""Refusals that are said again: a caller that repeats a refused INVITE gets the same answer.

A storm of retries with new branches costs one look-up each, and makes one record. Nothing
of it is in a snapshot: after a restart a retry is decided on again.
"""

from __future__ import annotations

from collections import OrderedDict

from bridge.sip.screening import Refusal

InviteKey = tuple[str, str, int]
"""Call-ID, From tag, CSeq number."""

LIFETIME = 32.0  # seconds: 64*T1, as long as a copy may come (RFC 3261 17.2.1)
MOST = 4096


class Rejections:
    """The last refusals, at most *most*, each for `LIFETIME` seconds."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int = MOST) -> None:
        self._known: OrderedDict[InviteKey, tuple[float, Refusal]] = OrderedDict()
        self._most = most

    def note(self, key: InviteKey, refusal: Refusal, now: float) -> None:
        """Remember how the INVITE with *key* was refused; forget what is over."""
        while self._known and next(iter(self._known.values()))[0] <= now:
            self._known.popitem(last=False)
        self._known[key] = (now + LIFETIME, refusal)
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def find(self, key: InviteKey, now: float) -> Refusal | None:
        """Return how the INVITE with *key* was refused a short while ago."""
        known = self._known.get(key)
        return known[1] if known is not None and now < known[0] else None

    def __len__(self) -> int:
        return len(self._known)

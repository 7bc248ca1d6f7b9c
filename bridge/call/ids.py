"""Ids of calls: random UUIDs, their randomness drawn for many at once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Final

_SIZE: Final = 16
_AT_ONCE: Final = 256


class CallIds:
    """Gives a new id each time. A flood of calls asks the kernel once for 256 of them."""

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._drawn = b""
        self._at = 0

    def __call__(self) -> str:
        """Return a UUID of version 4."""
        if self._at >= len(self._drawn):
            self._drawn, self._at = self._random(_SIZE * _AT_ONCE), 0
        raw = self._drawn[self._at : self._at + _SIZE]
        self._at += _SIZE
        return str(uuid.UUID(bytes=raw, version=4))

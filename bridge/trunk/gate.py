"""The gate: whether a new call of a known source is looked at, before it costs anything. Pure.

First the load of the process, then the rate of the source, then that of its trunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from bridge.trunk.admission import Gcra
from bridge.trunk.overload import RETRY_AFTER

SOURCE_RATE: Final = 100.0  # new calls a second of one address
SOURCE_BURST: Final = 200
TRUNK_RATE: Final = 200.0  # new calls a second of all addresses of one trunk
TRUNK_BURST: Final = 400
REQUEST_RATE: Final = 50.0  # other requests without a dialog, of one address
REQUEST_BURST: Final = 200


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A new call that is refused with 503, and when to come again (seconds)."""

    reason: str
    retry_after: int


class Gate:
    """Decides on new calls and on other requests without a dialog, by source and by trunk.

    *overloaded* tells whether the process is behind with its work.
    """

    def __init__(
        self,
        *,
        sources: Gcra | None = None,
        trunks: Gcra | None = None,
        requests: Gcra | None = None,
        overloaded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._sources = sources or Gcra(rate=SOURCE_RATE, burst=SOURCE_BURST)
        self._trunks = trunks or Gcra(rate=TRUNK_RATE, burst=TRUNK_BURST)
        self._requests = requests or Gcra(rate=REQUEST_RATE, burst=REQUEST_BURST)
        self._overloaded = overloaded

    @property
    def overloaded(self) -> bool:
        """Whether new calls are refused because of the load."""
        return self._overloaded()

    def refusal(self, source: str, trunks: Collection[str], now: float) -> TurnedAway | None:
        """Count a new call from *source*, which *trunks* allow; return why it is refused.

        What is refused is not counted, so a storm does not keep itself out.
        """
        if self._overloaded():
            return TurnedAway("overload", RETRY_AFTER)
        if not self._sources.allow(source, now):
            return TurnedAway("source_rate", _seconds(self._sources.wait(source, now)))
        waits: list[float] = []
        for trunk in sorted(trunks):
            # Which of several it is shows only in its number: the first with room counts it.
            if self._trunks.allow(trunk, now):
                return None
            waits.append(self._trunks.wait(trunk, now))
        return TurnedAway("trunk_rate", _seconds(min(waits))) if waits else None

    def may_ask(self, source: str, now: float) -> bool:
        """Count a request without a dialog that is no INVITE; whether it is answered at all."""
        return self._requests.allow(source, now)


def _seconds(wait: float) -> int:
    return max(1, math.ceil(wait))

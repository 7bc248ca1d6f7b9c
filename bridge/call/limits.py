"""How many calls run, and whether one more may begin: of a trunk, and of this instance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from bridge.call.requests import OverLimit
from bridge.config.config import Config
from bridge.config.trunk import TrunkConfig
from bridge.trunk.admission import Gcra, call_rate, has_room


class Limits:
    """Counts calls from the moment they are accepted. *clock* is monotonic, in seconds."""

    def __init__(self, config: Config, clock: Callable[[], float]) -> None:
        self._max_calls = config.sip.max_calls
        self._clock = clock
        self._running: Counter[str] = Counter()  # by trunk
        self._accepting: dict[str, str] = {}  # call -> trunk: accepted, not yet running
        self._rates: dict[tuple[str, float], Gcra] = {}

    def reload(self, config: Config) -> None:
        """Take new trunks; a rate that stays has counted what it has counted."""
        self._max_calls = config.sip.max_calls
        current = {(trunk.name, trunk.calls_per_second) for trunk in config.trunk}
        self._rates = {key: rate for key, rate in self._rates.items() if key in current}

    def accepting(self, call_id: str, trunk: str) -> None:
        """Count a call that is about to run."""
        self._accepting[call_id] = trunk

    def accepted(self, call_id: str) -> None:
        """It runs now, or never will."""
        self._accepting.pop(call_id, None)

    def began(self, trunk: str) -> None:
        """Count a call that runs."""
        self._running[trunk] += 1

    def ended(self, trunk: str) -> None:
        """A call that ran is over."""
        self._running[trunk] -= 1
        self._running += Counter()  # forgets zeros

    @property
    def idle(self) -> bool:
        """Whether nothing runs or is about to."""
        return not self._running and not self._accepting

    @property
    def instance_full(self) -> bool:
        """Whether ``sip.max_calls`` is reached."""
        taken = self._running.total() + len(self._accepting)
        return not has_room(taken, self._max_calls)

    def trunk_full(self, trunk: TrunkConfig) -> bool:
        """Whether the trunk's ``max_calls`` is reached."""
        begun = sum(1 for name in self._accepting.values() if name == trunk.name)
        return not has_room(self._running[trunk.name] + begun, trunk.max_calls)

    def check(self, trunk: TrunkConfig) -> None:
        """Count one call that is dialled now. Raises `OverLimit`; then it is not counted."""
        if self.trunk_full(trunk):
            raise OverLimit(f"max_calls of trunk {trunk.name!r} is reached", retry_after=10)
        rate = self._rate_of(trunk)
        now = self._clock()
        if not rate.allow(trunk.name, now):
            raise OverLimit(
                f"calls_per_second of trunk {trunk.name!r} is reached",
                retry_after=max(1, math.ceil(rate.wait(trunk.name, now))),
            )

    def wait(self, trunk: TrunkConfig) -> float:
        """Return the seconds until the trunk's rate lets a call begin; 0: now."""
        return self._rate_of(trunk).wait(trunk.name, self._clock())

    def _rate_of(self, trunk: TrunkConfig) -> Gcra:
        wanted = trunk.name, trunk.calls_per_second
        if wanted not in self._rates:
            self._rates[wanted] = call_rate(trunk.calls_per_second)
        return self._rates[wanted]

"""What a plan allows: sessions at once, sessions per minute, and from which credit on.

Seed 004, Limits; ``[[plan]]`` of the configuration, and the seed's plans where it says nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from bridge.call.requests import NotAllowed, OverLimit
from bridge.config import PLANS, PlanConfig
from bridge.sessions.requests import NEEDED, Asker, NoCredit

STRICTEST: Final = next(plan for plan in PLANS if plan.name == "free")
"""What a plan that nobody has described may do: a JWT names what it likes."""

BUSY: Final = 10
"""Seconds after which to ask again when all sessions of a plan are in use."""


class Limits:
    """Checks who may create a session now. Counts are this instance's."""

    def __init__(
        self, plans: Iterable[PlanConfig], *, wall: Callable[[], float] = time.time
    ) -> None:
        self._plans: dict[str, PlanConfig] = {}
        self._wall = wall
        self._rates = MovingWindowRateLimiter(MemoryStorage())
        self.reload(plans)

    def reload(self, plans: Iterable[PlanConfig]) -> None:
        """Take other plans; what was counted still counts."""
        self._plans = {plan.name: plan for plan in (*PLANS, *plans)}

    def check_rights(self, asker: Asker) -> None:
        """Raise `NotAllowed` or `NoCredit` when *asker* may create no voice session."""
        missing = sorted(NEEDED - asker.permissions)
        if missing:
            raise NotAllowed(f"the key lacks the permission {', '.join(missing)}")
        plan = self._plan(asker)
        if asker.credit < plan.min_credit:
            raise NoCredit(f"the credit is below the plan's minimum of {plan.min_credit:g}")

    def check_room(self, asker: Asker, running: int) -> None:
        """Raise `OverLimit` when *running* sessions are all that *asker*'s plan allows."""
        allowed = self._plan(asker).sessions
        if allowed and running >= allowed:
            raise OverLimit(f"the plan allows {allowed} sessions at once", retry_after=BUSY)

    def count(self, asker: Asker) -> None:
        """Count one more session of *asker*; raise `OverLimit` when they are too many a minute."""
        allowed = self._plan(asker).creates_per_minute
        if not allowed:
            return
        item = RateLimitItemPerMinute(allowed)
        who = asker.tenant or asker.name
        if not self._rates.hit(item, "sessions", who):
            reset = self._rates.get_window_stats(item, "sessions", who).reset_time
            wait = max(1, math.ceil(reset - self._wall()))
            raise OverLimit(f"the plan allows {allowed} new sessions a minute", retry_after=wait)

    def _plan(self, asker: Asker) -> PlanConfig:
        return self._plans.get(asker.plan, STRICTEST)

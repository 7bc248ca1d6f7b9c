"""What a plan allows: calls at once, new ones per minute, and from which credit on.

Seed 004, Limits; ``[[plan]]`` of the configuration, and the seed's plans where it says nothing.
A call is the session (contract 6): one plan counts phone calls, web calls and voice sessions
of a tenant together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from bridge.call.requests import NotAllowed, OverLimit
from bridge.config.config import Config
from bridge.config.sections import PLANS, PlanConfig
from bridge.sessions.requests import NEEDED, NO_PLAN, Asker, Kind, NoCredit

STRICTEST: Final = PLANS[0]
"""What a plan that nobody has described may do: a JWT names what it likes."""

UNLIMITED: Final = PlanConfig(name="none", sessions=0, creates_per_minute=0)

DEFAULT: Final = PLANS[-1]
"""``enterprise``, which a key has that names no plan, unless the file describes it."""

BUSY: Final = 10
"""Seconds after which to ask again when all calls of a plan are in use."""

Running = Callable[[str], int]
"""How many calls and sessions run that count for a tenant, or for a key without one."""


class Limits:
    """Checks who may make a call or a session now. Counts are this instance's.

    *running* is asked for plans alone that limit it.
    """

    def __init__(
        self, config: Config, running: Running, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._running = running
        self._wall = wall
        self._rates = MovingWindowRateLimiter(MemoryStorage())

    def reload(self, config: Config) -> None:
        """Take other plans; what was counted still counts."""
        self._config = config

    def check_rights(self, asker: Asker) -> None:
        """Raise `NotAllowed` or `NoCredit` when *asker* may create no voice session."""
        missing = sorted(NEEDED - asker.permissions)
        if missing:
            raise NotAllowed(f"the key lacks the permission {', '.join(missing)}")
        plan = self._plan(asker)
        if asker.credit < plan.min_credit:
            raise NoCredit(f"the credit is below the plan's minimum of {plan.min_credit:g}")

    def admit(self, asker: Asker, kind: Kind) -> None:
        """Count one more call of *asker*. Raises `OverLimit` when the plan allows no more."""
        plan = self._plan(asker)
        who = asker.counts_for
        if plan.sessions and self._running(who) >= plan.sessions:
            raise OverLimit(f"the plan allows {plan.sessions} sessions at once", retry_after=BUSY)
        # Seed 004 limits the creation of voice sessions, for every plan; that nobody has
        # described another one is no reason to limit how many phones a trunk may ring.
        if plan is not DEFAULT or kind is Kind.VOICE_SESSION:
            self._count(who, plan.creates_per_minute)

    def _count(self, who: str, allowed: int) -> None:
        if not allowed:
            return
        item = RateLimitItemPerMinute(allowed)
        if not self._rates.hit(item, "sessions", who):
            reset = self._rates.get_window_stats(item, "sessions", who).reset_time
            wait = max(1, math.ceil(reset - self._wall()))
            raise OverLimit(f"the plan allows {allowed} new sessions a minute", retry_after=wait)

    def _plan(self, asker: Asker) -> PlanConfig:
        if asker.plan == NO_PLAN:
            return UNLIMITED
        return self._config.plan_named(asker.plan) or STRICTEST

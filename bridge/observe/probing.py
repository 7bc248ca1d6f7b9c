"""Asks every trunk with ``options_interval`` whether it is there, again and again.

So does ``keepalive = "options"``: for carriers whose idle timers count SIP messages alone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from bridge.config.trunk import TrunkConfig

_log = structlog.get_logger(__name__)

JITTER: Final = 0.1
"""Part of the interval by which a probe may come early or late, so that many never meet."""


KEEPALIVE_INTERVAL: Final = 30.0
"""Seconds between OPTIONS of ``keepalive = "options"`` without an ``options_interval``."""


def probe_interval(trunk: TrunkConfig) -> float:
    """Return the seconds between two probes; 0: it is not probed."""
    if trunk.options_interval > 0 or trunk.keepalive != "options":
        return trunk.options_interval
    return KEEPALIVE_INTERVAL


class Probing:
    """One task for each trunk that wants to be probed. *ask* sends one probe."""

    def __init__(
        self, ask: Callable[[TrunkConfig], None], *, chance: random.Random | None = None
    ) -> None:
        self._ask = ask
        self._chance = chance or random.SystemRandom()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, trunks: Iterable[TrunkConfig]) -> None:
        """Probe these trunks from now on, and no others; the first probe comes at once."""
        self.stop()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._run(trunk)) for trunk in trunks if probe_interval(trunk) > 0
        ]

    def stop(self) -> None:
        """Ask nobody any more."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _run(self, trunk: TrunkConfig) -> None:
        interval = probe_interval(trunk)
        await asyncio.sleep(self._chance.uniform(0, min(1.0, interval)))
        while True:
            try:
                self._ask(trunk)
            except Exception:  # a trunk that cannot be asked about costs no other
                _log.exception("trunk.probe_failed", trunk=trunk.name)
            spread = self._chance.uniform(1 - JITTER, 1 + JITTER)
            await asyncio.sleep(interval * spread)

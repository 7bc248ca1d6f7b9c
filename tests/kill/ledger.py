"""What the outside world was told while the daemon died again and again.

Everything in here is a promise of the daemon's that its death does not take back. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENOUGH = 50  # faults that are told


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One webhook as it came: whether it was taken (2xx), or refused on purpose."""

    id: str
    event: str
    body: Mapping[str, Any]
    taken: bool

    @property
    def call_id(self) -> str:
        """The call it tells of."""
        return str(self.body.get("call_id", ""))

    @property
    def seq(self) -> int:
        """Which of the call's events it tells."""
        return int(self.body.get("seq", 0))


@dataclass(slots=True)
class Ledger:
    """What clients, the carrier, agents, readers of streams and webhook receivers have seen."""

    asked: dict[str, str] = field(default_factory=dict)
    """Idempotency-Key -> the number it dials; no two keys dial the same."""
    accepted: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Idempotency-Key -> the call of each 201 it got."""
    answered: list[str] = field(default_factory=list)
    """Callers' numbers whose INVITE got a 200."""
    rung: Counter[str] = field(default_factory=Counter)
    """Number -> calls (SIP Call-IDs) that the carrier got for it."""
    told: dict[str, list[Mapping[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Who -> events as they were told, in a room or by a stream."""
    deliveries: list[Delivery] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    """Seconds from each start of the daemon until it was ready."""
    faults: list[str] = field(default_factory=list)
    """What was wrong at once."""
    done: Counter[str] = field(default_factory=Counter)
    """What happened how often, to be shown."""

    def fault(self, text: str) -> None:
        """Note what must not be."""
        self.done["fault"] += 1
        if len(self.faults) < ENOUGH:
            self.faults.append(text)

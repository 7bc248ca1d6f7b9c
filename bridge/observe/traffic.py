"""The RTP counters of all calls as totals that never go down.

A call's own counters begin at 0 with it and end with it; its loss may even shrink, when
a packet that was given up arrives late. So only what they have grown by is added.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.media.seam import MediaStats
from bridge.observe.reading import TrunkWay

KINDS = ("lost", "received", "sent", "refused", "late", "shed")
_FIELDS = tuple(f"packets_{kind}" for kind in KINDS)


@dataclass(slots=True)
class Seen:
    """What was already added of one call, by `KINDS`."""

    counts: list[int] = field(default_factory=lambda: [0] * len(KINDS))


class Traffic:
    """Totals by trunk and direction; trunks that are gone keep theirs."""

    def __init__(self) -> None:
        self._totals: dict[TrunkWay, list[int]] = {}

    def open(self, where: TrunkWay) -> None:
        """Show zeros for *where* from now on."""
        self._totals.setdefault(where, [0] * len(KINDS))

    def add(self, where: TrunkWay, seen: Seen, stats: MediaStats) -> None:
        """Add what a call's counters have grown by since *seen*, which is moved on."""
        self.open(where)
        totals, counts = self._totals[where], seen.counts
        for index, name in enumerate(_FIELDS):
            value: int = getattr(stats, name)
            if value > counts[index]:
                totals[index] += value - counts[index]
                counts[index] = value

    def lost(self) -> dict[tuple[str, ...], float]:
        """Return the packets lost, by trunk and direction."""
        return {where: totals[0] for where, totals in self._totals.items()}

    def packets(self) -> dict[tuple[str, ...], float]:
        """Return all other counts, by trunk, direction and kind."""
        return {
            (*where, kind): totals[index]
            for where, totals in self._totals.items()
            for index, kind in enumerate(KINDS)
            if kind != "lost"
        }

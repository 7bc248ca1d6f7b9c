"""Who waits, and whose turn it is: by trunk in turn, then by age. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.call.plan import CallPlan


@dataclass(slots=True, kw_only=True)
class Waiter:
    """One call accepted here.

    ``kept``: its record is in the journal. ``placed``: its row is known to be in the shared table.
    """

    plan: CallPlan
    kept: bool = False
    placed: bool = False

    @property
    def call_id(self) -> str:
        """The call's id."""
        return self.plan.call_id


class Line:
    """The calls accepted here that wait, and how many there are in all, by trunk.

    The shared table has the truth, `seen` tells it; what has been added here since counts too.
    """

    def __init__(self) -> None:
        self._own: dict[str, Waiter] = {}
        self._own_by_trunk: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._turns: list[str] = []  # trunks; the one served last is the last

    def add(self, waiter: Waiter) -> None:
        """Take a call in."""
        if waiter.call_id in self._own:
            return
        self._own[waiter.call_id] = waiter
        self._own_by_trunk[waiter.plan.trunk] += 1
        self._note(waiter.plan.trunk)

    def remove(self, call_id: str) -> Waiter | None:
        """Let a call go; None when it does not wait here."""
        waiter = self._own.pop(call_id, None)
        if waiter is not None:
            self._own_by_trunk[waiter.plan.trunk] -= 1
        return waiter

    def get(self, call_id: str) -> Waiter | None:
        """Return a call that waits here, or None."""
        return self._own.get(call_id)

    @property
    def own(self) -> Sequence[Waiter]:
        """The calls accepted here, oldest first."""
        return sorted(self._own.values(), key=lambda waiter: waiter.plan.created_at)

    def seen(self, counts: Mapping[str, int]) -> None:
        """Take how many calls of each trunk the table has, of all instances."""
        self._seen = Counter(counts)
        for trunk in counts:
            self._note(trunk)

    def served(self, trunk: str) -> None:
        """A call of *trunk* has left the table: it is the others' turn."""
        self._seen[trunk] = max(0, self._seen[trunk] - 1)
        if trunk in self._turns:
            self._turns.remove(trunk)
            self._turns.append(trunk)

    def empty(self, trunk: str) -> None:
        """The table has nobody for *trunk* who is free to go."""
        self._seen[trunk] = 0

    def waiting(self, trunk: str) -> int:
        """Return how many calls wait for *trunk*, as far as is known."""
        return max(self._own_by_trunk[trunk], self._seen[trunk])

    @property
    def size(self) -> int:
        """How many calls wait, as far as is known."""
        return sum(self.waiting(trunk) for trunk in self._turns)

    def turns(self) -> Sequence[str]:
        """Return the trunks that calls wait for, the next one first."""
        self._turns = [trunk for trunk in self._turns if self.waiting(trunk)]
        return tuple(self._turns)

    def overdue(self, created_before: float) -> Sequence[Waiter]:
        """Return the calls accepted here before *created_before* (wall seconds)."""
        return [one for one in self._own.values() if one.plan.created_at < created_before]

    def _note(self, trunk: str) -> None:
        if trunk not in self._turns:
            self._turns.append(trunk)

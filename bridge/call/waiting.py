"""Where calls wait that a trunk has no room for yet, as the call service needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bridge.call.idempotency import Claim
from bridge.call.plan import CallPlan
from bridge.call.requests import OverLimit


class Waiting(Protocol):
    """The calls that wait. All of it is on the main loop; nothing blocks it."""

    def ahead(self, trunk: str) -> bool:
        """Whether calls wait for *trunk* already: then a new one has to wait behind them."""

    async def admit(self, plan: CallPlan, over: OverLimit | None, claim: Claim | None) -> None:
        """Accept *plan*, which cannot be dialled yet because of *over* (None: others are ahead).

        It has its record, with *claim*, and its place when this returns. Raises `OverLimit`
        when too many wait, `Unavailable` when it could have no place; then it was not accepted.
        """

    def freed(self, trunk: str) -> None:
        """A call of *trunk* is over, or all there is to know has changed: there may be room."""

    async def give_up(self, call_id: str) -> bool:
        """End a call that waits; False when none of that id does. Raises `Unavailable`."""

    def plans(self) -> Sequence[CallPlan]:
        """Return the calls accepted here that wait, oldest first."""


class NoQueue:
    """Nobody waits: what cannot be dialled at once is refused."""

    def ahead(self, trunk: str) -> bool:
        """Nobody is."""
        del trunk
        return False

    async def admit(self, plan: CallPlan, over: OverLimit | None, claim: Claim | None) -> None:
        """Refuse it."""
        del plan, claim
        assert over is not None
        raise over

    def freed(self, trunk: str) -> None:
        """Nobody waits for it."""

    async def give_up(self, call_id: str) -> bool:
        """There is none."""
        del call_id
        return False

    def plans(self) -> Sequence[CallPlan]:
        """There are none."""
        return ()

"""The rows of waiting calls in the store: what instances on one database share.

``waiting``: nobody has it. ``claimed``: ``owner`` is about to dial it, until ``claimed_until``.
``dialled``: it is ``owner``'s for good, an INVITE may have left; nobody else ever dials it.
``ending``: ``owner`` ends it, because the instance that had taken it is gone.
``done``: its owner's record says so. Such a row stays for a while without its body, so that
whoever accepted the call can learn whose it is.

Every method blocks and raises `StoreError` when the database is away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from bridge.call.plan import CallPlan
from bridge.call.saved import dump_plan, load_plan
from bridge.errors import BridgeError
from bridge.store.store import Store
from bridge.store.tables import calls as _calls
from bridge.store.tables import queue as _rows

T = TypeVar("T")

WAITING: Final = "waiting"
CLAIMED: Final = "claimed"
DIALLED: Final = "dialled"
ENDING: Final = "ending"
DONE: Final = "done"
TAKEN: Final = (DIALLED, ENDING, DONE)

_MANY: Final = 400  # ids in one question


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row. ``plan`` None: the call runs or is over, or what is written cannot be read."""

    call_id: str
    state: str
    owner: str | None
    plan: CallPlan | None
    dialled_at: float | None

    @property
    def taken(self) -> bool:
        """Whether it is its owner's for good."""
        return self.state in TAKEN


class QueueTable:
    """The table, for the instance *me*. ``shared``: other instances may have it, too."""

    def __init__(self, store: Store, me: str) -> None:
        self._store = store
        self._me = me
        self.shared = not store.database.is_sqlite

    async def ask(self, question: Callable[..., T], *given: Any, **named: Any) -> T:
        """Ask the table, or whatever else blocks, in a thread of the store's."""
        return await self._store.ask(question, *given, **named)

    def put(self, plan: CallPlan, *, until: float) -> None:
        """Give a call its place. Again: nothing more, whatever has become of it meanwhile."""
        insert = postgresql.insert if self.shared else sqlite.insert
        values = {
            "call_id": plan.call_id,
            "trunk": plan.trunk,
            "tenant_id": plan.tenant,
            "state": WAITING,
            "enqueued_at": plan.created_at,
            "expires_at": until,
            "body": json.dumps(dump_plan(plan)),
        }
        with self._store.writing() as connection:
            connection.execute(insert(_rows).values(values).on_conflict_do_nothing())

    def claim(self, trunk: str, *, now: float, until: float) -> Row | None:
        """Claim the oldest call that waits for *trunk* until *until*; None: there is none."""
        oldest = (
            sa.select(_rows.c.call_id)
            .where(_rows.c.trunk == trunk, _free(now))
            .order_by(_rows.c.enqueued_at, _rows.c.call_id)
            .limit(1)
        )
        if self.shared:
            # A row another instance is taking at this moment is passed over, not waited for.
            oldest = oldest.with_for_update(skip_locked=True)
        with self._store.writing() as connection:
            taken = connection.execute(
                sa.update(_rows)
                .where(_rows.c.call_id == oldest.scalar_subquery())
                .values(state=CLAIMED, owner=self._me, claimed_until=until)
                .returning(*_rows.c)
            ).first()
        return None if taken is None else _row(taken)

    def dialled(self, call_id: str, *, now: float) -> bool:
        """Make a claimed call ours for good; False when the claim is another's by now."""
        return self._take(
            call_id, now, sa.and_(_rows.c.state == CLAIMED, _rows.c.owner == self._me)
        )

    def take(self, call_id: str, *, now: float) -> Row | None:
        """Make a call that waits ours for good, to end it; None when it does not wait.

        Again for one that is ours and has not begun: nobody knows what an answer that was
        lost has said.
        """
        free = sa.or_(_free(now), sa.and_(_rows.c.state == DIALLED, _rows.c.owner == self._me))
        return self.row(call_id) if self._take(call_id, now, free) else None

    def _take(self, call_id: str, now: float, when: sa.ColumnElement[bool]) -> bool:
        with self._store.writing() as connection:
            changed = connection.execute(
                sa.update(_rows)
                .where(_rows.c.call_id == call_id, when)
                .values(state=DIALLED, owner=self._me, dialled_at=now)
            ).rowcount
            if changed and self.shared:  # whoever asks whose call it is finds us
                connection.execute(
                    sa.update(_calls).where(_calls.c.id == call_id).values(instance=self._me)
                )
        return bool(changed)

    def release(self, call_id: str) -> None:
        """Give back what was claimed, or taken and certainly not dialled."""
        with self._store.writing() as connection:
            connection.execute(
                sa.update(_rows)
                .where(
                    _rows.c.call_id == call_id,
                    _rows.c.owner == self._me,
                    _rows.c.state.in_((CLAIMED, DIALLED)),
                )
                .values(state=WAITING, owner=None, claimed_until=None, dialled_at=None)
            )

    def release_all(self) -> None:
        """Give back what an earlier life of this instance had claimed and not dialled."""
        with self._store.writing() as connection:
            connection.execute(
                sa.update(_rows)
                .where(_rows.c.owner == self._me, _rows.c.state == CLAIMED)
                .values(state=WAITING, owner=None, claimed_until=None, dialled_at=None)
            )

    def settled(self, call_id: str) -> None:
        """Forget what was asked for: the call runs, or is over, and its record says all."""
        with self._store.writing() as connection:
            connection.execute(
                sa.update(_rows)
                .where(_rows.c.call_id == call_id, _rows.c.state == DIALLED)
                .values(state=DONE, body="")
            )

    def prune(self, *, before: float) -> None:
        """Remove the rows of calls that were taken before *before*."""
        with self._store.writing() as connection:
            connection.execute(
                sa.delete(_rows).where(_rows.c.state == DONE, _rows.c.dialled_at < before)
            )

    # Reading.

    def counts(self) -> dict[str, int]:
        """Return how many calls wait, by trunk."""
        query = (
            sa.select(_rows.c.trunk, sa.func.count())
            .where(_rows.c.state.in_((WAITING, CLAIMED)))
            .group_by(_rows.c.trunk)
        )
        with self._store.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def row(self, call_id: str) -> Row | None:
        """Return a call's row, or None."""
        found = self.rows((call_id,))
        return found.get(call_id)

    def rows(self, call_ids: Collection[str]) -> dict[str, Row]:
        """Return the rows of *call_ids*, as far as there are any."""
        found: dict[str, Row] = {}
        wanted = list(call_ids)
        with self._store.reading() as connection:
            for start in range(0, len(wanted), _MANY):
                some = wanted[start : start + _MANY]
                query = sa.select(*_rows.c).where(_rows.c.call_id.in_(some))
                found.update((row.call_id, _row(row)) for row in connection.execute(query))
        return found

    def unsettled(self) -> Sequence[Row]:
        """Return the calls that are ours for good and whose record may not say so yet."""
        query = sa.select(*_rows.c).where(_rows.c.owner == self._me, _rows.c.state == DIALLED)
        with self._store.reading() as connection:
            return [_row(row) for row in connection.execute(query)]

    def overdue(self, *, before: float, limit: int = 50) -> Sequence[str]:
        """Return calls that should not have waited after *before*, whoever accepted them."""
        query = (
            sa.select(_rows.c.call_id)
            .where(_rows.c.state == WAITING, _rows.c.expires_at < before)
            .limit(limit)
        )
        with self._store.reading() as connection:
            return list(connection.execute(query).scalars())

    def owner_of(self, call_id: str) -> tuple[str, bool] | None:
        """Return whose a call is and whether it has ended, as the store knows; None: unknown."""
        query = sa.select(_calls.c.instance, _calls.c.ended_at).where(_calls.c.id == call_id)
        with self._store.reading() as connection:
            found = connection.execute(query).first()
        return None if found is None else (str(found.instance), found.ended_at is not None)


def _free(now: float) -> sa.ColumnElement[bool]:
    """Whether nobody has a row; a claim whose lease is over is nobody's."""
    lapsed = sa.and_(_rows.c.state == CLAIMED, _rows.c.claimed_until < now)
    return sa.or_(_rows.c.state == WAITING, lapsed)


def _row(found: Any) -> Row:
    return Row(
        call_id=found.call_id,
        state=found.state,
        owner=found.owner,
        plan=_plan(found.body),
        dialled_at=found.dialled_at,
    )


def _plan(body: str) -> CallPlan | None:
    try:
        return load_plan(json.loads(body))
    except (KeyError, TypeError, ValueError, BridgeError):
        return None

"""The outbox in the store: what waits to be sent, and who sends it.

The projection fills it (`bridge.store.writing`). Every method blocks: call it in a thread. It
raises `StoreError` when the database is away. Several instances share one outbox: a row is
claimed with an owner and a lease, and sent by whoever claimed it. Those of one call to one URL
are claimed one at a time, in order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from bridge.store.store import Store
from bridge.store.tables import outbox
from bridge.webhook.retry import LIFETIME, State, Verdict

LEASE: Final = 60.0
"""Seconds for which a claimed row is its owner's: several times what an attempt may take."""

KEPT: Final = 7 * 24 * 3600.0
"""Seconds for which a delivered row can be replayed; its body is dropped then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A row whose turn it is."""

    id: str
    receiver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A row to send now. ``attempts`` were made before."""

    id: str
    seq: int
    call_id: str
    event: str
    url: str
    receiver: str
    body: str
    attempts: int
    give_up_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What the outbox holds. ``oldest`` is the age in seconds of what has waited longest."""

    waiting: int = 0
    dead: int = 0
    oldest: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A delivery as found."""

    id: str
    call_id: str
    tenant_id: str | None
    state: State


# In words, no parameters: an index of some rows serves only who is seen to ask for those.
_WAITING: Final = sa.literal_column("'waiting'", sa.String)
_DEAD: Final = sa.literal_column("'dead'", sa.String)
_NOBODYS: Final = {"claimed_by": None, "claimed_until": None}
_ANY_DUE: Final = (
    sa.select(outbox.c.id)
    .where(outbox.c.state == _WAITING, outbox.c.next_at <= sa.bindparam("now"))
    .limit(1)
)
_CLAIMED: Final = tuple(
    outbox.c[name]
    for name in (
        "id",
        "seq",
        "call_id",
        "event",
        "url",
        "receiver",
        "body",
        "attempts",
        "give_up_at",
    )
)


class Outbox:
    """The outbox as the instance of *store* sees it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owner = store.instance

    def release(self) -> None:
        """Give back what this instance claimed before it crashed, or does not send any more."""
        statement = (
            sa.update(outbox)
            .where(outbox.c.state == _WAITING, outbox.c.claimed_by == self._owner)
            .values(_NOBODYS)
        )
        with self._store.writing() as connection:
            connection.execute(statement)

    def due(
        self,
        now: float,
        *,
        limit: int,
        per_receiver: int,
        without: Collection[str] = (),
        only: Collection[str] | None = None,
    ) -> list[Due]:
        """Return at most *limit* rows whose turn it is, those that wait longest first.

        At most *per_receiver* of a receiver; none of the receivers *without*, and where *only*
        is given, of no others than those.
        """
        before = outbox.alias("before")
        first = ~sa.exists().where(
            before.c.call_id == outbox.c.call_id,
            before.c.url == outbox.c.url,
            before.c.state == _WAITING,
            before.c.seq < outbox.c.seq,
        )
        order = (outbox.c.next_at, outbox.c.seq)
        ranked = sa.select(
            outbox.c.id,
            outbox.c.receiver,
            outbox.c.next_at,
            outbox.c.seq,
            sa.func.row_number().over(partition_by=outbox.c.receiver, order_by=order).label("rank"),
        ).where(*self._free(now), first)
        if without:
            ranked = ranked.where(outbox.c.receiver.not_in(without))
        if only is not None:
            ranked = ranked.where(outbox.c.receiver.in_(only))
        found = ranked.subquery()
        query = (
            sa.select(found.c.id, found.c.receiver)
            .where(found.c.rank <= per_receiver)
            .order_by(found.c.next_at, found.c.seq)
            .limit(limit)
        )
        with self._store.reading() as connection:
            if connection.execute(_ANY_DUE, {"now": now}).first() is None:
                return []  # as nearly always; the question above costs ten times as much
            return [Due(id=row.id, receiver=row.receiver) for row in connection.execute(query)]

    def claim(self, ids: Sequence[str], now: float) -> list[Claimed]:
        """Make those of *ids* ours for `LEASE` seconds that nobody else has, and return them."""
        if not ids:
            return []
        free = sa.select(outbox.c.id).where(outbox.c.id.in_(ids), *self._free(now))
        if not self._store.database.is_sqlite:
            free = free.with_for_update(skip_locked=True)
        statement = (
            sa.update(outbox)
            .where(outbox.c.id.in_(free))
            .values(claimed_by=self._owner, claimed_until=now + LEASE)
            .returning(*_CLAIMED)
        )
        with self._store.writing() as connection:
            return [Claimed(**row) for row in connection.execute(statement).mappings()]

    @staticmethod
    def _free(now: float) -> tuple[sa.ColumnElement[bool], ...]:
        return (
            outbox.c.state == _WAITING,
            outbox.c.next_at <= now,
            sa.or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= now),
        )

    def settle(self, verdicts: Iterable[tuple[Claimed, Verdict]], now: float) -> None:
        """Write what became of rows that were sent, and give them back.

        Those behind one that waits again wait as long, so that nobody looks at them before.
        A row that another has claimed since, as we were late, is only changed for the better.
        """
        with self._store.writing() as connection:
            for claimed, verdict in verdicts:
                self._settle(connection, claimed, verdict, now)

    def _settle(
        self, connection: sa.Connection, claimed: Claimed, verdict: Verdict, now: float
    ) -> None:
        waits = verdict.state is State.WAITING
        row = sa.update(outbox).where(outbox.c.id == claimed.id, outbox.c.state == _WAITING)
        if verdict.state is not State.DELIVERED:
            row = row.where(outbox.c.claimed_by == self._owner)
        changed = connection.execute(
            row.values(
                state=verdict.state.value,
                attempts=claimed.attempts + 1,
                next_at=verdict.next_at if waits else now,
                finished_at=None if waits else now,
                last_error=verdict.error or None,
                last_status=verdict.status,
                **_NOBODYS,
            )
        ).rowcount
        if waits and changed:
            behind = sa.update(outbox).where(
                outbox.c.call_id == claimed.call_id,
                outbox.c.url == claimed.url,
                outbox.c.state == _WAITING,
                outbox.c.seq > claimed.seq,
                outbox.c.next_at < verdict.next_at,
            )
            connection.execute(behind.values(next_at=verdict.next_at))

    # For the API and for operations.

    def find(self, delivery: str) -> Kept | None:
        """Return the delivery with that id, or None."""
        query = sa.select(outbox.c.call_id, outbox.c.tenant_id, outbox.c.state).where(
            outbox.c.id == delivery
        )
        with self._store.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return Kept(id=delivery, call_id=row[0], tenant_id=row[1], state=State(row[2]))

    def replay(self, delivery: str, now: float) -> bool:
        """Send a delivery again: same id, same body, tried as a new one is.

        False when there is none, or its body is not kept any more. One that is being sent now
        is not sent twice for it.
        """
        statement = (
            sa.update(outbox)
            .where(outbox.c.id == delivery, outbox.c.body != "")
            .values(
                state=State.WAITING.value,
                attempts=0,
                next_at=now,
                give_up_at=now + LIFETIME,
                finished_at=None,
                last_error=None,
                last_status=None,
            )
        )
        with self._store.writing() as connection:
            return connection.execute(statement).rowcount == 1

    def backlog(self, now: float) -> Backlog:
        """Return how much waits, for how long, and how much is dead."""
        waiting = sa.select(sa.func.count(), sa.func.min(outbox.c.created_at)).where(
            outbox.c.state == _WAITING
        )
        dead = sa.select(sa.func.count()).where(outbox.c.state == _DEAD)
        with self._store.reading() as connection:
            count, oldest = connection.execute(waiting).one()
            return Backlog(
                waiting=count,
                dead=connection.execute(dead).scalar_one(),
                oldest=max(0.0, now - oldest) if oldest is not None else 0.0,
            )

    def prune(self, now: float) -> int:
        """Drop URL and body of what was delivered `KEPT` seconds ago; returns of how many.

        The row itself stays as long as its call, so that nothing is sent a second time.
        """
        statement = (
            sa.update(outbox)
            .where(
                outbox.c.state == State.DELIVERED,
                outbox.c.created_at < now - KEPT,
                outbox.c.finished_at < now - KEPT,
                outbox.c.body != "",
            )
            .values(body="", url="")
        )
        with self._store.writing() as connection:
            return connection.execute(statement).rowcount

    def of_call(self, call_id: str) -> list[Mapping[str, Any]]:
        """Return the rows of a call, in order; for tests and for whoever looks into a case."""
        query = sa.select(outbox).where(outbox.c.call_id == call_id).order_by(outbox.c.seq)
        with self._store.reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

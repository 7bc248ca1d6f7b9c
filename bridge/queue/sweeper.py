"""Calls of instances that are gone: ended as ``dropped/crash``, each once, by one of the rest.

An instance ends its own calls when it starts again. Until it does, and only once its lease is
over, any other may: a call is first made the ender's (rows another is looking at are passed
over), then ended in the ender's journal, from where the store and the webhooks hear of it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
import structlog

from bridge.call.crash import end_after_crash
from bridge.call.record import new_record
from bridge.call.saved import load_plan
from bridge.errors import BridgeError
from bridge.events import CallEnded
from bridge.queue.table import CLAIMED, DIALLED, DONE, ENDING, WAITING
from bridge.queue.tasks import finish
from bridge.store.errors import StoreError
from bridge.store.store import Store
from bridge.store.tables import calls, queue

_log = structlog.get_logger(__name__)

INTERVAL: Final = 5.0
_SOME: Final = 50  # calls taken in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A call without an end whose instance is gone. ``seq`` is that of its last event.

    ``queued``: of which only the queue knows; its row stays until the end is in the journal.
    """

    call_id: str
    created_at: float
    seq: int
    record: Mapping[str, Any]
    private: Mapping[str, Any]
    queued: bool = False


End = Callable[[Orphan, CallEnded, Mapping[str, Any]], Awaitable[None]]
"""Writes the end of an orphan, with its record after it, and tells of it."""


class Sweeper:
    """Ends the calls of instances whose lease is over.

    *known*: whether the journal here has a record of a call, whose end then comes from there;
    called in threads.
    """

    def __init__(
        self,
        store: Store,
        me: str,
        end: End,
        *,
        known: Callable[[str], bool],
        interval: float = INTERVAL,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._me = me
        self._end = end
        self._known = known
        self._interval = interval
        self._wall = wall
        self._shared = not store.database.is_sqlite
        self._begun = False
        self._orphans: dict[str, Orphan] = {}
        self._to_settle: set[str] = set()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep from now on."""
        if self._shared:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Sweep no more."""
        self._stop.set()
        await finish(self._task)

    async def not_ours(self, call_ids: Sequence[str]) -> frozenset[str]:
        """Return those of *call_ids*, open in the journal here, that another has made its own.

        It has ended them, or runs them. None of them while the store is away.
        """
        if not self._shared or not call_ids:
            return frozenset()
        try:
            return await self._store.ask(self._others, call_ids)
        except StoreError:
            return frozenset()

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                await self.sweep()
            except StoreError:
                _log.debug("sweeper.store_away")
            except Exception:
                _log.exception("sweeper.failed")
            try:
                await asyncio.wait_for(self._stop.wait(), self._interval)
            except TimeoutError:
                continue

    async def sweep(self) -> int:
        """End what is to be ended now; return how many calls that were."""
        if not self._begun:  # taken in an earlier life, or without an answer, and not ended
            self._add(await self._store.ask(self._left))
            self._begun = True
        gone = [name for name in await self._store.ask(self._store.expired) if name != self._me]
        if gone:
            self._begun = False  # until we know what we took
            self._add(await self._store.ask(self._take, gone))
            self._begun = True
        ended = 0
        # Who is ours by now is nobody else's: each stays until it is ended.
        for orphan in list(self._orphans.values()):
            try:
                event, record = end_after_crash(
                    orphan.record, call_id=orphan.call_id, seq=orphan.seq + 1, wall=self._wall()
                )
                await self._end(orphan, event, record)
            except BridgeError:
                raise
            except Exception:  # something about this one: the others are ended
                _log.exception("sweeper.not_ended", call_id=orphan.call_id)
                continue
            _log.warning("sweeper.call_ended", call_id=orphan.call_id)
            del self._orphans[orphan.call_id]
            if orphan.queued:
                self._to_settle.add(orphan.call_id)
            ended += 1
        for call_id in list(self._to_settle):  # only now: the journal has their ends
            await self._store.ask(self._settled, call_id)
            self._to_settle.discard(call_id)
        return ended

    def _add(self, found: Sequence[Orphan]) -> None:
        self._orphans.update((orphan.call_id, orphan) for orphan in found)

    # In threads.

    def _others(self, call_ids: Sequence[str]) -> frozenset[str]:
        query = sa.select(calls.c.id).where(calls.c.id.in_(call_ids), calls.c.instance != self._me)
        with self._store.reading() as connection:
            return frozenset(connection.execute(query).scalars())

    def _left(self) -> list[Orphan]:
        query = sa.select(*_COLUMNS).where(calls.c.instance == self._me, calls.c.ended_at.is_(None))
        with self._store.reading() as connection:
            rows = connection.execute(query).all()
            waiting = set(
                connection.execute(
                    sa.select(queue.c.call_id).where(
                        sa.or_(
                            queue.c.state.in_(_WAITING),
                            # Just being dialled here, or left to the queue by an earlier life.
                            sa.and_(queue.c.state == DIALLED, queue.c.owner == self._me),
                        )
                    )
                ).scalars()
            )
            unrecorded = connection.execute(
                sa.select(queue.c.call_id, queue.c.body).where(
                    queue.c.owner == self._me, queue.c.state == ENDING
                )
            ).all()
        left = (row for row in rows if row.id not in waiting)
        found = [_orphan(row) for row in left if not self._known(row.id)]
        return found + self._not_ended(unrecorded)

    def _take(self, gone: Sequence[str]) -> list[Orphan]:
        elsewhere = sa.exists().where(
            queue.c.call_id == calls.c.id,
            sa.or_(queue.c.state.in_(_WAITING), queue.c.owner.not_in(gone)),
        )
        some = (
            sa.select(calls.c.id)
            .where(
                calls.c.instance.in_(gone),
                calls.c.ended_at.is_(None),
                ~elsewhere,
            )
            .limit(_SOME)
            .with_for_update(skip_locked=True)
        )
        unread = (
            sa.select(queue.c.call_id)
            .where(
                queue.c.state.in_((DIALLED, ENDING)),
                queue.c.owner.in_(gone),
                ~sa.exists().where(calls.c.id == queue.c.call_id),
            )
            .limit(_SOME)
            .with_for_update(skip_locked=True)
        )
        with self._store.writing() as connection:
            ids = connection.execute(some).scalars().all()
            taken = connection.execute(
                sa.update(calls)
                .where(calls.c.id.in_(ids))
                .values(instance=self._me)
                .returning(*_COLUMNS)
            ).all()
            ids = connection.execute(unread).scalars().all()
            unrecorded = connection.execute(
                sa.update(queue)
                .where(queue.c.call_id.in_(ids))
                .values(owner=self._me, state=ENDING)
                .returning(queue.c.call_id, queue.c.body)
            ).all()
        found = [_orphan(row) for row in taken]
        return found + self._not_ended(unrecorded)

    def _not_ended(self, rows: Sequence[Any]) -> list[Orphan]:
        """Return the calls of *rows* that have no end yet; the rest is to be settled."""
        found = []
        for row in rows:
            orphan = None if self._known(row.call_id) else _unrecorded(row.body)
            if orphan is None:  # ended in an earlier life, or nobody can read what it was
                self._to_settle.add(row.call_id)
            else:
                found.append(orphan)
        return found

    def _settled(self, call_id: str) -> None:
        """The end of a call is in the journal: its row has done its work."""
        with self._store.writing() as connection:
            connection.execute(
                sa.update(queue)
                .where(
                    queue.c.call_id == call_id,
                    queue.c.owner == self._me,
                    queue.c.state == ENDING,
                )
                .values(state=DONE, body="")
            )


_COLUMNS: Final = (calls.c.id, calls.c.created_at, calls.c.seq, calls.c.record, calls.c.private)
_WAITING: Final = (WAITING, CLAIMED)


def _orphan(row: Any) -> Orphan:
    return Orphan(
        call_id=row.id,
        created_at=row.created_at,
        seq=row.seq,
        record=json.loads(row.record),
        private=json.loads(row.private),
    )


def _unrecorded(body: str) -> Orphan | None:
    """Return a call that was taken from the queue and of which nothing else is known."""
    try:
        plan = load_plan(json.loads(body))
    except (KeyError, TypeError, ValueError, BridgeError):
        return None
    record = new_record(plan)
    return Orphan(
        call_id=plan.call_id,
        created_at=plan.created_at,
        seq=0,
        record=record.as_dict(),
        private=record.private,
        queued=True,
    )

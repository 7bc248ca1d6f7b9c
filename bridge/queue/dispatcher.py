"""Calls that a trunk has no room for yet: accepted, kept, and dialled in turn.

A call that waits is in the journal of the instance that accepted it, with its whole plan, and
has a row in the store, from where any instance on the same database may take it. Only one ever
does: the row is claimed, then made the taker's for good before an INVITE can leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

import structlog

from bridge.call.idempotency import Claim
from bridge.call.outcome import CRASHED, QUEUE_TIMEOUT, LocalEnd, Outcome, local_outcome
from bridge.call.plan import CallPlan
from bridge.call.record import CallRecord, new_record
from bridge.call.requests import OverLimit, Unavailable
from bridge.call.saved import dump_plan, load_plan
from bridge.errors import BridgeError
from bridge.events import CallEvent
from bridge.queue.line import Line, Waiter
from bridge.queue.table import QueueTable, Row
from bridge.queue.tasks import finish
from bridge.store.errors import StoreError

_log = structlog.get_logger(__name__)

T = TypeVar("T")

LOOK: Final = 0.5  # seconds between looks at what other instances did
CHECK: Final = 2.0  # seconds between questions what has become of the calls accepted here
PLACED: Final = 1.0  # seconds an answer waits for the call's row
LEASE: Final = 30.0  # seconds a claim lasts; from claim to INVITE it is milliseconds
REMEMBERED: Final = 3600.0  # seconds the row of a call that was taken stays
OVERDUE_ELSEWHERE: Final = 10.0  # seconds after which anybody ends a call that waited too long
QUEUED: Final = "queued"
"""The key of a snapshot in the journal: the plan of a call that waits."""


def has_begun(record: Mapping[str, Any] | None) -> bool:
    """Whether a call's resource says that it was dialled, or is over: it waits no more."""
    if record is None:
        return False
    return bool(record["ended_at"] or record["seq"]) or record["status"] != "pending"


class Desk(Protocol):
    """What the queue needs of the call service."""

    def delay_of(self, trunk_name: str) -> float | None:
        """Return the seconds until a call of the trunk may begin; None: not known."""

    async def dial_waiting(self, plan: CallPlan, before: Callable[[], Awaitable[bool]]) -> bool:
        """Run a call that has waited, if *before* says so, the last word."""

    async def end_waiting(self, plan: CallPlan, verdict: Outcome) -> None:
        """End a call that never ran; it has its outcome when this returns."""


class Records(Protocol):
    """The journal, as far as the queue writes and reads it."""

    def append_record(
        self,
        record: CallRecord,
        event: CallEvent | None,
        claim: Claim | None = None,
        snapshot: Mapping[str, Any] | None = None,
    ) -> asyncio.Future[None]:
        """Write the record of a call that waits."""


class OpenCall(Protocol):
    """A call without an end in the journal."""

    @property
    def call_id(self) -> str: ...
    @property
    def snapshot(self) -> Mapping[str, Any] | None: ...


class Queue:
    """`bridge.call.waiting.Waiting` on a table. Lives on the main loop.

    *known*: whether the journal here has a record of a call, *begun*: one that says more than
    that it waits; both are called in threads. *handed_over*
    is told of a call accepted here that another instance has taken: its record here is stale.
    *size* and *max_wait* (seconds) are ``[queue]``'s.
    """

    def __init__(
        self,
        table: QueueTable,
        desk: Desk,
        records: Records,
        *,
        me: str,
        size: int,
        max_wait: float,
        known: Callable[[str], bool],
        begun: Callable[[str], bool] = lambda _: False,
        handed_over: Callable[[str], Awaitable[None]],
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._desk = desk
        self._records = records
        self._me = me
        self._size = size
        self._max_wait = max_wait
        self._known = known
        self._begun_before = begun
        self._handed_over = handed_over
        self._wall = wall
        self._clock = clock
        self._line = Line()
        self._dialling: dict[str, asyncio.Future[None]] = {}
        # What could not be done at once, for want of the store or the journal.
        self._to_end: dict[str, tuple[CallPlan, Outcome]] = {}
        self._to_settle: set[str] = set()
        self._to_release: set[str] = set()
        self._doing_chores = asyncio.Lock()
        self._away = False
        self._begun = False  # whether what an earlier life left has been looked at
        self._looked_at = self._checked_at = self._pruned_at = -math.inf
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    # Start and stop.

    def take_up(self, open_calls: Iterable[OpenCall]) -> frozenset[str]:
        """Take the calls that wait out of what the journal has open; return their ids.

        They are no crashed calls. What has become of them meanwhile the table says, now or
        when the store is back.
        """
        found = set()
        for call in open_calls:
            saved = (call.snapshot or {}).get(QUEUED)
            if saved is None:
                continue
            try:
                plan = load_plan(saved)
            except (KeyError, TypeError, ValueError, BridgeError):
                _log.error("queue.unreadable", call_id=call.call_id)
                continue
            self._line.add(Waiter(plan=plan, kept=True))
            found.add(plan.call_id)
        return frozenset(found)

    def start(self) -> None:
        """Dispatch from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Dispatch nothing more; what waits stays, for the next start or another instance."""
        self._stopping = True
        self._wake.set()
        await finish(self._task)

    def reload(self, *, size: int, max_wait: float) -> None:
        """Take new limits; what waits already keeps what its row says elsewhere."""
        self._size = size
        self._max_wait = max_wait

    def waiting(self) -> dict[str, int]:
        """Return how many calls wait for each trunk, as far as is known here."""
        return {trunk: self._line.waiting(trunk) for trunk in self._line.turns()}

    @property
    def away(self) -> bool:
        """Whether the store does not answer; then nothing new can wait."""
        return self._away

    # What the service asks (`Waiting`).

    def ahead(self, trunk: str) -> bool:
        """Whether calls wait for *trunk*."""
        return self._line.waiting(trunk) > 0

    def freed(self, trunk: str) -> None:
        """Look whether a call of *trunk* may begin now."""
        if self._line.waiting(trunk):
            self._wake.set()

    def plans(self) -> Sequence[CallPlan]:
        """Return the calls accepted here that wait, oldest first."""
        return [waiter.plan for waiter in self._line.own]

    async def admit(self, plan: CallPlan, over: OverLimit | None, claim: Claim | None) -> None:
        """Accept *plan* to wait: journal first, then its row."""
        if self._line.size >= self._size:
            raise OverLimit(
                f"{self._size} calls wait already (queue.size)",
                retry_after=max(1, over.retry_after if over is not None else 1),
            )
        if self._away or self._stopping:
            raise Unavailable("the store is away: no call can wait", retry_after=10)
        waiter = Waiter(plan=plan)
        self._line.add(waiter)  # from here on others are behind it
        written = self._records.append_record(
            new_record(plan), None, claim, {QUEUED: dump_plan(plan)}
        )
        try:
            await asyncio.shield(written)
        except Exception as failure:
            self._line.remove(plan.call_id)
            raise Unavailable("the journal cannot be written: no new calls") from failure
        waiter.kept = True
        _log.info("queue.waiting", call_id=plan.call_id, trunk=plan.trunk, size=self._line.size)
        with contextlib.suppress(StoreError, TimeoutError):  # it is accepted: its row follows
            await asyncio.wait_for(self._place(waiter), PLACED)
        self._wake.set()

    async def give_up(self, call_id: str) -> bool:
        """End a call that waits, whoever accepted it."""
        dialling = self._dialling.get(call_id)
        if dialling is not None:
            await asyncio.wait([dialling])
        if call_id in self._to_end:
            return True
        waiter = self._line.get(call_id)
        if waiter is None and (not self._table.shared or call_id in self._to_settle):
            return False
        try:
            if waiter is not None and not waiter.placed:
                await self._place(waiter)
            row = await self._ask(self._table.take, call_id, now=self._wall())
        except StoreError as failure:
            if waiter is None:
                return False
            raise Unavailable("the store is away: what waits cannot be ended") from failure
        plan = None if row is None else row.plan
        if plan is None:
            return False
        self._end(plan, local_outcome(LocalEnd.API, plan.direction, answered=False))
        with contextlib.suppress(StoreError):
            await self._chores()
        return True

    # Dispatching.

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._turn()
                if self._away:
                    _log.info("queue.store_back")
                self._away = False
            except StoreError as failure:
                if not self._away:
                    _log.warning("queue.store_away", error=str(failure))
                self._away = True
            except Exception:  # a bug of ours; what waits does not wait for ever
                _log.exception("queue.turn_failed")
            pause = self._pause()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)
            self._wake.clear()

    def _pause(self) -> float | None:
        """Return the seconds until there may be something to do; None: until woken."""
        if self._away or self._table.shared or not self._begun:
            return LOOK
        trunks = self._line.turns()
        if not trunks and not self._to_end and not self._to_settle and not self._to_release:
            return None
        delays = (self._desk.delay_of(trunk) for trunk in trunks)
        return min([LOOK, *(delay for delay in delays if delay)])

    async def _turn(self) -> None:
        now = self._clock()
        await self._chores()
        if not self._begun:
            await self._begin()
        if now - self._looked_at >= LOOK:
            self._looked_at = now
            self._line.seen(await self._ask(self._table.counts))
            await self._end_overdue()
        if now - self._checked_at >= CHECK:
            self._checked_at = now
            await self._check()
        await self._dispatch()

    async def _begin(self) -> None:
        """Look at what an earlier life of this instance has left."""
        await self._ask(self._table.release_all)
        await self._check()
        for row in await self._ask(self._table.unsettled):
            plan = row.plan
            if plan is not None and not await self._ask(self._known, row.call_id):
                self._end(plan, CRASHED)  # taken from another instance, and nothing written
            else:
                self._to_settle.add(row.call_id)
        self._begun = True
        await self._chores()

    async def _chores(self) -> None:
        """Do what has to follow, again until it is done. One at a time.

        Nothing is given back later than this: a row released twice could be one that was
        dialled in between.
        """
        async with self._doing_chores:
            for call_id, (plan, verdict) in list(self._to_end.items()):
                try:
                    await self._desk.end_waiting(plan, verdict)
                except Unavailable:  # the journal: it is asked again
                    continue
                self._to_settle.add(call_id)
                del self._to_end[call_id]
            for call_id in list(self._to_settle):
                await self._ask(self._table.settled, call_id)
                self._to_settle.discard(call_id)
            for call_id in list(self._to_release):
                await self._ask(self._table.release, call_id)
                self._to_release.discard(call_id)

    async def _dispatch(self) -> None:
        while not self._stopping:
            ready = (trunk for trunk in self._line.turns() if self._desk.delay_of(trunk) == 0)
            trunk = next(ready, None)
            if trunk is None:
                return
            now = self._wall()
            row = await self._ask(self._table.claim, trunk, now=now, until=now + LEASE)
            if row is None:
                self._line.empty(trunk)
                if self._line.waiting(trunk):  # not placed yet, or another has claimed it
                    await self._check()
                    return
                continue
            self._line.served(trunk)
            if not await self._dial(row):
                return

    async def _dial(self, row: Row) -> bool:
        """Dial a call that is claimed; False when it could not be dialled now."""
        waiter = self._line.remove(row.call_id)
        plan = row.plan if waiter is None else waiter.plan
        if plan is None:
            _log.error("queue.unreadable", call_id=row.call_id)
            await self._ask(self._table.dialled, row.call_id, now=self._wall())
            return True
        if waiter is None and await self._ask(self._begun_before, row.call_id):
            # The table has forgotten that it was dialled; the journal has not.
            _log.error("queue.dialled_before", call_id=row.call_id)
            await self._ask(self._table.dialled, row.call_id, now=self._wall())
            self._to_settle.add(row.call_id)
            return True
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._dialling[row.call_id] = done
        ran: bool | None = None
        try:
            ran = await self._desk.dial_waiting(
                plan, lambda: self._ask(self._table.dialled, row.call_id, now=self._wall())
            )
        except (OverLimit, Unavailable) as refusal:
            _log.info("queue.not_yet", call_id=row.call_id, why=str(refusal))
        except StoreError:
            _log.info("queue.not_yet", call_id=row.call_id, why="the store is away")
        except Exception:  # the service has ended the call
            _log.exception("queue.dial_failed", call_id=row.call_id)
            ran = True
        finally:
            if ran:
                self._to_settle.add(row.call_id)
            elif waiter is not None:
                self._line.add(waiter)
            if ran is None:  # certainly not dialled
                self._to_release.add(row.call_id)
            del self._dialling[row.call_id]
            done.set_result(None)
        if ran:
            waited_ms = round((self._wall() - plan.created_at) * 1000)
            _log.info("queue.dialled", call_id=row.call_id, trunk=plan.trunk, waited_ms=waited_ms)
        await self._chores()
        return bool(ran)

    # What has become of calls.

    async def _place(self, waiter: Waiter) -> None:
        until = waiter.plan.created_at + self._max_wait
        await self._ask(self._table.put, waiter.plan, until=until)
        waiter.placed = True

    async def _check(self) -> None:
        """Ask the table what has become of the calls accepted here."""
        own = [
            waiter
            for waiter in self._line.own
            if waiter.kept and (self._table.shared or not waiter.placed)
        ]
        if not own:
            return
        rows = await self._ask(self._table.rows, [waiter.call_id for waiter in own])
        for waiter in own:
            if self._line.get(waiter.call_id) is waiter:
                await self._resolve(waiter, rows.get(waiter.call_id))

    async def _resolve(self, waiter: Waiter, row: Row | None) -> None:
        if row is None:
            owner = await self._ask(self._table.owner_of, waiter.call_id)
            if owner is None or owner == (self._me, False):
                await self._place(waiter)
            else:  # it was taken so long ago that its row is gone
                await self._hand_over(waiter, owner[0])
        elif not row.taken:
            waiter.placed = True
        elif row.owner != self._me:
            await self._hand_over(waiter, row.owner or "")
        elif not self._begun:  # in an earlier life; an INVITE may have left
            self._end(waiter.plan, CRASHED)
        # Else it is being ended at this moment.

    async def _hand_over(self, waiter: Waiter, owner: str) -> None:
        self._line.remove(waiter.call_id)
        _log.info("queue.handed_over", call_id=waiter.call_id, to=owner)
        await self._handed_over(waiter.call_id)

    async def _end_overdue(self) -> None:
        limit = self._wall() - self._max_wait
        late = [waiter.call_id for waiter in self._line.overdue(limit)]
        if self._table.shared:
            late += await self._ask(self._table.overdue, before=self._wall() - OVERDUE_ELSEWHERE)
        for call_id in late:
            row = await self._ask(self._table.take, call_id, now=self._wall())
            plan = None if row is None else row.plan
            if plan is None:
                continue
            if await self._ask(self._begun_before, call_id):
                self._to_settle.add(call_id)
            else:
                self._end(plan, QUEUE_TIMEOUT)
        await self._chores()
        if self._clock() - self._pruned_at > REMEMBERED / 10:
            self._pruned_at = self._clock()
            await self._ask(self._table.prune, before=self._wall() - REMEMBERED)

    def _end(self, plan: CallPlan, verdict: Outcome) -> None:
        """End a call whose row is ours for good."""
        self._line.remove(plan.call_id)
        self._to_end[plan.call_id] = plan, verdict
        _log.info("queue.ended", call_id=plan.call_id, reason=verdict.reason)

    async def _ask(self, question: Callable[..., T], *values: Any, **named: Any) -> T:
        return await self._table.ask(question, *values, **named)

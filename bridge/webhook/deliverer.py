"""The deliverer: takes what waits in the outbox and sends it, in a thread and loop of its own.

Turns: settle what has been sent, claim what is due and may be started, start it, wait for the
next reason. The database is asked in one more thread, so that a slow disk holds up no receiver
and neither of them a call. When the database is away, what was sent stays in memory until it
can be settled; if it never can (a crash), it is sent again with the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar, assert_never

import structlog

from bridge.store.errors import StoreError
from bridge.webhook.outbox import Backlog, Claimed, Outbox
from bridge.webhook.pace import Limits, Pace
from bridge.webhook.retry import Answer, State, Verdict, asked_delay, judge
from bridge.webhook.sender import TIMEOUT, Sender, Settings

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_FIRST_WAIT: Final = 0.1  # seconds, for a database that is away
_GOODBYE: Final = 2.0  # seconds in which we still send when we stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often things are looked at, in seconds.

    ``poll``: for rows of other instances, and for retries; new rows of our own `wake` us.
    ``gap`` is the shortest time between two turns, ``away`` the longest between two attempts to
    reach the database.
    """

    poll: float = 1.0
    gap: float = 0.02
    away: float = 5.0
    backlog: float = 15.0
    prune: float = 6 * 3600.0
    timeout: float = TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What has been done since the start, and what is left (`Backlog`)."""

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    backlog: Backlog = field(default_factory=Backlog)


class Deliverer:
    """Sends what is in *outbox*; `start` and `stop` it from any thread."""

    def __init__(
        self,
        outbox: Outbox,
        settings: Settings,
        *,
        limits: Limits | None = None,
        rhythm: Rhythm | None = None,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._settings = settings
        self._limits = limits or Limits()
        self._rhythm = rhythm or Rhythm()
        self._clock = clock
        self._chance = chance
        self._pace = Pace(self._limits)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reason = asyncio.Event()
        self._ended = asyncio.Event()
        self._sent: list[tuple[Claimed, Verdict]] = []
        self._attempts: set[asyncio.Task[None]] = set()
        self._away = False
        self._tally = Tally()
        self._looked_at = 0.0
        self._pruned_at = 0.0

    # From any thread.

    def start(self) -> None:
        """Begin. What this instance had claimed before a crash is sent again."""
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="webhooks", daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self, timeout: float = _GOODBYE + 5) -> None:
        """Stop: attempts under way get a moment, what waits stays in the outbox. Blocks."""
        if self._thread is None:
            return
        self._call(self._stop)
        self._thread.join(timeout)
        self._thread = None

    def wake(self) -> None:
        """Say that there are new rows."""
        self._call(self._reason.set)

    @property
    def tally(self) -> Tally:
        """How it goes; the backlog is up to `Rhythm.backlog` seconds old."""
        return self._tally

    def _call(self, what: Callable[[], Any]) -> None:
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(what)
            except RuntimeError:  # it has just been closed
                return

    # On the thread.

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(ready))
        except Exception:
            _log.exception("webhook.deliverer_failed")
        finally:
            ready.set()

    def _stop(self) -> None:
        self._ended.set()
        self._reason.set()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        ready.set()
        sender = Sender(
            self._settings,
            clock=self._clock,
            connections=self._limits.running,
            timeout=self._rhythm.timeout,
        )
        with ThreadPoolExecutor(1, thread_name_prefix="webhook-outbox") as database:
            self._database = database
            async with sender:
                self._sender = sender
                await self._until_stopped()
                await self._finish()

    async def _until_stopped(self) -> None:
        released = False
        wait = 0.0
        while not self._ended.is_set():
            try:
                if not released:
                    await self._blocking(self._outbox.release)
                    released = True
                more = await self._turn()
            except Exception as failure:  # whatever it is: what waits must go on
                self._lost(failure)
                wait = min(self._rhythm.away, max(_FIRST_WAIT, wait * 2))
                await _until(self._ended, wait)
                continue
            self._found()
            wait = 0.0
            if not more:
                await _until(self._reason, self._rhythm.poll)
            await asyncio.sleep(self._rhythm.gap)
            self._reason.clear()

    async def _turn(self) -> bool:
        """Settle, look after the house, claim and start; True when more may be due at once."""
        await self._settle()
        await self._keep_house()
        now = self._clock()
        wanted = self._pace.wanted(now)
        if wanted is None:
            return False
        due = await self._blocking(
            lambda: self._outbox.due(
                now,
                limit=wanted.limit,
                per_receiver=self._limits.per_receiver,
                without=wanted.without,
                only=wanted.only,
            )
        )
        chosen = [due[index].id for index in self._pace.choose(row.receiver for row in due)]
        for claimed in await self._blocking(lambda: self._outbox.claim(chosen, now)):
            self._begin(claimed)
        return 0 < len(chosen) < len(due)

    async def _settle(self) -> None:
        if not self._sent:
            return
        sent, self._sent = self._sent, []
        try:
            await self._blocking(lambda: self._outbox.settle(sent, self._clock()))
        except BaseException:
            self._sent = sent + self._sent
            raise

    async def _keep_house(self) -> None:
        now = time.monotonic()
        if not self._looked_at or now - self._looked_at >= self._rhythm.backlog:
            self._looked_at = now
            backlog = await self._blocking(lambda: self._outbox.backlog(self._clock()))
            self._tally = replace(self._tally, backlog=backlog)
        if not self._pruned_at or now - self._pruned_at >= self._rhythm.prune:
            self._pruned_at = now
            await self._blocking(lambda: self._outbox.prune(self._clock()))

    def _begin(self, claimed: Claimed) -> None:
        self._pace.started(claimed.receiver)
        task = asyncio.get_running_loop().create_task(self._attempt(claimed))
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)

    async def _attempt(self, claimed: Claimed) -> None:
        try:
            answer = await self._sender.send(claimed)
        except asyncio.CancelledError:  # we stop: it is given back, and made again
            self._pace.ended(claimed.receiver, worked=False)
            raise
        self._heard(claimed, answer)
        self._reason.set()

    def _heard(self, claimed: Claimed, answer: Answer) -> None:
        now = self._clock()
        verdict = judge(
            answer,
            attempts=claimed.attempts + 1,
            give_up_at=claimed.give_up_at,
            now=now,
            chance=self._chance(),
        )
        alone = asked_delay(answer)
        self._pace.ended(
            claimed.receiver,
            worked=verdict.state is State.DELIVERED,
            leave_alone_until=now + alone if alone else 0.0,
        )
        self._sent.append((claimed, verdict))
        self._count(claimed, verdict)

    def _count(self, claimed: Claimed, verdict: Verdict) -> None:
        tally = self._tally
        ids = {
            "delivery": claimed.id,
            "call_id": claimed.call_id,
            "webhook": claimed.event,
            "receiver": claimed.receiver,
            "attempts": claimed.attempts + 1,
        }
        heard = {"status": verdict.status, "error": verdict.error}
        match verdict.state:
            case State.DELIVERED:
                self._tally = replace(tally, delivered=tally.delivered + 1)
            case State.WAITING:
                self._tally = replace(tally, failed=tally.failed + 1)
                _log.info("webhook.attempt_failed", **ids, **heard)
            case State.DEAD:
                self._tally = replace(tally, failed=tally.failed + 1, dead=tally.dead + 1)
                _log.warning("webhook.dead", **ids, **heard)
            case _:
                assert_never(verdict.state)

    async def _finish(self) -> None:
        """Send what is due while that goes fast, write what came of it, give the rest back."""
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._turn()
                while self._attempts:
                    await asyncio.wait(self._attempts, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.sleep(self._rhythm.gap)
                    await self._turn()
        except TimeoutError:
            _log.debug("webhook.stopped_in_attempts", attempts=len(self._attempts))
        except Exception as failure:
            self._lost(failure)
        for task in list(self._attempts):
            task.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)
        try:
            await self._settle()
            await self._blocking(self._outbox.release)
        except Exception as failure:  # the leases run out
            self._lost(failure)

    async def _blocking(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._database, work)

    def _lost(self, failure: Exception) -> None:
        if not isinstance(failure, StoreError):
            _log.error("webhook.turn_failed", exc_info=failure)
        elif not self._away:
            _log.warning("webhook.store_away", error=type(failure).__name__)
        self._away = True

    def _found(self) -> None:
        if self._away:
            _log.info("webhook.store_back")
        self._away = False


async def _until(event: asyncio.Event, seconds: float) -> None:
    """Wait for *event*, at most *seconds*."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()

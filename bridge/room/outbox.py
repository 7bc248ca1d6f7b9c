"""What a call sends into its room, in order, over reconnects."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bridge.room.joining import conclude, retrieve, room_error
from bridge.room.seam import RoomError

T = TypeVar("T")

LIMIT = 256
"""Sends that may wait; a call that makes more of them while the room is away is told."""

SEND_TIMEOUT = 15.0
SEND_TRIES = 2
RETRY_PAUSE = 0.1


@dataclass(slots=True)
class _Send(Generic[T]):
    effect: Callable[[T], Awaitable[None]]
    done: asyncio.Future[None] = field(default_factory=lambda: _future())
    tries: int = 0
    begun: tuple[T, Awaitable[None]] | None = None  # on this connection, before its turn


class Outbox(Generic[T]):
    """A first-in-first-out lane towards whatever connection is up.

    `open` gives it a connection, `pause` says that it is being repaired: what
    is being sent is left to it (the SDK sends it after its repair; a second time
    would be one too many). `lose` takes the connection away: all that waits
    fails, because on another one it may have to go to others. Nothing goes out of
    order. Before the first connection, and between two, messages wait. A caller
    that is cancelled does not withdraw its message.
    """

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit = limit
        self._items: deque[_Send[T]] = deque()
        self._target: T | None = None
        self._last: T | None = None  # also while it is being repaired
        self._refusal: RoomError | None = None
        self._wake = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._flight: asyncio.Task[None] | None = None

    def open(self, target: T, first: Callable[[T], Awaitable[None]] | None = None) -> None:
        """Send to *target* from now on, *first* before all that waits."""
        if target is not self._last and self._flight is not None:
            self._flight.cancel()
        self._last = target
        self._refusal = None
        if first is not None:
            send = _Send(first)
            send.done.add_done_callback(retrieve)
            self._items.appendleft(send)
        self._target = target
        self._wake.set()
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._run())

    def pause(self) -> None:
        """Let everything wait but what is being sent: the connection is being repaired."""
        self._target = None
        self._wake.clear()

    def lose(self) -> None:
        """Fail what waits: the connection is gone."""
        self.pause()
        if self._flight is not None:
            self._flight.cancel()
        self._fail_all(RoomError("the room is away"))

    def _fail_all(self, error: RoomError) -> None:
        while self._items:
            item = self._items.popleft()
            _abandon(item.begun)
            conclude(item.done, error)

    def send(self, effect: Callable[[T], Awaitable[None]]) -> asyncio.Future[None]:
        """Run *effect* on the connection when its turn comes, which may be now.

        What *effect* does before it returns happens in this very turn of the loop when nothing
        else waits. The result is done when it is; it raises `RoomError`.
        """
        item: _Send[T] = _Send(effect)
        item.done.add_done_callback(retrieve)
        if self._refusal is not None:
            conclude(item.done, self._refusal)
        elif len(self._items) >= self._limit:
            conclude(item.done, RoomError("too much waits for the room"))
        else:
            self._items.append(item)
            self._begin(item)
            self._wake_if_open()
        return asyncio.shield(item.done)

    def _begin(self, item: _Send[T]) -> None:
        """Begin at once what is alone; the pump then waits for its end."""
        if self._target is None or len(self._items) > 1:
            return
        try:
            item.begun = (self._target, item.effect(self._target))
        except Exception as error:
            failed = _future()
            failed.set_exception(error)
            item.begun = (self._target, failed)

    def close(self, error: RoomError) -> None:
        """Fail all that waits and all that comes, until `renew` or `open`."""
        self.pause()
        if self._flight is not None:
            self._flight.cancel()
        self._refusal = error
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        self._fail_all(error)

    def renew(self) -> None:
        """Let messages wait again: a connection is being made."""
        self._refusal = None

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            if self._target is None or not self._items:
                self._wake.clear()
                continue
            await self._send_first(self._target)

    async def _send_first(self, target: T) -> None:
        item = self._items[0]
        begun, item.begun = item.begun, None
        if begun is not None and begun[0] is target:
            work = begun[1]
        else:
            _abandon(begun)
            work = None
        flight = asyncio.ensure_future(_sent(item.effect, target, work))
        self._flight = flight
        try:
            await self._landed(flight, target)
        finally:
            self._flight = None
            overdue = flight.cancel()
        if overdue and self._target is target:
            failure: BaseException | None = TimeoutError()
        elif overdue or flight.cancelled():
            if flight.cancelled() and work is not None:
                _abandon((target, work))  # perhaps cancelled before its first turn
            return  # the connection went away under it: again on the next one
        else:
            failure = flight.exception()
        if failure is not None and self._target is not target:
            return
        item.tries += 1
        if failure is not None and item.tries < SEND_TRIES:
            await asyncio.sleep(RETRY_PAUSE)
            return
        if item in self._items:
            self._items.remove(item)
        conclude(item.done, None if failure is None else room_error(failure, "not sent"))

    async def _landed(self, flight: asyncio.Task[None], target: T) -> None:
        """Wait for the end of *flight*, `SEND_TIMEOUT` at most while its connection is up."""
        while not flight.done():
            await asyncio.wait({flight}, timeout=SEND_TIMEOUT)
            if self._target is target:
                return

    def _wake_if_open(self) -> None:
        if self._target is not None:
            self._wake.set()


async def _sent(
    effect: Callable[[T], Awaitable[None]], target: T, begun: Awaitable[None] | None
) -> None:
    await (effect(target) if begun is None else begun)


def _abandon(begun: tuple[T, Awaitable[None]] | None) -> None:
    """Let go of what was begun on a connection that is gone."""
    if begun is None:
        return
    if isinstance(begun[1], asyncio.Future):
        if not begun[1].cancel() and not begun[1].cancelled():
            begun[1].exception()  # seen: it is sent again
    elif isinstance(begun[1], Coroutine):
        begun[1].close()


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()

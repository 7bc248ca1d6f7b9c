"""What the room sessions of both engines share: a join under way, and what ends on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Generic, TypeVar

import structlog

from bridge.room.seam import LeaveReason, RoomError, RoomNotice

log = structlog.get_logger(__name__)

Link = TypeVar("Link")

GOODBYE: Final = 0.3
"""Seconds a leave waits for the last attributes to go out."""

INTRODUCTION: Final = 0.1
"""Seconds between our join and our first message, for those who are there to learn of us.

They hear of us by signalling and drop data from a stranger, which travels faster.
"""

INTRODUCTION_TIMEOUT: Final = 4.0
"""Seconds an RPC waits to learn who calls: of those who publish nothing we hear up to 3 s late."""

_unfinished: set[asyncio.Task[None]] = set()
"""Joins and leaves that nobody waits for any more, but that must not be cancelled."""


class Joining(Generic[Link]):
    """A join under way on *link*, and what it found."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.notices: list[RoomNotice] = []
        self.error: RoomError | None = None
        self.connected = False  # and nobody had given it up by then
        self.reason = LeaveReason.CLIENT_INITIATED
        self.given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def give_up(self, reason: LeaveReason) -> None:
        """Nobody wants the result any more."""
        self.reason = reason
        if not self.given_up.done():
            self.given_up.set_result(None)


def room_error(failure: BaseException, what: str) -> RoomError:
    """Return *failure* as the `RoomError` that it is, or is the cause of: *what* happened."""
    if isinstance(failure, RoomError):
        return failure
    wrapped = RoomError(f"{what}: {type(failure).__name__}")
    wrapped.__cause__ = failure
    return wrapped


def keep(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run *work* to its end, whoever stops waiting for it; a failure is logged."""
    task = asyncio.get_running_loop().create_task(work)
    _unfinished.add(task)
    task.add_done_callback(_finished)
    return task


def _finished(task: asyncio.Task[None]) -> None:
    _unfinished.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("room.cleanup_failed", error=type(error).__name__)


async def settle(timeout: float = 20.0) -> None:
    """Wait for joins and leaves still under way; call before the loop ends."""
    if _unfinished:
        await asyncio.wait(set(_unfinished), timeout=timeout)


def retrieve(done: asyncio.Future[None]) -> None:
    """Mark the failure of *done* as seen: a cancelled caller no longer looks at it."""
    if not done.cancelled():
        done.exception()


def conclude(done: asyncio.Future[None], error: RoomError | None) -> None:
    """End *done*, with *error* if there is one; one that has ended stays as it is."""
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)

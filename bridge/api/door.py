"""The way from a request, in the API's thread, to the bridge on the main loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID

from fastapi import HTTPException

from bridge.call.requests import Accepted, Admit, DialRequest, Unavailable, anybody

T = TypeVar("T")


class Resource(Protocol):
    """A call as it is at one moment; it does not change any more."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of the API."""


class CallDoor(Protocol):
    """What the API needs of the bridge; coroutines run on the main loop.

    ``None`` or False: there is no such call.
    """

    async def dial(
        self, request: DialRequest, *, key: str | None = None, admit: Admit = anybody
    ) -> Accepted:
        """Accept an outbound call, once for each *key*, when *admit* does not object.

        Raises BadRequest, OverLimit, Unavailable.
        """

    async def find(self, call_id: str) -> dict[str, Any] | None:
        """Return a call's resource."""

    def now(self, call_ids: Sequence[str]) -> Mapping[str, Resource]:
        """Return those of *call_ids* that run here, as they are now; see `Doors.look`."""

    async def active(self, limit: int | None) -> list[dict[str, Any]]:
        """Return the calls of this instance without an end, oldest first."""

    async def events_of(self, call_id: str) -> list[dict[str, Any]] | None:
        """Return a call's events so far."""

    async def ladder(self, call_id: str) -> list[dict[str, Any]] | None:
        """Return a call's SIP messages, as long as they are kept."""

    async def hang_up(self, call_id: str) -> bool:
        """End a call; True also when it has ended."""

    async def hold(self, call_id: str) -> bool:
        """Hold the far end. Raises WrongState, NotDone."""

    async def resume(self, call_id: str) -> bool:
        """End our hold. Raises WrongState, NotDone."""

    async def transfer(self, call_id: str, to: str) -> bool:
        """Transfer the far end. Raises BadRequest, NotAllowed, WrongState, NotDone."""

    async def send_dtmf(self, call_id: str, digits: str) -> bool:
        """Play keys to the far end. Raises BadRequest, WrongState."""

    async def erase(self, call_id: str) -> bool:
        """Forget a call that has ended; False when this instance's journal has none."""

    async def tenants_in(self, room: str) -> list[str | None]:
        """Return the tenants of the calls that run in *room*."""

    async def readiness(self) -> dict[str, bool]:
        """Return what a new call needs and whether it is there."""

    async def drain(self) -> int:
        """Take no new calls; return how many still run."""

    async def reload(self) -> dict[str, list[str]]:
        """Re-read the configuration; return what changed. Raises BadConfiguration."""


class Doors:
    """Carries a coroutine of the bridge to the main loop and its result back."""

    def __init__(self, service: CallDoor, loop: asyncio.AbstractEventLoop) -> None:
        self.service = service
        self._loop = loop

    async def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Run *question* on the main loop and return what it returns or raises.

        What has begun there is finished, also when the one who asked goes away.
        """
        try:
            answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        except RuntimeError:  # the loop is closed
            question.close()
            raise Unavailable("the bridge has stopped") from None
        return await asyncio.shield(asyncio.wrap_future(answer))

    async def look(self, glance: Callable[[], T]) -> T:
        """Return what *glance* sees on the main loop, and raise what it raises.

        It waits for nothing and makes nothing: a look costs the calls a tenth of a question.
        """
        here = asyncio.get_running_loop()
        seen: asyncio.Future[T] = here.create_future()
        try:
            self._loop.call_soon_threadsafe(_look, glance, seen, here)
        except RuntimeError:  # the loop is closed
            raise Unavailable("the bridge has stopped") from None
        return await seen


def _look(
    glance: Callable[[], T], seen: asyncio.Future[T], asker: asyncio.AbstractEventLoop
) -> None:
    try:
        tell = partial(seen.set_result, glance())
    except Exception as failure:
        tell = partial(seen.set_exception, failure)
    with suppress(RuntimeError):  # the asker's loop is closed: nobody waits any more
        asker.call_soon_threadsafe(_tell, seen, tell)


def _tell(seen: asyncio.Future[T], tell: Callable[[], None]) -> None:
    if not seen.done():  # who asked may have gone
        tell()


def call_id_of(text: str) -> str:
    """Return a call's id as we write it; what is no id is no call."""
    try:
        return str(UUID(text))
    except ValueError:
        raise HTTPException(404, "no such call") from None


def known(value: T | None) -> T:
    """Return *value*; 404 when there is no such call."""
    if value is None or value is False:
        raise HTTPException(404, "no such call")
    return value

"""Calls as somebody may see them: the store's, with the running ones as they are now before it.

Of one call three know: this instance's memory while it runs, its journal, and the store,
which has every instance's calls and what agents reported. The store may be away: then what
runs here and what the journal has is still shown, and lists are 503.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol

from fastapi import HTTPException

from bridge.api.access import Access
from bridge.api.asking import Projected, asked, is_fresh
from bridge.api.door import Doors, Resource, call_id_of
from bridge.call.requests import Unavailable, WrongState
from bridge.feed import KEEP_ALIVE, Logged
from bridge.store.fold import REPORTED, shown
from bridge.store.near import NotNow
from bridge.store.queries import CallFilter
from bridge.store.store import StoredCall

_EARLY: Final = ("pending", "connecting")  # only memory tells them apart: no event does
_RUNNING: Final = (*_EARLY, "active")
_EVERY: Final = 10_000  # calls that run at once, over all instances
_ASK_AGAIN: Final = 1.0  # seconds between looks for events of another instance's call
_TENANTS: Final = 4096  # calls whose tenant is remembered
_SAID: Final = 256  # running calls whose resource is remembered


class CallStore(Protocol):
    """The store, as it is read. Every method blocks and raises `BridgeError`."""

    @property
    def shared(self) -> bool:
        """Whether other instances may use it, too."""

    def call(self, call_id: str) -> StoredCall | None: ...
    def calls(
        self, wanted: CallFilter, *, limit: int, offset: int
    ) -> tuple[list[dict[str, Any]], int]: ...
    def events(self, call_id: str, *, after: int = 0) -> list[dict[str, Any]]: ...
    def ladder(self, call_id: str) -> list[dict[str, Any]] | None: ...
    def reports(self, call_ids: Sequence[str]) -> dict[str, dict[str, Any]]: ...
    def erase(self, call_id: str) -> bool: ...
    def tenants_elsewhere(self, room: str) -> list[str | None]: ...


class NearStore(Protocol):
    """What of the same store is read at once. Every method raises `NotNow` where it is not."""

    def call(self, call_id: str) -> dict[str, Any] | None: ...
    def calls(
        self, wanted: CallFilter, *, limit: int, offset: int
    ) -> tuple[list[dict[str, Any]], int]: ...
    def events(self, call_id: str, *, after: int = 0) -> list[dict[str, Any]]: ...


class Reading:
    """What the routes ask for; *who* asks decides what there is.

    *near* answers for the *store* where that takes no time; without it the store is asked in
    a thread, always.
    """

    def __init__(
        self,
        doors: Doors,
        store: CallStore | None = None,
        projection: Projected | None = None,
        near: NearStore | None = None,
    ) -> None:
        self._doors = doors
        self._store = store
        self._projection = projection
        self._near = near
        self._tenants: OrderedDict[str, str | None] = OrderedDict()
        self._running: OrderedDict[str, tuple[Resource, dict[str, Any]]] = OrderedDict()

    # One call.

    async def call(self, call_id: str, who: Access) -> dict[str, Any]:
        """Return a call's resource as it is now.

        404 for an unknown one and for another tenant's, `Unavailable` when only the store
        could know and is away.
        """
        wanted = call_id_of(call_id)
        found = await self._find(wanted)
        if found is None or not who.sees(found["tenant_id"]):
            raise HTTPException(404, "no such call")
        return shown(found)

    async def check(self, call_id: str, who: Access) -> str:
        """Return the call's id as it is written. 404 when *who* must not know of it."""
        wanted = call_id_of(call_id)
        if who.scope is None:
            return wanted
        if not who.sees(await self._tenant(wanted)):
            raise HTTPException(404, "no such call")
        return wanted

    async def sees(self, call_id: str, who: Access) -> bool:
        """Whether there is such a call and *who* may know of it; without a scope always."""
        try:
            await self.check(call_id, who)
        except HTTPException:
            return False
        return True

    async def _tenant(self, call_id: str) -> str | None:
        if call_id in self._tenants:
            return self._tenants[call_id]
        found = await self._find(call_id)
        if found is None:
            raise HTTPException(404, "no such call")
        tenant: str | None = found["tenant_id"]
        self._tenants[call_id] = tenant
        if len(self._tenants) > _TENANTS:
            self._tenants.popitem(last=False)
        return tenant

    async def _find(self, call_id: str) -> dict[str, Any] | None:
        now = (await self._now([call_id])).get(call_id)
        away: Unavailable | None = None
        stored: dict[str, Any] | None = None
        fresh = False
        try:
            fresh = await self._fresh()
            stored = await self._stored(call_id)
        except Unavailable as failure:
            away = failure
        if now is not None and (now["ended_at"] is None or stored is None):
            return _with_reported(now, stored)
        if stored is not None and (fresh or stored["ended_at"] is not None):
            return stored
        journalled = await self._doors.ask(self._doors.service.find(call_id))
        if journalled is not None and (stored is None or stored["seq"] <= journalled["seq"]):
            return _with_reported(journalled, stored)
        if stored is None and away is not None:
            raise away
        return stored

    async def _stored(self, call_id: str) -> dict[str, Any] | None:
        if self._store is None:
            return None
        if self._near is not None:
            with suppress(NotNow):
                return self._near.call(call_id)
        found = await asked(self._store.call, call_id)
        return None if found is None else found.record

    async def tenants_in(self, room: str) -> list[str | None]:
        """Return the tenants of the calls in *room*, of all instances. Raises `Unavailable`."""
        here = await self._doors.ask(self._doors.service.tenants_in(room))
        if self._store is None:
            return here
        return here + await asked(self._store.tenants_elsewhere, room)

    async def report(self, call_id: str, who: Access) -> Mapping[str, Any]:
        """Return what the call's agents told of it; empty when nobody did."""
        call = await self.call(call_id, who)
        if self._store is None:
            return {}
        await self._fresh()
        found = await asked(self._store.reports, [call["id"]])
        return found.get(call["id"], {})

    # Lists.

    async def page(
        self, wanted: CallFilter, *, limit: int, offset: int
    ) -> tuple[list[dict[str, Any]], int]:
        """Return calls and how many there are in all. Raises `Unavailable`."""
        store = self._has_store()
        await self._fresh()
        if wanted.status in _EARLY:
            named = await self._early(store, wanted)
            return [shown(one) for one in named[offset : offset + limit]], len(named)
        found, total = await self._listed(store, wanted, limit=limit, offset=offset)
        return [shown(one) for one in await self._as_now(found)], total

    async def _early(self, store: CallStore, wanted: CallFilter) -> list[dict[str, Any]]:
        """Look through all that are not answered: which of the two states is in memory."""
        both = replace(wanted, status=None, statuses=_EARLY)
        found, _ = await self._listed(store, both, limit=_EVERY, offset=0)
        return [one for one in await self._as_now(found) if one["status"] == wanted.status]

    async def active(self, who: Access, limit: int | None) -> list[dict[str, Any]]:
        """Return every call without an end, oldest first; without the store, this instance's."""
        found: list[dict[str, Any]] = []
        fresh = False
        if self._store is not None:
            store = self._store
            wanted = CallFilter(tenant=who.scope, statuses=_RUNNING, ascending=True)
            try:
                fresh = await self._fresh()
                found, _ = await self._listed(store, wanted, limit=limit or _EVERY, offset=0)
            except Unavailable:
                fresh = False
        if not fresh:  # what has just begun here may be missing
            here = await self._doors.ask(self._doors.service.active(None))
            known = {one["id"] for one in found}
            found += [one for one in here if one["id"] not in known and who.sees(one["tenant_id"])]
            found.sort(key=lambda one: str(one["created_at"]))
        now = await self._as_now(found[:limit])
        return [shown(one) for one in now if one["ended_at"] is None]

    async def _as_now(self, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        running = [one["id"] for one in found if one["ended_at"] is None]
        if not running and not self._running:
            return list(found)
        now = await self._now(running)
        return [_with_reported(now.get(one["id"], one), one) for one in found]

    async def _now(self, call_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the resources of those that run here, as they are now."""
        service = self._doors.service
        asked_for = list({*call_ids, *self._running})  # what is over is forgotten
        found = await self._doors.look(lambda: service.now(asked_for))
        for call_id in self._running.keys() - found.keys():
            self._running.pop(call_id, None)
        return {
            call_id: self._said(call_id, found[call_id]) for call_id in call_ids if call_id in found
        }

    def _said(self, call_id: str, resource: Resource) -> dict[str, Any]:
        """Return what a resource says, made once as long as it is the same; not to be changed."""
        known = self._running.get(call_id)
        if known is not None and known[0] is resource:
            return known[1]
        said = resource.as_dict()
        self._running[call_id] = resource, said
        if len(self._running) > _SAID:
            self._running.popitem(last=False)
        return said

    async def _listed(
        self, store: CallStore, wanted: CallFilter, *, limit: int, offset: int
    ) -> tuple[list[dict[str, Any]], int]:
        if self._near is not None:
            with suppress(NotNow):
                return self._near.calls(wanted, limit=limit, offset=offset)
        return await asked(lambda: store.calls(wanted, limit=limit, offset=offset))

    # What belongs to one.

    async def events(self, call_id: str, who: Access) -> list[dict[str, Any]]:
        """Return a call's events so far: the store's if it has them all, else the journal's."""
        call = await self.call(call_id, who)
        near = self._near is not None  # a running call's are in the journal for sure
        if self._store is not None and (near or call["ended_at"] is not None):
            with suppress(Unavailable):
                stored = await self._stored_events(self._store, call["id"])
                if stored and stored[-1]["seq"] >= call["seq"]:
                    return stored  # what was erased is erased there first
        events = await self._doors.ask(self._doors.service.events_of(call["id"]))
        if events or self._store is None:
            return events or []
        return await self._stored_events(self._store, call["id"])

    async def _stored_events(self, store: CallStore, call_id: str) -> list[dict[str, Any]]:
        if self._near is not None:
            with suppress(NotNow):
                return self._near.events(call_id)
        return await asked(_events_after(store, call_id, 0))

    async def is_here(self, call_id: str) -> bool:
        """Whether this instance's journal has all that will be told of the call.

        Of instances that share a store, another may dial what is accepted here.
        """
        if self._store is not None and self._store.shared and not await self._now([call_id]):
            return False
        return await self._doors.ask(self._doors.service.find(call_id)) is not None

    async def follow(
        self, call_id: str, after: int, *, every: float = _ASK_AGAIN
    ) -> AsyncGenerator[Sequence[Logged], None]:
        """Yield the events of another instance's call after the seq *after*, as they arrive.

        As `Feed.of_call`, by asking the store again and again.
        """
        store = self._has_store()
        quiet = 0.0
        while True:
            try:
                found = await asked(_events_after(store, call_id, after))
            except Unavailable:  # there is nothing new as long as the store is away
                found = []
            if found:
                after, quiet = found[-1]["seq"], 0.0
                yield [_logged(one) for one in found]
                if found[-1]["event"] == "call_ended":
                    return
            elif quiet >= KEEP_ALIVE:
                quiet = 0.0
                yield ()
            await asyncio.sleep(every)
            quiet += every

    async def ladder(self, call_id: str, who: Access) -> list[dict[str, Any]]:
        """Return a call's SIP messages: from memory, else as they were kept at its end."""
        call = await self.call(call_id, who)
        rungs = await self._doors.ask(self._doors.service.ladder(call["id"]))
        if rungs or self._store is None:
            return rungs or []
        return await asked(self._store.ladder, call["id"]) or []

    async def erase(self, call_id: str, who: Access) -> str:
        """Forget a call that has ended. Raises `WrongState` while it runs, `Unavailable`.

        The journal of the instance it ran on tells the store, and the other way round.
        """
        call = await self.call(call_id, who)
        if call["ended_at"] is None:
            raise WrongState("the call runs, end it first")
        self._running.pop(call["id"], None)
        here = await self._doors.ask(self._doors.service.erase(call["id"]))
        # What the journal has forgotten, the store forgets behind it, or at once if it is late.
        if self._store is not None and not (here and await self._fresh()):
            await asked(self._store.erase, call["id"])
        return str(call["id"])

    # The store.

    def _has_store(self) -> CallStore:
        if self._store is None:
            raise Unavailable("there is no store to read from")
        return self._store

    async def is_fresh(self) -> bool:
        """Wait a moment until the store has what was written; whether it does."""
        return await self._fresh()

    async def _fresh(self) -> bool:
        return await is_fresh(self._projection)


def _with_reported(call: Mapping[str, Any], stored: Mapping[str, Any] | None) -> dict[str, Any]:
    if stored is None:
        return dict(call)
    return {**call, **{name: stored[name] for name in REPORTED if stored.get(name)}}


def _events_after(store: CallStore, call_id: str, after: int) -> Callable[[], list[dict[str, Any]]]:
    return lambda: store.events(call_id, after=after)


def _logged(event: Mapping[str, Any]) -> Logged:
    body = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
    return Logged(0, event["call_id"], event["seq"], body)

"""Everything a door may ask of this instance: the HTTP API's words, on the main loop.

One object for all doors (HTTP, `bridge.Bridge`), so that they cannot differ. It decides
nothing: calls are the service's, the rest is the daemon's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from bridge.call.call import Call
from bridge.call.control import send_digits, set_hold, transfer
from bridge.call.record import CallRecord
from bridge.call.requests import (
    Accepted,
    Admit,
    BadConfiguration,
    DialRequest,
    Names,
    NotDone,
    Unavailable,
    WrongState,
    anybody,
)
from bridge.call.service import CallService
from bridge.config.loading import ConfigError
from bridge.errors import BridgeError
from bridge.events import rfc3339

_RUNNING: Final = ("pending", "connecting", "active")


class Message(Protocol):
    """One SIP message as the ladder keeps it, numbers masked."""

    @property
    def at(self) -> float: ...
    @property
    def direction(self) -> str: ...
    @property
    def first_line(self) -> str: ...
    @property
    def sdp(self) -> str | None: ...
    @property
    def transport(self) -> str: ...
    @property
    def peer(self) -> str: ...


class Records(Protocol):
    """The journal's resources of all calls. Called in threads."""

    def calls(
        self, *, status: str | None, limit: int, offset: int
    ) -> tuple[list[dict[str, Any]], int]:
        """Return resources, newest first, and how many there are in all."""

    def erase(self, call_id: str) -> bool:
        """Forget what was said and who called in a call that has ended; whether there is one."""


class WebSessions(Protocol):
    """The web calls of this instance."""

    def record(self, call_id: str) -> CallRecord | None:
        """Return the record of one that runs, or has just ended; else None."""

    @property
    def running(self) -> Collection[str]:
        """The ids of those without an end, oldest first."""

    async def end(self, call_id: str) -> bool:
        """End one that runs; False when there is none."""

    def forget(self, call_id: str) -> None:
        """Do not remember one that has ended: it is to be erased."""


class House(Protocol):
    """The daemon around the calls."""

    @property
    def store_up(self) -> bool:
        """Whether the store takes what it is given."""

    def drain(self) -> None:
        """Take no new calls."""

    def reread(self) -> Awaitable[dict[str, list[str]]]:
        """Re-read the configuration; return what changed. Raises `ConfigError`."""


class Elsewhere(Protocol):
    """The instances beside this one."""

    async def pass_on(self, call_id: str, verb: str, **body: Any) -> bool | None:
        """Have the owner of a call do *verb*; None when it is nobody else's.

        Raises what the owner's own door would, and `Unavailable` when it does not answer.
        """


class Alone(Elsewhere):
    """There are none."""

    async def pass_on(self, call_id: str, verb: str, **body: Any) -> bool | None:
        """It is nobody else's."""
        del call_id, verb, body
        return None


class Switchboard:
    """The verbs of the API. *ladder* returns the messages of a SIP Call-ID.

    What is asked about a call that runs *elsewhere* is done there.
    """

    def __init__(
        self,
        service: CallService,
        records: Records,
        house: House,
        ladder: Callable[[str], Sequence[Message]],
        sessions: WebSessions | None = None,
    ) -> None:
        self._service = service
        self._sessions = sessions
        self._records = records
        self._house = house
        self._ladder = ladder
        self.elsewhere: Elsewhere = Alone()

    # Calls.

    async def dial(
        self, request: DialRequest, *, key: str | None = None, admit: Admit = anybody
    ) -> Accepted:
        """Accept an outbound call; see `CallService.dial`."""
        return await self._service.dial(request, key=key, admit=admit)

    async def find(self, call_id: str) -> dict[str, Any] | None:
        """Return a call's resource, or None."""
        session = self._session(call_id)
        return session.as_dict() if session else await self._service.find(call_id)

    def _session(self, call_id: str) -> CallRecord | None:
        """Return a web call that runs."""
        record = None if self._sessions is None else self._sessions.record(call_id)
        return record if record is not None and record.ended_at is None else None

    def now(self, call_ids: Sequence[str]) -> dict[str, CallRecord]:
        """Return the records of those of *call_ids* that run here, as they are now."""
        found: dict[str, CallRecord] = {}
        for call_id in call_ids:
            call = self._service.call(call_id)
            record = self._session(call_id) if call is None else call.record
            if record is not None:
                found[call_id] = record
        return found

    async def active(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the calls without an end, oldest first."""
        if self._sessions is None or not self._sessions.running:
            return await self._service.active(limit)
        found = await self._service.active()
        web = (self._session(call_id) for call_id in self._sessions.running)
        found += [record.as_dict() for record in web if record is not None]
        return sorted(found, key=lambda call: str(call["created_at"]))[:limit]

    async def calls(
        self, *, status: str | None = None, limit: int = 20, offset: int = 0
    ) -> tuple[list[dict[str, Any]], int]:
        """Return calls, newest first, and how many there are; running ones as they are now."""
        if status in _RUNNING:
            running = [c for c in await self.active() if c["status"] == status]
            running.reverse()
            return running[offset : offset + limit], len(running)
        try:
            found, total = await asyncio.to_thread(
                self._records.calls, status=status, limit=limit, offset=offset
            )
        except BridgeError as failure:
            raise Unavailable("the journal cannot be read") from failure
        return [self._as_now(resource) for resource in found], total

    def _as_now(self, resource: dict[str, Any]) -> dict[str, Any]:
        call = self._service.call(resource["id"])
        record = self._session(resource["id"]) if call is None else call.record
        return resource if record is None else record.as_dict()

    async def events_of(self, call_id: str) -> list[dict[str, Any]] | None:
        """Return a call's events so far, or None for an unknown call."""
        return await self._service.events_of(call_id)

    async def ladder(self, call_id: str) -> list[dict[str, Any]] | None:
        """Return a call's SIP messages, as long as they are kept; None for an unknown call."""
        if await self._service.find(call_id) is None:
            return None
        return self.rungs(call_id)

    def rungs(self, call_id: str) -> list[dict[str, Any]]:
        """Return the SIP messages of one of the last calls; none when they are gone."""
        sip_call_id = self._service.sip_call_id(call_id)
        return [_rung(one) for one in self._ladder(sip_call_id)] if sip_call_id else []

    async def hang_up(self, call_id: str) -> bool:
        """End a call; True also when it has ended, False for an unknown one."""
        return await self._do(call_id, "hang_up", {})

    async def hold(self, call_id: str) -> bool:
        """Hold the far end; False for an unknown call. Raises `WrongState`, `NotDone`."""
        return await self._do(call_id, "hold", {})

    async def resume(self, call_id: str) -> bool:
        """End our hold; False for an unknown call. Raises `WrongState`, `NotDone`."""
        return await self._do(call_id, "resume", {})

    async def send_dtmf(self, call_id: str, digits: str) -> bool:
        """Play keys to the far end; False for an unknown call.

        Raises `BadRequest`, `WrongState`.
        """
        return await self._do(call_id, "dtmf", {"digits": digits})

    async def transfer(self, call_id: str, to: str) -> bool:
        """Ask the far end to call *to* instead; False for an unknown call.

        Raises `BadRequest`, `NotAllowed`, `WrongState`, `NotDone`.
        """
        return await self._do(call_id, "transfer", {"to": to})

    async def _do(self, call_id: str, verb: str, body: Mapping[str, Any]) -> bool:
        if not self._is_here(call_id):
            if verb == "hang_up" and await self._service.give_up(call_id):
                return True
            passed = await self.elsewhere.pass_on(call_id, verb, **body)
            if passed is not None:
                return passed
        return await self.do_here(call_id, verb, body)

    async def tenants_in(self, room: str) -> list[str | None]:
        """Return the tenants of the calls that run here in *room*."""
        found = self._service.tenants_in(room)
        web = self._sessions.running if self._sessions is not None else ()
        records = (self._session(call_id) for call_id in web)
        found += [one.tenant_id for one in records if one is not None and one.room_name == room]
        return found

    def _is_here(self, call_id: str) -> bool:
        if self._service.call(call_id) is not None:
            return True
        return self._session(call_id) is not None

    async def do_here(self, call_id: str, verb: str, body: Mapping[str, Any]) -> bool:
        """Do *verb* to a call of this instance; False for an unknown one."""
        if verb == "hang_up":
            if self._sessions is not None and await self._sessions.end(call_id):
                return True
            return await self._service.hang_up(call_id)
        call = await self._running(call_id)
        if call is None:
            return False
        match verb:
            case "hold":
                await set_hold(call, hold=True)
            case "resume":
                await set_hold(call, hold=False)
            case "dtmf":
                send_digits(call, str(body["digits"]))
            case "transfer":
                await transfer(call, str(body["to"]))
            case _:  # of a newer instance
                raise NotDone(f"the instance that runs this call knows no {verb!r}")
        return True

    async def erase(self, call_id: str) -> bool:
        """Forget a call that has ended; whether this instance's journal has it."""
        if self._sessions is not None:
            self._sessions.forget(call_id)
        try:
            return await asyncio.to_thread(self._records.erase, call_id)
        except BridgeError as failure:
            raise Unavailable("the journal cannot be written") from failure

    async def _running(self, call_id: str) -> Call | None:
        """Return a call that runs, None for an unknown one; `WrongState` when it has ended."""
        call = self._service.call(call_id)
        if call is None and self._session(call_id) is not None:
            raise WrongState("it is a web call, there is no phone")
        if call is None and await self._service.find(call_id) is not None:
            raise WrongState("the call has ended")
        return call

    async def names(self) -> Names:
        """What the configuration calls things."""
        return self._service.names

    # The house.

    async def readiness(self) -> dict[str, bool]:
        """Return what belongs to a bridge that is whole, and whether it is there."""
        return {**await self._service.readiness(), "store": self._house.store_up}

    async def drain(self) -> int:
        """Take no new calls; return how many still run."""
        self._house.drain()
        return len(self._service.running)

    async def reload(self) -> dict[str, list[str]]:
        """Re-read the configuration; return what changed. Raises `BadConfiguration`."""
        try:
            return await self._house.reread()
        except ConfigError as failure:
            raise BadConfiguration(failure.lines) from failure


def _rung(message: Message) -> dict[str, Any]:
    return {
        "at": rfc3339(message.at),
        "direction": message.direction,
        "first_line": message.first_line,
        "sdp_direction": message.sdp,
        "transport": message.transport,
        "peer": message.peer,
    }

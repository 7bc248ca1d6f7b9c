"""A call as somebody may make it: checked, owned by their tenant, handed to who runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import Header

from bridge.api.access import Access, own_key
from bridge.api.door import Doors
from bridge.api.models import CallAccepted, CreateCall
from bridge.api.reading import Reading
from bridge.call.requests import Accepted, Admit, BadRequest, anybody

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="The same request with the same key within 24 hours is one call.",
    ),
]

CheckUrl = Callable[[str], object]
"""Raises ``ValueError`` when a webhook may not go to a URL."""


def check_receiver(check_url: CheckUrl | None, url: str | None) -> None:
    """Raise `BadRequest` when webhooks may not go to *url*; *check_url* None: none may."""
    if url is None:
        return
    if check_url is None:
        raise BadRequest("webhook_url", "[webhook] secret is not configured")
    try:
        check_url(url)
    except ValueError as failure:
        raise BadRequest("webhook_url", str(failure)) from failure


class WebCalls(Protocol):
    """Who opens rooms for browsers, and knows what a plan allows; on the main loop."""

    async def create(self, body: CreateCall, who: Access, *, key: str | None) -> Accepted:
        """Accept a web call, once for each *key*. Raises BadRequest, OverLimit, Unavailable."""

    def admission_of(self, who: Access) -> Admit:
        """Return what has a word before a phone call is made for *who*, and counts it."""


class Maker:
    """Makes calls. *check_url* None: webhooks have no secret, so nobody may name one."""

    def __init__(
        self,
        doors: Doors,
        reading: Reading,
        *,
        check_url: CheckUrl | None = None,
        web_calls: WebCalls | None = None,
    ) -> None:
        self._doors = doors
        self._reading = reading
        self._check_url = check_url
        self._web_calls = web_calls

    async def make(
        self, body: CreateCall, who: Access, idempotency_key: str | None
    ) -> CallAccepted:
        """Accept a call. Raises `BadRequest`, `OverLimit`, `Unavailable`."""
        check_receiver(self._check_url, body.webhook_url)
        await self._check_room(body.room, who)
        key = own_key(who, idempotency_key)
        if body.is_sip:
            admit = anybody if self._web_calls is None else self._web_calls.admission_of(who)
            request = body.request(tenant=who.tenant)
            accepted = await self._doors.ask(
                self._doors.service.dial(request, key=key, admit=admit)
            )
        elif self._web_calls is not None:
            accepted = await self._doors.ask(self._web_calls.create(body, who, key=key))
        else:
            raise BadRequest("call_type", "voip (web calls) is not served here, allowed: sip")
        return CallAccepted.of(accepted)

    async def _check_room(self, room: str | None, who: Access) -> None:
        """Raise `BadRequest` for a room with a call that is not theirs to hear.

        Of a tenant's key also `Unavailable`, when nobody can tell whether there is one.
        """
        if room is None or who.scope is None:
            return
        if not all(who.sees(tenant) for tenant in await self._reading.tenants_in(room)):
            raise BadRequest("room", "is in use")

"""The carrier's registrar: takes registrations and knows by which connection they came.

Written by hand from RFC 3261 10.3; nothing of the bridge's registration.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bridge.carrier.challenge import Gate
from bridge.carrier.wire import Peer
from bridge.sip.message import Request

MAX_NONCES = 1000

Fields = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Where an address of record is reached. ``expires`` in seconds, as granted."""

    contact: str
    peer: Peer
    expires: int


class Registrar:
    """Bindings by address of record.

    ``min_expires``: who asks for less gets 423. ``grants``: nobody is given longer.
    ``service_route``: what goes into the Service-Route of every 200 (RFC 3608).
    """

    def __init__(
        self,
        *,
        min_expires: int = 0,
        grants: int = 86_400,
        service_route: tuple[str, ...] = (),
    ) -> None:
        self.min_expires = min_expires
        self.grants = grants
        self.service_route = service_route
        self.bindings: dict[str, Binding] = {}
        self.taken = 0  # REGISTERs that were granted
        self._gates: dict[str, Gate] = {}  # by Call-ID
        self._changed = asyncio.Event()

    def challenge(self, request: Request, credentials: tuple[str, str] | None) -> Fields | None:
        """Return the header fields of a 401; None when the credentials are right."""
        if credentials is None:
            return None
        gate = self._gates.get(request.call_id)
        if gate is not None and gate.fault(request, credentials) is None:
            return None
        while len(self._gates) >= MAX_NONCES:
            del self._gates[next(iter(self._gates))]
        gate = self._gates[request.call_id] = Gate(status=401)
        return tuple(gate.challenge())

    def take(self, request: Request, peer: Peer) -> tuple[int, Fields]:
        """Take a REGISTER; return the status and header fields of the answer."""
        record = str(request.to.uri)
        contact = request.contact
        if contact is None:
            return 200, ()
        wish = contact.param("expires") or request.headers.get("Expires") or "3600"
        if not wish.isdigit():
            return 400, ()
        asked = int(wish)
        if 0 < asked < self.min_expires:
            return 423, (("Min-Expires", str(self.min_expires)),)
        self.taken += 1
        self._changed.set()
        if asked == 0:
            self.bindings.pop(record, None)
            return 200, ()
        expires = min(asked, self.grants)
        self.bindings[record] = Binding(contact=str(contact.uri), peer=peer, expires=expires)
        granted = f"<{contact.uri}>;expires={expires}"
        return 200, (
            ("Contact", granted),
            *(("Service-Route", route) for route in self.service_route),
        )

    async def until(self, record: str, *, registered: bool, timeout: float = 30.0) -> None:
        """Wait until *record* is registered here, or is not."""
        async with asyncio.timeout(timeout):
            while (record in self.bindings) is not registered:
                self._changed.clear()
                await self._changed.wait()

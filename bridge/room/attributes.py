"""Our participant's attributes, written beside the messages and never in their way.

The SDK sends the request first and only then listens for the server's confirmation;
about one confirmation in 300 is missed that way, and the call then takes its full 5 s
(measured: livekit 1.1.21, loopback). So nothing waits for it longer than `PATIENCE`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

import structlog

_log = structlog.get_logger(__name__)

PATIENCE: Final = 0.25
"""Seconds after which a request has certainly been sent, confirmed or not."""


class AttributeTarget(Protocol):
    """What of ``rtc.LocalParticipant`` is used."""

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        """Merge *attributes* into the participant's."""


class AttributeWriter:
    """Keeps all attributes and writes changes one request after the other.

    Changes that come while a request is under way are merged into the next one.
    """

    def __init__(self) -> None:
        self._all: dict[str, str] = {}
        self._changed: dict[str, str] = {}
        self._target: AttributeTarget | None = None
        self._writing: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()

    def put(self, attributes: Mapping[str, str]) -> None:
        """Merge *attributes*; written as soon as there is a connection."""
        self._all.update(attributes)
        self._changed.update(attributes)
        self._write()

    async def restore(self, target: AttributeTarget) -> None:
        """Write all attributes to a new connection, and changes from now on."""
        self._target = target
        self._changed.clear()
        if self._all:
            await self._request(target, dict(self._all))
        self._write()

    def carried(self) -> dict[str, str]:
        """Return all attributes, which a join takes with it; `attach` then writes what is newer."""
        self._changed.clear()
        return dict(self._all)

    def attach(self, target: AttributeTarget) -> None:
        """Write what has changed since `carried`, and changes from now on."""
        self._target = target
        self._write()

    def pause(self) -> None:
        """Keep changes: the connection is away."""
        self._target = None

    async def settled(self, timeout: float) -> None:
        """Wait until every change has been sent, at most *timeout* seconds."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=timeout)

    def _write(self) -> None:
        if self._target is not None and self._changed and self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._target is not None and self._changed:
                batch, self._changed = self._changed, {}
                await self._request(self._target, batch)
        finally:
            self._writing = None

    async def _request(self, target: AttributeTarget, attributes: dict[str, str]) -> None:
        request = asyncio.get_running_loop().create_task(target.set_attributes(attributes))
        self._requests.add(request)
        request.add_done_callback(self._requested)
        await asyncio.wait({request}, timeout=PATIENCE)

    def _requested(self, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        if not request.cancelled() and request.exception() is not None:
            # Mostly the missed confirmation; the whole set is written again at a rejoin.
            _log.debug("room.attributes_unconfirmed", error=type(request.exception()).__name__)

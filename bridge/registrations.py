"""The registrations of trunks with ``register``: begun, told of, moved, taken back.

The protocol is `bridge.sip.registrar`'s; here is when. Lives on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import structlog

from bridge.config.trunk import TrunkConfig
from bridge.sip.events import RegistrationChanged
from bridge.sip.registration import RegistrationSettings

_log = structlog.get_logger(__name__)

LOOK: Final = 15.0
"""Seconds between two looks at the address we have towards a registrar."""


class Registering(Protocol):
    """What is wanted of the user agent."""

    def register(self, settings: RegistrationSettings) -> None:
        """Keep a trunk registered."""

    def unregister(self, trunk: str) -> None:
        """Take its registration back."""

    def moved(self, trunk: str) -> None:
        """Register anew: our address has changed."""


class Registrations:
    """What is registered, by trunk. *told* hears of every attempt that is settled.

    *settings* writes what is registered for a trunk; *address* is ours towards its
    registrar, None when it cannot change.
    """

    def __init__(
        self,
        agent: Registering,
        settings: Callable[[TrunkConfig], RegistrationSettings],
        *,
        told: Callable[[RegistrationChanged], None] = lambda _: None,
        address: Callable[[TrunkConfig], str | None] = lambda _: None,
    ) -> None:
        self._agent = agent
        self._settings = settings
        self._told = told
        self._address = address
        self._trunks: dict[str, TrunkConfig] = {}
        self._seen_at: dict[str, str | None] = {}
        self._held: set[str] = set()  # bindings that are to be taken back one day
        self._changed = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    def start(self, trunks: Iterable[TrunkConfig]) -> None:
        """Register these trunks from now on, and no others."""
        wanted = {trunk.name: trunk for trunk in trunks if trunk.register_}
        for name in self._trunks.keys() - wanted.keys():
            self._agent.unregister(name)
        self._trunks = wanted
        for trunk in wanted.values():
            self._seen_at[trunk.name] = self._address(trunk)
            self._held.add(trunk.name)
            try:
                self._agent.register(self._settings(trunk))
            except Exception:  # a trunk that cannot be registered costs no other
                _log.exception("trunk.register_failed", trunk=trunk.name)
                self._held.discard(trunk.name)
        if wanted and self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._look())

    def heard(self, event: RegistrationChanged) -> None:
        """Take what the SIP core tells."""
        match event.what:
            case "registered":
                _log.info("trunk.registered", trunk=event.trunk, expires=round(event.expires))
            case "removed":
                _log.info("trunk.unregistered", trunk=event.trunk, sip_status=event.status)
                if event.trunk not in self._trunks:
                    self._held.discard(event.trunk)
            case why:
                _log.warning(
                    "trunk.not_registered",
                    trunk=event.trunk,
                    sip_status=event.status,
                    why=why,
                    still=event.registered,
                    again=None if event.again is None else round(event.again),
                )
        self._told(event)
        self._changed.set()

    async def stop(self, timeout: float) -> None:
        """Take every registration back; at most *timeout* seconds are waited for answers."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        names, self._trunks = list(self._trunks), {}
        for name in names:
            self._agent.unregister(name)
        try:
            async with asyncio.timeout(timeout):
                while self._held:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            _log.warning("trunk.unregister_unanswered", trunks=sorted(self._held))
            self._held.clear()

    async def _look(self) -> None:
        """Notice that our address has changed: a new network, another route."""
        while True:
            await asyncio.sleep(LOOK)
            for trunk in list(self._trunks.values()):
                address = self._address(trunk)
                before = self._seen_at.get(trunk.name)
                if address is not None and before is not None and address != before:
                    _log.info("trunk.moved", trunk=trunk.name)
                    self._agent.moved(trunk.name)
                self._seen_at[trunk.name] = address or before

"""What is written behind the calls: the store, the projection of the journal into it, webhooks.

Calls never wait for any of it. A store that does not answer is waited for in the background; one
that cannot be used (a newer schema, a wrong URL) stops the start in one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from bridge.config.config import Config
from bridge.journal.journal import Journal
from bridge.sessions.shape import session_shape
from bridge.store.claims import Claims
from bridge.store.errors import StoreAway, StoreError
from bridge.store.project import Projection
from bridge.store.queries import CallFilter
from bridge.store.store import Store, transcript_of
from bridge.transcript import shapes
from bridge.webhook.deliverer import Deliverer
from bridge.webhook.delivery import Receivers
from bridge.webhook.hook import Hook
from bridge.webhook.outbox import Outbox
from bridge.webhook.sender import Settings

PATIENCE: Final = 4.0  # seconds a stop waits for the store to take what is left
_SQLITE: Final = "sqlite:///"


class Books:
    """The store of one instance, and what leaves by it.

    *folder* is where a relative SQLite file lies, *version* is ours, for receivers.
    """

    def __init__(self, config: Config, journal: Journal, folder: Path, *, version: str) -> None:
        self.store = Store(
            store_url(config.store.url, folder),
            instance=config.store.instance_name,
            mask_numbers=config.privacy.mask_numbers,
        )
        self._hook = Hook(
            Receivers(url=config.webhook.url),
            events_of=journal.events,
            report=lambda call_id: self.store.reports([call_id]).get(call_id),
            session=_session,
            mask_numbers=config.privacy.mask_numbers,
        )
        self.erased: Callable[[str], None] = lambda _: None
        """Called with a call that was erased at another instance, on a thread of ours."""
        self.claims = Claims(self.store)
        self.projection = Projection(
            journal,
            self.store,
            deliveries=self._hook.of_event,
            session_deliveries=self._hook.of_session,
            retention_days=config.privacy.retention_days,
            wrote=self._wrote,
            erased=lambda call_id: self.erased(call_id),
        )
        self.outbox = Outbox(self.store)
        secret = config.webhook.secret.get_secret_value()
        self.deliverer = Deliverer(
            self.outbox,
            Settings(
                secret=secret,
                header_prefix=config.webhook.header_prefix,
                allow_private=config.webhook.allow_private,
                user_agent=f"trunkbridge/{version}",
            ),
        )
        self._delivers = bool(secret)  # nothing is sent that is not signed
        self._made = 0

    async def open(self) -> None:
        """Bring the store's tables up to date. Raises `StoreError` when that can never be."""
        try:
            await asyncio.to_thread(self.store.prepare)
        except StoreAway:
            return  # the projection tries again, and says so

    async def warm_up(self) -> None:
        """Ask once what everybody asks: the first question costs tens of milliseconds."""
        with suppress(StoreError):
            await asyncio.to_thread(self.store.calls, CallFilter(), limit=1)

    def start(self) -> None:
        """Follow the journal from now on, and send what is to be sent."""
        self.projection.start()
        if self._delivers:
            self.deliverer.start()

    def _wrote(self) -> None:
        """Hear of a transaction of the projection, on its thread."""
        if self._made != self._hook.made:
            self._made = self._hook.made
            self.deliverer.wake()

    async def stop(self) -> None:
        """Write what there is, if the store answers within `PATIENCE`, and stop."""
        if not await asyncio.to_thread(self.projection.stop, PATIENCE):
            await asyncio.to_thread(self.store.close)  # who still waits for it is told so
        await asyncio.to_thread(self.deliverer.stop)  # the last events leave now, if they can
        await asyncio.to_thread(self.store.close)
        self.claims.close()


def _session(
    connection: Connection, record: Mapping[str, Any], private: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a voice session as seed 004 shows it, with the turns that are in the store."""
    said = transcript_of(connection, str(record["id"]))
    return session_shape(record, private, turn_count=shapes.turn_count(said))


def store_url(url: str, folder: Path) -> str:
    """Return *url* with a relative SQLite file put into *folder*."""
    file = url.removeprefix(_SQLITE)
    if file == url or not file or file.startswith((":memory:", "/", "file:")):
        return url
    return f"{_SQLITE}{(folder / file).absolute()}"

"""What is written behind the calls: the store, and the projection of the journal into it.

Calls never wait for it. A store that does not answer is waited for in the background; one
that cannot be used (a newer schema, a wrong URL) stops the start in one line.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from bridge.config import Config
from bridge.journal import Journal
from bridge.store.deliveries import Deliveries
from bridge.store.errors import StoreAway
from bridge.store.project import Projection
from bridge.store.store import Store

_SQLITE: Final = "sqlite:///"


class Books:
    """The store of one instance. *folder* is where a relative SQLite file lies."""

    def __init__(
        self,
        config: Config,
        journal: Journal,
        folder: Path,
        *,
        deliveries: Deliveries | None = None,
    ) -> None:
        self.store = Store(
            store_url(config.store.url, folder),
            instance=config.store.instance_name,
            mask_numbers=config.privacy.mask_numbers,
        )
        self.projection = Projection(
            journal,
            self.store,
            deliveries=deliveries,
            retention_days=config.privacy.retention_days,
        )

    async def open(self) -> None:
        """Bring the store's tables up to date. Raises `StoreError` when that can never be."""
        try:
            await asyncio.to_thread(self.store.prepare)
        except StoreAway:
            return  # the projection tries again, and says so

    def start(self) -> None:
        """Follow the journal from now on."""
        self.projection.start()

    async def stop(self) -> None:
        """Write what there is, if the store answers, and stop."""
        await asyncio.to_thread(self.projection.stop)
        await asyncio.to_thread(self.store.close)


def store_url(url: str, folder: Path) -> str:
    """Return *url* with a relative SQLite file put into *folder*."""
    file = url.removeprefix(_SQLITE)
    if file == url or not file or file.startswith((":memory:", "/", "file:")):
        return url
    return f"{_SQLITE}{(folder / file).absolute()}"

"""A call service with a queue on a real SQLite file, SIP and rooms faked."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from bridge.config.config import Config
from bridge.queue.dispatcher import Queue, has_begun
from bridge.queue.table import QueueTable
from bridge.store.store import Store
from tests.unit.call.desk import Desk, config, trunk

NUMBER = "+919876543210"


def limited(**changes: Any) -> Config:
    return config(trunk(**{"max_calls": 1, "calls_per_second": 100, **changes}))


@cache
def _made() -> Path:
    """A SQLite file with the tables, to be copied."""
    path = Path(tempfile.mkdtemp(prefix="trunkbridge-queue-")) / "made.db"
    Store.open(f"sqlite:///{path}", instance="test").close()
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    return path


class Hall:
    """A desk and its queue. ``away`` makes the database unreachable."""

    def __init__(self, folder: Path, settings: Config, *, size: int, max_wait: float) -> None:
        self.desk = Desk(folder / "journal.db", settings)
        self.service = self.desk.service
        if not (folder / "store.db").exists():
            shutil.copy(_made(), folder / "store.db")
        self.store = Store.open(f"sqlite:///{folder / 'store.db'}", instance="test")
        self.table = QueueTable(self.store, "test")
        self.handed: list[str] = []
        self.queue = Queue(
            self.table,
            self.service,
            self.desk.ledger,
            me="test",
            size=size,
            max_wait=max_wait,
            known=lambda call_id: self.desk.journal.record(call_id) is not None,
            begun=lambda call_id: has_begun(self.desk.journal.record(call_id)),
            handed_over=self._handed_over,
        )
        self.service.queue_with(self.queue)

    async def _handed_over(self, call_id: str) -> None:
        self.handed.append(call_id)

    async def record(self, call_id: str) -> dict[str, Any]:
        found = await self.service.find(call_id)
        assert found is not None
        return found


@asynccontextmanager
async def a_hall(
    folder: Path,
    settings: Config | None = None,
    *,
    size: int = 10,
    max_wait: float = 300,
    start: bool = True,
) -> AsyncIterator[Hall]:
    """A running service with a queue; what a test leaves running is ended."""
    hall = Hall(folder, settings or limited(), size=size, max_wait=max_wait)
    hall.queue.take_up(hall.desk.journal.open_calls())
    if start:
        hall.queue.start()
    try:
        yield hall
    finally:
        hall.desk.ledger.may_write.set()
        await hall.queue.stop()
        hall.service.shut_down()
        await hall.service.until_idle(5)
        await hall.desk.ledger.written()
        hall.desk.journal.close()
        hall.store.close()


async def until(condition: Callable[[], bool], patience: float = 5) -> None:
    """Wait until *condition* holds."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 (a condition of several parts, without events)
            await asyncio.sleep(0.005)

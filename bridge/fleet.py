"""This instance beside others on one store: the queue, commands, and calls of those gone.

A plug, as `bridge.adapters`: only the daemon uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from bridge.adapters import Ledger
from bridge.call.service import CallService
from bridge.call.switchboard import Switchboard
from bridge.config.config import Config
from bridge.errors import BridgeError
from bridge.events import CallEnded, CallEvent
from bridge.journal.entries import Entry, OpenCall
from bridge.journal.journal import Journal
from bridge.queue.commands import Commands
from bridge.queue.dispatcher import Queue, has_begun
from bridge.queue.sweeper import Orphan, Sweeper
from bridge.queue.table import QueueTable
from bridge.store.store import Store


class Fleet:
    """The queue and what instances do for each other. *tell* publishes an event.

    *adopt* goes on with a call whose instance is gone; False: it cannot, and is ended.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        journal: Journal,
        ledger: Ledger,
        service: CallService,
        switchboard: Switchboard,
        *,
        tell: Callable[[CallEvent], None],
        ended_after_crash: Callable[[Mapping[str, Any], CallEnded], None],
        adopt: Callable[[Orphan], Awaitable[bool]],
    ) -> None:
        me = config.store.instance_name
        self._store = store
        self._journal = journal
        self._tell = tell
        self._ended_after_crash = ended_after_crash
        self._adopt = adopt
        self._table = QueueTable(store, me)
        self.queue = Queue(
            self._table,
            service,
            ledger,
            me=me,
            size=config.queue.size,
            max_wait=config.queue.max_wait,
            known=self._known,
            begun=self._begun,
            handed_over=self._disown,
        )
        service.queue_with(self.queue)
        self.commands = Commands(store, me, switchboard.do_here)
        switchboard.elsewhere = self.commands
        self.sweeper = Sweeper(store, me, self._end, known=self._known)

    async def take_up(self, open_calls: Sequence[OpenCall]) -> frozenset[str]:
        """Return those of *open_calls* that are no crashed calls of this instance.

        They wait in the queue again, or another instance has made them its own meanwhile.
        """
        waiting = self.queue.take_up(open_calls)
        rest = [call.call_id for call in open_calls if call.call_id not in waiting]
        others = await self.sweeper.not_ours(rest)
        for call_id in others:
            await self._disown(call_id)
        return waiting | others

    def start(self) -> None:
        """Dispatch, listen and sweep from now on, once crashed calls have their end."""
        self.queue.start()
        self.commands.start()
        self.sweeper.start()

    async def stop(self) -> None:
        """Leave what waits to the next start, or to the others.

        Takes no longer than the most patient of them: a store that is silent is left alone.
        """
        await asyncio.gather(self.queue.stop(), self.commands.stop(), self.sweeper.stop())

    def reload(self, config: Config) -> None:
        """Take ``[queue]`` as it is now."""
        self.queue.reload(size=config.queue.size, max_wait=config.queue.max_wait)

    def place_of(self, call_id: str) -> tuple[bool, float | None]:
        """Return whether a call waits, and when it was dialled if it had waited lately.

        Blocks. Raises `StoreError`.
        """
        row = self._table.row(call_id)
        return (False, None) if row is None else (not row.taken, row.dialled_at)

    def _known(self, call_id: str) -> bool:
        return self._journal.record(call_id) is not None

    def _begun(self, call_id: str) -> bool:
        return has_begun(self._journal.record(call_id))

    async def _disown(self, call_id: str) -> None:
        with suppress(BridgeError):  # the next start asks again
            await asyncio.to_thread(self._journal.disown, call_id)

    async def _end(self, orphan: Orphan, event: CallEnded, record: Mapping[str, Any]) -> None:
        if await self._adopt(orphan):  # a web call goes on in LiveKit
            return
        entry = Entry(
            call_id=orphan.call_id,
            created_at=orphan.created_at,
            event=event.as_dict(),
            record=dict(record),
            private=orphan.private,
            ended=True,
        )
        await self._journal.append([entry])
        self._ended_after_crash(record, event)
        self._tell(event)

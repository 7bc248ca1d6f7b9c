"""Idempotency-Keys between instances: the same request once, wherever it comes.

The journal of an instance knows the keys used there. On a PostgreSQL that several share, a key is
reserved before anything is dialled; whoever comes meanwhile waits for the answer. The row of a
reservation has no answer and lapses, so that a crash holds no key for long; the answer is put
in at once, and again, for good, by the projection of the journal that has it.

A store that does not answer is no reason to refuse a call: after `PATIENCE` the journal alone
counts, and two instances that are asked at that time with one key do not see each other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from bridge.call.idempotency import LIFETIME, Claim, check_same
from bridge.call.requests import Unavailable
from bridge.store.errors import StoreError
from bridge.store.store import Store
from bridge.store.tables import idempotency as keys
from bridge.store.upsert import insert_of

T = TypeVar("T")

PATIENCE: Final = 1.0
"""Seconds a call waits for the store's word."""
WAIT: Final = 5.0
"""Seconds for the answer that another instance is about to give to the same request."""
LOOK: Final = 0.1  # seconds between looks for it
LEASE: Final = 30.0  # seconds a reservation counts; from it to the answer it is milliseconds
_THREADS: Final = 2  # of their own: whoever else waits for the store holds up no call


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Another instance is about to answer a request with this body."""

    body_digest: str


class Claims:
    """The keys that one store has. `bridge.call.idempotency.SharedClaims`, on any loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="claims")
        self._shared = not store.database.is_sqlite
        self._late: dict[str, asyncio.Future[Any]] = {}  # looks that nobody waits for, by key

    async def reserve(self, key_digest: str, body_digest: str, *, at: float) -> Claim | None:
        """Return the claim made with this key, or None: the request is to be done here.

        Raises `BadRequest` for another body, and `Unavailable` when another instance is doing
        it and has no answer yet.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + WAIT
        busy = Unavailable("another instance is at the same request", retry_after=1)
        seen = False
        while True:
            try:
                found = await self._looked(key_digest, body_digest, at)
            except (StoreError, TimeoutError) as failure:
                if seen:  # whatever became of it there, it is not to be done twice
                    self.release(key_digest)
                    raise busy from failure
                return None
            if found is not None:
                check_same(found.body_digest, body_digest)
            if not isinstance(found, Reserved):
                return found
            if loop.time() >= until:
                raise busy
            seen = True
            await asyncio.sleep(LOOK)

    async def _looked(
        self, key_digest: str, body_digest: str, at: float
    ) -> Claim | Reserved | None:
        look = self._late[key_digest] = self._begin(self._look, key_digest, body_digest, at)
        try:
            return await asyncio.wait_for(asyncio.shield(look), PATIENCE)
        finally:
            if look.done():
                del self._late[key_digest]

    def settle(self, claim: Claim) -> None:
        """Tell others the answer; nobody waits for that."""
        self._tell(claim.key_digest, self._write, claim)

    def release(self, key_digest: str) -> None:
        """Let others try: the request was refused. Nobody waits for that."""
        self._tell(key_digest, self._remove, key_digest)

    def close(self) -> None:
        """Ask nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, ask: Callable[..., T], *given: Any) -> asyncio.Future[T]:
        try:
            answer = asyncio.get_running_loop().run_in_executor(self._threads, partial(ask, *given))
        except RuntimeError as failure:
            raise StoreError("the store is closed") from failure
        answer.add_done_callback(_looked_at)  # perhaps nobody waits for it by then
        return answer

    def _tell(self, key_digest: str, say: Callable[..., None], *given: Any) -> None:
        """Say it behind a look that is late: what that reserves is not to be the last word."""
        late = self._late.pop(key_digest, None)
        if not self._shared:
            return
        if late is None or late.done():
            self._say(say, *given)
        else:
            late.add_done_callback(lambda _: self._say(say, *given))

    def _say(self, say: Callable[..., None], *given: Any) -> None:
        with suppress(StoreError):  # closed: the reservation lapses
            self._begin(say, *given)

    # In threads.

    def _look(self, key_digest: str, body_digest: str, at: float) -> Claim | Reserved | None:
        if not self._shared:  # there is nobody else
            return self._store.claim(key_digest, since=at - LIFETIME)
        now = sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        with self._store.writing() as connection:
            insert = insert_of(connection, keys).values(
                key_digest=key_digest,
                body_digest=body_digest,
                call_id=None,
                at=at,
                answer="",
                owner=self._store.instance,
                owned_until=now + LEASE,
            )
            # One of ours is of an earlier life: in this one, a key is asked for once at a time.
            lapsed = sa.or_(keys.c.owner == self._store.instance, keys.c.owned_until < now)
            taken = connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["key_digest"],
                    set_={
                        name: insert.excluded[name]
                        for name in (
                            "body_digest",
                            "call_id",
                            "at",
                            "answer",
                            "owner",
                            "owned_until",
                        )
                    },
                    where=sa.or_(keys.c.at < at - LIFETIME, sa.and_(keys.c.answer == "", lapsed)),
                ).returning(keys.c.key_digest)
            ).first()
            if taken is not None:
                return None
            row = connection.execute(
                sa.select(keys.c.body_digest, keys.c.at, keys.c.answer).where(
                    keys.c.key_digest == key_digest
                )
            ).first()
        if row is None:  # released at this very moment: ask again
            return Reserved(body_digest=body_digest)
        if not row.answer:
            return Reserved(body_digest=row.body_digest)
        return Claim(
            key_digest=key_digest,
            body_digest=row.body_digest,
            at=row.at,
            answer=json.loads(row.answer),
        )

    def _write(self, claim: Claim) -> None:
        with self._store.writing() as connection:
            connection.execute(
                sa.update(keys)
                .where(self._is_ours(claim.key_digest))
                .values(
                    call_id=claim.answer.get("call_id"),
                    at=claim.at,
                    answer=json.dumps(claim.answer),
                    owner=None,
                    owned_until=None,
                )
            )

    def _remove(self, key_digest: str) -> None:
        with self._store.writing() as connection:
            connection.execute(sa.delete(keys).where(self._is_ours(key_digest)))

    def _is_ours(self, key_digest: str) -> sa.ColumnElement[bool]:
        return sa.and_(
            keys.c.key_digest == key_digest,
            keys.c.owner == self._store.instance,
            keys.c.answer == "",
        )


def _looked_at(answer: asyncio.Future[Any]) -> None:
    if not answer.cancelled():
        answer.exception()

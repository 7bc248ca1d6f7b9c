"""The same request once: ``Idempotency-Key`` (contract 6).

Keys and bodies are kept as digests, in the journal, in the same transaction as the
call's first record: after a restart there is a call for every key, and no second one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from bridge.call.requests import Accepted, BadRequest, Unavailable
from bridge.errors import BridgeError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LIFETIME: Final = 24 * 3600.0  # seconds a key counts
FIELD: Final = "Idempotency-Key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A key, the body it came with and the answer it got. ``at`` is wall time."""

    key_digest: str
    body_digest: str
    at: float
    answer: dict[str, Any]


class ClaimArchive(Protocol):
    """The claims on disk."""

    def claim(self, key_digest: str, *, since: float) -> Claim | None:
        """Return the claim made at *since* or later, or None."""


class SharedClaims(Protocol):
    """The claims of all instances that share a store."""

    async def reserve(self, key_digest: str, body_digest: str, *, at: float) -> Claim | None:
        """Return the claim made with this key, or None: the request is to be done here.

        None as well when the store does not answer in time. Raises `BadRequest` for another
        body, and `Unavailable` when another instance is doing it and has no answer yet.
        """

    def settle(self, claim: Claim) -> None:
        """Tell others the answer; nobody waits for that."""

    def release(self, key_digest: str) -> None:
        """Let others try: the request was refused. Nobody waits for that."""


class Alone(SharedClaims):
    """There are no others."""

    async def reserve(self, key_digest: str, body_digest: str, *, at: float) -> Claim | None:
        """It is to be done here."""

    def settle(self, claim: Claim) -> None:
        """Nobody asks."""

    def release(self, key_digest: str) -> None:
        """Nobody asks."""


Act = Callable[[Callable[[Accepted], Claim]], Awaitable[Accepted]]
"""Does the request; makes the claim to be stored out of its answer."""


class Once:
    """Runs each keyed request once; those that come meanwhile get its answer or its failure.

    *archive* is this instance's, *shared* what others see of it.
    """

    def __init__(
        self,
        archive: ClaimArchive,
        wall: Callable[[], float],
        shared: SharedClaims | None = None,
    ) -> None:
        self._archive = archive
        self._wall = wall
        self._shared = shared or Alone()
        self._running: dict[str, tuple[str, asyncio.Future[Accepted]]] = {}

    async def run(self, key: str, request: DataclassInstance, act: Act) -> Accepted:
        """Return the answer to *request*. Raises `BadRequest` for a key of another body."""
        key_digest, body_digest = _digest(key), _body_digest(request)
        running = self._running.get(key_digest)
        if running is not None:
            check_same(running[0], body_digest)
            return await asyncio.shield(running[1])
        answer: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self._running[key_digest] = body_digest, answer
        try:
            accepted = await self._first(key_digest, body_digest, act)
        except BaseException as failure:
            if isinstance(failure, Exception):
                answer.set_exception(failure)
            else:  # whoever waits was not cancelled
                answer.set_exception(Unavailable("the request was given up: ask again"))
            answer.exception()  # there may be nobody else who waits
            raise
        else:
            answer.set_result(accepted)
            return accepted
        finally:
            del self._running[key_digest]

    async def _first(self, key_digest: str, body_digest: str, act: Act) -> Accepted:
        since = self._wall() - LIFETIME
        try:
            known = await asyncio.to_thread(self._archive.claim, key_digest, since=since)
        except BridgeError as failure:
            raise Unavailable("the journal cannot be read: no new calls") from failure
        if known is None:
            known = await self._shared.reserve(key_digest, body_digest, at=self._wall())
        if known is not None:
            check_same(known.body_digest, body_digest)
            return Accepted(**known.answer)

        def claim(accepted: Accepted) -> Claim:
            answer = asdict(accepted)
            at = self._wall()
            return Claim(key_digest=key_digest, body_digest=body_digest, at=at, answer=answer)

        try:
            accepted = await act(claim)
        except BaseException:  # whoever asked may be gone, too
            self._shared.release(key_digest)
            raise
        self._shared.settle(claim(accepted))
        return accepted


def check_same(known: str, given: str) -> None:
    """Raise `BadRequest` when a key was used for another body."""
    if known != given:
        raise BadRequest(FIELD, "was used for another body in the last 24 hours")


def _body_digest(request: DataclassInstance) -> str:
    return _digest(json.dumps(asdict(request), sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

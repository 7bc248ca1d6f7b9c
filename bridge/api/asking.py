"""What blocks, asked from the API's loop: the store, once it has what the journal has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from bridge.call.requests import Unavailable
from bridge.errors import BridgeError

T = TypeVar("T")

FRESH_WITHIN: Final = 0.25
"""Seconds a reader waits for the store to have what it may have written itself."""


class Projected(Protocol):
    """What brings the journal into the store."""

    async def caught_up(self, timeout: float) -> bool:
        """Wait until the store has what the journal has now; whether it does."""


async def is_fresh(projection: Projected | None) -> bool:
    """Wait a moment for *projection*; whether the store has what the journal has now."""
    return projection is not None and await projection.caught_up(FRESH_WITHIN)


async def asked(read: Callable[..., T], *given: Any) -> T:
    """Return what *read* returns, which blocks. Raises `Unavailable` when the store is away."""
    try:
        return await asyncio.to_thread(read, *given)
    except BridgeError as failure:
        raise Unavailable("the store cannot be read") from failure

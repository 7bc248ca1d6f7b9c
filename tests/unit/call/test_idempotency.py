"""The same request once, also for those who wait for somebody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bridge.call.idempotency import Claim, Once
from bridge.call.requests import Accepted, DialRequest, Unavailable

pytestmark = pytest.mark.unit

REQUEST = DialRequest(phone_number="+919876543210")


class NoClaims:
    def claim(self, key_digest: str, *, since: float) -> None:
        """Return None: nothing was claimed."""


async def test_who_waits_for_a_request_that_is_cancelled_is_refused_not_cancelled() -> None:
    once = Once(NoClaims(), lambda: 0.0)
    begun = asyncio.Event()

    async def act(_: Callable[[Accepted], Claim]) -> Accepted:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    first = asyncio.ensure_future(once.run("k", REQUEST, act))
    await begun.wait()
    second = asyncio.ensure_future(once.run("k", REQUEST, act))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(Unavailable):
        await second
    assert first.cancelled()

"""A call held and resumed again and again: the short form of ``python -m bench.flips``."""

from __future__ import annotations

import os
from typing import Any

import pytest

from bench import flips
from bridge.call.call import Call
from bridge.sip.events import SessionChanged

pytestmark = pytest.mark.unit

FLIPS = int(os.environ.get("TRUNKBRIDGE_FLIPS", "500"))


@pytest.mark.timeout(3600)
async def test_no_flip_loses_doubles_or_disorders_an_event() -> None:
    """Hold rule 2.3: events on the edge only. Failure 7.3: no hold signal. Every dialect."""
    result = await flips.run(FLIPS)
    assert (result.flips, result.events) == (FLIPS, 2 * FLIPS + 2)
    assert result.requests > 2 * FLIPS


async def test_the_flips_notice_an_event_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    post, seen = Call.post, []

    def forgetful(self: Call, event: Any) -> None:
        if isinstance(event, SessionChanged):
            seen.append(event)
        if len(seen) != 3 or not isinstance(event, SessionChanged):
            post(self, event)

    monkeypatch.setattr(Call, "post", forgetful)
    monkeypatch.setattr(flips, "PATIENCE", 0.5)
    with pytest.raises((flips.Broken, TimeoutError)):
        await flips.run(5)

"""The tasks that ask trunks whether they are there."""

from __future__ import annotations

import asyncio
import random

import pytest

from bridge.config.trunk import TrunkConfig
from bridge.observe.probing import Probing

pytestmark = pytest.mark.unit


def trunk(name: str, interval: float) -> TrunkConfig:
    return TrunkConfig(name=name, host="h", options_interval=interval)


class Asked:
    """Waits for a number of questions."""

    def __init__(self) -> None:
        self.names: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, trunk: TrunkConfig) -> None:
        self.names.put_nowait(trunk.name)
        if trunk.name == "broken":
            raise ValueError("no such URI")

    async def next(self, count: int) -> list[str]:
        async with asyncio.timeout(30):
            return [await self.names.get() for _ in range(count)]


async def test_only_trunks_with_an_interval_are_asked_and_again_and_again() -> None:
    asked = Asked()
    probing = Probing(asked, chance=random.Random(1))
    probing.start([trunk("a", 0.01), trunk("quiet", 0)])
    assert await asked.next(3) == ["a", "a", "a"]
    probing.stop()


async def test_a_reload_replaces_who_is_asked() -> None:
    asked = Asked()
    probing = Probing(asked)
    probing.start([trunk("a", 0.01)])
    await asked.next(1)
    probing.start([trunk("b", 0.01)])
    asked.names = asyncio.Queue()
    assert set(await asked.next(3)) == {"b"}
    probing.stop()


async def test_a_trunk_that_cannot_be_asked_costs_the_others_nothing() -> None:
    asked = Asked()
    probing = Probing(asked)
    probing.start([trunk("broken", 0.01), trunk("a", 0.01)])
    heard = [*await asked.next(8)]
    assert heard.count("broken") >= 2
    assert heard.count("a") >= 2
    probing.stop()

"""The events of all instances on one PostgreSQL, as each of them streams them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bridge.feed import Feed, Logged
from bridge.journal import Journal
from bridge.store.errors import StoreUnreachable
from bridge.store.project import Projection
from bridge.store.store import Store
from tests.postgres import Postgres
from tests.unit.store.making import entry

pytestmark = pytest.mark.unit

LIMIT = 60
EACH = 60


@pytest.fixture
def shared_url(postgres: Postgres, made_database: str) -> str:
    return postgres.new_database(template=made_database)


async def read(feed: Feed, after: int, count: int) -> list[Logged]:
    """Follow *feed* until *count* events were seen."""
    seen: list[Logged] = []
    with feed.seat():
        async for batch in feed.everything(after):
            seen += batch
            if len(seen) >= count:
                break
    return seen


async def test_every_instance_streams_the_events_of_all_once_and_in_one_order(
    shared_url: str, tmp_path: Path
) -> None:
    names = "abc"
    async with AsyncExitStack() as stack, asyncio.timeout(LIMIT):
        journals, stores = [], []
        for name in names:
            journals.append(Journal(tmp_path / f"{name}.db", instance=name))
            stack.push_async_callback(asyncio.to_thread, journals[-1].close)
            stores.append(Store.open(shared_url, instance=name))
            stack.push_async_callback(asyncio.to_thread, stores[-1].close)
            projection = Projection(journals[-1], stores[-1], interval=0.01)
            projection.start()
            stack.push_async_callback(asyncio.to_thread, projection.stop)

        async def write(name: str, journal: Journal) -> None:
            for seq in range(1, EACH + 1):
                await journal.append([entry(f"{name}{seq % 5}", (seq - 1) // 5 + 1)])

        count = EACH * len(names)
        early = [asyncio.create_task(read(Feed(one), 0, count)) for one in stores[:2]]
        await asyncio.gather(*(write(*one) for one in zip(names, journals, strict=True)))
        first, second = [await one for one in early]
        assert first == second
        assert len({(one.call_id, one.seq) for one in first}) == len(first) == count
        for call_id in {one.call_id for one in first}:
            seqs = [one.seq for one in first if one.call_id == call_id]
            assert seqs == list(range(1, len(seqs) + 1))
        # Resumed anywhere, at another instance: no gap, nothing twice.
        middle = count // 3
        rest = await read(Feed(stores[2]), first[middle].position, count - middle - 1)
        assert rest == first[middle + 1 :]


async def test_a_stream_outlives_a_store_that_is_away_for_a_while(
    shared_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "a.db", instance="a")
    store = Store.open(shared_url, instance="a")
    projection = Projection(journal, store, interval=0.01)
    projection.start()
    feed = Feed(store, keep_alive=0.05)
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def away(position: int, *, limit: int) -> list[tuple[int, str, int, str]]:
        loop.call_soon_threadsafe(asked.set)
        raise StoreUnreachable("away")

    async with asyncio.timeout(LIMIT):
        with feed.seat():
            events = feed.everything(0)
            await journal.append([entry("c1", 1)])
            while not (batch := await anext(events)):
                pass
            with monkeypatch.context() as patch:
                patch.setattr(store, "events_since", away)
                await journal.append([entry("c1", 2)])
                await asked.wait()
                assert await anext(events) == ()  # it lives
            seen = list(batch)
            while len(seen) < 2:
                seen += await anext(events)
    assert [one.seq for one in seen] == [1, 2]
    await asyncio.to_thread(projection.stop)
    await asyncio.to_thread(store.close)
    await asyncio.to_thread(journal.close)

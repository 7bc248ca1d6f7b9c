"""A PostgreSQL that stands still: no answer and no error, and nobody waits for long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterator

import psycopg
import pytest

from bridge.store import patience
from bridge.store.errors import StoreError, StoreUnreachable
from bridge.store.patience import Pulse, Silent
from bridge.store.store import Store
from tests.postgres import Postgres, server

pytestmark = pytest.mark.unit

LIMIT = 60  # seconds: what must come sometime, comes long before


@pytest.fixture(scope="module")
def stoppable() -> Iterator[Postgres]:
    with server() as running:
        yield running


@pytest.fixture
def frozen(stoppable: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """A server that tests may let stand still; it is found out soon."""
    monkeypatch.setattr(patience, "LATE", 0.2)
    yield stoppable
    stoppable.thaw()


async def back(store: Store) -> None:
    """Wait until *store* answers."""
    async with asyncio.timeout(LIMIT):
        while not await asyncio.to_thread(store.alive):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.05)


async def test_whoever_asks_a_server_that_stands_still_is_told_so(frozen: Postgres) -> None:
    store = Store.open(frozen.new_database(), instance="a")
    assert store.alive()
    frozen.freeze()
    async with asyncio.timeout(LIMIT):
        answers = await asyncio.gather(
            *(asyncio.to_thread(store.call, "c1") for _ in range(4)), return_exceptions=True
        )
    assert [type(one) for one in answers] == [StoreUnreachable] * 4
    frozen.thaw()
    await back(store)
    assert await asyncio.to_thread(store.call, "c1") is None
    store.close()


async def test_a_transaction_under_way_ends_and_leaves_nothing(frozen: Postgres) -> None:
    store = Store.open(frozen.new_database(), instance="a")
    store.renew()

    def half() -> None:
        with store.writing() as connection:
            connection.exec_driver_sql("delete from instances")
            frozen.freeze()
            connection.exec_driver_sql("select 1")

    with pytest.raises(StoreUnreachable):
        async with asyncio.timeout(LIMIT):
            await asyncio.to_thread(half)
    frozen.thaw()
    await back(store)
    with store.reading() as connection:
        assert connection.exec_driver_sql("select count(*) from instances").scalar() == 1
    store.close()


async def test_closing_the_store_ends_every_wait(
    frozen: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LATE", 3600.0)  # nobody finds out by itself
    store = Store.open(frozen.new_database(), instance="a")
    waits = threading.Event()

    def ask() -> None:
        with store.reading() as connection:
            connection.exec_driver_sql("select 1")
            waits.set()
            connection.exec_driver_sql("select pg_sleep(3600)")

    asked = asyncio.ensure_future(asyncio.to_thread(ask))
    await asyncio.to_thread(waits.wait)
    frozen.freeze()
    store.close()
    with pytest.raises(StoreError):
        await asyncio.wait_for(asked, LIMIT)
    with pytest.raises(StoreUnreachable):
        store.call("c1")


async def test_a_statement_that_is_only_slow_is_waited_for(
    frozen: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LATE", 0.05)
    store = Store.open(frozen.new_database(), instance="a")
    with store.reading() as connection:
        assert connection.exec_driver_sql("select 7 from pg_sleep(1)").scalar() == 7
    store.close()


async def test_while_nobody_answers_one_thread_asks_for_all(frozen: Postgres) -> None:
    store = Store.open(frozen.new_database(), instance="a")
    frozen.freeze()
    with pytest.raises(StoreUnreachable):
        await asyncio.to_thread(store.call, "c1")
    store._away_until = 0.0  # the rest is over
    first = threading.Event()

    def knock() -> bool:
        first.set()
        return store.alive()

    asking = asyncio.ensure_future(asyncio.to_thread(knock))
    await asyncio.to_thread(first.wait)
    while not store._asking.locked() and not asking.done():  # noqa: ASYNC110 (a thread's lock)
        await asyncio.sleep(0)
    others = 0
    while store._asking.locked():
        with pytest.raises(StoreUnreachable):
            store.call("c1")  # on this very thread: it waits for nothing
        others += 1
        await asyncio.sleep(0.01)
    assert others > 10
    assert not await asking
    store.close()


def silence() -> Generator[int, int, None]:
    while True:
        yield 1


def test_several_that_wait_knock_once() -> None:
    now, knocks = 100.0, []

    def knock() -> None:
        knocks.append(now)
        raise psycopg.errors.ConnectionTimeout

    pulse = Pulse(knock, clock=lambda: now)
    waits = [pulse.watch(silence()) for _ in range(3)]
    for one in waits:
        next(one)
        one.send(0)
    assert not knocks
    now += patience.LATE + 0.1
    for one in waits:
        with pytest.raises(Silent):
            one.send(0)
    assert len(knocks) == 1


def test_a_server_that_refuses_lives_but_is_not_waited_for_without_end() -> None:
    now = 100.0

    def knock() -> None:
        raise psycopg.OperationalError("too many clients already")

    pulse = Pulse(knock, clock=lambda: now)
    wait = pulse.watch(silence())
    next(wait)
    while now < 100 + patience.ENOUGH:
        wait.send(0)
        now += 1
    now += 1
    with pytest.raises(Silent):
        wait.send(0)


def test_a_transaction_of_ours_that_stands_still_lets_go(postgres: Postgres) -> None:
    store = Store.open(postgres.new_database(), instance="a")
    with store.reading() as connection:
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            shown = connection.exec_driver_sql(f"show {name}").scalar()
            assert shown not in ("0", None)
    store.close()

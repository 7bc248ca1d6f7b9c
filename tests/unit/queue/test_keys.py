"""One Idempotency-Key at several instances on one PostgreSQL, at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.call.idempotency import Claim, Once
from bridge.call.requests import Accepted, BadRequest, DialRequest, Unavailable
from bridge.store import claims as claims_module
from bridge.store.claims import Claims
from bridge.store.errors import StoreAway
from bridge.store.store import Store
from tests.unit.queue.conftest import OpenStore

pytestmark = pytest.mark.unit

REQUEST = DialRequest(phone_number="+919876543210")
NOW = 1_780_000_000.0
LIMIT = 30


class NothingJournalled:
    def claim(self, key_digest: str, *, since: float) -> Claim | None:
        """Return None: the journals here know nothing."""


@dataclass
class Desk:
    """One instance: what it dials, once it may."""

    store: Store
    dialled: list[str]
    may: asyncio.Event
    wall: float = NOW
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    refuses: bool = False

    def __post_init__(self) -> None:
        self.claims = Claims(self.store)
        self.once = Once(NothingJournalled(), lambda: self.wall, self.claims)

    async def dial(self, key: str = "k", request: DialRequest = REQUEST) -> Accepted:
        async def act(claim: Callable[[Accepted], Claim]) -> Accepted:
            call_id = f"{self.store.instance}{len(self.dialled)}"
            self.asked.set()
            await self.may.wait()
            if self.refuses:
                raise Unavailable("full")
            accepted = Accepted(
                call_id=call_id, room_name="r", url="u", token="t", status="pending"
            )
            claim(accepted)
            self.dialled.append(call_id)
            return accepted

        return await self.once.run(key, request, act)


Open = Callable[[str], Desk]


@pytest.fixture
async def desk(store_of: OpenStore) -> AsyncIterator[Open]:
    dialled: list[str] = []
    may = asyncio.Event()
    desks: list[Desk] = []

    def open_(name: str) -> Desk:
        desks.append(Desk(store_of(name), dialled, may))
        return desks[-1]

    yield open_
    for one in desks:
        one.claims.close()


@asynccontextmanager
async def under_way(*asking: Awaitable[Accepted]) -> AsyncIterator[list[asyncio.Future[Accepted]]]:
    tasks = [asyncio.ensure_future(one) for one in asking]
    async with asyncio.timeout(LIMIT):
        yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_key_at_four_instances_at_once_is_one_call_and_one_answer(desk: Open) -> None:
    four = [desk(name) for name in "abcd"]
    four[0].may.set()
    answers = await asyncio.gather(*(one.dial() for one in four))
    assert len(four[0].dialled) == 1
    assert {one.call_id for one in answers} == set(four[0].dialled)


async def test_who_comes_while_another_dials_waits_for_its_answer(desk: Open) -> None:
    one, other = desk("a"), desk("b")
    async with under_way(one.dial()) as (first,):
        await one.asked.wait()
        async with under_way(other.dial()) as (second,):
            with pytest.raises(BadRequest):
                await desk("c").dial(request=DialRequest(phone_number="+911111111111"))
            one.may.set()
            assert await second == await first
    assert one.dialled == ["a0"]
    assert not other.asked.is_set()


async def test_who_waits_too_long_is_told_to_ask_again(
    desk: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "WAIT", 0.2)
    one, other = desk("a"), desk("b")
    async with under_way(one.dial()) as (first,):
        await one.asked.wait()
        with pytest.raises(Unavailable, match="another instance"):
            await other.dial()
        one.may.set()
        await first
    async with asyncio.timeout(LIMIT):
        assert (await other.dial()).call_id == "a0"


async def test_a_refusal_lets_the_next_one_try(desk: Open) -> None:
    one, other = desk("a"), desk("b")
    one.refuses = True
    async with under_way(one.dial()) as (first,):
        await one.asked.wait()
        async with under_way(other.dial()) as (second,):
            one.may.set()
            with pytest.raises(Unavailable, match="full"):
                await first
            assert (await second).call_id == "b0"


async def test_who_crashed_holds_a_key_for_itself_only_and_not_for_long(
    desk: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = desk("a")
    assert await one.claims.reserve("crashed", "b", at=NOW) is None
    again = desk("a")  # its next life
    assert await again.claims.reserve("crashed", "b", at=NOW) is None
    monkeypatch.setattr(claims_module, "LEASE", -1.0)
    assert await one.claims.reserve("lapsed", "b", at=NOW) is None
    assert await desk("b").claims.reserve("lapsed", "b", at=NOW) is None


async def test_a_store_that_takes_its_time_holds_no_call_up(
    desk: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "PATIENCE", 0.1)
    one = desk("a")
    one.may.set()
    with desk("b").store.writing() as connection:
        connection.exec_driver_sql("lock table idempotency")
        async with asyncio.timeout(LIMIT):
            answer = await one.dial()
    assert answer.call_id == "a0"
    assert one.dialled == ["a0"]


async def test_what_another_instance_was_seen_at_is_not_done_here_when_the_store_falls_silent(
    desk: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = desk("a"), desk("b")
    async with under_way(one.dial()):
        await one.asked.wait()
        look = other.claims._look
        looked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def look_once(*given: Any) -> Any:
            if looked.is_set():
                raise StoreAway("gone")
            loop.call_soon_threadsafe(looked.set)
            return look(*given)

        monkeypatch.setattr(other.claims, "_look", look_once)
        async with asyncio.timeout(LIMIT):
            with pytest.raises(Unavailable, match="another instance"):
                await other.dial()


async def test_a_refusal_frees_a_key_that_was_looked_up_late(
    desk: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = desk("a"), desk("b")
    one.may.set()
    one.refuses = True
    with other.store.writing() as connection, monkeypatch.context() as hurried:
        hurried.setattr(claims_module, "PATIENCE", 0.1)
        connection.exec_driver_sql("lock table idempotency")
        with pytest.raises(Unavailable, match="full"):
            await one.dial()
    async with asyncio.timeout(LIMIT):
        assert (await other.dial()).call_id == "b0"

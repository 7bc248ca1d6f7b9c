"""Several instances on one PostgreSQL: rows, commands, and calls of those gone."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from bridge.call.plan import CallPlan, Direction
from bridge.call.record import new_record
from bridge.call.requests import BadRequest, NotAllowed, Unavailable, WrongState
from bridge.errors import BridgeError
from bridge.events import CallEnded
from bridge.queue.commands import Commands
from bridge.queue.sweeper import Orphan, Sweeper
from bridge.queue.table import CLAIMED, DIALLED, DONE, ENDING, WAITING, QueueTable
from bridge.store.errors import StoreAway
from bridge.store.store import Store
from bridge.store.tables import calls, commands
from tests.unit.queue.conftest import OpenStore

pytestmark = pytest.mark.unit

NOW = 1000.0


def plan(call_id: str, *, trunk: str = "t", at: float = NOW) -> CallPlan:
    return CallPlan(
        call_id=call_id,
        direction=Direction.OUTBOUND,
        trunk=trunk,
        room=f"call-{call_id}",
        created_at=at,
        phone_number="+919876543210",
        metadata={"a": [1]},
    )


def record(store: Store, call_id: str, *, seq: int = 0, **columns: Any) -> None:
    """Put a call's record into the store as a projection of its instance would."""
    document = new_record(plan(call_id)).as_dict()
    values = {
        "id": call_id,
        "instance": store.instance,
        "journal": store.instance,
        "revision": 1,
        "seq": seq,
        "status": "pending",
        "direction": "outbound",
        "call_type": "sip",
        "is_session": 0,
        "is_passthrough": 0,
        "created_at": NOW,
        "record": json.dumps(document),
        "private": "{}",
        **columns,
    }
    with store.writing() as connection:
        connection.execute(sa.insert(calls).values(values))


def instance_of(store: Store, call_id: str) -> str | None:
    with store.reading() as connection:
        return connection.execute(sa.select(calls.c.instance).where(calls.c.id == call_id)).scalar()


# Rows.


def test_a_row_is_claimed_by_one_instance_only(store_of: OpenStore) -> None:
    tables = [QueueTable(store_of(name), name) for name in "abcd"]
    for n in range(20):
        tables[0].put(plan(f"c{n:02}", at=NOW + n), until=9e9)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(tables[n % 4].claim, "t", now=NOW, until=NOW + 30) for n in range(24)]
        rows = [row for one in asked if (row := one.result()) is not None]
    claimed = [row.call_id for row in rows]
    assert len(claimed) == len(set(claimed))
    while (row := tables[0].claim("t", now=NOW, until=NOW + 30)) is not None:
        claimed.append(row.call_id)
    assert sorted(claimed) == [f"c{n:02}" for n in range(20)]


def test_the_oldest_of_the_trunk_comes_first_with_its_whole_plan(store_of: OpenStore) -> None:
    table = QueueTable(store_of("a"), "a")
    for call_id, trunk, at in (("2", "t", 2.0), ("1", "t", 1.0), ("0", "other", 0.0)):
        table.put(plan(call_id, trunk=trunk, at=at), until=9e9)
    row = table.claim("t", now=NOW, until=NOW + 30)
    assert row is not None
    assert row.plan == plan("1", at=1.0)
    assert (row.state, row.owner) == (CLAIMED, "a")


def test_a_claim_counts_until_its_lease_is_over(store_of: OpenStore) -> None:
    one, other = (QueueTable(store_of(name), name) for name in "ab")
    one.put(plan("1"), until=9e9)
    assert one.claim("t", now=NOW, until=NOW + 30) is not None
    assert other.claim("t", now=NOW + 29, until=NOW + 60) is None
    assert other.claim("t", now=NOW + 31, until=NOW + 60) is not None
    assert not one.dialled("1", now=NOW + 32)
    assert other.dialled("1", now=NOW + 32)


def test_what_is_dialled_is_nobody_elses_again(store_of: OpenStore) -> None:
    one, other = (QueueTable(store_of(name), name) for name in "ab")
    one.put(plan("1"), until=9e9)
    assert one.claim("t", now=NOW, until=NOW + 30) is not None
    assert one.dialled("1", now=NOW)
    one.release_all()
    assert other.claim("t", now=9e9, until=9e9) is None
    assert other.take("1", now=9e9) is None
    one.put(plan("1"), until=9e9)
    assert other.row("1").state == DIALLED  # type: ignore[union-attr]
    one.settled("1")
    row = other.row("1")
    assert row is not None
    assert (row.state, row.owner, row.plan, row.dialled_at) == (DONE, "a", None, NOW)
    one.prune(before=NOW + 1)
    assert other.row("1") is None


def test_an_instance_that_starts_again_gives_back_what_it_had_claimed(store_of: OpenStore) -> None:
    one, other = (QueueTable(store_of(name), name) for name in "ab")
    one.put(plan("1"), until=9e9)
    one.put(plan("2"), until=9e9)
    assert one.claim("t", now=NOW, until=9e9) is not None
    assert other.claim("t", now=NOW, until=9e9) is not None
    one.release_all()
    assert sorted(row.state for row in one.rows(("1", "2")).values()) == [CLAIMED, WAITING]


def test_who_dials_a_call_is_its_instance_in_the_store(store_of: OpenStore) -> None:
    one, other = store_of("a"), store_of("b")
    table = QueueTable(other, "b")
    record(one, "1")
    table.put(plan("1"), until=9e9)
    table.claim("t", now=NOW, until=9e9)
    assert instance_of(one, "1") == "a"
    table.dialled("1", now=NOW)
    assert table.owner_of("1") == ("b", False)


def test_counts_and_overdue_calls_are_those_that_wait(store_of: OpenStore) -> None:
    table = QueueTable(store_of("a"), "a")
    for n in range(3):
        table.put(plan(str(n), at=NOW + n), until=NOW + 10 + n)
    table.claim("t", now=NOW, until=9e9)
    table.dialled("0", now=NOW)
    assert table.counts() == {"t": 2}
    assert table.overdue(before=NOW + 11.5) == ["1"]


# Commands.


class Hands:
    """Does what it is asked, and notes it."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str, dict[str, Any]]] = []
        self.failure: BridgeError | None = None

    async def __call__(self, call_id: str, verb: str, body: Mapping[str, Any]) -> bool:
        self.done.append((call_id, verb, dict(body)))
        if self.failure is not None:
            raise self.failure
        return True


@asynccontextmanager
async def two(store_of: OpenStore, patience: float = 5) -> AsyncIterator[tuple[Commands, Hands]]:
    """Instance ``a``, which asks, and the hands of ``b``, which runs the call ``1``."""
    one, other = store_of("a"), store_of("b")
    for store in (one, other):
        store.renew()
    record(other, "1")
    hands = Hands()
    asking = Commands(one, "a", Hands(), patience=patience)
    doing = Commands(other, "b", hands, patience=patience)
    asking.start()
    doing.start()
    try:
        yield asking, hands
    finally:
        await asking.stop()
        await doing.stop()


async def test_a_command_is_done_by_the_owner_once_and_answered(store_of: OpenStore) -> None:
    async with two(store_of) as (asking, hands):
        assert await asking.pass_on("1", "dtmf", digits="12") is True
        assert hands.done == [("1", "dtmf", {"from": "a", "digits": "12"})]


@pytest.mark.parametrize(
    "failure",
    [WrongState("not now"), NotAllowed("never"), BadRequest("to", "no number")],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_refusal_of_the_owner_is_the_askers(
    store_of: OpenStore, failure: BridgeError
) -> None:
    async with two(store_of) as (asking, hands):
        hands.failure = failure
        with pytest.raises(type(failure), match=str(failure)):
            await asking.pass_on("1", "hold")


async def test_what_was_done_is_not_done_again_though_its_answer_was_lost(
    store_of: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise StoreAway("no answer")

    monkeypatch.setattr(Commands, "_settle", away)
    async with two(store_of, patience=1.2) as (asking, hands):
        with pytest.raises(Unavailable):
            await asking.pass_on("1", "dtmf", digits="1")
        assert len(hands.done) == 1


async def test_ones_own_and_unknown_calls_are_nobody_elses(store_of: OpenStore) -> None:
    async with two(store_of) as (asking, hands):
        record(store_of("a"), "mine")
        assert await asking.pass_on("mine", "hold") is None
        assert await asking.pass_on("unknown", "hold") is None
        assert hands.done == []


async def test_a_call_that_has_ended_elsewhere_is_asked_nothing(store_of: OpenStore) -> None:
    async with two(store_of) as (asking, hands):
        record(store_of("b"), "2", ended_at=NOW)
        assert await asking.pass_on("2", "hang_up") is True
        with pytest.raises(WrongState):
            await asking.pass_on("2", "hold")
        assert hands.done == []


async def test_an_owner_whose_lease_is_over_is_not_waited_for(store_of: OpenStore) -> None:
    async with two(store_of) as (asking, hands):
        store_of("b").give_up()
        with pytest.raises(Unavailable):
            await asking.pass_on("1", "hold")
        assert hands.done == []


async def test_an_owner_that_does_not_answer_is_given_up_and_never_does_it_late(
    store_of: OpenStore,
) -> None:
    one, other = store_of("a"), store_of("b")
    other.renew()
    record(other, "1")
    asking = Commands(one, "a", Hands(), patience=0.2)
    asking.start()
    with pytest.raises(Unavailable, match="did not answer"):
        await asking.pass_on("1", "hang_up")
    await asking.stop()
    hands = Hands()
    late = Commands(other, "b", hands, patience=0.1)
    late.start()
    record(other, "2")
    with one.writing() as connection:
        connection.execute(
            sa.insert(commands).values(
                instance="b",
                call_id="2",
                verb="hold",
                body='{"from": "a"}',
                created_at=time.time() + 60,
            )
        )
    async with asyncio.timeout(30):
        while not hands.done:  # noqa: ASYNC110 (looked at every half second)
            await asyncio.sleep(0.02)
    await late.stop()
    assert [call_id for call_id, _, _ in hands.done] == ["2"]


# Rooms.


def test_whose_calls_other_instances_have_in_a_room(store_of: OpenStore) -> None:
    one, other = store_of("a"), store_of("b")
    record(one, "own", room_name="r", tenant_id="ours")
    record(other, "1", room_name="r", tenant_id="theirs")
    record(other, "2", room_name="r", tenant_id="theirs")
    record(other, "3", room_name="r")
    record(other, "over", room_name="r", tenant_id="somebody", ended_at=NOW)
    record(other, "else", room_name="s", tenant_id="somebody")
    assert sorted(one.tenants_elsewhere("r"), key=str) == [None, "theirs"]
    assert one.tenants_elsewhere("t") == []


# Calls of those gone.


class Graves:
    """Writes down who was ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, int, str]] = []

    async def __call__(self, orphan: Orphan, event: CallEnded, after: Mapping[str, Any]) -> None:
        self.ended.append((orphan.call_id, event.seq, str(after["reason"])))


def sweeper(store: Store, graves: Graves, *known: str) -> Sweeper:
    return Sweeper(store, store.instance, graves, known=lambda call_id: call_id in known)


async def test_calls_of_an_instance_that_is_gone_are_ended_once(store_of: OpenStore) -> None:
    gone, *rest = (store_of(name) for name in ("gone", "a", "b", "c"))
    for n in range(8):
        record(gone, str(n), seq=n)
    for store in (gone, *rest):
        store.renew()
    gone.give_up()
    graves = Graves()
    await asyncio.gather(*(sweeper(store, graves).sweep() for store in rest))
    assert sorted(graves.ended) == [(str(n), n + 1, "crash") for n in range(8)]


async def test_calls_of_those_that_live_are_left_alone_and_web_calls_are_not(
    store_of: OpenStore,
) -> None:
    """A web call lives in its room, without us; who ends orphans goes on with it."""
    one, other, gone = (store_of(name) for name in ("a", "b", "gone"))
    for store in (one, other):
        store.renew()
    gone.renew()
    gone.give_up()
    record(other, "1")
    record(gone, "web", call_type="voip")
    record(gone, "over", ended_at=NOW)
    graves = Graves()
    await sweeper(one, graves).sweep()
    assert [call_id for call_id, *_ in graves.ended] == ["web"]


async def test_a_call_that_waits_outlives_the_instance_that_accepted_it(
    store_of: OpenStore,
) -> None:
    one, other, gone = (store_of(name) for name in ("a", "b", "gone"))
    gone.renew()
    gone.give_up()
    record(gone, "waits")
    record(gone, "dialled by b")
    table = QueueTable(other, "b")
    table.put(plan("dialled by b"), until=9e9)
    table.claim("t", now=NOW, until=9e9)
    table.dialled("dialled by b", now=NOW)
    table.put(plan("waits"), until=9e9)
    graves = Graves()
    await sweeper(one, graves).sweep()
    assert graves.ended == []


async def test_a_call_taken_by_one_that_crashed_before_it_wrote_anything_has_an_end(
    store_of: OpenStore,
) -> None:
    one, gone = store_of("a"), store_of("gone")
    gone.renew()
    gone.give_up()
    table = QueueTable(gone, "gone")
    table.put(plan("1"), until=9e9)
    table.claim("t", now=NOW, until=9e9)
    table.dialled("1", now=NOW)
    graves = Graves()
    await sweeper(one, graves).sweep()
    await sweeper(one, graves).sweep()
    assert graves.ended == [("1", 1, "crash")]


async def test_who_crashes_before_the_end_is_journalled_leaves_it_to_its_next_life_or_to_another(
    store_of: OpenStore,
) -> None:
    one, other, gone = (store_of(name) for name in ("a", "b", "gone"))
    gone.renew()
    gone.give_up()
    table = QueueTable(gone, "gone")
    table.put(plan("1"), until=9e9)
    table.claim("t", now=NOW, until=9e9)
    table.dialled("1", now=NOW)

    async def crash(*_: object) -> None:
        raise BridgeError

    for name, store in (("a", one), ("b", other)):
        dying = Sweeper(store, name, crash, known=lambda _: False)
        with pytest.raises(BridgeError):
            await dying.sweep()
        row = table.row("1")
        assert row is not None
        assert (row.state, row.owner, row.taken) == (ENDING, name, True)
        assert row.plan is not None
        assert QueueTable(store, name).unsettled() == []  # the queue does not end it as well
        store.renew()
        if name == "a":
            store.give_up()
    graves = Graves()
    await sweeper(other, graves).sweep()
    assert graves.ended == [("1", 1, "crash")]
    row = table.row("1")
    assert row is not None
    assert (row.state, row.plan) == (DONE, None)


async def test_one_call_that_cannot_be_ended_keeps_no_other_from_its_end(
    store_of: OpenStore,
) -> None:
    one, gone = store_of("a"), store_of("gone")
    gone.renew()
    gone.give_up()
    table = QueueTable(gone, "gone")
    for call_id in ("1", "2", "3"):
        table.put(plan(call_id), until=9e9)
        table.claim("t", now=NOW, until=9e9)
        table.dialled(call_id, now=NOW)
    graves = Graves()
    strange = {"1"}

    async def end(orphan: Orphan, event: CallEnded, record: Mapping[str, Any]) -> None:
        if orphan.call_id in strange:
            raise KeyError("started_at")
        await graves(orphan, event, record)

    sweeping = Sweeper(one, "a", end, known=lambda _: False)
    assert await sweeping.sweep() == 2
    assert {call_id for call_id, *_ in graves.ended} == {"2", "3"}
    strange.clear()
    assert await sweeping.sweep() == 1


async def test_an_end_that_is_in_the_journal_is_not_written_again_for_want_of_the_store(
    store_of: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, gone = store_of("a"), store_of("gone")
    gone.renew()
    gone.give_up()
    table = QueueTable(gone, "gone")
    table.put(plan("1"), until=9e9)
    table.claim("t", now=NOW, until=9e9)
    table.dialled("1", now=NOW)
    graves = Graves()
    ending = sweeper(one, graves)
    settled = ending._settled
    monkeypatch.setattr(ending, "_settled", _away)
    with pytest.raises(StoreAway):
        await ending.sweep()
    monkeypatch.setattr(ending, "_settled", settled)
    await ending.sweep()
    assert graves.ended == [("1", 1, "crash")]
    row = table.row("1")
    assert row is not None
    assert row.state == DONE


def _away(_: str) -> None:
    raise StoreAway("away")


async def test_what_was_taken_without_an_answer_is_found_again(
    store_of: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, gone = store_of("a"), store_of("gone")
    gone.renew()
    gone.give_up()
    record(gone, "1", seq=2)
    graves = Graves()
    ending = sweeper(one, graves)
    take = ending._take

    def lost(names: list[str]) -> None:
        take(names)
        raise StoreAway("away")

    monkeypatch.setattr(ending, "_take", lost)
    with pytest.raises(StoreAway):
        await ending.sweep()
    monkeypatch.setattr(ending, "_take", take)
    await ending.sweep()
    assert graves.ended == [("1", 3, "crash")]


async def test_what_was_taken_in_an_earlier_life_and_not_ended_is_ended_now(
    store_of: OpenStore,
) -> None:
    one = store_of("a")
    record(one, "left", seq=4)
    record(one, "runs", seq=1)
    graves = Graves()
    again = sweeper(one, graves, "runs")
    await again.sweep()
    await again.sweep()
    assert graves.ended == [("left", 5, "crash")]


async def test_open_calls_that_another_has_made_its_own_are_not_ended_here(
    store_of: OpenStore,
) -> None:
    one, other = store_of("a"), store_of("b")
    record(one, "mine")
    record(other, "taken")
    found = await sweeper(one, Graves()).not_ours(["mine", "taken", "never stored"])
    assert found == {"taken"}

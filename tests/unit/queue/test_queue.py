"""Calls that wait: accepted, dialled in turn, ended, and taken up again after a crash."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from bridge.call.requests import DialRequest, OverLimit, Unavailable
from bridge.queue import dispatcher
from bridge.queue.dispatcher import QUEUED
from bridge.queue.table import CLAIMED, DIALLED, DONE, WAITING
from bridge.store.database import connect
from bridge.store.tables import queue
from tests.unit.call.desk import config, trunk
from tests.unit.queue.hall import NUMBER, Hall, a_hall, limited, until

pytestmark = pytest.mark.unit


def request(**changes: Any) -> DialRequest:
    return DialRequest(**{"phone_number": NUMBER, "agent": "support", **changes})


async def dial(hall: Hall, count: int = 1, **changes: Any) -> list[str]:
    return [(await hall.service.dial(request(**changes))).call_id for _ in range(count)]


async def test_a_call_over_the_limit_is_accepted_and_waits(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        first, second = await dial(hall, 2)
        assert hall.service.running == (first,)
        record = await hall.record(second)
        assert (record["status"], record["outcome"]) == ("pending", None)
        row = hall.table.row(second)
        assert row is not None
        assert (row.state, row.owner) == (WAITING, None)
        (opened,) = [c for c in hall.desk.journal.open_calls() if c.call_id == second]
        assert opened.snapshot is not None
        assert opened.snapshot[QUEUED]["phone_number"] == NUMBER
        assert [call["id"] for call in await hall.service.active()] == [first, second]


async def test_a_call_with_room_asks_no_database(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        hall.store.database.close()
        (tmp_path / "store.db").unlink()
        (only,) = await dial(hall)
        assert hall.service.running == (only,)


async def test_the_oldest_is_dialled_when_a_call_ends(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        first, second, third = await dial(hall, 3)
        await hall.service.hang_up(first)
        await until(lambda: hall.service.running == (second,))
        await hall.service.hang_up(second)
        await until(lambda: hall.service.running == (third,))
        await until(lambda: hall.table.row(third).state == DONE)  # type: ignore[union-attr]
        for opened in hall.desk.journal.open_calls():
            assert QUEUED not in (opened.snapshot or {})


async def test_a_table_that_forgot_that_a_call_was_dialled_rings_nobody_twice(
    tmp_path: Path,
) -> None:
    """A power cut, or a database restored or failed over: the journal knows better."""
    async with a_hall(tmp_path) as hall:
        first, second = await dial(hall, 2)
        row = hall.table.row(second)
        assert row is not None
        assert row.plan is not None
        await hall.service.hang_up(first)
        await until(lambda: hall.service.running == (second,))
        await hall.service.hang_up(second)
        await until(lambda: not hall.service.running)
        with hall.store.writing() as connection:
            connection.execute(delete(queue))
        hall.table.put(row.plan, until=9e9)
    async with a_hall(tmp_path) as hall:
        await until(lambda: hall.table.row(second).state == DONE)  # type: ignore[union-attr]
        assert not hall.service.running
        assert len(hall.desk.journal.events(second)) == 1


async def test_a_call_is_accepted_to_wait_while_the_store_takes_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "PLACED", 0.05)
    async with a_hall(tmp_path) as hall:
        (first,) = await dial(hall)
        answers = threading.Event()
        put = hall.table.put

        def slow(*given: Any, **named: Any) -> None:
            answers.wait(20)
            put(*given, **named)

        monkeypatch.setattr(hall.table, "put", slow)
        (second,) = await dial(hall)  # the store has not answered
        assert (await hall.record(second))["status"] == "pending"
        answers.set()
        await until(lambda: second in hall.table.rows([second]))
        await hall.service.hang_up(first)
        await until(lambda: second in hall.service.running)


async def test_a_new_call_does_not_overtake_those_that_wait(tmp_path: Path) -> None:
    async with a_hall(tmp_path, start=False) as hall:
        first, second = await dial(hall, 2)
        await hall.service.hang_up(first)
        await until(lambda: not hall.service.running)
        (third,) = await dial(hall)
        assert not hall.service.running
        hall.queue.start()
        await until(lambda: hall.service.running == (second,))
        assert (await hall.record(third))["status"] == "pending"


async def test_trunks_take_turns_whoever_came_first(tmp_path: Path) -> None:
    one = trunk(name="one", max_calls=1, calls_per_second=100)
    other = trunk(name="other", max_calls=1, calls_per_second=100)
    async with a_hall(tmp_path, config(one, other)) as hall:
        busy = await dial(hall, 1, trunk="one") + await dial(hall, 1, trunk="other")
        await dial(hall, 2, trunk="one")
        late = await dial(hall, 1, trunk="other")
        await hall.service.hang_up(busy[1])
        await until(lambda: late[0] in hall.service.running)


async def test_the_rate_of_a_trunk_lets_calls_begin_one_by_one(tmp_path: Path) -> None:
    async with a_hall(tmp_path, limited(max_calls=10, calls_per_second=1)) as hall:
        first, second = await dial(hall, 2)
        assert hall.service.running == (first,)
        hall.desk.now += 1.0
        hall.queue.freed("exotel")
        await until(lambda: second in hall.service.running)


async def test_more_than_size_are_refused_with_a_time_to_come_back(tmp_path: Path) -> None:
    async with a_hall(tmp_path, size=2) as hall:
        await dial(hall, 3)
        with pytest.raises(OverLimit, match=r"queue\.size") as refused:
            await dial(hall)
        assert refused.value.retry_after >= 1


async def test_calls_asked_for_at_once_do_not_exceed_the_size(tmp_path: Path) -> None:
    async with a_hall(tmp_path, size=2) as hall:
        answers = await asyncio.gather(
            *(hall.service.dial(request()) for _ in range(8)), return_exceptions=True
        )
        assert sum(isinstance(answer, OverLimit) for answer in answers) == 5


async def test_a_call_that_waits_too_long_fails(tmp_path: Path) -> None:
    async with a_hall(tmp_path, max_wait=0.05) as hall:
        _, second = await dial(hall, 2)
        await until(lambda: bool(hall.desk.published))
        record = await hall.record(second)
        assert (record["status"], record["outcome"], record["reason"]) == (
            "failed",
            "failed",
            "queue_timeout",
        )
        assert record["started_at"] is None
        await until(lambda: hall.table.row(second).state == DONE)  # type: ignore[union-attr]


async def test_a_call_that_waits_can_be_cancelled_and_is_never_completed(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        first, second = await dial(hall, 2)
        assert await hall.service.hang_up(second)
        record = await hall.record(second)
        assert (record["outcome"], record["reason"], record["ended_by"]) == (
            "cancelled",
            "api_hangup",
            "api",
        )
        assert await hall.service.hang_up(second)
        await hall.service.hang_up(first)
        await until(lambda: not hall.service.running)
        assert second not in hall.desk.legs
        assert [event.call_id for event in hall.desk.published].count(second) == 1


async def test_a_key_used_again_is_the_call_that_waits(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        await dial(hall)
        first = await hall.service.dial(request(), key="k")
        again = await hall.service.dial(request(), key="k")
        assert first.call_id == again.call_id
        assert hall.table.counts() == {"exotel": 1}


async def test_draining_leaves_what_waits_and_takes_nothing_new(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        first, second = await dial(hall, 2)
        hall.service.drain()
        with pytest.raises(Unavailable):
            await dial(hall)
        await hall.service.hang_up(first)
        assert await hall.service.until_idle(5)
        assert (await hall.record(second))["status"] == "pending"
        assert hall.table.row(second).state == WAITING  # type: ignore[union-attr]


async def test_what_waited_is_dialled_after_a_restart(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        _, second = await dial(hall, 2)
        hall.service.drain()
    async with a_hall(tmp_path) as again:
        await until(lambda: again.service.running == (second,))
        assert again.desk.legs[second]


async def test_what_was_claimed_and_not_dialled_is_dialled_after_a_crash(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        _, second = await dial(hall, 2)
        await hall.queue.stop()
        assert hall.table.claim("exotel", now=0, until=1e12) is not None
        assert hall.table.row(second).state == CLAIMED  # type: ignore[union-attr]
    async with a_hall(tmp_path) as again:
        await until(lambda: again.service.running == (second,))


async def test_what_was_dialled_in_a_crash_is_never_dialled_again(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        _, second = await dial(hall, 2)
        await hall.queue.stop()
        assert hall.table.claim("exotel", now=0, until=1e12) is not None
        assert hall.table.dialled(second, now=1.0)
    async with a_hall(tmp_path) as again:
        await until(lambda: bool(again.desk.published))
        record = await again.record(second)
        assert (record["outcome"], record["reason"]) == ("dropped", "crash")
        assert second not in again.desk.legs


async def test_a_row_of_ours_without_a_record_gets_one_with_its_end(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        _, second = await dial(hall, 2)
        await hall.queue.stop()
        assert hall.table.claim("exotel", now=0, until=1e12) is not None
        assert hall.table.dialled(second, now=1.0)
    (tmp_path / "journal.db").unlink()  # as if another instance had accepted it
    async with a_hall(tmp_path) as again:
        await until(lambda: bool(again.desk.published))
        assert (await again.record(second))["reason"] == "crash"


async def test_a_call_accepted_when_its_row_was_lost_has_one_after_a_restart(
    tmp_path: Path,
) -> None:
    async with a_hall(tmp_path) as hall:
        _, second = await dial(hall, 2)
    (tmp_path / "store.db").unlink()
    async with a_hall(tmp_path) as again:
        await until(lambda: again.service.running == (second,))


async def test_without_a_store_nothing_is_accepted_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_hall(tmp_path) as hall:
        first, second = await dial(hall, 2)
        lost = hall.store.database.url.set(database=str(tmp_path / "no" / "where.db"))
        there = hall.store.database.engine, hall.store.database._writer
        broken = connect(lost)
        monkeypatch.setattr(hall.store.database, "engine", broken)
        monkeypatch.setattr(hall.store.database, "_writer", broken)
        hall.queue.freed("exotel")
        await until(lambda: hall.queue.away)
        with pytest.raises(Unavailable, match="store"):
            await dial(hall)
        await hall.service.hang_up(first)
        await until(lambda: not hall.service.running)
        assert (await hall.record(second))["status"] == "pending"
        monkeypatch.setattr(hall.store.database, "engine", there[0])
        monkeypatch.setattr(hall.store.database, "_writer", there[1])
        await until(lambda: hall.service.running == (second,))


async def test_a_call_that_cannot_be_dialled_now_goes_back(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        first, second = await dial(hall, 2)
        hall.desk.no_ports = True
        await hall.service.hang_up(first)
        await until(lambda: not hall.service.running)
        await asyncio.sleep(0)
        await until(lambda: hall.table.row(second).state == WAITING)  # type: ignore[union-attr]
        hall.desk.no_ports = False
        hall.queue.freed("exotel")
        await until(lambda: hall.service.running == (second,))


async def test_dialled_is_written_before_the_invite(tmp_path: Path) -> None:
    states = []
    async with a_hall(tmp_path) as hall:
        first, second = await dial(hall, 2)
        outgoing = hall.desk.outgoing

        def watch(plan: Any, *rest: Any) -> Any:
            row = hall.table.row(plan.call_id)
            assert row is not None
            states.append(row.state)
            (opened,) = [c for c in hall.desk.journal.open_calls() if c.call_id == second]
            states.append(str(opened.snapshot))
            return outgoing(plan, *rest)

        hall.desk.outgoing = watch  # type: ignore[method-assign]
        await hall.service.hang_up(first)
        await until(lambda: hall.service.running == (second,))
        assert states == [DIALLED, "None"]


async def test_a_passthrough_call_has_no_agent_hears_it_ring_and_waits_like_any_other(
    tmp_path: Path,
) -> None:
    async with a_hall(tmp_path) as hall:
        first, second = await dial(hall, 2, agent=None, trunk="exotel", passthrough=True)
        call = hall.service.call(first)
        assert call is not None
        for plan in (call.plan, hall.table.row(second).plan):  # type: ignore[union-attr]
            assert plan is not None
            assert (plan.agent, plan.wants_agent) == ("", False)
            assert (plan.passthrough, plan.early_media) == (True, True)


async def test_a_far_ends_referral_waits_for_nothing(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        await dial(hall)
        with pytest.raises(OverLimit):
            await hall.service._dial_for_a_call(request())
        assert hall.table.counts() == {}


async def test_a_trunk_that_is_gone_after_a_reload_keeps_its_calls_until_they_are_too_old(
    tmp_path: Path,
) -> None:
    async with a_hall(tmp_path, max_wait=0.3) as hall:
        first, second = await dial(hall, 2)
        hall.service.reload(config(trunk(name="another")))
        await hall.service.hang_up(first)
        await until(lambda: second in {event.call_id for event in hall.desk.published})
        assert (await hall.record(second))["reason"] == "queue_timeout"

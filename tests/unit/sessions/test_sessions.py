"""Sessions on the loop: accepted, joined, ended, limited, taken up again."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

import pytest

from bridge.call.requests import BadRequest, OverLimit, Unavailable
from bridge.config.config import Config
from bridge.config.sections import PlanConfig
from bridge.journal.entries import Entry
from bridge.sessions.limits import Limits
from bridge.sessions.requests import Asker, Kind, RoomNews
from bridge.sessions.state import RoomEnd, RoomFinished, Timing
from tests.unit.sessions.desk import TENANT, a_desk, config, person

pytestmark = pytest.mark.unit


async def test_a_created_session_has_a_record_a_room_and_an_agent_with_its_config(
    tmp_path: Path,
) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        made = await desk.create(metadata={"k": [1]})
        record = made.record
        assert (record.status, record.call_type, record.tenant_id) == ("pending", "voip", TENANT)
        assert record.room_name.startswith("voice-")
        assert made.token == f"token of user-{record.id[:8]} for {record.room_name}"
        ((room, agent, job),) = desk.rooms.jobs
        assert (room, agent) == (record.room_name, "helper")
        told = json.loads(job)
        assert told["call_id"] == record.id
        assert told["config"] == {"voice": "shubh"}
        assert told["metadata"] == {"k": [1]}
        assert desk.journal.record(record.id) is not None


async def test_without_livekit_nothing_is_accepted_that_stays_open(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        desk.rooms.away = True
        with pytest.raises(Unavailable):
            await desk.create()
        await desk.until(lambda: desk.published)
        (event,) = desk.published
        assert event.as_dict()["reason"] == "room_unavailable"


async def test_a_session_is_active_when_its_user_joins_and_ends_when_it_is_deleted(
    tmp_path: Path,
) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        record = (await desk.create()).record
        desk.join(record.room_name, person("PA_user"))
        await desk.until(lambda: desk.published)
        now = desk.sessions.record(record.id)
        assert now is not None
        assert now.status == "active"
        assert await desk.sessions.end(record.id)
        stored = desk.journal.record(record.id)
        assert stored is not None
        assert (stored["status"], stored["reason"], stored["ended_by"]) == (
            "completed",
            "api_delete",
            "api",
        )
        assert [e["event"] for e in desk.events(record.id)] == ["call_answered", "call_ended"]
        assert [e["seq"] for e in desk.events(record.id)] == [1, 2]
        await desk.until(lambda: record.room_name not in desk.rooms.rooms)
        assert not await desk.sessions.end(record.id)


QUICK = Timing(join=0.4, departure=0.2, agent=0.3, agent_gone=0.2, room_lost=0.4)


async def test_a_restart_takes_sessions_up_and_leaves_the_rest(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        first = (await desk.create()).record
        desk.join(first.room_name, person("PA_user"))
        desk.join(first.room_name, person("PA_agent", agent=True))
        await desk.until(lambda: desk.published)
        second = (await desk.create()).record
        phone = Entry(
            call_id="phone", created_at=1.0, event=None, record={"id": "phone", "call_type": "sip"}
        )
        await desk.journal.append([phone])
        rooms = desk.rooms
    async with a_desk(tmp_path / "j.db", timing=QUICK, start=False) as desk:
        desk.play(rooms)
        rest = desk.sessions.take_up(desk.journal.open_calls())
        assert [call.call_id for call in rest] == ["phone"]
        assert set(desk.sessions.running) == {first.id, second.id}
        taken = desk.sessions.record(first.id)
        assert taken is not None
        assert (taken.status, taken.seq, taken.tenant_id) == ("active", 1, TENANT)
        assert taken.private == first.private
        desk.sessions.start()
        await desk.until(lambda: desk.sessions.running == [first.id])
        await desk.sessions.settled()
        assert desk.events(second.id)[-1]["reason"] == "join_timeout"
        assert await desk.sessions.end(first.id)
        assert [e["seq"] for e in desk.events(first.id)] == [1, 2]


async def test_a_session_of_an_instance_that_is_gone_goes_on_here(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "theirs.db") as theirs:
        record = (await theirs.create()).record
        rooms = theirs.rooms
    async with a_desk(tmp_path / "ours.db") as desk:
        desk.play(rooms)
        facts = {"created_at": record.created_at, "seq": 0, "private": record.private}
        phone = {**record.as_dict(), "call_type": "sip"}
        assert not await desk.sessions.adopt(record.id, record=phone, **facts)
        assert await desk.sessions.adopt(record.id, record=record.as_dict(), **facts)
        assert [call.call_id for call in desk.journal.open_calls()] == [record.id]
        desk.join(record.room_name, person("PA_user"))
        await desk.until(lambda: desk.published)
        assert desk.events(record.id)[0]["event"] == "call_answered"


async def test_a_session_that_was_taken_over_leaves_a_room_to_the_one_that_is_in_it(
    tmp_path: Path,
) -> None:
    async with a_desk(tmp_path / "theirs.db") as theirs:
        first = (await theirs.create(room="lobby")).record
        rooms = theirs.rooms
    async with a_desk(tmp_path / "ours.db") as desk:
        desk.play(rooms)
        second = (await desk.create(room="lobby", user_id="ada")).record
        facts = {"created_at": first.created_at, "seq": 0, "private": first.private}
        assert await desk.sessions.adopt(first.id, record=first.as_dict(), **facts)
        desk.join("lobby", person("ada"))
        await desk.until(lambda: desk.events(second.id))
        assert await desk.sessions.end(first.id)
        await desk.until(lambda: desk.sessions.running == [second.id])
        assert desk.sessions.uses_room("lobby")
    assert "lobby" in rooms.rooms


async def test_a_record_that_cannot_be_read_back_is_left_to_be_ended(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "j.db", start=False) as desk:
        broken = Entry(
            call_id="x",
            created_at=1.0,
            event=None,
            record={"id": "x", "call_type": "voip"},
            private={"session": {"kind": "web_call"}},
        )
        await desk.journal.append([broken])
        rest = desk.sessions.take_up(desk.journal.open_calls())
        assert [call.call_id for call in rest] == ["x"]
        assert not desk.sessions.running


async def test_no_session_ends_while_livekit_is_away_but_at_its_longest_duration(
    tmp_path: Path,
) -> None:
    async with a_desk(tmp_path / "j.db", timing=QUICK) as desk:
        never = (await desk.create()).record
        short = (await desk.create(max_duration=0.8)).record
        desk.join(short.room_name, person("PA_user"))
        desk.join(short.room_name, person("PA_agent", agent=True))
        await desk.until(lambda: desk.published)
        desk.rooms.away = True
        await desk.until(lambda: len(desk.published) == 2)
        assert desk.events(short.id)[-1]["reason"] == "max_duration"
        assert desk.sessions.running == [never.id]
        assert short.room_name in desk.rooms.rooms
        desk.rooms.away = False
        await desk.until(lambda: not desk.sessions.running)
        await desk.sessions.settled()
        assert desk.events(never.id)[-1]["reason"] == "join_timeout"


async def test_a_session_whose_agent_never_comes_fails_and_its_user_is_sent_away(
    tmp_path: Path,
) -> None:
    async with a_desk(tmp_path / "j.db", timing=QUICK) as desk:
        record = (await desk.create()).record
        desk.join(record.room_name, person("PA_user"))
        await desk.until(lambda: not desk.sessions.running)
        await desk.sessions.settled()
        stored = desk.journal.record(record.id)
        assert stored is not None
        assert (stored["status"], stored["reason"]) == ("failed", "no_agent")
        await desk.until(lambda: record.room_name not in desk.rooms.rooms)


async def test_a_helper_that_nobody_sees_is_no_user(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "j.db", timing=QUICK) as desk:
        record = (await desk.create()).record
        desk.join(record.room_name, person("PA_ear", helper=True))
        await desk.until(lambda: not desk.sessions.running)
        await desk.sessions.settled()
        assert desk.events(record.id)[-1]["reason"] == "join_timeout"


async def test_a_room_that_was_there_before_is_not_deleted(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        desk.rooms.open("lobby")
        record = (await desk.create(room="lobby")).record
        assert desk.rooms.jobs[-1][0] == "lobby"
        with pytest.raises(BadRequest):
            await desk.create(room="lobby")
        await desk.sessions.end(record.id)
    assert "lobby" in desk.rooms.rooms


async def test_who_came_for_a_session_leaves_a_room_that_was_there_before_and_nobody_else(
    tmp_path: Path,
) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        desk.rooms.open("lobby")
        desk.join("lobby", person("somebody"))
        theirs = ("lobby", "their agent", '{"call_id": "another"}')
        desk.rooms.jobs.append(theirs)
        record = (await desk.create(room="lobby", user_id="ada")).record
        assert len(desk.rooms.jobs) == 2
        desk.join("lobby", person("ada"))
        await desk.sessions.end(record.id)
        await desk.until(lambda: [one.sid for one in desk.rooms.inside["lobby"]] == ["somebody"])
        assert desk.rooms.jobs == [theirs]
        # LiveKit was away: it is tried again. Who is in the next session stays.
        record = (await desk.create(room="lobby", user_id="ada")).record
        desk.join("lobby", person("ada"))
        desk.rooms.away = True
        await desk.sessions.end(record.id)
        await desk.until(lambda: not desk.sessions.running)
        desk.rooms.away = False
        await desk.create(room="lobby", user_id="ada")
    assert [one.sid for one in desk.rooms.inside["lobby"]] == ["somebody", "ada"]


async def test_a_namesake_who_was_there_before_a_session_whose_user_never_came_stays(
    tmp_path: Path,
) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        desk.rooms.open("lobby")
        desk.join("lobby", person("ada", joined_at=1.0))
        record = (await desk.create(room="lobby", user_id="ada")).record
        await desk.sessions.end(record.id)
        await desk.until(lambda: ("recall", "lobby", record.id) in desk.rooms.asked)
        await desk.until(lambda: not desk.sessions._farewells.pending)
        assert [one.sid for one in desk.rooms.inside["lobby"]] == ["ada"]


async def test_a_room_that_a_late_token_revives_is_deleted_also_without_webhooks(
    tmp_path: Path,
) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        own = (await desk.create()).record
        named = (await desk.create(room="lounge", user_id="ada")).record
        for record in (own, named):
            await desk.sessions.end(record.id)
        await desk.until(lambda: not desk.rooms.rooms)
        for room in (own.room_name, "lounge"):
            desk.rooms.open(room)
            desk.join(room, person("ada"))
        await desk.until(lambda: not desk.rooms.rooms)
        # By now the name is somebody else's.
        desk.rooms.open("lounge")
        for sid in ("ada", "somebody"):
            desk.join("lounge", person(sid))
        looks = desk.rooms.asked.count(("people", "lounge"))
        await desk.until(lambda: desk.rooms.asked.count(("people", "lounge")) > looks + 1)
        assert "lounge" in desk.rooms.rooms


async def test_many_sessions_are_looked_at_by_one_list(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        made = [(await desk.create()).record for _ in range(5)]
        for n, record in enumerate(made):
            desk.join(record.room_name, person(f"PA_{n}"))
        await desk.until(lambda: len(desk.published) == 5)
        lists = [asked for asked in desk.rooms.asked if asked[0] == "list"]
        assert set(lists[-1][1:]) == {record.room_name for record in made}


async def test_a_room_that_outlived_its_session_and_its_daemon_is_deleted(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        over, lasts = (await desk.create()).record, (await desk.create()).record
        desk.sessions._farewells._in_use = lambda room: room == over.room_name  # it stays
        await desk.sessions.end(over.id)
        rooms = desk.rooms
        rooms.open("somebody-elses")
    async with a_desk(tmp_path / "j.db", start=False) as desk:
        desk.play(rooms)
        rooms.away = True
        desk.sessions.take_up(desk.journal.open_calls())
        desk.sessions.start()
        assert over.room_name in rooms.rooms
        rooms.away = False
        await desk.until(lambda: over.room_name not in rooms.rooms)
        assert set(rooms.rooms) == {lasts.room_name, "somebody-elses"}


async def test_a_drain_takes_no_new_sessions_and_ends_none(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        record = (await desk.create()).record
        desk.sessions.drain()
        with pytest.raises(Unavailable, match="draining"):
            await desk.create()
        assert desk.sessions.running == [record.id]
    assert record.room_name in desk.rooms.rooms


async def test_what_is_too_large_for_the_job_is_refused_before_anything_is_begun(
    tmp_path: Path,
) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        with pytest.raises(BadRequest, match="metadata"):
            await desk.create(metadata={"a": "x" * 70_000})
        assert not desk.journal.open_calls()
        assert not [asked for asked in desk.rooms.asked if asked[0] == "make"]


async def test_an_end_is_written_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "j.db") as desk:
        record = (await desk.create()).record
        await asyncio.gather(*(desk.sessions.end(record.id) for _ in range(5)))
        finished = RoomFinished(room_sid="RM_1", how=RoomEnd.DELETED)
        desk.sessions.hear(RoomNews(room=record.room_name, what=finished))
        assert [e["event"] for e in desk.events(record.id)] == ["call_ended"]
        assert len(desk.published) == 1
        stored = desk.journal.record(record.id)
        assert stored is not None
        assert (stored["status"], stored["outcome"]) == ("completed", "cancelled")


async def test_other_plans_count_from_a_reload_on(tmp_path: Path) -> None:
    async with a_desk(tmp_path / "j.db", config(PlanConfig(name="enterprise", sessions=1))) as desk:
        await desk.create()
        with pytest.raises(OverLimit):
            await desk.create()
        desk.sessions.reload(config(PlanConfig(name="enterprise", sessions=2)))
        await desk.create()


@pytest.mark.parametrize(
    ("plan", "allowed"), [("free", 1), ("starter", 5), ("pro", 20), ("unheard-of", 1)]
)
async def test_plans_that_nobody_configured_are_the_seeds(plan: str, allowed: int) -> None:
    running = [allowed - 1]
    limits = Limits(Config(), lambda _: running[0])
    asker = Asker(name="a", tenant="t", plan=plan)
    limits.admit(asker, Kind.PHONE_CALL)
    running[0] = allowed
    with pytest.raises(OverLimit):
        limits.admit(asker, Kind.PHONE_CALL)


@pytest.mark.parametrize("plan", ["free", "starter", "pro"])
@pytest.mark.parametrize("kind", Kind)
async def test_plans_that_nobody_configured_allow_ten_of_all_kinds_a_minute(
    plan: str, kind: Kind
) -> None:
    limits = Limits(Config(), lambda _: 0)
    asker = Asker(name="a", tenant="t", plan=plan)
    for _, other in zip(range(10), itertools.cycle(Kind), strict=False):
        limits.admit(asker, other)
    with pytest.raises(OverLimit):
        limits.admit(asker, kind)


async def test_the_enterprise_plan_has_no_end_of_calls_and_ten_voice_sessions_a_minute() -> None:
    limits = Limits(Config(), lambda _: 100_000)
    asker = Asker(name="a", tenant="t")
    for kind in Kind:
        for _ in range(10):
            limits.admit(asker, kind)
    with pytest.raises(OverLimit) as refusal:
        limits.admit(asker, Kind.VOICE_SESSION)
    assert 1 <= refusal.value.retry_after <= 60
    limits.admit(asker, Kind.PHONE_CALL)
    limits.admit(Asker(name="b", tenant="other"), Kind.VOICE_SESSION)


async def test_an_enterprise_plan_of_the_file_holds_for_every_kind() -> None:
    described = Config(plan=[PlanConfig(name="enterprise", sessions=0, creates_per_minute=1)])
    limits = Limits(described, lambda _: 0)
    asker = Asker(name="a", tenant="t")
    limits.admit(asker, Kind.PHONE_CALL)
    with pytest.raises(OverLimit):
        limits.admit(asker, Kind.WEB_CALL)

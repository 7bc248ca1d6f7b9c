"""Sessions on the loop: accepted, joined, ended, limited, taken up again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.call.requests import Unavailable
from tests.unit.sessions.desk import TENANT, a_desk, person

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

"""The service: what is accepted, what is refused and how, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from bridge.call.requests import BadRequest, DialRequest, OverLimit, Unavailable
from bridge.errors import BridgeError
from bridge.sip.events import Cancelled
from sdp.negotiate import Rejected
from tests.unit.call.desk import Desk, a_desk, config, failed, trunk

pytestmark = pytest.mark.unit

NUMBER = "+919876543210"


def request(**changes: Any) -> DialRequest:
    return DialRequest(**{"phone_number": NUMBER, "agent": "support", **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def take(desk: Desk, number: bytes = b"+918047361000") -> dict[str, Any]:
    """Give the service an INVITE and return the record it made."""
    before = {record["id"] for record in await desk.records()}
    desk.tell(desk.invite(number))
    return next(record for record in await desk.records() if record["id"] not in before)


# Accepted.


async def test_an_accepted_call_is_pending_on_disk_before_its_maker_hears_of_it(path: Path) -> None:
    async with a_desk(path) as desk:
        desk.ledger.may_write.clear()
        asked = asyncio.ensure_future(desk.service.dial(request()))
        await desk.ledger.asked.wait()
        assert not asked.done()
        desk.ledger.may_write.set()
        accepted = await asked
        record = desk.journal.record(accepted.call_id)
        assert record is not None
        assert (record["status"], record["phone_number"]) == ("pending", NUMBER)
        assert (accepted.room_name, accepted.status) == (f"call-{accepted.call_id}", "pending")
        assert accepted.token == f"token of api-{accepted.call_id[:8]} for {accepted.room_name}"


async def test_a_call_is_found_while_it_runs_and_after_its_end(path: Path) -> None:
    async with a_desk(path) as desk:
        accepted = await desk.service.dial(request())
        await desk.dialled.wait()
        live = await desk.service.find(accepted.call_id)
        assert live is not None
        assert live["status"] == "connecting"
        assert [call["id"] for call in await desk.service.active()] == [accepted.call_id]
        assert await desk.service.hang_up(accepted.call_id)
        await desk.idle()
        over = await desk.service.find(accepted.call_id)
        assert over is not None
        assert (over["outcome"], over["ended_by"]) == ("cancelled", "api")
        assert over["duration_seconds"] is None
        assert await desk.service.active() == []
        events = await desk.service.events_of(accepted.call_id)
        assert events is not None
        assert events[-1]["event"] == "call_ended"
        assert desk.leases == []
        assert desk.service._sessions == {}


async def test_a_hang_up_is_the_same_again_and_unknown_for_unknown_calls(path: Path) -> None:
    async with a_desk(path) as desk:
        accepted = await desk.service.dial(request())
        for _ in range(3):
            assert await desk.service.hang_up(accepted.call_id)
        await desk.idle()
        assert await desk.service.hang_up(accepted.call_id)
        assert not await desk.service.hang_up("00000000-0000-4000-8000-000000000000")
        assert await desk.service.events_of("00000000-0000-4000-8000-000000000000") is None
        assert [e.name for e in desk.published].count("call_ended") == 1


async def test_a_workflow_gives_what_the_request_leaves_out(path: Path) -> None:
    async with a_desk(path, config(trunk(), trunk(name="other"))) as desk:
        asked = DialRequest(phone_number="09876543210", workflow_slug="daily", metadata={"b": 2})
        accepted = await desk.service.dial(asked)
        record = await desk.service.find(accepted.call_id)
        assert record is not None
        assert (record["agent"], record["trunk"]) == ("nurse", "exotel")
        assert record["metadata"] == {"a": 1, "b": 2}
        assert record["phone_number"] == NUMBER
        asked = DialRequest(
            phone_number=NUMBER, workflow_slug="daily", agent="x", trunk="other", metadata={"a": 3}
        )
        record = await desk.service.find((await desk.service.dial(asked)).call_id)
        assert record is not None
        assert (record["agent"], record["trunk"], record["metadata"]) == ("x", "other", {"a": 3})


async def test_a_dial_that_fails_at_once_ends_the_call_at_once(path: Path) -> None:
    async with a_desk(path) as desk:
        desk.dial_fails_at_once = True
        accepted = await desk.service.dial(request())
        await desk.idle()
        record = await desk.service.find(accepted.call_id)
        assert record is not None
        assert record["outcome"] is not None
        assert desk.leases == []


# Not accepted.


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"workflow_slug": "nope"}, "workflow_slug"),
        ({"agent": None}, "workflow_slug"),
        ({"trunk": "nope"}, "trunk"),
        ({}, "trunk"),
        ({"trunk": "exotel", "metadata": {"huge": 1}}, "metadata"),
    ],
)
async def test_a_bad_request_names_its_field_and_begins_nothing(
    path: Path, changes: dict[str, Any], field: str
) -> None:
    async with a_desk(path, config(trunk(), trunk(name="other"))) as desk:
        with pytest.raises(BadRequest) as refused:
            await desk.service.dial(request(**changes))
        assert refused.value.field == field
        assert await desk.records() == []
        assert desk.leases == []


async def test_calls_asked_for_at_once_do_not_pass_a_trunks_limit_together(path: Path) -> None:
    """Threat 5.1: Toll fraud."""
    async with a_desk(path, config(trunk(max_calls=2, calls_per_second=100))) as desk:
        desk.ledger.may_write.clear()
        asked = [asyncio.ensure_future(desk.service.dial(request())) for _ in range(5)]
        await desk.ledger.asked.wait()
        desk.ledger.may_write.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        over = [answer for answer in answers if isinstance(answer, OverLimit)]
        assert len(over) == 3
        assert all(answer.retry_after >= 1 for answer in over)
        assert len(desk.leases) == 2


async def test_a_trunks_rate_refuses_and_says_when_to_come_again(path: Path) -> None:
    """Threat 5.1: Toll fraud."""
    async with a_desk(path, config(trunk(calls_per_second=0.25))) as desk:
        await desk.service.dial(request())
        with pytest.raises(OverLimit) as refused:
            await desk.service.dial(request())
        assert refused.value.retry_after == 4
        desk.service.reload(config(trunk(calls_per_second=0.25)))
        with pytest.raises(OverLimit):
            await desk.service.dial(request())
        desk.now += 4
        await desk.service.dial(request())


async def test_a_full_instance_is_unavailable(path: Path) -> None:
    async with a_desk(path, config(max_calls=1)) as desk:
        await desk.service.dial(request())
        with pytest.raises(Unavailable, match="max_calls"):
            await desk.service.dial(request())
        desk.no_ports = True
        assert len(await desk.records()) == 1


async def test_no_ports_is_unavailable_and_leaves_no_record(path: Path) -> None:
    """Failure 7.2: exhausted RTP ports."""
    async with a_desk(path) as desk:
        desk.no_ports = True
        with pytest.raises(Unavailable, match="no free pair"):
            await desk.service.dial(request())
        assert await desk.records() == []
        assert await desk.service.until_idle(0)


async def test_a_journal_that_refuses_is_unavailable_and_frees_the_ports(path: Path) -> None:
    async with a_desk(path) as desk:
        desk.ledger.failure = BridgeError("disk full")
        with pytest.raises(Unavailable, match="journal"):
            await desk.service.dial(request())
        assert desk.leases == []
        assert await desk.service.until_idle(0)


async def test_media_that_cannot_be_opened_leaves_an_ended_record_and_no_ports(path: Path) -> None:
    async with a_desk(path) as desk:
        desk.media_fails = True
        with pytest.raises(ValueError, match="a bug"):
            await desk.service.dial(request())
        (record,) = await desk.records()
        assert (record["outcome"], record["reason"]) == ("failed", "internal_error")
        assert desk.leases == []
        assert await desk.service.until_idle(0)


async def test_whoever_goes_away_while_the_journal_writes_leaves_an_ended_record(
    path: Path,
) -> None:
    async with a_desk(path) as desk:
        desk.ledger.may_write.clear()
        asked = asyncio.ensure_future(desk.service.dial(request()))
        await desk.ledger.asked.wait()
        asked.cancel()
        await asyncio.wait({asked})
        desk.ledger.may_write.set()
        records = await desk.records()
        assert records[0]["status"] == "failed"
        assert desk.leases == []
        assert await desk.service.until_idle(0)


async def test_a_caller_hears_nothing_before_the_call_has_a_record(path: Path) -> None:
    async with a_desk(path) as desk:
        desk.ledger.may_write.clear()
        desk.service.on_sip(desk.invite())
        await desk.ledger.asked.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert desk.legs["inbound"].done == []
        desk.ledger.may_write.set()
        assert len(await desk.records()) == 1
        assert desk.legs["inbound"].done == ["ring"]


async def test_a_draining_service_dials_nothing_but_finishes_what_it_accepted(path: Path) -> None:
    """Failure 7.2: drain refuses new originations."""
    async with a_desk(path) as desk:
        desk.ledger.may_write.clear()
        asked = asyncio.ensure_future(desk.service.dial(request()))
        await desk.ledger.asked.wait()
        desk.service.drain()
        with pytest.raises(Unavailable, match="draining"):
            await desk.service.dial(request())
        assert not await desk.service.until_idle(0.01)
        desk.service.shut_down()
        desk.ledger.may_write.set()
        accepted = await asked
        await desk.idle()
        record = await desk.service.find(accepted.call_id)
        assert record is not None
        assert record["reason"] == "shutdown"


# Inbound.


async def test_an_inbound_call_is_recorded_and_rung(path: Path) -> None:
    async with a_desk(path) as desk:
        record = await take(desk)
        assert (record["direction"], record["trunk"]) == ("inbound", "exotel")
        assert (record["phone_number"], record["trunk_number"]) == (NUMBER, "+918047361000")
        assert desk.refused == []
        assert len(desk.leases) == 1
        assert desk.service.running == (record["id"],)


async def test_every_refusal_has_its_status_and_a_record_with_an_outcome(path: Path) -> None:
    async with a_desk(path, config(trunk(max_calls=1))) as desk:
        missing = await take(desk, b"+918000000000")
        desk.rejects = Rejected(status=488, reason="no codec")
        codec = await take(desk)
        desk.rejects = None
        desk.no_ports = True
        ports = await take(desk)
        desk.no_ports = False
        desk.service.set_livekit_up(False)
        livekit = await take(desk)
        desk.service.set_livekit_up(True)
        await take(desk)
        full = await take(desk)
        desk.service.drain()
        again = await take(desk)
        found = [
            (record["outcome"], record["reason"], record["sip_status"])
            for record in (missing, codec, ports, livekit, full, again)
        ]
        assert found == [
            ("failed", "no_route", 404),
            ("failed", "media_incompatible", 488),
            ("failed", "capacity", 503),
            ("failed", "room_unavailable", 503),
            ("failed", "capacity", 486),
            ("failed", "capacity", 486),
        ]
        assert desk.refused == [
            (404, None),
            (488, None),
            (503, 10),
            (503, 10),
            (486, None),
            (486, None),
        ]
        assert all(record["ended_at"] for record in (missing, codec, ports, livekit, full))
        assert len(desk.leases) == 1


@pytest.mark.parametrize(
    ("number", "setting", "status", "reason"),
    [
        (b"+918000000000", "", 404, "no_route"),
        (b"+918047361000", "full", 486, "capacity"),
        (b"+918047361000", "draining", 503, "draining"),
        (b"+918047361000", "no livekit", 503, "room_unavailable"),
    ],
)
async def test_what_cannot_be_taken_is_refused_with_a_record_before_sip_keeps_anything(
    path: Path, number: bytes, setting: str, status: int, reason: str
) -> None:
    """Threat 5.1: INVITE and REGISTER flood. No session, no port; but a record."""
    async with a_desk(path, config(trunk(max_calls=1))) as desk:
        if setting == "full":
            await take(desk)
        elif setting == "draining":
            desk.service.drain()
        elif setting == "no livekit":
            desk.service.set_livekit_up(False)
        leases = list(desk.leases)
        invite = desk.invite(number)
        before = {record["id"] for record in await desk.records()}
        refusal = desk.service.screen(invite.request, invite.flow)
        assert refusal is not None
        assert (refusal.status, refusal.remembered) == (status, True)
        assert dict(refusal.headers) == ({"Retry-After": "10"} if status == 503 else {})
        record = next(r for r in await desk.records() if r["id"] not in before)
        assert (record["outcome"], record["reason"]) == ("failed", reason)
        assert (record["sip_status"], record["phone_number"]) == (status, NUMBER)
        assert desk.leases == leases
        assert desk.refused == []  # nothing to refuse by: there is no session


async def test_what_can_be_taken_passes_the_screen_without_a_trace(path: Path) -> None:
    async with a_desk(path) as desk:
        invite = desk.invite()
        assert desk.service.screen(invite.request, invite.flow) is None
        assert await desk.records() == []
        desk.service.reload(config(trunk(name="renamed")))
        refusal = desk.service.screen(desk.invite().request, invite.flow)
        assert refusal is not None
        assert refusal.status == 403


async def test_what_the_carrier_calls_a_call_is_in_its_record_also_of_a_refused_one(
    path: Path,
) -> None:
    """Row 44. The ids of the profile: from the INVITE and what follows, in journal and API."""
    async with a_desk(path, config(trunk(profile="exotel"))) as desk:
        desk.remote_headers = (("X-Exotel-CallSid", "b7f0c1"), ("X-Other", "1"))
        refused = await take(desk, b"+918000000000")
        assert (refused["reason"], refused["carrier_ids"]) == (
            "no_route",
            {"x-exotel-callsid": "b7f0c1"},
        )
        taken = await take(desk)
        assert taken["carrier_ids"] == {"x-exotel-callsid": "b7f0c1"}
        session = next(iter(desk.service._sessions))
        gone = (("X-Exotel-LegSid", "leg"), ("X-Exotel-CallSid", "b7f0c2"))
        desk.tell(Cancelled(session=session, q850=None, headers=gone))
        await desk.idle()
        over = await desk.service.find(taken["id"])
        assert over is not None
        assert over["carrier_ids"] == {"x-exotel-callsid": "b7f0c2", "x-exotel-legsid": "leg"}


async def test_a_draining_service_refuses_with_503_and_a_record(path: Path) -> None:
    async with a_desk(path) as desk:
        desk.service.drain()
        record = await take(desk)
        assert (record["outcome"], record["reason"]) == ("failed", "draining")
        assert desk.refused == [(503, 10)]


@pytest.mark.parametrize("what", ["adopt_fails", "media_fails"])
async def test_a_bug_at_taking_a_call_refuses_it_and_keeps_nothing(path: Path, what: str) -> None:
    async with a_desk(path) as desk:
        setattr(desk, what, True)
        record = await take(desk)
        assert (record["outcome"], record["reason"]) == ("failed", "internal_error")
        assert desk.refused == [(500, None)]
        assert desk.leases == []
        assert desk.service._sessions == {}


async def test_a_source_without_a_trunk_any_more_is_refused(path: Path) -> None:
    async with a_desk(path) as desk:
        desk.service.reload(config(trunk(name="renamed")))
        desk.tell(desk.invite())
        assert desk.refused == [(403, None)]


async def test_events_of_unknown_sessions_change_nothing(path: Path) -> None:
    async with a_desk(path) as desk:
        desk.tell(failed(desk.new_session()))
        await asyncio.sleep(0)
        assert desk.published == []


# The same request once.


async def test_the_same_key_and_body_is_one_call_also_after_a_restart(path: Path) -> None:
    async with a_desk(path) as desk:
        first = await desk.service.dial(request(), key="k")
        assert await desk.service.dial(request(), key="k") == first
        assert await desk.service.dial(request(), key="other") != first
        assert len(await desk.records()) == 2
    async with a_desk(path) as again:
        assert await again.service.dial(request(), key="k") == first
        assert again.service.running == ()


async def test_the_same_key_with_another_body_is_refused(path: Path) -> None:
    async with a_desk(path) as desk:
        desk.ledger.may_write.clear()
        running = asyncio.ensure_future(desk.service.dial(request(), key="k"))
        await desk.ledger.asked.wait()
        with pytest.raises(BadRequest, match="Idempotency-Key"):
            await desk.service.dial(request(agent="other"), key="k")
        desk.ledger.may_write.set()
        await running
        with pytest.raises(BadRequest, match="Idempotency-Key"):
            await desk.service.dial(request(agent="other"), key="k")
        assert len(await desk.records()) == 1


async def test_equal_requests_at_once_are_one_call(path: Path) -> None:
    async with a_desk(path) as desk:
        answers = await asyncio.gather(*(desk.service.dial(request(), key="k") for _ in range(10)))
        assert len({answer.call_id for answer in answers}) == 1
        assert len(await desk.records()) == 1


async def test_a_refused_request_does_not_use_its_key_up(path: Path) -> None:
    async with a_desk(path) as desk:
        desk.no_ports = True
        answers = await asyncio.gather(
            *(desk.service.dial(request(), key="k") for _ in range(2)), return_exceptions=True
        )
        assert all(isinstance(answer, Unavailable) for answer in answers)
        desk.no_ports = False
        await desk.service.dial(request(), key="k")
        assert len(await desk.records()) == 1


def counts_until(moment: float) -> str:
    return jwt.encode({"exp": moment}, "secret" * 8)


async def test_an_answer_given_again_has_a_token_that_counts(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_desk(path) as desk:
        tokens = {"": counts_until(time.time() + 30)}
        monkeypatch.setattr(desk, "visitor_token", lambda *_: tokens[""])
        first = await desk.service.dial(request(), key="k")
        tokens[""] = fresh = counts_until(time.time() + 3600)
        again = await desk.service.dial(request(), key="k")
        assert again == replace(first, token=fresh)
        tokens[""] = counts_until(time.time() + 7200)
        other = await desk.service.dial(request(), key="other")
        tokens[""] = counts_until(time.time() + 9999)
        assert await desk.service.dial(request(), key="other") == other  # it counts still


async def test_a_call_that_has_ended_is_given_no_new_token(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_desk(path) as desk:
        over, fresh = counts_until(time.time() - 5), counts_until(time.time() + 3600)
        monkeypatch.setattr(desk, "visitor_token", lambda *_: over)
        first = await desk.service.dial(request(), key="k")
        await asyncio.wait_for(desk.dialled.wait(), 5)
        await desk.service.hang_up(first.call_id)
        await desk.idle()
        monkeypatch.setattr(desk, "visitor_token", lambda *_: fresh)
        assert await desk.service.dial(request(), key="k") == first


async def test_a_key_is_forgotten_after_a_day(path: Path) -> None:
    async with a_desk(path) as desk:
        first = await desk.service.dial(request(), key="k")
        written = desk.journal._connect()
        written.execute("update claims set at = at - 86401")
        written.close()
        assert await desk.service.dial(request(agent="other"), key="k") != first


async def test_a_room_is_in_use_while_a_call_of_it_runs(path: Path) -> None:
    async with a_desk(path) as desk:
        accepted = await desk.service.dial(request(room="shared"))
        assert desk.service.uses_room("shared")
        assert not desk.service.uses_room("other")
        await desk.service.hang_up(accepted.call_id)
        await desk.idle()
        assert not desk.service.uses_room("shared")

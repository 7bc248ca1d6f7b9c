"""The call resource (contract 5 and 6; seed 003)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bridge.call.outcome import Refusal, refusal_outcome
from bridge.call.record import (
    ended_event,
    fold,
    live_record,
    new_record,
    record_of,
    with_carrier_ids,
    workflow_id,
)
from bridge.events import CallEnded
from bridge.trunk.headers import SAID_BY_ANY
from sdp.negotiated import Hold
from tests.unit.call.kit import WALL, Bench, answered, bye, changed, plan, progressed, refused

pytestmark = pytest.mark.unit

# Seed 003, "Get Call".
SEED_FIELDS = {
    "id",
    "workflow_id",
    "workflow_slug",
    "user_id",
    "status",
    "direction",
    "call_type",
    "phone_number",
    "duration_seconds",
    "agent_history",
    "current_agent",
    "metrics",
    "started_at",
    "ended_at",
    "created_at",
}
OWN_FIELDS = {"outcome", "reason", "ended_by", "sip_status", "q850", "hold"}


def seen(bench: Bench) -> str:
    """The status the API shows now."""
    return live_record(record_of(bench.state.plan, bench.events), bench.state).status


def test_status_follows_the_call() -> None:
    bench = Bench().in_room()
    statuses = [seen(bench), seen(Bench().dialing())]
    bench = Bench().dialing()
    for item in (progressed(), answered(), bye()):
        statuses.append(seen(bench.feed(item)))
    assert statuses == ["pending", "connecting", "connecting", "active", "completed"]


def test_resource_has_the_fields_of_the_seed_and_ours() -> None:
    document = new_record(plan()).as_dict()
    assert set(document) >= SEED_FIELDS | OWN_FIELDS
    assert json.loads(json.dumps(document)) == document


def test_the_carriers_own_word_on_a_failure_is_kept_and_no_event_shows_it() -> None:
    """Row 44. `X-ZT-Hangup-Code` of a refusal; the events keep the contract's fields."""
    bench = Bench(plan(carrier_headers=("x-zt-hangup-code", "x-plivo-*"))).dialing()
    bench.feed(replace(progressed(183), headers=(("X-Plivo-Leg", "one"), ("X-A", "1"))))
    bench.feed(refused(503, headers=(("X-ZT-Hangup-Code", "4010"),)))
    kept = {"x-plivo-leg": "one", "x-zt-hangup-code": "4010"}
    assert dict(bench.state.carrier_ids) == kept
    document = with_carrier_ids(new_record(plan()), bench.state.carrier_ids).as_dict()
    assert document["carrier_ids"] == kept
    assert "4010" not in bench.end.encode().decode()


@pytest.mark.parametrize("status", [480, 486, 500, 503])
def test_when_a_refusal_says_to_come_back_is_kept(status: int) -> None:
    """Row 46. RFC 3261 20.33, 20.43: Retry-After and Warning, of any carrier."""
    bench = Bench(plan(carrier_headers=SAID_BY_ANY)).dialing()
    said = (("Retry-After", "120 (in a meeting)"), ("Warning", '399 c "busy"'))
    bench.feed(refused(status, headers=said))
    assert dict(bench.state.carrier_ids) == {
        "retry-after": "120 (in a meeting)",
        "warning": '399 c "busy"',
    }


def test_unknown_values_are_null_never_zero() -> None:
    document = new_record(plan(agent="")).as_dict()
    for name in ("duration_seconds", "started_at", "ended_at", "metrics", "q850", "sip_status"):
        assert document[name] is None, name
    assert document["agent"] is None
    assert document["hold"] is False


def test_answered_call_has_its_times() -> None:
    bench = Bench().dialing().wait(4).feed(progressed(), answered()).wait(12.4).feed(bye(16))
    document = record_of(bench.state.plan, bench.events).as_dict()
    assert document["created_at"] == "2023-11-14T22:13:20.000Z"
    assert document["started_at"] == "2023-11-14T22:13:24.000Z"
    assert document["ended_at"] == "2023-11-14T22:13:36.400Z"
    assert document["duration_seconds"] == 12
    assert (document["outcome"], document["sip_status"], document["q850"]) == ("completed", 200, 16)


def test_unanswered_call_has_no_start_and_no_duration() -> None:
    bench = Bench().dialing().feed(refused(486))
    document = record_of(bench.state.plan, bench.events).as_dict()
    assert document["started_at"] is None
    assert document["duration_seconds"] is None
    assert (document["status"], document["outcome"]) == ("failed", "busy")


def test_hold_shows_while_held_only() -> None:
    bench = Bench().talking().feed(changed(Hold.SENDONLY))
    assert record_of(bench.state.plan, bench.events).hold
    bench.feed(bye())
    assert not record_of(bench.state.plan, bench.events).hold


def test_folding_an_event_twice_changes_nothing() -> None:
    bench = Bench().talking().feed(bye())
    record = new_record(bench.state.plan)
    for event in bench.events:
        record = fold(record, event)
        assert fold(record, event) == record
    assert all(fold(record, event) == record for event in bench.events)


def test_refused_call_has_a_record_with_an_outcome() -> None:
    status, verdict = refusal_outcome(Refusal.NO_ROUTE)
    event = ended_event(plan(), verdict, wall=WALL, sip_status=status)
    assert isinstance(event, CallEnded)
    document = record_of(plan(), [event]).as_dict()
    assert (document["status"], document["reason"], document["sip_status"]) == (
        "failed",
        "no_route",
        404,
    )


def test_workflow_id_is_the_uuid5_of_its_slug() -> None:
    assert workflow_id("daily-call") == workflow_id("daily-call")
    assert workflow_id("daily-call") != workflow_id("other")
    assert new_record(plan(workflow_slug="daily-call")).workflow_id == workflow_id("daily-call")

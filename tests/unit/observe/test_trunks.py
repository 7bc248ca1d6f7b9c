"""The board of trunks: what calls and probes say, and what an operator is shown."""

from __future__ import annotations

import json

import pytest

from bridge.call.plan import CallPlan, Direction
from bridge.config.trunk import TrunkConfig
from bridge.events import CallAnswered, CallEnded, CallEvent, CallRinging
from bridge.observe.trunks import TrunkBoard
from bridge.trunk.health import By

pytestmark = pytest.mark.unit


def trunk(name: str = "exotel", **changes: object) -> TrunkConfig:
    values = {"name": name, "host": "sip.example.com", "username": "u", "password": "hush"}
    return TrunkConfig(**{**values, **changes})


def plan(direction: Direction = Direction.OUTBOUND, name: str = "exotel") -> CallPlan:
    return CallPlan(
        call_id="c1",
        direction=direction,
        trunk=name,
        room="r",
        created_at=0.0,
        phone_number="+919876543210",
    )


def ended(
    reason: str, status: int | None, *, outcome: str = "failed", by: str = "carrier"
) -> CallEvent:
    return CallEnded(
        call_id="c1",
        seq=3,
        at=50.0,
        outcome=outcome,
        reason=reason,
        ended_by=by,
        sip_status=status,
        q850=None,
        duration_ms=0,
    )


def status_of(board: TrunkBoard) -> object:
    return board.report({})[0]["status"]


def test_a_trunk_of_which_nothing_is_known_says_so() -> None:
    (row,) = TrunkBoard([trunk()]).report({})
    assert (row["status"], row["last_success"], row["last_failures"]) == ("unknown", None, [])


@pytest.mark.parametrize(
    "event",
    [
        CallRinging(call_id="c1", seq=1, at=40.0, early_media=False),
        CallAnswered(call_id="c1", seq=1, at=40.0, codec="PCMA", ring_ms=1),
        ended("busy", 486, outcome="busy", by="callee"),
        ended("auth", 401),
        ended("carrier_auth", 403),
        ended("ring_timeout", 487, outcome="no_answer", by="timer"),
    ],
)
def test_any_answer_to_our_invite_says_up(event: CallEvent) -> None:
    board = TrunkBoard([trunk()])
    assert board.told(plan(), event) is None
    assert status_of(board) == "up"


@pytest.mark.parametrize(
    "event", [ended("carrier_unreachable", None), ended("carrier_failure", 503)]
)
def test_two_calls_in_a_row_that_nobody_answers_say_down(event: CallEvent) -> None:
    board = TrunkBoard([trunk()])
    assert board.told(plan(), event) is By.CALL
    assert status_of(board) == "unknown"
    assert board.told(plan(), event) is By.CALL
    assert status_of(board) == "down"
    assert board.report({})[0]["last_failures"][0]["reason"] in (
        "carrier_unreachable",
        "carrier_failure",
    )


@pytest.mark.parametrize(
    "event",
    [
        ended("carrier_failure", 500),  # it may be the callee's
        ended("api_hangup", None, outcome="cancelled", by="api"),  # we gave up first
        ended("no_agent", None, by="bridge"),  # never dialled
        ended("peer_gone", 408, outcome="dropped"),  # the status of a re-INVITE
        ended("remote_hangup", 200, outcome="completed", by="callee"),
    ],
)
def test_what_says_nothing_about_the_way_to_the_trunk_changes_nothing(event: CallEvent) -> None:
    board = TrunkBoard([trunk()])
    for _ in range(3):
        assert board.told(plan(), event) is None
    assert status_of(board) == "unknown"


def test_calls_that_came_in_say_nothing() -> None:
    board = TrunkBoard([trunk()])
    board.told(plan(Direction.INBOUND), CallRinging(call_id="c", seq=1, at=1.0, early_media=False))
    for _ in range(3):
        board.told(plan(Direction.INBOUND), ended("carrier_unreachable", None))
    assert status_of(board) == "unknown"


def test_probes_say_up_and_down_too() -> None:
    board = TrunkBoard([trunk()])
    assert board.probed("exotel", 200, 1.0)
    assert status_of(board) == "up"
    assert not board.probed("exotel", None, 2.0)
    assert not board.probed("exotel", 503, 3.0)
    assert status_of(board) == "down"
    failures = board.report({})[0]["last_failures"]
    assert [(row["by"], row["sip_status"], row["reason"]) for row in failures] == [
        ("probe", 503, "refused"),
        ("probe", None, "no_answer"),
    ]
    board.probed("unheard-of", None, 4.0)


def test_a_reload_keeps_what_is_known_of_a_trunk_that_leads_to_the_same_place() -> None:
    board = TrunkBoard([trunk("a"), trunk("b"), trunk("c")])
    for name in "abc":
        board.probed(name, 200, 1.0)
    board.replace([trunk("b", max_calls=7), trunk("c", host="elsewhere.example.com"), trunk("d")])
    assert [(row["name"], row["status"]) for row in board.report({})] == [
        ("b", "up"),
        ("c", "unknown"),
        ("d", "unknown"),
    ]
    assert board.told(plan(name="a"), ended("carrier_unreachable", None)) is None


def test_the_report_counts_calls_and_has_neither_numbers_nor_credentials() -> None:
    board = TrunkBoard([trunk(caller_id="+912240000000")])
    board.told(plan(), ended("carrier_unreachable", None))
    (row,) = board.report({("exotel", "inbound"): 2})
    assert row["calls"] == {"inbound": 2, "outbound": 0}
    assert (row["max_calls"], row["calls_per_second"]) == (100, 3)
    text = json.dumps(row)
    for secret in ("hush", "919876543210", "912240000000", '"u"'):
        assert secret not in text

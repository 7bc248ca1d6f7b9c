"""The bench of the engines: its arithmetic, its search, its table."""

from __future__ import annotations

from typing import Any

import pytest

from bench.engines import figures, rtpengine, search
from bench.engines.report import Findings, markdown

pytestmark = pytest.mark.unit


def test_everybody_is_measured_in_turns_that_mirror_each_other() -> None:
    assert figures.order(["a", "b"], 4) == list("abbaabba")


def test_a_ratio_has_the_spread_of_both_sides() -> None:
    found = figures.ratio([10.0, 11.0, 12.0, 11.0], [100.0, 110.0, 90.0, 100.0])
    assert found is not None
    assert found.value == pytest.approx(0.11)
    assert 0.09 <= found.low <= found.value <= found.high <= 0.135
    assert found.differs


def test_a_ratio_that_may_be_one_is_called_no_difference() -> None:
    found = figures.ratio([9.0, 10.0, 11.0], [9.5, 10.0, 10.5])
    assert found is not None
    assert str(found).endswith("no difference")


def test_nothing_measured_is_no_ratio() -> None:
    assert figures.ratio([], [1.0]) is None


def test_each_mark_is_answered_by_the_next_burst_or_by_none() -> None:
    marks = [1_000_000_000, 2_000_000_000, 3_000_000_000]
    heard = [1_020_000_000, 3_950_000_000]
    assert figures.delays(marks, heard) == [pytest.approx(0.020)]


@pytest.mark.parametrize("limit", [3, 40, 123, 210, 377])
def test_the_search_comes_close_to_what_an_arm_carries(limit: int) -> None:
    steps = search.Search(first=max(2, int(limit * 1.2)), most=600)
    while (calls := steps.next()) is not None:
        steps.tell(calls, passed=calls <= limit, valid=True)
    assert steps.best <= limit
    assert steps.best >= 0.85 * limit - 1
    assert steps.worst is not None


def test_the_search_stops_where_our_own_load_is_late() -> None:
    steps = search.Search(first=100, most=600)
    while (calls := steps.next()) is not None:
        steps.tell(calls, passed=calls <= 100, valid=calls <= 120)
    assert (steps.best, steps.worst, steps.invalid) == (100, None, 125)


def test_a_failed_step_with_a_late_load_is_not_held_against_the_arm() -> None:
    steps = search.Search(first=50, most=600)
    steps.tell(50, passed=False, valid=False)
    assert steps.next() is None
    assert steps.best == 0


def test_the_control_protocol_of_rtpengine_is_read_as_written() -> None:
    value = {"command": "offer", "sdp": "v=0\r\n", "codec": {"mask": ["PCMU"]}, "n": -3}
    assert rtpengine.decode(rtpengine.encode(value)) == value


def block(arm: str, part: str, calls: int, cost: float, **changes: Any) -> dict[str, Any]:
    return {
        "arm": arm,
        "part": part,
        "calls": calls,
        "cpu_us": cost,
        "gap": {"p50": 0.1, "p99": 0.5, "max": 2.0, "curve": [0.1] * 101},
        "own": {"phones": 0.1, "room": 0.1},
        "up": [1.0] * 101,
        "down": [20.0, 21.0, 22.0],
        "stolen": 0.0,
        "load_core": 0.3,
        "notes": {"memory_mb": 40.0 + 0.2 * calls, "threads": 4, "join_cpu_ms": 5.0},
        **changes,
    }


def results(*blocks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "facts": {
            "cpu": "a CPU",
            "cores": 2,
            "kernel": "6",
            "python": "3",
            "packages": {},
            "commit": "0",
            "load_before": 0.1,
        },
        "plan": {"turns": 2, "seconds": 6.0, "warm": 3.0},
        "probes": [100.0, 104.0],
        "blocks": list(blocks),
        "search": {"direct": {"calls": 210, "failed_at": 220, "load_late_at": None}},
        "special": {},
        "left_out": {},
        **changes,
    }


RUN = [
    *(block("direct", "few", 20, cost) for cost in (60.0, 61.0, 62.0)),
    *(block("stock", "few", 20, cost) for cost in (600.0, 610.0, 620.0)),
    *(block("direct", "many", 100, cost) for cost in (50.0, 51.0)),
    *(block("floor", "many", 100, cost) for cost in (40.0, 41.0)),
]


def test_the_table_says_what_was_met_and_what_was_not_measured() -> None:
    lines = {line.what: line for line in Findings(results(*RUN)).lines()}
    assert lines["CPU per call against the stock SDK path"].met is True
    assert lines["CPU per call over the floor"].met is True
    assert lines["calls on one core at the gate"].met is True
    assert lines["memory per call, threads per call"].measured == "0.20 MB, 0.00"
    assert lines["CPU per call against livekit/sip"].met is None
    assert "LIVEKIT_SIP" in lines["CPU per call against livekit/sip"].measured


def test_a_target_that_was_missed_is_said_to_be() -> None:
    blocks = [block("direct", "few", 20, 200.0), block("stock", "few", 20, 600.0)]
    lines = {line.what: line for line in Findings(results(*blocks)).lines()}
    assert lines["CPU per call against the stock SDK path"].met is False
    assert "**missed**" in markdown(Findings(results(*blocks)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"probes": [100.0, 120.0]}, "probe varied"), ({}, "stolen")],
)
def test_a_run_on_a_machine_that_was_not_quiet_is_rejected(
    changes: dict[str, Any], why: str
) -> None:
    found = Findings(results(*RUN, block("sdk", "few", 20, 300.0, stolen=0.05), **changes))
    assert why in " ".join(found.rejected())
    assert "REJECTED" in markdown(found)


def test_blocks_with_a_late_load_do_not_count() -> None:
    late = block("direct", "few", 20, 999.0, own={"phones": 3.0, "room": 0.1})
    assert Findings(results(*RUN, late)).cost("direct") == [60.0, 61.0, 62.0]

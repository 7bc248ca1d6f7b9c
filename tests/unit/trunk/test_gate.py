"""Which new calls are looked at at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.trunk.admission import Gcra
from bridge.trunk.gate import SOURCE_BURST, SOURCE_RATE, Gate, TurnedAway
from bridge.trunk.overload import RETRY_AFTER, WINDOW, Overload, Thresholds

pytestmark = pytest.mark.unit


def test_ten_times_the_rate_of_a_source_admits_all_that_the_rate_allows() -> None:
    """Threat 5.1: INVITE and REGISTER flood. What is refused is not counted."""
    gate = Gate()
    times = [n / (10 * SOURCE_RATE) for n in range(int(10 * SOURCE_RATE * 5))]
    admitted = sum(gate.refusal("192.0.2.1", ("a",), now) is None for now in times)
    allowed = SOURCE_BURST + SOURCE_RATE * 5
    assert 0.99 * allowed <= admitted <= allowed + 1


def test_a_refused_source_is_told_when_to_come_again_and_others_are_served() -> None:
    gate = Gate(sources=Gcra(rate=0.25, burst=1))
    assert gate.refusal("192.0.2.1", ("a",), 0.0) is None
    assert gate.refusal("192.0.2.1", ("a",), 0.0) == TurnedAway("source_rate", 4)
    assert gate.refusal("192.0.2.2", ("a",), 0.0) is None
    assert gate.refusal("192.0.2.1", ("a",), 4.0) is None


def test_many_addresses_of_one_trunk_share_its_rate() -> None:
    """Threat 5.1: INVITE and REGISTER flood."""
    gate = Gate(trunks=Gcra(rate=1, burst=3))
    answers = [gate.refusal(f"192.0.2.{n}", ("a",), 0.0) for n in range(4)]
    assert answers == [None, None, None, TurnedAway("trunk_rate", 1)]
    # A source of two trunks is refused once both are full.
    both = [gate.refusal(f"198.51.100.{n}", ("a", "b"), 0.0) for n in range(4)]
    assert both == [None, None, None, TurnedAway("trunk_rate", 1)]


def test_while_overloaded_every_new_call_is_refused_first_of_all() -> None:
    overload = Overload()
    gate = Gate(sources=Gcra(rate=1, burst=1), overloaded=lambda: overload.active)
    overload.active = True
    assert gate.refusal("192.0.2.1", ("a",), 0.0) == TurnedAway("overload", RETRY_AFTER)
    overload.active = False
    assert gate.refusal("192.0.2.1", ("a",), 0.0) is None  # nothing was counted meanwhile


def test_requests_without_a_dialog_have_a_rate_of_their_own() -> None:
    """Threat 5.1: INVITE and REGISTER flood."""
    gate = Gate(requests=Gcra(rate=1, burst=2))
    assert [gate.may_ask("192.0.2.1", 0.0) for _ in range(3)] == [True, True, False]
    assert gate.refusal("192.0.2.1", ("a",), 0.0) is None
    assert gate.may_ask("192.0.2.2", 0.0)


def test_one_stall_is_no_overload_and_a_second_of_lateness_is() -> None:
    overload = Overload(Thresholds(enter=0.05))
    assert not overload.measured(5.0, stolen=1.0, media=2.0)
    for _ in range(WINDOW):
        assert not overload.measured(0.0)
    assert [overload.measured(0.06) for _ in range(WINDOW)].count(True) == 1
    assert overload.active


def test_what_the_machine_took_from_us_counts_only_when_it_is_much() -> None:
    overload = Overload(Thresholds(enter=0.05, stolen=0.5))
    for _ in range(3 * WINDOW):
        overload.measured(0.3, stolen=0.3)
    assert not overload.active
    for _ in range(WINDOW):
        overload.measured(0.6, stolen=0.6)
    assert overload.active


def test_late_media_is_overload_before_the_loop_is() -> None:
    overload = Overload(Thresholds(media=0.02))
    for _ in range(WINDOW):
        overload.measured(0.0, media=0.025)
    assert overload.active


def test_it_is_over_only_well_below_where_it_began() -> None:
    overload = Overload(Thresholds(enter=0.1, leave=0.3))
    for _ in range(WINDOW):
        overload.measured(0.11)
    for _ in range(3 * WINDOW):
        assert not overload.measured(0.05)
    assert overload.active
    changes = [overload.measured(0.001) for _ in range(WINDOW)]
    assert changes.count(True) == 1
    assert not overload.active


@settings(max_examples=50)
@given(st.lists(st.floats(min_value=0, max_value=60), max_size=60))
def test_a_second_without_lateness_always_ends_it(lags: list[float]) -> None:
    overload = Overload()
    for lag in lags:
        overload.measured(lag)
    for _ in range(WINDOW):
        overload.measured(0.0)
    assert not overload.active

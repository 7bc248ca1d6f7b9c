"""Totals over calls that come and go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.seam import MediaStats
from bridge.observe.traffic import Seen, Traffic

pytestmark = pytest.mark.unit

HERE = ("exotel", "inbound")


def stats(lost: int = 0, received: int = 0) -> MediaStats:
    return MediaStats(
        packets_received=received,
        packets_sent=2 * received,
        packets_lost=lost,
        packets_refused=0,
        jitter_ms=1.0,
        round_trip_ms=None,
    )


def test_a_call_is_counted_once_however_often_it_is_looked_at() -> None:
    traffic, seen = Traffic(), Seen()
    for received in (10, 10, 25, 25):
        traffic.add(HERE, seen, stats(received=received))
    assert traffic.packets()[*HERE, "received"] == 25
    assert traffic.packets()[*HERE, "sent"] == 50


def test_two_calls_of_one_trunk_add_up_and_what_ended_stays() -> None:
    traffic = Traffic()
    traffic.add(HERE, Seen(), stats(lost=3))
    traffic.add(HERE, Seen(), stats(lost=4))
    traffic.add(("exotel", "outbound"), Seen(), stats(lost=1))
    assert traffic.lost() == {HERE: 7, ("exotel", "outbound"): 1}


@given(st.lists(st.lists(st.integers(0, 50), max_size=20), max_size=5))
def test_totals_never_go_down_whatever_the_calls_count(calls: list[list[int]]) -> None:
    """Also when a late packet makes up for one that was counted as lost."""
    traffic, before = Traffic(), 0.0
    for losses in calls:
        seen = Seen()
        for lost in losses:
            traffic.add(HERE, seen, stats(lost=lost))
            assert traffic.lost()[HERE] >= before
            before = traffic.lost()[HERE]
    assert before == sum(max(losses, default=0) for losses in calls)


def test_an_opened_place_shows_zeros() -> None:
    traffic = Traffic()
    traffic.open(HERE)
    assert traffic.lost() == {HERE: 0}
    assert len(traffic.packets()) == 5

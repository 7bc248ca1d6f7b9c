"""Keys, both ways (contract 4, DTMF)."""

from __future__ import annotations

import pytest

from bridge.call.commands import PlayDigits, PublishKey
from bridge.call.inputs import DigitsAsked, Input
from bridge.call.machine import restore, snapshot
from bridge.events import CallDtmf
from bridge.media.seam import KeyPressed
from bridge.room.seam import DtmfRequested
from bridge.sip.events import KeyReported
from sdp.negotiated import Hold
from tests.unit.call.kit import SID, Bench, changed

pytestmark = pytest.mark.unit


def pressed(digit: str) -> KeyPressed:
    return KeyPressed(digit=digit, duration_ms=100)


def reported(digit: str) -> KeyReported:
    return KeyReported(session=SID, digit=digit, duration_ms=250)


@pytest.mark.parametrize("key", [pressed("5"), reported("5")])
def test_key_is_one_event_and_one_sip_dtmf(key: Input) -> None:
    bench = Bench().talking().feed(key)
    assert [event.digit for event in bench.of(CallDtmf)] == ["5"]
    assert bench.of(PublishKey) == [PublishKey(digit="5")]


def test_same_key_twice_the_same_way_is_two_keys() -> None:
    assert len(Bench().talking().feed(pressed("1"), pressed("1")).of(PublishKey)) == 2


def test_key_that_comes_both_ways_is_one_key() -> None:
    bench = Bench().talking().feed(pressed("1"), reported("1"))
    assert len(bench.of(PublishKey)) == 1
    bench.now += 2
    assert len(bench.feed(reported("1")).of(PublishKey)) == 2


@pytest.mark.parametrize("digit", ["", "E", "12", "!", "\x00", "٣"])
def test_what_is_no_key_is_ignored(digit: str) -> None:
    assert not Bench().talking().feed(reported(digit)).has(CallDtmf)


def test_keys_before_the_answer_are_ignored() -> None:
    assert not Bench().dialing().feed(pressed("1")).has(CallDtmf)


def test_flood_of_keys_is_bounded() -> None:
    bench = Bench().talking()
    for _ in range(500):
        bench.feed(pressed("1"))
    assert len(bench.of(CallDtmf)) == 20
    bench.now += 1
    assert len(bench.feed(pressed("1")).of(CallDtmf)) == 21


def test_bound_of_keys_survives_a_restart() -> None:
    bench = Bench().talking()
    for _ in range(20):
        bench.feed(pressed("1"))
    bench.state = restore(snapshot(bench.state, bench.now, bench.wall), bench.now, bench.wall)
    assert len(bench.feed(pressed("1")).of(CallDtmf)) == 20


def test_count_of_keys_follows_the_clock_over_a_restart() -> None:
    bench = Bench().talking().feed(pressed("1"))
    saved = snapshot(bench.state, bench.now, bench.wall)
    state = restore(saved, 5.0, bench.wall)
    assert state.keys_since == 5.0
    assert state.last_key is not None
    assert state.last_key.at == 5.0


@pytest.mark.parametrize("asked", [DtmfRequested(digit="#"), DigitsAsked(digits="12w#")])
def test_keys_asked_for_are_played(asked: Input) -> None:
    assert len(Bench().talking().feed(asked).of(PlayDigits)) == 1


@pytest.mark.parametrize("digits", ["", "x", "1" * 65, "1 2"])
def test_what_cannot_be_played_is_not(digits: str) -> None:
    assert not Bench().talking().feed(DigitsAsked(digits=digits)).has(PlayDigits)


def test_nothing_is_played_before_the_answer_or_on_hold() -> None:
    assert not Bench().dialing().feed(DigitsAsked(digits="1")).has(PlayDigits)
    bench = Bench().talking().feed(changed(Hold.SENDONLY), DtmfRequested(digit="1"))
    assert not bench.has(PlayDigits)

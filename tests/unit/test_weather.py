"""The bad network of the system tests, and what they judge sound with."""

from __future__ import annotations

import itertools
import math

import pytest

from bridge.carrier.sound import tone
from tests.system.cable import _rewritten
from tests.system.meter import judge
from tests.system.relay import is_rtp
from tests.system.weather import Path, Weather

pytestmark = pytest.mark.unit

PACKETS = 20_000


def arrivals(weather: Weather, seed: int, count: int = PACKETS) -> list[list[float]]:
    """Return when the copies of packets that leave every 20 ms arrive."""
    path = Path(weather, seed)
    return [path.passes(0.02 * index) for index in range(count)]


def test_the_same_seed_decides_the_same_and_another_one_otherwise() -> None:
    weather = Weather(loss=0.1, jitter=0.05, twice=0.1)
    assert arrivals(weather, 7) == arrivals(weather, 7)
    assert arrivals(weather, 7) != arrivals(weather, 8)


def test_fair_weather_changes_nothing() -> None:
    assert arrivals(Weather(), 1, 100) == [[0.02 * index] for index in range(100)]


def test_random_loss_loses_its_share() -> None:
    lost = sum(not one for one in arrivals(Weather(loss=0.05), 1))
    assert lost / PACKETS == pytest.approx(0.05, abs=0.01)


def test_bursts_are_as_long_and_as_many_as_the_model_says() -> None:
    lost = [not one for one in arrivals(Weather(bad=0.02, good=0.4), 1)]
    bursts = [sum(1 for _ in group) for gone, group in itertools.groupby(lost) if gone]
    assert sum(bursts) / len(bursts) == pytest.approx(1 / 0.4, abs=0.3)
    assert sum(bursts) / PACKETS == pytest.approx(0.02 / (0.02 + 0.4), abs=0.01)


def test_jitter_delays_by_up_to_so_much_and_keeps_the_order() -> None:
    found = [one for (one,) in arrivals(Weather(jitter=0.06), 1)]
    assert found == sorted(found)
    late = [at - 0.02 * index for index, at in enumerate(found)]
    assert min(late) >= 0
    assert max(late) == pytest.approx(0.06, abs=0.002)


def test_what_is_reordered_comes_after_later_ones() -> None:
    found = [one for (one,) in arrivals(Weather(reordered=0.05), 1)]
    overtaken = sum(after < before for before, after in itertools.pairwise(found))
    assert overtaken / PACKETS == pytest.approx(0.05, abs=0.01)


def test_what_comes_twice_comes_twice() -> None:
    found = arrivals(Weather(twice=0.05), 1)
    assert sum(len(one) for one in found) / PACKETS == pytest.approx(1.05, abs=0.01)


def test_a_tone_is_judged_by_frequency_level_and_its_longest_hole() -> None:
    sound = tone(440, 2.0, 0.3)
    sound[8000:8800] = type(sound)("h", [0] * 800)
    heard = judge([0] * 500 + list(sound) + [0] * 4000)
    assert heard["hertz"] == pytest.approx(440, rel=0.06)
    assert heard["dbov"] == pytest.approx(20 * math.log10(0.3 / math.sqrt(2)), abs=0.5)
    assert heard["gap_ms"] in (90, 100)
    assert heard["seconds"] == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("sound", [[], [0] * 3, [0] * 8000])
def test_silence_is_no_tone(sound: list[int]) -> None:
    assert judge(sound)["seconds"] == 0.0


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_port_is_rewritten_however_the_stream_was_cut(cut: int) -> None:
    real, told = b" 40001 typ", b" 40002 typ"
    stream = b"127.0.0.1 40001 typ host"
    first, kept = _rewritten(stream[: 9 + cut], real, told)
    last, rest = _rewritten(kept + stream[9 + cut :], real, told)
    assert first + last + rest == b"127.0.0.1 40002 typ host"


def test_only_rtp_has_weather() -> None:
    assert is_rtp(bytes([0x80, 0x00]) + bytes(10))
    assert is_rtp(bytes([0x90, 0xEF]) + bytes(10))
    assert not is_rtp(bytes([0x80, 200]) + bytes(10)), "a sender report"
    assert not is_rtp(bytes([0, 1]) + bytes(18)), "STUN"
    assert not is_rtp(bytes([22, 254]) + bytes(20)), "DTLS"

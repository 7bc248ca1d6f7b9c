"""`make fuzz` works: every target takes its seeds, its kept corpus and some mutations of them."""

from __future__ import annotations

import random
import time

import pytest

from tests.fuzz.corpus import (
    KEPT,
    LARGEST_KEPT,
    MOST_GROWTH,
    Cost,
    cost_of,
    cpu_of,
    growth_of,
    kept,
    minimised,
)
from tests.fuzz.schedule import plan
from tests.fuzz.target import MOST_CPU, Meter, Target
from tests.fuzz.targets.registry import TARGETS
from tests.unit.fuzz.mutate import BINARY, TEXT, Script, mutated

pytestmark = pytest.mark.unit

# Mutations fed to each target: some thousands in all, by what one costs.
MUTATIONS = {"endpoint": 80, "framing": 60, "offer-answer": 300, "reception": 400}
OTHERS = 1000


@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_corpus_and_mutations_of_it_meet_every_oracle(name: str) -> None:
    target = TARGETS[name]
    inputs = kept(name)
    assert inputs, "no kept corpus"
    slowest = 0.0
    for data in inputs:
        meter = Meter()
        target.run(data, meter)
        slowest = max(slowest, meter.slowest)
    assert slowest < 0.2  # what shares a core with other tests measures badly
    chance = random.Random(name)
    for _ in range(MUTATIONS.get(name, OTHERS)):
        script = Script(chance.randbytes(64))
        kinds = TEXT if target.dictionary else BINARY
        data = mutated(chance.choice(inputs), script, inputs, kinds=kinds)
        target.run(data[: target.longest], Meter())


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_meets_every_oracle(name: str) -> None:
    seeds = TARGETS[name].seeds()
    assert seeds
    for seed in seeds:
        TARGETS[name].run(seed, Meter())


def test_the_kept_corpus_is_small_and_belongs_to_a_target() -> None:
    files = [path for path in KEPT.rglob("*") if path.is_file() and path.name != "README.md"]
    assert {path.parent.name for path in files} <= set(TARGETS)
    assert sum(path.stat().st_size for path in files) < 1_000_000
    assert max(path.stat().st_size for path in files) <= LARGEST_KEPT


def test_every_core_runs_every_target_for_its_share() -> None:
    cores = plan(list(TARGETS.values()), 600, 3)
    assert len(cores) == 3
    for core in cores:
        assert {piece.target for piece in core} == set(TARGETS)
        assert abs(sum(piece.seconds for piece in core) - 600) <= len(TARGETS)
    assert len({core[0].target for core in cores}) == 3


def gluttonous(data: bytes, meter: Meter) -> None:
    with meter:
        _ = bytearray(32 << 20) if data == b"much" else None


GLUTTON = Target(name="glutton", run=gluttonous, seeds=list, longest=9)


def test_an_input_that_takes_much_memory_at_once_costs_too_much() -> None:
    assert cost_of(GLUTTON, b"much").memory >= 32 << 20
    assert cost_of(GLUTTON, b"much").too_much
    assert not cost_of(GLUTTON, b"few").too_much
    assert Cost(cpu=1.1 * MOST_CPU, memory=0).too_much


def test_one_slow_look_at_an_input_is_noise_and_slow_looks_only_are_its_own() -> None:
    looks = iter([5 * MOST_CPU, 0.0, 5 * MOST_CPU])

    def noisy(_data: bytes, meter: Meter) -> None:
        with meter:
            until = time.thread_time() + next(looks, 0.0)
            while time.thread_time() < until:
                pass

    def slow(_data: bytes, meter: Meter) -> None:
        for _ in range(2):
            with meter:
                until = time.thread_time() + 2 * MOST_CPU
                while time.thread_time() < until:
                    pass

    assert cpu_of(Target(name="noisy", run=noisy, seeds=list, longest=9), b"") <= MOST_CPU
    assert cpu_of(Target(name="slow", run=slow, seeds=list, longest=9), b"", looks=3) > MOST_CPU


def test_what_stays_of_every_round_is_growth_and_a_cache_is_not() -> None:
    leak: list[bytearray] = []
    cache: dict[bytes, bytearray] = {}

    def leaking(data: bytes, _meter: Meter) -> None:
        leak.append(bytearray(2 * MOST_GROWTH))
        cache[data] = bytearray(100_000)

    def caching(data: bytes, _meter: Meter) -> None:
        cache[data] = bytearray(100_000)

    inputs = [b"one", b"two"]
    assert growth_of(Target(name="x", run=leaking, seeds=list, longest=9), inputs) > MOST_GROWTH
    assert growth_of(Target(name="x", run=caching, seeds=list, longest=9), inputs) <= MOST_GROWTH


def test_minimising_keeps_what_takes_a_step_of_its_own() -> None:
    target = TARGETS["datagram"]
    rtp, padded = bytes([0x80]) + bytes(11), bytes([0xA0]) + bytes(12) + b"\1"
    chosen = minimised(target, [rtp[:-1] + b"\1", rtp, padded, padded + b"\1", b""])
    assert rtp in chosen
    assert padded in chosen
    assert rtp[:-1] + b"\1" not in chosen

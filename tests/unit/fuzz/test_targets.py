"""`make fuzz` works: every target takes its seeds, its kept corpus and some mutations of them."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.corpus import KEPT, LARGEST_KEPT, Cost, cost_of, kept, minimised
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
    assert slowest < 4 * MOST_CPU  # what shares a core with other tests measures badly
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
    assert Cost(cpu=0.051, memory=0).too_much


def test_minimising_keeps_what_takes_a_step_of_its_own() -> None:
    target = TARGETS["datagram"]
    rtp, padded = bytes([0x80]) + bytes(11), bytes([0xA0]) + bytes(12) + b"\1"
    chosen = minimised(target, [rtp[:-1] + b"\1", rtp, padded, padded + b"\1", b""])
    assert rtp in chosen
    assert padded in chosen
    assert rtp[:-1] + b"\1" not in chosen

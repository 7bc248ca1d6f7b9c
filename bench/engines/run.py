"""The whole run: who is measured when, and what becomes of it."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.engines import (
    at_server,
    at_standin,
    figures,
    flood,
    livekit_sip,
    machine,
    report,
    rtpengine,
    search,
    sound,
    tools,
)
from bench.engines.arms import BARE, FLOOR, Arm, Setting
from bench.engines.block import Sample, measure

CALLS = 20  # of the comparison with the real server
MANY = 100  # of the comparison with the floor
LIVE = 50  # calls whose pacing is watched while something else happens
JOINS = 50.0  # a second
PROBE = 0.3  # seconds


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured; times in seconds."""

    turns: int = 4
    warm: float = 2.5
    seconds: float = 5.5
    search: bool = True
    only: tuple[str, ...] = ()


QUICK = Plan(turns=1, warm=1.5, seconds=3.0, search=False)


class Run:
    """One run and all that it found."""

    def __init__(self, plan: Plan, setting: Setting, place: Path | None) -> None:
        self.plan = plan
        self.place = place
        self.setting = setting
        self.results: dict[str, Any] = {
            "facts": machine.facts(),
            "plan": asdict(plan),
            "probes": [],
            "blocks": [],
            "search": {},
            "special": {},
            "left_out": {},
        }
        self._began = time.monotonic()

    def wants(self, name: str) -> bool:
        """Whether the part *name* was asked for."""
        return not self.plan.only or name in self.plan.only

    async def block(self, arm: Arm, calls: int, *, part: str, short: bool = False) -> Sample | None:
        """Measure one block; an arm that fails is left out from then on."""
        if arm.name in self.results["left_out"]:
            return None
        self.results["probes"].append(self.probe())
        try:
            async with arm.up(self.setting, calls) as running:
                warm, seconds = self.plan.warm, self.plan.seconds
                if short:
                    warm, seconds = min(warm, 2.0), min(seconds, 5.0)
                sample = await measure(arm.name, running, warm=warm, seconds=seconds)
        except (tools.NoTools, ImportError) as lacking:
            self.leave_out(arm, str(lacking))
            return None
        except Exception as failure:
            why = f"{calls} calls: {type(failure).__name__} {failure}"
            if part == "search":
                self.say(f"{arm.name:13} did not come up, {why}")
            else:
                self.leave_out(arm, why)
            return None
        self.results["blocks"].append({"part": part, **asdict(sample)})
        self.say(
            f"{arm.name:13} {calls:4d} calls {sample.cpu_us:7.1f} us"
            f" {100 * sample.core:3.0f} % of the core,"
            f" p99 {sample.gap['p99']:.2f} ms, {sample.why}{'' if sample.valid else ', LOAD LATE'}"
        )
        return sample

    def leave_out(self, arm: Arm, why: str) -> None:
        """Go on without *arm*, and say why."""
        self.results["left_out"][arm.name] = why
        self.say(f"{arm.name} is left out: {why}")

    def probe(self) -> float:
        """Return packets a second of the floor's work on the measured core."""
        command = [
            str(tools.RELEASE / "floor"),
            f"probe={PROBE}",
            f"pack={self.setting.sound.opus}",
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {tools.MEASURED}),
        )
        return float(json.loads(done.stdout)["packets"])

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"{time.monotonic() - self._began:5.0f} s  {text}", flush=True)

    # The parts.

    async def compare(self) -> None:
        """All arms with the same few calls, in turns; then the floor and us with many."""
        await self.block(BARE, 2, part="bare")
        known = [
            FLOOR,
            at_standin.DIRECT,
            at_server.DIRECT,
            at_server.SDK,
            at_server.STOCK,
            rtpengine.RTPENGINE,
        ]
        if livekit_sip.program() is not None:
            known.append(livekit_sip.ARM)
        arms = {arm.name: arm for arm in known if self.wants(arm.name)}
        for name in figures.order(list(arms), self.plan.turns):
            await self.block(arms[name], CALLS, part="few")
        for name in figures.order([FLOOR.name, at_standin.DIRECT.name], self.plan.turns):
            if name in arms:
                await self.block(arms[name], MANY, part="many")

    async def capacities(self) -> None:
        """How many calls each arm carries on one core at the gate."""
        for arm in (
            at_standin.DIRECT,
            at_server.SDK,
            at_server.STOCK,
            rtpengine.RTPENGINE,
            *((livekit_sip.ARM,) if livekit_sip.program() is not None else ()),
        ):
            known = [one for one in self.results["blocks"] if one["arm"] == arm.name]
            if not known or not self.wants(arm.name) or arm.name in self.results["left_out"]:
                continue
            most = max(one["calls"] for one in known)
            cost = median([one["cpu_us"] for one in known if one["calls"] == most])
            steps = search.Search(first=search.guess(cost), most=arm.most)
            while (calls := steps.next()) is not None:
                sample = await self.block(arm, calls, part="search", short=True)
                if sample is None:  # calls that do not come up fail the gate
                    steps.tell(calls, passed=False, valid=True)
                else:
                    steps.tell(calls, passed=sample.passed, valid=sample.valid)
            self.results["search"][arm.name] = {
                "calls": steps.best,
                "failed_at": steps.worst,
                "load_late_at": steps.invalid,
            }
            self.say(f"{arm.name} carries {steps.best} calls on one core at the gate")

    async def disturbed(self) -> None:
        """The pacing of our own calls while the interpreter lock is held, and during joins."""
        if not self.wants("direct") or "direct" in self.results["left_out"]:
            return
        seconds = max(self.plan.seconds, 4.0)
        async with at_standin.DIRECT.up(self.setting, LIVE) as running:
            control = running.control
            assert control is not None
            for name, on, off in (("quiet", "", ""), ("lock", "hold on", "hold off")):
                if on:
                    control.order(on)
                warm = 1.0 if on else self.plan.warm
                self.keep(name, await measure(name, running, warm=warm, seconds=seconds))
                if off:
                    control.order(off)
            count = int(JOINS * (seconds - 1.5))

            async def joining(control: tools.Tool = control) -> None:
                control.order(f"join {count} {JOINS} 1")

            sample = await measure("joins", running, warm=1.0, seconds=seconds, during=joining)
            self.keep("joins", sample)
            self.results["special"]["joined_while"] = await control.answer()
        async with at_standin.DIRECT.up(self.setting, 1) as running:
            control = running.control
            assert control is not None
            await control.ask("join 20 50 0.2")  # the first of a process cost more
            found = [await control.ask("join 150 100 0.3") for _ in range(min(3, self.plan.turns))]
            self.results["special"]["join_cost"] = found
            rates = [one["joined"] / one["cpu"] for one in found]
            self.say(f"joins: {', '.join(f'{rate:.0f}' for rate in rates)} a second and core")

    def keep(self, name: str, sample: Sample) -> None:
        """Note a block in which something happens."""
        self.results["special"][name] = asdict(sample)
        gap = sample.gap
        self.say(f"{name:13} p50 {gap['p50']:.2f} p99 {gap['p99']:.2f} max {gap['max']:.2f} ms")

    async def flooded(self) -> None:
        """The pacing of a whole daemon's calls under a flood of INVITEs."""
        if not self.wants("flood"):
            return
        try:
            found = await flood.measure(self.setting.folder, seconds=max(4.0, self.plan.seconds))
        except Exception as failure:
            self.results["left_out"]["flood"] = f"{type(failure).__name__} {failure}"
            self.say(f"flood is left out: {failure}")
            return
        self.results["special"]["flood"] = found
        gap = found["gap"]
        self.say(f"flood         p50 {gap['p50']:.2f} p99 {gap['p99']:.2f} max {gap['max']:.2f} ms")

    def concealed(self) -> None:
        """What concealment is worth; of the part that measures it, if this tree has it."""
        if not self.wants("concealment"):
            return
        try:
            concealment = importlib.import_module("bench.concealment")
            streams = concealment.all_streams()["opus"]
            found = {}
            for pattern in ("random", "bursts"):
                scores = [
                    concealment.score(one, pattern, seed)
                    for one in streams
                    for seed in range(2 * min(2, self.plan.turns))
                ]
                found[pattern] = {
                    "zero": [score[0] for score in scores],
                    "ours": [score[1] for score in scores],
                }
        except Exception as failure:
            self.results["left_out"]["concealment"] = f"{type(failure).__name__} {failure}"
            self.say(f"concealment is left out: {failure}")
            return
        self.results["special"]["concealment"] = found


async def _all(run: Run) -> None:
    for part in (run.compare, run.disturbed, run.flooded):
        await part()
        report.save(run.results, run.place)  # a run that is cut short has shown something
    if run.plan.search:
        await run.capacities()


def main(plan: Plan, place: Path | None) -> int:
    """Measure, print, write; 0 unless nothing could be measured."""
    os.sched_setaffinity(0, tools.LOAD)
    with tempfile.TemporaryDirectory(prefix="trunkbridge-bench-") as folder:
        try:
            tools.build()
            setting = Setting(sound=sound.make(Path(folder)), folder=Path(folder))
        except tools.NoTools as lacking:
            print(f"engines: {lacking}")
            return 1
        run = Run(plan, setting, place)
        asyncio.run(_all(run))
        run.concealed()
    run.results["facts"]["load_after"] = round(os.getloadavg()[0], 2)
    run.results["facts"]["seconds"] = round(time.monotonic() - run._began)
    report.publish(run.results, place)
    return 0

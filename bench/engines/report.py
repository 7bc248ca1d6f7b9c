"""What the figures say against the targets of the direct engine: text, JSON, a table, a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from bench.engines import figures, plot
from bench.table import percentile

FOLDER = Path(__file__).resolve().parents[1] / "results"
MOST_SPREAD = 0.15  # of the floor's probe
MOST_STOLEN = 0.02  # of all cores
NAMES = {
    "floor": "floor (echo, Opus decode, SRTP)",
    "direct": "this engine, stand-in SFU",
    "direct-server": "this engine, real server",
    "sdk": "SDK engine, real server",
    "stock": "stock SDK, real server",
    "rtpengine": "rtpengine PCMU-Opus, plain RTP",
    "livekit-sip": "livekit/sip, real server",
    "bare": "nothing between",
}

Block = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One target and what was measured of it; ``met`` is None when it was not measured."""

    what: str
    target: str
    measured: str
    met: bool | None = None


class Findings:
    """The results of one run, read."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results
        self.blocks: list[Block] = results["blocks"]
        self.special: dict[str, Any] = results["special"]
        bare = self.of("bare", "bare")
        self.bare_up = percentile(_all(bare, "up"), 0.5) if bare else 0.0
        self.bare_down = percentile(_all(bare, "down"), 0.5) if bare else 0.0

    def of(self, arm: str, part: str) -> list[Block]:
        """Return the valid blocks of an arm in a part; blocks with a late load say nothing."""
        wanted = [one for one in self.blocks if one["arm"] == arm and one["part"] == part]
        return [one for one in wanted if max(one["own"].values()) < 1.0] or wanted

    def cost(self, arm: str, part: str = "few") -> list[float]:
        """Return the processor time of each block, us per 20 ms and call."""
        return [one["cpu_us"] for one in self.of(arm, part)]

    def ratio(self, ours: str, theirs: str, part: str = "few") -> figures.Ratio | None:
        """Return our cost over theirs."""
        return figures.ratio(self.cost(ours, part), self.cost(theirs, part))

    @property
    def at_server(self) -> str:
        """Return the arm of ours that meets the others on equal terms, if it ran."""
        return "direct-server" if self.cost("direct-server") else "direct"

    def up(self, arm: str) -> list[float]:
        """Return the delays phone to room, ms, without what the loads take by themselves."""
        found = _all(self.of(arm, "few"), "up")
        # Stamps pass untouched; bursts go through codecs as those of the bare pair do not.
        return [max(0.0, delay - self.bare_up) for delay in found]

    def down(self, arm: str) -> list[float]:
        """Return the delays room to phone, ms, without the encoder's own and the loads'."""
        return [delay - self.bare_down for delay in _all(self.of(arm, "few"), "down")]

    def memory(self, arm: str) -> tuple[float, float] | None:
        """Return megabytes and threads of one call more: the slope over all blocks."""
        points = [
            (one["calls"], one["notes"]["memory_mb"], one["notes"]["threads"])
            for one in self.blocks
            if one["arm"] == arm and "memory_mb" in one["notes"]
        ]
        calls = [float(point[0]) for point in points]
        if len(set(calls)) < 2:
            return None
        middle = fmean(calls)
        under = sum((x - middle) ** 2 for x in calls)

        def slope(column: int) -> float:
            mean = fmean(point[column] for point in points)
            return float(sum((p[0] - middle) * (p[column] - mean) for p in points) / under)

        return slope(1), slope(2)

    def rejected(self) -> list[str]:
        """Return why nothing here should be believed; empty: it may be."""
        found = []
        probes = self.results["probes"]
        if probes and (spread := figures.spread(probes)) > MOST_SPREAD:
            found.append(f"the floor's probe varied by {100 * spread:.0f} %")
        stolen = max((one["stolen"] for one in self.blocks), default=0.0)
        if stolen > MOST_STOLEN:
            found.append(f"{100 * stolen:.1f} % was stolen by the host")
        late = [one for one in self.blocks if max(one["own"].values()) >= 1.0]
        if len(late) > len(self.blocks) / 10:
            found.append(f"our load was late in {len(late)} of {len(self.blocks)} blocks")
        return found

    def lines(self) -> list[Line]:
        """Return the table of targets."""
        return [
            self._cost("CPU per call against livekit/sip", "livekit-sip", 1 / 8, "<= 1/8"),
            self._cost("CPU per call against the stock SDK path", "stock", 1 / 6, "<= 1/6"),
            self._over_floor(),
            self._capacity(),
            self._up(),
            self._down(),
            self._pacing("pacing p99, interpreter lock held 50 ms ten times a second", "lock"),
            self._pacing("pacing p99 under a flood of 2,000 INVITEs/s (whole daemon)", "flood"),
            self._memory(),
            self._joins(),
            self._pacing("pacing p99 during 50 joins/s", "joins"),
            *self._concealment(),
        ]

    def _cost(self, what: str, theirs: str, most: float, target: str) -> Line:
        found = self.ratio(self.at_server, theirs)
        if found is None:
            return self._lacking(what, target, theirs)
        where = "both at the real server"
        if self.at_server == "direct":
            where = "ours at the stand-in SFU"
        return Line(
            what=what,
            target=target,
            measured=f"{found} = 1/{1 / found.value:.1f}, {where}",
            met=found.value <= most,
        )

    def _over_floor(self) -> Line:
        what, target = "CPU per call over the floor", "<= 1.7"
        found = self.ratio("direct", "floor", "many") or self.ratio("direct", "floor")
        if found is None:
            return self._lacking(what, target, "direct")
        return Line(what=what, target=target, measured=str(found), met=found.value <= 1.7)

    def _capacity(self) -> Line:
        what, target = "calls on one core at the gate", ">= 200"
        found = self.results["search"].get("direct")
        if not found:
            return Line(what=what, target=target, measured="not searched")
        calls = found["calls"]
        late = found["load_late_at"]
        more = f" (at {late} our own load was late)" if late else ""
        return Line(what=what, target=target, measured=f"{calls}{more}", met=calls >= 200)

    def _up(self) -> Line:
        what, target = "caller to room added, p50 / p99", "<= 2 / 4 ms"
        delays = self.up("direct")
        if not delays:
            return self._lacking(what, target, "direct")
        middle, high = percentile(delays, 0.5), percentile(delays, 0.99)
        told = f"{middle:.2f} / {high:.2f} ms"
        return Line(what=what, target=target, measured=told, met=middle <= 2 and high <= 4)

    def _down(self) -> Line:
        what, target = "room to caller added, p50", "<= 25 ms"
        delays = self.down("direct")
        if not delays:
            return self._lacking(what, target, "direct")
        middle = percentile(delays, 0.5)
        told = f"{middle:.1f} ms (p99 {percentile(delays, 0.99):.1f}, {len(delays)} bursts)"
        return Line(what=what, target=target, measured=told, met=middle <= 25)

    def _pacing(self, what: str, name: str) -> Line:
        found = self.special.get(name)
        if not found:
            return self._lacking(what, "<= 1 ms", name)
        gap = found["gap"]
        told = f"{gap['p99']:.2f} ms (p50 {gap['p50']:.2f}, max {gap['max']:.1f})"
        if name == "flood":
            engine = "direct" if found["direct"] else "SDK"
            told += f"; {found['rate']:.0f}/s sent, {engine} engine"
        return Line(what=what, target="<= 1 ms", measured=told, met=gap["p99"] <= 1.0)

    def _memory(self) -> Line:
        what, target = "memory per call, threads per call", "<= 0.4 MB, 0"
        found = self.memory("direct")
        if found is None:
            return self._lacking(what, target, "direct")
        told = f"{found[0]:.2f} MB, {abs(found[1]):.2f}"
        return Line(what=what, target=target, measured=told, met=found[0] <= 0.4 and found[1] < 0.1)

    def _joins(self) -> Line:
        what, target = "joins per second and core", ">= 80"
        server = [one["notes"]["join_cpu_ms"] for one in self.of("direct-server", "few")]
        native = [one["joined"] / one["cpu"] for one in self.special.get("join_cost", [])]
        if not server and not native:
            return self._lacking(what, target, "direct")
        told = []
        if server:
            told.append(f"{1000 / median(server):.0f} whole, at the real server")
        if native:
            told.append(f"{median(native):.0f} native part, with their ends")
        rate = 1000 / median(server) if server else median(native)
        return Line(what=what, target=target, measured="; ".join(told), met=rate >= 80)

    def _concealment(self) -> list[Line]:
        found = self.special.get("concealment")
        lines = []
        for pattern, least in (("random", 0.3), ("bursts", 0.25)):
            what, target = f"concealment: PESQ-NB over zero fill, 5 % {pattern}", f"+{least}"
            if not found:
                lines.append(self._lacking(what, target, "concealment"))
                continue
            zero, ours = fmean(found[pattern]["zero"]), fmean(found[pattern]["ours"])
            told = f"{ours - zero:+.2f} ({zero:.2f} to {ours:.2f}, {len(found[pattern]['zero'])})"
            lines.append(Line(what=what, target=target, measured=told, met=ours - zero >= least))
        return lines

    def _lacking(self, what: str, target: str, name: str) -> Line:
        why = self.results["left_out"].get(name, "not run")
        if name == "livekit-sip":
            why = self.results["left_out"].get(name, "no binary: LIVEKIT_SIP=path")
        return Line(what=what, target=target, measured=f"- ({why.splitlines()[0][:90]})")


def publish(results: dict[str, Any], place: Path | None) -> None:
    """Print everything, and write JSON, table and plot to *place*."""
    found = Findings(results)
    text = markdown(found)
    print(f"\n{text}")
    save(results, place)
    if place is None:
        return
    (place / "engines.md").write_text(text)
    plot.draw(found, place / "engines.png")
    print(f"written: {place}/engines.json, engines.md, engines.png")


def save(results: dict[str, Any], place: Path | None) -> None:
    """Write what was measured so far."""
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        (place / "engines.json").write_text(json.dumps(_rounded(results)) + "\n")


def markdown(found: Findings) -> str:
    """Return the report."""
    results = found.results
    facts = results["facts"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    probes = results["probes"]
    lines = [
        "# Engines",
        "",
        f"{facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']},"
        f" Python {facts['python']}, {versions}; commit {facts['commit']}.",
        f"Load average before {facts['load_before']}, after {facts.get('load_after', '?')};"
        f" {facts.get('seconds', '?')} s; {results['plan']['turns']} turns of"
        f" {results['plan']['seconds']:g} s after {results['plan']['warm']:g} s;"
        f" the floor's probe varied by {100 * figures.spread(probes):.0f} %.",
        "",
    ]
    for why in found.rejected():
        lines += [f"**REJECTED: {why}. Ratios and times of this run are not to be quoted.**", ""]
    lines += _table(
        ["what", "this issue", "measured", ""],
        [[one.what, one.target, one.measured, _mark(one.met)] for one in found.lines()],
    )
    lines += ["", "Ratios are medians of interleaved blocks, with the bootstrap's 95 %.", ""]
    lines += _table(
        [
            "arm",
            "us/20 ms/call",
            "of this engine's",
            "calls/core",
            "up p50/p99 ms",
            "down p50 ms",
            "pacing p99 ms",
            "MB, threads per call",
            "join, ms CPU",
        ],
        [_row(found, arm) for arm in NAMES if arm != "bare" and found.cost(arm)],
    )
    if many := found.ratio("direct", "floor", "many"):
        calls = found.of("direct", "many")[0]["calls"]
        costs = ", ".join(
            f"{arm} {median(found.cost(arm, 'many')):.0f} us" for arm in ("direct", "floor")
        )
        lines += ["", f"With {calls} calls: {costs}, ratio {many}."]
    loads = [one["load_core"] for one in found.blocks]
    late = [max(one["own"].values()) for one in found.blocks]
    if loads:
        lines += [
            "",
            f"Our loads used up to {100 * max(loads):.0f} % of the other core and were late by p99"
            f" {median(late):.2f} ms (median of blocks; {sum(value >= 1 for value in late)} of"
            f" {len(late)} blocks above 1 ms are not counted). Left out:"
            f" {', '.join(results['left_out']) or 'nothing'}.",
        ]
    return "\n".join(lines) + "\n"


def _row(found: Findings, arm: str) -> list[str]:
    blocks = found.of(arm, "few")
    ours = found.at_server if arm not in ("floor", "rtpengine") else "direct"
    ratio = figures.ratio(found.cost(arm), found.cost(ours))
    searched = found.results["search"].get(arm)
    memory = found.memory(arm)
    joins = [one["notes"]["join_cpu_ms"] for one in blocks if "join_cpu_ms" in one["notes"]]
    up, down = found.up(arm), found.down(arm)
    return [
        NAMES[arm],
        f"{median(found.cost(arm)):.0f}",
        "1" if arm == ours else str(ratio),
        str(searched["calls"]) if searched else "-",
        f"{percentile(up, 0.5):.1f} / {percentile(up, 0.99):.1f}" if up else "-",
        f"{percentile(down, 0.5):.1f}" if down else "-",
        f"{median(one['gap']['p99'] for one in blocks):.2f}",
        f"{memory[0]:.2f}, {abs(memory[1]):.1f}" if memory else "-",
        f"{median(joins):.1f}" if joins else "-",
    ]


def _mark(met: bool | None) -> str:
    return {True: "met", False: "**missed**", None: "not measured"}[met]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _all(blocks: Sequence[Block], name: str) -> list[float]:
    return [value for one in blocks for value in one[name]]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value

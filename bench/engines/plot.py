"""The picture of a run: cost, calls on a core, delays, pacing."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from bench.table import percentile

if TYPE_CHECKING:
    from bench.engines.report import Findings

OURS, THEIRS, LIMIT = "#1b6ca8", "#8a8f98", "#c2452d"
SHORT = {
    "floor": "floor",
    "direct": "this engine",
    "direct-server": "this engine,\nreal server",
    "sdk": "SDK engine",
    "stock": "stock SDK",
    "rtpengine": "rtpengine",
    "livekit-sip": "livekit/sip",
}


def draw(found: Findings, path: Path) -> None:
    """Write the picture."""
    figure, panels = pyplot.subplots(2, 2, figsize=(13, 8.5), constrained_layout=True)
    _cost(panels[0][0], found)
    _capacity(panels[0][1], found)
    _delays(panels[1][0], found)
    _pacing(panels[1][1], found)
    facts = found.results["facts"]
    note = f"{facts['cpu']}, {facts['cores']} cores, load {facts['load_before']} before"
    if found.rejected():
        note += "; REJECTED: " + "; ".join(found.rejected())
    figure.suptitle(f"Media engines, one interleaved run\n{note}", fontsize=11)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _colour(arm: str) -> str:
    return OURS if arm.startswith("direct") else THEIRS


def _beside(axes: Any, x: float, y: float, text: str) -> None:
    """Write *text* a little to the right of a bar's end."""
    axes.annotate(text, (x, y), (6, 0), textcoords="offset points", va="center", fontsize=8)


def _cost(axes: Any, found: Findings) -> None:
    arms = [arm for arm in SHORT if found.cost(arm)]
    for place, arm in enumerate(arms):
        costs = found.cost(arm)
        axes.barh(place, median(costs), color=_colour(arm), alpha=0.75)
        axes.plot(costs, [place] * len(costs), "o", color="black", markersize=3)
        _beside(axes, max(costs), place, f"{median(costs):.0f}")
    axes.set_xscale("log")
    if arms:
        medians = [median(found.cost(arm)) for arm in arms]
        axes.set_xlim(min(medians) * 0.6, max(medians) * 1.6)
    axes.set_yticks(range(len(arms)), [SHORT[arm] for arm in arms])
    axes.invert_yaxis()
    axes.set_xlabel("us of CPU per 20 ms and call (log; dots are blocks)")
    axes.set_title("Cost, 20 calls, both directions", fontsize=10)


def _capacity(axes: Any, found: Findings) -> None:
    searched = found.results["search"]
    arms = [arm for arm in SHORT if searched.get(arm, {}).get("calls")]
    for place, arm in enumerate(arms):
        calls = searched[arm]["calls"]
        axes.barh(place, calls, color=_colour(arm), alpha=0.75)
        more = "+" if searched[arm]["load_late_at"] or not searched[arm]["failed_at"] else ""
        _beside(axes, calls, place, f"{calls}{more}")
    if arms:
        axes.axvline(200, color=LIMIT, linewidth=1, linestyle="--", label="wanted: 200")
        axes.margins(x=0.12)
        axes.legend(fontsize=8)
    else:
        axes.text(0.5, 0.5, "not searched", ha="center", transform=axes.transAxes)
    axes.set_yticks(range(len(arms)), [SHORT[arm] for arm in arms])
    axes.invert_yaxis()
    axes.set_xlabel("calls on one core: none lost, p99 |gap - 20 ms| <= 5 ms, <= 80 %")
    axes.set_title("Capacity at the gate", fontsize=10)


def _delays(axes: Any, found: Findings) -> None:
    arms = [arm for arm in SHORT if found.up(arm) or found.down(arm)]
    for place, arm in enumerate(arms):
        for shift, delays, shade in ((-0.2, found.up(arm), 0.9), (0.2, found.down(arm), 0.45)):
            if delays:
                middle = percentile(delays, 0.5)
                axes.barh(place + shift, middle, height=0.36, color=_colour(arm), alpha=shade)
                _beside(axes, middle, place + shift, f"{middle:.1f}")
    axes.set_yticks(range(len(arms)), [SHORT[arm] for arm in arms])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("ms added, p50 (dark: caller to room; light: room to caller)")
    axes.set_title("Delay without what codec and loads take by themselves", fontsize=10)


def _pacing(axes: Any, found: Findings) -> None:
    curves = {SHORT[arm]: _curve(found.of(arm, "few")) for arm in SHORT if found.cost(arm)}
    for name, title in (
        ("lock", "this engine, lock held"),
        ("joins", "this engine, 50 joins/s"),
        ("flood", "daemon, 2,000 INVITEs/s"),
    ):
        if name in found.special:
            curves[title] = found.special[name]["gap"]["curve"]
    for title, curve in curves.items():
        style = "-" if "this engine" in title or "daemon" in title else ":"
        label = title.replace("\n", " ")
        axes.plot(range(101), [max(v, 0.003) for v in curve], style, label=label, linewidth=1.4)
    axes.axhline(1.0, color=LIMIT, linewidth=1, linestyle="--")
    axes.axhline(5.0, color=LIMIT, linewidth=1, linestyle="--")
    axes.text(0, 1.08, "wanted at p99: 1 ms", fontsize=7, color=LIMIT)
    axes.text(0, 5.4, "gate at p99: 5 ms", fontsize=7, color=LIMIT)
    axes.set_yscale("log")
    axes.set_xlabel("percentile of packets")
    axes.set_ylabel("|gap - 20 ms|, ms (log)")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_title("Pacing towards the carrier (kernel timestamps)", fontsize=10)


def _curve(blocks: list[dict[str, Any]]) -> list[float]:
    curves = [one["gap"]["curve"] for one in blocks]
    return [median(values) for values in zip(*curves, strict=True)]

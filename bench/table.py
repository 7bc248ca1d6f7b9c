"""Percentiles, rows and their table. Pure but for printing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured thing, times in milliseconds; ``floor`` names the row to compare with."""

    name: str
    n: int
    p50: float
    p99: float
    worst: float
    beside: str
    floor: str = ""


def percentile(values: Sequence[float], wanted: float) -> float:
    """Return the nearest-rank percentile *wanted* (0 to 1) of *values*."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, max(0, round(wanted * len(ordered) + 0.5) - 1))]


def row(name: str, seconds: Sequence[float], *, beside: str, floor: str = "") -> Row:
    """Return the row of *seconds*."""
    return Row(
        name=name,
        n=len(seconds),
        p50=percentile(seconds, 0.5) * 1000,
        p99=percentile(seconds, 0.99) * 1000,
        worst=max(seconds, default=float("nan")) * 1000,
        beside=beside,
        floor=floor,
    )


def print_table(rows: Sequence[Row]) -> None:
    """Print *rows*, and for each with a floor what it costs more."""
    width = max(len(one.name) for one in rows)
    print(f"{'what':{width}}  {'n':>7} {'p50':>8} {'p99':>8} {'max':>8}  beside")
    for one in rows:
        figures = f"{one.p50:8.2f} {one.p99:8.2f} {one.worst:8.2f}"
        print(f"{one.name:{width}}  {one.n:7d} {figures}  {one.beside}")
    known = {one.name: one for one in rows}
    for one in rows:
        floor = known.get(one.floor)
        if floor is not None:
            print(
                f"{one.name} / {floor.name}: "
                f"p50 x{one.p50 / floor.p50:.1f}, p99 x{one.p99 / floor.p99:.1f}"
            )

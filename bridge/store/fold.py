"""What agents report of a call, folded into its resource; its transcript's lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

MEASURED: Final = (
    "duration_seconds",
    "stt_latency_ms",
    "llm_latency_ms",
    "tts_latency_ms",
    "total_tokens",
    "agent_handoffs",
)
"""Seed 003's metrics."""

REPORTED: Final = ("metrics", "agent_history", "current_agent")


def metrics_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return seed 003's metrics of a call; null what nobody told."""
    metrics = dict.fromkeys(MEASURED) | {
        name: value for name, value in (call.get("metrics") or {}).items() if name in MEASURED
    }
    if metrics["duration_seconds"] is None:
        metrics["duration_seconds"] = call.get("duration_seconds")
    return metrics


def shown(call: dict[str, Any]) -> dict[str, Any]:
    """Return a resource as it is shown: metrics whole once there are any, or the call is over."""
    if not call.get("metrics") and call.get("ended_at") is None:
        return call
    return {**call, "metrics": metrics_of(call)}


def folded(record: Mapping[str, Any], report: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a call's resource with what was reported; nobody is current once it has ended."""
    resource = dict(record)
    if report:
        metrics = report.get("metrics")
        if metrics:
            resource["metrics"] = {**(record.get("metrics") or {}), **metrics}
        if report.get("agent_history"):
            resource["agent_history"] = list(report["agent_history"])
        if report.get("current_agent") is not None:
            resource["current_agent"] = report["current_agent"]
    if record.get("ended_at") is not None and "current_agent" in resource:
        resource["current_agent"] = None
    return resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One final line of a transcript. Times are seconds since the epoch.

    ``n`` counts from 0 in the order of time; ``speaker`` is USER, AGENT or SYSTEM;
    ``until`` is when it had been said, where that is known. What the agent measured for it
    is in milliseconds, None where unknown. ``id``: a later line with the same id takes its
    place; without one every line is a line of its own.
    """

    speaker: str
    content: str
    at: float
    n: int = 0
    id: str | None = None
    until: float | None = None
    agent_name: str | None = None
    interrupted: bool = False
    tool_call: Mapping[str, Any] | None = None
    stt_ms: float | None = None
    first_token_ms: float | None = None
    first_audio_ms: float | None = None
    total_ms: float | None = None
    llm_model: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_fact(self) -> dict[str, Any]:
        """Return the body of a ``transcript`` fact (`Journal.note`)."""
        return {name: getattr(self, name) for name in _FACT}


_FACT: Final = tuple(name for name in Segment.__dataclass_fields__ if name != "n")


def segment_of(body: Mapping[str, Any], *, n: int = 0) -> Segment:
    """Return the line that `Segment.as_fact` has described; strange values count as unknown."""
    known = {name: body[name] for name in _FACT if body.get(name) is not None}
    known["speaker"] = str(body.get("speaker", ""))
    known["content"] = str(body.get("content", ""))
    known["at"] = float(body.get("at") or 0.0)
    return Segment(**known, n=n)


def epoch(stamp: Any) -> float | None:
    """Return an RFC 3339 time as seconds since the epoch; None for none."""
    if isinstance(stamp, int | float):
        return float(stamp)
    if not isinstance(stamp, str) or not stamp:
        return None
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return None

"""What agents report of a call, folded into its resource."""

from __future__ import annotations

from collections.abc import Mapping
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
"""What only the store knows of a call: its agent told it."""


def metrics_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return seed 003's metrics of a call, whole numbers as there; null what nobody told."""
    metrics = dict.fromkeys(MEASURED) | {
        name: round(value) if isinstance(value, float) else value
        for name, value in (call.get("metrics") or {}).items()
        if name in MEASURED
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

"""What agents measured of a call, folded into one state. PURE and total: nothing raises.

A body of ``POST …/metrics`` is a ``report`` fact. Two kinds are told apart by their shape:

* a *whole* one, as ``PhoneCall.report`` posts it again and again, has ``metrics`` (an object):
  what it knows replaces what was known;
* a *single* measurement has ``stt_latency_ms``, ``llm_latency_ms``, ``tts_latency_ms``,
  ``total_tokens`` or ``agent_handoffs`` itself: latencies are averaged over all of them, tokens
  summed, handoffs are what the last one says.

Both may name ``current_agent`` and ``agent_history``; a change of the current agent is a
handoff. What single turns took (``turns``) is no part of it: `turns_of` are the accounts that
the transcript's segments are joined with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from bridge.transcript.segment import CONTENT_LIMIT, TIMES, clean, name, number, tool_call

LATENCIES: Final = ("stt_latency_ms", "llm_latency_ms", "tts_latency_ms")
METRICS: Final = (*LATENCIES, "total_tokens", "agent_handoffs")

CONCLUSIONS: Final = ("analysis", "cost")
"""What is told as a whole, and the newest counts (seed 000's call log)."""

HISTORY_LIMIT: Final = 1000
TURNS_LIMIT: Final = 64
"""Turns of one report that are looked at."""

_ROLES: Final = ("user", "assistant")


def fold_report(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state after one more report; *old* None is the state before the first.

    The state is a JSON object: ``metrics``, ``agent_history``, ``current_agent`` as the call's
    resource shows them, and ``sums``, which the averages come from.
    """
    old = old or {}
    whole = _mapping(new.get("metrics"))
    metrics = _known(_mapping(old.get("metrics")))
    sums = _sums(old.get("sums"))
    for key in LATENCIES:
        measured = number(whole.get(key))
        if measured is not None:
            sums.pop(key, None)
            metrics[key] = measured
        elif (one := number(new.get(key))) is not None:
            total, count = sums.get(key, (0.0, 0))
            sums[key] = (total + one, count + 1)
            metrics[key] = round((total + one) / (count + 1))
    _tokens(metrics, sums, whole, new)
    history = _history(old, new)
    _handoffs(metrics, whole, new, history)
    return {
        "metrics": {key: metrics.get(key) for key in METRICS},
        "agent_history": history,
        "current_agent": _current(old, new, history),
        "sums": {key: list(value) for key, value in sums.items()},
    } | {key: told for key in CONCLUSIONS if (told := _mapping(new.get(key) or old.get(key)))}


def _tokens(
    metrics: dict[str, float],
    sums: dict[str, tuple[float, int]],
    whole: Mapping[str, Any],
    new: Mapping[str, Any],
) -> None:
    counted = number(whole.get("total_tokens"))
    if counted is not None:
        sums.pop("total_tokens", None)
        metrics["total_tokens"] = counted
    elif (some := number(new.get("total_tokens"))) is not None:
        total, count = sums.get("total_tokens", (0.0, 0))
        sums["total_tokens"] = (total + some, count + 1)
        metrics["total_tokens"] = _plain(total + some)


def _handoffs(
    metrics: dict[str, float],
    whole: Mapping[str, Any],
    new: Mapping[str, Any],
    history: list[str],
) -> None:
    counted = number(whole.get("agent_handoffs", new.get("agent_handoffs")))
    if counted is not None:
        metrics["agent_handoffs"] = counted
    elif history:
        metrics["agent_handoffs"] = max(metrics.get("agent_handoffs", 0), len(history) - 1)


def _history(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    history = _names(old.get("agent_history"))
    told = _names(new.get("agent_history"))
    if len(told) >= len(history):
        history = told
    current = name(new.get("current_agent"))
    if current is not None and history[-1:] != [current]:
        history.append(current)
    return history[:HISTORY_LIMIT]


def _current(old: Mapping[str, Any], new: Mapping[str, Any], history: list[str]) -> str | None:
    if "current_agent" in new:
        return name(new["current_agent"])
    if _names(new.get("agent_history")):
        return history[-1]
    return name(old.get("current_agent"))


def turns_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the ``turns`` of a report that are some, the last `TURNS_LIMIT` of them."""
    turns = (_turn(raw) for raw in list(_listed(report.get("turns")))[-TURNS_LIMIT:])
    return [turn for turn in turns if turn is not None]


def _turn(raw: Any) -> dict[str, Any] | None:
    content = raw.get("content") if isinstance(raw, Mapping) else None
    if not isinstance(content, str) or raw.get("role") not in _ROLES:
        return None
    turn = {
        "role": raw["role"],
        "content": clean(content[:CONTENT_LIMIT]),
        "agent_name": name(raw.get("agent_name")),
        "interrupted": raw["interrupted"] if isinstance(raw.get("interrupted"), bool) else None,
        "tool_call": tool_call(raw.get("tool_call")),
        "llm_model": name(raw.get("llm_model")),
    }
    return turn | {each: number(raw.get(each)) for each in TIMES}


# What is not as it should be is as if it were not there.


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _names(value: Any) -> list[str]:
    found = (name(one) for one in _listed(value))
    return [one for one in found if one is not None][:HISTORY_LIMIT]


def _known(metrics: Mapping[str, Any]) -> dict[str, float]:
    values = ((key, number(metrics.get(key))) for key in METRICS)
    return {key: value for key, value in values if value is not None}


def _sums(value: Any) -> dict[str, tuple[float, int]]:
    sums: dict[str, tuple[float, int]] = {}
    for key, pair in _mapping(value).items():
        if isinstance(pair, (list, tuple)) and len(pair) == 2:
            total, count = number(pair[0]), number(pair[1])
            if total is not None and count is not None:
                sums[key] = (total, int(count))
    return sums


def _plain(value: float) -> float:
    """Return a whole number as an int, as JSON should show it."""
    return int(value) if value == int(value) else value

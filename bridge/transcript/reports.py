"""What agents measured of a call, folded into one state. PURE and total: nothing raises.

A body of ``POST …/metrics`` is a ``report`` fact. Two kinds are told apart by their shape:

* a *whole* one, as ``PhoneCall.report`` posts it again and again, has ``metrics`` (an object):
  what it knows replaces what was known;
* a *single* measurement has ``stt_latency_ms``, ``llm_latency_ms``, ``tts_latency_ms`` or
  ``total_tokens`` itself: latencies are averaged over all of them, tokens summed.

Both may name ``current_agent`` and ``agent_history``; a change of the current agent is a
handoff. ``turns`` are what single messages took, joined with the transcript when it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from bridge.transcript.segment import TIMES, clean, name, number, tool_call

LATENCIES: Final = ("stt_latency_ms", "llm_latency_ms", "tts_latency_ms")
METRICS: Final = (*LATENCIES, "total_tokens", "agent_handoffs")

HISTORY_LIMIT: Final = 1000
TURNS_LIMIT: Final = 1000
TURN_TEXT_LIMIT: Final = 200
"""Characters of a turn's text, by which it finds its segment."""

_ROLES: Final = ("user", "assistant")


def fold_report(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state after one more report; *old* None is the state before the first.

    The state is a JSON object: ``metrics``, ``agent_history``, ``current_agent`` as the call's
    resource shows them, ``turns``, and ``sums``, which the averages come from.
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
    _handoffs(metrics, whole, history)
    return {
        "metrics": {key: metrics.get(key) for key in METRICS},
        "agent_history": history,
        "current_agent": _current(old, new, history),
        "turns": _turns(old.get("turns"), new.get("turns")),
        "sums": {key: list(value) for key, value in sums.items()},
    }


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


def _handoffs(metrics: dict[str, float], whole: Mapping[str, Any], history: list[str]) -> None:
    counted = number(whole.get("agent_handoffs"))
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


def _turns(old: Any, new: Any) -> list[dict[str, Any]]:
    """Return the turns, in order; one that is told again by its ``id`` replaces the first."""
    turns: dict[str, dict[str, Any]] = {}
    for number_, raw in enumerate([*_listed(old), *_listed(new)]):
        turn = _turn(raw)
        if turn is not None:
            turns[turn["id"] or f"#{number_}"] = turn
    return list(turns.values())[-TURNS_LIMIT:]


def _turn(raw: Any) -> dict[str, Any] | None:
    if not isinstance(raw, Mapping) or raw.get("role") not in _ROLES:
        return None
    content = raw.get("content")
    turn = {
        "id": name(raw.get("id")),
        "role": raw["role"],
        "content": clean(content[:TURN_TEXT_LIMIT]) if isinstance(content, str) else None,
        "at": number(raw.get("at")),
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

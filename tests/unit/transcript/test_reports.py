"""What agents measured, folded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.transcript import reports
from bridge.transcript.reports import fold_report
from bridge.transcript.segment import tool_call

pytestmark = pytest.mark.unit

WHOLE: dict[str, Any] = {
    "call_id": "c",
    "current_agent": "feedback-agent",
    "agent_history": ["greeter-agent", "meal-agent", "feedback-agent"],
    "metrics": {
        "stt_latency_ms": 120,
        "llm_latency_ms": 280,
        "tts_latency_ms": 85,
        "total_tokens": 1500,
        "agent_handoffs": 2,
    },
}


def folded(*reports_: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] | None = None
    for report in reports_:
        state = json.loads(json.dumps(fold_report(state, report)))
    assert state is not None
    return state


def test_a_whole_report_is_what_it_says() -> None:
    state = folded(WHOLE)
    assert state["metrics"] == WHOLE["metrics"]
    assert state["agent_history"] == WHOLE["agent_history"]
    assert state["current_agent"] == "feedback-agent"


def test_a_whole_report_that_comes_again_adds_nothing() -> None:
    assert folded(WHOLE, WHOLE, WHOLE) == folded(WHOLE)


def test_what_a_later_whole_report_does_not_know_stays() -> None:
    later = {"metrics": {"stt_latency_ms": None, "total_tokens": 1600}}
    state = folded(WHOLE, later)
    assert state["metrics"]["stt_latency_ms"] == 120
    assert state["metrics"]["total_tokens"] == 1600
    assert state["current_agent"] == "feedback-agent"


def test_what_nobody_measured_is_null() -> None:
    assert folded({})["metrics"] == dict.fromkeys(reports.METRICS)
    assert folded({})["current_agent"] is None


def test_single_measurements_are_averaged_and_tokens_summed() -> None:
    state = folded(
        {"stt_latency_ms": 100, "total_tokens": 10},
        {"stt_latency_ms": 201, "llm_latency_ms": 300},
        {"total_tokens": 5},
    )
    assert state["metrics"] == {
        "stt_latency_ms": 150,
        "llm_latency_ms": 300,
        "tts_latency_ms": None,
        "total_tokens": 15,
        "agent_handoffs": None,
    }


def test_a_change_of_the_current_agent_is_a_handoff() -> None:
    state = folded({"current_agent": "a"}, {"current_agent": "a"}, {"current_agent": "b"})
    assert state["agent_history"] == ["a", "b"]
    assert state["metrics"]["agent_handoffs"] == 1
    assert state["current_agent"] == "b"


def test_an_agent_that_has_gone_is_none() -> None:
    state = folded({"current_agent": "a"}, {"current_agent": None})
    assert state["current_agent"] is None
    assert state["agent_history"] == ["a"]


def test_a_flat_report_may_count_its_handoffs() -> None:
    assert folded({"agent_handoffs": 2})["metrics"]["agent_handoffs"] == 2


def test_agents_are_bounded() -> None:
    state = folded({"agent_history": [f"a{n}" for n in range(3000)]})
    assert len(state["agent_history"]) == reports.HISTORY_LIMIT


def test_turns_are_those_that_have_a_role_and_a_text() -> None:
    good = {"role": "assistant", "content": "Hi.", "interrupted": True, "first_token_ms": 210}
    bad: list[Any] = [{"role": "system", "content": "x"}, {"role": "user"}, None, 3]
    (turn,) = reports.turns_of({"turns": [*bad, good]})
    assert turn == {
        "role": "assistant",
        "content": "Hi.",
        "agent_name": None,
        "interrupted": True,
        "tool_call": None,
        "llm_model": None,
        "stt_ms": None,
        "first_token_ms": 210,
        "first_audio_ms": None,
        "total_ms": None,
    }
    assert len(reports.turns_of({"turns": [good] * 500})) == reports.TURNS_LIMIT
    assert reports.turns_of({"turns": "x"}) == []


@pytest.mark.parametrize(
    ("value", "call"),
    [
        ({"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": {"a": 1}}),
        ({"name": "f", "arguments": '{"a": 1}'}, {"name": "f", "arguments": {"a": 1}}),
        ({"name": "f"}, {"name": "f", "arguments": {}}),
        ({"name": "f", "arguments": "{"}, {"name": "f", "arguments": {}}),
        ({"name": "f", "arguments": {"a": "x" * 20_000}}, {"name": "f", "arguments": {}}),
        ({"name": "f", "arguments": {"a": "\0"}}, {"name": "f", "arguments": {"a": ""}}),
        ({"name": ""}, None),
        ("f", None),
    ],
)
def test_a_call_of_a_tool_has_a_name_and_arguments(value: Any, call: Any) -> None:
    assert tool_call(value) == call


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metrics", "turns", "agent_history", "current_agent", "sums", "role", "content"]
            )
            | st.sampled_from(reports.METRICS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
_DOCUMENTS = st.dictionaries(
    st.sampled_from(
        [*reports.METRICS, "metrics", "turns", "agent_history", "current_agent", "sums"]
    ),
    _JSON,
    max_size=5,
)


@given(_DOCUMENTS, _DOCUMENTS)
@settings(max_examples=150, deadline=None)
def test_whatever_is_posted_the_fold_gives_json_and_never_raises(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    state = fold_report(old, new)
    json.dumps(state, allow_nan=False).encode()
    assert set(state) == {"metrics", "agent_history", "current_agent", "sums"}
    fold_report(state, new)
    json.dumps(reports.turns_of(new)).encode()

"""One segment as a fact, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.transcript import shapes
from bridge.transcript.segment import LATEST, Segment, clean

pytestmark = pytest.mark.unit

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
_FACTS = st.fixed_dictionaries(
    {},
    optional={
        "speaker": st.sampled_from(["USER", "AGENT", "SYSTEM"]) | _JSON,
        "content": st.text(max_size=20) | _JSON,
        "at": st.floats(0, 2e9) | _JSON,
        **dict.fromkeys(["until", "agent_name", "tool_call", "stt_ms", "id", "interrupted"], _JSON),
    },
)


@given(_FACTS)
@settings(max_examples=200, deadline=None)
def test_whatever_a_fact_says_a_segment_of_it_can_be_shown(fact: dict[str, Any]) -> None:
    segment = Segment.from_dict(fact)
    if segment is None:
        return
    assert Segment.from_dict(json.loads(json.dumps(segment.as_dict()))) == segment
    record = {"started_at": None, "agent": None}
    for shown in (
        shapes.messages(record, [segment]),
        shapes.as_json([segment]),
        shapes.entries([segment]),
    ):
        json.dumps(shown, allow_nan=False)
    shapes.as_srt([segment])


@pytest.mark.parametrize(
    "fact",
    [
        {},
        {"speaker": "USER", "content": "x"},
        {"speaker": "USER", "content": 3, "at": 1.0},
        {"speaker": "SYSTEM", "content": "x", "at": 1.0},
        {"speaker": "USER", "content": "x", "at": float("nan")},
        {"speaker": "USER", "content": "x", "at": -1},
        {"speaker": "USER", "content": "x", "at": LATEST * 2},
        {"speaker": "USER", "content": "x", "at": 10**400},
    ],
)
def test_what_is_no_segment_is_none(fact: dict[str, Any]) -> None:
    assert Segment.from_dict(fact) is None


def test_what_no_database_takes_is_taken_out() -> None:
    assert clean("a\0b\ud800 grüß\n") == "ab? grüß\n"

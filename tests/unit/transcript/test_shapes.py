"""The shapes of a transcript: seeds 000, 001, 003 and 004."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.transcript import shapes
from bridge.transcript.segment import Segment, Speaker

pytestmark = pytest.mark.unit

START = 1_768_645_800.0  # 2026-01-17T10:30:00Z
RECORD: dict[str, Any] = {
    "started_at": "2026-01-17T10:30:00.000Z",
    "agent": "greeter-agent",
    "agent_history": [],
}


def user(content: str, at: float, **more: Any) -> Segment:
    return Segment(speaker=Speaker.USER, content=content, at=START + at, **more)


def agent(content: str, at: float, **more: Any) -> Segment:
    return Segment(speaker=Speaker.AGENT, content=content, at=START + at, **more)


SEED = [
    agent("Hello! How are you today?", 5),
    user("I'm doing well, thanks!", 10),
    agent(
        "Great! What did you have for breakfast?",
        15,
        agent_name="meal-agent",
        tool_call={"name": "save_meal", "arguments": {"meal_type": "breakfast"}},
    ),
]


def test_the_example_of_seed_003_field_by_field() -> None:
    assert shapes.messages(RECORD, SEED) == [
        {
            "role": "system",
            "content": "Call started",
            "timestamp": "2026-01-17T10:30:00.000Z",
            "agent_name": "greeter-agent",
        },
        {
            "role": "assistant",
            "content": "Hello! How are you today?",
            "timestamp": "2026-01-17T10:30:05.000Z",
            "agent_name": "greeter-agent",
        },
        {
            "role": "user",
            "content": "I'm doing well, thanks!",
            "timestamp": "2026-01-17T10:30:10.000Z",
            "agent_name": "greeter-agent",
        },
        {
            "role": "assistant",
            "content": "Great! What did you have for breakfast?",
            "timestamp": "2026-01-17T10:30:15.000Z",
            "agent_name": "meal-agent",
            "tool_call": {"name": "save_meal", "arguments": {"meal_type": "breakfast"}},
        },
    ]


def test_a_call_that_was_never_answered_has_no_messages() -> None:
    assert shapes.messages({**RECORD, "started_at": None}, []) == []


def test_segments_are_shown_by_when_they_began() -> None:
    shown = shapes.messages(RECORD, list(reversed(SEED)))
    assert [one["timestamp"] for one in shown] == sorted(one["timestamp"] for one in shown)


def test_the_first_agent_that_was_reported_stands_before_the_one_that_was_named() -> None:
    shown = shapes.messages({**RECORD, "agent_history": ["front-desk"]}, SEED[:1])
    assert {one["agent_name"] for one in shown} == {"front-desk"}


def test_seed_000_and_the_older_bridge() -> None:
    assert shapes.entries(SEED[1:2]) == [
        {
            "speaker": "USER",
            "content": "I'm doing well, thanks!",
            "timestamp": "2026-01-17T10:30:10.000Z",
        }
    ]
    assert shapes.older_entries(SEED[:1]) == [
        {
            "speaker": "agent",
            "text": "Hello! How are you today?",
            "timestamp": "2026-01-17T10:30:05.000Z",
        }
    ]


TURNS = [
    agent("Welcome.", 0, until=START + 1),
    user("I want", 3, stt_ms=110.4),
    user("to pay.", 4, until=START + 5, stt_ms=90.0),
    agent("Sure,", 6, until=START + 8, first_token_ms=200.0, total_ms=900.0, llm_model="m"),
    agent("which", 8, until=START + 9, interrupted=True),
    user("This one.", 9),
]


def test_turns_of_seed_004_field_by_field() -> None:
    first, second, third = shapes.as_json(TURNS)
    assert second == {
        "turn_index": 1,
        "user_transcript": "I want to pay.",
        "agent_response": "Sure, which",
        "interrupted": True,
        "stt_ms": 110,
        "first_token_ms": 200,
        "first_audio_ms": None,
        "total_ms": 900,
        "llm_model": "m",
        "created_at": "2026-01-17T10:30:03.000Z",
    }
    assert list(first) == list(second)
    assert (first["turn_index"], first["user_transcript"]) == (0, None)
    assert (third["user_transcript"], third["agent_response"]) == ("This one.", None)
    assert shapes.turn_count(TURNS) == 3


def test_text_of_seed_004() -> None:
    assert shapes.as_text(TURNS) == (
        "Agent: Welcome.\nUser: I want to pay.\nAgent: Sure, which\nUser: This one.\n"
    )


def test_subtitles_of_seed_004() -> None:
    assert shapes.as_srt(TURNS) == (
        "1\n00:00:00,000 --> 00:00:01,000\nAgent: Welcome.\n\n"
        "2\n00:00:03,000 --> 00:00:05,000\nUser: I want to pay.\n\n"
        "3\n00:00:06,000 --> 00:00:09,000\nAgent: Sure, which\n\n"
        "4\n00:00:09,000 --> 00:00:10,000\nUser: This one.\n"
    )


def test_subtitles_count_from_the_start_of_the_call() -> None:
    assert shapes.as_srt(TURNS[1:2], started_at=START).startswith("1\n00:00:03,000 --> ")


def test_a_call_of_hours_has_hours_in_its_subtitles() -> None:
    shown = shapes.as_srt([user("x", 3723.5, until=START + 3725)], started_at=START)
    assert shown.startswith("1\n01:02:03,500 --> 01:02:05,000\n")


def test_nothing_said_is_nothing_in_every_shape() -> None:
    assert shapes.as_json([]) == []
    assert shapes.as_text([]) == ""
    assert shapes.as_srt([]) == ""


_SEGMENTS = st.lists(
    st.builds(
        Segment,
        speaker=st.sampled_from(Speaker),
        content=st.text(min_size=1, max_size=80),
        at=st.floats(START, START + 300),
        until=st.none() | st.floats(START, START + 400),
        interrupted=st.booleans(),
        total_ms=st.none() | st.floats(0, 5000),
    ),
    max_size=12,
)
_TIMING = re.compile(r"(\d{2,}):(\d\d):(\d\d),(\d{3}) --> (\d{2,}):(\d\d):(\d\d),(\d{3})")


def seconds(hours: str, minutes: str, seconds_: str, milliseconds: str) -> float:
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds_) + int(milliseconds) / 1000


@given(_SEGMENTS, st.none() | st.floats(START - 10, START + 10))
@settings(max_examples=100, deadline=None)
def test_subtitles_are_valid_whatever_was_said(
    segments: list[Segment], started_at: float | None
) -> None:
    text = shapes.as_srt(segments, started_at=started_at)
    blocks = text.removesuffix("\n").split("\n\n") if text else []
    until = 0.0
    for index, block in enumerate(blocks, 1):
        number, timing, words = block.split("\n")
        assert number == str(index)
        assert words.startswith(("User: ", "Agent: "))
        match = _TIMING.fullmatch(timing)
        assert match is not None
        begin, end = seconds(*match.groups()[:4]), seconds(*match.groups()[4:])
        assert until <= begin < end
        until = end


@given(_SEGMENTS)
@settings(max_examples=100, deadline=None)
def test_turns_lose_no_segment_and_keep_its_order(segments: list[Segment]) -> None:
    turns = shapes.as_json(segments)
    assert [turn["turn_index"] for turn in turns] == list(range(len(turns)))
    said = " ".join(
        part for turn in turns for part in (turn["user_transcript"], turn["agent_response"]) if part
    )
    for speaker in Speaker:
        for one in segments:
            if one.speaker is speaker:
                assert one.content in said
    assert all(turn["user_transcript"] is not None for turn in turns[1:])

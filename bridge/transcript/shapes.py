"""How a transcript is shown: one list of segments, the shapes of four APIs. PURE.

Seed 003 (messages by role), seed 004 (turns as JSON, text and SubRip), seed 000 and the older
bridge's call record (speaker and text). What is unknown is None, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.events import rfc3339
from bridge.transcript.segment import TIMES, Segment, Speaker

STARTED: Final = "Call started"

SECONDS_PER_CHARACTER: Final = 1 / 15
"""How long speech takes whose length nobody told, for subtitles."""

SHORTEST: Final = 1.0  # seconds a subtitle stands
LONGEST: Final = 30.0


def in_order(segments: Iterable[Segment]) -> list[Segment]:
    """Return *segments* by when they began; of the same moment in the order they came."""
    return sorted(segments, key=lambda segment: segment.at)


# Seed 003.


def messages(record: Mapping[str, Any], segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """Return ``GET /api/v1/calls/{id}/transcript`` of the call with the resource *record*.

    It begins with the call's start, once it has been answered.
    """
    ordered = in_order(segments)
    history = record.get("agent_history") or ()
    agent = history[0] if history else record.get("agent")
    shown: list[dict[str, Any]] = []
    started = record.get("started_at")
    if started is not None:
        first = next((one.agent_name for one in ordered if one.agent_name is not None), None)
        shown.append(_message("system", STARTED, started, agent or first))
    for segment in ordered:
        agent = segment.agent_name or agent
        role = "user" if segment.speaker == Speaker.USER else "assistant"
        message = _message(role, segment.content, rfc3339(segment.at), agent)
        if segment.tool_call is not None:
            message["tool_call"] = dict(segment.tool_call)
        shown.append(message)
    return shown


def _message(role: str, content: str, timestamp: str, agent: str | None) -> dict[str, Any]:
    return {"role": role, "content": content, "timestamp": timestamp, "agent_name": agent}


# Seed 000 and the older bridge.


def entries(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """Return seed 000's entries: ``speaker`` USER or AGENT, ``content``, ``timestamp``."""
    return [
        {"speaker": str(one.speaker), "content": one.content, "timestamp": rfc3339(one.at)}
        for one in in_order(segments)
    ]


def older_entries(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """Return ``transcripts`` of the older bridge's call record: ``speaker`` user or agent, …"""
    return [
        {"speaker": str(one.speaker).lower(), "text": one.content, "timestamp": rfc3339(one.at)}
        for one in in_order(segments)
    ]


# Seed 004.


@dataclass(slots=True)
class _Turn:
    """What the user said and what the agent answered."""

    user: list[Segment] = field(default_factory=list)
    agent: list[Segment] = field(default_factory=list)

    @property
    def segments(self) -> list[Segment]:
        return [*self.user, *self.agent]

    @property
    def at(self) -> float:
        return min(one.at for one in self.segments)


def _turns(segments: Iterable[Segment]) -> list[_Turn]:
    """Return the turns: each begins with what the user says, the first may lack it."""
    turns: list[_Turn] = []
    for segment in in_order(segments):
        if segment.speaker == Speaker.USER:
            if not turns or turns[-1].agent:
                turns.append(_Turn())
            turns[-1].user.append(segment)
        else:
            if not turns:
                turns.append(_Turn())
            turns[-1].agent.append(segment)
    return turns


def turn_count(segments: Iterable[Segment]) -> int:
    """Return how many turns there were."""
    return len(_turns(segments))


def as_json(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """Return seed 004's turns."""
    return [_shown(index, turn) for index, turn in enumerate(_turns(segments))]


def _shown(index: int, turn: _Turn) -> dict[str, Any]:
    return {
        "turn_index": index,
        "user_transcript": _text(turn.user),
        "agent_response": _text(turn.agent),
        "interrupted": any(one.interrupted for one in turn.agent),
        **{each: _first(turn, each) for each in TIMES},
        "llm_model": _first(turn, "llm_model"),
        "created_at": rfc3339(turn.at),
    }


def _text(segments: Sequence[Segment]) -> str | None:
    return " ".join(one.content for one in segments) if segments else None


def _first(turn: _Turn, key: str) -> Any:
    """Return the value of the first segment that has one, a time as whole milliseconds."""
    values = (getattr(one, key) for one in turn.segments)
    value = next((one for one in values if one is not None), None)
    return round(value) if isinstance(value, float) else value


def as_text(segments: Iterable[Segment]) -> str:
    """Return seed 004's text: lines ``User: …`` and ``Agent: …``, one after the other."""
    lines = []
    for turn in _turns(segments):
        for who, said in (("User", turn.user), ("Agent", turn.agent)):
            text = _text(said)
            if text is not None:
                lines.append(f"{who}: {_line(text)}\n")
    return "".join(lines)


def as_srt(segments: Iterable[Segment], *, started_at: float | None = None) -> str:
    """Return seed 004's subtitles, timed from *started_at* or else from the first words.

    One subtitle per speaker and turn, in order. It ends when its words did, where that is
    known, and before the next begins.
    """
    said = [part for turn in _turns(segments) for part in (turn.user, turn.agent) if part]
    if not said:
        return ""
    begins = [part[0].at for part in said]
    origin = begins[0] if started_at is None else min(started_at, begins[0])
    blocks, shown_until = [], 0.0
    for index, part in enumerate(said):
        begin = max(begins[index] - origin, shown_until)
        end = max(begin + 0.001, min(begin + LONGEST, _end(part) - origin))
        if index + 1 < len(said):
            end = max(begin + 0.001, min(end, begins[index + 1] - origin))
        shown_until = end
        who = "User" if part[0].speaker == Speaker.USER else "Agent"
        text = _line(" ".join(one.content for one in part))
        blocks.append(f"{index + 1}\n{_clock(begin)} --> {_clock(end)}\n{who}: {text}\n")
    return "\n".join(blocks)


def _end(part: Sequence[Segment]) -> float:
    last = part[-1]
    if last.until is not None and last.until > last.at:
        return max(last.until, part[0].at + SHORTEST)
    return last.at + max(SHORTEST, len(last.content) * SECONDS_PER_CHARACTER)


def _clock(seconds: float) -> str:
    """Return ``HH:MM:SS,mmm``."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02d}:{minute:02d}:{second:02d},{milliseconds:03d}"


def _line(text: str) -> str:
    """Return *text* on one line: an empty line would end a subtitle."""
    return " ".join(text.split())

"""One thing that one side said, once it is final. PURE.

The body of a ``transcript`` fact is `Segment.as_dict`; `Segment.from_dict` reads it back,
whatever wrote it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

CONTENT_LIMIT: Final = 16_000
"""Characters of one segment; what is longer is cut."""

NAME_LIMIT: Final = 256
"""Characters of a name or an id."""

ARGUMENTS_LIMIT: Final = 16_000
"""Characters of the JSON of a tool's arguments."""

LATEST: Final = 253_370_764_800.0
"""The last wall time that is one, the year 9999 in every zone."""

TIMES: Final = ("stt_ms", "first_token_ms", "first_audio_ms", "total_ms")
"""What a turn took, in milliseconds, where an agent has measured it."""


class Speaker(StrEnum):
    """Whose words they are."""

    USER = "USER"  # on the phone or in the browser
    AGENT = "AGENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What one speaker said. ``at`` and ``until`` are wall time in seconds; unknown is None.

    Written again under the same ``id``, it takes the place of what was written before.
    ``source`` is ``room`` or ``post``. The times (`TIMES`, milliseconds) are the agent's
    measurements: ``stt_ms`` of what a user said, the others of what an agent said; ``total_ms``
    is the time from the user's last word to the agent's first.
    """

    speaker: Speaker
    content: str
    at: float
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
    source: str = "room"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of the fact."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        document["speaker"] = self.speaker.value
        document["tool_call"] = None if self.tool_call is None else dict(self.tool_call)
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Segment | None:
        """Return the segment of a fact's body; None when that is none."""
        at = number(document.get("at"))
        content = document.get("content")
        if at is None or at > LATEST or not isinstance(content, str):
            return None
        try:
            speaker = Speaker(str(document.get("speaker")))
        except ValueError:
            return None
        return cls(
            speaker=speaker,
            content=clean(content[:CONTENT_LIMIT]),
            at=at,
            id=name(document.get("id")),
            until=number(document.get("until")),
            agent_name=name(document.get("agent_name")),
            interrupted=document.get("interrupted") is True,
            tool_call=tool_call(document.get("tool_call")),
            llm_model=name(document.get("llm_model")),
            source="post" if document.get("source") == "post" else "room",
            **{each: number(document.get(each)) for each in TIMES},
        )


def number(value: Any) -> float | None:
    """Return *value* when it is a finite number, not negative; else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) and value >= 0 else None
    except OverflowError:
        return None


def name(value: Any) -> str | None:
    """Return *value* when it is a name: a text that is not empty, cut to `NAME_LIMIT`."""
    return (clean(value[:NAME_LIMIT]) or None) if isinstance(value, str) else None


def clean(text: str) -> str:
    """Return *text* without what no database takes: NUL, and halves of characters."""
    if text.isascii() and text.isprintable():
        return text
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def tool_call(value: Any) -> dict[str, Any] | None:
    """Return *value* when it is a call of a tool, ``{"name", "arguments"}``; else None.

    Arguments given as the text of a JSON object are read. One whose arguments are larger than
    `ARGUMENTS_LIMIT`, or that no JSON can hold, loses them.
    """
    called = name(value.get("name")) if isinstance(value, Mapping) else None
    if called is None:
        return None
    arguments = value.get("arguments")
    try:
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, allow_nan=False)
        small = len(text) <= ARGUMENTS_LIMIT
        read = json.loads(clean(text).replace("\\u0000", "")) if small else None
    except (TypeError, ValueError, RecursionError):
        read = None
    return {"name": called, "arguments": read if isinstance(read, dict) else {}}

"""A call's events as lines for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEAD = ("event", "version", "call_id", "seq", "at")


def line_of(event: Mapping[str, Any]) -> str:
    """Return one event as ``TIME  SEQ  NAME  fields``, in UTC."""
    time = str(event["at"])[11:23]
    fields = " ".join(
        f"{key}={value}"
        for key, value in event.items()
        if key not in _HEAD and value is not None and value != ""
    )
    return f"{time}  {event['seq']:>2}  {event['event']:<14} {fields}".rstrip()

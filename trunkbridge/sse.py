"""Server-sent events, read: bytes in, messages out (HTML Living Standard 9.2.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 1_048_576
"""Bytes of one message; more is no event of a bridge."""

_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a CR at the end may be half of a CRLF


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. ``id`` is the last one that was sent, here or before; ``data`` may be empty."""

    event: str
    data: str
    id: str


class Reader:
    """Takes the bytes as they come; ``ValueError`` when a message has no end."""

    def __init__(self) -> None:
        self._buffer = b""
        self._fresh = True
        self._event = ""
        self._data: list[str] = []
        self._size = 0
        self._id = ""
        self._touched = False

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that *data* completes, those without data too."""
        self._buffer += data
        if self._fresh and len(self._buffer) >= 3:
            self._buffer = self._buffer.removeprefix(b"\xef\xbb\xbf")
            self._fresh = False
        start = 0
        for end in _END.finditer(self._buffer):
            line, start = self._buffer[start : end.start()], end.end()
            if not line:
                yield from self._dispatch()
            else:
                self._take(line.decode("utf-8", "replace"))
        self._buffer = self._buffer[start:]
        if len(self._buffer) + self._size > LONGEST:
            raise ValueError("a message without an end")

    def _take(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
                self._size += len(value) + 1
            case "id" if "\0" not in value:
                self._id = value
                self._touched = True
            case _:
                pass  # a comment, retry, or a field of the future

    def _dispatch(self) -> Iterator[Message]:
        event, data, touched = self._event or "message", self._data, self._touched
        self._event, self._data, self._size, self._touched = "", [], 0, False
        if data or touched:
            yield Message(event=event, data="\n".join(data), id=self._id)

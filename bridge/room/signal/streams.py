"""Text that others send in chunks (LiveKit's data streams), put together. PURE.

Only the topics that somebody here wants are kept; all others cost nothing. Whatever a
participant sends, memory stays within `TOTAL_LIMIT` bytes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from livekit.protocol import models

TEXT_LIMIT: Final = 64_000
"""Bytes of one text."""

TOTAL_LIMIT: Final = 512 * 1024
STREAM_LIMIT: Final = 64
STREAMS_PER_SENDER: Final = 8
ID_LIMIT: Final = 128
IDLE_TIMEOUT: Final = 30.0
"""Seconds without a chunk after which a stream is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReceived:
    """A whole text came on a topic that is wanted."""

    topic: str
    identity: str
    text: str


@dataclass(slots=True)
class _Stream:
    topic: str
    deadline: float
    next_chunk: int = 0
    parts: list[bytes] = field(default_factory=list)
    size: int = 0


_Key = tuple[str, str]


class TextStreams:
    """The streams under way, by sender and stream id."""

    def __init__(self, topics: Collection[str] = ()) -> None:
        self._topics = frozenset(topics)
        self._streams: dict[_Key, _Stream] = {}
        self._size = 0

    def header(
        self, identity: str, header: models.DataStream.Header, now: float
    ) -> TextReceived | None:
        """Take the beginning of a stream; a short one may be whole in it."""
        if header.topic not in self._topics or not header.HasField("text_header"):
            return None
        if len(header.stream_id.encode()) > ID_LIMIT or header.total_length > TEXT_LIMIT:
            return None
        if header.compression:  # only for those who say that they can read it
            return None
        if header.HasField("inline_content"):
            return _received(header.topic, identity, header.inline_content)
        key = (identity, header.stream_id)
        self._drop(key)
        of_sender = sum(sender == identity for sender, _ in self._streams)
        if len(self._streams) < STREAM_LIMIT and of_sender < STREAMS_PER_SENDER:
            self._streams[key] = _Stream(header.topic, now + IDLE_TIMEOUT)
        return None

    def chunk(self, identity: str, chunk: models.DataStream.Chunk, now: float) -> None:
        """Take the next part; a stream with a hole or too long is given up."""
        key = (identity, chunk.stream_id)
        stream = self._streams.get(key)
        if stream is None or chunk.chunk_index < stream.next_chunk:
            return
        size = len(chunk.content)
        too_long = stream.size + size > TEXT_LIMIT or self._size + size > TOTAL_LIMIT
        if chunk.chunk_index > stream.next_chunk or too_long:
            self._drop(key)
            return
        stream.next_chunk += 1
        stream.deadline = now + IDLE_TIMEOUT
        if size:
            stream.parts.append(bytes(chunk.content))
            stream.size += size
            self._size += size

    def trailer(self, identity: str, trailer: models.DataStream.Trailer) -> TextReceived | None:
        """Take the end; one with a reason was broken off."""
        stream = self._drop((identity, trailer.stream_id))
        if stream is None or trailer.reason:
            return None
        return _received(stream.topic, identity, b"".join(stream.parts))

    def poll(self, now: float) -> None:
        """Forget what has stopped."""
        for key in [key for key, one in self._streams.items() if one.deadline <= now]:
            self._drop(key)

    def next_deadline(self) -> float | None:
        """Return when the next stream will have stopped."""
        return min((one.deadline for one in self._streams.values()), default=None)

    def clear(self) -> None:
        """Forget all."""
        self._streams.clear()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._size

    def _drop(self, key: _Key) -> _Stream | None:
        stream = self._streams.pop(key, None)
        if stream is not None:
            self._size -= stream.size
        return stream


def _received(topic: str, identity: str, content: bytes) -> TextReceived | None:
    if len(content) > TEXT_LIMIT:
        return None
    try:
        return TextReceived(topic=topic, identity=identity, text=content.decode())
    except UnicodeDecodeError:
        return None

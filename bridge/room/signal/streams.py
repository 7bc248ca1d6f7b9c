"""What others send in chunks (LiveKit's data streams), put together. PURE.

Only the topics that somebody here wants are kept; all others cost nothing. Whatever a
participant sends, memory stays within `TOTAL_LIMIT` bytes.

A stream belongs to its *sender*, the participant's SID, which the server asserts of every packet.
``identity`` is whom it was sent as: an agent sends its user's words under the user's name, and
only the header says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from livekit.protocol import models

TEXT_LIMIT: Final = 64_000
"""Bytes of one text."""

TOTAL_LIMIT: Final = 512 * 1024
STREAM_LIMIT: Final = 64
STREAMS_PER_SENDER: Final = 8
ID_LIMIT: Final = 128
ATTRIBUTES_LIMIT: Final = 4096
"""Characters of a stream's attributes; more are not kept."""

IDLE_TIMEOUT: Final = 30.0
"""Seconds without a chunk after which a stream is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReceived:
    """A text came on a topic that is wanted.

    ``data`` is what came instead in a stream of bytes. ``lasted`` is the time from its first
    word to its last, in seconds; one that is not ``whole`` was broken off.
    """

    topic: str
    identity: str
    text: str
    data: bytes = b""
    attributes: Mapping[str, str] = field(default_factory=dict)
    lasted: float = 0.0
    whole: bool = True


@dataclass(slots=True)
class _Stream:
    header: models.DataStream.Header
    identity: str
    began: float
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
        self,
        sender: str,
        header: models.DataStream.Header,
        now: float,
        *,
        identity: str | None = None,
    ) -> TextReceived | None:
        """Take the beginning of a stream; a short one may be whole in it.

        *identity* is whom it was sent as, left out when that is *sender*.
        """
        if header.topic not in self._topics or header.WhichOneof("content_header") is None:
            return None
        if len(header.stream_id.encode()) > ID_LIMIT or header.total_length > TEXT_LIMIT:
            return None
        if header.compression:  # only for those who say that they can read it
            return None
        stream = _Stream(header, sender if identity is None else identity, now, now + IDLE_TIMEOUT)
        if _size(header.attributes) > ATTRIBUTES_LIMIT:
            header.attributes.clear()
        if header.HasField("inline_content"):
            return _received(stream, header.inline_content)
        key = (sender, header.stream_id)
        self._drop(key)
        of_sender = sum(known == sender for known, _ in self._streams)
        if len(self._streams) < STREAM_LIMIT and of_sender < STREAMS_PER_SENDER:
            self._streams[key] = stream
        return None

    def chunk(self, sender: str, chunk: models.DataStream.Chunk, now: float) -> None:
        """Take the next part; a stream with a hole or too long is given up."""
        key = (sender, chunk.stream_id)
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

    def trailer(
        self, sender: str, trailer: models.DataStream.Trailer, now: float | None = None
    ) -> TextReceived | None:
        """Take the end; its attributes come to those of the beginning.

        One with a reason was broken off.
        """
        stream = self._drop((sender, trailer.stream_id))
        if stream is None:
            return None
        if _size(trailer.attributes) <= ATTRIBUTES_LIMIT:
            stream.header.attributes.update(trailer.attributes)
        if trailer.reason:
            return _broken(stream)
        if now is not None:
            stream.deadline = now + IDLE_TIMEOUT
        return _received(stream, b"".join(stream.parts))

    def poll(self, now: float) -> list[TextReceived]:
        """Forget what has stopped; return as much of it as there is."""
        return self._end([key for key, one in self._streams.items() if one.deadline <= now])

    def clear(self) -> list[TextReceived]:
        """Forget all; return as much of it as there is."""
        return self._end(list(self._streams))

    def _end(self, keys: Collection[_Key]) -> list[TextReceived]:
        streams = (self._drop(key) for key in keys)
        broken = (_broken(stream) for stream in streams if stream is not None)
        return [one for one in broken if one is not None]

    def next_deadline(self) -> float | None:
        """Return when the next stream will have stopped."""
        return min((one.deadline for one in self._streams.values()), default=None)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._size

    def _drop(self, key: _Key) -> _Stream | None:
        stream = self._streams.pop(key, None)
        if stream is not None:
            self._size -= stream.size
        return stream


def _size(attributes: Mapping[str, str]) -> int:
    return sum(len(key) + len(value) for key, value in attributes.items())


def _broken(stream: _Stream) -> TextReceived | None:
    content = b"".join(stream.parts)
    if not content or not stream.header.HasField("text_header"):
        return None
    received = _received(stream, content.decode(errors="ignore").encode())
    return None if received is None else replace(received, whole=False)


def _received(stream: _Stream, content: bytes) -> TextReceived | None:
    if len(content) > TEXT_LIMIT:
        return None
    header = stream.header
    is_text = header.HasField("text_header")
    try:
        text = content.decode() if is_text else ""
    except UnicodeDecodeError:
        return None
    return TextReceived(
        topic=header.topic,
        identity=stream.identity,
        text=text,
        data=b"" if is_text else content,
        attributes=dict(header.attributes),
        lasted=stream.deadline - IDLE_TIMEOUT - stream.began,
    )

"""What others stream in a room of the livekit SDK, put together within bounds.

Costs nothing per audio packet: the SDK's readers hear the native half's events one by one, but
`room.sdk_dispatch` takes those of the audio out before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from typing import Any, Final, Protocol

from livekit import rtc

from bridge.room import convention
from bridge.room.seam import RoomStream

TEXT_LIMIT: Final = 64_000
"""Bytes of one stream; more is not kept."""

STREAM_LIMIT: Final = 64
STREAMS_PER_SENDER: Final = 8
ATTRIBUTES_LIMIT: Final = 4096
"""Characters of a stream's attributes; a stream with more has none."""

PARTING: Final = 0.5
"""Seconds that those under way have to end once the room is left."""

OWN_KIND: Final = "sip"
AGENT_KIND: Final = "agent"


class _Reader(Protocol):
    """An SDK's reader, of text or of bytes."""

    info: Any

    def close(self) -> None: ...

    def __aiter__(self) -> AsyncIterator[Any]: ...


class StreamReaders:
    """Reads the streams of one `rtc.Room` on *topics*; *hear* gets each when it has ended
    and never raises.

    *kind_name* names the kind of a participant as the SDK numbers it.
    """

    def __init__(
        self,
        room: rtc.Room,
        topics: Collection[str],
        hear: Callable[[RoomStream], None],
        kind_name: Callable[[int], str],
    ) -> None:
        self._room = room
        self._hear = hear
        self._kind_name = kind_name
        self._reading: dict[asyncio.Task[None], str] = {}
        self._closed = False
        for topic in topics:
            room.register_text_stream_handler(topic, self._opened)
            room.register_byte_stream_handler(topic, self._opened)

    async def close(self) -> None:
        """Hand over what is under way, as far as it came; the room has been left."""
        self._closed = True
        if self._reading:
            _, late = await asyncio.wait(set(self._reading), timeout=PARTING)
            for task in late:
                task.cancel()

    def _opened(self, reader: Any, identity: str) -> None:
        of_sender = sum(one == identity for one in self._reading.values())
        if self._closed or len(self._reading) >= STREAM_LIMIT or of_sender >= STREAMS_PER_SENDER:
            reader.close()
            return
        kind = self._kind_of(identity)  # it may have left when it ends
        task = asyncio.get_running_loop().create_task(self._read(reader, identity, kind))
        self._reading[task] = identity
        task.add_done_callback(lambda done: self._reading.pop(done, None))

    async def _read(self, reader: _Reader, identity: str, kind: str) -> None:
        loop = asyncio.get_running_loop()
        began = ended = loop.time()
        parts: list[str | bytes] = []
        size, whole = 0, True
        try:
            async for part in reader:
                size += len(part)
                if size > TEXT_LIMIT:
                    return
                parts.append(part)
                ended = loop.time()
            ended = loop.time()
        except rtc.data_stream.StreamError:
            whole = False
        finally:
            reader.close()
        attributes = dict(reader.info.attributes or {})
        if sum(len(key) + len(value) for key, value in attributes.items()) > ATTRIBUTES_LIMIT:
            attributes = {}
        stream = RoomStream(
            topic=reader.info.topic,
            identity=identity,
            kind=self._speaker(kind, attributes.get(convention.TRANSCRIBED_TRACK, "")),
            text="".join(part for part in parts if isinstance(part, str)),
            data=b"".join(part for part in parts if isinstance(part, bytes)),
            attributes=attributes,
            lasted=ended - began,
            whole=whole,
        )
        self._hear(stream)

    def _speaker(self, kind: str, track: str) -> str:
        """Return the kind of whom words are: their sender's, or of the owner of *track*.

        As the direct engine: ours whoever says so, and another's when an agent does.
        """
        with suppress(Exception):  # the SDK has no local participant before it is connected
            if track in self._room.local_participant.track_publications:
                return OWN_KIND
        if kind != AGENT_KIND or not track:
            return kind
        for other in list(self._room.remote_participants.values()):
            if track in other.track_publications:
                return self._kind_name(other.kind)
        return kind

    def _kind_of(self, identity: str) -> str:
        with suppress(Exception):
            if identity == self._room.local_participant.identity:
                return OWN_KIND
        other = self._room.remote_participants.get(identity)
        return self._kind_name(other.kind) if other is not None else "unknown"

"""Server-sent events: the journal as a stream that a client resumes by id.

`id:` is the event's seq on one call's stream, its position in the journal on that of all
calls. A message with an id and no data comes first, so that a client that loses the
connection before anything happened resumes there as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.types import Receive, Scope, Send

from bridge.feed import Feed, Logged

MEDIA_TYPE: Final = "text/event-stream"
RETRY: Final = 1000
"""Milliseconds a browser waits before it reconnects."""


def wants_stream(accept: str) -> bool:
    """Whether *accept* names the stream, and does not prefer JSON."""
    stream, json = _quality(accept, MEDIA_TYPE), _quality(accept, "application/json")
    return stream > 0 and stream >= json


def _quality(accept: str, media_type: str) -> float:
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name != media_type:
            continue
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    return float(value)
                except ValueError:
                    return 0.0
        return 1.0
    return 0.0


class EventStream(StreamingResponse):
    """Sends *messages*; takes a seat of *feed* and gives it back, however it ends.

    Raises `Unavailable` when no seat is free.
    """

    media_type = MEDIA_TYPE

    def __init__(self, feed: Feed, messages: AsyncIterator[bytes]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(messages, headers=headers)
        feed.take_seat()
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until there is nothing more to come or nobody to send it to."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.leave_seat()


async def _all(_: Logged) -> bool:
    return True


async def messages(
    batches: AsyncIterator[Sequence[Logged]],
    start: int,
    id_of: Callable[[Logged], int],
    allowed: Callable[[], bool],
    shown: Callable[[Logged], Awaitable[bool]] = _all,
) -> AsyncIterator[bytes]:
    """Yield *batches* as they go over the wire, until the one who asked may no longer.

    What is not *shown* to them moves the id on all the same, so that nobody looks twice.
    """
    yield format_sse_event(id=str(start), retry=RETRY)
    async for batch in batches:
        if not allowed():
            return
        seen = [one for one in batch if await shown(one)]
        if seen:
            yield b"".join(
                format_sse_event(data_str=one.body, event=one.name, id=str(id_of(one)))
                for one in seen
            )
        elif batch:
            yield format_sse_event(id=str(id_of(batch[-1])))
        else:
            yield KEEPALIVE_COMMENT

"""A call's recording over HTTP: whole, or the part of it that a player asks for (RFC 9110 14)."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Protocol

from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from bridge.api.access import access_of
from bridge.api.asking import asked
from bridge.api.reading import Reading
from bridge.call.requests import Unavailable, WrongState
from bridge.errors import BridgeError

PIECE: Final = 256 * 1024  # octets read at once
FINISHING: Final = 5.0  # seconds a request waits for a file that is being closed
READS: Final = 4
"""Pieces read at once: a place that hangs holds up nobody but who asks for recordings."""
TURN: Final = 2.0  # seconds a request waits until one of these is done
_LOOK: Final = 0.05
_RANGE: Final = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)


class KeptRecording(Protocol):
    """A whole recording."""

    @property
    def name(self) -> str:
        """Its file's name."""

    @property
    def octets(self) -> int:
        """How long it is."""

    @property
    def content_type(self) -> str:
        """The media type."""

    @property
    def etag(self) -> str:
        """Its entity tag, in quotes."""

    def read(self, begin: int, end: int) -> bytes | None:
        """Return the octets from *begin* to before *end*; None: it is gone.

        Blocks, raises `BridgeError`.
        """


class RecordingDoor(Protocol):
    """The recordings as the API asks for them, from any thread."""

    def writes(self, call_id: str) -> bool:
        """Whether a call's file is not whole yet."""

    def is_recorded(self, call_id: str) -> bool:
        """Whether a call was begun to be recorded. Blocks, raises `BridgeError`."""

    def find(self, call_id: str) -> KeptRecording | None:
        """Return a call's whole recording. Blocks, raises `BridgeError`."""

    def forget(self, call_id: str) -> None:
        """Have the recording of an erased call deleted."""


class _Readers:
    """Reads pieces, at most `READS` at once, each on a thread that the process's end leaves."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(READS)

    async def first(self, kept: KeptRecording, begin: int, end: int) -> bytes | None:
        """Read a piece. Raises `Unavailable` when too many are read already, or it cannot be."""
        try:
            async with asyncio.timeout(TURN):
                await self._free.acquire()
        except TimeoutError as failure:
            raise Unavailable("too many recordings are being read", retry_after=5) from failure
        try:
            return await self._read(kept, begin, end)
        except BridgeError as failure:
            raise Unavailable("the recording cannot be read now") from failure

    async def next(self, kept: KeptRecording, begin: int, end: int) -> bytes | None:
        """Read a piece of what is on its way already. Raises what reading does."""
        await self._free.acquire()
        return await self._read(kept, begin, end)

    async def _read(self, kept: KeptRecording, begin: int, end: int) -> bytes | None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bytes | None] = loop.create_future()

        def settle(piece: bytes | None, failure: Exception | None) -> None:
            self._free.release()  # only now: who asked may be gone long since
            if done.done():
                return
            if failure is None:
                done.set_result(piece)
            else:
                done.set_exception(failure)

        def read() -> None:
            piece, failed = None, None
            try:
                piece = kept.read(begin, end)
            except Exception as failure:  # it is raised where it was asked for
                failed = failure
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, piece, failed)

        try:
            threading.Thread(target=read, name="recording-read", daemon=True).start()
        except RuntimeError as failure:  # no more threads
            self._free.release()
            raise Unavailable("the recording cannot be read now") from failure
        return await done


class Player:
    """Answers ``GET …/recording``; *door* None: nothing is recorded here."""

    def __init__(self, reading: Reading, door: RecordingDoor | None) -> None:
        self._reading = reading
        self._door = door
        self._readers = _Readers()

    async def play(self, call_id: str, request: Request) -> Response:
        """Return the file, or the part that is asked for.

        404 when nothing was recorded, 409 while the call runs.
        """
        call = await self._reading.call(call_id, access_of(request))
        door = self._door
        if door is None:
            raise _nothing()
        if call["ended_at"] is None:
            if await asked(lambda: door.is_recorded(call["id"])):
                raise WrongState("the call runs, its recording is there when it is over")
            raise _nothing()
        found = await self._find(door, call["id"])
        if found is None:
            raise _nothing()
        return await _answer(found, request, self._readers)

    def forget(self, call_id: str) -> None:
        """A call was erased."""
        if self._door is not None:
            self._door.forget(call_id)

    async def _find(self, door: RecordingDoor, call_id: str) -> KeptRecording | None:
        waited = 0.0
        while True:
            writing = door.writes(call_id)
            found = await asked(lambda: door.find(call_id))
            if found is not None:
                return found
            if not writing:
                break
            if waited >= FINISHING:
                raise Unavailable("the recording is being finished", retry_after=1)
            await asyncio.sleep(_LOOK)
            waited += _LOOK
        # It may have been brought away in this very moment: the store tells where.
        fresh = await self._reading.is_fresh()
        found = await asked(lambda: door.find(call_id))
        if found is None and not fresh and await asked(lambda: door.is_recorded(call_id)):
            raise Unavailable("the store does not know yet where the recording is", retry_after=1)
        return found


async def _answer(kept: KeptRecording, request: Request, readers: _Readers) -> Response:
    """Return the response to *request* for a recording that is there."""
    size = kept.octets
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private",
        "Content-Disposition": f'inline; filename="{kept.name}"',
        "ETag": kept.etag,
    }
    if kept.etag in _tags(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range")
    if wanted is not None and request.headers.get("if-range", kept.etag) != kept.etag:
        wanted = None  # RFC 9110 13.1.5: it is another file than the one that was begun
    part = None if wanted is None else part_of(wanted, size)
    begin, end = part or (0, size)
    if part is not None and begin >= end:
        raise HTTPException(
            416, f"the recording has {size} octets", headers={"Content-Range": f"bytes */{size}"}
        )
    first = await readers.first(kept, begin, min(end, begin + PIECE))
    if first is None:
        raise _nothing()
    headers["Content-Length"] = str(end - begin)
    if part is not None:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    return StreamingResponse(
        _pieces(readers, kept, first, begin, end),
        status_code=200 if part is None else 206,
        headers=headers,
        media_type=kept.content_type,
    )


async def _pieces(
    readers: _Readers, kept: KeptRecording, first: bytes, begin: int, end: int
) -> AsyncIterator[bytes]:
    yield first
    at = begin + len(first)
    while at < end:
        piece = await readers.next(kept, at, min(end, at + PIECE))
        if not piece:
            raise ConnectionError("the recording was deleted")  # the length that was told is not
        yield piece
        at += len(piece)


def part_of(text: str, size: int) -> tuple[int, int] | None:
    """Return begin and end (exclusive) of the range *text* asks for; empty: it has none of it.

    None: the whole, as for what is not understood and for several ranges at once (RFC 9110
    14.2: a server MAY ignore the Range header field).
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None or found.group(1, 2) == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None  # RFC 9110 14.1.1: invalid
    begin = int(first)
    end = min(size, int(last) + 1) if last else size
    return (begin, end) if begin < size else (size, size)


def _tags(text: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in text.split(",")]


def _nothing() -> HTTPException:
    return HTTPException(404, "the call was not recorded")

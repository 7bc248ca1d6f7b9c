"""The transcripts of the calls that run here: heard in their rooms, or posted by their agents.

Everything that is final is a ``transcript`` fact of the journal, at once; what an agent
measured is a ``report``. The first post for a room switches off the capture of what is streamed
in it (``capture_off``), which outlives a restart. Lives on the main loop.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import structlog

from bridge.events import CallAnswered, CallEnded, CallEvent, CallHold, CallResume
from bridge.room.convention import SESSION_TOPIC, TRANSCRIPTION_TOPIC
from bridge.room.seam import RoomHandlers, RoomStream
from bridge.transcript.accounts import HandedOver, ModelUsed, ToolCalled, account_of
from bridge.transcript.heard import Item, RoomTranscript
from bridge.transcript.reports import turns_of
from bridge.transcript.segment import Segment, Speaker, name

_log = structlog.get_logger(__name__)

TOPICS: Final = (TRANSCRIPTION_TOPIC, SESSION_TOPIC)

LAST_WORDS: Final = 1.5
"""Seconds from the end of a call to that of its transcript: its room is left within them."""

AFTERWARDS: Final = 30.0
"""Seconds after its end in which a call still takes accounts of what was said."""


class Notes(Protocol):
    """The journal, as transcripts write it."""

    def note(self, call_id: str, kind: str, body: Mapping[str, Any]) -> Awaitable[object]:
        """Write a fact of a call; the result is when it is safe, or why it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A call that runs here, as its room's agents may ask for it."""

    call_id: str
    tenant_id: str | None


class _Call:
    """One call's transcript as it grows."""

    __slots__ = ("call_id", "core", "llm_model", "off", "room", "seq", "tenant_id", "timer")

    def __init__(self, call_id: str, room: str, tenant_id: str | None, *, phone: bool) -> None:
        self.call_id = call_id
        self.room = room
        self.tenant_id = tenant_id
        self.core = RoomTranscript(phone=phone, ids=uuid.uuid4().hex[:12])
        self.off = False
        self.seq = 0
        self.llm_model: str | None = None
        self.timer: asyncio.TimerHandle | None = None


class Transcripts:
    """Hears, takes and writes down what is said. None of its methods raises into a call."""

    def __init__(
        self,
        journal: Notes,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._wall = wall
        self._calls: dict[str, _Call] = {}
        self._of_room: dict[str, list[str]] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._writing: set[asyncio.Future[object]] = set()

    # Calls come and go.

    def listen(
        self, call_id: str, room: str, handlers: RoomHandlers, *, tenant_id: str | None = None
    ) -> RoomHandlers:
        """Take on a phone call; return *handlers* with ears for what is streamed in its room.

        Nothing counts before it is answered; `told` says when that is, and when it is over.
        """
        self._take_on(_Call(call_id, room, tenant_id, phone=True))
        return replace(handlers, stream=lambda stream: self.hear(call_id, stream), topics=TOPICS)

    def open(
        self, call_id: str, room: str, *, tenant_id: str | None = None, off: bool = False
    ) -> None:
        """Take on a web call; what is streamed comes by `hear`. *off*: posts have come before."""
        if call_id not in self._calls:
            self._take_on(_Call(call_id, room, tenant_id, phone=False))
        if off:
            self._calls[call_id].off = True

    def _take_on(self, call: _Call) -> None:
        self._calls[call.call_id] = call
        self._of_room.setdefault(call.room, []).append(call.call_id)

    def told(self, event: CallEvent) -> None:
        """Take an event of any call; one that comes again changes nothing."""
        call = self._calls.get(event.call_id)
        if call is None or event.seq <= call.seq:
            return
        call.seq = event.seq
        now = self._clock()
        match event:
            case CallHold():
                call.core.hold(now)
            case CallAnswered() | CallResume():
                call.core.resume(now)
            case CallEnded():
                if call.core.in_hold(now):  # no hold outlives its call
                    call.core.resume(now)
                self._end_in(call.call_id, LAST_WORDS)
            case _:
                pass

    def _end_in(self, call_id: str, seconds: float) -> None:
        if call_id not in self._later:
            loop = asyncio.get_running_loop()
            self._later[call_id] = loop.call_later(seconds, self.end, call_id)

    def end(self, call_id: str) -> None:
        """A call is over: write down what is left. Accounts of it are taken for a while."""
        call = self._calls.get(call_id)
        if call is None:
            return
        waiting = self._later.pop(call_id, None)
        if waiting is not None:
            waiting.cancel()
        self._write(call, call.core.finish())
        loop = asyncio.get_running_loop()
        self._later[call_id] = loop.call_later(AFTERWARDS, self._forget, call_id)

    def _forget(self, call_id: str) -> None:
        self._later.pop(call_id, None)
        call = self._calls.pop(call_id, None)
        if call is None:
            return
        if call.timer is not None:
            call.timer.cancel()
        left = [one for one in self._of_room.get(call.room, ()) if one != call_id]
        if left:
            self._of_room[call.room] = left
        else:
            self._of_room.pop(call.room, None)

    async def close(self) -> None:
        """End all, and wait until it is written or given up."""
        for call_id in list(self._calls):
            self.end(call_id)
            self._later[call_id].cancel()
            self._forget(call_id)
        if self._writing:
            await asyncio.wait(set(self._writing), timeout=5)

    def running(
        self,
        room: str,
        call_id: str | None = None,
        *,
        sees: Callable[[str | None], bool] = lambda _: True,
    ) -> Running | None:
        """Return the call of *room* that runs here, or has just ended; the newest of several.

        Of those only whose tenant who asks *sees*; *call_id* is the one, when it is given.
        """
        for known in reversed(self._of_room.get(room, ())):
            call = self._calls[known]
            if call_id in (None, known) and sees(call.tenant_id):
                return Running(call_id=call.call_id, tenant_id=call.tenant_id)
        return None

    # What is heard.

    def hear(self, call_id: str, stream: RoomStream) -> None:
        """Take what was streamed in a call's room."""
        call = self._calls.get(call_id)
        if call is None:
            return
        try:
            self._take(call, stream)
        except Exception:  # a bug of ours costs these words, never the call
            _log.exception("transcript.lost", call_id=call_id, topic=stream.topic)

    def _take(self, call: _Call, stream: RoomStream) -> None:
        now = self._clock()
        if stream.topic == TRANSCRIPTION_TOPIC:
            if not call.off:
                call.core.take(stream, now, self._wall())
        elif stream.topic == SESSION_TOPIC and stream.kind == "agent":
            self._account(call, stream.data, now)
        self._go_on(call)

    def _account(self, call: _Call, data: bytes, now: float) -> None:
        match account_of(data):
            case Item() as item:
                if item.speaker is Speaker.AGENT:
                    item = replace(item, llm_model=call.llm_model)
                call.core.tell(item, now)
            case ToolCalled() as tool:
                call.core.called(tool.call, now)
            case HandedOver() as handover:
                call.core.agent_name = handover.agent_name
            case ModelUsed() as model:
                call.llm_model = model.llm_model
            case None:
                pass

    def _go_on(self, call: _Call) -> None:
        """Write what is ready, and look again when more will be."""
        now = self._clock()
        self._write(call, call.core.poll(now))
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
        due = call.core.next_deadline()
        if due is not None:
            loop = asyncio.get_running_loop()
            call.timer = loop.call_later(max(0.0, due - now), self._go_on, call)

    def _write(self, call: _Call, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._note(call.call_id, "transcript", segment.as_dict())

    def _note(self, call_id: str, kind: str, body: Mapping[str, Any]) -> asyncio.Future[object]:
        done = asyncio.ensure_future(self._journal.note(call_id, kind, body))
        self._writing.add(done)
        done.add_done_callback(self._written)
        return done

    def _written(self, done: asyncio.Future[object]) -> None:
        self._writing.discard(done)
        if not done.cancelled() and done.exception() is not None:
            _log.error("transcript.not_written", error=type(done.exception()).__name__)

    # What is posted.

    async def post(self, call_id: str, segments: Sequence[Segment]) -> list[Segment]:
        """Write what a call's agent posts; return what is kept: all that was not said in a hold.

        The first post switches off the capture of the room's streams, for good. Returns when it
        is safe. Raises `bridge.errors.BridgeError` when it cannot be written.
        """
        call = self._calls.get(call_id)
        writing = []
        if call is None or not call.off:
            writing.append(self._note(call_id, "capture_off", {}))
        if call is not None and not call.off:
            call.off = True
            call.core.be_posted()
            self._go_on(call)
        kept = [
            segment
            if call is None
            else call.core.posted(segment)  # a call that is over has no holds any more
            for segment in segments
            if call is None or not self._was_held(call, segment.at)
        ]
        writing += [self._note(call_id, "transcript", segment.as_dict()) for segment in kept]
        await asyncio.gather(*writing)
        return kept

    def _was_held(self, call: _Call, wall: float) -> bool:
        moment = self._clock() - (self._wall() - wall)
        return call.core.in_hold(moment)

    async def report(self, call_id: str, body: Mapping[str, Any]) -> None:
        """Write what an agent measured. Returns and raises as `post`."""
        call = self._calls.get(call_id)
        if call is not None:
            self._take_turns(call, body)
        await self._note(call_id, "report", body)

    def _take_turns(self, call: _Call, body: Mapping[str, Any]) -> None:
        if "current_agent" in body:
            call.core.agent_name = name(body["current_agent"])
        now = self._clock()
        for turn in turns_of(body):
            speaker = Speaker.USER if turn.pop("role") == "user" else Speaker.AGENT
            call.core.tell(Item(speaker=speaker, text=turn.pop("content"), **turn), now)
        self._go_on(call)

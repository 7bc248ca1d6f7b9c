"""One call: runs one machine and does what it asks.

`Call.post` is synchronous. One task takes an input, steps, and hands commands to
lanes; it never awaits an effect. SIP and media commands are done in the same
turn; the room has a queue of its own. Each event is journalled first, then sent
to the room, then told to every other listener, in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final, assert_never

import structlog

from bridge.call.commands import (
    Answer,
    AnswerRefer,
    ApplyLevels,
    Bye,
    Cancel,
    CatchUp,
    CloseMedia,
    Command,
    ConnectMedia,
    DeleteRoom,
    Dial,
    DialReferred,
    DispatchAgent,
    Finish,
    FlushRoom,
    HoldResult,
    JoinRoom,
    LeaveRoom,
    MediaCommand,
    PlayDigits,
    Probe,
    PublishKey,
    RecallAgent,
    Refer,
    Reject,
    Reoffer,
    RepeatTo,
    ReplyTo,
    RestoreRoom,
    Ring,
    RoomCommand,
    SetAttributes,
    SetMute,
    SetSubscribed,
    SuspendRoom,
    TellReferred,
    TransferReply,
)
from bridge.call.inputs import (
    Begun,
    By,
    DeadlineReached,
    Dispatched,
    DispatchFailed,
    EffectFailed,
    EndRecorded,
    Flushed,
    Input,
    Joined,
    JoinFailed,
    Published,
    RoomLeft,
    RoomPrepared,
)
from bridge.call.lane import Entry, RoomLane
from bridge.call.levels import attributes, room_levels
from bridge.call.machine import initial, next_deadline, snapshot, step
from bridge.call.plan import CallPlan
from bridge.call.ports import (
    ALONE,
    UNOBSERVED,
    Beside,
    CallObserver,
    JournalPort,
    JournalRecord,
    OpenMedia,
    PreparedRoom,
    Recorder,
    RoomPort,
    SipPort,
)
from bridge.call.record import (
    CallRecord,
    fold,
    live_record,
    new_record,
    with_carrier_ids,
    with_engine,
)
from bridge.call.recorded import Recorded
from bridge.call.rpc import CallRpcs
from bridge.call.sip_effects import do_sip
from bridge.call.state import CallState, Phase, RoomPhase
from bridge.call.target import Target
from bridge.events import CallEnded, CallEvent
from bridge.room.convention import TOPIC
from bridge.room.seam import JoinSpec, LeaveReason, RoomError, RoomHandlers

_log = structlog.get_logger(__name__)

DISPATCH_TIMEOUT: Final = 8.0
LEAVE_TIMEOUT: Final = 4.5
ATTRIBUTE_LOSSES: Final = 3  # in a row; then they wait for the next change
JOURNAL_TIMEOUT: Final = 5.0  # seconds an event waits for the journal, then it goes on
COMING_BACK: Final = 60.0  # seconds after a rejoin in which the others come back
RECENT: Final = 128  # events kept for one who was there and comes back
ROOM_TIMEOUT: Final = 0.5  # seconds other listeners wait for the room

_REFERRING: Final = (Refer, AnswerRefer, TellReferred)
_SIP_COMMANDS: Final = (Dial, Ring, Answer, Reject, Cancel, Bye, Reoffer, Probe, *_REFERRING)
_HERE: Final = (ReplyTo, DialReferred, Finish)
_OPEN_OR_CLOSE: Final = (Dial, Reject, Cancel, Bye)
_MEDIA_COMMANDS: Final = (ConnectMedia, ApplyLevels, PlayDigits, CloseMedia)


class _Telling:
    """One event on its way: journalled, then sent to the room, then told."""

    __slots__ = ("at", "event", "settled", "stored")

    def __init__(self, event: CallEvent, stored: asyncio.Future[object] | None, at: float) -> None:
        self.event = event
        self.at = at  # when what caused it arrived
        self.stored = stored
        self.settled = asyncio.Event()  # sent to the room, or given up


class Call:
    """Runs one call from `start` to ``on_end``."""

    def __init__(
        self,
        plan: CallPlan,
        *,
        sip: SipPort,
        open_media: OpenMedia,
        rooms: RoomPort,
        journal: JournalPort,
        publish: Callable[[CallEvent], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
        on_end: Callable[[Call], None],
        observer: CallObserver = UNOBSERVED,
        beside: Beside = ALONE,
        recorder: Recorder | None = None,
    ) -> None:
        self.plan = plan
        self.beside = beside
        self.sip = sip
        self._rooms = rooms
        self._journal = journal
        self._publish = publish
        self._clock = clock
        self._wall = wall
        self._on_end = on_end
        self._observer = observer
        self._recorded = Recorded(plan, recorder)
        self._state = initial(plan, clock(), wall())
        self._record = new_record(plan)
        self._inbox: deque[Input] = deque()
        self._recent: deque[CallEvent] = deque(maxlen=RECENT)
        self._sent_seq = 0  # the last event whose turn in the lane has been
        self._behind: dict[str, int] = {}  # who has yet to be sent what it missed
        self._running = False
        self._stepping = False
        self._wake = asyncio.Event()
        self._lane = RoomLane(plan.call_id)
        self._tellings: asyncio.Queue[_Telling | None] = asyncio.Queue()
        self._spec: JoinSpec | None = None
        self._attribute_losses = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._finished = asyncio.Event()
        self._rpcs = CallRpcs(plan, lambda: self._state, self.post, beside)
        handlers = RoomHandlers(notify=self.post, rpc=self._rpcs.handlers())
        self.media = open_media(handlers, self.post)

    # For the outside.

    @property
    def call_id(self) -> str:
        """The call's id."""
        return self.plan.call_id

    @property
    def state(self) -> CallState:
        """The machine's state now."""
        return self._state

    @property
    def record(self) -> CallRecord:
        """The call resource now."""
        return live_record(with_engine(self._record, self.media.choice()), self._state)

    def start(self, recorded: asyncio.Future[None] | None = None) -> None:
        """Begin. Call once, on the loop.

        Nothing is done before the call is *recorded*, or the journal had its time: no caller
        hears of a call that a crash would leave without a record.
        """
        if self._task is None:
            self.post(Begun())
            self._task = asyncio.create_task(self._run(recorded), name=f"call-{self.call_id}")

    def post(self, event: Input) -> None:
        """Take *event*; returns at once. After the end it is ignored.

        A call that runs and is not within a step takes it in this very turn of the loop:
        a hold shuts the gate before the peer's answer is written.
        """
        if self._state.phase is Phase.DONE:
            return
        self._inbox.append(event)
        self._rpcs.hear(event)
        if self._running:
            self._take_inputs()
        self._wake.set()

    async def set_hold(self, *, hold: bool) -> HoldResult:
        """Hold the far end, or end our hold; return when that is settled, or failed."""
        return await self._rpcs.set_hold(hold=hold)

    async def transfer(self, target: Target, by: By) -> TransferReply:
        """Ask the far end to call *target*; return when it agreed to try, or did not."""
        return await self._rpcs.transfer(target, by)

    async def wait_ended(self) -> None:
        """Return when the call has finished and everyone has been told."""
        await self._finished.wait()

    # The task.

    async def _run(self, recorded: asyncio.Future[None] | None) -> None:
        if recorded is not None and not recorded.done():
            await asyncio.wait({recorded}, timeout=JOURNAL_TIMEOUT)
        lane = asyncio.create_task(self._lane.run(), name=f"room-lane-{self.call_id}")
        teller = asyncio.create_task(self._tell_all(), name=f"events-{self.call_id}")
        self._running = True
        try:
            while self._state.phase is not Phase.DONE:
                await self._next()
            self._lane.stop()
            self._tellings.put_nowait(None)
            await teller
        finally:
            self._lane.stop()
            lane.cancel()
            teller.cancel()
            await asyncio.gather(lane, teller, return_exceptions=True)
            self._rpcs.close()
            self._recorded.close()
            self._finished.set()
            self._on_end(self)

    async def _next(self) -> None:
        """Take all inputs that are there, fire what is due, wait for the next."""
        self._take_inputs()
        deadline = next_deadline(self._state)
        delay = None if deadline is None else deadline - self._clock()
        if delay is not None and delay <= 0:
            self._step(DeadlineReached())
            return
        if self._state.phase is Phase.DONE:
            return
        self._wake.clear()
        timer = None
        if delay is not None:
            timer = asyncio.get_running_loop().call_later(delay, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    def _take_inputs(self) -> None:
        """Step through all inputs that are there; what a step itself posts comes after."""
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._inbox:
                self._step(self._inbox.popleft())
        finally:
            self._stepping = False

    def _step(self, event: Input) -> None:
        now, wall = self._clock(), self._wall()
        try:
            taken = step(self._state, event, now, wall)
        except Exception:  # a bug of ours costs this input, then this call, never another
            _log.exception("call.step_failed", call_id=self.call_id, input=type(event).__name__)
            self._give_up(event)
            return
        self._state = taken.state
        self._do_at_once(taken.commands)
        self._record_events(taken.events, now, wall)
        for command in taken.commands:
            if not isinstance(command, (*_SIP_COMMANDS, *_MEDIA_COMMANDS, *_HERE)):
                self._do_in_room(command)

    def _give_up(self, event: Input) -> None:
        """End a call whose machine failed: first by the machine, then without it."""
        if isinstance(event, (EffectFailed, DeadlineReached)):
            self._do_at_once((Bye(), CloseMedia()))
            self._do_in_room(LeaveRoom(reason=LeaveReason.CLIENT_INITIATED))
            self._state = replace(self._state, phase=Phase.DONE)
        else:
            self.post(EffectFailed())

    # SIP and media: in the same turn.

    def _do_at_once(self, commands: tuple[Command, ...]) -> None:
        for command in commands:
            try:
                if isinstance(command, _SIP_COMMANDS):
                    do_sip(self.sip, command, self.beside)
                elif isinstance(command, _MEDIA_COMMANDS):
                    self._do_media(command)
                elif isinstance(command, ReplyTo):
                    self._rpcs.settle(command.ticket, command.result)
                elif isinstance(command, DialReferred):
                    self.beside.begin(self.call_id, command.to)
            except Exception:  # whatever it is, it becomes the failure input
                _log.exception(
                    "call.effect_failed", call_id=self.call_id, command=type(command).__name__
                )
                self.post(EffectFailed(sip_lost=isinstance(command, _OPEN_OR_CLOSE)))

    def _do_media(self, command: MediaCommand) -> None:
        carrier = self.media.carrier
        match command:
            case ConnectMedia():
                carrier.connect(command.negotiated)
            case ApplyLevels():
                carrier.apply(command.levels)
            case PlayDigits():
                carrier.send_dtmf(command.digits)
            case CloseMedia():
                self._spawn(self._close_carrier())
            case _:
                assert_never(command)

    async def _close_carrier(self) -> None:
        try:
            await self.media.carrier.close()
        except Exception:  # the call ends all the same
            _log.exception("call.media_close_failed", call_id=self.call_id)

    # Events: journal, room, everyone else.

    def _record_events(self, events: tuple[CallEvent, ...], now: float, wall: float) -> None:
        if not events:
            return
        saved = snapshot(self._state, now, wall)
        records = []
        for event in events:
            self._recorded.heed(event, self.media.carrier)
            folded = fold(self._record, event)
            known = with_carrier_ids(folded, self._state.carrier_ids)
            self._record = with_engine(known, self.media.choice())
            self._recent.append(event)
            records.append(JournalRecord(event=event, record=self._record, snapshot=saved))
        stored = self._append(records)
        if isinstance(events[-1], CallEnded):
            self._note_end_recorded(stored)
        at = self._observer.cause_at(now)
        for event in events:
            telling = _Telling(event, stored, at)
            self._tellings.put_nowait(telling)
            self._lane.put(self._event_entry(telling))

    def _note_end_recorded(self, stored: asyncio.Future[object] | None) -> None:
        if stored is None:
            self.post(EndRecorded())
        else:
            stored.add_done_callback(lambda _: self.post(EndRecorded()))

    def _append(self, records: list[JournalRecord]) -> asyncio.Future[object] | None:
        try:
            stored = asyncio.ensure_future(self._journal.append(self.call_id, records))
        except Exception:  # a journal failure never stops a call (design, Reliability)
            _log.exception("call.journal_failed", call_id=self.call_id)
            return None
        stored.add_done_callback(_note_exception)
        return stored

    def _event_entry(self, telling: _Telling) -> Entry:
        payload = telling.event.encode()

        async def send() -> None:
            await self._wait_stored(telling)
            to = self._addressees()
            if to is None:
                await self.media.room.publish(payload, TOPIC)
            elif to:
                await self.media.room.publish(payload, TOPIC, to)

        def begin() -> Awaitable[object] | None:
            """Send in this turn what is in the journal already."""
            stored = telling.stored
            safe = stored is not None and _safe(stored) and self._addressees() is None
            return self.media.room.publish(payload, TOPIC) if safe else None

        def sent() -> None:
            telling.settled.set()
            self._sent_seq = telling.event.seq
            self._observer.published(telling.event, self._clock() - telling.at)
            self.post(Published(seq=telling.event.seq))

        return Entry(send=send, begin=begin, sent=sent, dropped=telling.settled.set)

    def _addressees(self) -> list[str] | None:
        """Return whom an event is sent to now; None: everybody in the room.

        While somebody who was there before a rejoin is not back, or has yet to be sent
        what it missed, only those that are known to be there: who comes back in this very
        moment is in the room before we hear of it, and would be told twice.
        """
        state = self._state
        recent = state.rejoined_at is not None and (self._clock() - state.rejoined_at < COMING_BACK)
        if not self._behind and not (recent and state.told.keys() - state.others):
            return None
        return sorted(state.others - self._behind.keys())

    async def _wait_stored(self, telling: _Telling) -> None:
        """Wait until the event is in the journal, or the journal had its time."""
        stored = telling.stored
        if stored is None:
            return
        if not stored.done():
            await asyncio.wait({stored}, timeout=JOURNAL_TIMEOUT)
        if not _safe(stored) and telling.stored is not None:
            telling.stored = None  # logged once; nobody waits again
            _log.error("call.event_not_journalled", call_id=self.call_id, seq=telling.event.seq)

    async def _tell_all(self) -> None:
        while (telling := await self._tellings.get()) is not None:
            await self._wait_stored(telling)
            if self._lane.is_open:
                await _until(telling.settled, ROOM_TIMEOUT)
            try:
                self._publish(telling.event)
            except Exception:  # a listener's bug is not the call's
                _log.exception("call.listener_failed", call_id=self.call_id)

    # The room.

    def _do_in_room(self, command: RoomCommand) -> None:
        room = self.media.room
        match command:
            case JoinRoom():
                self._spawn(self._join(command))
            case DispatchAgent():
                self._spawn(self._dispatch(command.instead_of))
            case RecallAgent():
                self._spawn(self._recall(command.dispatch))
            case SuspendRoom():
                self._lane.suspend()
            case RestoreRoom():
                self._restore(command)
            case SetAttributes():
                self._lane.put(self._attributes_entry(command.attributes))
            case SetMute():
                # After the event that goes with it: the SDK takes a millisecond for it, and
                # what the room hears was closed in the same turn (`ApplyLevels`).
                muted = command.muted
                self._lane.put(Entry(send=lambda: _at_once(lambda: room.mute(muted)), level=True))
            case SetSubscribed():
                self._guard(lambda: room.subscribe(command.subscribed))
            case RepeatTo() | CatchUp():
                self._lane.put(self._repeat_entry(command))
            case PublishKey():
                digit = command.digit
                if not self._lane.is_full:
                    self._enqueue(lambda: room.publish_dtmf(digit))
            case FlushRoom():
                self._lane.put(Entry(send=_nothing, sent=lambda: self.post(Flushed())))
            case LeaveRoom():
                self._lane.stop()
                self._spawn(self._leave(command.reason))
            case DeleteRoom():
                delay = command.delay
                self._guard(lambda: self._rooms.delete_later(self.plan.room, delay))
            case _:
                assert_never(command)

    def _restore(self, command: RestoreRoom) -> None:
        """Mute and attributes come before anything queued (contract 4)."""
        room = self.media.room
        self._guard(lambda: room.mute(command.muted))
        self._guard(lambda: room.subscribe(command.subscribed))
        self._lane.restore(
            self._attributes_entry(command.attributes),
            *(self._repeat_entry(one) for one in command.repeats),
        )

    def _attributes_entry(self, values: Mapping[str, str]) -> Entry:
        """Attributes are a level: those that got lost are sent again, whole."""

        def sent() -> None:
            self._attribute_losses = 0

        def dropped() -> None:
            self._attribute_losses += 1
            if self._lane.is_open and self._attribute_losses < ATTRIBUTE_LOSSES:
                self._lane.put(self._attributes_entry(attributes(self._state)))

        room = self.media.room
        return Entry(
            send=lambda: room.set_attributes(values), sent=sent, dropped=dropped, level=True
        )

    def _repeat_entry(self, command: RepeatTo | CatchUp) -> Entry:
        """Return the send of earlier events, unchanged, to one participant."""
        if isinstance(command, CatchUp):
            return self._catch_up_entry(command)
        room, payload = self.media.room, command.event.encode()
        return Entry(send=lambda: room.publish(payload, TOPIC, [command.identity]))

    def _catch_up_entry(self, command: CatchUp) -> Entry:
        """Return one entry that sends what was sent without *identity* until its turn came."""
        identity, at = command.identity, command.after
        self._behind[identity] = self._behind.get(identity, 0) + 1

        async def send() -> None:
            nonlocal at
            for event in [e for e in self._recent if at < e.seq <= self._sent_seq]:
                await self.media.room.publish(event.encode(), TOPIC, [identity])
                at = event.seq

        def caught_up() -> None:
            self._behind[identity] -= 1
            if not self._behind[identity]:
                del self._behind[identity]

        return Entry(send=send, sent=caught_up, dropped=caught_up)

    def _enqueue(self, send: Callable[[], Awaitable[object]]) -> None:
        self._lane.put(Entry(send=send))

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:  # the call survives whatever an SDK raises
            _log.exception("call.room_level_failed", call_id=self.call_id)

    async def _join(self, command: JoinRoom) -> None:
        """Join; never cancelled, because a cancelled SDK connect kills the process."""
        since, again = self._clock(), command.again
        try:
            prepared = await self._prepare(command)
            self._spec = prepared.spec
            self.post(
                RoomPrepared(identity=prepared.spec.identity, made=prepared.made, sid=prepared.sid)
            )
            if command.again:  # what the session restores is what is true now
                levels = room_levels(self._state)
                self.media.room.mute(levels.muted)
                await self.media.room.set_attributes(levels.attributes)
            await self.media.room.join(prepared.spec)
        except Exception as error:  # RoomError, or whatever an SDK raises
            _log.warning("call.join_failed", call_id=self.call_id, error=type(error).__name__)
            self._observer.joined(seconds=self._clock() - since, again=again, ok=False)
            self.post(JoinFailed())
            return
        self._observer.joined(seconds=self._clock() - since, again=again, ok=True)
        abandoned = self._state.phase is Phase.DONE or self._state.room is RoomPhase.LEFT
        if abandoned:  # nobody else will leave
            await self._leave(LeaveReason.CLIENT_INITIATED)
            return
        self.post(Joined(others=frozenset(self.media.room.others())))

    async def _prepare(self, command: JoinRoom) -> PreparedRoom:
        """Prepare the room; nobody waits for it longer than for the call."""
        identity = self._spec.identity if command.again and self._spec else None
        preparing = asyncio.ensure_future(
            self._rooms.prepare(self.plan, command.attributes, identity)
        )
        finished = asyncio.ensure_future(self._finished.wait())
        try:
            await asyncio.wait({preparing, finished}, return_when=asyncio.FIRST_COMPLETED)
            if not preparing.done():
                msg = "the call is over"
                raise RoomError(msg)
            return preparing.result()
        finally:
            preparing.cancel()
            finished.cancel()

    async def _dispatch(self, instead_of: str) -> None:
        try:
            async with asyncio.timeout(DISPATCH_TIMEOUT):
                dispatch = await self._rooms.dispatch(self.plan, instead_of=instead_of)
        except Exception as error:
            _log.warning("call.dispatch_failed", call_id=self.call_id, error=type(error).__name__)
            self.post(DispatchFailed())
        else:
            self.post(Dispatched(dispatch=dispatch))

    async def _recall(self, dispatch: str) -> None:
        try:
            async with asyncio.timeout(DISPATCH_TIMEOUT):
                await self._rooms.recall(self.plan, dispatch)
        except Exception as error:
            _log.warning("call.recall_failed", call_id=self.call_id, error=type(error).__name__)

    async def _leave(self, reason: LeaveReason) -> None:
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self.media.room.leave(reason)
        except Exception as error:
            _log.warning("call.leave_failed", call_id=self.call_id, error=type(error).__name__)
        self.post(RoomLeft())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* beside the call; the task outlives it if it must."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _nothing() -> None:
    return


async def _at_once(act: Callable[[], None]) -> None:
    act()


def _safe(stored: asyncio.Future[object]) -> bool:
    """Whether what was to be stored is."""
    return stored.done() and not stored.cancelled() and stored.exception() is None


def _note_exception(future: asyncio.Future[object]) -> None:
    if not future.cancelled():
        future.exception()  # retrieved; it is logged where it is waited for


async def _until(event: asyncio.Event, seconds: float) -> None:
    """Wait for *event*, at most *seconds*."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return

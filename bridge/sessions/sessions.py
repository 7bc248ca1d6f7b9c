"""Every web call of this instance: accepted, watched, ended, taken up again.

Lives on the main loop. What happens is decided by `bridge.sessions.state`; this makes rooms,
looks into them, writes down what follows, and tells it. Sound and agents are LiveKit's: a
session goes on while this daemon restarts, and a restart takes it up (`Sessions.take_up`).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar, assert_never

import structlog

from bridge.call.idempotency import Claim, ClaimArchive, Once, SharedClaims
from bridge.call.ids import CallIds
from bridge.call.outcome import SessionEnd, session_outcome
from bridge.call.record import CallRecord, fold, workflow_id
from bridge.call.requests import Accepted, Admit, BadRequest, Unavailable
from bridge.call.tokens import is_over
from bridge.config.config import Config
from bridge.config.trunk import WorkflowConfig
from bridge.errors import BridgeError
from bridge.events import CallEnded, CallEvent
from bridge.room.seam import RoomError
from bridge.sessions import record as records
from bridge.sessions.farewell import Farewells
from bridge.sessions.limits import Limits
from bridge.sessions.live import Live
from bridge.sessions.requests import Asker, Created, Kind, RoomNews, SessionRequest
from bridge.sessions.rooms import SessionRooms
from bridge.sessions.state import (
    EndAsked,
    Ended,
    Input,
    Joined,
    RoomMade,
    RoomWanted,
    SessionState,
    Timing,
    new_state,
    restored_state,
    step,
)
from bridge.sessions.watch import Watch

_log = structlog.get_logger(__name__)

POLL: Final = 5.0  # seconds between looks at all rooms (contract 6)
FAREWELL: Final = 5.0  # seconds from the end to the deletion of a room (contract 4, Ending)
OVER_KEPT: Final = 1000  # ended sessions that are remembered
MAX_DURATION: Final = 3600.0
"""Seconds a web call lasts at most when nobody said otherwise: as long as its token counts."""
STOPPING: Final = 5.0

_AT_ONCE: Final = (
    SessionEnd.DELETED,
    SessionEnd.MAX_DURATION,
    SessionEnd.NO_AGENT,
    SessionEnd.NEVER_JOINED,
    SessionEnd.INTERNAL_ERROR,
)
"""Ends that may find the user in the room, who is sent away then."""


class SessionLedger(Protocol):
    """The journal, as sessions write it."""

    def append_record(
        self, record: CallRecord, event: CallEvent | None, claim: Claim | None = None
    ) -> asyncio.Future[None]:
        """Write a record, with what happened and with the claim it was made by."""


class SessionArchive(ClaimArchive, Protocol):
    """What is read back of the journal."""

    @property
    def writable(self) -> bool:
        """Whether the last write worked."""

    def record(self, call_id: str) -> dict[str, Any] | None:
        """Return the resource of a call of this instance, or None. Blocks."""


class OpenCall(Protocol):
    """A call without an end, as the journal has it at a start."""

    @property
    def call_id(self) -> str: ...
    @property
    def created_at(self) -> float: ...
    @property
    def record(self) -> dict[str, Any]: ...
    @property
    def private(self) -> dict[str, Any] | None: ...
    @property
    def last_seq(self) -> int: ...


_Open = TypeVar("_Open", bound=OpenCall)


class Sessions:
    """Creates, watches and ends web calls. *publish* hears every event after the journal.

    *in_use* tells whether a phone call is in a room, which is then not deleted; *calls_of*
    which phone calls of a tenant run, for a plan counts them, too.
    """

    def __init__(
        self,
        config: Config,
        *,
        rooms: SessionRooms,
        ledger: SessionLedger,
        archive: SessionArchive,
        claims: SharedClaims | None = None,
        publish: Callable[[CallEvent], None],
        in_use: Callable[[str], bool] = lambda _: False,
        calls_of: Callable[[str], Collection[str]] = lambda _: (),
        timing: Timing | None = None,
        poll: float = POLL,
        wall: Callable[[], float] = time.time,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self._config = config
        self._rooms = rooms
        self._ledger = ledger
        self._archive = archive
        self._publish = publish
        self._timing = timing or Timing()
        self._wall = wall
        self._new_id = new_id or CallIds()
        self._calls_of = calls_of
        self._limits = Limits(config, self._running_of, wall=wall)
        self._once = Once(archive, wall, claims)
        self._live: dict[str, Live] = {}
        self._by_room: dict[str, dict[str, Live]] = {}
        self._ended_ones: OrderedDict[str, CallRecord] = OrderedDict()
        self._livekit_up = True
        self._draining = False
        self._wake = asyncio.Event()
        self._farewells = Farewells(
            rooms,
            in_use=lambda room: in_use(room) or self.uses_room(room),
            identities=self._identities_in,
            wall=wall,
            wake=self._wake.set,
        )
        self._watch = Watch(
            rooms,
            self._farewells,
            self._live,
            self._feed,
            is_over=self._is_over,
            wake=self._wake,
            poll=poll,
            wall=wall,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._writes: set[asyncio.Future[None]] = set()

    # What the doors ask.

    async def create(self, request: SessionRequest, asker: Asker) -> Created:
        """Accept a session: record, room, agent, token.

        Raises `BadRequest`, `NotAllowed`, `NoCredit`, `OverLimit` (nothing was begun), and
        `Unavailable`: nothing was begun, or there is a record, and it has its end.
        """
        return await self._create(request, asker, None)

    async def accept(
        self, request: SessionRequest, asker: Asker, *, key: str | None = None
    ) -> Accepted:
        """`create`, once for each *key*; the same answer for 24 hours."""
        if key is None:
            return (await self._create(request, asker, None)).accepted

        async def act(claim: Callable[[Accepted], Claim]) -> Accepted:
            return (await self._create(request, asker, claim)).accepted

        accepted = await self._once.run(key, request, act)
        return await self._joinable(accepted, request)

    async def _joinable(self, accepted: Accepted, request: SessionRequest) -> Accepted:
        """Return an answer that is given again with a token that counts, while the call runs."""
        if not is_over(accepted.token, self._wall()) or await self._has_ended(accepted.call_id):
            return accepted
        return replace(accepted, token=self._token(request, accepted.call_id, accepted.room_name))

    async def _has_ended(self, call_id: str) -> bool:
        """Whether a session of this instance has ended; of another's nobody knows here."""
        if call_id in self._live:
            return not self._live[call_id].open
        try:
            record = await asyncio.to_thread(self._archive.record, call_id)
        except BridgeError as failure:
            raise Unavailable("the journal cannot be read") from failure
        return record is not None and record.get("ended_at") is not None

    def _token(self, request: SessionRequest, call_id: str, room: str) -> str:
        return self._rooms.token(room, request.user_id or f"user-{call_id[:8]}")

    async def _create(
        self, request: SessionRequest, asker: Asker, claim: Callable[[Accepted], Claim] | None
    ) -> Created:
        self._check_open()
        if request.kind is Kind.VOICE_SESSION:
            self._limits.check_rights(asker)
        record = await self._new_record(request, asker)
        if record.room_name in self._by_room:
            raise BadRequest("room", "another session is in it")
        job = _job_of(record)
        self._limits.admit(asker, request.kind)
        created = Created(
            record=record,
            url=self._config.livekit.told_url,
            token=self._token(request, record.id, record.room_name),
        )
        live = self._enter(record, self._new_state(record))
        live.making = True
        written = self._append(record, None, claim(created.accepted) if claim else None)
        await self._begin(live, job, written)
        return created

    def _check_open(self) -> None:
        if self._draining:
            raise Unavailable("draining: no new calls")
        if not self._archive.writable:
            raise Unavailable("the journal cannot be written: no new calls")
        if not self._livekit_up:
            raise Unavailable("LiveKit does not answer: no new calls")

    async def _begin(self, live: Live, job: str, written: asyncio.Future[None]) -> None:
        """Make the room of a session once its record is *written*."""
        try:
            await asyncio.shield(written)
        except asyncio.CancelledError:
            raise  # its record may be there already: it waits for its user, and times out
        except Exception as failure:
            self._leave(live)
            raise Unavailable("the journal cannot be written: no new calls") from failure
        finally:
            live.making = False
        if not await self._make_room(live, job, there=False):
            self._feed(live, EndAsked(why=SessionEnd.ROOM_UNAVAILABLE))
            raise Unavailable("LiveKit does not answer: the session has failed")

    def admission_of(self, asker: Asker) -> Admit:
        """Return what has a word before a phone call is made for *asker*, and counts it."""
        return partial(self._limits.admit, asker, Kind.PHONE_CALL)

    async def end(self, call_id: str, why: SessionEnd = SessionEnd.DELETED) -> bool:
        """End a session and its room; False when there is none that runs.

        Its end is written when this returns.
        """
        live = self._live.get(call_id)
        if live is None:
            return False
        if live.open:
            self._feed(live, EndAsked(why=why))
        await self.settled()
        return True

    async def settled(self) -> None:
        """Wait until what happened so far is written, or was refused by the disk.

        A disk that does neither is not waited for.
        """
        if self._writes:
            await asyncio.wait(set(self._writes), timeout=STOPPING)

    def record(self, call_id: str) -> CallRecord | None:
        """Return the record of a session that runs, or has just ended; else None."""
        live = self._live.get(call_id)
        return self._ended_ones.get(call_id) if live is None else live.shown

    def forget(self, call_id: str) -> None:
        """Do not remember a session that has ended: it is to be erased."""
        self._ended_ones.pop(call_id, None)

    async def now(self, call_ids: Sequence[str]) -> dict[str, CallRecord]:
        """Return those of *call_ids* that run here, or have just ended."""
        found = ((call_id, self.record(call_id)) for call_id in call_ids)
        return {call_id: record for call_id, record in found if record is not None}

    @property
    def running(self) -> Collection[str]:
        """The ids of the sessions without an end, oldest first."""
        return [call_id for call_id, live in self._live.items() if live.shown.ended_at is None]

    def uses_room(self, room: str) -> bool:
        """Whether a session that runs is in *room*."""
        return room in self._by_room

    def _identities_in(self, room: str) -> list[str]:
        return [records.identity_of(live.record) for live in self._in(room)]

    def _in(self, room: str) -> list[Live]:
        """Return the sessions that are in *room*: one, or more that another instance left us."""
        return list(self._by_room.get(room, {}).values())

    async def heard(self, news: RoomNews) -> None:
        """`hear`, for the doors."""
        self.hear(news)

    def hear(self, news: RoomNews) -> None:
        """Take what a webhook of LiveKit tells."""
        self._watch.heard()
        there = [live for live in self._in(news.room) if live.open]
        if not there and news.began:  # a token outlives its session, its room does not
            self._spawn(self._farewells.heard(news.room))
        if news.what is not None:
            for live in there:
                self._feed(live, news.what)

    # The daemon's verbs.

    def start(self) -> None:
        """Begin to watch the rooms."""
        self._watch.start()

    async def stop(self) -> None:
        """Stop watching. Sessions go on in LiveKit; the next start takes them up."""
        await self._watch.stop()
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.settled()
        due = self._farewells.due(all_of_it=True)
        if due:
            deletions = [asyncio.ensure_future(self._farewells.do(one)) for one in due]
            _, late = await asyncio.wait(deletions, timeout=STOPPING)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def drain(self) -> None:
        """Take no new sessions; those that run go on, also after a stop."""
        self._draining = True

    def reload(self, config: Config) -> None:
        """Take new workflows and plans."""
        self._config = config
        self._limits.reload(config)

    def set_livekit_up(self, up: bool) -> None:  # noqa: FBT001 (a fact, not a mode)
        """Note whether LiveKit answers."""
        self._livekit_up = up
        self._watch.set_livekit_up(up)

    def take_up(self, open_calls: Iterable[_Open]) -> list[_Open]:
        """Go on with the sessions among *open_calls*; return the others."""
        return [
            call
            for call in open_calls
            if not self._take_up(
                call.call_id, call.created_at, call.last_seq, call.record, call.private or {}
            )
        ]

    async def adopt(
        self,
        call_id: str,
        *,
        created_at: float,
        seq: int,
        record: Mapping[str, Any],
        private: Mapping[str, Any],
    ) -> bool:
        """Go on with a session whose instance is gone; False when it is none.

        It is in our journal when this returns.
        """
        if not self._take_up(call_id, created_at, seq, record, private):
            return False
        await self._append(self._live[call_id].record, None)
        return True

    def _take_up(
        self,
        call_id: str,
        created_at: float,
        seq: int,
        record: Mapping[str, Any],
        private: Mapping[str, Any],
    ) -> bool:
        if not records.is_session(record, private):
            return False
        try:
            found = replace(records.read_back(record, private, created_at), seq=seq)
            state = self._restored(found)
        except (KeyError, TypeError, ValueError) as failure:
            _log.error("session.not_taken_up", call_id=call_id, error=type(failure).__name__)
            return False
        self._enter(found, state)
        _log.info("session.taken_up", call_id=call_id, status=found.status)
        return True

    # One session.

    async def _new_record(self, request: SessionRequest, asker: Asker) -> CallRecord:
        workflow = self._workflow(request.workflow_slug)
        if workflow is not None:
            request = replace(request, workflow_slug=workflow.slug)
        agent = request.agent or (workflow.agent if workflow else "")
        metadata: Mapping[str, Any] = workflow.metadata if workflow else {}
        call_id = self._new_id()
        own = request.room is None or not await self._exists(request.room)
        return records.session_record(
            request,
            call_id=call_id,
            room=request.room or records.own_name(request.kind, call_id),
            agent=agent or self._config.sessions.agent,
            metadata={**metadata, **(request.metadata or {})},
            tenant=asker.tenant,
            who=asker.counts_for,
            max_duration=request.max_duration or MAX_DURATION,
            own_room=own,
            created_at=self._wall(),
        )

    def _workflow(self, wanted: str | None) -> WorkflowConfig | None:
        """Return the workflow with a slug or an id. Raises `BadRequest`."""
        if wanted is None:
            return None
        for workflow in self._config.workflow:
            if wanted in (workflow.slug, workflow_id(workflow.slug)):
                return workflow
        raise BadRequest("workflow_slug", f"no workflow {wanted!r}")

    async def _exists(self, room: str) -> bool:
        if room in self._by_room:
            raise BadRequest("room", "another session is in it")
        try:
            return await self._rooms.exists(room)
        except RoomError as failure:
            raise Unavailable("LiveKit does not answer: no new calls") from failure

    def _running_of(self, who: str) -> int:
        ours = sum(1 for live in self._live.values() if live.open and live.who == who)
        return ours + len(self._calls_of(who))

    def _new_state(self, record: CallRecord) -> SessionState:
        return new_state(
            created_at=record.created_at,
            max_duration=records.session_of(record)["max_duration"],
            wants_agent=record.agent is not None,
            timing=self._timing,
        )

    def _restored(self, record: CallRecord) -> SessionState:
        return restored_state(
            created_at=record.created_at,
            joined_at=record.started_at,
            max_duration=float(records.session_of(record)["max_duration"]),
            wants_agent=record.agent is not None,
            timing=self._timing,
            wall=self._wall(),
        )

    def _enter(self, record: CallRecord, state: SessionState) -> Live:
        live = Live(record, state)
        self._live[record.id] = live
        self._by_room.setdefault(record.room_name, {})[record.id] = live
        self._wake.set()
        return live

    def _leave(self, live: Live) -> None:
        self._live.pop(live.record.id, None)
        there = self._by_room.get(live.record.room_name, {})
        there.pop(live.record.id, None)
        if not there:
            self._by_room.pop(live.record.room_name, None)

    def _feed(self, live: Live, event: Input) -> None:
        """Take *event* and do what follows from it."""
        live.state, outputs = step(live.state, event, self._wall())
        for output in outputs:
            match output:
                case Joined():
                    self._joined(live, output.at)
                case Ended():
                    self._ended(live, output.why, output.at)
                case RoomWanted():
                    if not live.making:
                        self._spawn(self._make_again(live, there=output.there))
                case _:
                    assert_never(output)

    def _joined(self, live: Live, at: float) -> None:
        event = records.answered_event(live.record, at)
        live.record = fold(live.record, event)
        self._tell(live, self._append(live.record, event), event)
        _log.info("session.joined", call_id=live.record.id)

    def _ended(self, live: Live, why: SessionEnd, at: float) -> None:
        record = live.record
        verdict = session_outcome(why, joined=record.started_at is not None)
        event = CallEnded(
            call_id=record.id,
            seq=record.seq + 1,
            at=at,
            outcome=verdict.outcome.value,
            reason=verdict.reason,
            ended_by=verdict.ended_by.value,
            sip_status=None,
            q850=None,
            duration_ms=records.duration_ms(record, at),
        )
        live.record = records.with_end_reason(fold(record, event))
        written = self._append(live.record, event)
        self._tell(live, written, event)
        written.add_done_callback(lambda _: self._over_now(live, why))
        _log.info("session.ended", call_id=record.id, reason=verdict.reason)

    def _over_now(self, live: Live, why: SessionEnd) -> None:
        """Its end is written: its room goes, or who came for it."""
        self._leave(live)
        self._ended_ones[live.record.id] = live.record
        while len(self._ended_ones) > OVER_KEPT:
            self._ended_ones.popitem(last=False)
        self._farewells.part(live.record, 0 if why in _AT_ONCE else FAREWELL)

    def _append(
        self, record: CallRecord, event: CallEvent | None, claim: Claim | None = None
    ) -> asyncio.Future[None]:
        written = self._ledger.append_record(record, event, claim)
        self._writes.add(written)

        def done(future: asyncio.Future[None]) -> None:
            self._writes.discard(future)
            if not future.cancelled():
                future.exception()  # the journal has logged it

        written.add_done_callback(done)
        return written

    def _tell(self, live: Live, written: asyncio.Future[None], event: CallEvent) -> None:
        """Show and publish *event* when it is written; also when the disk refused it."""
        record = live.record

        def tell(_: asyncio.Future[None]) -> None:
            live.shown = record
            self._publish(event)

        written.add_done_callback(tell)

    # Rooms.

    async def _make_room(self, live: Live, job: str, *, there: bool) -> bool:
        """Make a session's room and send for its agent; whether it worked."""
        record = live.record
        agent, room = record.agent or "", record.room_name
        own = records.session_of(record)["own_room"]
        live.making = True
        try:
            if own and not there:
                sid = await self._rooms.make(room, record.id, agent, job)
                self._feed(live, RoomMade(room_sid=sid))
            elif agent:
                await self._rooms.send_agent(room, agent, job)
        except RoomError as failure:
            _log.warning("session.room_failed", call_id=record.id, error=str(failure))
            return False
        finally:
            live.making = False
            live.made_at = self._wall()
        if not live.open:  # it was ended meanwhile
            self._farewells.part(record, 0)
        return True

    async def _make_again(self, live: Live, *, there: bool) -> None:
        if live.making or not live.open:
            return
        _log.info("session.room_made_again", call_id=live.record.id)
        await self._make_room(live, records.job_of(live.record), there=there)

    async def _is_over(self, room: str, call_id: str) -> bool:
        """Whether *room* was made by an earlier life for a session that has ended."""
        if room in self._by_room:
            return False
        try:
            record = await asyncio.to_thread(self._archive.record, call_id)
        except BridgeError:
            return False
        return record is not None and record.get("ended_at") is not None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _job_of(record: CallRecord) -> str:
    try:
        return records.job_of(record)
    except ValueError as failure:
        raise BadRequest("metadata", str(failure)) from failure

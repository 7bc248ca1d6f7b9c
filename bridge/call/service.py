"""Every call of this instance: accepted, limited, run, found again.

The doors (HTTP, an INVITE) end here; a call that was accepted has a record with an
outcome whatever happens afterwards. Lives on the main loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any, Final, TypeVar

import structlog

from bridge.call.call import Call
from bridge.call.desks import Archive, Ledger, Legs, NoPorts, Rooms, SipFacts
from bridge.call.idempotency import Claim, Once, SharedClaims
from bridge.call.ids import CallIds
from bridge.call.inputs import By, DialogFormed, HangUp, Input, Shutdown
from bridge.call.limits import Limits
from bridge.call.observed import Guarded
from bridge.call.outcome import LocalEnd, Outcome, Refusal, local_outcome, refusal_outcome
from bridge.call.plan import CallPlan, Direction
from bridge.call.plans import Plans
from bridge.call.ports import (
    UNOBSERVED,
    CallObserver,
    OpenMedia,
    Recorder,
    SipPort,
)
from bridge.call.record import ended_event, fold, new_record, workflow_id
from bridge.call.referrals import Referrals
from bridge.call.requests import (
    Accepted,
    Admit,
    BadRequest,
    DialRequest,
    Names,
    OverLimit,
    Unavailable,
    anybody,
)
from bridge.call.tokens import is_over
from bridge.call.waiting import NoQueue, Waiting
from bridge.config.config import Config
from bridge.config.trunk import RouteConfig, TrunkConfig
from bridge.errors import BridgeError
from bridge.events import CallAnswered, CallEnded, CallEvent, CallHold, CallResume
from bridge.media.seam import CallMedia, Lease, MediaNotice
from bridge.room.seam import RoomHandlers
from bridge.sip import screening
from bridge.sip.events import Answered, IncomingInvite, SessionId, SipEvent
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from bridge.sip.registry import REASON_PHRASES
from bridge.trunk.admission import Gcra
from bridge.trunk.numbers import Number, caller_number
from bridge.trunk.routes import choose_trunk
from sdp.negotiate import Rejected

_log = structlog.get_logger(__name__)

T = TypeVar("T")

Chosen = tuple[TrunkConfig, Number, RouteConfig | None]

RETRY_AFTER: Final = 10  # seconds, of every 503 of ours

DIALOGS_KEPT: Final = 2000
"""Calls whose SIP Call-ID is remembered, as many as there are ladders."""


class CallService:
    """Accepts, runs and finds calls. *publish* hears every event after journal and room.

    *recorder* keeps what is said on them; None: nothing is recorded.
    """

    def __init__(
        self,
        config: Config,
        *,
        legs: Legs,
        rooms: Rooms,
        ledger: Ledger,
        archive: Archive,
        claims: SharedClaims | None = None,
        publish: Callable[[CallEvent], None],
        observer: CallObserver = UNOBSERVED,
        recorder: Recorder | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self._config = config
        self._legs = legs
        self._rooms = rooms
        self._ledger = ledger
        self._archive = archive
        self._publish = publish
        self._observer = Guarded(observer)
        self._referrals = Referrals(self._dial_for_a_call, self.call)
        self._clock = clock
        self._wall = wall
        self._recorder = recorder
        self._plans = Plans(
            config, rooms, new_id=new_id or CallIds(), wall=wall, records=recorder is not None
        )
        self._limits = Limits(config, clock)
        self._waiting: Waiting = NoQueue()
        self._calls: dict[str, Call] = {}
        self._accepting: dict[str, CallPlan] = {}  # not accepted yet, and not refused
        self._sessions: dict[SessionId, str] = {}
        self._sessions_of: dict[str, list[SessionId]] = {}
        self._dialogs: OrderedDict[str, str] = OrderedDict()  # call -> SIP Call-ID, also ended
        self._once = Once(archive, wall, claims)
        self._telling = Gcra(rate=10, burst=50, keys=256)  # a flood is told ten times a second
        self._untold = 0
        self._chosen: tuple[Request, Chosen] | None = None  # of the INVITE screened last
        self._livekit_up = True
        self._draining = False
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    # What the doors ask.

    async def dial(
        self, request: DialRequest, *, key: str | None = None, admit: Admit = anybody
    ) -> Accepted:
        """Accept an outbound call; it runs in the background. Once for each *key*.

        *admit* has a word before a call is made, and none in an answer that is given again.
        Raises `BadRequest`, `OverLimit` and `Unavailable`; then nothing was begun.
        """
        try:
            if key is None:
                return await self._dial(request, None, admit=admit)
            accepted = await self._once.run(
                key, request, lambda claim: self._dial(request, claim, admit=admit)
            )
            return await self._joinable(accepted, request)
        except (BadRequest, OverLimit, Unavailable) as refusal:
            self._observer.dial_refused(refusal)
            raise

    async def _joinable(self, accepted: Accepted, request: DialRequest) -> Accepted:
        """Return an answer that is given again with a token that counts, while the call runs."""
        if not is_over(accepted.token, self._wall()):
            return accepted
        call = await self.find(accepted.call_id)
        if call is not None and call["ended_at"] is not None:
            return accepted
        return replace(accepted, token=self._visitor(request, accepted))

    async def _dial_for_a_call(self, request: DialRequest) -> Accepted:
        """Dial what a far end has asked for: it is on the line, so nothing waits."""
        return await self._dial(request, None, may_wait=False)

    async def _dial(
        self,
        request: DialRequest,
        claim: Callable[[Accepted], Claim] | None,
        *,
        may_wait: bool = True,
        admit: Admit = anybody,
    ) -> Accepted:
        self._check_open()
        plan, trunk = self._plans.outbound(request)
        admit()
        self._accepting[plan.call_id] = plan  # what is asked from here on sees it
        try:
            return await self._accept(plan, trunk, request, claim, may_wait=may_wait)
        finally:
            del self._accepting[plan.call_id]

    async def _accept(
        self,
        plan: CallPlan,
        trunk: TrunkConfig,
        request: DialRequest,
        claim: Callable[[Accepted], Claim] | None,
        *,
        may_wait: bool,
    ) -> Accepted:
        accepted = Accepted(
            call_id=plan.call_id,
            room_name=plan.room,
            url=self._config.livekit.told_url,
            token="",
            status="pending",
        )
        accepted = replace(accepted, token=self._visitor(request, accepted))
        claimed = claim(accepted) if claim is not None else None
        over: OverLimit | None = None
        if not (may_wait and self._waiting.ahead(trunk.name)):
            try:
                self._limits.check(trunk)
            except OverLimit as limit:
                if not may_wait:
                    raise
                over = limit
            else:
                await self._dial_now(plan, trunk, claimed)
                return accepted
        await self._waiting.admit(plan, over, claimed)
        return accepted

    def _visitor(self, request: DialRequest, accepted: Accepted) -> str:
        identity = request.user_id or f"api-{accepted.call_id[:8]}"
        return self._rooms.visitor_token(accepted.room_name, identity)

    def made_by(self, tenant: str) -> Collection[str]:
        """Return the ids of the calls that run, or wait, and were made for *tenant*."""
        plans = [
            *self._accepting.values(),
            *self._waiting.plans(),
            *(call.plan for call in self._calls.values()),
        ]
        return {
            plan.call_id
            for plan in plans
            if plan.direction is Direction.OUTBOUND and (plan.tenant or "") == tenant
        }

    def _check_open(self) -> None:
        if self._draining:
            raise Unavailable("draining: no new calls")
        if not self._archive.writable:
            raise Unavailable("the journal cannot be written: no new calls")
        if self._limits.instance_full:
            raise Unavailable("sip.max_calls is reached", retry_after=10)

    async def _dial_now(
        self,
        plan: CallPlan,
        trunk: TrunkConfig,
        claim: Claim | None,
        before: Callable[[], Awaitable[bool]] | None = None,
    ) -> bool:
        """Run *plan*, unless *before*, the last word before anything is written, says no."""
        try:
            lease = self._legs.lease(trunk)
        except NoPorts as failure:
            raise Unavailable(str(failure)) from failure
        # It counts from here on: what is asked while the journal writes sees it.
        self._limits.accepting(plan.call_id, trunk.name)
        self._idle.clear()
        try:
            if before is not None and not await self._agreed(before, lease):
                return False
            written = self._ledger.append_record(new_record(plan), None, claim)
            await self._begin(plan, trunk, lease, written)
        finally:
            self._limits.accepted(plan.call_id)
            self._note_idle()
        return True

    async def _agreed(self, before: Callable[[], Awaitable[bool]], lease: Lease) -> bool:
        agreed = False
        try:
            agreed = await before()
        finally:
            if not agreed:
                self._legs.release(lease)
        return agreed

    async def _begin(
        self, plan: CallPlan, trunk: TrunkConfig, lease: Lease, written: asyncio.Future[None]
    ) -> None:
        """Run an outbound call once its record is *written*."""
        try:
            await asyncio.shield(written)
        except asyncio.CancelledError:  # its record may be there already: it needs an end
            self._legs.release(lease)
            self._end_unrun(plan)
            raise
        except Exception as failure:
            self._legs.release(lease)
            raise Unavailable("the journal cannot be written: no new calls") from failure
        try:
            leg = self._legs.outgoing(
                plan, trunk, lease, lambda session: self._on_dialled(plan.call_id, session)
            )
            self._run(plan, trunk, lease, leg, peer=trunk.host)
        except Exception:
            self._legs.release(lease)
            self._end_unrun(plan)
            raise

    def _end_unrun(self, plan: CallPlan) -> None:
        """End the record of a call that could not be run: a bug of ours, or the door is gone."""
        verdict = local_outcome(LocalEnd.INTERNAL_ERROR, plan.direction, answered=False)
        self._write_end(plan, ended_event(plan, verdict, wall=self._wall()))

    def _write_end(self, plan: CallPlan, event: CallEvent) -> None:
        _keep(self._ledger.append_record(fold(new_record(plan), event), event))
        self._observer.told(plan, event)
        self._publish(event)

    async def find(self, call_id: str) -> dict[str, Any] | None:
        """Return a call's resource, or None."""
        call = self._calls.get(call_id)
        if call is not None:
            return call.record.as_dict()
        return await self._read(self._archive.record, call_id)

    async def active(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the calls without an end, oldest first."""
        open_ = [call.record for call in self._calls.values() if call.record.ended_at is None]
        open_ += [new_record(plan) for plan in self._waiting.plans()]
        open_.sort(key=lambda record: record.created_at)
        return [record.as_dict() for record in open_[:limit]]

    async def events_of(self, call_id: str) -> list[dict[str, Any]] | None:
        """Return a call's events so far, or None for an unknown call."""
        events = await self._read(self._archive.events, call_id)
        if not events and await self.find(call_id) is None:
            return None
        return events

    async def _read(self, read: Callable[[str], T], call_id: str) -> T:
        try:
            return await asyncio.to_thread(read, call_id)
        except BridgeError as failure:
            raise Unavailable("the journal cannot be read") from failure

    async def hang_up(self, call_id: str) -> bool:
        """End a call; True also when it has ended, False for an unknown one."""
        if call_id not in self._calls and await self._waiting.give_up(call_id):
            return True
        call = self._calls.get(call_id)
        if call is None:
            return await self.find(call_id) is not None
        call.post(HangUp(by=By.API))
        return True

    async def give_up(self, call_id: str) -> bool:
        """End a call that waits, wherever it was accepted; False when none of that id does."""
        return await self._waiting.give_up(call_id)

    async def readiness(self) -> dict[str, bool]:
        """Return what a new call needs and whether it is there."""
        return {
            "accepting": not self._draining,
            "livekit": self._livekit_up,
            "journal": self._archive.writable,
        }

    # What the queue asks.

    def queue_with(self, waiting: Waiting) -> None:
        """Let calls that a trunk has no room for wait in *waiting*."""
        self._waiting = waiting

    def delay_of(self, trunk_name: str) -> float | None:
        """Return the seconds until a call of the trunk may begin, 0: now; None: not known.

        Whenever that changes, `Waiting.freed` is told.
        """
        trunk = self._config.trunk_named(trunk_name)
        if trunk is None or self._draining or not self._livekit_up or not self._archive.writable:
            return None
        if self._limits.instance_full or self._limits.trunk_full(trunk):
            return None
        return self._limits.wait(trunk)

    async def dial_waiting(self, plan: CallPlan, before: Callable[[], Awaitable[bool]]) -> bool:
        """Run a call that has waited, its record being this instance's from here on.

        *before* is the last word: what it wrote when it returned True stands before the
        INVITE can leave. False: it said no. Raises `OverLimit` and `Unavailable`; then
        nothing was begun.
        """
        self._check_open()
        trunk = self._config.trunk_named(plan.trunk)
        if trunk is None:
            raise Unavailable(f"trunk {plan.trunk!r} is not configured")
        self._limits.check(trunk)
        return await self._dial_now(plan, trunk, None, before)

    async def end_waiting(self, plan: CallPlan, verdict: Outcome) -> None:
        """End a call that never ran. Raises `Unavailable`: the journal did not take it."""
        event = ended_event(plan, verdict, wall=self._wall())
        written = self._ledger.append_record(fold(new_record(plan), event), event)
        try:
            await asyncio.shield(written)
        except Exception as failure:
            raise Unavailable("the journal cannot be written") from failure
        self._observer.told(plan, event)
        self._publish(event)

    # What SIP tells.

    def on_sip(self, event: SipEvent) -> None:
        """Take what the endpoint passes up."""
        if isinstance(event, IncomingInvite):
            self._take(event)
            return
        if event.session in self._sessions:
            self._pass_on(event.session, event)
        else:
            # A dial that fails at once tells so before it has returned its session.
            asyncio.get_running_loop().call_soon(self._pass_on, event.session, event)

    def _pass_on(self, session: SessionId, event: Input) -> None:
        call = self._calls.get(self._sessions.get(session, ""))
        if call is None:
            return
        if isinstance(event, Answered):  # the far end's tag is known from here on
            self._tell_dialog(call, session)
        call.post(event)

    def screen(self, request: Request, flow: Flow) -> screening.Refusal | None:
        """Refuse an INVITE that cannot be taken, with its record, before SIP keeps anything.

        None: `on_sip` will be told of it, unless SIP has a reason of its own against it.
        """
        chosen = self._choose(request, flow)
        if chosen is None:  # reloaded between admission and here
            return screening.Refusal(403, remembered=True)
        trunk, called, route = chosen
        refusal = self._refusal(trunk, route)
        if refusal is None:
            return None
        self._chosen = None
        facts = SipFacts(
            call_id=request.call_id,
            remote_tag=request.from_.tag or "",
            remote_headers=tuple(request.headers.items()),
        )
        caller = caller_number(request, trunk)
        plan = self._plans.inbound(facts, flow, trunk, called, caller, route)
        self._note_dialog(plan.call_id, facts)
        usual, verdict = refusal_outcome(refusal)
        self._record_refusal(plan, usual, verdict)
        again = (("Retry-After", str(RETRY_AFTER)),) if usual == 503 else ()
        return screening.Refusal(usual, again, remembered=True)

    def _choose(self, request: Request, flow: Flow) -> Chosen | None:
        known, self._chosen = self._chosen, None
        if known is not None and known[0] is request:
            return known[1]
        chosen = choose_trunk(self._config.trunk, self._config.route, flow.new_call_trunks, request)
        self._chosen = None if chosen is None else (request, chosen)
        return chosen

    def _take(self, invite: IncomingInvite) -> None:
        chosen = self._choose(invite.request, invite.flow)
        if chosen is None:  # reloaded between admission and here
            self._legs.refuse(invite.session, 403)
            return
        self._chosen = None
        trunk, called, route = chosen
        caller = caller_number(invite.request, trunk)
        facts = self._legs.facts(invite.session)
        plan = self._plans.inbound(facts, invite.flow, trunk, called, caller, route)
        self._note_dialog(plan.call_id, facts)
        refusal = self._refusal(trunk, route)
        if refusal is not None:
            self._refuse(plan, invite.session, refusal)
            return
        try:
            lease = self._legs.lease(trunk, invite)
        except NoPorts:
            self._refuse(plan, invite.session, Refusal.CAPACITY)
            return
        try:
            self._take_on(invite, plan, trunk, lease)
        except Exception:  # a bug of ours: the caller is told, the ports are free again
            _log.exception("call.take_failed", call_id=plan.call_id)
            self._sessions.pop(invite.session, None)
            self._sessions_of.pop(plan.call_id, None)
            self._legs.release(lease)
            self._end_unrun(plan)
            self._legs.refuse(invite.session, 500)

    def _take_on(
        self, invite: IncomingInvite, plan: CallPlan, trunk: TrunkConfig, lease: Lease
    ) -> None:
        leg = self._legs.incoming(invite, trunk, lease)
        if isinstance(leg, Rejected):
            self._legs.release(lease)
            self._refuse(plan, invite.session, Refusal.MEDIA_INCOMPATIBLE, status=leg.status)
            return
        self._enter_session(invite.session, plan.call_id)
        written = self._ledger.append_record(new_record(plan), None)
        _keep(written)
        self._run(plan, trunk, lease, leg, peer=invite.flow.remote[0], recorded=written)

    def _refusal(self, trunk: TrunkConfig, route: RouteConfig | None) -> Refusal | None:
        """Return why a new inbound call cannot be taken, whatever it offers."""
        if route is None:
            return Refusal.NO_ROUTE
        if self._limits.trunk_full(trunk):
            return Refusal.TRUNK_FULL
        if self._limits.instance_full:
            return Refusal.CAPACITY
        if self._draining:
            return Refusal.DRAINING
        if not self._livekit_up:
            return Refusal.NO_LIVEKIT
        return None if self._archive.writable else Refusal.CAPACITY

    def _refuse(
        self, plan: CallPlan, session: SessionId, refusal: Refusal, *, status: int | None = None
    ) -> None:
        usual, verdict = refusal_outcome(refusal)
        sent = status or usual
        self._legs.refuse(session, sent, retry_after=RETRY_AFTER if sent == 503 else None)
        self._record_refusal(plan, sent, verdict)

    def _record_refusal(self, plan: CallPlan, status: int, verdict: Outcome) -> None:
        event = ended_event(plan, verdict, wall=self._wall(), sip_status=status)
        now = self._clock()
        if self._telling.allow(plan.trunk, now):
            more, self._untold = self._untold, 0
            _log.info(
                "call.refused",
                call_id=plan.call_id,
                trunk=plan.trunk,
                reason=verdict.reason,
                more=more,
            )
        else:
            self._untold += 1
        self._write_end(plan, event)

    # Running.

    def _run(
        self,
        plan: CallPlan,
        trunk: TrunkConfig,
        lease: Lease,
        leg: SipPort,
        *,
        peer: str,
        recorded: asyncio.Future[None] | None = None,
    ) -> None:
        def open_media(handlers: RoomHandlers, notify: Callable[[MediaNotice], None]) -> CallMedia:
            return self._legs.open_media(plan, trunk, lease, peer, handlers, notify)

        opener: OpenMedia = open_media
        call = Call(
            plan=plan,
            sip=leg,
            open_media=opener,
            rooms=self._rooms,
            journal=self._ledger,
            publish=self._tell,
            on_end=self._forget,
            beside=self._referrals,
            observer=self._observer,
            recorder=self._recorder,
            clock=self._clock,
            wall=self._wall,
        )
        self._calls[plan.call_id] = call
        self._limits.began(plan.trunk)
        self._observer.began(call, self._clock())
        self._idle.clear()
        _log.info(
            "call.accepted",
            call_id=plan.call_id,
            trunk=plan.trunk,
            direction=plan.direction.value,
        )
        call.start(recorded)
        if self._stopping:
            call.post(Shutdown())

    def _enter_session(self, session: SessionId, call_id: str) -> None:
        self._sessions[session] = call_id
        self._sessions_of.setdefault(call_id, []).append(session)

    def _on_dialled(self, call_id: str, session: SessionId) -> None:
        self._enter_session(session, call_id)
        self._tell_dialog(self._calls[call_id], session)

    def _tell(self, event: CallEvent) -> None:
        """Log what an operator follows a call by, then tell every listener."""
        match event:
            case CallAnswered():
                _log.info("call.answered", call_id=event.call_id, ring_ms=event.ring_ms)
            case CallHold():
                _log.info("call.held", call_id=event.call_id, direction=event.direction)
            case CallResume():
                _log.info("call.resumed", call_id=event.call_id, held_ms=event.held_ms)
            case CallEnded():
                _log.info(
                    "call.ended",
                    call_id=event.call_id,
                    outcome=event.outcome,
                    reason=event.reason,
                    duration_ms=event.duration_ms,
                )
            case _:
                pass
        call = self._calls.get(event.call_id)
        if call is not None:
            self._observer.told(call.plan, event)
        self._referrals.heard(event)
        self._publish(event)

    def _tell_dialog(self, call: Call, session: SessionId) -> None:
        facts = self._legs.facts(session)
        self._note_dialog(call.plan.call_id, facts)
        call.post(DialogFormed(sip_call_id=facts.call_id, sip_tag=facts.remote_tag))

    def _note_dialog(self, call_id: str, facts: SipFacts) -> None:
        if facts.call_id:
            self._dialogs[call_id] = facts.call_id
        while len(self._dialogs) > DIALOGS_KEPT:
            self._dialogs.popitem(last=False)

    def _forget(self, call: Call) -> None:
        if self._calls.pop(call.plan.call_id, None) is not None:
            self._limits.ended(call.plan.trunk)
        self._observer.gone(call)
        for session in self._sessions_of.pop(call.plan.call_id, ()):
            self._sessions.pop(session, None)
        self._note_idle()
        self._waiting.freed(call.plan.trunk)

    def _note_idle(self) -> None:
        if self._limits.idle:
            self._idle.set()

    # The daemon's verbs.

    def reload(self, config: Config) -> None:
        """Take new trunks, routes and workflows; running calls keep their plans."""
        self._config = config
        self._chosen = None
        self._plans.reload(config)
        self._limits.reload(config)
        for trunk in config.trunk:
            self._waiting.freed(trunk.name)

    @property
    def names(self) -> Names:
        """What the configuration calls things."""
        slugs = [workflow.slug for workflow in self._config.workflow]
        return Names(
            workflows={**{workflow_id(slug): slug for slug in slugs}, **{s: s for s in slugs}},
            agents={workflow.slug: workflow.agent for workflow in self._config.workflow},
            profiles={trunk.name: trunk.profile for trunk in self._config.trunk},
            phrases=REASON_PHRASES,
        )

    def call(self, call_id: str) -> Call | None:
        """Return a call that runs, or None."""
        return self._calls.get(call_id)

    def sip_call_id(self, call_id: str) -> str | None:
        """Return the SIP Call-ID of one of the last calls, also when it has ended."""
        return self._dialogs.get(call_id)

    @property
    def running(self) -> Collection[str]:
        """The ids of the calls that run."""
        return tuple(self._calls)

    def uses_room(self, room: str) -> bool:
        """Whether a call that runs is in *room*, or on its way there."""
        return any(call.plan.room == room for call in self._calls.values())

    def tenants_in(self, room: str) -> list[str | None]:
        """Return the tenants of the calls that run, or wait, for *room*."""
        plans = [*(call.plan for call in self._calls.values()), *self._waiting.plans()]
        return [plan.tenant for plan in plans if plan.room == room]

    def set_livekit_up(self, up: bool) -> None:  # noqa: FBT001 (a fact, not a mode)
        """Note whether LiveKit answers."""
        self._livekit_up = up

    def drain(self) -> None:
        """Take no new calls; running ones go on."""
        self._draining = True

    def shut_down(self) -> None:
        """End every call, with reason ``shutdown``; take no new ones."""
        self._draining = self._stopping = True
        for call in list(self._calls.values()):
            call.post(Shutdown())

    async def until_idle(self, timeout: float) -> bool:
        """Wait for the last call to end; False when *timeout* seconds pass first."""
        if self._idle.is_set():
            return True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            return False
        return True


_kept: set[asyncio.Future[None]] = set()


def _keep(written: asyncio.Future[None]) -> None:
    """Hold a write that nobody awaits; its failure shows in the journal's log and readiness."""
    _kept.add(written)

    def done(future: asyncio.Future[None]) -> None:
        _kept.discard(future)
        if not future.cancelled():
            future.exception()

    written.add_done_callback(done)

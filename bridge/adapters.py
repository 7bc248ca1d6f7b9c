"""The plugs between the call service and the implementations: SIP, media, room, journal.

Only `bridge.daemon` uses this; nothing here decides anything about a call.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from bridge.call import saved
from bridge.call.desks import NoPorts, SipFacts
from bridge.call.idempotency import Claim
from bridge.call.levels import facts_of
from bridge.call.plan import CallPlan
from bridge.call.ports import JournalRecord, PreparedRoom, SipPort
from bridge.call.record import CallRecord
from bridge.config.config import Config
from bridge.config.trunk import TrunkConfig
from bridge.events import CallDtmf, CallEvent, CallHold, CallResume
from bridge.journal.entries import Entry
from bridge.journal.journal import Journal
from bridge.media.ports import Ports, PortsExhausted
from bridge.media.seam import CallMedia, Engine, Lease, MediaNotice, MediaSpec
from bridge.room import convention
from bridge.room.dispatch import RoomService
from bridge.room.seam import JoinSpec, RoomError, RoomHandlers
from bridge.room.tokens import LiveKitKeys, bridge_token, caller_token
from bridge.room.watch import watch_of
from bridge.sip.digest import Credentials
from bridge.sip.events import IncomingInvite, SessionId
from bridge.sip.headers import Reason
from bridge.sip.parameters import OutgoingInvite
from bridge.sip.probe import TrunkQuestion
from bridge.sip.registration import RegistrationSettings
from bridge.sip.target import default_port
from bridge.sip.uri import SipUri
from bridge.transcript.desk import Transcripts
from bridge.transport.flow import SOMEWHERE, is_literal
from bridge.trunk.admission import split_proxy
from bridge.trunk.identity import caller_identity
from bridge.trunk.numbers import uri_of
from bridge.trunk.profiles import profile_of
from bridge.trunk.targets import refer_uri
from bridge.ua.user_agent import UserAgent
from sdp.crypto import SrtpPolicy, protection
from sdp.destination import destination_policy
from sdp.family import audio_family
from sdp.model import Direction
from sdp.negotiate import LocalMedia, OfferAnswer, Rejected

_log = structlog.get_logger(__name__)

DELETE_PATIENCE: Final = 120.0
"""Seconds a room of ours waits for its server to answer, to be deleted."""

RETURN_PATIENCE: Final = 35.0
"""Seconds a rejoin waits for the server to answer; longer than any call waits for its room."""


WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 (where [media] listen says so)


class Leg:
    """The SIP session of one call."""

    def __init__(
        self,
        agent: UserAgent,
        trunk: TrunkConfig,
        session: SessionId | None,
        invite: Callable[[], OutgoingInvite] | None = None,
        begun: Callable[[SessionId], None] = lambda _: None,
    ) -> None:
        self._agent = agent
        self._trunk = trunk
        self._invite = invite
        self._begun = begun
        self.session = session
        if session is not None:
            self._allow_refer(session)

    def dial(self) -> None:
        """Send the INVITE."""
        assert self._invite is not None
        self.session = self._agent.dial(self._invite())
        self._allow_refer(self.session)
        self._begun(self.session)

    def ring(self) -> None:
        """Send 180."""
        self._agent.ring(self._known())

    def answer(self) -> None:
        """Send 200."""
        self._agent.answer(self._known())

    def reject(self, status: int) -> None:
        """Refuse the INVITE."""
        self._agent.reject(self._known(), status)

    def cancel(self) -> None:
        """Send CANCEL."""
        self._agent.cancel(self._known())

    def bye(self, reason: Reason | None = None) -> None:
        """Send BYE."""
        headers = () if reason is None else (("Reason", str(reason)),)
        self._agent.bye(self._known(), headers)

    def reoffer(self, direction: Direction) -> None:
        """Send a re-INVITE."""
        self._agent.reoffer(self._known(), direction)

    def refer(self, to: str, replaces: SessionId | None) -> None:
        """Send a REFER."""
        target = refer_uri(to, self._trunk.from_domain, self._trunk)
        self._agent.refer(self._known(), target, replaces)

    def answer_refer(self, status: int) -> None:
        """Answer the far end's REFER."""
        self._agent.answer_refer(self._known(), status)

    def tell_referred(self, status: int) -> None:
        """Notify how far the call is that the far end has asked for."""
        self._agent.tell_referred(self._known(), status)

    def probe(self) -> None:
        """Send an OPTIONS in the dialog."""
        self._agent.probe(self._known())

    def _allow_refer(self, session: SessionId) -> None:
        if self._trunk.refer_in:
            self._agent.allow_refer(session)

    def _known(self) -> SessionId:
        assert self.session is not None
        return self.session


class LegDesk:
    """Makes the SIP and media sides of calls; *transcripts* hear what is said in their rooms."""

    def __init__(
        self,
        config: Config,
        agent: UserAgent,
        engine: Engine,
        ports: Ports,
        transcripts: Transcripts,
    ) -> None:
        self._config = config
        self._agent = agent
        self._engine = engine
        self._ports = ports
        self._transcripts = transcripts

    def lease(self, trunk: TrunkConfig, invite: IncomingInvite | None = None) -> Lease:
        """Bind a pair of media ports. Raises `NoPorts`."""
        address = self._config.media.listen
        if address in WILDCARDS:
            address = WILDCARDS[self._family(trunk, invite) == 6]
        try:
            return self._ports.lease(address)
        except PortsExhausted as failure:
            raise NoPorts(str(failure)) from failure

    def _family(self, trunk: TrunkConfig, invite: IncomingInvite | None) -> int:
        """Return the family of a call's media, 4 or 6, where both may be had.

        The offer decides; else the signalling.
        """
        body = None if invite is None else invite.request.sdp
        offered = None if body is None else audio_family(body)
        if offered is not None:
            return offered
        return _version(self._seen_from(trunk) if invite is None else invite.flow.local[0])

    def _seen_from(self, trunk: TrunkConfig) -> str:
        """Return the local address that *trunk* sees us at."""
        transport, host, port = _next_hop(trunk)
        return self._agent.local_address_for(host, port, transport)

    def release(self, lease: Lease) -> None:
        """Give a lease back that no media was opened on."""
        self._ports.release(lease)

    def incoming(
        self, invite: IncomingInvite, trunk: TrunkConfig, lease: Lease
    ) -> SipPort | Rejected:
        """Run the INVITE's offer."""
        offer_answer = self._offer_answer(trunk, lease, seen_from=invite.flow.local[0])
        adopted = self._agent.adopt(
            invite.session, offer_answer, trunk.name, credentials_of(trunk), trunk.session_timer
        )
        if isinstance(adopted, Rejected):
            return adopted
        return Leg(self._agent, trunk, invite.session)

    def outgoing(
        self, plan: CallPlan, trunk: TrunkConfig, lease: Lease, begun: Callable[[SessionId], None]
    ) -> SipPort:
        """Prepare an INVITE."""
        return Leg(self._agent, trunk, None, lambda: self._invite(plan, trunk, lease), begun)

    def refuse(self, session: SessionId, status: int, *, retry_after: int | None = None) -> None:
        """Refuse an INVITE that was not taken on."""
        headers = (("Retry-After", str(retry_after)),) if retry_after is not None else ()
        self._agent.reject(session, status, headers)

    def facts(self, session: SessionId) -> SipFacts:
        """Return what the session's dialog is called."""
        details = self._agent.details(session)
        if details is None:  # it ended at this very moment
            return SipFacts(call_id="", remote_tag="", remote_headers=())
        return SipFacts(
            call_id=details.call_id,
            remote_tag=details.remote_tag,
            remote_headers=tuple(details.remote_headers),
        )

    def open_media(
        self,
        plan: CallPlan,
        trunk: TrunkConfig,
        lease: Lease,
        peer: str,
        handlers: RoomHandlers,
        notify: Callable[[MediaNotice], None],
    ) -> CallMedia:
        """Open both sides of a call's media."""
        # Of a name the address it has: its network may send media (contract 4, RTP).
        known = self._agent.known_address(peer, trunk.port, trunk.transport)
        spec = MediaSpec(
            call_id=plan.call_id,
            signalling_address=known or peer,
            media_allow=tuple(trunk.media_allow),
            hold_music=trunk.hold_music,
            track=trunk.codecs[0],
        )
        heard = self._transcripts.listen(plan.call_id, plan.room, handlers, tenant_id=plan.tenant)
        return self._engine.open(spec, lease, heard, notify)

    def _offer_answer(self, trunk: TrunkConfig, lease: Lease, *, seen_from: str) -> OfferAnswer:
        address = self._advertised(_version(lease.address))
        if not address:
            address = lease.address
            if address in WILDCARDS:
                # Signalling of one family, media of the other: our address on the way out.
                same = _version(seen_from) == _version(address)
                elsewhere = SOMEWHERE[address == WILDCARDS[1]]
                address = seen_from if same else self._agent.local_address_for(elsewhere, 9, "udp")
        local = LocalMedia(
            address=address,
            port=lease.port,
            codecs=tuple(trunk.codecs),
            session_id=secrets.randbits(62),
            protection=protection(SrtpPolicy(trunk.srtp), secrets.token_bytes),
        )
        policy = destination_policy(media_allow=trunk.media_allow, own=self._ports.is_own)
        return OfferAnswer(local, destination_allowed=policy)

    def _advertised(self, family: int) -> str:
        """Return what SDP names for media of *family*: a name serves both, an address its own."""
        given = (self._config.media.advertise, self._config.sip.advertise)
        fitting = (one for one in given if one and (not is_literal(one) or _version(one) == family))
        return next(fitting, "")

    def _invite(self, plan: CallPlan, trunk: TrunkConfig, lease: Lease) -> OutgoingInvite:
        host = trunk.host
        next_hop = _next_hop(trunk)
        target = uri_of(plan.phone_number, host, trunk, port=_written(trunk))
        caller = caller_identity(plan.trunk_number, trunk)
        callee = uri_of(plan.phone_number, trunk.from_domain, trunk)
        return OutgoingInvite(
            trunk=trunk.name,
            next_hop=next_hop,
            request_uri=str(target),
            from_=caller.from_,
            to=f"<{callee}>",
            headers=caller.headers,
            offer_answer=self._offer_answer(trunk, lease, seen_from=self._seen_from(trunk)),
            contact_user=caller.contact_user,
            credentials=credentials_of(trunk),
            proxied=bool(trunk.outbound_proxy),
            reliable=profile_of(trunk.profile).reliable,
            session_timer=trunk.session_timer,
            refer_in=trunk.refer_in,
        )


def credentials_of(trunk: TrunkConfig) -> Credentials | None:
    """Return what the carrier's challenges are answered with; None: they are not."""
    if not trunk.username:
        return None
    return Credentials(username=trunk.username, password=trunk.password.get_secret_value())


class RoomDesk:
    """LiveKit's server API as calls and the service need it.

    *in_use* tells whether a running call is in a room, which is then not deleted yet.
    """

    def __init__(
        self,
        service: RoomService,
        url: str,
        keys: LiveKitKeys,
        *,
        in_use: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._in_use = in_use
        self._service = service
        self._url = url
        self._keys = keys
        self._deletions: set[asyncio.Task[None]] = set()

    async def prepare(
        self, plan: CallPlan, attributes: Mapping[str, str], identity: str | None
    ) -> PreparedRoom:
        """Create the room, choose an identity, make a token. Raises `RoomError`."""
        if identity is not None and not await watch_of(self._url).answering(RETURN_PATIENCE):
            msg = "the server does not answer"
            raise RoomError(msg)
        room = await self._service.ensure_room(plan.room)
        facts = facts_of(plan)
        if identity is None:
            identity = convention.identity(facts, await self._service.participants(plan.room))
        token = bridge_token(
            self._keys,
            room=plan.room,
            identity=identity,
            name=convention.participant_name(plan.phone_number),
            metadata=convention.participant_metadata(facts),
            attributes=attributes,
        )
        spec = JoinSpec(url=self._url, room=plan.room, identity=identity, token=token)
        return PreparedRoom(spec=spec, made=room.made, sid=room.sid)

    async def dispatch(self, plan: CallPlan, *, instead_of: str = "") -> str:
        """Ask for the plan's agent; return the dispatch's id. Raises `RoomError`."""
        if instead_of:
            if await self._service.is_taken(plan.room, instead_of):
                return instead_of
            await self._service.recall_agent(plan.room, instead_of)
        metadata = convention.job_metadata(_job(plan))
        return await self._service.dispatch_agent(plan.room, plan.agent, metadata)

    async def recall(self, plan: CallPlan, dispatch: str) -> None:
        """Take a dispatch back, and the agent it has brought. Raises `RoomError`."""
        await self._service.recall_agent(plan.room, dispatch)

    def delete_later(self, room: str, delay: float) -> None:
        """Delete *room* in *delay* seconds."""
        task = asyncio.get_running_loop().create_task(self._delete(room, delay))
        self._deletions.add(task)
        task.add_done_callback(self._deletions.discard)

    async def _delete(self, room: str, delay: float) -> None:
        gone = False
        try:
            await asyncio.sleep(delay)
            while self._in_use(room):  # noqa: ASYNC110 (another call went into it meanwhile)
                await asyncio.sleep(delay)
            gone = await asyncio.shield(self._deleted(room))
            if not gone:  # a server that was out of reach may still have it
                await watch_of(self._url).answering(DELETE_PATIENCE)
        finally:
            # Also when the daemon stops meanwhile: the room was ours.
            if not gone and not await asyncio.shield(self._deleted(room)):
                _log.warning("room.delete_failed")

    async def _deleted(self, room: str) -> bool:
        try:
            await self._service.delete_room(room)
        except RoomError as failure:
            _log.info("room.delete_refused", error=str(failure))
            return False
        return True

    async def settle(self, timeout: float) -> None:
        """Delete what still waits to be deleted, now."""
        for task in self._deletions:
            task.cancel()
        if self._deletions:
            await asyncio.wait(set(self._deletions), timeout=timeout)

    async def alive(self) -> bool:
        """Whether the server answers."""
        return await self._service.alive()

    def visitor_token(self, room: str, identity: str) -> str:
        """Return a plain participant's token."""
        return caller_token(self._keys, room=room, identity=identity)

    def check_job(self, plan: CallPlan) -> None:
        """Raise ``ValueError`` when the job metadata is too large."""
        convention.job_metadata(_job(plan))


def _job(plan: CallPlan) -> convention.Job:
    return convention.Job(
        call_id=plan.call_id,
        direction=convention.Direction(plan.direction.value),
        call_type=plan.call_type,
        trunk=plan.trunk,
        profile=plan.profile,
        phone_number=plan.phone_number or None,
        trunk_number=plan.trunk_number or None,
        workflow_slug=plan.workflow_slug,
        user_id=plan.user_id,
        user_context=plan.user_context or None,
        metadata=plan.metadata,
    )


# Events within a call, which the next answer or end makes lasting: a hold is told at once.
_PASSING: Final = (CallHold, CallResume, CallDtmf)


class Ledger:
    """The journal as calls write it.

    *written* is told of every write how many seconds it took, and whether it is safe.
    """

    def __init__(
        self, journal: Journal, written: Callable[[float, bool], None] = lambda _, __: None
    ) -> None:
        self._journal = journal
        self._written = written

    def _write(self, entries: Sequence[Entry]) -> asyncio.Future[None]:
        began = time.monotonic()
        done = self._journal.append(entries)

        def settled(future: asyncio.Future[None]) -> None:
            if not future.cancelled():
                self._written(time.monotonic() - began, future.exception() is None)

        done.add_done_callback(settled)
        return done

    def append(self, call_id: str, records: Sequence[JournalRecord]) -> Awaitable[None]:
        """Write events with the call as it is after each."""
        return self._write(
            [
                Entry(
                    call_id=call_id,
                    created_at=item.record.created_at,
                    event=item.event.as_dict(),
                    record=item.record.as_dict(),
                    private=item.record.private,
                    ended=item.record.ended_at is not None,
                    snapshot=saved.dump(item.snapshot),
                    lasting=not isinstance(item.event, _PASSING),
                )
                for item in records
            ]
        )

    def append_record(
        self,
        record: CallRecord,
        event: CallEvent | None,
        claim: Claim | None = None,
        snapshot: Mapping[str, Any] | None = None,
    ) -> asyncio.Future[None]:
        """Write a record that no running call writes, with the claim it was made by."""
        return self._write(
            [
                Entry(
                    call_id=record.id,
                    created_at=record.created_at,
                    event=event.as_dict() if event is not None else None,
                    record=record.as_dict(),
                    private=record.private,
                    ended=record.ended_at is not None,
                    claim=claim,
                    snapshot=dict(snapshot) if snapshot is not None else None,
                )
            ]
        )


def trunk_question(trunk: TrunkConfig) -> TrunkQuestion:
    """Return the OPTIONS that asks whether *trunk* is there; it goes the way of an INVITE."""
    target = SipUri(host=trunk.host, port=_written(trunk))
    return TrunkQuestion(
        trunk=trunk.name,
        next_hop=_next_hop(trunk),
        request_uri=str(target),
        from_=f"<{SipUri(user='ping', host=trunk.from_domain)}>",
        to=f"<{target}>",
    )


def registration_of(trunk: TrunkConfig) -> RegistrationSettings:
    """Return what is registered for *trunk*: its user name, at its domain."""
    user = trunk.registered_user
    record = SipUri(user=user, host=trunk.from_domain)
    return RegistrationSettings(
        trunk=trunk.name,
        next_hop=_next_hop(trunk),
        registrar=str(SipUri(host=trunk.from_domain)),
        address_of_record=f"<{record}>",
        contact_user=user,
        credentials=credentials_of(trunk),
    )


def next_hop_of(trunk: TrunkConfig) -> tuple[str, int | None, str]:
    """Return host, port (None: DNS decides) and transport of where *trunk*'s requests go."""
    transport, host, port = _next_hop(trunk)
    return host, port, transport


def _next_hop(trunk: TrunkConfig) -> tuple[str, str, int | None]:
    """Return transport, host and port of where requests for *trunk* go first.

    Port None: DNS decides (RFC 3263 4.2).
    """
    if not trunk.outbound_proxy:
        return trunk.transport, trunk.host, trunk.dialled_port
    host, port = split_proxy(trunk.outbound_proxy)
    return trunk.transport, host, port


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _written(trunk: TrunkConfig) -> int | None:
    """Return the port for a URI of the trunk's host; the default one is left out."""
    return None if trunk.port == default_port(trunk.transport) else trunk.port

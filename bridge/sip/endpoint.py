"""The SIP endpoint: bytes, flows and time in; outputs and events out. Pure.

Inputs come from one driver (`bridge.ua`), commands from the call layer; `poll`
gives what to do, in order. Nothing a peer sends raises. After every input the
driver calls `poll` and re-arms its one timer from `next_deadline`.

RFC 3261.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from bridge.sip.authentication import Authentication
from bridge.sip.core import UserAgentCore
from bridge.sip.delivery import OUTSIDE, Errand, Purpose
from bridge.sip.digest import Credentials
from bridge.sip.events import Output, SessionId
from bridge.sip.flow import Flow
from bridge.sip.framing import Broken, Frame, KeepAlive, StreamFramer
from bridge.sip.grammar import ParseError
from bridge.sip.indialog import DialogCore
from bridge.sip.keepalive import KeepAliveCore, moved
from bridge.sip.layer import TransactionLayer
from bridge.sip.matching import server_key
from bridge.sip.message import Request, Response, parse
from bridge.sip.parameters import EndpointConfig, OutgoingInvite, SessionDetails
from bridge.sip.probe import ProbeCore, TrunkQuestion
from bridge.sip.records import Client, Server
from bridge.sip.refer import ReferCore
from bridge.sip.referred import ReferredCore
from bridge.sip.refresh import RefreshCore
from bridge.sip.registrar import RegistrarCore
from bridge.sip.registration import RegistrationSettings
from bridge.sip.reinvite import ReofferCore
from bridge.sip.restore import Reader, RestoreOfferAnswer, put
from bridge.sip.screening import Screen
from bridge.sip.session import OfferMethod, Phase, Role, Session
from bridge.sip.snapshot import EndpointSnapshot
from bridge.sip.take import take
from bridge.sip.target import stamp_source
from bridge.sip.transaction import State
from bridge.sip.uac import CallerCore
from bridge.sip.uas import CalleeCore, is_known, is_same_peer
from sdp.model import Direction
from sdp.negotiate import OfferAnswer, Rejected
from sdp.negotiated import Negotiated

__all__ = ["Endpoint", "EndpointConfig", "EndpointSnapshot", "OutgoingInvite", "SessionDetails"]


class Endpoint:
    """One SIP user agent with all its flows, transactions, dialogs and sessions.

    *tokens* gives a fresh string of at least 64 random bits. *next_hop_allowed*
    is asked (host or address, trunk) before a Contact or Route of a peer leads
    us to a host that is neither the trunk's nor the peer's. *unknown_reject*
    tells whether a stranger's request is refused with 403; else it is ignored.
    *screen* may refuse a request without a dialog before anything is allocated for it.
    """

    def __init__(
        self,
        config: EndpointConfig,
        *,
        tokens: Callable[[], str],
        next_hop_allowed: Callable[[str, str], bool] = lambda _host, _trunk: False,
        unknown_reject: Callable[[Flow], bool] = lambda _flow: False,
        screen: Screen = lambda _request, _flow, _now: None,
        secret: str | None = None,
    ) -> None:
        self.layer = TransactionLayer(
            config, self, tokens=tokens, next_hop_allowed=next_hop_allowed
        )
        self.core = UserAgentCore(
            config,
            self.layer,
            tokens=tokens,
            next_hop_allowed=next_hop_allowed,
            secret=tokens() if secret is None else secret,
        )
        self.callee = CalleeCore(self.core, unknown_reject=unknown_reject, screen=screen)
        self.caller = CallerCore(self.core)
        self.reoffers = ReofferCore(self.core)
        self.refreshes = RefreshCore(self.core, self.reoffers)
        self.probes = ProbeCore(self.core)
        self.registrar = RegistrarCore(self.core)
        self.keepalive = KeepAliveCore(self.core)
        self.refers = ReferCore(self.core, self.reoffers)
        self.referred = ReferredCore(self.core)
        self.dialogs = DialogCore(self.core, self.callee, self.refers, self.referred)
        self.framers: dict[int, StreamFramer] = {}

    # Snapshots

    def snapshot(self, now: float, wall: float) -> EndpointSnapshot:
        """Write everything down; *wall* is the wall time of *now*, both in seconds."""
        beats = tuple(moved(beat, wall - now) for beat in self.keepalive.beats.values())
        kept = take(self.core, self.callee.merges, self.registrar, now, wall)
        outlived = self.refers.snapshot(wall - now)
        return replace(kept, beats=beats, outlived=outlived)

    @classmethod
    def restore(
        cls,
        snapshot: EndpointSnapshot,
        config: EndpointConfig,
        *,
        tokens: Callable[[], str],
        offer_answer: RestoreOfferAnswer,
        now: float,
        wall: float,
        next_hop_allowed: Callable[[str, str], bool] = lambda _host, _trunk: False,
        unknown_reject: Callable[[Flow], bool] = lambda _flow: False,
        screen: Screen = lambda _request, _flow, _now: None,
        credentials: Callable[[str], Credentials | None] = lambda _trunk: None,
    ) -> Endpoint:
        """Return an endpoint that goes on where *snapshot* was taken.

        *credentials* of a trunk are asked for anew: no secret is in a snapshot.
        Its connections count as alive: the driver reports `flow_lost` for each
        that did not survive, then calls `ask_again`.
        """
        endpoint = cls(
            config,
            tokens=tokens,
            next_hop_allowed=next_hop_allowed,
            unknown_reject=unknown_reject,
            screen=screen,
            secret=snapshot.secret,
        )
        reader = Reader(now, wall, offer_answer, credentials)
        for beat in snapshot.beats:
            endpoint.keepalive.enter(moved(beat, now - wall))
        put(snapshot, endpoint.core, endpoint.registrar, endpoint.keepalive, reader)
        endpoint.callee.merges.update(snapshot.merges)
        endpoint.refers.restore(snapshot.outlived, now - wall)
        return endpoint

    def ask_again(self, now: float) -> None:
        """Repeat every `Resolve` and `Connect` that a process before this one has asked."""
        self.layer.courier.ask_again(now)

    # Inputs from the driver

    def receive(self, data: bytes, flow: Flow, now: float) -> list[Frame]:
        """Take bytes of a stream, or one datagram; return what was complete in them."""
        if not flow.reliable:
            if not data.strip():
                return []
            self._receive_message(data, flow, now)
            return [data]
        framer = self.framers.setdefault(flow.id, StreamFramer())
        if framer.broken:
            return []
        self.layer.courier.opened(flow)
        pings = 0
        frames = framer.feed(data)
        for frame in frames:
            match frame:
                case bytes():
                    self._receive_message(frame, flow, now)
                case Broken():
                    self._refuse_broken(frame.error, flow)
                    self._abandon(flow, now)
                case KeepAlive.PING:
                    pings += 1
                    self.keepalive.pong(flow)  # two pongs without a message between look so
                case KeepAlive.PONG:
                    self.keepalive.pong(flow)
                case _:
                    assert_never(frame)
        if pings and not framer.broken:
            # RFC 5626 4.4.1: a double CRLF is answered with a single one.
            self.layer.courier.write(flow, b"\r\n" * pings)
        return frames

    def is_between_messages(self, flow: Flow) -> bool:
        """Whether nothing of an unfinished message has come by *flow*."""
        framer = self.framers.get(flow.id)
        return framer is None or framer.idle

    def flow_opened(self, flow: Flow, now: float) -> None:
        """Learn of a connection a peer made, or of one that an earlier process left."""
        del now
        self.layer.courier.opened(flow)

    def flow_lost(self, flow: Flow, now: float) -> None:
        """Learn that a connection is gone. No call ends by that (contract 3)."""
        self.framers.pop(flow.id, None)
        self._flow_gone(flow, now)

    def _abandon(self, flow: Flow, now: float) -> None:
        """Give a connection up that cannot be understood, or says nothing any more."""
        self.layer.courier.close(flow)
        self._flow_gone(flow, now)

    def _flow_gone(self, flow: Flow, now: float) -> None:
        self.keepalive.forget(flow)
        self.layer.flow_failed(flow, now)
        self.registrar.flow_lost(flow, now)

    def send_failed(self, flow: Flow, now: float) -> None:
        """Learn that what was written to *flow* did not get out."""
        if flow.reliable:
            self.flow_lost(flow, now)
        else:
            self.layer.flow_failed(flow, now)

    def resolved(self, query: int, addresses: Sequence[tuple[str, int]], now: float) -> None:
        """Take the addresses (with ports) of a host, best first; none when it has none."""
        self.layer.courier.resolved(query, addresses, now)

    def connected(self, attempt: int, flow: Flow, now: float) -> None:
        """Take the flow that a `Connect` asked for."""
        self.layer.courier.connected(attempt, flow, now)

    def connect_failed(self, attempt: int, now: float) -> None:
        """Learn that a `Connect` failed."""
        self.layer.courier.connect_failed(attempt, now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        while (due := self.layer.agenda.pop_due(now)) is not None:
            kind, key = due
            if kind == "session" and isinstance(key, int):
                self._session_due(SessionId(key), now)
            elif kind == "registration" and isinstance(key, int):
                self.registrar.due(key, now)
            elif kind == "keepalive" and isinstance(key, int):
                failed = self.keepalive.due(key, now)
                if failed is not None:
                    self._abandon(failed, now)
            else:
                self.layer.expire(due, now)

    def poll(self, now: float) -> list[Output]:
        """Return what to do, in order, once."""
        del now
        outputs, self.layer.courier.outputs = self.layer.courier.outputs, []
        return outputs

    def next_deadline(self) -> float | None:
        """When `tick` has something to do."""
        return self.layer.agenda.next()

    # Commands from the call layer. A session that is gone is ignored.

    def dial(self, invite: OutgoingInvite, now: float) -> SessionId:
        """Send an INVITE. MisuseError or ParseError when it cannot be written."""
        return self.caller.dial(invite, now)

    def adopt(
        self,
        session: SessionId,
        offer_answer: OfferAnswer,
        trunk: str,
        now: float,
        credentials: Credentials | None = None,
        session_timer: int = 0,
    ) -> Negotiated | Rejected | None:
        """Give an incoming call its media and trunk, and run its offer.

        *credentials* are for our own requests in it, *session_timer* is the interval in
        seconds we would like, 0 for none. None: no offer yet, it will be ours
        in the 200. `Rejected`: the caller of this then calls `reject` with its status.
        """
        del now
        known = self._session(session)
        if known is None:
            return None
        if credentials is not None:
            known.authentication = Authentication(credentials=credentials)
        return self.callee.adopt(known, offer_answer, trunk, session_timer)

    def ring(self, session: SessionId, now: float) -> None:
        """Send 180 for an incoming call."""
        if (known := self._session(session)) is not None:
            self.callee.ring(known, now)

    def answer(self, session: SessionId, now: float) -> None:
        """Send 200 for an adopted incoming call, until its ACK comes (`Confirmed`)."""
        if (known := self._session(session)) is not None:
            self.callee.answer(known, now)

    def reject(
        self,
        session: SessionId,
        status: int,
        now: float,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Refuse an incoming call; no event follows."""
        if (known := self._session(session)) is not None:
            self.callee.reject(known, status, now, headers)

    def cancel(
        self, session: SessionId, now: float, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Give up a call of ours before its answer; `Failed` follows.

        *headers* (Reason) go into the CANCEL, or into the BYE of a call that was
        answered at the same moment.
        """
        known = self._session(session)
        if known is not None and known.role is Role.CALLER:
            self.caller.cancel(known, tuple(headers), now)

    def bye(self, session: SessionId, now: float, headers: Sequence[tuple[str, str]] = ()) -> None:
        """End a call; no event follows.

        Before the answer this cancels (`Failed` follows) or rejects with 480. An
        unacknowledged 200 is waited for first.
        """
        known = self._session(session)
        if known is None:
            return
        match known.phase:
            case Phase.INVITED if known.role is Role.CALLER:
                self.cancel(session, now, headers)
            case Phase.INVITED:
                self.callee.reject(known, 480, now, headers)
            case Phase.ACCEPTED:
                # RFC 3261 15: "the callee's UA MUST NOT send a BYE on a confirmed dialog
                # until it has received an ACK for its 2xx response or until the server
                # transaction times out."
                known.farewell = tuple(headers)
                known.quiet = True
            case Phase.CONFIRMED:
                known.farewell = tuple(headers)
                self.core.leave(known, now)
            case Phase.LEAVING:
                pass
            case _:
                assert_never(known.phase)

    def probe(self, session: SessionId, now: float) -> None:
        """Send an OPTIONS in the dialog; `Probed` or `Ended` follows.

        Contract 4, Hold: only without a negotiated session timer, else nothing is sent.
        """
        if (known := self._session(session)) is not None:
            self.reoffers.probe(known, now)

    def ask_trunk(self, question: TrunkQuestion, now: float) -> None:
        """Send an OPTIONS outside any dialog; `TrunkProbed` follows."""
        self.probes.ask(question, now)

    def register(self, settings: RegistrationSettings, now: float) -> None:
        """Keep a trunk registered; `RegistrationChanged` tells how that goes.

        ParseError when the REGISTER cannot be written.
        """
        self.registrar.register(settings, now)

    def unregister(self, trunk: str, now: float) -> None:
        """Take a trunk's registration back; `RegistrationChanged` follows."""
        self.registrar.unregister(trunk, now)

    def keep_alive(self, trunks: frozenset[str]) -> None:
        """Ping by the connections of these trunks from now on, and of no others."""
        self.keepalive.configure(trunks)

    def moved(self, trunk: str, now: float) -> None:
        """Learn that the address we are reached at for *trunk* has changed."""
        self.registrar.move(trunk, now)

    def reoffer(
        self,
        session: SessionId,
        direction: Direction,
        now: float,
        method: OfferMethod = "INVITE",
    ) -> None:
        """Send a re-INVITE; `Reoffered` follows, after `SessionChanged` if it changed something.

        Or an UPDATE, where the peer allows that. RFC 3311 5.1: in a confirmed dialog "it is
        RECOMMENDED that a re-INVITE be used instead".
        """
        if (known := self._session(session)) is not None:
            self.reoffers.reoffer(known, direction, now, method)

    def refer(
        self, session: SessionId, target: str, now: float, replaces: SessionId | None = None
    ) -> None:
        """Ask the far end to call *target* (a URI); `ReferAnswered` follows, or the end.

        With *replaces*, another call of ours with the target, it is to take that over.
        ParseError when *target* is no URI that can be called.
        """
        other = None if replaces is None else self._session(replaces)
        if (known := self._session(session)) is not None:
            self.refers.refer(known, target, other, now)

    def allow_refer(self, session: SessionId, now: float) -> None:
        """Pass the far end's REFERs up, as `ReferAsked`; without this they get 603."""
        del now
        if (known := self._session(session)) is not None:
            known.refer_in = True

    def answer_refer(self, session: SessionId, status: int, now: float) -> None:
        """Answer the far end's REFER: 202, and tell it how that goes; or refuse it."""
        if (known := self._session(session)) is not None:
            self.referred.answer(known, status, now)

    def tell_referred(self, session: SessionId, status: int, now: float) -> None:
        """Notify how far the call is that the far end's REFER has asked for."""
        if (known := self._session(session)) is not None:
            self.referred.tell(known, status, now)

    def update(self, session: SessionId, now: float) -> None:
        """Send an UPDATE without an offer, early or confirmed; no event follows.

        It refreshes the session and tells our Contact, which is the flow's. A peer that does
        not allow UPDATE gets a re-INVITE, once the session is confirmed.
        """
        if (known := self._session(session)) is not None:
            self.refreshes.update(known, now)

    def details(self, session: SessionId) -> SessionDetails | None:
        """Tell about a session; None when it is gone."""
        known = self._session(session)
        if known is None:
            return None
        return SessionDetails(
            call_id=known.call_id,
            local_tag=known.local_tag,
            remote_tag=known.remote_tag,
            request=known.invite,
            trunk=known.trunk,
            remote_headers=known.remote_headers,
        )

    def set_draining(self, draining: bool) -> None:  # noqa: FBT001 (a published verb)
        """Answer OPTIONS outside a dialog with 503, or no longer.

        New calls are still passed up, for whoever drains to refuse and record.
        """
        self.core.draining = draining

    @property
    def occupied(self) -> int:
        """How many sessions there are, without those that only wait for their BYE."""
        return self.core.occupied

    def _session(self, session: SessionId) -> Session | None:
        known = self.core.sessions.get(session)
        return None if known is None or known.phase is Phase.LEAVING else known

    # Messages

    def _receive_message(self, data: bytes, flow: Flow, now: float) -> None:
        try:
            message = parse(data)
        except ParseError as error:
            self._refuse_broken(error, flow)
            if flow.reliable and error.request is None and data[:4].upper() != b"SIP/":
                self._abandon(flow, now)  # whoever is there speaks something else
            return
        if isinstance(message, Response):
            self.layer.receive_response(message, flow, now)
        else:
            stamp_source(message, flow)
            self._receive_request(message, flow, now)

    def _refuse_broken(self, error: ParseError, flow: Flow) -> None:
        """Tell a known peer what is wrong with its request, if it can be told at all."""
        request = error.request
        if request is None or not is_known(flow) or request.method == "ACK":
            return
        if "Via" not in request.headers:
            return
        tag = self.core.stateless_tag(request)
        response = self.core.response(request, error.status, to_tag=tag, reason=error.text)
        self.layer.courier.write(flow, response.encode())

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        server = self.layer.servers.get(server_key(request))
        if server is not None and self._is_branch_reused(server, request):
            self.layer.retire(server)
            server = None
        if server is not None and request.method != "CANCEL":
            if is_same_peer(server.flow, flow):
                self.layer.receive_again(server, request, flow, now)
        elif request.method == "ACK":
            self.callee.on_ack(request, flow, now)
        elif request.method == "CANCEL":
            self.callee.on_cancel(request, flow, now)
        elif request.to.tag is None:
            self.callee.on_request(request, flow, now)
        else:
            self._receive_in_dialog(request, flow, now)

    def _is_branch_reused(self, server: Server, request: Request) -> bool:
        """Whether a re-INVITE has the branch of an earlier one, which RFC 3261 8.1.1.7 forbids.

        Its CSeq tells it from a copy. While the earlier one is not settled it is taken for one.
        """
        if request.method != "INVITE" or request.to.tag is None:
            return False
        session = self.core.sessions.get(SessionId(server.session))
        if session is None or request.cseq.number <= server.request.cseq.number:
            return False
        unacked = session.unacked
        waits = unacked is not None and unacked.server == server.key
        return not waits and server.machine.state is not State.PROCEEDING

    def _receive_in_dialog(self, request: Request, flow: Flow, now: float) -> None:
        found = self.core.find(request)
        if found is not None:
            session, dialog = found
            if session.admits(flow):
                self.dialogs.on_request(session, dialog, request, flow, now)
        elif is_known(flow) and self.refers.is_late(request, now):
            self.core.refuse(request, flow, 200, now)
        elif is_known(flow):
            # RFC 3261 12.2.2: a request that matches no dialog gets 481.
            late = request.method == "PRACK" and self.callee.is_late_prack(request)
            self.core.refuse(request, flow, 200 if late else 481, now)
        else:
            self.callee.on_stranger(request, flow, now)

    # What the transaction layer tells (`TransactionUser`)

    def on_sent(self, client: Client, now: float) -> None:
        """A request of ours left."""
        purpose = client.letter.errand.purpose
        if purpose in OUTSIDE:
            self.keepalive.used(client.flow, client.letter.trunk, now)
        if purpose is Purpose.REGISTER:
            self.registrar.on_sent(client)
            return
        session = self._owner(client.letter.errand)
        if session is None:
            return
        if client.letter.errand.purpose is Purpose.INVITE:
            self.caller.on_sent(session, client)
        else:
            session.touch(client.flow)

    def on_response(self, client: Client, response: Response, flow: Flow, now: float) -> None:
        """A response came to a request of ours."""
        session = self._owner(client.letter.errand)
        known = None if session is None else session.authentication
        if known is not None and 200 <= response.status < 300:
            known.accepted(response, self.core.tokens)
        purpose = client.letter.errand.purpose
        if response.status == 503 and purpose in OUTSIDE:
            self.layer.note_rest(client, response, now)
        match purpose:
            case Purpose.INVITE:
                self.caller.on_response(session, client, response, flow, now)
            case Purpose.REINVITE:
                self.reoffers.on_response(session, client, response, flow, now)
            case Purpose.UPDATE:
                self.refreshes.on_response(session, client, response, flow, now)
            case Purpose.BYE if session is not None and response.status >= 200:
                if not self.core.send_again(session, client, response, flow, now):
                    self.core.free(session)
            case Purpose.REGISTER:
                self.registrar.on_response(client, response, now)
            case Purpose.PRACK if session is not None and response.status >= 200:
                self.caller.reliable.on_response(session, client, response, flow, now)
            case Purpose.OPTIONS if response.status == 503 and self.layer.try_next(client, now):
                pass
            case Purpose.OPTIONS if response.status >= 200:
                self.probes.settled(client.letter.errand, response.status, now)
            case Purpose.PROBE if session is not None and response.status >= 200:
                self.reoffers.on_probe_answered(session, client, response, flow, now)
            case Purpose.REFER if session is not None:
                self.refers.on_response(session, client, response, flow, now)
            case Purpose.NOTIFY if session is not None:
                self.referred.on_response(session, client, response, flow, now)
            case _:
                pass

    def on_timeout(self, errand: Errand, now: float) -> None:
        """Nobody answered a request of ours."""
        self._unanswered(errand, now, timed_out=True)

    def on_unreachable(self, errand: Errand, now: float) -> None:
        """A request of ours could not be sent."""
        self._unanswered(errand, now, timed_out=False)

    def on_resting(self, errand: Errand, seconds: float, now: float) -> None:
        """A call of ours was not sent: every target wants to be left alone."""
        del now
        session = self._owner(errand)
        if session is not None:
            self.caller.on_resting(session, seconds)

    def may_go_elsewhere(self, errand: Errand) -> bool:
        """Whether a request of ours may be sent to another target."""
        if errand.purpose is not Purpose.INVITE:
            return True
        session = self._owner(errand)
        return session is not None and self.caller.may_go_elsewhere(session)

    def on_ack(self, ack: Request, flow: Flow, now: float) -> None:
        """An ACK came with the branch of its INVITE, for a 2xx all the same."""
        self.callee.on_ack(ack, flow, now)

    def on_server_done(self, server: Server) -> None:
        """A server transaction is spent."""
        self.callee.on_server_done(server)

    def _unanswered(self, errand: Errand, now: float, *, timed_out: bool) -> None:
        if errand.purpose is Purpose.OPTIONS:
            self.probes.settled(errand, None, now)
            return
        if errand.purpose is Purpose.REGISTER:
            self.registrar.on_unanswered(errand.session, now)
            return
        session = self._owner(errand)
        if session is None:
            return
        match errand.purpose:
            case Purpose.INVITE if timed_out:
                self.caller.on_timeout(session)
            case Purpose.INVITE:
                self.caller.on_unreachable(session)
            case Purpose.REINVITE:
                self.reoffers.on_refused(session, 408 if timed_out else 503, now)
            case Purpose.UPDATE:
                self.refreshes.on_refused(session, 408 if timed_out else 503, now)
            case Purpose.BYE:
                self.core.free(session)
            case Purpose.PROBE:
                if session.flow is not None:
                    session.suspect = session.flow.id
                self.reoffers.on_probed(session, 408, now)
            case Purpose.REFER:
                self.refers.on_refused(session, 408 if timed_out else 503, now)
            case Purpose.NOTIFY:
                self.referred.on_failed(session)
            case Purpose.CANCEL | Purpose.ACK | Purpose.PRACK:
                pass  # the guard of 64*T1 and the copies of the 2xx see to it
            case _:
                assert_never(errand.purpose)

    def _owner(self, errand: Errand) -> Session | None:
        return self.core.sessions.get(SessionId(errand.session))

    # Time

    def _session_due(self, session_id: SessionId, now: float) -> None:
        session = self.core.sessions.get(session_id)
        if session is None:
            return
        if session.cancel_by is not None and session.cancel_by <= now:
            session.cancel_by = None
            self.caller.on_cancel_guard(session)
        if session.ring_again_at is not None and session.ring_again_at <= now:
            session.ring_again_at = None
            self.callee.ring(session, now)
        unacked = session.unacked
        if unacked is not None and min(unacked.resend_at, unacked.give_up_at) <= now:
            self.callee.on_resend(session, unacked, now)
        reliable = session.reliable
        if reliable is not None and reliable.is_due(now):
            self.callee.on_unacknowledged(session, now)
        reoffer = session.reoffer
        if reoffer is not None and reoffer.again_at is not None and reoffer.again_at <= now:
            self.reoffers.send(session, now)
        referral = session.referral
        if referral is not None and referral.until is not None and referral.until <= now:
            self.refers.on_due(session, referral)
        if session.referred is not None and session.referred.until <= now:
            self.referred.on_due(session, session.referred, now)
        self.refreshes.on_due(session, now)
        self.core.schedule(session)

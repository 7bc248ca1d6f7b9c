"""Calls we make: INVITE, its responses, forks, ACK, CANCEL.

RFC 3261 8.1, 9.1, 13.2.
"""

from __future__ import annotations

from bridge.sip.authentication import Authentication
from bridge.sip.core import (
    ANSWERED_ELSEWHERE,
    NOT_ACCEPTABLE,
    SDP,
    UserAgentCore,
    capability_fields,
)
from bridge.sip.delivery import Errand, Letter, Purpose
from bridge.sip.dialog import Dialog, as_caller
from bridge.sip.events import Answered, Failed, FailureCause, Progressed, SessionId
from bridge.sip.flow import Flow
from bridge.sip.headers import parse_name_addr, q850_cause
from bridge.sip.message import Headers, Request, Response
from bridge.sip.parameters import OutgoingInvite
from bridge.sip.records import Client
from bridge.sip.session import MAX_EARLY, Cancelling, Early, Phase, Role, Session
from bridge.sip.session_timer import SessionTimer
from bridge.sip.target import HostHop, peer_hop
from bridge.sip.transaction import MAX_FORWARDS, cancel_to
from sdp.negotiate import OfferAnswer, Rejected
from sdp.negotiated import Negotiated


class CallerCore:
    """The caller's side of INVITE."""

    def __init__(self, core: UserAgentCore) -> None:
        self.core = core
        self.layer = core.layer

    # Commands

    def dial(self, invite: OutgoingInvite, now: float) -> SessionId:
        """Send an INVITE; every outcome is an event."""
        core = self.core
        session_id = SessionId(self.layer.courier.next_id())
        tag = core.tokens()
        floor = core.config.min_session_expires
        timer = SessionTimer(wish=invite.session_timer, floor=floor)
        request = self._invite(invite, tag, timer)
        transport, host, port = invite.next_hop
        session = Session(
            id=session_id,
            role=Role.CALLER,
            phase=Phase.INVITED,
            call_id=request.call_id,
            local_tag=tag,
            trunk=invite.trunk,
            trunks=frozenset((invite.trunk,)),
            hosts=(),
            flow=None,
            next_hop=HostHop(transport, host, port, trusted=True),
            contact_user=invite.contact_user,
            invite=None,
            invite_key=None,
            offer_answer=invite.offer_answer,
            timer=timer,
        )
        if invite.credentials is not None:
            session.authentication = Authentication(credentials=invite.credentials)
        core.add(session)
        letter = Letter(
            request=request,
            errand=Errand(Purpose.INVITE, session_id),
            trunk=invite.trunk,
            contact_user=invite.contact_user,
            authentication=session.authentication,
        )
        self.layer.send(letter, [HostHop(transport, host, port, trusted=True)], now)
        return session_id

    def _invite(self, invite: OutgoingInvite, tag: str, timer: SessionTimer) -> Request:
        core = self.core
        headers = Headers(
            [
                ("Max-Forwards", MAX_FORWARDS),
                ("From", str(parse_name_addr(invite.from_).with_tag(tag))),
                ("To", invite.to),
                ("Call-ID", core.tokens()),
                ("CSeq", "1 INVITE"),
                *capability_fields(),
                *timer.first_fields(),
                ("User-Agent", core.config.user_agent),
                *invite.headers,
                SDP,
            ]
        )
        return Request("INVITE", invite.request_uri, headers, invite.offer_answer.offer())

    def cancel(self, session: Session, headers: tuple[tuple[str, str], ...], now: float) -> None:
        """Give a call up before its answer."""
        if session.phase is not Phase.INVITED or session.cancelling is not Cancelling.NOT:
            return
        session.farewell = headers
        session.cancelling = Cancelling.WANTED
        if self.layer.courier.abandon(session.id, Purpose.INVITE):
            self._fail(session, FailureCause.UNREACHABLE, None)
        elif session.provisional:
            self._send_cancel(session, now)

    def _send_cancel(self, session: Session, now: float) -> None:
        """RFC 3261 9.1: "If no provisional response has been received, the CANCEL request
        MUST NOT be sent; rather, the client MUST wait for the arrival of a provisional
        response before sending the request."
        """
        client = self._client(session)
        if client is None:
            return
        session.cancelling = Cancelling.SENT
        session.cancel_by = now + self.core.config.timers.patience
        self.core.schedule(session)
        cancel = cancel_to(client.machine.request)
        cancel.headers.extend(session.farewell)
        letter = Letter(
            request=cancel,
            errand=Errand(Purpose.CANCEL, session.id),
            trunk=session.trunk,
            keeps_via=True,
        )
        self.layer.send(letter, self.layer.ways_of(client), now)

    def _client(self, session: Session) -> Client | None:
        return None if session.invite_key is None else self.layer.clients.get(session.invite_key)

    # What the transactions tell

    def on_sent(self, session: Session, client: Client) -> None:
        """The INVITE left."""
        session.invite_key = client.key
        session.touch(client.flow)

    def on_unreachable(self, session: Session) -> None:
        """No way led to the next hop, or the connection died twice without a response."""
        if session.phase is Phase.INVITED:
            self._fail(session, FailureCause.UNREACHABLE, None)

    def on_timeout(self, session: Session) -> None:
        """Timer B."""
        if session.phase is Phase.INVITED:
            self._fail(session, FailureCause.NO_RESPONSE, None)

    def on_cancel_guard(self, session: Session) -> None:
        """RFC 3261 9.1: "If there is no final response for the original request in 64*T1
        seconds [...], the client SHOULD then consider the original transaction cancelled and
        SHOULD destroy the client transaction handling the original request."
        """
        client = self._client(session)
        if client is not None:
            self.layer.drop_client(client)
        self._fail(session, FailureCause.CANCELLED, None)

    def on_response(
        self, session: Session | None, client: Client, response: Response, flow: Flow, now: float
    ) -> None:
        """Take a response to our first INVITE; the session may be gone already."""
        if 200 <= response.status < 300:
            self._accepted(session, client, response, flow, now)
        elif session is None or session.phase is not Phase.INVITED:
            return
        elif response.status < 200:
            session.touch(flow)
            self._provisional(session, client, response, now)
        else:
            session.remote_headers = tuple(response.headers.items())
            if not self._send_again(session, client, response, flow, now):
                self._fail(session, FailureCause.REFUSED, response)

    def _send_again(
        self, session: Session, client: Client, response: Response, flow: Flow, now: float
    ) -> bool:
        """Send the INVITE with the credentials or interval asked for, unless it was cancelled."""
        if session.cancelling is not Cancelling.NOT:
            return False
        # RFC 3261 12.3: "if a request outside of a dialog generates a non-2xx final response,
        # any early dialogs created through provisional responses to that request are
        # terminated."
        for early in session.early.values():
            self.core.drop_dialog(early.dialog)
        session.early = {}
        session.provisional = False  # of the new transaction, for the CANCEL
        if response.status == 422 and session.timer.raised(response.headers):
            fields = session.timer.first_fields()
            self.core.send_with(session, client, fields, flow, now)
            return True
        return self.core.send_again(session, client, response, flow, now)

    def _provisional(
        self, session: Session, client: Client, response: Response, now: float
    ) -> None:
        session.provisional = True
        if session.cancelling is Cancelling.WANTED:
            self._send_cancel(session, now)
        if response.status == 100:
            return
        session.rang = True
        session.timer.learn(response.headers)
        session.remote_headers = tuple(response.headers.items())
        early = self._early(session, client, response)
        if session.cancelling is Cancelling.NOT:
            negotiated = self._early_answer(session, early, response)
            self.core.pass_up(
                session, Progressed(session=session.id, status=response.status, early=negotiated)
            )

    def _early(self, session: Session, client: Client, response: Response) -> Early | None:
        """Return the early dialog of an 18x, one for each To tag (RFC 3261 12.1.2)."""
        tag = response.to.tag or ""
        known = session.early.get(tag)
        if known is None and len(session.early) < MAX_EARLY:
            known = Early(dialog=as_caller(client.machine.request, response))
            session.early[tag] = known
            self.core.add_dialog(session, known.dialog)
        return known

    def _early_answer(
        self, session: Session, early: Early | None, response: Response
    ) -> Negotiated | None:
        body = response.sdp
        offer_answer = session.offer_answer
        if body is None or early is None or offer_answer is None:
            return None
        result = offer_answer.receive_answer(body, early=True)
        if isinstance(result, Rejected):
            return None
        early.sdp = body
        return result

    # 2xx

    def _accepted(
        self,
        session: Session | None,
        client: Client,
        response: Response,
        flow: Flow,
        now: float,
    ) -> None:
        tag = response.to.tag or ""
        if tag in client.acks:
            # RFC 3261 13.2.2.4: the ACK "MUST be passed to the client transport every time
            # a retransmission of the 2xx final response that triggered the ACK arrives."
            self.layer.acknowledge_again(client, tag, flow, now)
        elif len(client.acks) >= MAX_EARLY:
            return  # no proxy forks so wide: each would cost a session, an ACK and a BYE
        elif session is None or session.phase is not Phase.INVITED:
            self._end_fork(client, response, flow, now)
        else:
            self._confirm(session, client, response, flow, now)

    def _confirm(
        self, session: Session, client: Client, response: Response, flow: Flow, now: float
    ) -> None:
        early = session.early.get(response.to.tag or "")
        dialog = self._dialog(client, response, early)
        session.touch(flow)
        session.remote_headers = tuple(response.headers.items())
        for other in session.early.values():
            self.core.drop_dialog(other.dialog)
        session.early = {}
        session.dialog = dialog
        session.cancel_by = None
        self.core.add_dialog(session, dialog)
        self.core.schedule(session)
        cseq = client.machine.request.cseq.number
        self.core.acknowledge(client, session, dialog, dialog.remote_tag, cseq, now)
        if session.cancelling is not Cancelling.NOT:
            # RFC 3261 9.1, 15: the 2xx crossed our CANCEL; the call is ended by BYE.
            self._bye_unwanted(session, FailureCause.CANCELLED, response, now)
            return
        negotiated = self._answer(session.offer_answer, early, response)
        if negotiated is None:
            self._bye_unwanted(session, FailureCause.UNUSABLE_ANSWER, response, now)
            return
        session.phase = Phase.CONFIRMED
        session.timer.accepted(response.headers, now)
        self.core.schedule(session)
        self.core.pass_up(
            session,
            Answered(session=session.id, negotiated=negotiated, status=response.status),
        )

    @staticmethod
    def _dialog(client: Client, response: Response, early: Early | None) -> Dialog:
        """Return the confirmed dialog.

        RFC 3261 13.2.2.4: of an early dialog "the route set MUST be recomputed based on
        the 2xx response"; its sequence numbers go on.
        """
        dialog = as_caller(client.machine.request, response)
        if early is not None:
            dialog.local_cseq = early.dialog.local_cseq
            dialog.remote_cseq = early.dialog.remote_cseq
            if "Contact" not in response.headers:
                dialog.remote_target = early.dialog.remote_target
        return dialog

    @staticmethod
    def _answer(
        offer_answer: OfferAnswer | None, early: Early | None, response: Response
    ) -> Negotiated | None:
        """Apply the answer of the 2xx, or without one the early answer of the same dialog."""
        body = response.sdp
        if body is None and early is not None:
            body = early.sdp
        if body is None or offer_answer is None:
            return None
        result = offer_answer.receive_answer(body)
        return None if isinstance(result, Rejected) else result

    def _bye_unwanted(
        self, session: Session, cause: FailureCause, response: Response, now: float
    ) -> None:
        self.core.pass_up(session, self._failed(session, cause, response))
        if cause is FailureCause.UNUSABLE_ANSWER:
            session.farewell = (NOT_ACCEPTABLE,)
        self.core.leave(session, now)

    def _end_fork(self, client: Client, response: Response, flow: Flow, now: float) -> None:
        """Acknowledge and end another fork's 2xx (RFC 3261 13.2.2.4), as a session of its own."""
        dialog = as_caller(client.machine.request, response)
        session = Session(
            id=SessionId(self.layer.courier.next_id()),
            role=Role.CALLER,
            phase=Phase.LEAVING,
            call_id=dialog.call_id,
            local_tag=dialog.local_tag,
            trunk=client.letter.trunk,
            trunks=frozenset((client.letter.trunk,)),
            hosts=(),
            flow=None,
            next_hop=peer_hop(client.flow),
            contact_user=client.letter.contact_user or "",
            invite=None,
            invite_key=None,
            dialog=dialog,
            farewell=(ANSWERED_ELSEWHERE,),
            authentication=client.letter.authentication,
        )
        session.touch(flow)
        self.core.add(session)
        cseq = client.machine.request.cseq.number
        self.core.acknowledge(client, session, dialog, dialog.remote_tag, cseq, now)
        self.core.leave(session, now)

    # The end

    def _fail(self, session: Session, cause: FailureCause, response: Response | None) -> None:
        if session.cancelling is not Cancelling.NOT:
            cause = FailureCause.CANCELLED
        self.core.end(session, self._failed(session, cause, response))

    @staticmethod
    def _failed(session: Session, cause: FailureCause, response: Response | None) -> Failed:
        return Failed(
            session=session.id,
            cause=cause,
            status=None if response is None else response.status,
            phrase="" if response is None else response.reason,
            q850=None if response is None else q850_cause(response.headers),
            rang=session.rang,
        )

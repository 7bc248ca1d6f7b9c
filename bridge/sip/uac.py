"""Calls we make: INVITE, its responses, forks, ACK, CANCEL.

RFC 3261 8.1, 9.1, 13.2.
"""

from __future__ import annotations

from dataclasses import replace

from bridge.sip.authentication import Authentication
from bridge.sip.core import (
    ANSWERED_ELSEWHERE,
    NOT_ACCEPTABLE,
    SDP,
    UserAgentCore,
    WayOut,
    capability_fields,
)
from bridge.sip.delivery import Errand, Letter, Purpose
from bridge.sip.dialog import Dialog, as_caller
from bridge.sip.events import Answered, Failed, FailureCause, Progressed, SessionId
from bridge.sip.flow import Flow
from bridge.sip.headers import MAX_CSEQ, parse_name_addr, parse_retry_after, q850_cause
from bridge.sip.message import Headers, Request, Response
from bridge.sip.parameters import ASKING, SUPPORTED, OutgoingInvite
from bridge.sip.records import Client
from bridge.sip.reliable import Delivery, ReliableCaller, run_offer
from bridge.sip.session import (
    MAX_EARLY,
    Cancelling,
    Early,
    Phase,
    Role,
    Session,
    TurnedAway,
)
from bridge.sip.session_timer import SessionTimer
from bridge.sip.target import FlowHop, Hop, HostHop, is_address, peer_hop, uri_hop
from bridge.sip.transaction import MAX_FORWARDS, cancel_to
from sdp.negotiate import Rejected
from sdp.negotiated import Negotiated

FORK_GAP = 1000  # CSeq numbers, more than requests of ours in one early dialog


class CallerCore:
    """The caller's side of INVITE."""

    def __init__(self, core: UserAgentCore) -> None:
        self.core = core
        self.layer = core.layer
        self.reliable = ReliableCaller(core)

    # Commands

    def dial(self, invite: OutgoingInvite, now: float) -> SessionId:
        """Send an INVITE; every outcome is an event."""
        core = self.core
        way = core.ways_out.get(invite.trunk)
        session_id = SessionId(self.layer.courier.next_id())
        tag = core.tokens()
        floor = core.config.min_session_expires
        timer = SessionTimer(wish=invite.session_timer, floor=floor)
        request = self._invite(invite, tag, timer)
        for route in () if way is None else way.routes:
            request.headers.add("Route", route)
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
            refer_in=invite.refer_in,
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
        trunk_hop = HostHop(transport, host, port, trusted=True)
        self.layer.send(letter, [*self._preloaded(invite, way), trunk_hop], now)
        return session_id

    def _preloaded(self, invite: OutgoingInvite, way: WayOut | None) -> list[Hop]:
        """Return where a call of a registered trunk goes first.

        The connection that it is registered by: a NAT or a registrar may know no other. Then
        the topmost route (RFC 3261 8.1.2), unless a proxy is configured, which forwards to it.
        """
        if way is None:
            return []
        hops: list[Hop] = []
        if way.flow is not None and way.flow.reliable:
            hops.append(FlowHop(way.flow))
        learnt = uri_hop(way.routes[0], invite.next_hop[0]) if way.routes else None
        if (
            learnt is not None
            and not invite.proxied
            and self.core.next_hop_allowed(learnt.host, invite.trunk)
        ):
            hops.append(replace(learnt, trusted=is_address(learnt.host)))
        return hops

    def _invite(self, invite: OutgoingInvite, tag: str, timer: SessionTimer) -> Request:
        core = self.core
        body = b"" if invite.delayed else invite.offer_answer.offer()
        supported = SUPPORTED if invite.reliable else ASKING
        headers = Headers(
            [
                ("Max-Forwards", MAX_FORWARDS),
                ("From", str(parse_name_addr(invite.from_).with_tag(tag))),
                ("To", invite.to),
                ("Call-ID", core.tokens()),
                ("CSeq", "1 INVITE"),
                *capability_fields(supported, refer=invite.refer_in),
                *timer.first_fields(),
                ("User-Agent", core.config.user_agent),
                *invite.headers,
                *([SDP] if body else []),
            ]
        )
        return Request("INVITE", invite.request_uri, headers, body)

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

    def on_resting(self, session: Session, seconds: float) -> None:
        """Every target of the next hop has asked to be left alone."""
        if session.phase is Phase.INVITED:
            if session.turned_away is None:
                session.turned_away = TurnedAway(
                    status=0, phrase="", q850=None, retry_after=seconds
                )
            self._fail(session, FailureCause.RESTING, None)

    @staticmethod
    def may_go_elsewhere(session: Session) -> bool:
        """Whether the INVITE may be sent to another target.

        Never once it rang: the callee would be called twice.
        """
        waits = session.phase is Phase.INVITED and session.cancelling is Cancelling.NOT
        return waits and not session.rang

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
            if self._send_again(session, client, response, flow, now):
                return
            session.turned_away = _turned_away(response)
            if response.status == 503 and self.layer.try_next(client, now):
                session.provisional = False  # of the new transaction, for the CANCEL
            else:
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
        if self.reliable.insist(session, client, response, flow, now):
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
        early = self._early(session, client, response)
        delivery = self.reliable.judge(early, response)
        if delivery is Delivery.STRAY:
            return
        session.rang = True
        session.timer.learn(response.headers)
        session.remote_headers = tuple(response.headers.items())
        if delivery is Delivery.NEW and early is not None:
            negotiated = self._reliable_answer(session, early, response, now)
        else:
            negotiated = self._early_answer(session, early, response)
        if session.cancelling is Cancelling.NOT:
            event = Progressed(
                session=session.id,
                status=response.status,
                early=negotiated,
                headers=session.remote_headers,
            )
            self.core.pass_up(session, event)

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
        if early.offer_answer is not None:
            return None  # answered already, reliably
        result = offer_answer.receive_answer(body, early=True)
        if isinstance(result, Rejected):
            return None
        early.sdp = body
        return result

    def _reliable_answer(
        self, session: Session, early: Early, response: Response, now: float
    ) -> Negotiated | None:
        """Take the SDP of a reliable 18x, and acknowledge it."""
        body = response.sdp
        negotiated, answer = None, b""
        if body is not None:
            negotiated, answer = self.reliable.take(session, early, body)
        self.reliable.acknowledge(session, early, response, answer, now)
        return negotiated

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
        early = self._early_of(session, response.to.tag or "")
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
        negotiated, answer = self._agree(session, early, response)
        cseq = client.machine.request.cseq.number
        self.core.acknowledge(client, session, dialog, dialog.remote_tag, cseq, now, answer=answer)
        if session.cancelling is not Cancelling.NOT:
            # RFC 3261 9.1, 15: the 2xx crossed our CANCEL; the call is ended by BYE.
            self._bye_unwanted(session, FailureCause.CANCELLED, response, now)
            return
        if negotiated is None:
            self._bye_unwanted(session, FailureCause.UNUSABLE_ANSWER, response, now)
            return
        session.phase = Phase.CONFIRMED
        session.timer.accepted(response.headers, now)
        self.core.schedule(session)
        self.core.pass_up(
            session,
            Answered(
                session=session.id,
                negotiated=negotiated,
                status=response.status,
                headers=session.remote_headers,
            ),
        )

    @staticmethod
    def _early_of(session: Session, tag: str) -> Early | None:
        """Return the early dialog that a 2xx with *tag* confirms.

        A peer that has left the tag out of its 18x, or of its 2xx, means its only one.
        """
        known = session.early.get(tag)
        if known is None and len(session.early) == 1 and (not tag or "" in session.early):
            known = next(iter(session.early.values()))
        return known

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
    def _agree(
        session: Session, early: Early | None, response: Response
    ) -> tuple[Negotiated | None, bytes]:
        """Return what is agreed with a 2xx, and our answer for the ACK when it has the offer.

        A reliable answer of the same dialog is final; then the SDP of the 2xx counts, and
        without any an early answer of the same dialog.
        """
        if early is not None and early.offer_answer is not None:
            session.offer_answer = early.offer_answer
            return early.offer_answer.active, b""
        body, offer_answer = response.sdp, session.offer_answer
        if body is None and early is not None:
            body = early.sdp
        if body is None or offer_answer is None:
            return None, b""
        if not offer_answer.pending:
            return run_offer(offer_answer, body)
        result = offer_answer.receive_answer(body)
        return None if isinstance(result, Rejected) else result, b""

    def _bye_unwanted(
        self, session: Session, cause: FailureCause, response: Response, now: float
    ) -> None:
        self.core.pass_up(session, self._failed(session, cause, response))
        if cause is FailureCause.UNUSABLE_ANSWER:
            session.farewell = (NOT_ACCEPTABLE,)
        self.core.leave(session, now)

    def _end_fork(self, client: Client, response: Response, flow: Flow, now: float) -> None:
        """Acknowledge and end another fork's 2xx (RFC 3261 13.2.2.4), as a session of its own.

        Its early dialog is forgotten by now, and may have had PRACKs and UPDATEs of ours: its
        BYE is numbered above any of them. RFC 3261 12.2.2: "It is possible for the CSeq
        sequence number to be higher than the remote sequence number by more than one."
        """
        dialog = as_caller(client.machine.request, response)
        dialog.local_cseq = min(dialog.local_cseq + FORK_GAP, MAX_CSEQ)
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
        turned_away = session.turned_away
        if session.cancelling is not Cancelling.NOT:
            cause = FailureCause.CANCELLED
        elif response is None and turned_away is not None and turned_away.status:
            # One target refused and no other one answered: the refusal says more.
            cause = FailureCause.REFUSED
        self.core.end(session, self._failed(session, cause, response))

    @staticmethod
    def _failed(session: Session, cause: FailureCause, response: Response | None) -> Failed:
        headers = session.remote_headers
        if response is not None:
            known, headers = _turned_away(response), tuple(response.headers.items())
        elif session.turned_away is None or cause is FailureCause.CANCELLED:
            known, headers = _NOT_TURNED_AWAY, ()
        else:
            known = session.turned_away
        return Failed(
            session=session.id,
            cause=cause,
            status=known.status or None,
            phrase=known.phrase,
            q850=known.q850,
            rang=session.rang,
            retry_after=known.retry_after,
            headers=headers,
        )


_NOT_TURNED_AWAY = TurnedAway(status=0, phrase="", q850=None, retry_after=None)


def _turned_away(response: Response) -> TurnedAway:
    return TurnedAway(
        status=response.status,
        phrase=response.reason,
        q850=q850_cause(response.headers),
        retry_after=parse_retry_after(response.headers),
    )

"""Requests inside a dialog: re-INVITE, UPDATE, BYE, INFO, OPTIONS, NOTIFY.

Re-INVITE and UPDATE are answered in the same turn, by the session's
`OfferAnswer`. RFC 3261 12.2.2, 14.2, 15.1.2; RFC 3311 5.2; RFC 6086.
"""

from __future__ import annotations

from bridge.sip import screening
from bridge.sip.core import SDP, UserAgentCore, warning_of
from bridge.sip.dialog import Dialog, Sequence
from bridge.sip.events import EndCause, Ended, KeyReported, SessionChanged
from bridge.sip.flow import Flow
from bridge.sip.headers import q850_cause
from bridge.sip.keys import is_key_report, read_key
from bridge.sip.message import Request
from bridge.sip.parameters import ACCEPT_KEYS
from bridge.sip.records import Server
from bridge.sip.refer import ReferCore
from bridge.sip.referred import ReferredCore
from bridge.sip.reliable import early_machine
from bridge.sip.session import OVER_REFUSAL, Phase, Role, Session
from bridge.sip.uas import CalleeCore, options_fields
from sdp.negotiate import Answer, OfferAnswer

SERVED = ("INVITE", "UPDATE", "BYE", "INFO", "OPTIONS", "PRACK", "NOTIFY", "REFER")


class DialogCore:
    """The peer's requests in a dialog."""

    def __init__(
        self,
        core: UserAgentCore,
        callee: CalleeCore,
        refers: ReferCore,
        referred: ReferredCore,
    ) -> None:
        self.core = core
        self.layer = core.layer
        self.callee = callee
        self.refers = refers
        self.referred = referred

    def on_request(
        self, session: Session, dialog: Dialog, request: Request, flow: Flow, now: float
    ) -> None:
        """Take a request of a known dialog, from a source that may speak for it."""
        if not self.layer.has_room(flow):
            self.core.refuse(request, flow, 503, now, [self.core.retry_after()])
            return
        session.touch(flow)
        session.missed_probes = 0  # whoever asks is there
        server = self.layer.begin_server(request, flow, session.id, dialog.local_tag, now)
        if dialog.judge(request.cseq.number) is Sequence.LATE:
            self.core.respond(server, 500, now)
            return
        refusal = self._refusal(request)
        if refusal is not None:
            self.core.respond(server, refusal.status, now, headers=refusal.headers)
        elif request.method == "BYE":
            self._bye(session, dialog, server, now)
        elif request.method == "NOTIFY":
            self.refers.on_notify(session, server, now)
        elif session.phase is Phase.LEAVING:
            self.core.respond(server, 481, now)
        elif request.method == "INVITE":
            self._reinvite(session, dialog, server, now)
        elif request.method == "UPDATE":
            self._update(session, dialog, server, now)
        elif request.method == "INFO":
            self._info(session, server, now)
        elif request.method == "REFER":
            self.referred.on_refer(session, server, now)
        elif request.method == "PRACK":
            self.callee.on_prack(session, server, now)
        else:
            self.core.respond(server, 200, now, headers=options_fields())

    def _refusal(self, request: Request) -> screening.Refusal | None:
        if request.method not in SERVED:
            return screening.for_method(request.method, screening.IN_DIALOG)
        if request.method == "BYE":
            return None
        refusal = screening.extensions(request)
        if refusal is None and request.method in ("INVITE", "UPDATE", "PRACK"):
            refusal = screening.session_body(request)
        if refusal is None and request.method in ("INVITE", "UPDATE"):
            refusal = screening.session_interval(request, self.core.config.min_session_expires)
        return refusal

    # BYE

    def _bye(self, session: Session, dialog: Dialog, server: Server, now: float) -> None:
        """RFC 3261 15.1.2; a BYE that crosses ours is answered all the same."""
        self.core.respond(server, 200, now)
        if session.phase is Phase.LEAVING:
            return
        if session.phase is Phase.INVITED:
            self._early_bye(session, dialog, server, now)
            return
        self.refers.outlive(session, now)
        headers = server.request.headers
        refused_at = session.refused_offer_at
        over_it = refused_at is not None and now - refused_at < OVER_REFUSAL
        event = Ended(
            session=session.id,
            cause=EndCause.RENEGOTIATION_FAILED if over_it else EndCause.BYE,
            status=None,
            q850=q850_cause(headers),
            headers=tuple(headers.items()),
        )
        self.core.end(session, event)

    def _early_bye(self, session: Session, dialog: Dialog, server: Server, now: float) -> None:
        """End one early dialog: theirs with 487, a fork of ours by forgetting it.

        RFC 3261 15.1.2: "The UAS MUST still respond to any pending requests received for
        that dialog. It is RECOMMENDED that a 487 (Request Terminated) response be generated
        to those pending requests."
        """
        if session.role is Role.CALLEE:
            self.callee.give_up(session, server.request, now)
            return
        session.early.pop(dialog.remote_tag, None)
        self.core.drop_dialog(dialog)

    # re-INVITE and UPDATE

    def _reinvite(self, session: Session, dialog: Dialog, server: Server, now: float) -> None:
        core = self.core
        offer_answer = session.offer_answer
        if self._is_inviting(session):
            # RFC 3261 14.2: "A UAS that receives an INVITE on a dialog while an INVITE it
            # had sent on that dialog is in progress MUST return a 491".
            core.respond(server, 491, now)
        elif offer_answer is None or self._is_unanswered(session):
            # 14.2: "A UAS that receives a second INVITE before it sends the final response
            # to a first INVITE with a lower CSeq sequence number on the same dialog MUST
            # return a 500 (Server Internal Error) [...] and MUST include a Retry-After".
            core.respond(server, 500, now, headers=[core.retry_after()])
        else:
            body = server.request.sdp
            if body is None:
                dialog.refresh(server.request)
                offer = offer_answer.offer(offer_answer.wanted)
                self.callee.accept(session, server, offer, now, offers=True)
                return
            answer = self._answer(session, offer_answer, body, server, now)
            if answer is not None:
                dialog.refresh(server.request)
                self._changed(session, answer)
                self.callee.accept(session, server, answer.body, now, offers=False)

    def _update(self, session: Session, dialog: Dialog, server: Server, now: float) -> None:
        core = self.core
        early = early_machine(session, dialog)
        offer_answer = session.offer_answer if early is None else early
        body = server.request.sdp
        fields = core.dialog_fields(session, server.flow)
        if body is None:
            dialog.refresh(server.request)
            fields.extend(core.timer_fields(session, server.request, now))
            core.respond(server, 200, now, headers=fields)
        elif (early is None and self._is_inviting(session)) or (
            offer_answer is not None and offer_answer.pending
        ):
            # RFC 3311 5.2: "if an UPDATE is received that contains an offer, and the UAS has
            # generated an offer [...] to which it has not yet received an answer, the UAS
            # MUST reject the UPDATE with a 491 response."
            core.respond(server, 491, now)
        elif offer_answer is None or (early is None and session.phase is Phase.INVITED):
            # 5.2: "if an UPDATE is received that contains an offer, and the UAS has received
            # an offer [...] to which it has not yet generated an answer, the UAS MUST reject
            # the UPDATE with a 500 response, and MUST include a Retry-After".
            core.respond(server, 500, now, headers=[core.retry_after()])
        else:
            answer = self._answer(session, offer_answer, body, server, now)
            if answer is not None:
                dialog.refresh(server.request)
                self._changed(session, answer)
                fields.extend(core.timer_fields(session, server.request, now))
                core.respond(server, 200, now, headers=[*fields, SDP], body=answer.body)

    @staticmethod
    def _is_inviting(session: Session) -> bool:
        """Whether an INVITE of ours is in progress in this dialog."""
        calling = session.role is Role.CALLER and session.phase is Phase.INVITED
        return calling or (session.reoffer is not None and session.reoffer.again_at is None)

    @staticmethod
    def _is_unanswered(session: Session) -> bool:
        """Whether an earlier INVITE of theirs is not finished: no final, no ACK, no answer."""
        if session.phase is not Phase.CONFIRMED:
            return True
        return session.unacked is not None and session.unacked.offers

    def _answer(
        self,
        session: Session,
        offer_answer: OfferAnswer,
        body: bytes,
        server: Server,
        now: float,
    ) -> Answer | None:
        """Run an offer; refuse what is unusable, which leaves the session as it was."""
        result = offer_answer.receive_offer(body)
        if isinstance(result, Answer):
            session.refused_offer_at = None
            return result
        session.refused_offer_at = now
        self.core.respond(server, result.status, now, headers=[warning_of(result)])
        return None

    def _changed(self, session: Session, answer: Answer) -> None:
        """Pass up what is agreed, before the answer is written: a hold shuts the gate first."""
        # Before the ACK of the first INVITE nobody has heard of a session; `Confirmed`
        # will carry what is in force then.
        early = session.role is Role.CALLER and session.phase is Phase.INVITED
        if answer.changed and (early or session.phase is Phase.CONFIRMED):
            event = SessionChanged(session=session.id, negotiated=answer.negotiated)
            self.core.pass_up(session, event)

    # INFO

    def _info(self, session: Session, server: Server, now: float) -> None:
        request = server.request
        if "Info-Package" in request.headers:
            # RFC 6086 4.2.2: "If a UA receives an INFO request associated with an Info Package
            # that the UA has not indicated willingness to receive, the UA MUST send a 469".
            self.core.respond(server, 469, now, headers=[("Recv-Info", "")])
        elif not request.body:
            self.core.respond(server, 200, now)
        elif not is_key_report(request):
            self.core.respond(server, 415, now, headers=[("Accept", ACCEPT_KEYS)])
        else:
            self.core.respond(server, 200, now)
            key = read_key(request)
            if key is not None and session.phase is Phase.CONFIRMED:
                event = KeyReported(
                    session=session.id, digit=key.digit, duration_ms=key.duration_ms
                )
                self.core.pass_up(session, event)

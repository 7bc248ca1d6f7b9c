"""Calls that come in: INVITE, CANCEL, ACK, and requests without a dialog.

RFC 3261 8.2, 9.2, 11, 13.3.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.errors import MisuseError
from bridge.sip import replaces, screening
from bridge.sip.core import SDP, Fields, UserAgentCore, capability_fields, warning_of
from bridge.sip.dialog import as_callee
from bridge.sip.events import Cancelled, Confirmed, EndCause, IncomingInvite, SessionId
from bridge.sip.flow import Flow
from bridge.sip.headers import q850_cause
from bridge.sip.matching import TransactionKey, cancelled_key
from bridge.sip.message import Request
from bridge.sip.parameters import ACCEPT, SUPPORTED
from bridge.sip.records import Server
from bridge.sip.refer import stray_notify
from bridge.sip.rejections import Rejections
from bridge.sip.reliable import ReliableCallee, read_rack, requires
from bridge.sip.screening import Refusal, Screen
from bridge.sip.session import RING_AGAIN, Phase, Role, Session, Unacked
from bridge.sip.session_timer import SessionTimer
from bridge.sip.uri import SipUri, parse_uri
from sdp.negotiate import Answer, OfferAnswer, Rejected
from sdp.negotiated import Negotiated

MergeKey = tuple[str, str, int]


class CalleeCore:
    """The callee's side of INVITE, and requests without a dialog."""

    def __init__(
        self, core: UserAgentCore, *, unknown_reject: Callable[[Flow], bool], screen: Screen
    ) -> None:
        self.core = core
        self.layer = core.layer
        self.unknown_reject = unknown_reject
        self.reliable = ReliableCallee(core)
        self.screen = screen
        self.merges: dict[MergeKey, TransactionKey] = {}
        self.rejections = Rejections()

    # Requests

    def on_request(self, request: Request, flow: Flow, now: float) -> None:
        """Take a request that has no To tag (ACK and CANCEL apart)."""
        allowed = flow.new_call_trunks if request.method == "INVITE" else is_known(flow)
        if not allowed:
            self.on_stranger(request, flow, now)
        elif request.method == "INVITE":
            self._invited(request, flow, now)
        elif (turned_away := self.screen(request, flow, now)) is not None:
            self._refuse(request, flow, turned_away, now)
        elif request.method == "OPTIONS":
            self._asked(request, flow, now)
        elif request.method == "NOTIFY":
            self._refuse(request, flow, stray_notify(request), now)
        else:
            refusal = screening.for_method(request.method, screening.OUT_OF_DIALOG)
            self._refuse(request, flow, refusal, now)

    def on_stranger(self, request: Request, flow: Flow, now: float) -> None:
        """Ignore a request of an unknown source, or refuse it where that is wanted."""
        if self.unknown_reject(flow):
            self.core.refuse(request, flow, 403, now)

    def _refuse(self, request: Request, flow: Flow, refusal: Refusal, now: float) -> None:
        self.core.refuse(request, flow, refusal.status, now, refusal.headers)

    def _asked(self, request: Request, flow: Flow, now: float) -> None:
        """Answer an OPTIONS as we would an INVITE (RFC 3261 11.2)."""
        refusal = screening.scheme(request, flow) or screening.extensions(request)
        if refusal is not None:
            self._refuse(request, flow, refusal, now)
        elif self.core.draining:
            self.core.refuse(request, flow, 503, now, self._busy_fields())
        else:
            self.core.refuse(request, flow, 200, now, options_fields())

    def _busy_fields(self) -> Fields:
        return [("Retry-After", str(self.core.config.retry_after))]

    def _invited(self, request: Request, flow: Flow, now: float) -> None:
        core = self.core
        merge = _merge_key(request)
        refused = self.rejections.find(merge, now)
        if refused is None and merge in self.merges:
            # RFC 3261 8.2.2.2: "the UAS core SHOULD generate a 482 (Loop Detected)". Not for
            # what was refused: whoever tries another way to us (RFC 3263 4.3) is no loop.
            core.refuse(request, flow, 482, now)
            return
        refusal = refused or self._refusal(request, flow)
        if refusal is None:
            refusal = self.screen(request, flow, now)
            if refusal is not None and refusal.remembered:
                self._turn_away(request, flow, refusal, now)
                return
        if refusal is None:
            refusal = replaces.refusal(core, request, flow)
        if refusal is not None:
            self._refuse(request, flow, refusal, now)
            return
        # While draining a call is passed up all the same: its refusal has a record.
        if core.occupied >= core.config.max_sessions or not self.layer.has_room(flow):
            core.refuse(request, flow, 503, now, self._busy_fields())
            return
        tag = core.tokens()
        dialog = as_callee(request, tag)
        if dialog is None:
            core.refuse(request, flow, 400, now)
            return
        session_id = SessionId(self.layer.courier.next_id())
        server = self.layer.begin_server(request, flow, session_id, tag, now)
        self.merges[merge] = server.key
        session = Session(
            id=session_id,
            role=Role.CALLEE,
            phase=Phase.INVITED,
            call_id=request.call_id,
            local_tag=tag,
            trunk="",
            trunks=flow.trunks | flow.new_call_trunks,
            hosts=(),
            flow=None,
            next_hop=None,
            contact_user=_user(request),
            invite=request,
            invite_key=server.key,
            dialog=dialog,
            remote_headers=tuple(request.headers.items()),
            timer=SessionTimer(floor=core.config.min_session_expires),
        )
        session.touch(flow)
        core.add(session)
        core.respond(server, 100, now)
        core.pass_up(session, IncomingInvite(session=session_id, request=request, flow=flow))

    def _turn_away(self, request: Request, flow: Flow, refusal: Refusal, now: float) -> None:
        """Refuse once and for all: by a transaction where there is room for one."""
        self.rejections.note(_merge_key(request), refusal, now)
        if flow.reliable or not self.layer.has_room(flow):
            # Nobody repeats it on a stream; its ACK finds nothing, as it should.
            self._refuse(request, flow, refusal, now)
            return
        tag = self.core.stateless_tag(request)
        server = self.layer.begin_server(request, flow, 0, tag, now)
        self.merges[_merge_key(request)] = server.key
        self.core.respond(server, refusal.status, now, headers=refusal.headers)

    def _refusal(self, request: Request, flow: Flow) -> Refusal | None:
        return (
            screening.scheme(request, flow)
            or screening.extensions(request)
            or screening.session_body(request)
            or screening.accepts_session(request)
            or screening.session_interval(request, self.core.config.min_session_expires)
        )

    def on_server_done(self, server: Server) -> None:
        """Forget what a spent transaction was merged by."""
        if server.request.method == "INVITE":
            merge = _merge_key(server.request)
            if self.merges.get(merge) == server.key:
                del self.merges[merge]

    def on_cancel(self, request: Request, flow: Flow, now: float) -> None:
        """Take a CANCEL, from whichever connection of the caller (RFC 3261 9.2)."""
        server = self.layer.servers.get(cancelled_key(request))
        if server is None:
            if is_known(flow):
                self.core.refuse(request, flow, 481, now)
            else:
                self.on_stranger(request, flow, now)
            return
        if not is_same_peer(server.flow, flow):
            return
        # "the To tag of the response to the CANCEL and the To tag in the response to the
        # original request SHOULD be the same."
        response = self.core.response(request, 200, to_tag=server.to_tag)
        self.layer.respond_stateless(request, response, flow, now)
        session = self.core.sessions.get(SessionId(server.session))
        if session is not None and session.invite_key == server.key:
            self.give_up(session, request, now)

    def give_up(self, session: Session, request: Request, now: float) -> None:
        """The caller went away before our final response: 487."""
        if session.role is not Role.CALLEE or session.phase is not Phase.INVITED:
            return
        server = self._server(session)
        if server is not None:
            self.core.respond(server, 487, now)
        event = Cancelled(
            session=session.id,
            q850=q850_cause(request.headers),
            headers=tuple(request.headers.items()),
        )
        self.core.end(session, event)

    # Commands

    def adopt(
        self, session: Session, offer_answer: OfferAnswer, trunk: str, session_timer: int = 0
    ) -> Negotiated | Rejected | None:
        """Take the trunk and run the offer; None when the INVITE had none."""
        if session.role is not Role.CALLEE or session.offer_answer is not None:
            raise MisuseError("Session was adopted already")
        session.offer_answer = offer_answer
        session.trunk = trunk
        session.timer.wish = session_timer
        session.trunks = frozenset((trunk,))
        if session.invite is not None:
            session.timer.learn(session.invite.headers)
        body = None if session.invite is None else session.invite.sdp
        if body is None:
            return None
        result = offer_answer.receive_offer(body)
        if isinstance(result, Answer):
            session.answer = result.body
            return result.negotiated
        return result

    def ring(self, session: Session, now: float) -> None:
        """Send 180, and again every minute (RFC 3261 13.3.1.1).

        RFC 3262 3: "The UAS MUST send any non-100 provisional response reliably if the initial
        request contained a Require header field with the option tag 100rel."
        """
        server = self._waiting(session)
        if server is None:
            return
        session.ring_again_at = now + RING_AGAIN
        self.core.schedule(session)
        if requires(server.request):
            self.reliable.ring(session, server, now)
            return
        fields = self.core.dialog_fields(session, server.flow)
        self.core.respond(server, 180, now, headers=fields)

    def answer(self, session: Session, now: float) -> None:
        """Send 200 with the answer, or with our offer when theirs is delayed.

        Without either when a reliable 18x had our offer, and its PRACK the answer.
        """
        server = self._waiting(session)
        if server is None:
            return
        if session.offer_answer is None:
            raise MisuseError("Session was not adopted")
        if self.reliable.postpones(session):
            return
        offers = session.answer is None and session.offer_answer.active is None
        body = session.offer_answer.offer() if offers else session.answer or b""
        session.phase = Phase.ACCEPTED
        session.ring_again_at = None
        self.accept(session, server, body, now, offers=offers)

    def accept(
        self, session: Session, server: Server, body: bytes, now: float, *, offers: bool
    ) -> None:
        """Send a 200 to an INVITE until its ACK comes, on every transport (13.3.1.4)."""
        timers = self.core.config.timers
        fields = [*self.core.dialog_fields(session, server.flow), *([SDP] if body else [])]
        fields.extend(self.core.timer_fields(session, server.request, now))
        response = self.core.respond(server, 200, now, headers=fields, body=body)
        session.unacked = Unacked(
            cseq=server.request.cseq.number,
            server=server.key,
            response=response,
            offers=offers,
            resend_at=now + timers.t1,
            interval=timers.t1,
            give_up_at=now + timers.patience,
        )
        self.core.schedule(session)

    def reject(self, session: Session, status: int, now: float, headers: Fields) -> None:
        """Send a final refusal and forget the session."""
        server = self._waiting(session)
        if server is not None:
            fields = (*headers, *_warnings(session, status))
            self.core.respond(server, status, now, headers=fields)
            self.rejections.note(_merge_key(server.request), Refusal(status, fields), now)
            self.core.free(session)

    def on_prack(self, session: Session, server: Server, now: float) -> None:
        """Take a PRACK, and send the 200 that waited for it."""
        self.reliable.on_prack(session, server, now)
        reliable = session.reliable
        if reliable is not None and reliable.answering and reliable.response is None:
            reliable.answering = False
            self.answer(session, now)

    def is_late_prack(self, request: Request) -> bool:
        """Whether a PRACK is for an INVITE that we have refused meanwhile.

        RFC 3262 3: having sent a final response the UAS "MUST be prepared to process PRACK
        requests for those outstanding responses". It is, for as long as its transaction lives.
        """
        rack = read_rack(request)
        if rack is None:
            return False
        merge = (request.call_id, request.from_.tag or "", rack[1].number)
        server = self.layer.servers.get(self.merges.get(merge, ()))
        if server is None or not requires(server.request):
            return False
        return server.to_tag == request.to.tag

    def on_unacknowledged(self, session: Session, now: float) -> None:
        """A reliable 18x is due again."""
        server, reliable = self._waiting(session), session.reliable
        if reliable is None:
            return
        if server is None:
            reliable.resend_at = reliable.give_up_at = None
        else:
            self.reliable.on_resend(session, reliable, server, now)

    def _server(self, session: Session) -> Server | None:
        return None if session.invite_key is None else self.layer.servers.get(session.invite_key)

    def _waiting(self, session: Session) -> Server | None:
        """Return the INVITE that still waits for our final response."""
        if session.role is not Role.CALLEE or session.phase is not Phase.INVITED:
            return None
        return self._server(session)

    # ACK, and its absence

    def on_ack(self, ack: Request, flow: Flow, now: float) -> None:
        """Take the ACK of a 2xx; any other is ignored."""
        found = self.core.find(ack)
        if found is None or not found[0].admits(flow):
            return
        session = found[0]
        unacked = session.unacked
        if unacked is None or unacked.cseq != ack.cseq.number:
            return
        session.touch(flow)
        session.unacked = None
        self.core.schedule(session)
        if session.phase is Phase.ACCEPTED:
            self._acknowledged(session, unacked, ack, now)
        elif unacked.offers:
            self.core.take_answer(session, ack.sdp)

    def _acknowledged(self, session: Session, unacked: Unacked, ack: Request, now: float) -> None:
        offer_answer = session.offer_answer
        session.phase = Phase.CONFIRMED
        if session.quiet:
            self.core.leave(session, now)
            return
        if unacked.offers and offer_answer is not None:
            body = ack.sdp
            if body is None or isinstance(offer_answer.receive_answer(body), Rejected):
                self.core.end_with_bye(session, EndCause.UNUSABLE_ANSWER, None, now)
                return
        negotiated = None if offer_answer is None else offer_answer.active
        if negotiated is not None:
            self.core.pass_up(session, Confirmed(session=session.id, negotiated=negotiated))

    def on_resend(self, session: Session, unacked: Unacked, now: float) -> None:
        """Send the 2xx again, or give up.

        RFC 3261 13.3.1.4: "If the server retransmits the 2xx response for 64*T1 seconds
        without receiving an ACK, the dialog is confirmed, but the session SHOULD be
        terminated. This is accomplished with a BYE".
        """
        if now >= unacked.give_up_at:
            session.unacked = None
            self.core.end_with_bye(session, EndCause.NO_ACK, None, now)
            return
        unacked.interval = min(2 * unacked.interval, self.core.config.timers.t2)
        unacked.resend_at = now + unacked.interval
        server = self.layer.servers.get(unacked.server)
        if server is not None:
            self.layer.respond(server, unacked.response, now)


def options_fields() -> list[tuple[str, str]]:
    """Return what an OPTIONS asks for (RFC 3261 11.2)."""
    fields = [*capability_fields(), ("Accept", ACCEPT), ("Accept-Encoding", "identity")]
    # RFC 3261 20.37: an empty Supported says that there is no extension.
    return fields if SUPPORTED else [*fields, ("Supported", "")]


def is_known(flow: Flow) -> bool:
    """Whether the peer is a source of any trunk."""
    return bool(flow.trunks or flow.new_call_trunks)


def is_same_peer(known: Flow, flow: Flow) -> bool:
    """Whether two flows may speak for the same transaction."""
    if known.id == flow.id or known.remote[0] == flow.remote[0]:
        return True
    ours = known.trunks | known.new_call_trunks
    return bool(ours & (flow.trunks | flow.new_call_trunks))


def _warnings(session: Session, status: int) -> list[tuple[str, str]]:
    """Return why their offer was unusable, when that is what *status* says."""
    body = None if session.invite is None else session.invite.sdp
    offer_answer = session.offer_answer
    if body is None or offer_answer is None or offer_answer.active is not None:
        return []
    result = offer_answer.receive_offer(body)
    return [warning_of(result)] if isinstance(result, Rejected) and result.status == status else []


def _merge_key(request: Request) -> MergeKey:
    return (request.call_id, request.from_.tag or "", request.cseq.number)


def _user(request: Request) -> str:
    """Return the user for our Contact: the one they called."""
    uri = parse_uri(request.uri)
    return (uri.user or "") if isinstance(uri, SipUri) else ""

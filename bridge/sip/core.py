"""The user agent core: the one table of sessions and dialogs, and what all parts of it do.

One dialog table for all flows: an in-dialog request may come on any connection,
and a closed connection never ends a call. RFC 3261 8, 12, 15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import blake2b

from bridge.sip.authentication import CHALLENGED, NO_ATTEMPTS, Attempts
from bridge.sip.delivery import Errand, Letter, Purpose
from bridge.sip.dialog import Dialog, DialogId
from bridge.sip.events import EndCause, Ended, PassUp, SessionChanged, SessionId, SipEvent
from bridge.sip.flow import Flow
from bridge.sip.headers import MAX_CSEQ
from bridge.sip.layer import TransactionLayer
from bridge.sip.message import Request, Response, response_to
from bridge.sip.parameters import ALLOW, ASKING, SUPPORTED, EndpointConfig
from bridge.sip.records import Client, Server
from bridge.sip.session import Phase, Session
from bridge.sip.target import (
    FlowHop,
    Hop,
    HostHop,
    default_port,
    is_address,
    is_secure,
    uri_hop,
    write_contact,
)
from bridge.sip.transaction import CREDENTIALS
from sdp.negotiate import Rejected

Fields = Iterable[tuple[str, str]]
SDP = ("Content-Type", "application/sdp")

# RFC 3326 2: why a BYE that nobody above has asked for is sent.
NOT_ACCEPTABLE = ("Reason", 'SIP;cause=488;text="Not Acceptable Here"')
NOT_HEARD_OF = ("Reason", 'SIP;cause=408;text="Request Timeout"')
SESSION_EXPIRED = ("Reason", 'SIP;cause=408;text="Session Expired"')
ANSWERED_ELSEWHERE = ("Reason", 'SIP;cause=200;text="Call completed elsewhere"')

WHY_BYE = {
    EndCause.UNUSABLE_ANSWER: NOT_ACCEPTABLE,
    EndCause.SESSION_EXPIRED: SESSION_EXPIRED,
}

# Requests of ours in a dialog that nobody needs any more when it ends.
PASSING = (
    *(Purpose.PROBE, Purpose.REINVITE, Purpose.UPDATE, Purpose.CANCEL, Purpose.PRACK),
    *(Purpose.REFER, Purpose.NOTIFY),
)


@dataclass(frozen=True, slots=True)
class WayOut:
    """How calls of a registered trunk leave: by its connection, along its Service-Route."""

    flow: Flow | None
    routes: tuple[str, ...]


class UserAgentCore:
    """Sessions, dialogs, and the sending of requests and responses in them."""

    def __init__(
        self,
        config: EndpointConfig,
        layer: TransactionLayer,
        *,
        tokens: Callable[[], str],
        next_hop_allowed: Callable[[str, str], bool],
        secret: str,
    ) -> None:
        self.config = config
        self.layer = layer
        self.tokens = tokens
        self.next_hop_allowed = next_hop_allowed
        self.sessions: dict[SessionId, Session] = {}
        self.dialogs: dict[DialogId, SessionId] = {}
        self.leaving: set[SessionId] = set()  # those whose BYE waits for its response
        self.secret = secret
        self.draining = False
        self.ways_out: dict[str, WayOut] = {}  # of trunks that are registered

    # Tables

    @property
    def occupied(self) -> int:
        """Sessions that count against ``max_sessions``."""
        return len(self.sessions) - len(self.leaving)

    def add(self, session: Session) -> None:
        """Enter a session and its dialogs."""
        self.sessions[session.id] = session
        if session.phase is Phase.LEAVING:
            self.leaving.add(session.id)
        for dialog in session.dialogs():
            self.dialogs[dialog.id] = session.id

    def add_dialog(self, session: Session, dialog: Dialog) -> None:
        """Enter one more dialog of a session."""
        self.dialogs[dialog.id] = session.id

    def drop_dialog(self, dialog: Dialog) -> None:
        """Forget a dialog."""
        self.dialogs.pop(dialog.id, None)

    def find(self, request: Request) -> tuple[Session, Dialog] | None:
        """Return the session and dialog a request belongs to (RFC 3261 12.2.2)."""
        ours = request.to.tag or ""
        wanted = (request.call_id, ours, request.from_.tag or "")
        if wanted not in self.dialogs:
            # A peer that answered without a To tag may find one for its own requests.
            wanted = (request.call_id, ours, "")
        session = self.sessions.get(self.dialogs.get(wanted, SessionId(0)))
        if session is None:
            return None
        for dialog in session.dialogs():
            if dialog.id == wanted:
                return session, dialog
        return None

    def free(self, session: Session) -> None:
        """Forget a session; its transactions live on as RFC 6026 needs."""
        for dialog in session.dialogs():
            self.drop_dialog(dialog)
        self.sessions.pop(session.id, None)
        self.leaving.discard(session.id)
        self.layer.agenda.set(("session", session.id), None)
        self.layer.courier.abandon(session.id, *PASSING)
        referred = session.referred
        if referred is not None and referred.server is not None:
            # Nobody is left to answer their REFER; its copies match no dialog any more (481).
            self.layer.forget_server(referred.server)

    def schedule(self, session: Session) -> None:
        """Note when *session* is due next."""
        if session.id in self.sessions:
            self.layer.agenda.set(("session", session.id), session.next_deadline())

    # Upwards

    def pass_up(self, session: Session, event: SipEvent) -> None:
        """Tell the call layer, unless it has said good-bye to this session."""
        if not session.quiet and session.phase is not Phase.LEAVING:
            self.layer.courier.outputs.append(PassUp(event=event))

    def end(self, session: Session, event: SipEvent) -> None:
        """Pass the last event of a session and forget it."""
        self.pass_up(session, event)
        self.free(session)

    def end_with_bye(
        self, session: Session, cause: EndCause, status: int | None, now: float
    ) -> None:
        """Pass `Ended` and send a BYE."""
        event = Ended(session=session.id, cause=cause, status=status, q850=None)
        self.pass_up(session, event)
        session.farewell = (WHY_BYE.get(cause, NOT_HEARD_OF),)
        self.leave(session, now)

    def take_answer(self, session: Session, body: bytes | None) -> bool:
        """Apply the answer to an offer of ours in a confirmed dialog; tell whether it holds.

        None or an unusable one leaves the session as it was before the offer.
        """
        offer_answer = session.offer_answer
        if offer_answer is None:
            return False
        before = offer_answer.active
        result = None if body is None else offer_answer.receive_answer(body)
        if result is None or isinstance(result, Rejected):
            offer_answer.rollback()
            return False
        if result != before:
            self.pass_up(session, SessionChanged(session=session.id, negotiated=result))
        return True

    # Requests in a dialog

    def hops(self, session: Session, dialog: Dialog) -> list[Hop]:
        """Return the ways to the far end, best first.

        The last connection while it lives; then the first route or the remote
        target; then where the INVITE went, or the address of the peer.
        """
        hops: list[Hop] = []
        flow = session.flow
        if flow is not None and flow.reliable and flow.id != session.suspect:
            hops.append(FlowHop(flow))
        learnt = uri_hop(dialog.next_hop, self._transport(session))
        if learnt is not None:
            hops.extend(self._permitted(session, learnt))
        if session.next_hop is not None:
            hops.append(session.next_hop)
        elif flow is not None:
            hops.append(_peer(flow, None if learnt is None else learnt.port))
        return list(dict.fromkeys(hops))

    def _transport(self, session: Session) -> str:
        if session.flow is not None:
            return session.flow.transport
        return "tcp" if session.next_hop is None else session.next_hop.transport

    def _permitted(self, session: Session, hop: HostHop) -> list[Hop]:
        """Return *hop* if a peer's message may send us there."""
        flow = session.flow
        port = hop.port or default_port(hop.transport)
        same = flow is not None and flow.remote == (hop.host, port)
        if flow is not None and same and not flow.reliable and hop.transport == "udp":
            return [FlowHop(flow)]
        known = session.next_hop is not None and session.next_hop.host == hop.host
        if known or hop.host in session.hosts:
            return [HostHop(hop.transport, hop.host, hop.port, trusted=True)]
        if not self.next_hop_allowed(hop.host, session.trunk):
            return []
        return [HostHop(hop.transport, hop.host, hop.port, trusted=is_address(hop.host))]

    def send(
        self,
        session: Session,
        method: str,
        purpose: Purpose,
        now: float,
        *,
        headers: Fields = (),
        body: bytes = b"",
        dialog: Dialog | None = None,
    ) -> None:
        """Send a request in the session's dialog, or in an early one of it."""
        dialog = session.dialog if dialog is None else dialog
        if dialog is None:
            return
        request = dialog.request(method)
        request.headers.add("User-Agent", self.config.user_agent)
        request.headers.extend(headers)
        request.body = body
        carries_contact = method in ("INVITE", "UPDATE", "REFER", "NOTIFY")
        if method not in ("INVITE", "UPDATE", "REFER"):
            # RFC 4028 7.1: a UAC that supports it "MUST include a Supported header field in
            # each request (except ACK), listing the option tag 'timer'".
            request.headers.extend(supported_fields(ASKING))
        attempts = NO_ATTEMPTS
        if session.authentication is not None:
            tried = session.authentication.authorize(request)
            attempts = replace(attempts, tried=tried)
        letter = Letter(
            request=request,
            errand=Errand(purpose, session.id),
            trunk=session.trunk,
            contact_user=session.contact_user if carries_contact else None,
            attempts=attempts,
        )
        self.layer.send(letter, self.hops(session, dialog), now)

    def send_again(
        self,
        session: Session,
        client: Client,
        response: Response,
        flow: Flow,
        now: float,
        *,
        dialog: Dialog | None = None,
    ) -> bool:
        """Send a challenged request of ours with credentials; tell whether there were any.

        *dialog*: an early one, for what was sent in it.

        RFC 3261 8.1.3.5: the new request "constitutes a new transaction and SHOULD have the
        same value of the Call-ID, To, and From of the previous request, but the CSeq should
        contain a new sequence number that is one higher than the previous." 22.2: "it MUST
        increment the CSeq header field value".
        """
        authentication = session.authentication
        if response.status not in CHALLENGED or authentication is None:
            return False
        attempts = authentication.challenged(response, client.letter.attempts, self.tokens)
        if attempts is None:
            return False
        session.touch(flow)
        self._resend(session, client, attempts, (), now, dialog=dialog)
        return True

    def send_with(
        self, session: Session, client: Client, fields: Fields, flow: Flow, now: float
    ) -> None:
        """Send a refused request of ours again, with *fields* instead of those it had."""
        session.touch(flow)
        self._resend(session, client, client.letter.attempts, fields, now)

    def _resend(
        self,
        session: Session,
        client: Client,
        attempts: Attempts,
        fields: Fields,
        now: float,
        *,
        dialog: Dialog | None = None,
    ) -> None:
        authentication = session.authentication
        dialog = session.dialog if dialog is None else dialog
        before = client.letter
        source = before.request
        request = Request(source.method, source.uri, source.headers.copy(), source.body)
        for name, value in fields:
            request.headers.set(name, value)
        # A later request of ours in the dialog may have been sent meanwhile.
        last = source.cseq.number if dialog is None else dialog.local_cseq
        number = min(last + 1, MAX_CSEQ)
        if dialog is not None:
            dialog.local_cseq = number
        request.headers.set("CSeq", f"{number} {source.method}")
        if authentication is not None:
            attempts = replace(attempts, tried=authentication.authorize(request))
        letter = replace(before, request=request, attempts=attempts)
        hops = self.layer.ways_of(client) if dialog is None else self.hops(session, dialog)
        self.layer.send(letter, hops, now)

    def leave(self, session: Session, now: float) -> None:
        """Send a BYE; the session is kept until it is answered, for a BYE that crosses it."""
        for early in session.early.values():
            self.drop_dialog(early.dialog)
        session.early = {}
        session.phase = Phase.LEAVING
        if session.id in self.sessions:
            self.leaving.add(session.id)
        session.unacked = session.reoffer = session.offer_answer = session.reliable = None
        session.cancel_by = session.ring_again_at = None
        session.timer.stop()
        self.layer.courier.abandon(session.id, *PASSING)
        self.schedule(session)
        self.send(session, "BYE", Purpose.BYE, now, headers=session.farewell)

    def acknowledge(
        self,
        client: Client,
        session: Session,
        dialog: Dialog,
        tag: str,
        cseq: int,
        now: float,
        *,
        answer: bytes = b"",
    ) -> None:
        """Send the ACK of the 2xx with To tag *tag* (RFC 3261 13.2.2.4); its branch is new.

        *answer*: our SDP when the 2xx has the offer.
        """
        request = dialog.ack(cseq)
        request.body = answer
        request.headers.add("User-Agent", self.config.user_agent)
        # 13.2.2.4: "The ACK MUST contain the same credentials as the INVITE."
        request.headers.extend(client.machine.request.headers.copied(*CREDENTIALS))
        request.headers.extend([SDP] if answer else [])
        letter = Letter(
            request=request, errand=Errand(Purpose.ACK, session.id), trunk=session.trunk
        )
        hops = self.hops(session, dialog)
        self.layer.acknowledge(client, tag, letter, hops, now)

    # Responses

    def response(
        self,
        request: Request,
        status: int,
        *,
        to_tag: str | None,
        headers: Fields = (),
        body: bytes = b"",
        reason: str | None = None,
    ) -> Response:
        """Return a response of ours."""
        fields = [("Server", self.config.user_agent), *headers]
        return response_to(request, status, reason, to_tag=to_tag, headers=fields, body=body)

    def respond(
        self,
        server: Server,
        status: int,
        now: float,
        *,
        headers: Fields = (),
        body: bytes = b"",
    ) -> Response:
        """Answer by the transaction; return what was sent."""
        to_tag = None if status == 100 else server.to_tag
        response = self.response(server.request, status, to_tag=to_tag, headers=headers, body=body)
        self.layer.respond(server, response, now)
        return response

    def refuse(
        self, request: Request, flow: Flow, status: int, now: float, headers: Fields = ()
    ) -> None:
        """Answer without keeping anything (RFC 3261 8.2.7)."""
        tag = None if status == 100 else self.stateless_tag(request)
        response = self.response(request, status, to_tag=tag, headers=headers)
        self.layer.respond_stateless(request, response, flow, now)

    def stateless_tag(self, request: Request) -> str:
        """Return a To tag that a copy of *request* gets again.

        RFC 3261 8.2.7: "a stateless UAS MUST generate the same tag for the same request".
        """
        via = request.headers.get("Via") or ""
        text = "\0".join((self.secret, request.headers.get("Call-ID") or "", via.split(",")[0]))
        return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()

    def draw(self, below: int) -> int:
        """Return a number from 0 to *below* - 1, from the injected randomness."""
        digest = blake2b(self.tokens().encode(), digest_size=8).digest()
        return int.from_bytes(digest) % below

    def retry_after(self) -> tuple[str, str]:
        """A Retry-After "with a randomly chosen value of between 0 and 10 seconds" (14.2)."""
        return ("Retry-After", str(self.draw(11)))

    def timer_fields(self, session: Session, request: Request, now: float) -> list[tuple[str, str]]:
        """Return the session timer of our 2xx to an INVITE or UPDATE, and start it.

        An early dialog has none yet: the 2xx to its INVITE begins the session.
        """
        if session.phase is Phase.INVITED:
            return []
        fields = session.timer.answer(request.headers, now)
        self.schedule(session)
        return fields

    def dialog_fields(self, session: Session, flow: Flow) -> list[tuple[str, str]]:
        """Return the fields of every 2xx (and 18x) that makes or refreshes a dialog."""
        dialog = session.dialog
        secure = dialog is not None and is_secure(dialog.next_hop, dialog.remote_target)
        contact = write_contact(self.config, flow, session.contact_user, secure=secure)
        return [("Contact", contact), *capability_fields(refer=session.refer_in)]


def capability_fields(supported: str = SUPPORTED, *, refer: bool = False) -> list[tuple[str, str]]:
    """Return Allow, with REFER where it is not declined, and Supported when it lists something."""
    return [("Allow", f"{ALLOW}, REFER" if refer else ALLOW), *supported_fields(supported)]


def supported_fields(supported: str = SUPPORTED) -> list[tuple[str, str]]:
    """Return Supported when there is something to list."""
    return [("Supported", supported)] if supported else []


def warning_of(refusal: Rejected) -> tuple[str, str]:
    """Return the Warning that says what is wrong with a session description (20.43)."""
    return ("Warning", f'{refusal.warning} trunkbridge "{refusal.reason}"')


def _peer(flow: Flow, port: int | None) -> Hop:
    """Return the hop to a peer that called us; the port of its connection was a passing one."""
    if not flow.reliable:
        return FlowHop(flow)
    return HostHop(flow.transport, flow.remote[0], port, trusted=True, name=flow.name)

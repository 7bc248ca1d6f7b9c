"""Reliable provisional responses: 18x that are acknowledged by PRACK, in both roles.

As callee we send 18x reliably only when the INVITE requires it; as caller we acknowledge
whatever comes reliably, in each early dialog by itself. RFC 3262; RFC 3311 5.2; RFC 6337 2.2.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from bridge.errors import MisuseError
from bridge.sip.core import SDP, UserAgentCore
from bridge.sip.delivery import Purpose
from bridge.sip.dialog import Dialog
from bridge.sip.events import EndCause, Ended
from bridge.sip.flow import Flow
from bridge.sip.grammar import LWS, ParseError
from bridge.sip.headers import CSeq, parse_cseq
from bridge.sip.message import Message, Request, Response
from bridge.sip.parameters import RELIABLE
from bridge.sip.records import Client, Server
from bridge.sip.session import Early, Phase, Reliable, Role, Session
from sdp.negotiate import Answer, OfferAnswer, Rejected
from sdp.negotiated import Negotiated

MAX_RSEQ: Final = 2**32 - 1
FIRST_RSEQ: Final = 2**31 - 1  # the highest that a sequence may begin with


class Delivery(Enum):
    """How a provisional response came."""

    PLAIN = "plain"
    NEW = "new"  # reliably, the next in its early dialog: to be acknowledged
    STRAY = "stray"  # reliably, but a copy or out of order


def requires(message: Message) -> bool:
    """Whether *message* has ``100rel`` in its Require."""
    return any(tag.lower() == RELIABLE for tag in message.headers.values("Require"))


def read_rseq(response: Response) -> int | None:
    """Return the RSeq of a response that came reliably, None for any other.

    RFC 3262 4: a response "contains a Require header field containing the option tag 100rel"
    when it is sent reliably. 7.1: a number from 1 to 2**32 - 1.
    """
    text = (response.headers.get("RSeq") or "").strip(LWS)
    if not requires(response) or not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if 1 <= number <= MAX_RSEQ else None


def read_rack(request: Request) -> tuple[int, CSeq] | None:
    """Return what a PRACK acknowledges: an RSeq, and the CSeq of the INVITE (7.2)."""
    text = (request.headers.get("RAck") or "").replace("\t", " ").strip(LWS)
    number, _, cseq = text.partition(" ")
    if not (number.isascii() and number.isdigit() and len(number) <= 10):
        return None
    try:
        return int(number), parse_cseq(cseq)
    except ParseError:
        return None


def early_machine(session: Session, dialog: Dialog) -> OfferAnswer | None:
    """Return the offer/answer machine of an early dialog whose first exchange is finished.

    Only a reliable response can finish it before the 2xx. None elsewhere.
    """
    if session.phase is not Phase.INVITED:
        return None
    if session.role is Role.CALLER:
        early = session.early.get(dialog.remote_tag)
        return None if early is None else early.offer_answer
    offer_answer = session.offer_answer
    if session.answer is not None or offer_answer is None or offer_answer.pending:
        return None
    return offer_answer if offer_answer.active is not None else None


def run_offer(machine: OfferAnswer, body: bytes) -> tuple[Negotiated | None, bytes]:
    """Answer an offer; None when it cannot be used."""
    result = machine.receive_offer(body)
    return (result.negotiated, result.body) if isinstance(result, Answer) else (None, b"")


class ReliableCallee:
    """Our reliable 18x and the PRACKs they bring."""

    def __init__(self, core: UserAgentCore) -> None:
        self.core = core
        self.layer = core.layer

    def ring(self, session: Session, server: Server, now: float) -> None:
        """Send the next reliable 180, unless the one before is not acknowledged yet.

        The answer to an offer of the INVITE waits for the 200: no media flows before it
        (contract 4, Gate). An INVITE without offer gets ours here.
        """
        before = session.reliable
        if before is not None and before.response is not None:
            # RFC 3262 3: "The UAS MUST NOT send a second reliable provisional response until
            # the first is acknowledged."
            return
        rseq = 1 + self.core.draw(FIRST_RSEQ) if before is None else before.rseq + 1
        body = self._offer(session)
        fields = [
            *self.core.dialog_fields(session, server.flow),
            # 3: "it MUST contain a Require header field containing the option tag 100rel, and
            # MUST include an RSeq header field."
            ("Require", RELIABLE),
            ("RSeq", str(rseq)),
            *([SDP] if body else []),
        ]
        response = self.core.respond(server, 180, now, headers=fields, body=body)
        timers = self.core.config.timers
        session.reliable = Reliable(
            rseq=rseq,
            response=response,
            offers=bool(body),
            resend_at=now + timers.t1,
            interval=timers.t1,
            give_up_at=now + timers.patience,
        )
        self.core.schedule(session)

    @staticmethod
    def _offer(session: Session) -> bytes:
        """Return our offer where it is due, else nothing.

        RFC 3262 5: "if a reliable provisional response is the first reliable message sent
        back to the UAC, and the INVITE did not contain an offer, one MUST appear in that
        reliable provisional response."
        """
        if session.answer is not None:
            return b""
        if session.offer_answer is None:
            raise MisuseError("Session was not adopted")
        return b"" if session.offer_answer.active is not None else session.offer_answer.offer()

    def postpones(self, session: Session) -> bool:
        """Whether our 200 has to wait for a PRACK; it is remembered then.

        RFC 3262 3: the UAS "MAY send a final response [...] before having received PRACKs for
        all unacknowledged reliable provisional responses, unless the final response is 2xx
        and any of the unacknowledged reliable provisional responses contained a session
        description. In that case, it MUST NOT send a final response until those provisional
        responses are acknowledged."
        """
        reliable = session.reliable
        if reliable is None or reliable.response is None:
            return False
        if reliable.offers:
            reliable.answering = True
        else:
            # 3: it "SHOULD NOT continue to retransmit the unacknowledged reliable provisional
            # responses, but it MUST be prepared to process PRACK requests for those".
            reliable.resend_at = reliable.give_up_at = None
        return reliable.offers

    def on_prack(self, session: Session, server: Server, now: float) -> None:
        """Take a PRACK; an unmatched one is answered 481."""
        reliable, request = session.reliable, server.request
        if reliable is None or not self._matches(session, reliable, request):
            # RFC 3262 3: "the UAS MUST respond to the PRACK with a 481 response."
            self.core.respond(server, 481, now)
            return
        reliable.response = reliable.resend_at = reliable.give_up_at = None
        self.core.schedule(session)
        body = request.sdp
        if reliable.offers:
            reliable.offers = False
            self._take_answer(session, body)
            self.core.respond(server, 200, now)
        elif body is None:
            self.core.respond(server, 200, now)
        else:
            self._answer(session, body, server, now)

    @staticmethod
    def _matches(session: Session, reliable: Reliable, request: Request) -> bool:
        """RFC 3262 3: the method, the CSeq number and the response number have to match."""
        acknowledged, invite = read_rack(request), session.invite
        if acknowledged is None or invite is None or reliable.response is None:
            return False
        return acknowledged == (reliable.rseq, invite.cseq)

    @staticmethod
    def _take_answer(session: Session, body: bytes | None) -> None:
        """Take the answer to the offer in our 18x.

        Without a usable one the offer is withdrawn, and stands again in our 200.
        """
        offer_answer = session.offer_answer
        if offer_answer is None:
            return
        if body is None or isinstance(offer_answer.receive_answer(body), Rejected):
            offer_answer.rollback()

    def _answer(self, session: Session, body: bytes, server: Server, now: float) -> None:
        """Answer the offer in a PRACK.

        RFC 3262 5: "If the UAS receives a PRACK with an offer, it MUST place the answer in
        the 2xx to the PRACK." While the offer of the INVITE is not answered there may be no
        other: that is met as in an UPDATE (RFC 3311 5.2).
        """
        machine = session.offer_answer
        settled = session.dialog is not None and early_machine(session, session.dialog) is machine
        if machine is None or not settled:
            self.core.respond(server, 500, now, headers=[self.core.retry_after()])
            return
        result = machine.receive_offer(body)
        if isinstance(result, Answer):
            self.core.respond(server, 200, now, headers=[SDP], body=result.body)
        else:
            warning = ("Warning", f'399 trunkbridge "{result.reason}"')
            self.core.respond(server, result.status, now, headers=[warning])

    def on_resend(self, session: Session, reliable: Reliable, server: Server, now: float) -> None:
        """Send the 18x again on every transport, or give the INVITE up."""
        if reliable.response is None or reliable.give_up_at is None:
            return
        if now >= reliable.give_up_at:
            # RFC 3262 3: "If a reliable provisional response is retransmitted for 64*T1
            # seconds without reception of a corresponding PRACK, the UAS SHOULD reject the
            # original request with a 5xx response."
            self.core.respond(server, 504, now)
            event = Ended(session=session.id, cause=EndCause.NO_ACK, status=504, q850=None)
            self.core.end(session, event)
            return
        # 3: "an interval that starts at T1 seconds and doubles for each retransmission".
        reliable.interval *= 2
        reliable.resend_at = now + reliable.interval
        self.layer.respond(server, reliable.response, now)


class ReliableCaller:
    """Reliable 18x to our INVITE, and our PRACKs."""

    def __init__(self, core: UserAgentCore) -> None:
        self.core = core

    def insist(
        self, session: Session, client: Client, response: Response, flow: Flow, now: float
    ) -> bool:
        """Send the INVITE again, now offering 100rel, to a peer that will not do without.

        RFC 3261 21.4.15: 421 says that the extension in Require "is not listed in a Supported
        header field in the request". Once: the next INVITE does list it.
        """
        source = client.letter.request
        supported = source.headers.values("Supported")
        asked = {tag.lower() for tag in response.headers.values("Require")}
        if response.status != 421 or asked.difference(supported) != {RELIABLE}:
            return False
        fields = [("Supported", ", ".join([*supported, RELIABLE]))]
        self.core.send_with(session, client, fields, flow, now)
        return True

    @staticmethod
    def judge(early: Early | None, response: Response) -> Delivery:
        """Tell whether a provisional response is to be acknowledged, and note that it came.

        RFC 3262 4: "If the UAC receives another reliable provisional response to the same
        request, and its RSeq value is not one higher than the value of the sequence number,
        that response MUST NOT be acknowledged with a PRACK, and MUST NOT be processed further
        by the UAC." Each early dialog counts for itself.
        """
        rseq = read_rseq(response)
        if rseq is None:
            return Delivery.PLAIN
        if early is None or response.to.tag is None:
            return Delivery.STRAY  # no dialog that a PRACK could be sent in
        if early.rseq is not None and rseq != early.rseq + 1:
            return Delivery.STRAY
        early.rseq = rseq
        return Delivery.NEW

    @staticmethod
    def take(session: Session, early: Early, body: bytes) -> tuple[Negotiated | None, bytes]:
        """Run the SDP of a reliable 18x; return what is agreed, and our answer for the PRACK.

        RFC 3261 13.2.1: the answer to the offer of an INVITE is the one in the first reliable
        response with SDP, and the UAC "MUST ignore any session descriptions in subsequent
        responses to the initial INVITE." Other forks answer the same offer for themselves.
        """
        if session.offer_answer is None or early.offer_answer is not None:
            return None, b""
        machine = session.offer_answer.fork()
        if machine.pending:
            result = machine.receive_answer(body)
            agreed, answer = (None if isinstance(result, Rejected) else result), b""
        else:
            agreed, answer = run_offer(machine, body)
        if agreed is not None:
            early.offer_answer = machine
        return agreed, answer

    def acknowledge(
        self, session: Session, early: Early, response: Response, answer: bytes, now: float
    ) -> None:
        """Send the PRACK of a reliable 18x in its early dialog.

        RFC 3262 7.2: RAck has the RSeq, then number and method of the CSeq of the response.
        """
        fields = [("RAck", f"{early.rseq} {response.cseq.number} {response.cseq.method}")]
        if answer:
            fields.append(SDP)
        self.core.send(
            session,
            "PRACK",
            Purpose.PRACK,
            now,
            headers=fields,
            body=answer,
            dialog=early.dialog,
        )

    def on_response(
        self, session: Session, client: Client, response: Response, flow: Flow, now: float
    ) -> None:
        """Take the final response to a PRACK: a challenge is met, anything else is no news.

        A PRACK that was refused or not answered ends nothing by itself: the INVITE goes on,
        and the far end gives it up when it has to.
        """
        tag = client.machine.request.to.tag or ""
        early = session.early.get(tag)
        dialog = session.dialog if early is None else early.dialog
        if dialog is not None and dialog.remote_tag == tag:
            self.core.send_again(session, client, response, flow, now, dialog=dialog)

"""Our own requests in a confirmed dialog: re-INVITE, UPDATE with an offer, the OPTIONS probe.

RFC 3261 12.2.1.2, 14.1; RFC 3311 5.1.
"""

from __future__ import annotations

from bridge.sip.core import SDP, UserAgentCore, capability_fields
from bridge.sip.delivery import Errand, Letter, Purpose
from bridge.sip.events import EndCause, Ended, Probed, Reoffered
from bridge.sip.flow import Flow
from bridge.sip.headers import parse_retry_after
from bridge.sip.message import Headers, Request, Response
from bridge.sip.parameters import ASKING
from bridge.sip.records import Client
from bridge.sip.session import OfferMethod, Phase, Reoffer, Role, Session
from bridge.sip.transaction import CREDENTIALS
from sdp.model import Direction

MAX_ATTEMPTS = 10  # of one re-INVITE that meets 491
LONGEST_WAIT = 10  # seconds, RFC 3261 14.2: what the 500 to a re-INVITE may ask for
MISSED_PROBES = 2  # in a row, and the peer is gone (contract 4)


class ReofferCore:
    """Our re-INVITEs and probes."""

    def __init__(self, core: UserAgentCore) -> None:
        self.core = core
        self.layer = core.layer

    # Probe

    def probe(self, session: Session, now: float) -> None:
        """Ask whether the peer still knows the dialog, unless a timer does; one at a time."""
        if session.timer.running:
            return  # contract 4: the refreshes tell
        if session.phase is Phase.CONFIRMED and not session.probing:
            session.probing = True
            self.core.send(session, "OPTIONS", Purpose.PROBE, now)

    def on_probed(self, session: Session, status: int, now: float) -> None:
        """Take the final response to a probe; 408 also stands for none at all."""
        session.probing = False
        if session.phase is not Phase.CONFIRMED:
            return
        if status == 481:
            self._gone(session, status)
            return
        alive = status != 408
        session.missed_probes = 0 if alive else session.missed_probes + 1
        self.core.pass_up(session, Probed(session=session.id, alive=alive))
        if session.missed_probes >= MISSED_PROBES:
            self.core.end_with_bye(session, EndCause.PEER_GONE, None, now)

    def on_probe_answered(
        self, session: Session, client: Client, response: Response, flow: Flow, now: float
    ) -> None:
        """Take the final response to a probe; of a challenge, the one after it."""
        session.touch(flow)
        asks = session.phase is Phase.CONFIRMED
        if not (asks and self.core.send_again(session, client, response, flow, now)):
            self.on_probed(session, response.status, now)

    def _gone(self, session: Session, status: int) -> None:
        """End without BYE: a dialog that is unknown there cannot be ended there."""
        event = Ended(session=session.id, cause=EndCause.PEER_GONE, status=status, q850=None)
        self.core.end(session, event)

    # re-INVITE

    def reoffer(
        self,
        session: Session,
        direction: Direction,
        now: float,
        method: OfferMethod = "INVITE",
    ) -> None:
        """Offer *direction*; a newer wish replaces one that waits. `Reoffered` follows.

        By UPDATE only where the peer allows it.
        """
        if session.phase is not Phase.CONFIRMED or session.offer_answer is None:
            self.core.pass_up(session, Reoffered(session=session.id, ok=False))
            return
        if session.quiet:
            return
        if session.reoffer is not None and session.reoffer.again_at is None:
            session.reoffer.direction = direction
            session.reoffer.stale = True
            session.reoffer.refresh = False
            session.reoffer.method = method
            return
        session.reoffer = Reoffer(direction=direction, method=method)
        self.send(session, now)

    def refresh(self, session: Session, now: float) -> None:
        """Send a re-INVITE for the session timer's sake alone; no event follows.

        RFC 4028 7.4: "the offer MUST indicate that it has not changed. In the case of SDP,
        this is accomplished by including the same value for the origin field".
        """
        if session.offer_answer is not None:
            session.reoffer = Reoffer(direction=session.offer_answer.wanted, refresh=True)
            self.send(session, now)

    def send(self, session: Session, now: float) -> None:
        """Send the re-INVITE that waits, if no other INVITE is in progress (14.1)."""
        reoffer, offer_answer = session.reoffer, session.offer_answer
        if reoffer is None or offer_answer is None or session.phase is not Phase.CONFIRMED:
            session.reoffer = None
            return
        if session.unacked is not None:
            self._later(session, reoffer, now)
            return
        reoffer.again_at = None
        reoffer.stale = False
        direction = reoffer.direction
        body = offer_answer.repeat() if reoffer.refresh else offer_answer.offer(direction)
        self.core.schedule(session)
        capabilities = capability_fields(ASKING, refer=session.refer_in)
        fields = [*capabilities, *session.timer.fields(), SDP]
        method = reoffer.method if session.timer.updates else "INVITE"
        self.core.send(session, method, Purpose.REINVITE, now, headers=fields, body=body)

    def _later(
        self, session: Session, reoffer: Reoffer, now: float, wait: float | None = None
    ) -> None:
        """Wait *wait* seconds, else as RFC 3261 14.1 says, in steps of 10 ms.

        "If the UAC is the owner of the Call-ID of the dialog ID (meaning it generated the
        value), T has a randomly chosen value between 2.1 and 4 seconds in units of 10 ms.
        If the UAC is not the owner of the Call-ID [...], between 0 and 2 seconds".
        """
        reoffer.attempts += 1
        if reoffer.attempts > MAX_ATTEMPTS:
            session.timer.failed(now)
            self._settled(session, now, ok=False)
        elif wait is not None:
            reoffer.again_at = now + wait
        else:
            reoffer.again_at = now + self.back_off(session)
        self.core.schedule(session)

    def back_off(self, session: Session) -> float:
        """Return the seconds to wait after a 491 (RFC 3261 14.1)."""
        if session.role is Role.CALLER:
            return 2.1 + self.core.draw(191) / 100
        return self.core.draw(201) / 100

    def on_response(
        self, session: Session | None, client: Client, response: Response, flow: Flow, now: float
    ) -> None:
        """Take a response to a re-INVITE; the session may be gone already."""
        if response.status < 200:
            return
        update = response.cseq.method == "UPDATE"
        if response.status < 300 and not update:
            if self._acknowledge(session, client, response, flow, now):
                return
        elif response.status < 300 and session is not None:
            self._refreshed(session, response, flow)
        if session is None or session.phase is not Phase.CONFIRMED:
            return
        if response.status < 300:
            session.timer.accepted(response.headers, now)
            self._finish(session, response.sdp, now)
        elif response.status == 481 and not self._refreshes(session):
            self._gone(session, response.status)
        elif response.status == 422 and session.timer.raised(response.headers):
            self.core.send_with(session, client, session.timer.fields(), flow, now)
        elif update and response.status in (405, 501) and session.timer.updates:
            session.timer.updates = False  # whatever their Allow said
            self.send(session, now)
        elif not self.core.send_again(session, client, response, flow, now):
            self.on_refused(session, response.status, now, parse_retry_after(response.headers))

    @staticmethod
    def _refreshes(session: Session) -> bool:
        return session.reoffer is not None and session.reoffer.refresh

    def on_refused(
        self, session: Session, status: int, now: float, retry_after: int | None = None
    ) -> None:
        """RFC 3261 14.1: "if a UAC receives a non-2xx final response to a re-INVITE, the
        session parameters MUST remain unchanged, as if no re-INVITE had been issued." After
        408, also for want of any response, the dialog ends (12.2.1.2).

        A 500 with Retry-After is what 14.2 has a peer say that is not ready for an offer yet.
        """
        if session.phase is not Phase.CONFIRMED or session.offer_answer is None:
            return
        if status in (408, 481):
            # RFC 4028 10 asks for the BYE after a refresh too.
            refreshes = self._refreshes(session)
            cause = EndCause.SESSION_EXPIRED if refreshes else EndCause.PEER_GONE
            self.core.end_with_bye(session, cause, status, now)
            return
        session.offer_answer.rollback()
        reoffer = session.reoffer
        if status == 491 and reoffer is not None:
            self._later(session, reoffer, now)
        elif status == 500 and reoffer is not None and _is_soon(retry_after):
            self._later(session, reoffer, now, retry_after)
        else:
            session.timer.failed(now, retry_after)
            self._settled(session, now, ok=False)

    def _finish(self, session: Session, body: bytes | None, now: float) -> None:
        taken = self.core.take_answer(session, body)
        self._settled(session, now, ok=taken)

    def _settled(self, session: Session, now: float, *, ok: bool) -> None:
        """The re-INVITE is done with: tell, or send the wish that came up meanwhile."""
        reoffer, session.reoffer = session.reoffer, None
        if reoffer is not None and reoffer.stale:
            self.reoffer(session, reoffer.direction, now, reoffer.method)
        elif reoffer is None or not reoffer.refresh:
            self.core.pass_up(session, Reoffered(session=session.id, ok=ok))
        self.core.schedule(session)

    @staticmethod
    def _refreshed(session: Session, response: Response, flow: Flow) -> None:
        session.touch(flow)
        session.missed_probes = 0
        if session.dialog is not None:
            session.dialog.refresh(response)

    def _acknowledge(
        self, session: Session | None, client: Client, response: Response, flow: Flow, now: float
    ) -> bool:
        """Acknowledge a 2xx; tell whether that was all there was to do."""
        cseq = client.machine.request.cseq.number
        tag = "" if response.to.tag is None else response.to.tag
        if tag in client.acks:
            self.layer.acknowledge_again(client, tag, flow, now)
            return True
        if client.acks:
            return True  # a request in a dialog has one answer; another tag is no fork of it
        if session is None or session.dialog is None:
            letter = Letter(
                request=_ack_of(client.letter.request, cseq),
                errand=Errand(Purpose.ACK, client.letter.errand.session),
                trunk=client.letter.trunk,
            )
            self.layer.acknowledge(client, tag, letter, self.layer.ways_of(client), now)
            return True
        self._refreshed(session, response, flow)
        self.core.acknowledge(client, session, session.dialog, tag, cseq, now)
        return False


def _is_soon(retry_after: int | None) -> bool:
    return retry_after is not None and retry_after <= LONGEST_WAIT


def _ack_of(invite: Request, cseq: int) -> Request:
    """Return the ACK of a 2xx to a re-INVITE whose session is gone."""
    headers: Headers = invite.headers.copied("Route", "Max-Forwards", "From", "To", "Call-ID")
    headers.add("CSeq", f"{cseq} ACK")
    headers.extend(invite.headers.copied(*CREDENTIALS))
    return Request("ACK", invite.uri, headers)

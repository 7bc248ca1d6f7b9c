"""Transfer: our REFER in a call's dialog, and the NOTIFYs that tell of its progress.

RFC 3515; RFC 5589 (blind, and attended with Replaces); RFC 3891, 3892, 3420, 4488; of RFC
6665 what the implicit subscription needs.
"""

from __future__ import annotations

from urllib.parse import quote

from bridge.sip.core import UserAgentCore, capability_fields
from bridge.sip.delivery import Purpose
from bridge.sip.dialog import Dialog, DialogId
from bridge.sip.events import ReferAnswered, ReferProgressed
from bridge.sip.flow import Flow
from bridge.sip.grammar import LWS, ParseError
from bridge.sip.headers import MAX_CSEQ, parse_name_addr
from bridge.sip.message import Request, Response
from bridge.sip.records import Client, Server
from bridge.sip.referral import LONGEST_SILENCE, TOLD_LIMIT, Referral
from bridge.sip.reinvite import ReofferCore
from bridge.sip.screening import Refusal
from bridge.sip.session import Phase, Session
from bridge.sip.sipfrag import REFER_EVENT, SIPFRAG, Notice, event_of, is_fragment, read_notice
from bridge.sip.uri import SipUri, TelUri, parse_uri

ALLOW_EVENTS = ("Allow-Events", REFER_EVENT)
OUTLIVED_KEPT = 256  # dialogs
NOTHING_MORE = 202  # told when the far end will not tell how the transfer goes
_HEADER_SAFE = "[]/?:+$-_.!~*'()"  # RFC 3261 25.1, hvalue


class ReferCore:
    """Our REFERs, and what is notified of them."""

    def __init__(self, core: UserAgentCore, reoffers: ReofferCore) -> None:
        self.core = core
        self.reoffers = reoffers
        self.outlived: dict[DialogId, float] = {}  # until when, the oldest first

    # The REFER

    def refer(self, session: Session, target: str, replaces: Session | None, now: float) -> None:
        """Ask the far end to call *target*, in place of the call *replaces* if there is one.

        `ReferAnswered` follows, unless the session ends; then `ReferProgressed` until it
        says that it is over. ParseError when *target* is no URI that can be called.
        """
        refer_to = write_refer_to(target, None if replaces is None else replaces.dialog)
        pending = session.referral is not None and not session.referral.over
        dialog = session.dialog
        if session.phase is not Phase.CONFIRMED or dialog is None or pending:
            self._answer(session, 491 if pending else 481)
            return
        fields = [
            ("Refer-To", refer_to),
            ("Referred-By", write_referred_by(dialog)),
            *capability_fields(refer=session.refer_in),
        ]
        number = min(dialog.local_cseq + 1, MAX_CSEQ)
        session.referral = Referral(first=number, cseq=number)
        self.core.send(session, "REFER", Purpose.REFER, now, headers=fields)
        self.core.schedule(session)

    def on_response(
        self, session: Session, client: Client, response: Response, flow: Flow, now: float
    ) -> None:
        """Take a response to a REFER."""
        if response.status < 200:
            return
        session.touch(flow)
        session.missed_probes = 0
        referral, dialog = session.referral, session.dialog
        number = client.machine.request.cseq.number
        if referral is None or dialog is None or number != referral.cseq:
            return  # a NOTIFY has told everything already
        if session.phase is not Phase.CONFIRMED:
            return
        if self.core.send_again(session, client, response, flow, now):
            referral.cseq = dialog.local_cseq
        elif response.status >= 300:
            self.on_refused(session, response.status, now)
        else:
            # RFC 3515 2.2 makes REFER a target refresh request (RFC 3261 12.2.1.2).
            dialog.refresh(response)
            self._accepted(session, referral, response, now)

    def _accepted(
        self, session: Session, referral: Referral, response: Response, now: float
    ) -> None:
        referral.accepted = True
        self._answer(session, response.status)
        if _no_subscription(response):
            # RFC 4488 4: "Refer-Sub: false" in the 2xx: no NOTIFY will come.
            self._tell(session, referral, NOTHING_MORE, over=True)
            session.referral = None
        elif referral.until is None:
            # RFC 6665 4.1.2.4, Timer N: the first NOTIFY comes within 64*T1.
            referral.until = now + self.core.config.timers.patience
        self.core.schedule(session)

    def on_refused(self, session: Session, status: int, now: float) -> None:
        """The REFER was refused, or not answered (408), or could not be sent (503).

        The call is not ended by that (docs/rfc-status.md): a 481 or 408 to a REFER often
        means that there is no transfer there. Whether the dialog is, an OPTIONS tells.
        """
        referral = session.referral
        if referral is None or session.phase is not Phase.CONFIRMED:
            return
        if referral.accepted:
            # NOTIFYs came, so it was accepted, whatever became of the response.
            if referral.until is None:
                referral.until = now + self.core.config.timers.patience
                self.core.schedule(session)
            return
        session.referral = None
        self._answer(session, status)
        if status in (408, 481):
            self.reoffers.probe(session, now)

    def _answer(self, session: Session, status: int) -> None:
        self.core.pass_up(session, ReferAnswered(session=session.id, status=status))

    # NOTIFY

    def on_notify(self, session: Session, server: Server, now: float) -> None:
        """Take a NOTIFY in the dialog; one that we have not asked for is refused."""
        request = server.request
        package, event_id = event_of(request)
        referral = session.referral
        if package not in (REFER_EVENT, ""):
            # RFC 6665 4.1.3: "If [...] the event package designated in the Event header field
            # of the NOTIFY request is not supported, the subscriber will respond with a 489".
            self.core.respond(server, 489, now, headers=[ALLOW_EVENTS])
        elif not package or referral is None or not referral.is_meant(event_id):
            # 4.1.3: "NOTIFY requests that do not match a subscription are answered 481".
            self.core.respond(server, 481, now)
        elif not is_fragment(request):
            self.core.respond(server, 415, now, headers=[("Accept", SIPFRAG)])
        else:
            self.core.respond(server, 200, now)
            if session.dialog is not None:
                session.dialog.refresh(request)
            self._notified(session, referral, read_notice(request), now)

    def _notified(self, session: Session, referral: Referral, notice: Notice, now: float) -> None:
        # RFC 3515 2.4.4: it may come before the answer to the REFER, which it implies.
        referral.accepted = True
        status = notice.status
        if not referral.over:
            if status is not None and status >= 200:
                self._tell(session, referral, status, over=True)
            elif notice.terminated:
                self._tell(session, referral, None, over=True)
            elif status is not None and status != referral.status:
                self._tell(session, referral, status, over=False)
        if notice.terminated:
            session.referral = None
        else:
            patience = self.core.config.timers.patience
            left = LONGEST_SILENCE if notice.expires is None else float(notice.expires)
            referral.until = now + min(max(left, patience), LONGEST_SILENCE)
        self.core.schedule(session)

    def _tell(
        self, session: Session, referral: Referral, status: int | None, *, over: bool
    ) -> None:
        """Pass progress up; a flood of it ends at `TOLD_LIMIT`, the last word never does."""
        if not over and referral.told >= TOLD_LIMIT:
            return
        referral.told += 1
        referral.over = over
        if status is not None:
            referral.status = status
        self.core.pass_up(session, ReferProgressed(session=session.id, status=status, over=over))

    def outlive(self, session: Session, now: float) -> None:
        """Note that their BYE came before the last NOTIFY.

        RFC 5057 4.1: a BYE ends the session, not the subscription in the same dialog.
        """
        dialog = session.dialog
        if session.referral is None or dialog is None:
            return
        self.outlived[dialog.id] = now + LONGEST_SILENCE
        if len(self.outlived) > OUTLIVED_KEPT:
            del self.outlived[next(iter(self.outlived))]

    def is_late(self, request: Request, now: float) -> bool:
        """Whether a NOTIFY without a dialog is one of a transfer that has ended its call."""
        if request.method != "NOTIFY" or event_of(request)[0] != REFER_EVENT:
            return False
        dialog = (request.call_id, request.to.tag or "", request.from_.tag or "")
        late = self.outlived.get(dialog, now) > now
        if late and read_notice(request).terminated:
            del self.outlived[dialog]
        return late

    def snapshot(self, shift: float) -> tuple[tuple[DialogId, float], ...]:
        """Write down what outlives its call; *shift* is wall time minus ours."""
        return tuple((dialog, until + shift) for dialog, until in self.outlived.items())

    def restore(self, kept: tuple[tuple[DialogId, float], ...], shift: float) -> None:
        """Take back what `snapshot` gave; *shift* is our time minus wall time."""
        self.outlived = {dialog: until + shift for dialog, until in kept}

    def on_due(self, session: Session, referral: Referral) -> None:
        """The subscription has run out: nothing more will be told."""
        if not referral.over:
            self._tell(session, referral, None, over=True)
        session.referral = None


def write_refer_to(target: str, replaced: Dialog | None) -> str:
    """Return the value of Refer-To.

    With *replaced*, a dialog of ours with the target, whoever is referred takes that over
    (RFC 3891 3): it calls the target's Contact (RFC 5589 7.2), and to-tag is the target's
    own tag. Raises ParseError.
    """
    uri = parse_uri(target if replaced is None else replaced.remote_target)
    if isinstance(uri, TelUri) and replaced is None:
        return f"<{uri}>"
    if not isinstance(uri, SipUri) or uri.headers:
        raise ParseError("Refer-To is no URI that can be called")
    if replaced is None:
        return f"<{uri}>"
    # RFC 3891 6.1: "a tag parameter with a value of zero" stands for none (RFC 2543).
    to_tag, from_tag = replaced.remote_tag or "0", replaced.local_tag or "0"
    value = f"{replaced.call_id};to-tag={to_tag};from-tag={from_tag}"
    return f"<{uri}?Replaces={quote(value, safe=_HEADER_SAFE)}>"


def write_referred_by(dialog: Dialog) -> str:
    """Return who refers: we, as the dialog knows us (RFC 3892 2.1)."""
    return f"<{parse_name_addr(dialog.local).uri}>"


def _no_subscription(response: Response) -> bool:
    value = (response.headers.get("Refer-Sub") or "").partition(";")[0]
    return value.strip(LWS).lower() == "false"


def stray_notify(request: Request) -> Refusal:
    """Return how a NOTIFY outside any dialog is refused: no subscription of ours is there."""
    package, _ = event_of(request)
    return Refusal(481) if package in (REFER_EVENT, "") else Refusal(489, (ALLOW_EVENTS,))

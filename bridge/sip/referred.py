"""Being referred: a REFER of the far end in a call, and our NOTIFYs of what came of it.

Only where `Endpoint.allow_refer` has allowed it; elsewhere 603. The call layer decides whom
we call, calls, and tells how that goes. RFC 3515 2.4; RFC 3420; RFC 4488; RFC 6665 4.2.
"""

from __future__ import annotations

from bridge.sip.core import UserAgentCore
from bridge.sip.delivery import Purpose
from bridge.sip.events import ReferAsked
from bridge.sip.flow import Flow
from bridge.sip.grammar import LWS, ParseError
from bridge.sip.headers import parse_name_addr
from bridge.sip.message import Response
from bridge.sip.records import Client, Server
from bridge.sip.referral import Referred
from bridge.sip.registry import REASON_PHRASES
from bridge.sip.session import Phase, Session
from bridge.sip.sipfrag import REFER_EVENT, SIPFRAG
from bridge.sip.uri import OtherUri, SipUri, TelUri

ANSWER_WITHIN = 5.0  # seconds for the call layer; then 603
LIFETIME = 300.0  # seconds for the new call to be answered or refused
DECLINED = 603


class ReferredCore:
    """Their REFERs, one at a time in each call."""

    def __init__(self, core: UserAgentCore) -> None:
        self.core = core

    def on_refer(self, session: Session, server: Server, now: float) -> None:
        """Take a REFER in the dialog; `answer` follows, or we decline it ourselves."""
        if not session.refer_in or session.phase is not Phase.CONFIRMED:
            self.core.respond(server, DECLINED, now)
        elif session.referred is not None and session.referred.status < 200:
            self.core.respond(server, 491, now)
        else:
            self._ask(session, server, now)

    def _ask(self, session: Session, server: Server, now: float) -> None:
        request = server.request
        # RFC 3515 2.4.2: "An agent responding to a REFER method MUST return a 400 (Bad
        # Request) if the request contained zero or more than one Refer-To header field
        # values."
        found = request.headers.values("Refer-To")
        uri = _target(found[0]) if len(found) == 1 else None
        if uri is None:
            self.core.respond(server, 400, now)
            return
        refer_sub = (request.headers.get("Refer-Sub") or "").partition(";")[0]
        session.referred = Referred(
            server=server.key,
            cseq=request.cseq.number,
            notifies=refer_sub.strip(LWS).lower() != "false",
            until=now + ANSWER_WITHIN,
        )
        # Headers in the URI are for the INVITE (Replaces: an attended transfer).
        plain = not (isinstance(uri, SipUri) and uri.headers)
        event = ReferAsked(session=session.id, target=str(uri), plain=plain)
        self.core.pass_up(session, event)
        self.core.schedule(session)

    def answer(self, session: Session, status: int, now: float) -> None:
        """Answer the REFER that waits: 202, or a refusal."""
        referred = session.referred
        if referred is None or referred.server is None:
            return
        server = self.core.layer.servers.get(referred.server)
        referred.server = None
        refused = status >= 300
        if server is not None:
            fields = [] if refused else self.core.dialog_fields(session, server.flow)
            if not refused and not referred.notifies:
                fields.append(("Refer-Sub", "false"))  # RFC 4488 4: granted
            self.core.respond(server, status, now, headers=fields)
        if refused or not referred.notifies:
            session.referred = None
        else:
            referred.until = now + LIFETIME
            # RFC 3515 2.4.4: "MUST [...] send a NOTIFY request immediately".
            self.tell(session, 100, now)
        self.core.schedule(session)

    def tell(self, session: Session, status: int, now: float) -> None:
        """Notify how far the new call is; 200 and above is the last word."""
        referred = session.referred
        waiting = referred is None or referred.server is not None
        if referred is None or waiting or session.phase is not Phase.CONFIRMED:
            return
        if referred.status >= 200 or status == referred.status:
            return
        referred.status = status
        if referred.sending:
            referred.unsent = True  # one NOTIFY at a time: over UDP they could overtake
        else:
            self._notify(session, referred, now)

    def _notify(self, session: Session, referred: Referred, now: float) -> None:
        status = referred.status
        left = max(1, round(referred.until - now))
        over = status >= 200
        state = "terminated;reason=noresource" if over else f"active;expires={left}"
        phrase = REASON_PHRASES.get(status, "Unknown")
        referred.sending, referred.unsent = True, False
        fields = [
            ("Event", f"{REFER_EVENT};id={referred.cseq}"),
            ("Subscription-State", state),
            ("Content-Type", f"{SIPFRAG};version=2.0"),
        ]
        body = f"SIP/2.0 {status} {phrase}\r\n".encode("ascii")
        self.core.send(session, "NOTIFY", Purpose.NOTIFY, now, headers=fields, body=body)

    def on_response(
        self, session: Session, client: Client, response: Response, flow: Flow, now: float
    ) -> None:
        """Take a response to a NOTIFY; one that is refused ends the subscription only."""
        referred = session.referred
        if response.status < 200 or referred is None:
            return
        session.touch(flow)
        session.missed_probes = 0
        if session.phase is not Phase.CONFIRMED:
            return
        if self.core.send_again(session, client, response, flow, now):
            return
        if response.status >= 300:
            session.referred = None
        else:
            referred.sending = False
            if referred.unsent:
                self._notify(session, referred, now)
            elif referred.status >= 200:
                session.referred = None
        self.core.schedule(session)

    def on_failed(self, session: Session) -> None:
        """A NOTIFY was not answered, or could not be sent: nobody listens."""
        session.referred = None
        self.core.schedule(session)

    def on_due(self, session: Session, referred: Referred, now: float) -> None:
        """Nobody has answered the REFER, or the new call comes to no end."""
        if referred.server is not None:
            self.answer(session, DECLINED, now)
        elif referred.sending or referred.status >= 200:
            session.referred = None
        else:
            self.tell(session, 408, now)
            referred.until = now + self.core.config.timers.patience


def _target(text: str) -> SipUri | TelUri | OtherUri | None:
    try:
        return parse_name_addr(text).uri
    except ParseError:
        return None

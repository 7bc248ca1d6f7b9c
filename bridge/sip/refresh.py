"""Keeping a session alive: our UPDATE, the refresh that is due, the end of what nobody refreshes.

RFC 4028 7.4, 10; RFC 3311 5.1, 5.3.
"""

from __future__ import annotations

from typing import assert_never

from bridge.sip.core import UserAgentCore, capability_fields
from bridge.sip.delivery import Purpose
from bridge.sip.events import EndCause
from bridge.sip.flow import Flow
from bridge.sip.headers import parse_retry_after
from bridge.sip.message import Headers, Response
from bridge.sip.records import Client
from bridge.sip.reinvite import ReofferCore
from bridge.sip.session import Phase, Session
from bridge.sip.session_timer import RETRY, Due

NOTHING = Headers()


class RefreshCore:
    """Session timers at work, and UPDATE without an offer."""

    def __init__(self, core: UserAgentCore, reoffers: ReofferCore) -> None:
        self.core = core
        self.reoffers = reoffers

    def on_due(self, session: Session, now: float) -> None:
        """Do what the session's timer wants."""
        due = session.timer.due(now)
        match due:
            case None:
                pass
            case Due.EXPIRED if session.phase is Phase.CONFIRMED:
                self._end(session, None, now)
            case Due.EXPIRED:
                # RFC 3261 15: no BYE before the ACK of our 2xx; without one the session ends too.
                session.timer.give_up_at = now + RETRY
            case Due.REFRESH:
                self._refresh(session, now)
            case _:
                assert_never(due)

    def _refresh(self, session: Session, now: float) -> None:
        """Refresh, unless a re-INVITE of either side is under way: that refreshes as well."""
        timer = session.timer
        inviting = session.reoffer is not None or session.unacked is not None
        if session.phase is not Phase.CONFIRMED or session.quiet or inviting or timer.refreshing:
            timer.refresh_in(RETRY, now)
        elif timer.updates:
            # RFC 4028 7.4: "it is RECOMMENDED that the UPDATE request not contain an offer".
            self.update(session, now)
        else:
            self.reoffers.refresh(session, now)

    def update(self, session: Session, now: float) -> None:
        """Send an UPDATE without an offer: it refreshes timer and remote target (RFC 3311)."""
        if session.phase is not Phase.CONFIRMED or session.timer.refreshing:
            return
        session.timer.refreshing = True
        fields = [*capability_fields(), *session.timer.fields()]
        self.core.send(session, "UPDATE", Purpose.UPDATE, now, headers=fields)

    def on_response(
        self, session: Session | None, client: Client, response: Response, flow: Flow, now: float
    ) -> None:
        """Take a response to our UPDATE; the session may be gone or going already."""
        if session is None or session.dialog is None or response.status < 200:
            return
        session.touch(flow)
        if session.phase is not Phase.CONFIRMED:
            return
        if response.status < 300:
            session.missed_probes = 0
            session.dialog.refresh(response)
            session.timer.refreshing = False
            session.timer.accepted(response.headers, now)
            self.core.schedule(session)
        elif not self.core.send_again(session, client, response, flow, now):
            self.on_refused(session, response.status, now, response.headers)

    def on_refused(
        self, session: Session, status: int, now: float, headers: Headers = NOTHING
    ) -> None:
        """Take a refusal; 408 also stands for no answer, 503 for no way to the peer."""
        timer = session.timer
        timer.refreshing = False
        if session.phase is not Phase.CONFIRMED:
            return
        if status in (408, 481):
            # RFC 4028 10: "If the session refresh request transaction times out or generates
            # a 408 or 481 response, then the UAC sends a BYE request".
            self._end(session, status, now)
        elif status == 422 and timer.raised(headers):
            self.update(session, now)
        elif status == 491:
            timer.glare(self.reoffers.back_off(session), now)
        elif status in (405, 501):
            timer.updates = False  # whatever their Allow said
            timer.refresh_in(0, now)
        else:
            timer.failed(now, parse_retry_after(headers))
        self.core.schedule(session)

    def _end(self, session: Session, status: int | None, now: float) -> None:
        running = session.timer.running
        cause = EndCause.SESSION_EXPIRED if running else EndCause.PEER_GONE
        self.core.end_with_bye(session, cause, status, now)

"""Keeping a session alive: our UPDATE without an offer, and the end of what nobody refreshes.

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
from bridge.sip.parameters import ASKING
from bridge.sip.records import Client
from bridge.sip.reinvite import ReofferCore
from bridge.sip.session import Phase, Role, Session
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
        else:
            self.update(session, now)

    def update(self, session: Session, now: float) -> None:
        """Refresh session and remote target, by UPDATE where the peer allows it (RFC 3311).

        Else by re-INVITE, if none is on its way; in early dialogs by UPDATE alone.
        """
        timer = session.timer
        if session.phase is Phase.INVITED:
            self._update_early(session, now)
        elif session.phase is not Phase.CONFIRMED or timer.refreshing or session.quiet:
            pass
        elif timer.updates:
            timer.refreshing = True
            # RFC 4028 7.4: "it is RECOMMENDED that the UPDATE request not contain an offer".
            fields = [*capability_fields(ASKING, refer=session.refer_in), *timer.fields()]
            self.core.send(session, "UPDATE", Purpose.UPDATE, now, headers=fields)
        elif session.reoffer is None:
            self.reoffers.refresh(session, now)

    def _update_early(self, session: Session, now: float) -> None:
        # RFC 3311 5.1: a dialog is early for both once a response with a tag was sent.
        known = session.role is Role.CALLER or session.ring_again_at is not None
        if not known or not session.timer.updates:
            return
        fields = capability_fields(ASKING, refer=session.refer_in)
        for dialog in session.dialogs():
            self.core.send(session, "UPDATE", Purpose.UPDATE, now, headers=fields, dialog=dialog)

    def _early_response(
        self, session: Session, client: Client, response: Response, flow: Flow, now: float
    ) -> None:
        tag = client.letter.request.to.tag or ""
        dialog = next((d for d in session.dialogs() if d.remote_tag == tag), None)
        if dialog is None:
            return
        if response.status < 300:
            dialog.refresh(response)
        else:
            self.core.send_again(session, client, response, flow, now, dialog=dialog)

    def on_response(
        self, session: Session | None, client: Client, response: Response, flow: Flow, now: float
    ) -> None:
        """Take a response to our UPDATE; the session may be gone or going already."""
        if session is None or response.status < 200:
            return
        session.touch(flow)
        if session.phase is Phase.INVITED:
            self._early_response(session, client, response, flow, now)
        elif session.phase is not Phase.CONFIRMED or session.dialog is None:
            pass
        elif response.status < 300:
            session.missed_probes = 0
            session.dialog.refresh(response)
            self._accepted(session, response, now)
        elif not self.core.send_again(session, client, response, flow, now):
            self.on_refused(session, response.status, now, response.headers)

    def _accepted(self, session: Session, response: Response, now: float) -> None:
        if not session.timer.refreshing:
            return  # an early UPDATE, answered late: it asked for nothing
        session.timer.refreshing = False
        session.timer.accepted(response.headers, now)
        self.core.schedule(session)

    def on_refused(
        self, session: Session, status: int, now: float, headers: Headers = NOTHING
    ) -> None:
        """Take a refusal; 408 also stands for no answer, 503 for no way to the peer."""
        timer = session.timer
        asked, timer.refreshing = timer.refreshing, False
        if session.phase is not Phase.CONFIRMED or not asked:
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
            self.update(session, now)
        else:
            timer.failed(now, parse_retry_after(headers))
        self.core.schedule(session)

    def _end(self, session: Session, status: int | None, now: float) -> None:
        running = session.timer.running
        cause = EndCause.SESSION_EXPIRED if running else EndCause.PEER_GONE
        self.core.end_with_bye(session, cause, status, now)

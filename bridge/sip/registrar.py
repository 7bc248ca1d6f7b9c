"""Our registrations: the REGISTER requests of all trunks that want one.

RFC 3261 10.2, 10.2.1 to 10.2.8; RFC 3327 (Path is supported); RFC 3608 (Service-Route).
"""

from __future__ import annotations

from dataclasses import replace

from bridge.sip.authentication import NO_ATTEMPTS, Authentication
from bridge.sip.core import UserAgentCore, WayOut
from bridge.sip.delivery import Errand, Letter, Purpose
from bridge.sip.events import PassUp, RegistrationChanged
from bridge.sip.flow import Flow
from bridge.sip.headers import MAX_CSEQ, parse_name_addr, parse_retry_after
from bridge.sip.message import Headers, Request, Response
from bridge.sip.parameters import ALLOW
from bridge.sip.records import Client
from bridge.sip.registration import Phase, Registration, RegistrationSettings, minimum_expires
from bridge.sip.target import FlowHop, Hop, HostHop
from bridge.sip.transaction import MAX_FORWARDS

# Asking the same again will not help: a wrong account, a wrong number, a move.
_REFUSALS = frozenset((401, 403, 404, 407, 410, 423, 604))
_SHARES = 1 << 16


class RegistrarCore:
    """Keeps every registration alive; one REGISTER at a time for each (RFC 3261 10.2)."""

    def __init__(self, core: UserAgentCore) -> None:
        self.core = core
        self.layer = core.layer
        self.registrations: dict[int, Registration] = {}

    # Commands

    def register(self, settings: RegistrationSettings, now: float) -> None:
        """Register a trunk from now on; `RegistrationChanged` follows, again and again.

        With other settings than before the old binding is removed. ParseError when it
        cannot be written.
        """
        known = self._of(settings.trunk)
        if known is not None and known.settings == settings:
            return
        core = self.core
        registration = Registration(
            number=self.layer.courier.next_id(),
            settings=settings,
            call_id=core.tokens(),
            tag=core.tokens(),
            asks=settings.expires,
            next_at=now,
        )
        if settings.credentials is not None:
            registration.authentication = Authentication(credentials=settings.credentials)
        self._request(registration, settings.expires)  # ParseError now, not later
        registration.cseq = 0
        if known is not None:
            self._remove(known, now)
        self.registrations[registration.number] = registration
        self._send(registration, now)

    def unregister(self, trunk: str, now: float) -> None:
        """Take a registration back; `RegistrationChanged` follows when that is settled."""
        known = self._of(trunk)
        if known is not None:
            self._remove(known, now)

    def move(self, trunk: str, now: float) -> None:
        """Register anew at once: our address has changed."""
        known = self._of(trunk)
        if known is None:
            return
        known.flow = None
        if known.phase is Phase.REGISTERING:
            known.moved = True  # the REGISTER under way may tell our old address
        else:
            self._send(known, now)

    def enter(self, registration: Registration) -> None:
        """Take a registration of an earlier process."""
        self.registrations[registration.number] = registration
        self._publish_way(registration)

    def _of(self, trunk: str) -> Registration | None:
        return next(
            (one for one in self.registrations.values() if one.trunk == trunk and not one.leaving),
            None,
        )

    def _remove(self, registration: Registration, now: float) -> None:
        registration.leaving = True
        self._publish_way(registration)
        if registration.phase is Phase.REGISTERING:
            # RFC 3261 10.2: "UAs MUST NOT send a new registration [...] until they have received
            # a final response from the registrar for the previous one or the previous REGISTER
            # request has timed out."
            return
        if registration.is_bound(now):
            registration.phase = Phase.REMOVING
            self._send(registration, now)
        else:
            self._drop(registration, now, None)

    def _drop(self, registration: Registration, now: float, status: int | None) -> None:
        self.registrations.pop(registration.number, None)
        self.layer.agenda.set(("registration", registration.number), None)
        registration.bound_until = None
        self._tell(registration, now, status, "removed")

    # Sending

    def due(self, number: int, now: float) -> None:
        """Send the REGISTER that is due."""
        registration = self.registrations.get(number)
        if registration is not None and registration.phase in (Phase.WAITING, Phase.REGISTERED):
            self._send(registration, now)

    def _send(self, registration: Registration, now: float) -> None:
        if registration.phase is not Phase.REMOVING:
            registration.phase = Phase.REGISTERING
        removing = registration.phase is Phase.REMOVING
        request = self._request(registration, 0 if removing else registration.asks)
        attempts = NO_ATTEMPTS
        if registration.authentication is not None:
            tried = registration.authentication.authorize(request)
            attempts = replace(attempts, tried=tried)
        letter = Letter(
            request=request,
            errand=Errand(Purpose.REGISTER, registration.number),
            trunk=registration.trunk,
            contact_user=registration.settings.contact_user,
            attempts=attempts,
        )
        self._schedule(registration)
        self.layer.send(letter, self._hops(registration), now)

    def _hops(self, registration: Registration) -> list[Hop]:
        """The connection it was made by, then any server of the registrar."""
        hop = HostHop(*registration.settings.next_hop, trusted=True)
        flow = registration.flow
        return [FlowHop(flow), hop] if flow is not None else [hop]

    def _request(self, registration: Registration, expires: int) -> Request:
        registration.cseq = min(registration.cseq + 1, MAX_CSEQ)
        settings = registration.settings
        record = parse_name_addr(settings.address_of_record)
        headers = Headers(
            [
                ("Max-Forwards", MAX_FORWARDS),
                ("From", str(record.with_tag(registration.tag))),
                ("To", settings.address_of_record),
                # RFC 3261 10.2: "All registrations from a UAC SHOULD use the same Call-ID"; "A UA
                # MUST increment the CSeq value by one for each REGISTER request with the same
                # Call-ID."
                ("Call-ID", registration.call_id),
                ("CSeq", f"{registration.cseq} REGISTER"),
                ("Expires", str(expires)),
                ("Allow", ALLOW),
                # RFC 3327 5.1: "the UA SHOULD include the option tag 'path'".
                ("Supported", "path"),
                ("User-Agent", self.core.config.user_agent),
            ]
        )
        return Request("REGISTER", settings.registrar, headers, b"")

    # What the transactions tell

    def on_sent(self, client: Client) -> None:
        """A REGISTER left: its Contact is known now."""
        registration = self.registrations.get(client.letter.errand.session)
        if registration is not None:
            registration.contact = client.machine.request.headers.get("Contact") or ""

    def on_response(self, client: Client, response: Response, now: float) -> None:
        """Take a response to a REGISTER."""
        registration = self.registrations.get(client.letter.errand.session)
        if registration is None or response.status < 200:
            return
        if response.status < 300:
            self._accepted(registration, client, response, now)
        elif not self._tried_again(registration, client, response, now):
            self._failed(registration, response, now)

    def _tried_again(
        self, registration: Registration, client: Client, response: Response, now: float
    ) -> bool:
        """Send what was refused in another way, if there is one."""
        match response.status:
            case 401 | 407:
                return self._again(registration, client, response, now)
            case 423:
                return self._longer(registration, response, now)
            case 503:
                return self.layer.try_next(client, now)
            case _:
                return False

    def on_unanswered(self, number: int, now: float) -> None:
        """Nobody answered, or nobody could be reached."""
        registration = self.registrations.get(number)
        if registration is not None:
            self._failed(registration, None, now)

    def flow_lost(self, flow: Flow, now: float) -> None:
        """Learn that a connection is gone: what was registered by it is registered anew."""
        for registration in list(self.registrations.values()):
            if registration.flow is not None and registration.flow.id == flow.id:
                registration.flow_died(now, self._share())
                self._publish_way(registration)
                self._schedule(registration)

    def _accepted(
        self,
        registration: Registration,
        client: Client,
        response: Response,
        now: float,
    ) -> None:
        if registration.authentication is not None:
            registration.authentication.accepted(response, self.core.tokens)
        if registration.phase is Phase.REMOVING:
            self._drop(registration, now, response.status)
            return
        registration.granted(response, client.flow, now, self._share())
        if registration.moved:
            registration.moved = False
            registration.flow, registration.next_at = None, now
        if not self.layer.courier.is_alive(client.flow):
            registration.flow = None
        if registration.leaving:
            self._remove(registration, now)
            return
        self._publish_way(registration)
        self._schedule(registration)
        self._tell(registration, now, response.status, "registered")

    def _again(
        self, registration: Registration, client: Client, response: Response, now: float
    ) -> bool:
        """Send a challenged REGISTER with credentials; tell whether there were any."""
        known = registration.authentication
        if known is None:
            return False
        attempts = known.challenged(response, client.letter.attempts, self.core.tokens)
        if attempts is None:
            return False
        removing = registration.phase is Phase.REMOVING
        request = self._request(registration, 0 if removing else registration.asks)
        tried = known.authorize(request)
        letter = replace(client.letter, request=request, attempts=replace(attempts, tried=tried))
        letter = replace(letter, contact_user=registration.settings.contact_user)
        self.layer.send(letter, self.layer.ways_of(client), now)
        return True

    def _longer(self, registration: Registration, response: Response, now: float) -> bool:
        """Ask again for as long as the registrar wants; tell whether that is longer.

        RFC 3261 10.2.8: a UA that gets a 423 "MAY retry the registration after making the
        expiration interval of all contact addresses in the REGISTER request equal to or
        greater than the expiration interval within the Min-Expires header field".
        """
        wanted = minimum_expires(response)
        if wanted is None or wanted <= registration.asks or registration.phase is Phase.REMOVING:
            return False
        raised = registration.asks > registration.settings.expires
        registration.asks = wanted
        if raised:
            return False  # one that wants more each time is asked again after a pause
        self._send(registration, now)
        return True

    def _failed(self, registration: Registration, response: Response | None, now: float) -> None:
        status = None if response is None else response.status
        if registration.leaving:
            self._drop(registration, now, status)
            return
        retry_after = None if response is None else parse_retry_after(response.headers)
        refused = status is not None and (status in _REFUSALS or 300 <= status < 400)
        registration.failed(now, self._share(), refused=refused, retry_after=retry_after)
        registration.moved = False  # the next attempt tells where we are then
        self._publish_way(registration)
        self._schedule(registration)
        self._tell(registration, now, status, "no_answer" if status is None else "refused")

    # Telling

    def _tell(self, registration: Registration, now: float, status: int | None, what: str) -> None:
        bound = registration.is_bound(now) and registration.bound_until is not None
        next_at = registration.next_at
        event = RegistrationChanged(
            trunk=registration.trunk,
            registered=bound,
            what=what,
            status=status,
            expires=max(0.0, (registration.bound_until or now) - now) if bound else 0.0,
            again=None if next_at is None or what == "removed" else max(0.0, next_at - now),
        )
        self.layer.courier.outputs.append(PassUp(event=event))

    def _publish_way(self, registration: Registration) -> None:
        """Tell calls of this trunk by which flow and routes they leave."""
        newer = self._of(registration.trunk)
        if newer is not None and newer is not registration:
            return
        ways = self.core.ways_out
        if registration.leaving or registration.bound_until is None:
            ways.pop(registration.trunk, None)
        else:
            ways[registration.trunk] = WayOut(registration.flow, registration.routes)

    def _schedule(self, registration: Registration) -> None:
        key = ("registration", registration.number)
        self.layer.agenda.set(key, registration.next_deadline())

    def _share(self) -> float:
        """A number from 0 to 1, from the injected randomness."""
        return self.core.draw(_SHARES) / _SHARES

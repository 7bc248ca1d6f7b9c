"""One registration of ours with a carrier: its phase, its times, and what an answer means.

Pure decisions; `bridge.sip.registrar` sends. RFC 3261 10.2; RFC 3608; RFC 5626 4.5.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from bridge.sip.authentication import AnswerSnapshot, Authentication
from bridge.sip.digest import Credentials
from bridge.sip.flow import Flow
from bridge.sip.grammar import ParseError
from bridge.sip.headers import NameAddr, parse_contact, parse_route, split_all
from bridge.sip.message import Response
from bridge.sip.uri import SipUri, same_uri

EXPIRES = 3600  # seconds we ask for
MIN_EXPIRES, MAX_EXPIRES = 10, 86_400  # of what a registrar grants or wants
REFRESH = (0.8, 0.9)  # of the granted time
# RFC 5626 4.5: base-time when all flows have failed, max-time.
BASE_TIME, MAX_TIME = 30.0, 1800.0
REFUSED_TIME = 300.0  # after a refusal that asking again will not mend by itself
STEADY = 120.0  # seconds a connection must have lived for its end to be an accident
MAX_ROUTES = 8
MAX_ROUTE = 1024  # characters of one


class Phase(Enum):
    """How far a registration is."""

    WAITING = "waiting"  # not registered; the next attempt is due
    REGISTERING = "registering"  # a REGISTER has no final response yet
    REGISTERED = "registered"
    REMOVING = "removing"  # a REGISTER with Expires 0 has no final response yet


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationSettings:
    """What to register. ``next_hop`` as of an `OutgoingInvite`.

    ``registrar`` is the Request-URI, without a user (RFC 3261 10.2); ``address_of_record``
    a name-addr text for To and From.
    """

    trunk: str
    next_hop: tuple[str, str, int | None]
    registrar: str
    address_of_record: str
    contact_user: str
    credentials: Credentials | None = field(default=None, repr=False)
    expires: int = EXPIRES


@dataclass(slots=True, kw_only=True)
class Registration:
    """State of one registration. Times in seconds on the clock of the endpoint.

    ``asks`` is the Expires of the next REGISTER; ``bound_until`` until when the registrar
    has us, as far as we know; ``since`` when ``flow`` carried the last 200; ``deaths`` of
    young connections in a row. ``leaving``: to be removed as soon as may be. ``moved``: our
    address has changed while an answer is awaited.
    """

    number: int
    settings: RegistrationSettings
    call_id: str
    tag: str
    asks: int
    phase: Phase = Phase.WAITING
    cseq: int = 0
    contact: str = ""
    flow: Flow | None = None
    since: float = 0.0
    bound_until: float | None = None
    next_at: float | None = None
    failures: int = 0
    deaths: int = 0
    routes: tuple[str, ...] = ()
    leaving: bool = False
    moved: bool = False
    authentication: Authentication | None = None

    @property
    def trunk(self) -> str:
        """The trunk it belongs to."""
        return self.settings.trunk

    def is_bound(self, now: float) -> bool:
        """Whether the registrar has us, as far as we know."""
        return self.bound_until is not None and now < self.bound_until

    def next_deadline(self) -> float | None:
        """When something is due; nothing while an answer is awaited."""
        if self.phase in (Phase.REGISTERING, Phase.REMOVING):
            return None
        return self.next_at

    def granted(self, response: Response, flow: Flow, now: float, share: float) -> float:
        """Take a 2xx; return the seconds granted. *share* (0 to 1) places the refresh."""
        seconds = granted_expires(response, self.contact, self.asks)
        self.phase = Phase.REGISTERED
        self.failures = 0
        self.flow, self.since = flow, now
        self.bound_until = now + seconds
        first, last = REFRESH
        self.next_at = now + max(seconds * (first + (last - first) * share), 1.0)
        self.routes = service_routes(response)
        return seconds

    def failed(
        self, now: float, share: float, *, refused: bool, retry_after: float | None
    ) -> float:
        """Take a failure; return the seconds until the next attempt."""
        self.failures += 1
        self.phase = Phase.WAITING
        pause = back_off(self.failures, share)
        if refused:
            pause = max(pause, REFUSED_TIME * (0.5 + 0.5 * share))
        if retry_after is not None:
            pause = max(pause, min(retry_after, MAX_TIME))
        if refused:
            self.bound_until = None
        self.next_at = now + pause
        return pause

    def flow_died(self, now: float, share: float) -> None:
        """Take the end of the connection that the registration was made by.

        At once, but for chance, when it had lived well; a peer that closes every
        connection soon is met with the pauses of RFC 5626 4.5.
        """
        self.flow = None
        if self.phase is not Phase.REGISTERED:
            return
        self.deaths = 0 if now - self.since >= STEADY else self.deaths + 1
        pause = 0.5 + 1.5 * share if self.deaths <= 1 else back_off(self.deaths - 2, share)
        due = now + pause
        self.next_at = due if self.next_at is None else min(self.next_at, due)


def back_off(failures: int, share: float) -> float:
    """Return the seconds to wait after *failures* in a row.

    RFC 5626 4.5: "wait-time upper bound: W = min( max-time, (base-time * (2 ^
    consecutive-failures))) [...] an actual delay [...] a uniform random time between 50 and
    100% of the upper-bound wait time". *share* (0 to 1) is that chance.
    """
    upper = min(MAX_TIME, BASE_TIME * 2.0 ** min(max(failures, 0), 10))
    return upper * (0.5 + 0.5 * share)


def granted_expires(response: Response, contact: str, asked: int) -> float:
    """Return for how many seconds a 2xx binds our *contact*.

    RFC 3261 10.2.4: "The 200 (OK) response [...] contains a list of Contact header field
    values containing all current bindings. The UA compares each contact address to see if
    it created the contact address [...] and updates the expiration time interval". Some
    servers show another address than the one they were given: then by its user, or alone.
    """
    found = _our_binding(response, contact)
    text = None if found is None else found.param("expires")
    for candidate in (text, response.headers.get("Expires")):
        seconds = _seconds(candidate)
        if seconds is not None:
            return float(min(max(seconds, MIN_EXPIRES), MAX_EXPIRES))
    return float(asked)


def minimum_expires(response: Response) -> int | None:
    """Return what a 423 wants at least (RFC 3261 10.2.8), None when that is no use."""
    seconds = _seconds(response.headers.get("Min-Expires"))
    return seconds if seconds is not None and 0 < seconds <= MAX_EXPIRES else None


def service_routes(response: Response) -> tuple[str, ...]:
    """Return the routes that requests outside dialogs are to take.

    RFC 3608 5: "the UA [...] may use the list of URIs as a preloaded Route header field
    value". All of it or nothing: a part would lead elsewhere. Each must be loose ("lr").
    """
    values = split_all(response.headers.all("Service-Route"))
    if len(values) > MAX_ROUTES or any(len(value) > MAX_ROUTE for value in values):
        return ()
    for value in values:
        try:
            uri = parse_route(value).uri
        except ParseError:
            return ()
        if not isinstance(uri, SipUri) or not uri.lr:
            return ()
    return tuple(values)


def _our_binding(response: Response, contact: str) -> NameAddr | None:
    try:
        ours = parse_contact(contact).uri
        theirs = [parse_contact(value) for value in split_all(response.headers.all("Contact"))]
    except ParseError:
        return None
    same = [one for one in theirs if same_uri(one.uri, ours)]
    if not same and isinstance(ours, SipUri):
        same = [one for one in theirs if isinstance(one.uri, SipUri) and one.uri.user == ours.user]
    if same:
        return same[0]
    return theirs[0] if len(theirs) == 1 else None


def _seconds(text: str | None) -> int | None:
    digits = "" if text is None else text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        return None
    return int(digits)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationSnapshot:
    """A `Registration` written down: no password, times as wall time."""

    number: int
    settings: RegistrationSettings
    call_id: str
    tag: str
    asks: int
    phase: str
    cseq: int
    contact: str
    flow: Flow | None
    since: float
    bound_until: float | None
    next_at: float | None
    failures: int
    deaths: int
    routes: tuple[str, ...]
    leaving: bool
    authentication: tuple[AnswerSnapshot, ...]
    moved: bool = False


def write_down(one: Registration, now: float, wall: float) -> RegistrationSnapshot:
    """Return the snapshot of a registration; *wall* is the wall time of *now*."""
    moved = wall - now
    known = one.authentication
    return RegistrationSnapshot(
        number=one.number,
        settings=replace(one.settings, credentials=None),
        call_id=one.call_id,
        tag=one.tag,
        asks=one.asks,
        phase=one.phase.value,
        cseq=one.cseq,
        contact=one.contact,
        flow=one.flow,
        since=one.since + moved,
        bound_until=None if one.bound_until is None else one.bound_until + moved,
        next_at=None if one.next_at is None else one.next_at + moved,
        failures=one.failures,
        deaths=one.deaths,
        routes=one.routes,
        leaving=one.leaving,
        authentication=() if known is None else known.snapshot(),
        moved=one.moved,
    )


def read_back(
    kept: RegistrationSnapshot, credentials: Credentials | None, now: float, wall: float
) -> Registration:
    """Return the registration that *kept* describes."""
    moved = now - wall
    return Registration(
        number=kept.number,
        settings=replace(kept.settings, credentials=credentials),
        call_id=kept.call_id,
        tag=kept.tag,
        asks=kept.asks,
        phase=Phase(kept.phase),
        cseq=kept.cseq,
        contact=kept.contact,
        flow=kept.flow,
        since=kept.since + moved,
        bound_until=None if kept.bound_until is None else kept.bound_until + moved,
        next_at=None if kept.next_at is None else kept.next_at + moved,
        failures=kept.failures,
        deaths=kept.deaths,
        routes=kept.routes,
        leaving=kept.leaving,
        moved=kept.moved,
        authentication=Authentication.restore(credentials, kept.authentication),
    )

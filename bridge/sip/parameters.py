"""What the endpoint is told from outside: settings, an outgoing INVITE, details of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.sip.digest import Credentials
from bridge.sip.message import Request
from bridge.sip.session_timer import MINIMUM
from bridge.sip.transaction import Timers
from sdp.negotiate import OfferAnswer

ALLOWED = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "INFO", "PRACK", "NOTIFY")
"""Every method we implement, and nothing else."""

ALLOW = ", ".join(ALLOWED)
ACCEPT_BODY = "application/sdp, multipart/mixed"
ACCEPT_KEYS = "application/dtmf-relay, application/dtmf"
ACCEPT = f"{ACCEPT_BODY}, {ACCEPT_KEYS}"

RELIABLE = "100rel"

EXTENSIONS: frozenset[str] = frozenset({RELIABLE, "timer"})
"""Option tags we implement: what Require may name and Supported lists."""

SUPPORTED = ", ".join(sorted(EXTENSIONS))

ASKING = ", ".join(sorted(EXTENSIONS - {RELIABLE}))
"""What requests of ours list: not 100rel, over which some peers refuse an INVITE with 488."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """Settings of one endpoint.

    ``advertise`` is the host for Via and Contact, ``""`` the local host of the
    flow. ``listen_ports`` maps a transport to the port for Via and Contact; a
    transport without a listener uses the flow's own port. Over
    ``max_sessions`` a new call is refused with 503 and ``retry_after``
    (seconds); a flow with ``max_flow_transactions`` server transactions gets
    503 for everything new. ``min_session_expires`` is our Min-SE in seconds; RFC 4028
    allows no other value below 90 than those of a test.
    """

    user_agent: str = "trunkbridge"
    advertise: str = ""
    listen_ports: Mapping[str, int] = field(default_factory=dict)
    timers: Timers = field(default_factory=Timers)
    max_sessions: int = 1000
    max_flow_transactions: int = 4096
    retry_after: int = 10
    min_session_expires: int = MINIMUM


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingInvite:
    """A call to make.

    ``next_hop`` is (transport, host, port); without a port the resolver or the
    transport's default decides. ``from_`` and ``to`` are name-addr texts
    without a tag. ``headers`` are added as they are. ``credentials`` answer the
    challenges to every request of the call; without them a 401 or 407 ends it.
    ``proxied``: the next hop is a configured outbound proxy.
    ``reliable``: ``100rel`` is among what we support. ``delayed``: the offer is left to
    the far end, to be answered in our PRACK or ACK.
    ``session_timer`` is the Session-Expires we ask for in seconds, 0 for none.
    ``refer_in``: REFERs of the far end are passed up, and Allow lists REFER.
    """

    trunk: str
    next_hop: tuple[str, str, int | None]
    request_uri: str
    from_: str
    to: str
    headers: tuple[tuple[str, str], ...] = ()
    offer_answer: OfferAnswer
    contact_user: str = ""
    credentials: Credentials | None = None
    proxied: bool = False
    reliable: bool = False
    delayed: bool = False
    session_timer: int = 0
    refer_in: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDetails:
    """What may be told about a session.

    ``request`` is the INVITE that came in, None for a call of ours.
    ``remote_headers`` are those of their INVITE, or of their last response to ours.
    """

    call_id: str
    local_tag: str
    remote_tag: str
    request: Request | None
    trunk: str
    remote_headers: tuple[tuple[str, str], ...]

"""What is on its way to a flow that does not exist yet.

A delivery walks its hops: a living flow, or a host that is resolved and
connected to, address by address. RFC 3263 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from bridge.sip.authentication import NO_ATTEMPTS, Attempts, Authentication
from bridge.sip.matching import TransactionKey
from bridge.sip.message import Request
from bridge.sip.standing import Target
from bridge.sip.target import Hop, HostHop


class Purpose(Enum):
    """Why a request of ours is sent."""

    INVITE = "invite"
    REINVITE = "reinvite"
    ACK = "ack"
    CANCEL = "cancel"
    BYE = "bye"
    PRACK = "prack"
    PROBE = "probe"
    REFER = "refer"
    NOTIFY = "notify"
    UPDATE = "update"
    OPTIONS = "options"  # outside a dialog; the errand's session is the question's number
    REGISTER = "register"  # the errand's session is the registration's number


OUTSIDE = frozenset((Purpose.INVITE, Purpose.OPTIONS, Purpose.REGISTER))
"""Requests outside dialogs: any target of the next hop may take them."""


@dataclass(frozen=True, slots=True)
class Errand:
    """Why a request is sent, and for which session (which may be gone by now)."""

    purpose: Purpose
    session: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A request without Via and Contact: both are known only with the flow.

    ``contact_user`` is None where no Contact belongs. ``keeps_via``: the Via
    is there already and stays (CANCEL). ``attempts``: of a request that was challenged.
    ``authentication``: of its call, for a fork that answers when the session is gone.
    ``tried``: targets that have refused it or not answered.
    """

    request: Request
    errand: Errand
    trunk: str
    contact_user: str | None = None
    keeps_via: bool = False
    attempts: Attempts = NO_ATTEMPTS
    authentication: Authentication | None = None
    tried: frozenset[Target] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A request whose flow died before it was answered.

    The same peer is sent the same branch, which a retransmission would have;
    another one a new branch (RFC 3263 4.3). ``spent`` is the flow on which nothing
    came back in time; 0 when it died.
    """

    letter: Letter
    key: TransactionKey
    peer: tuple[str, tuple[str, int]]
    spent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """The ACK of the 2xx with To tag ``tag`` to the INVITE with client key ``key``."""

    letter: Letter
    key: TransactionKey
    tag: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The last response of the server transaction ``key``."""

    key: TransactionKey


@dataclass(frozen=True, slots=True)
class Packet:
    """Bytes that nobody waits for."""

    data: bytes


Payload = Letter | Repeat | Acknowledgement | Reply | Packet


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One payload on its way. ``waiting`` is the query or attempt it waits for.

    ``trying``: the target that is connected to, until ``attempt_until`` when there are
    others. ``rests``: seconds until the first of the targets that were passed by wants a
    new call again. ``at_any_size``: of the flow hop it has just arrived by.
    """

    id: int
    payload: Payload
    trunk: str
    hops: list[Hop]
    until: float
    hop: HostHop | None = None
    addresses: list[tuple[str, int]] = field(default_factory=list)
    waiting: int = 0
    trying: Target | None = None
    attempt_until: float | None = None
    rests: float | None = None
    at_any_size: bool = False

    @property
    def due(self) -> float:
        """When the way that is tried, or all of it, has taken too long."""
        return self.until if self.attempt_until is None else min(self.until, self.attempt_until)

    @property
    def letter(self) -> Letter | None:
        """The request it brings, unless it is an ACK or a response."""
        match self.payload:
            case Letter():
                return self.payload
            case Repeat():
                return self.payload.letter
            case _:
                return None

    @property
    def errand(self) -> Errand | None:
        """Why it is sent; None for what nobody waits for."""
        match self.payload:
            case Letter():
                return self.payload.errand
            case Repeat() | Acknowledgement():
                return self.payload.letter.errand
            case _:
                return None

"""What is on its way to a flow that does not exist yet.

A delivery walks its hops: a living flow, or a host that is resolved and
connected to, address by address. RFC 3263 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from bridge.sip.authentication import NO_ATTEMPTS, Attempts, Authentication
from bridge.sip.message import Request
from bridge.sip.target import Hop, HostHop
from bridge.sip.transaction import TransactionKey


class Purpose(Enum):
    """Why a request of ours is sent."""

    INVITE = "invite"
    REINVITE = "reinvite"
    ACK = "ack"
    CANCEL = "cancel"
    BYE = "bye"
    PROBE = "probe"
    UPDATE = "update"
    OPTIONS = "options"  # outside a dialog; the errand's session is the question's number


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
    """

    request: Request
    errand: Errand
    trunk: str
    contact_user: str | None = None
    keeps_via: bool = False
    attempts: Attempts = NO_ATTEMPTS
    authentication: Authentication | None = None


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
    """One payload on its way. ``waiting`` is the query or attempt it waits for."""

    id: int
    payload: Payload
    trunk: str
    hops: list[Hop]
    until: float
    hop: HostHop | None = None
    addresses: list[tuple[str, int]] = field(default_factory=list)
    waiting: int = 0

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

"""A session: one INVITE dialog usage of ours, as plain state.

Three small machines, not their product: the phase of the dialog here, the
offer/answer state in `sdp.negotiate.OfferAnswer`, and what is pending (our
unacknowledged 2xx, our re-INVITE, our CANCEL).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from bridge.sip.authentication import Authentication
from bridge.sip.dialog import Dialog
from bridge.sip.events import SessionId
from bridge.sip.flow import Flow
from bridge.sip.matching import TransactionKey
from bridge.sip.message import Request, Response
from bridge.sip.referral import Referral, Referred
from bridge.sip.session_timer import SessionTimer
from bridge.sip.target import HostHop
from sdp.model import Direction
from sdp.negotiate import OfferAnswer

MAX_HOSTS = 8
MAX_EARLY = 16
OVER_REFUSAL = 2.0  # seconds in which a BYE is about the offer we refused
RING_AGAIN = 60.0  # seconds, RFC 3261 13.3.1.1: a 1xx at least every minute


class Role(Enum):
    """Who sent the first INVITE."""

    CALLER = "caller"
    CALLEE = "callee"


class Phase(Enum):
    """How far the dialog is."""

    INVITED = "invited"  # no final response yet
    ACCEPTED = "accepted"  # callee: our 2xx waits for its ACK
    CONFIRMED = "confirmed"
    LEAVING = "leaving"  # our BYE waits for its response; nothing is passed up any more


class Cancelling(Enum):
    """How far our CANCEL is."""

    NOT = "not"
    WANTED = "wanted"  # waits for the first 1xx (RFC 3261 9.1)
    SENT = "sent"


@dataclass(slots=True, kw_only=True)
class Early:
    """An early dialog of a call of ours, and the SDP that came in it.

    ``rseq``: of the last reliable response in order. ``offer_answer``: the dialog's own,
    from the reliable answer on; that answer is final.
    """

    dialog: Dialog
    sdp: bytes | None = None
    rseq: int | None = None
    offer_answer: OfferAnswer | None = None


@dataclass(slots=True, kw_only=True)
class Reliable:
    """Our last reliable 18x; ``response`` is None once its PRACK came.

    ``offers``: our offer is in it and the answer is due in the PRACK. ``answering``: our
    200 waits for the PRACK. Times in seconds; ``interval`` doubles from T1.
    """

    rseq: int
    response: Response | None
    offers: bool
    resend_at: float | None
    interval: float
    give_up_at: float | None
    answering: bool = False

    def is_due(self, now: float) -> bool:
        """Whether it is to be sent again, or given up."""
        return any(at is not None and at <= now for at in (self.resend_at, self.give_up_at))


@dataclass(slots=True, kw_only=True)
class Unacked:
    """Our 2xx to an INVITE, sent again until its ACK comes.

    ``offers``: our offer is in it and the answer is due in the ACK. Times in
    seconds; ``interval`` is the current one (T1, doubling, at most T2).
    """

    cseq: int
    server: TransactionKey
    response: Response
    offers: bool
    resend_at: float
    interval: float
    give_up_at: float


OfferMethod = Literal["INVITE", "UPDATE"]


@dataclass(slots=True, kw_only=True)
class Reoffer:
    """Our re-INVITE, or UPDATE with an offer: on its way, or waiting to be sent again after 491.

    ``stale``: the wish has changed since it was sent. ``refresh``: nobody wished for
    it, the session timer did; it says what we said before.
    """

    direction: Direction
    method: OfferMethod = "INVITE"
    refresh: bool = False
    stale: bool = False
    attempts: int = 0
    again_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedAway:
    """A refusal after which another target was tried; told when none of them answers."""

    status: int
    phrase: str
    q850: int | None
    retry_after: float | None


@dataclass(slots=True, kw_only=True)
class Session:
    """State of one session.

    ``trunks`` may send requests in its dialogs (those of the flow until the
    call layer has chosen one), and so may ``hosts``, the peers of its own flows.
    ``flow`` is the last that carried a message of it. ``quiet``: the call layer
    has said good-bye, and is told nothing more. ``authentication``: None without
    credentials.
    """

    id: SessionId
    role: Role
    phase: Phase
    call_id: str
    local_tag: str
    trunk: str
    trunks: frozenset[str]
    hosts: tuple[str, ...]
    flow: Flow | None
    next_hop: HostHop | None
    contact_user: str
    invite: Request | None
    invite_key: TransactionKey | None
    offer_answer: OfferAnswer | None = None
    answer: bytes | None = None  # SDP for our 2xx; None: our offer goes there
    dialog: Dialog | None = None
    early: dict[str, Early] = field(default_factory=dict)
    remote_headers: tuple[tuple[str, str], ...] = ()
    rang: bool = False
    provisional: bool = False
    cancelling: Cancelling = Cancelling.NOT
    cancel_by: float | None = None
    ring_again_at: float | None = None
    unacked: Unacked | None = None
    reliable: Reliable | None = None
    reoffer: Reoffer | None = None
    referral: Referral | None = None
    refer_in: bool = False  # whether a REFER of theirs is passed up
    referred: Referred | None = None
    probing: bool = False
    missed_probes: int = 0
    suspect: int = 0  # the connection on which a probe was not answered
    refused_offer_at: float | None = None  # theirs, in the dialog; None: the last one was taken
    quiet: bool = False
    farewell: tuple[tuple[str, str], ...] = ()  # header fields for our BYE
    authentication: Authentication | None = None
    turned_away: TurnedAway | None = None  # by a target; the INVITE went to the next one
    timer: SessionTimer = field(default_factory=SessionTimer)

    @property
    def remote_tag(self) -> str:
        """The tag of the far end, ``""`` while unknown."""
        return "" if self.dialog is None else self.dialog.remote_tag

    def dialogs(self) -> list[Dialog]:
        """Every dialog of the session, early ones too."""
        early = [known.dialog for known in self.early.values()]
        return early if self.dialog is None else [self.dialog, *early]

    def touch(self, flow: Flow) -> None:
        """Remember the flow of a message that belongs to this session."""
        self.flow = flow
        host = flow.remote[0]
        if host not in self.hosts:
            self.hosts = (*self.hosts, host)[-MAX_HOSTS:]

    def admits(self, flow: Flow) -> bool:
        """Whether a request by *flow* may speak for the far end (contract 3, Sources)."""
        return bool(self.trunks & flow.trunks) or flow.remote[0] in self.hosts

    def next_deadline(self) -> float | None:
        """When something of this session is due."""
        unacked, reoffer, reliable = self.unacked, self.reoffer, self.reliable
        referral, referred = self.referral, self.referred
        candidates = (
            self.cancel_by,
            self.ring_again_at,
            None if unacked is None else min(unacked.resend_at, unacked.give_up_at),
            None if reoffer is None else reoffer.again_at,
            None if reliable is None else reliable.resend_at,
            None if reliable is None else reliable.give_up_at,
            None if referral is None else referral.until,
            None if referred is None else referred.until,
            self.timer.next_deadline(),
        )
        return min((at for at in candidates if at is not None), default=None)

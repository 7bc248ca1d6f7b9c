"""The endpoint written down: frozen values only, messages as wire bytes, deadlines as wall time.

Keys of SRTP are in it, for SDP is: it stays in memory, and whoever stores one must encrypt it.
No password is in it. What servers gave us is (nonces, with their counts), and so are the
digests in requests that are not answered yet.

`restore` makes them of a living endpoint, and a living endpoint of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.authentication import AnswerSnapshot, Attempts
from bridge.sip.courier import AgendaKey
from bridge.sip.delivery import Errand
from bridge.sip.dialog import DialogId
from bridge.sip.flow import Flow
from bridge.sip.keepalive import Beat
from bridge.sip.matching import TransactionKey
from bridge.sip.referral import ReferralSnapshot, ReferredSnapshot
from bridge.sip.registration import RegistrationSnapshot
from bridge.sip.session import OfferMethod, TurnedAway
from bridge.sip.standing import Standing, Target
from bridge.sip.target import Hop, HostHop
from bridge.sip.transaction import TransactionSnapshot
from sdp.negotiate import OfferAnswerSnapshot

VERSION = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogSnapshot:
    """A `Dialog`."""

    call_id: str
    local_tag: str
    remote_tag: str
    local: str
    remote: str
    remote_target: str
    route_set: tuple[str, ...]
    local_cseq: int
    remote_cseq: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlySnapshot:
    """An `Early` dialog, by its To tag."""

    tag: str
    dialog: DialogSnapshot
    sdp: bytes | None
    rseq: int | None
    offer_answer: OfferAnswerSnapshot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliableSnapshot:
    """A `Reliable` 18x."""

    rseq: int
    response: bytes | None
    offers: bool
    resend_at: float | None
    interval: float
    give_up_at: float | None
    answering: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UnackedSnapshot:
    """An `Unacked` 2xx."""

    cseq: int
    server: TransactionKey
    response: bytes
    offers: bool
    resend_at: float
    interval: float
    give_up_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReofferSnapshot:
    """A `Reoffer`."""

    direction: str
    method: OfferMethod
    refresh: bool
    stale: bool
    attempts: int
    again_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerSnapshot:
    """A `SessionTimer`."""

    wish: int
    floor: int
    min_se: int
    interval: int | None
    refresher: str
    updates: bool
    refreshing: bool
    tries: int
    refresh_at: float | None
    give_up_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSnapshot:
    """A `Session`."""

    id: int
    role: str
    phase: str
    call_id: str
    local_tag: str
    trunk: str
    trunks: tuple[str, ...]
    hosts: tuple[str, ...]
    flow: Flow | None
    next_hop: HostHop | None
    contact_user: str
    invite: bytes | None
    invite_key: TransactionKey | None
    offer_answer: OfferAnswerSnapshot | None
    answer: bytes | None
    dialog: DialogSnapshot | None
    early: tuple[EarlySnapshot, ...]
    remote_headers: tuple[tuple[str, str], ...]
    rang: bool
    provisional: bool
    cancelling: str
    cancel_by: float | None
    ring_again_at: float | None
    unacked: UnackedSnapshot | None
    reliable: ReliableSnapshot | None
    reoffer: ReofferSnapshot | None
    referral: ReferralSnapshot | None
    refer_in: bool
    referred: ReferredSnapshot | None
    probing: bool
    missed_probes: int
    refused_offer_at: float | None
    quiet: bool
    farewell: tuple[tuple[str, str], ...]
    authentication: tuple[AnswerSnapshot, ...]
    timer: TimerSnapshot
    turned_away: TurnedAway | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterSnapshot:
    """A `Letter`."""

    request: bytes
    errand: Errand
    trunk: str
    contact_user: str | None
    keeps_via: bool
    attempts: Attempts
    tried: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AckSnapshot:
    """A `SentAck`, by its To tag."""

    tag: str
    letter: LetterSnapshot
    hops: tuple[Hop, ...]
    data: bytes
    flow: Flow | None
    on_its_way: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSnapshot:
    """A `Client` transaction."""

    key: TransactionKey
    machine: TransactionSnapshot
    letter: LetterSnapshot
    flow: Flow
    hops: tuple[Hop, ...]
    status: int
    acks: tuple[AckSnapshot, ...]
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSnapshot:
    """A `Server` transaction."""

    key: TransactionKey
    machine: TransactionSnapshot
    flow: Flow
    session: int
    to_tag: str
    symmetric: bool
    pending: bytes | None
    away: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadSnapshot:
    """Any `Payload`; ``kind`` says which, and which of the rest it has."""

    kind: str
    letter: LetterSnapshot | None = None
    key: TransactionKey = ()
    peer: tuple[str, tuple[str, int]] | None = None
    spent: int = 0
    tag: str = ""
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySnapshot:
    """A `Delivery`."""

    id: int
    payload: PayloadSnapshot
    trunk: str
    hops: tuple[Hop, ...]
    until: float
    hop: HostHop | None
    addresses: tuple[tuple[str, int], ...]
    waiting: int
    trying: Target | None = None
    attempt_until: float | None = None
    rests: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSnapshot:
    """A whole endpoint. ``agenda`` keeps the order of what falls due at once."""

    version: int
    secret: str
    counter: int
    draining: bool
    flows: tuple[Flow, ...]
    sessions: tuple[SessionSnapshot, ...]
    clients: tuple[ClientSnapshot, ...]
    servers: tuple[ServerSnapshot, ...]
    deliveries: tuple[DeliverySnapshot, ...]
    merges: tuple[tuple[tuple[str, str, int], TransactionKey], ...]
    agenda: tuple[AgendaKey, ...]
    standings: tuple[tuple[Target, Standing], ...] = ()
    registrations: tuple[RegistrationSnapshot, ...] = ()
    beats: tuple[Beat, ...] = ()
    outlived: tuple[tuple[DialogId, float], ...] = ()

"""What the SIP endpoint passes up, and what it asks its driver to do.

Pure data. A session is one INVITE dialog usage of ours; its id is local.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NewType

from bridge.sip.flow import Flow
from bridge.sip.message import Request
from sdp.negotiated import Negotiated

SessionId = NewType("SessionId", int)
Headers = tuple[tuple[str, str], ...]
"""The header fields of the message that an event tells of, in order; none when there was none."""


class FailureCause(Enum):
    """Why an INVITE of ours got no dialog."""

    REFUSED = "refused"  # a final response 3xx-6xx
    NO_RESPONSE = "no_response"  # Timer B: nothing at all came
    UNREACHABLE = "unreachable"  # DNS, connect or send failed
    RESTING = "resting"  # nothing was sent: every target has asked to be left alone
    CANCELLED = "cancelled"  # final response after our own CANCEL
    UNUSABLE_ANSWER = "unusable_answer"  # 2xx without usable SDP: ACK and BYE sent


class EndCause(Enum):
    """Why an established session ended without our asking."""

    BYE = "bye"
    NO_ACK = "no_ack"  # 64*T1 after our 2xx; BYE sent. Or after a reliable 18x; 504 sent
    RENEGOTIATION_FAILED = "renegotiation_failed"  # BYE upon our refusal of a new offer
    PEER_GONE = "peer_gone"  # 481 or 408 to an in-dialog request, or probes unanswered
    UNUSABLE_ANSWER = "unusable_answer"  # ACK of a delayed offer without usable SDP; BYE sent
    SESSION_EXPIRED = "session_expired"  # RFC 4028: not refreshed in time; BYE sent


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingInvite:
    """A new call asks; 100 was sent. Answer with `adopt`, then `ring`, `answer`, `reject`."""

    session: SessionId
    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """A 18x came for our INVITE; ``early`` when it carried a usable answer."""

    session: SessionId
    status: int
    early: Negotiated | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """2xx came for our INVITE and the ACK is on its way."""

    session: SessionId
    negotiated: Negotiated
    status: int
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The ACK of our 2xx came (with the answer, when the offer was delayed)."""

    session: SessionId
    negotiated: Negotiated


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Our INVITE failed; the last event of the session.

    ``q850`` is the cause of a ``Reason: Q.850`` header, if any; ``status`` is
    None when no response came. ``retry_after`` in seconds: of the response's Retry-After,
    or how long a resting target still wants to be left alone.
    """

    session: SessionId
    cause: FailureCause
    status: int | None
    phrase: str
    q850: int | None
    rang: bool  # some 18x had come
    retry_after: float | None = None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The caller gave up before our final answer (CANCEL or early BYE); 487 was sent.

    The last event of the session. ``answered_elsewhere``: Reason says SIP;cause=200.
    """

    session: SessionId
    q850: int | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChanged:
    """A re-INVITE or UPDATE was answered (offerless: its ACK came) and changed something."""

    session: SessionId
    negotiated: Negotiated


@dataclass(frozen=True, slots=True, kw_only=True)
class Reoffered:
    """A re-INVITE of ours is settled; what it changed came before, as `SessionChanged`.

    ``ok``: its answer is in force; else the session is as it was. One for each wish
    that no newer one replaced; none when the session ends over it (408, 481).
    """

    session: SessionId
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An established session ended; the last event of the session."""

    session: SessionId
    cause: EndCause
    status: int | None
    q850: int | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReported:
    """A key came by INFO (application/dtmf-relay or application/dtmf)."""

    session: SessionId
    digit: str
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """An in-dialog OPTIONS of ours was answered (any status but 481/408) or not."""

    session: SessionId
    alive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferAnswered:
    """A REFER of ours got its final response: 2xx, and `ReferProgressed` follows.

    Any other: nothing more follows, and the call goes on. 408: none came.
    """

    session: SessionId
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferProgressed:
    """The far end told how far the transfer is, perhaps before `ReferAnswered`.

    ``status``: of the call it makes (RFC 3420), None when that will not be known. ``over``:
    the last word.
    """

    session: SessionId
    status: int | None
    over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferAsked:
    """The far end asks us to call *target*; answer with `Endpoint.answer_refer`.

    ``plain``: the URI says whom to call and nothing more (no Replaces).
    """

    session: SessionId
    target: str
    plain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkProbed:
    """An OPTIONS outside a dialog is settled, *seconds* after it was asked for.

    ``status`` is that of the final response, None when none came or nothing could be sent.
    """

    trunk: str
    status: int | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationChanged:
    """An attempt to register, or to take that back, is settled.

    ``what``: ``registered``, ``refused``, ``no_answer``, ``removed``. ``registered``:
    whether the registrar has us, as far as we know, for ``expires`` seconds; it outlives a
    refresh that was not answered. ``status`` is that of the final response; ``again`` the
    seconds until the next attempt.
    """

    trunk: str
    registered: bool
    what: str
    status: int | None
    expires: float
    again: float | None


SipEvent = (
    IncomingInvite
    | Progressed
    | Answered
    | Confirmed
    | Failed
    | Cancelled
    | SessionChanged
    | Reoffered
    | Ended
    | KeyReported
    | Probed
    | ReferAnswered
    | ReferProgressed
    | ReferAsked
)


# What the endpoint asks of the driver (`bridge.ua`).


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Write *data* to *flow*. ``summary`` is for the tap: first line and peer, no body."""

    flow: Flow
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve:
    """Find the addresses of a host; answer with ``resolved(query, addresses, now)``."""

    query: int
    transport: str
    host: str
    port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Find or make a flow to an address; answer with ``connected(attempt, flow, now)``
    or ``connect_failed(attempt, now)``. UDP "connects" at once.

    ``name`` is the host that the address was found for, and ``trunk`` who asks: a TLS
    peer has to prove that it is the host. Empty for the other transports.
    """

    attempt: int
    transport: str
    address: str
    port: int
    name: str = ""
    trunk: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseFlow:
    """Close a connection that cannot be understood any more."""

    flow: Flow


@dataclass(frozen=True, slots=True, kw_only=True)
class PassUp:
    """Tell the layer above."""

    event: SipEvent | TrunkProbed | RegistrationChanged


Output = Send | Resolve | Connect | CloseFlow | PassUp

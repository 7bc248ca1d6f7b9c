"""How a call ended, in the product's words.

Contract, section 5; RFC 3398 for the causes. Everything is a table: the SIP
status, the Q.850 cause, who ended it, and whether it had been answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Final

from bridge.call.inputs import By
from bridge.call.plan import Direction
from bridge.sip.events import EndCause, FailureCause
from bridge.sip.headers import Reason


class EndedBy(StrEnum):
    """Who ended the call."""

    CALLER = "caller"
    CALLEE = "callee"
    AGENT = "agent"
    API = "api"
    CARRIER = "carrier"
    TIMER = "timer"
    BRIDGE = "bridge"


class Result(StrEnum):
    """The coarse outcome."""

    COMPLETED = "completed"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    UNREACHABLE = "unreachable"
    DROPPED = "dropped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One call's verdict: the coarse word, the finer one, and who ended it."""

    outcome: Result
    reason: str
    ended_by: EndedBy


class LocalEnd(Enum):
    """Why we end a call."""

    API = "api"  # DELETE, the command line
    AGENT = "agent"  # lk.sip.EndCall
    ROOM_DELETED = "room_deleted"
    REMOVED = "removed"  # our participant was removed
    AGENT_GONE = "agent_gone"  # the last other participant left
    NO_AGENT = "no_agent"
    ROOM_UNAVAILABLE = "room_unavailable"
    ROOM_LOST = "room_lost"
    RING_TIMEOUT = "ring_timeout"
    MAX_DURATION = "max_duration"
    MEDIA_TIMEOUT = "media_timeout"
    NO_MEDIA = "no_media"
    PEER_GONE = "peer_gone"  # probes unanswered
    TRANSFERRED = "transferred"  # the far end has its new call
    SHUTDOWN = "shutdown"
    INTERNAL_ERROR = "internal_error"


class Refusal(Enum):
    """Why an inbound call is refused before a room is joined (contract 4, Answering)."""

    NO_ROUTE = "no_route"
    MEDIA_INCOMPATIBLE = "media_incompatible"
    TRUNK_FULL = "trunk_full"
    CAPACITY = "capacity"
    DRAINING = "draining"
    NO_LIVEKIT = "no_livekit"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Local:
    reason: str
    ended_by: EndedBy
    answered: Result
    outbound: Result  # not answered, we dialled
    inbound: Result  # not answered, it came in
    status: int  # what we refuse an unanswered inbound call with
    q850: int  # what our BYE says


# Q.850: what our BYE says of our own ends. Whoever reads it bills or alarms by it, so a call
# that went as it should is 16, also at its longest allowed duration.
_NORMAL_CLEARING = 16
_TEMPORARY_FAILURE = 41
_TIMER_EXPIRY = 102


def _local(
    reason: str,
    ended_by: EndedBy,
    answered: Result,
    *,
    outbound: Result = Result.CANCELLED,
    inbound: Result = Result.REJECTED,
    status: int = 603,
    q850: int = _NORMAL_CLEARING,
) -> _Local:
    return _Local(
        reason=reason,
        ended_by=ended_by,
        answered=answered,
        outbound=outbound,
        inbound=inbound,
        status=status,
        q850=q850,
    )


_FAILED = Result.FAILED
TRANSFERRED: Final = "transferred"
_LOCAL: Final[Mapping[LocalEnd, _Local]] = MappingProxyType(
    {
        LocalEnd.API: _local("api_hangup", EndedBy.API, Result.COMPLETED),
        LocalEnd.AGENT: _local("agent_hangup", EndedBy.AGENT, Result.COMPLETED),
        LocalEnd.TRANSFERRED: _local(TRANSFERRED, EndedBy.AGENT, Result.COMPLETED),
        LocalEnd.ROOM_DELETED: _local("room_deleted", EndedBy.AGENT, Result.COMPLETED),
        LocalEnd.REMOVED: _local("participant_removed", EndedBy.AGENT, Result.COMPLETED),
        LocalEnd.AGENT_GONE: _local(
            "agent_gone", EndedBy.AGENT, Result.COMPLETED, inbound=_FAILED, status=480
        ),
        LocalEnd.NO_AGENT: _local(
            "no_agent",
            EndedBy.BRIDGE,
            _FAILED,
            outbound=_FAILED,
            inbound=_FAILED,
            status=480,
            q850=_TEMPORARY_FAILURE,
        ),
        LocalEnd.ROOM_UNAVAILABLE: _local(
            "room_unavailable",
            EndedBy.BRIDGE,
            _FAILED,
            outbound=_FAILED,
            inbound=_FAILED,
            status=503,
            q850=_TEMPORARY_FAILURE,
        ),
        LocalEnd.ROOM_LOST: _local(
            "room_lost",
            EndedBy.BRIDGE,
            Result.DROPPED,
            outbound=_FAILED,
            inbound=_FAILED,
            status=503,
            q850=_TEMPORARY_FAILURE,
        ),
        LocalEnd.RING_TIMEOUT: _local(
            "ring_timeout",
            EndedBy.TIMER,
            Result.NO_ANSWER,
            outbound=Result.NO_ANSWER,
            inbound=Result.NO_ANSWER,
            status=480,
        ),
        LocalEnd.MAX_DURATION: _local("max_duration", EndedBy.TIMER, Result.COMPLETED),
        LocalEnd.MEDIA_TIMEOUT: _local(
            "media_timeout", EndedBy.TIMER, Result.DROPPED, q850=_TIMER_EXPIRY
        ),
        LocalEnd.NO_MEDIA: _local(
            "no_media_after_answer", EndedBy.TIMER, _FAILED, q850=_TIMER_EXPIRY
        ),
        LocalEnd.PEER_GONE: _local(
            "peer_gone", EndedBy.CARRIER, Result.DROPPED, q850=_TIMER_EXPIRY
        ),
        LocalEnd.SHUTDOWN: _local(
            "shutdown",
            EndedBy.BRIDGE,
            Result.DROPPED,
            inbound=_FAILED,
            status=503,
            q850=_TEMPORARY_FAILURE,
        ),
        LocalEnd.INTERNAL_ERROR: _local(
            "internal_error",
            EndedBy.BRIDGE,
            _FAILED,
            outbound=_FAILED,
            inbound=_FAILED,
            status=500,
            q850=_TEMPORARY_FAILURE,
        ),
    }
)

_REFUSALS: Final[Mapping[Refusal, tuple[int, str]]] = MappingProxyType(
    {
        Refusal.NO_ROUTE: (404, "no_route"),
        Refusal.MEDIA_INCOMPATIBLE: (488, "media_incompatible"),
        Refusal.TRUNK_FULL: (486, "capacity"),
        Refusal.CAPACITY: (503, "capacity"),
        Refusal.DRAINING: (503, "draining"),
        Refusal.NO_LIVEKIT: (503, "room_unavailable"),
    }
)


def local_outcome(why: LocalEnd, direction: Direction, *, answered: bool) -> Outcome:
    """Return the outcome of a call that we ended. Who cancelled decides, not the 487."""
    row = _LOCAL[why]
    unanswered = row.inbound if direction is Direction.INBOUND else row.outbound
    return Outcome(
        outcome=row.answered if answered else unanswered, reason=row.reason, ended_by=row.ended_by
    )


def reject_status(why: LocalEnd) -> int:
    """Return the status that refuses an unanswered inbound call we end."""
    return _LOCAL[why].status


def bye_reason(why: LocalEnd) -> Reason:
    """Return the Reason of the BYE that ends a call for *why* (RFC 3326 2)."""
    row = _LOCAL[why]
    return Reason(protocol="Q.850", cause=row.q850, text=row.reason)


def refusal_outcome(why: Refusal) -> tuple[int, Outcome]:
    """Return the status and the outcome of an inbound call refused at once."""
    status, reason = _REFUSALS[why]
    return status, Outcome(outcome=_FAILED, reason=reason, ended_by=EndedBy.BRIDGE)


def _by_carrier(outcome: Result, reason: str) -> Outcome:
    return Outcome(outcome=outcome, reason=reason, ended_by=EndedBy.CARRIER)


def _by_callee(outcome: Result, reason: str) -> Outcome:
    return Outcome(outcome=outcome, reason=reason, ended_by=EndedBy.CALLEE)


BUSY: Final = _by_callee(Result.BUSY, "busy")
DECLINED: Final = _by_callee(Result.REJECTED, "declined")
BLOCKED: Final = _by_carrier(Result.REJECTED, "blocked_spam")
NO_RESPONSE: Final = _by_carrier(Result.NO_ANSWER, "no_response")
UNAVAILABLE: Final = _by_carrier(Result.NO_ANSWER, "unavailable")
UNREACHABLE: Final = _by_carrier(Result.UNREACHABLE, "unavailable")
INVALID_NUMBER: Final = _by_carrier(Result.UNREACHABLE, "invalid_number")
CARRIER_TERMINATED: Final = _by_carrier(_FAILED, "carrier_terminated")
CARRIER_AUTH: Final = _by_carrier(_FAILED, "carrier_auth")
AUTH: Final = _by_carrier(_FAILED, "auth")
NO_CREDIT: Final = _by_carrier(_FAILED, "no_credit")
MEDIA_INCOMPATIBLE: Final = _by_carrier(_FAILED, "media_incompatible")
PROTOCOL: Final = _by_carrier(_FAILED, "protocol")
RATE_LIMITED: Final = _by_carrier(_FAILED, "rate_limited")
CARRIER_FAILURE: Final = _by_carrier(_FAILED, "carrier_failure")
ROUTING_LOOP: Final = _by_carrier(_FAILED, "routing_loop")
REDIRECTED: Final = _by_carrier(_FAILED, "redirected")
CARRIER_UNREACHABLE: Final = _by_carrier(_FAILED, "carrier_unreachable")

BY_STATUS: Final[Mapping[int, Outcome]] = MappingProxyType(
    {
        **dict.fromkeys((486, 600), BUSY),
        603: DECLINED,
        607: BLOCKED,
        608: BLOCKED,
        408: NO_RESPONSE,
        480: UNAVAILABLE,
        487: CARRIER_TERMINATED,
        **dict.fromkeys((404, 410, 484, 485, 604), INVALID_NUMBER),
        403: CARRIER_AUTH,
        **dict.fromkeys((401, 407, 494), AUTH),
        402: NO_CREDIT,
        **dict.fromkeys((415, 488, 606), MEDIA_INCOMPATIBLE),
        **dict.fromkeys((420, 421, 422, 416, 400, 413, 513, 405, 501, 505), PROTOCOL),
        429: RATE_LIMITED,
        **dict.fromkeys((500, 502, 503, 504, 580), CARRIER_FAILURE),
        482: ROUTING_LOOP,
        483: ROUTING_LOOP,
    }
)

# RFC 3261 8.1.3.2: an unknown status is treated as the x00 of its class.
BY_CLASS: Final[Mapping[int, Outcome]] = MappingProxyType(
    {3: REDIRECTED, 4: PROTOCOL, 5: CARRIER_FAILURE, 6: DECLINED}
)

BY_CAUSE: Final[Mapping[int, Outcome]] = MappingProxyType(
    {
        # RFC 3398 7.2.4.1, read through the statuses above.
        **dict.fromkeys((1, 2, 3, 22, 23, 26, 28), INVALID_NUMBER),
        17: BUSY,
        18: NO_RESPONSE,
        19: UNAVAILABLE,
        20: UNREACHABLE,
        21: DECLINED,
        **dict.fromkeys((27, 34, 38, 41, 42, 47, 58, 88, 102, 111), CARRIER_FAILURE),
        **dict.fromkeys((29, 79), PROTOCOL),
        **dict.fromkeys((55, 57, 87), CARRIER_AUTH),
        **dict.fromkeys((65, 70), MEDIA_INCOMPATIBLE),
    }
)

UNSPECIFIC_CAUSES: Final = frozenset({0, 16, 31, 127})
QUICK_REFUSAL: Final = 6.0
"""Seconds: a 480 within them and without a 18x says the phone cannot be reached."""

_RATE_WORDS: Final = ("cps", "concurrent", "rate limit", "too many")
_BLOCKED_PHRASE: Final = "network blocked"  # ATIS-1000099, "603+"
_NETWORK_CAUSES: Final = 32  # from here on a cause speaks of the network, not of the parties


def refused_outcome(
    status: int,
    q850: int | None,
    *,
    sip_cause: int | None = None,
    phrase: str = "",
    rang: bool = False,
    elapsed: float = 0.0,
) -> Outcome:
    """Return the outcome of an INVITE of ours that got *status* (3xx to 6xx).

    *q850* and *sip_cause* are those of its Reason. *elapsed* is the time in seconds since the
    INVITE was sent. Not for the answer to our own CANCEL.
    """
    if status == 603 and (sip_cause in (607, 608) or _BLOCKED_PHRASE in phrase.lower()):
        return BLOCKED  # by the network, which says 21 for want of a better cause
    if q850 is not None and q850 not in UNSPECIFIC_CAUSES:
        by_cause = _cause_outcome(q850, status)
        if by_cause is not None:
            return by_cause
    if 500 <= status < 600 and any(word in phrase.lower() for word in _RATE_WORDS):
        return RATE_LIMITED
    if status == 480 and not rang and elapsed < QUICK_REFUSAL:
        return UNREACHABLE
    return BY_STATUS.get(status) or BY_CLASS.get(status // 100, PROTOCOL)


def _cause_outcome(q850: int, status: int) -> Outcome | None:
    if q850 == 18 and status == 480:
        return UNREACHABLE  # nobody answered the network's own search for the phone
    if q850 == 21 and status == 403:
        return CARRIER_AUTH  # without a location "call rejected" may be the carrier's
    return BY_CAUSE.get(q850)


def failure_outcome(
    cause: FailureCause,
    status: int | None,
    q850: int | None,
    *,
    sip_cause: int | None = None,
    phrase: str = "",
    rang: bool = False,
    elapsed: float = 0.0,
    retry_after: float | None = None,
) -> Outcome:
    """Return the outcome of an INVITE of ours that failed without our cancelling it.

    *retry_after* is what its final response, or an earlier one of each target, asked for.
    """
    if cause is FailureCause.RESTING:
        return RATE_LIMITED
    if cause in (FailureCause.NO_RESPONSE, FailureCause.UNREACHABLE) or status is None:
        return CARRIER_UNREACHABLE
    if cause is FailureCause.UNUSABLE_ANSWER:
        return MEDIA_INCOMPATIBLE
    found = refused_outcome(
        status, q850, sip_cause=sip_cause, phrase=phrase, rang=rang, elapsed=elapsed
    )
    # A 503 that names a time says that we are too fast, not that something is broken.
    limited = found is CARRIER_FAILURE and status == 503 and retry_after is not None
    return RATE_LIMITED if limited else found


_ENDINGS: Final[Mapping[EndCause, Outcome]] = MappingProxyType(
    {
        EndCause.NO_ACK: Outcome(outcome=_FAILED, reason="no_ack", ended_by=EndedBy.TIMER),
        EndCause.PEER_GONE: _by_carrier(Result.DROPPED, "peer_gone"),
        EndCause.SESSION_EXPIRED: Outcome(
            outcome=Result.DROPPED, reason="session_expired", ended_by=EndedBy.TIMER
        ),
        EndCause.UNUSABLE_ANSWER: Outcome(
            outcome=_FAILED, reason="media_incompatible", ended_by=EndedBy.BRIDGE
        ),
    }
)


def far_end_outcome(
    cause: EndCause, q850: int | None, direction: Direction, *, answered: bool
) -> Outcome:
    """Return the outcome of an established session that ended without our asking."""
    if cause is not EndCause.BYE:
        found = _ENDINGS.get(cause) or _by_carrier(Result.DROPPED, cause.value)
        if found.outcome is Result.DROPPED and not answered:
            return Outcome(outcome=_FAILED, reason=found.reason, ended_by=found.ended_by)
        return found
    far = EndedBy.CALLER if direction is Direction.INBOUND else EndedBy.CALLEE
    if not answered:
        return Outcome(outcome=Result.CANCELLED, reason="remote_hangup", ended_by=far)
    if q850 is not None and q850 >= _NETWORK_CAUSES and q850 not in UNSPECIFIC_CAUSES:
        return _by_carrier(Result.DROPPED, "carrier_failure")
    return Outcome(outcome=Result.COMPLETED, reason="remote_hangup", ended_by=far)


def cancelled_outcome() -> Outcome:
    """Return the outcome of an inbound call whose caller gave up."""
    return Outcome(outcome=Result.CANCELLED, reason="caller_cancelled", ended_by=EndedBy.CALLER)


def transferred_outcome(by: By) -> Outcome:
    """Return the outcome of a call that was transferred away; who asked has ended it."""
    ended_by = EndedBy.API if by is By.API else EndedBy.AGENT
    return Outcome(outcome=Result.COMPLETED, reason=TRANSFERRED, ended_by=ended_by)


class SessionEnd(Enum):
    """Why a web call ends: a room with a person and an agent, and no phone."""

    USER_LEFT = "user_left"
    NEVER_JOINED = "never_joined"  # nobody came within the time to join
    DELETED = "deleted"  # DELETE
    MAX_DURATION = "max_duration"
    ROOM_DELETED = "room_deleted"  # by the agent, or whoever else may
    ROOM_LOST = "room_lost"  # the server was away and came back without it
    ROOM_UNAVAILABLE = "room_unavailable"  # it could not be made
    NO_AGENT = "no_agent"  # the user waited for it in vain
    AGENT_GONE = "agent_gone"
    AGENT_LOST = "agent_lost"  # it went by a failure of its own
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfSession:
    reason: str
    ended_by: EndedBy
    joined: Result  # the user was in the room
    waiting: Result  # the user never was


API_DELETE: Final = "api_delete"
JOIN_TIMEOUT: Final = "join_timeout"


def _of_session(
    reason: str, ended_by: EndedBy, joined: Result, waiting: Result = _FAILED
) -> _OfSession:
    return _OfSession(reason=reason, ended_by=ended_by, joined=joined, waiting=waiting)


_SESSION: Final[Mapping[SessionEnd, _OfSession]] = MappingProxyType(
    {
        SessionEnd.USER_LEFT: _of_session(
            "remote_hangup", EndedBy.CALLER, Result.COMPLETED, Result.CANCELLED
        ),
        SessionEnd.NEVER_JOINED: _of_session(
            JOIN_TIMEOUT, EndedBy.TIMER, Result.NO_ANSWER, Result.NO_ANSWER
        ),
        SessionEnd.DELETED: _of_session(
            API_DELETE, EndedBy.API, Result.COMPLETED, Result.CANCELLED
        ),
        SessionEnd.MAX_DURATION: _of_session("max_duration", EndedBy.TIMER, Result.COMPLETED),
        SessionEnd.ROOM_DELETED: _of_session(
            "room_deleted", EndedBy.AGENT, Result.COMPLETED, Result.REJECTED
        ),
        SessionEnd.ROOM_LOST: _of_session("room_lost", EndedBy.BRIDGE, Result.DROPPED),
        SessionEnd.ROOM_UNAVAILABLE: _of_session("room_unavailable", EndedBy.BRIDGE, _FAILED),
        SessionEnd.NO_AGENT: _of_session("no_agent", EndedBy.BRIDGE, _FAILED),
        SessionEnd.AGENT_GONE: _of_session("agent_gone", EndedBy.AGENT, Result.COMPLETED),
        SessionEnd.AGENT_LOST: _of_session("agent_lost", EndedBy.AGENT, Result.DROPPED),
        SessionEnd.INTERNAL_ERROR: _of_session("internal_error", EndedBy.BRIDGE, _FAILED),
    }
)


def session_outcome(why: SessionEnd, *, joined: bool) -> Outcome:
    """Return the outcome of a web call; *joined*: its user was in the room."""
    row = _SESSION[why]
    return Outcome(
        outcome=row.joined if joined else row.waiting, reason=row.reason, ended_by=row.ended_by
    )


CRASHED: Final = Outcome(outcome=Result.DROPPED, reason="crash", ended_by=EndedBy.BRIDGE)
QUEUE_TIMEOUT: Final = Outcome(outcome=_FAILED, reason="queue_timeout", ended_by=EndedBy.BRIDGE)


def status_of(outcome: Result, reason: str) -> str:
    """Return seed 003's ``status`` of a call that ended (contract 5).

    A session deleted before its user came is marked completed, too (seed 004).
    """
    if outcome is Result.COMPLETED or reason == API_DELETE:
        return "completed"
    if reason in ("ring_timeout", JOIN_TIMEOUT):
        return "timeout"
    return "disconnected" if outcome is Result.DROPPED else "failed"

"""What is told to whom: the deliveries of an event, as values.

Pure. A *receiver* is a URL; the deliveries of one call to one URL are a lane, sent in order.
The id of a delivery is made of what it tells and to whom, so that whoever computes it again
(a retry, a projection after a crash, another instance) finds the same one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bridge.webhook.address import receiver_of

NAMESPACE: Final = uuid.UUID("6b1c1f3e-5f0c-5d0e-9c55-4d1d2f6f7a10")
"""Of the UUIDv5 of deliveries. Never changed: receivers drop duplicates by them."""

VOICE_SESSION: Final = "voice_session"
"""``private["session"]["kind"]`` of a session of seed 004."""

STARTED: Final = "voice_session.started"
ENDED: Final = "voice_session.ended"
FAILED: Final = "voice_session.failed"

_SESSION_END: Final = {
    "completed": ENDED,
    "timeout": FAILED,
    "failed": FAILED,
    "disconnected": FAILED,
}
_STEP: Final = 4  # orders between two events of a call, for what a session adds

Resource = Mapping[str, Any]
SessionShape = Callable[[Resource, Resource], Mapping[str, Any]]
"""The public session (seed 004's VoiceSessionOut) of a record and its private part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receivers:
    """To whom: ``url`` is the receiver of calls that name none (``[webhook] url``), or ``""``."""

    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One POST to one receiver.

    ``place`` orders the deliveries of a call; it grows, with gaps. ``event`` is the header's.
    ``receiver`` is whom ``url`` asks (scheme, host, port). ``body`` is the JSON text that is
    signed and sent, the same at every attempt.
    """

    id: str
    place: int
    call_id: str
    tenant_id: str | None
    event: str
    url: str
    receiver: str
    body: str


def deliveries(
    event: Mapping[str, Any] | None,
    record: Resource,
    private: Resource,
    receivers: Receivers,
    *,
    earlier: Sequence[Mapping[str, Any]] = (),
    session: SessionShape | None = None,
) -> list[Delivery]:
    """Return what has to be sent because of *event*, or because *record* changed (None).

    A call's events go to its own ``webhook_url``, else to ``[webhook] url``. Of a voice session
    (seed 004) those go to ``[webhook] url`` only; ``voice_session.*`` goes to the session's own
    URL, else to ``[webhook] url``, and is computed from the state of *record*: ask at every
    change of it, what was sent before has the same id. *earlier* are the call's events before
    *event*; they are needed where *record* is newer than *event*. What is no URL gets nothing.
    """
    own = str(private.get("webhook_url") or "")
    found: list[Delivery] = []
    if is_voice_session(private):
        if session is not None and receiver_of(url := own or receivers.url):
            found += _session_deliveries(record, private, url, session)
        own = ""
    if event is not None and receiver_of(url := own or receivers.url):
        found.append(_of_event(event, as_of(record, [*earlier, event]), url))
    return sorted(found, key=lambda delivery: delivery.place)


def is_voice_session(private: Resource) -> bool:
    """Whether the record with this *private* part is a session of seed 004."""
    described = private.get("session")
    return isinstance(described, Mapping) and described.get("kind") == VOICE_SESSION


def type_of(name: str) -> str:
    """Return the webhook's name of the event *name*: ``call.hold`` of ``call_hold``."""
    return name.replace("_", ".", 1)


def as_of(record: Resource, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return *record* as it was after the last of *events*, the first ones of its call.

    What the events tell is told as of then; the rest of a call (who, where, metadata) does not
    change, and what agents report stays as it is in *record*.
    """
    newest = dict(record)
    if not events or events[-1]["seq"] >= int(newest.get("seq") or 0):
        return newest
    newest.update(_UNBEGUN)
    for event in events:
        newest.update(_told_by(event))
    return newest


_UNBEGUN: Final[dict[str, Any]] = {
    "status": "connecting",
    "hold": False,
    "outcome": None,
    "reason": None,
    "ended_by": None,
    "sip_status": None,
    "q850": None,
    "duration_ms": None,
    "duration_seconds": None,
    "started_at": None,
    "ended_at": None,
}


def _told_by(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record that *event* sets, the end apart: nothing is after it."""
    told: dict[str, Any] = {"seq": event["seq"]}
    match event["event"]:
        case "call_answered":
            told |= {"status": "active", "started_at": event["at"]}
        case "call_hold":
            told["hold"] = True
        case "call_resume":
            told["hold"] = False
        case _:
            pass
    return told


def _of_event(event: Mapping[str, Any], record: Resource, url: str) -> Delivery:
    kind = type_of(str(event["event"]))
    return _delivery(
        record,
        url,
        what=str(event["seq"]),
        place=int(event["seq"]) * _STEP,
        event=kind,
        document={**event, "type": kind, "call": record},
    )


def _session_deliveries(
    record: Resource, private: Resource, url: str, session: SessionShape
) -> list[Delivery]:
    end = _SESSION_END.get(str(record["status"]))
    public = session(record, private)
    begun = {**public, **_CREATED}  # as it was then, however late that is told
    found = [_of_session(STARTED, record["created_at"], record, begun, url, place=1)]
    if end is not None:
        at = record.get("ended_at") or record["created_at"]
        place = int(record.get("seq") or 0) * _STEP + 2
        found.append(_of_session(end, at, record, public, url, place=place))
    return found


_CREATED: Final[dict[str, Any]] = {
    "status": "created",
    "started_at": None,
    "ended_at": None,
    "duration_seconds": None,
    "turn_count": 0,
    "total_audio_seconds": 0,
    "end_reason": None,
}


def _of_session(
    kind: str, at: object, record: Resource, public: Resource, url: str, *, place: int
) -> Delivery:
    # A session ends once: ended and failed are one delivery, whichever is computed first.
    what = STARTED if kind == STARTED else ENDED
    return _delivery(
        record,
        url,
        what=what,
        place=place,
        event=kind,
        document={"event": kind, "type": kind, "at": at, "session": public},
    )


def _delivery(
    record: Resource, url: str, *, what: str, place: int, event: str, document: Mapping[str, Any]
) -> Delivery:
    call_id = str(record["id"])
    return Delivery(
        id=str(uuid.uuid5(NAMESPACE, f"{call_id}\n{what}\n{url}")),
        place=place,
        call_id=call_id,
        tenant_id=record.get("tenant_id"),
        event=event,
        url=url,
        receiver=receiver_of(url),
        body=json.dumps(document, separators=(",", ":")),
    )

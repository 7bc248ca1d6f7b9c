"""What is told to whom: the deliveries of an event, as values.

Pure. A *receiver* is a URL; the deliveries of one call to one URL are a lane, sent in order.
The id of a delivery is made of what it tells and to whom, so that whoever computes it again
(a retry, a projection after a crash, another instance) finds the same one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bridge.store.deliveries import Delivery
from bridge.webhook.address import receiver_of
from bridge.webhook.retry import LIFETIME

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Receivers:
    """To whom: ``url`` is the receiver of calls that name none (``[webhook] url``), or ``""``."""

    url: str = ""


def event_deliveries(
    event: Mapping[str, Any],
    record: Resource,
    private: Resource,
    receivers: Receivers,
    *,
    earlier: Sequence[Mapping[str, Any]] = (),
) -> list[Delivery]:
    """Return what has to be sent because of *event*: one POST, or none.

    A call's events go to its own ``webhook_url``, else to ``[webhook] url``; those of a voice
    session (seed 004) to the latter only. *earlier* are the call's events before *event*; they
    are needed where *record* is newer than *event*. What is no URL gets nothing.
    """
    own = "" if is_voice_session(private) else str(private.get("webhook_url") or "")
    if not receiver_of(url := own or receivers.url):
        return []
    kind = type_of(str(event["event"]))
    call = as_of(record, [*earlier, event])
    return [
        _delivery(
            record,
            url,
            what=str(event["seq"]),
            seq=int(event["seq"]) * _STEP,
            event=kind,
            document={**event, "type": kind, "call": call},
        )
    ]


def session_deliveries(
    record: Resource, private: Resource, receivers: Receivers, *, session: Resource
) -> list[Delivery]:
    """Return what should have been sent by now of a voice session (seed 004); of others nothing.

    To its own ``webhook_url``, else to ``[webhook] url``. *session* is its public form as of now
    (``VoiceSessionOut``). Computed from the state of *record*: ask at every change of it, what
    was sent before has the same id. A session ends once: ``ended`` and ``failed`` share an id.
    """
    url = str(private.get("webhook_url") or receivers.url)
    if not is_voice_session(private) or not receiver_of(url):
        return []

    def told(what: str, kind: str, seq: int, at: object, shown: Resource) -> Delivery:
        document = {"event": kind, "type": kind, "at": at, "session": shown}
        return _delivery(record, url, what=what, seq=seq, event=kind, document=document)

    # As it was then, however late that is told.
    begun = {**session, **{name: _CREATED[name] for name in _CREATED if name in session}}
    found = [told(STARTED, STARTED, 1, record["created_at"], begun)]
    if (kind := _SESSION_END.get(str(record["status"]))) is not None:
        seq = int(record.get("seq") or 0) * _STEP + 2
        at = record.get("ended_at") or record["created_at"]
        found.append(told(ENDED, kind, seq, at, session))
    return found


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


_CREATED: Final[dict[str, Any]] = {
    "status": "created",
    "started_at": None,
    "ended_at": None,
    "duration_seconds": None,
    "turn_count": 0,
    "total_audio_seconds": 0,
    "end_reason": None,
}


def _delivery(
    record: Resource, url: str, *, what: str, seq: int, event: str, document: Mapping[str, Any]
) -> Delivery:
    call_id = str(record["id"])
    return Delivery(
        id=str(uuid.uuid5(NAMESPACE, f"{call_id}\n{what}\n{url}")),
        call_id=call_id,
        seq=seq,
        event=event,
        url=url,
        body=json.dumps(document, separators=(",", ":")),
        tenant_id=record.get("tenant_id"),
        receiver=receiver_of(url),
        lifetime=LIFETIME,
    )

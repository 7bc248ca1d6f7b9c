"""The call resource: what the API, webhooks and the store show of a call.

Contract, sections 5 and 6: seed 003's fields and the outcome's. An unknown
value is None, never 0.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from bridge.call.outcome import Outcome, Result, status_of
from bridge.call.plan import CallPlan
from bridge.call.state import CallState, Phase
from bridge.events import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallHold,
    CallResume,
    CallRinging,
    rfc3339,
)
from bridge.media.seam import EngineChoice
from bridge.trunk.headers import carrier_ids

WORKFLOW_NAMESPACE: Final = uuid.NAMESPACE_URL


def workflow_id(slug: str) -> str:
    """Return the id of a workflow: the UUIDv5 of its slug."""
    return str(uuid.uuid5(WORKFLOW_NAMESPACE, slug))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call as the outside sees it. Times are wall time in seconds."""

    id: str
    workflow_id: str | None
    workflow_slug: str | None
    user_id: str | None
    status: str
    direction: str
    call_type: str
    phone_number: str | None
    trunk_number: str | None
    trunk: str
    agent: str | None
    room_name: str
    user_context: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    agent_history: tuple[str, ...] = ()
    current_agent: str | None = None
    metrics: Mapping[str, Any] | None = None
    tenant_id: str | None = None
    hold: bool = False
    outcome: str | None = None
    reason: str | None = None
    ended_by: str | None = None
    sip_status: int | None = None
    q850: int | None = None
    duration_ms: int | None = None
    carrier_ids: Mapping[str, str] = field(default_factory=dict)
    media_engine: str | None = None
    media_engine_reason: str | None = None  # why not the direct engine, where it was wanted
    seq: int = 0
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    private: Mapping[str, Any] = field(default_factory=dict)
    """What is kept with the call and shown to nobody: no part of `as_dict`."""

    @property
    def duration_seconds(self) -> int | None:
        """Whole seconds from the answer to the end; None when never answered or not over."""
        if self.duration_ms is None or self.started_at is None:
            return None
        return round(self.duration_ms / 1000)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of the API."""
        document: dict[str, Any] = {}
        for name in _FIELDS:
            value = getattr(self, name)
            if name in _STAMPS:
                value = None if value is None else rfc3339(value)
            elif value is None or isinstance(value, _PLAIN):
                pass
            elif isinstance(value, tuple):
                value = list(value)
            else:
                value = dict(value)
            document[name] = value
        document["trunk"] = self.trunk or None  # a web call has none
        document["duration_seconds"] = self.duration_seconds
        return document


_FIELDS: Final = tuple(item.name for item in fields(CallRecord) if item.name != "private")
_STAMPS: Final = ("created_at", "started_at", "ended_at")
_PLAIN: Final = (str, int, float)


def new_record(plan: CallPlan) -> CallRecord:
    """Return the record of a call that was accepted and has not begun."""
    return CallRecord(
        id=plan.call_id,
        workflow_id=workflow_id(plan.workflow_slug) if plan.workflow_slug else None,
        workflow_slug=plan.workflow_slug,
        user_id=plan.user_id,
        status="pending",
        direction=plan.direction.value,
        call_type=plan.call_type,
        phone_number=plan.phone_number or None,
        trunk_number=plan.trunk_number or None,
        trunk=plan.trunk,
        agent=plan.agent or None,
        room_name=plan.room,
        user_context=plan.user_context,
        metadata=plan.metadata,
        carrier_ids=carrier_ids(plan.remote_headers, plan.carrier_headers),
        tenant_id=plan.tenant,
        created_at=plan.created_at,
        private=_private(plan),
    )


def _private(plan: CallPlan) -> dict[str, Any]:
    """Return what the store and the webhooks need of *plan*, and the API does not show."""
    private: dict[str, Any] = {}
    if plan.webhook_url is not None:
        private["webhook_url"] = plan.webhook_url
    if plan.passthrough:
        private["passthrough"] = True
    if plan.record:
        private["record"] = True
    return private


def with_carrier_ids(record: CallRecord, found: Mapping[str, str]) -> CallRecord:
    """Return *record* with what the carrier's messages have said since."""
    return replace(record, carrier_ids={**record.carrier_ids, **found}) if found else record


def with_engine(record: CallRecord, choice: EngineChoice | None) -> CallRecord:
    """Return *record* with who carries the call's media."""
    if choice is None or (choice.engine, choice.reason) == (
        record.media_engine,
        record.media_engine_reason,
    ):
        return record
    return replace(record, media_engine=choice.engine, media_engine_reason=choice.reason)


def fold(record: CallRecord, event: CallEvent) -> CallRecord:
    """Return *record* after *event*. Folding an event again changes nothing."""
    if event.seq <= record.seq:
        return record
    seq = event.seq
    match event:
        case CallRinging():
            return replace(record, seq=seq, status="connecting")
        case CallAnswered():
            return replace(record, seq=seq, status="active", started_at=event.at)
        case CallHold():
            return replace(record, seq=seq, hold=True)
        case CallResume():
            return replace(record, seq=seq, hold=False)
        case CallEnded():
            return _ended(record, event)
        case _:
            return replace(record, seq=seq)


def _ended(record: CallRecord, event: CallEnded) -> CallRecord:
    outcome = Result(event.outcome)
    return replace(
        record,
        seq=event.seq,
        status=status_of(outcome, event.reason),
        hold=False,
        outcome=outcome.value,
        reason=event.reason,
        ended_by=event.ended_by,
        sip_status=event.sip_status,
        q850=event.q850,
        duration_ms=event.duration_ms if record.started_at is not None else None,
        ended_at=event.at,
    )


def record_of(plan: CallPlan, events: Iterable[CallEvent]) -> CallRecord:
    """Return the record of a call from its events alone."""
    record = new_record(plan)
    for event in events:
        record = fold(record, event)
    return record


_CONNECTING: Final = (Phase.DIALING, Phase.RINGING, Phase.ANSWERING, Phase.CANCELLING)


def live_record(record: CallRecord, state: CallState) -> CallRecord:
    """Return *record* with what the machine knows and no event tells: that we dialled."""
    if record.status == "pending" and state.phase in _CONNECTING:
        return replace(record, status="connecting")
    return record


def ended_event(
    plan: CallPlan,
    verdict: Outcome,
    *,
    wall: float,
    sip_status: int | None = None,
    seq: int = 1,
    duration_ms: int = 0,
) -> CallEnded:
    """Return the call_ended of a call that no machine ends: refused, queued too long, crashed.

    *seq* is one more than that of the call's last event.
    """
    return CallEnded(
        call_id=plan.call_id,
        seq=seq,
        at=wall,
        outcome=verdict.outcome.value,
        reason=verdict.reason,
        ended_by=verdict.ended_by.value,
        sip_status=sip_status,
        q850=None,
        duration_ms=duration_ms,
    )

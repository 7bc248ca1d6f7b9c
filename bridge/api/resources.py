"""What the API answers, as schemas for ``/openapi.json``; answers themselves are plain objects."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bridge.api.filters import Status


class _Resource(BaseModel):
    model_config = ConfigDict(extra="allow")  # more may come: a client must not mind


class Wrong(_Resource):
    """One field that is wrong."""

    field: str
    message: str


class Problem(_Resource):
    """An error (RFC 9457). ``errors`` names each field of a 422."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Wrong] = Field(default_factory=list)


class CallMetrics(_Resource):
    """What the call's agents measured; null what none of them told. Latencies are means."""

    duration_seconds: int | None
    stt_latency_ms: float | None
    llm_latency_ms: float | None
    tts_latency_ms: float | None
    total_tokens: int | None
    agent_handoffs: int | None


class CallResource(_Resource):
    """One call. Durations run from the answer; what is not known is null, never 0."""

    id: str = Field(json_schema_extra={"format": "uuid"})
    tenant_id: str | None
    workflow_id: str | None
    workflow_slug: str | None
    user_id: str | None
    status: Status
    direction: Literal["inbound", "outbound"]
    call_type: Literal["voip", "sip"]
    phone_number: str | None
    trunk_number: str | None
    trunk: str | None
    agent: str | None
    room_name: str
    user_context: dict[str, Any] | None
    metadata: dict[str, Any] | None
    agent_history: list[str]
    current_agent: str | None
    metrics: dict[str, Any] | None
    hold: bool
    outcome: str | None
    reason: str | None
    ended_by: str | None
    sip_status: int | None
    q850: int | None
    carrier_ids: dict[str, str]
    seq: int
    created_at: str
    started_at: str | None
    ended_at: str | None
    duration_seconds: int | None
    duration_ms: int | None


class CallPage(_Resource):
    """One page of calls, newest first."""

    items: list[CallResource]
    total: int
    page: int
    page_size: int
    pages: int


class CallId(_Resource):
    """The call that was meant."""

    call_id: str = Field(json_schema_extra={"format": "uuid"})


class Rung(_Resource):
    """One SIP message, numbers masked."""

    at: str
    direction: Literal["in", "out"]
    first_line: str
    sdp_direction: str | None
    transport: str
    peer: str


class CallEventDocument(_Resource):
    """One event of a call (contract 4); the other fields depend on ``event``."""

    event: str
    version: int
    call_id: str
    seq: int
    at: str


class Analysis(_Resource):
    """What was made of the conversation by whoever analysed it; null what nobody told."""

    summary: str | None
    sentiment: str | None
    topics: list[str] | None
    action_items: list[Any] | None


class Cost(_Resource):
    """What the call cost, by provider; null what nobody told."""

    total: float | None
    currency: str | None
    breakdown: list[dict[str, Any]] | None
    usage: dict[str, float | None]


class Draining(_Resource):
    """No new calls; how many still run."""

    status: str
    calls: int


class Reloaded(_Resource):
    """``changed`` is in force, ``restart`` waits for a restart; one line per setting."""

    changed: list[str]
    restart: list[str]

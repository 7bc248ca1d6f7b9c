"""What is settled about a call before it begins, and never changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.errors import MisuseError


class Direction(StrEnum):
    """Who started the call, seen from us."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class AnswerMode(StrEnum):
    """When an inbound call is answered."""

    AGENT = "agent"  # 180 at once, 200 when an agent is there
    NOW = "now"  # 200 at once


class Control(StrEnum):
    """Who may call the control RPCs."""

    AGENTS = "agents"
    ANYONE = "anyone"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """One call as its maker wants it. Times are in seconds.

    ``phone_number`` is the far party's, ``trunk_number`` ours. ``agent`` is the
    LiveKit agent to dispatch, ``""`` none. ``agent_required`` ends a call that
    nobody speaks on although no agent was named. ``agent_gone_timeout`` 0 means
    never. ``headers`` become ``sip.h.*`` attributes; ``remote_headers`` are all
    the far end sent, for ``lk.sip.GetRemoteHeaders``; ``carrier_headers`` are the names of
    those in which the carrier says what it calls this call, or why it failed.
    ``passthrough``: a person in the room speaks, no agent. ``record``: both directions are kept
    from the answer on. ``tenant`` is who asked for the call,
    ``webhook_url`` where its events go besides.
    ``created_at`` is wall time. ``transfer_allow``: patterns (`bridge.trunk.targets`),
    numbers read in ``country``; ``refer_in``: the far end may ask for a transfer, too.
    """

    call_id: str
    direction: Direction
    trunk: str
    room: str
    created_at: float
    call_type: str = "sip"
    profile: str = "generic"
    phone_number: str = ""
    trunk_number: str = ""
    withheld: bool = False
    agent: str = ""
    agent_required: bool = False
    answer_mode: AnswerMode = AnswerMode.AGENT
    ring_timeout: float = 45.0
    max_duration: float = 14400.0
    agent_timeout: float = 20.0
    agent_gone_timeout: float = 10.0
    media_timeout_initial: float = 30.0
    media_timeout: float = 30.0
    hold_music: bool = False
    early_media: bool = False
    passthrough: bool = False
    record: bool = False
    tenant: str | None = None
    webhook_url: str | None = None
    workflow_slug: str | None = None
    user_id: str | None = None
    user_context: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    control: Control = Control.AGENTS
    controllers: frozenset[str] = frozenset()
    country: str = "IN"
    transfer_allow: tuple[str, ...] = ()
    refer_in: bool = False
    call_service: str | None = None
    sip_call_id: str = ""
    sip_tag: str = ""
    hostname: str = ""
    rule_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    remote_headers: tuple[tuple[str, str], ...] = ()
    carrier_headers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no call can be run with."""
        for name in ("ring_timeout", "max_duration", "agent_timeout"):
            if not getattr(self, name) > 0:
                msg = f"{name} must be above 0"
                raise MisuseError(msg)

    @property
    def inbound(self) -> bool:
        """Whether the call came in."""
        return self.direction is Direction.INBOUND

    @property
    def wants_agent(self) -> bool:
        """Whether a call on which no agent appears has failed (contract 4, Answering)."""
        return bool(self.agent) or self.agent_required

"""Levels: what may flow and what the room must show, as functions of the state.

Contract 4, Gate and Hold. A level is never remembered as "was switched": it is
computed anew after each step and emitted when it differs from what was applied.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bridge.call.plan import CallPlan
from bridge.call.state import CLOSED, CallState, Phase, RoomLevels
from bridge.media.seam import MediaLevels

VALUE_LIMIT: Final = 1024
HEADERS_LIMIT: Final = 32
RULE_UNNAMED: Final = "trunkbridge"
"""``sip.ruleID`` of an inbound call without a rule: agents tell inbound by its presence."""


def media_levels(state: CallState) -> MediaLevels:
    """Return what may flow between the carrier and the room."""
    negotiated = state.negotiated
    if negotiated is None or state.over or state.phase is Phase.CANCELLING:
        return CLOSED
    if state.phase is not Phase.ANSWERED:
        return MediaLevels(
            transmit=False, agent_audio=False, caller_audio=state.early, watchdog=None
        )
    transmit = not state.held and negotiated.send
    pausing = state.held or state.resuming is not None
    listening = (state.gate_open or state.early) and (state.plan.hold_music or not pausing)
    watched = negotiated.receive and not state.held and not state.own_hold
    return MediaLevels(
        transmit=transmit,
        agent_audio=transmit and state.gate_open and not pausing and not state.own_hold,
        caller_audio=listening and not state.own_hold,
        watchdog=state.plan.media_timeout if watched else None,
        watchdog_initial=state.plan.media_timeout_initial if watched else None,
    )


def room_levels(state: CallState) -> RoomLevels:
    """Return what our participant must show and hear."""
    return RoomLevels(
        muted=state.held and not state.plan.hold_music,
        subscribed=state.gate_open and not state.over,
        attributes=attributes(state),
    )


def call_status(state: CallState) -> str:
    """Return ``sip.callStatus`` (the values of livekit/sip)."""
    if state.over:
        return "hangup"
    if state.phase is Phase.ANSWERED:
        return "active"
    ringing = state.plan.inbound or state.rang_at is not None
    return "ringing" if ringing else "dialing"


def attributes(state: CallState) -> Mapping[str, str]:
    """Return all attributes of our participant: what a late joiner reads."""
    return MappingProxyType(
        {
            **plan_attributes(state.plan),
            **_dialog_attributes(state),
            "sip.callStatus": call_status(state),
            "bridge.hold": "true" if state.held and not state.over else "false",
            "bridge.seq": str(state.seq),
        }
    )


def _dialog_attributes(state: CallState) -> dict[str, str]:
    values = {"sip.callIDFull": _clean(state.sip_call_id), "sip.callTag": _clean(state.sip_tag)}
    return {name: value for name, value in values.items() if value}


def plan_attributes(plan: CallPlan) -> dict[str, str]:
    """Return the attributes that never change; one without a value is left out."""
    values = {
        "sip.callID": plan.call_id,
        "sip.callIDFull": plan.sip_call_id,
        "sip.callTag": plan.sip_tag,
        "sip.phoneNumber": plan.phone_number or ("anonymous" if plan.withheld else ""),
        "sip.trunkPhoneNumber": plan.trunk_number,
        "sip.trunkID": plan.trunk,
        "sip.hostname": plan.hostname,
    }
    if plan.inbound:
        values["sip.ruleID"] = plan.rule_id or RULE_UNNAMED
    for name, value in list(plan.headers.items())[:HEADERS_LIMIT]:
        values[f"sip.h.{name.lower()}"] = value
    cleaned = {name: _clean(value) for name, value in values.items()}
    return {name: value for name, value in cleaned.items() if value}


def _clean(text: str) -> str:
    """Return *text* without control characters, bounded: peers wrote parts of it."""
    kept = "".join(c for c in text[:VALUE_LIMIT] if unicodedata.category(c)[0] != "C")
    return kept.encode()[:VALUE_LIMIT].decode(errors="ignore").strip()


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return what of *new* is not in *old* as it is."""
    return {name: value for name, value in new.items() if old.get(name) != value}

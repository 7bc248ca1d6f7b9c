"""Levels: what may flow and what the room must show, as functions of the state.

Contract 4, Gate and Hold. A level is never remembered as "was switched": it is
computed anew after each step and emitted when it differs from what was applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bridge.call.plan import CallPlan
from bridge.call.state import CLOSED, CallState, Phase, RoomLevels
from bridge.media.seam import MediaLevels
from bridge.room import convention


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
    # Whoever is being transferred may send nothing meanwhile.
    away = state.transfer is not None and state.transfer.accepted
    watched = negotiated.receive and not state.held and not state.own_hold and not away
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
            **convention.dialog_attributes(state.sip_call_id, state.sip_tag),
            convention.ATTR_CALL_STATUS: call_status(state),
            **convention.hold_attribute(held=state.held and not state.over),
            **convention.seq_attribute(state.seq),
        }
    )


def plan_attributes(plan: CallPlan) -> dict[str, str]:
    """Return the attributes that never change."""
    return convention.fixed_attributes(facts_of(plan))


def facts_of(plan: CallPlan) -> convention.CallFacts:
    """Return what the call's participant says about itself."""
    return convention.CallFacts(
        call_id=plan.call_id,
        direction=convention.Direction(plan.direction.value),
        trunk=plan.trunk,
        number=plan.phone_number or (convention.WITHHELD if plan.withheld else ""),
        trunk_number=plan.trunk_number,
        sip_call_id=plan.sip_call_id,
        call_tag=plan.sip_tag,
        hostname=plan.hostname,
        rule=plan.rule_id,
        headers=plan.headers,
    )


def changed(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return what of *new* is not in *old* as it is."""
    return {name: value for name, value in new.items() if old.get(name) != value}

"""Which participant of a room is the phone."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from livekit import rtc

SIP: Final = rtc.ParticipantKind.PARTICIPANT_KIND_SIP
_AGENT: Final = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
# Seconds to wait for the job's own phone, or for any, while others are in the room.
_PATIENCE: Final = 2.0


def is_phone(participant: rtc.RemoteParticipant) -> bool:
    """Tell whether *participant* is a phone call: of kind SIP, with ``sip.callID``."""
    return participant.kind == SIP and "sip.callID" in participant.attributes


def job_call_id(ctx: Any) -> str | None:
    """Return the call that the job is for, when its metadata says so (contract 4)."""
    job = getattr(ctx, "job", None)
    try:
        document = json.loads(getattr(job, "metadata", "") or "{}")
    except (TypeError, ValueError):
        return None
    call_id = document.get("call_id") if isinstance(document, dict) else None
    return call_id if isinstance(call_id, str) else None


async def find_phone(
    room: rtc.Room, timeout: float, call_id: str | None
) -> rtc.RemoteParticipant | None:
    """Return the phone of *call_id* now or soon in *room*; any phone when it is None.

    None when somebody is there without one.
    """
    changed = asyncio.Event()

    def look(*_: Any) -> None:
        changed.set()

    room.on("participant_connected", look)
    room.on("participant_attributes_changed", look)
    room.on("participant_disconnected", look)
    room.on("disconnected", look)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    try:
        while room.isconnected():
            changed.clear()
            others = list(room.remote_participants.values())
            phones = [participant for participant in others if is_phone(participant)]
            own = [phone for phone in phones if phone.attributes["sip.callID"] == call_id]
            if call_id is not None:  # livekit/sip's ids are not those of any job's metadata
                phones = [phone for phone in phones if "bridge.seq" not in phone.attributes]
            if own or (phones and call_id is None):
                return (own or phones)[0]
            if phones or any(participant.kind not in (SIP, _AGENT) for participant in others):
                # Somebody without a phone: a web call, unless one is just about to join.
                deadline = min(deadline, loop.time() + _PATIENCE)
            remaining = deadline - loop.time()
            try:
                await asyncio.wait_for(changed.wait(), max(0.0, remaining))
            except TimeoutError:
                return phones[0] if phones else None
        return None
    finally:
        room.off("participant_connected", look)
        room.off("participant_attributes_changed", look)
        room.off("participant_disconnected", look)
        room.off("disconnected", look)

"""What others in a LiveKit room see of a call: names, values and their shapes.

Contract, section 4: a superset of what livekit/sip does, so that unmodified
agents work. Pure. Every value a peer had a hand in is stripped of control
characters and bounded, because the server drops a participant whose
attributes exceed 64 KiB and because agents print what they read.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

TOPIC = "sip_bridge_events"
"""Topic of the reliable data messages that carry the events."""

TRANSCRIPTION_TOPIC = "lk.transcription"
"""Topic on which agents stream what was said."""

SESSION_TOPIC = "lk.agent.session"
"""Topic on which agents tell of their session: what was said, and what it took."""

SEGMENT_ID = "lk.segment_id"
TRANSCRIPTION_FINAL = "lk.transcription_final"
TRANSCRIBED_TRACK = "lk.transcribed_track_id"
"""Attributes of a transcription."""

SOURCE = "trunkbridge"
WITHHELD = "anonymous"
"""How a number that the far party withheld is written."""

# RPC methods on our participant. The two of livekit/sip first, then ours.
RPC_END_CALL = "lk.sip.EndCall"
RPC_REMOTE_HEADERS = "lk.sip.GetRemoteHeaders"
RPC_READY = "bridge.Ready"
RPC_HOLD = "bridge.Hold"
RPC_RESUME = "bridge.Resume"
RPC_TRANSFER = "bridge.Transfer"
RPC_SEND_DTMF = "bridge.SendDTMF"

ATTR_CALL_ID = "sip.callID"
ATTR_CALL_ID_FULL = "sip.callIDFull"
ATTR_CALL_TAG = "sip.callTag"
ATTR_CALL_STATUS = "sip.callStatus"
ATTR_PHONE_NUMBER = "sip.phoneNumber"
ATTR_TRUNK_PHONE_NUMBER = "sip.trunkPhoneNumber"
ATTR_TRUNK_ID = "sip.trunkID"
ATTR_HOSTNAME = "sip.hostname"
ATTR_RULE_ID = "sip.ruleID"
ATTR_HEADER_PREFIX = "sip.h."
ATTR_HOLD = "bridge.hold"
ATTR_SEQ = "bridge.seq"

NUMBER_LIMIT = 64
VALUE_LIMIT = 1024
HEADERS_LIMIT = 32
ROOM_NAME_LIMIT = 256
JOB_METADATA_LIMIT = 60_000
"""Bytes; above every limit LiveKit's dispatch accepts by default."""

_DTMF_DIGITS = "0123456789*#ABCD"
_HEADER_NAME = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]{1,128}\Z")  # RFC 3261 25.1 token
_PLACEHOLDER = re.compile(r"\{(call_id|number|caller)\}")
_SUFFIX_LENGTH = 8


class Direction(Enum):
    """Who started the call, seen from us."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


def clean(text: str, limit: int = VALUE_LIMIT) -> str:
    """Return *text* without control characters, at most *limit* bytes of UTF-8.

    Category C goes whole: controls, direction overrides and lone surrogates.
    The cut never splits a character.
    """
    if text.isascii() and text.isprintable():
        return text[:limit].strip()
    # A character is at least one byte, so this cut bounds the work and loses nothing.
    kept = "".join(c for c in text[: limit * 4] if unicodedata.category(c)[0] != "C")
    return kept.encode()[:limit].decode(errors="ignore").strip()


def _number(number: str) -> str:
    """Return *number* fit for an identity; a missing one is withheld."""
    return "".join(clean(number, NUMBER_LIMIT).split()) or WITHHELD


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """What a call's participant says about itself and never changes.

    ``number`` is the far party's, ``trunk_number`` ours. ``rule`` names the
    route and is only shown for inbound calls; ``headers`` are those the trunk
    copies into the room.
    """

    call_id: str
    direction: Direction
    trunk: str
    number: str
    trunk_number: str
    sip_call_id: str = ""
    call_tag: str = ""
    hostname: str = ""
    rule: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def identity(facts: CallFacts, taken: Collection[str] = ()) -> str:
    """Return our identity in the room; *taken* are the identities already there."""
    prefix = "sip-in-" if facts.direction is Direction.INBOUND else "sip-"
    number = _number(facts.number)
    plain = prefix + number
    if number.lower() == WITHHELD or plain in taken:
        return f"{plain}-{facts.call_id[:_SUFFIX_LENGTH]}"
    return plain


def participant_name(number: str) -> str:
    """Return the participant's display name."""
    return f"Phone {_number(number)}"


def participant_metadata(facts: CallFacts) -> str:
    """Return the participant's metadata, a JSON object."""
    return _json(
        {
            "source": SOURCE,
            "call_id": facts.call_id,
            "trunk": clean(facts.trunk),
            "direction": facts.direction.value,
        }
    )


def fixed_attributes(facts: CallFacts) -> dict[str, str]:
    """Return the attributes that never change.

    One without a value is left out (an empty one would be a deletion). ``sip.ruleID`` is
    there on every inbound call and on no outbound one: agents tell the direction by it.
    """
    values = {
        ATTR_CALL_ID: facts.call_id,
        ATTR_CALL_ID_FULL: facts.sip_call_id,
        ATTR_CALL_TAG: facts.call_tag,
        ATTR_PHONE_NUMBER: facts.number,
        ATTR_TRUNK_PHONE_NUMBER: facts.trunk_number,
        ATTR_TRUNK_ID: facts.trunk,
        ATTR_HOSTNAME: facts.hostname,
    }
    if facts.direction is Direction.INBOUND:
        values[ATTR_RULE_ID] = facts.rule or SOURCE
    cleaned = {name: clean(value) for name, value in values.items()}
    return {
        **header_attributes(facts.headers),
        **{name: value for name, value in cleaned.items() if value},
    }


def header_attributes(headers: Mapping[str, str]) -> dict[str, str]:
    """Return ``sip.h.<lower-case name>`` for the first `HEADERS_LIMIT` usable headers."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        if len(found) == HEADERS_LIMIT:
            break
        text = clean(value)
        if text and _HEADER_NAME.match(name):
            found[ATTR_HEADER_PREFIX + name.lower()] = text
    return found


def dialog_attributes(sip_call_id: str, call_tag: str) -> dict[str, str]:
    """Return what is known only once the dialog exists."""
    values = {ATTR_CALL_ID_FULL: clean(sip_call_id), ATTR_CALL_TAG: clean(call_tag)}
    return {name: value for name, value in values.items() if value}


def hold_attribute(*, held: bool) -> dict[str, str]:
    """Return ``bridge.hold``."""
    return {ATTR_HOLD: "true" if held else "false"}


def seq_attribute(seq: int) -> dict[str, str]:
    """Return ``bridge.seq``, the number of the last event."""
    return {ATTR_SEQ: str(seq)}


def dtmf_code(digit: str) -> int | None:
    """Return LiveKit's code of *digit* (``0-9*#A-D``; 10 is ``*``), None if it has none."""
    index = _DTMF_DIGITS.find(digit.upper()) if len(digit) == 1 else -1
    return index if index >= 0 else None


def dtmf_digit(code: int, digit: str = "") -> str | None:
    """Return the key of a received SipDTMF: *digit* when valid, else by *code*."""
    if dtmf_code(digit) is not None:
        return digit.upper()
    return _DTMF_DIGITS[code] if 0 <= code < len(_DTMF_DIGITS) else None


def room_name(template: str, *, call_id: str, number: str, caller: str) -> str:
    """Return *template* with ``{call_id}``, ``{number}`` and ``{caller}`` filled in.

    ``number`` is the dialled one. Other braces stay as they are. A name that
    comes out empty is ``call-<call_id>``.
    """
    values = {"call_id": call_id, "number": _number(number), "caller": _number(caller)}
    filled = _PLACEHOLDER.sub(lambda match: values[match[1]], template)
    return clean(filled, ROOM_NAME_LIMIT) or f"call-{call_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a dispatched agent is told. ``config`` is for voice sessions only."""

    call_id: str
    direction: Direction
    call_type: str
    trunk: str | None = None
    profile: str = ""
    phone_number: str | None = None
    trunk_number: str | None = None
    workflow_slug: str | None = None
    user_id: str | None = None
    user_context: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    config: Mapping[str, Any] | None = None


def job_metadata(job: Job) -> str:
    """Return the job metadata of a dispatched agent, a JSON object.

    The names of today first, then those that agents written for older Exotel
    bridges read. Raises ``ValueError`` above `JOB_METADATA_LIMIT` bytes, so
    that the API can refuse what a caller sent before anything is dialled.
    """
    document: dict[str, Any] = {
        "call_id": job.call_id,
        "direction": job.direction.value,
        "call_type": job.call_type,
        "trunk": job.trunk,
        "phone_number": _optional_number(job.phone_number),
        "trunk_number": _optional_number(job.trunk_number),
        "workflow_slug": job.workflow_slug,
        "user_id": job.user_id,
        "user_context": _plain(job.user_context),
        "metadata": _plain(job.metadata),
    }
    if job.config is not None:
        document["config"] = _plain(job.config)
    document.update(_older_names(job))
    text = _json(document)
    if len(text.encode()) > JOB_METADATA_LIMIT:
        msg = f"job metadata exceeds {JOB_METADATA_LIMIT} bytes"
        raise ValueError(msg)
    return text


def _older_names(job: Job) -> dict[str, Any]:
    names: dict[str, Any] = {}
    if job.phone_number is not None:
        if job.direction is Direction.OUTBOUND:
            names["to_number"] = _number(job.phone_number)
        else:
            names["caller_number"] = _number(job.phone_number)
            names["inbound_number"] = _optional_number(job.trunk_number)
    if job.profile == "exotel":
        names["call_service"] = "exotel"
    return names


def _optional_number(number: str | None) -> str | None:
    return None if number is None else _number(number)


def _plain(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(value)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True)

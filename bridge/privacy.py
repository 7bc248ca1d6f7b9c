"""What is left of a call's numbers when they are masked, and of a call when it is erased."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_SHOWN: Final = 2  # digits of a masked number that are left
_SHORT: Final = 5  # a number with fewer digits is no person's

_NUMBERS: Final = {"call_transfer": ("to",)}
"""Fields of events that are numbers."""
_SAID: Final = {"call_transfer": ("to",), "call_dtmf": ("digit",)}
"""Fields of events that say something of a person."""

_KEPT: Final = frozenset(
    (
        "id", "tenant_id", "workflow_id", "workflow_slug", "status", "direction", "call_type",
        "trunk", "outcome", "reason", "ended_by", "sip_status", "q850", "duration_ms",
        "duration_seconds", "media_engine", "media_engine_reason", "hold", "seq", "created_at",
        "started_at", "ended_at",
    )
)  # fmt: skip
"""What an erased call keeps: which, when, how it went."""
_EMPTY: Final[Mapping[str, Any]] = {
    "user_context": {},
    "metadata": {},
    "carrier_ids": {},
    "agent_history": [],
}
ERASED: Final = "erased"
"""The room of an erased call whose name may have said who called."""


def masked(number: str) -> str:
    """Return *number* with all but its last digits as stars; again: the same."""
    digits = sum(c.isdigit() for c in number)
    if digits < _SHORT:
        return number
    left = digits - _SHOWN
    shown: list[str] = []
    for c in number:
        if c.isdigit() and left > 0:
            left -= 1
            shown.append("*")
        else:
            shown.append(c)
    return "".join(shown)


def masked_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's resource with the far party's number masked wherever it stands."""
    number = record.get("phone_number")
    if not isinstance(number, str) or masked(number) == number:
        return dict(record)
    bare = number.lstrip("+")
    return {name: _without(value, number, bare) for name, value in record.items()}


def _without(value: Any, number: str, bare: str) -> Any:
    if isinstance(value, str):
        return value.replace(number, masked(number)).replace(bare, masked(bare))
    if isinstance(value, Mapping):
        return {name: _without(item, number, bare) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without(item, number, bare) for item in value]
    return value


def masked_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's JSON object with its numbers masked."""
    fields = _NUMBERS.get(str(event.get("event")), ())
    return {
        name: masked(value) if name in fields and isinstance(value, str) else value
        for name, value in event.items()
    }


def erased_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's JSON object without what it says of a person."""
    fields = _SAID.get(str(event.get("event")), ())
    return {name: "" if name in fields else value for name, value in event.items()}


def erased_record(
    record: Mapping[str, Any], private: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a call's resource and its private part as they are once it is erased."""
    left = {name: value if name in _KEPT else _EMPTY.get(name) for name, value in record.items()}
    if "room_name" in record:
        room = f"call-{record.get('id')}"
        left["room_name"] = room if record["room_name"] == room else ERASED
    session = private.get("session")
    # That there may be a recording, which is to be deleted.
    kept: dict[str, Any] = {"record": True} if private.get("record") else {}
    if isinstance(session, Mapping):
        kept["session"] = {
            name: session[name] for name in ("kind", "end_reason") if name in session
        }
    return left, kept

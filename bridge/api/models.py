"""The bodies of the API: checked at the door, plain dataclasses behind it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bridge.call.requests import DialRequest

_NUMBER = re.compile(r"^\+?[0-9*#]{1,32}$")
_ROOM = re.compile(r"^[A-Za-z0-9_.:@+-]{1,128}$")

Text = Annotated[str, Field(max_length=256)]
Timeout = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


class CreateCall(BaseModel):
    """``POST /api/v1/calls``: seed 003's fields and the bridge's own."""

    model_config = ConfigDict(extra="forbid")

    workflow_slug: Text | None = None
    user_id: Text | None = None
    call_type: Literal["voip", "sip"] | None = None
    phone_number: str | None = None
    user_context: dict[str, Any] | None = None
    metadata: dict[str, Any] = {}
    trunk: Text | None = None
    agent: Text | None = None
    room: Text | None = None
    caller_id: Text | None = None
    ring_timeout: Timeout | None = None
    max_duration: Timeout | None = None
    early_media: bool = False

    @field_validator("phone_number", "caller_id")
    @classmethod
    def _check_number(cls, value: str | None) -> str | None:
        if value is not None and not _NUMBER.match(value):
            raise ValueError("not a phone number, allowed: E.164 such as +919876543210")
        return value

    @field_validator("room")
    @classmethod
    def _check_room(cls, value: str | None) -> str | None:
        if value is not None and not _ROOM.match(value):
            raise ValueError("not a room name, allowed: 1 to 128 of A-Z a-z 0-9 _ . : @ + -")
        return value

    @model_validator(mode="after")
    def _check_type(self) -> Self:
        kind = self.call_type or ("sip" if self.phone_number else "voip")
        if kind == "voip":
            raise ValueError(
                "call_type voip (web calls) is not served yet, allowed: sip with phone_number"
            )
        if self.phone_number is None:
            raise ValueError("phone_number is missing, call_type sip needs it (E.164)")
        return self

    def request(self) -> DialRequest:
        """Return what the call service is asked."""
        values = self.model_dump(exclude={"call_type"})
        return DialRequest(**values)


class CallAccepted(BaseModel):
    """``201`` of ``POST /api/v1/calls``."""

    call_id: str
    room_name: str
    url: str
    token: str
    status: str

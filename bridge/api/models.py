"""The bodies of the API: checked at the door, plain dataclasses behind it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from bridge.call.requests import Accepted, BadRequest, DialRequest

_NUMBER = re.compile(r"\+?[0-9*#]{1,32}")
_WITHHELD = "anonymous"  # contract 3, Numbers
_ROOM = re.compile(r"[A-Za-z0-9_.:@+-]{1,128}")
_MAX_DEPTH = 32
_PHONE_ONLY = ("phone_number", "trunk", "caller_id", "ring_timeout", "early_media", "record")


def _check_text(value: str) -> str:
    if not value.isprintable():  # also lone surrogates, which are no UTF-8
        raise ValueError("has characters that cannot be printed")
    return value


def checked_number(value: str) -> str:
    """Return *value*. Raises ``ValueError`` when nobody could dial it."""
    if not _NUMBER.fullmatch(value):
        raise ValueError("not a phone number, allowed: E.164 such as +919876543210")
    return value


def _check_json(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse what Python's JSON reader takes and nobody else could read back.

    And what a program that has the bridge inside may hand over, but JSON cannot say.
    """
    for item in _leaves(value, 0):
        if not isinstance(item, (str, int, float, NoneType)):
            raise ValueError("has a value that is not JSON")
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError("has a number that is not JSON")
        if isinstance(item, str) and any("\ud800" <= char <= "\udfff" for char in item):
            raise ValueError("has half a surrogate pair, which is no Unicode text")
    return value


def _leaves(value: Any, depth: int) -> Iterator[Any]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item, depth + 1)
    else:
        yield value


Text = Annotated[str, Field(max_length=256), AfterValidator(_check_text)]
Timeout = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False, strict=True)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_check_json)]


class CreateCall(BaseModel):
    """``POST /api/v1/calls``: seed 003's fields and the bridge's own."""

    model_config = ConfigDict(extra="forbid")

    workflow_slug: Text | None = None
    user_id: Text | None = None
    call_type: Literal["voip", "sip"] | None = None
    phone_number: str | None = None
    user_context: JsonObject | None = None
    metadata: JsonObject | None = None
    trunk: Text | None = None
    agent: Text | None = None
    room: str | None = None
    caller_id: str | None = None
    ring_timeout: Timeout | None = None
    max_duration: Timeout | None = None
    early_media: StrictBool | None = None
    webhook_url: Annotated[str | None, Field(max_length=2048)] = None
    record: StrictBool | None = None

    @field_validator("phone_number")
    @classmethod
    def _check_number(cls, value: str | None) -> str | None:
        return None if value is None else checked_number(value)

    @field_validator("caller_id")
    @classmethod
    def _check_caller(cls, value: str | None) -> str | None:
        if value is not None and value != _WITHHELD and not _NUMBER.fullmatch(value):
            raise ValueError("not a phone number, allowed: E.164 or anonymous to withhold it")
        return value

    @field_validator("room")
    @classmethod
    def _check_room(cls, value: str | None) -> str | None:
        if value is not None and not _ROOM.fullmatch(value):
            raise ValueError("not a room name, allowed: 1 to 128 of A-Z a-z 0-9 _ . : @ + -")
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _check_whole(cls, given: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        """Name everything that is wrong: of single fields, and of fields together."""
        try:
            made = check(given)
        except ValidationError as failure:
            if not isinstance(given, Mapping):
                raise
            lines = [_line(error) for error in failure.errors()]
            known = {str(line["loc"][0]) for line in lines if line["loc"]}
            lines += [
                _conflict(field, text, given)
                for field, text in cls._conflicts(given, known)
                if field not in known
            ]
            raise ValidationError.from_exception_data(cls.__name__, lines) from None
        values = {name: getattr(made, name) for name in cls.model_fields}
        lines = [_conflict(field, text, values) for field, text in cls._conflicts(values, ())]
        if lines:
            raise ValidationError.from_exception_data(cls.__name__, lines)
        return made

    @classmethod
    def _conflicts(
        cls, values: Mapping[str, Any], wrong: Collection[str]
    ) -> Iterator[tuple[str, str]]:
        """Yield the fields that are wrong beside the others; *wrong* are so by themselves."""
        if "call_type" in wrong:
            return
        if _is_sip(values):
            if values.get("phone_number") is None:
                yield "phone_number", "missing, call_type sip needs it (E.164)"
            if all(values.get(name) is None for name in ("workflow_slug", "trunk", "agent")):
                yield "workflow_slug", "missing, needed unless trunk or agent is given"
            return
        for name in _PHONE_ONLY:
            if values.get(name) not in (None, False):
                yield name, "only for call_type sip"
        if values.get("workflow_slug") is None and values.get("agent") is None:
            text = "missing, call_type voip needs it or agent (a phone_number makes it sip)"
            yield "workflow_slug", text

    @property
    def is_sip(self) -> bool:
        """Whether a phone is dialled; else a browser joins."""
        return _is_sip({"call_type": self.call_type, "phone_number": self.phone_number})

    def request(self, *, tenant: str | None = None) -> DialRequest:
        """Return what the call service is asked for *tenant*; of a phone call."""
        if self.phone_number is None:
            raise BadRequest("phone_number", "missing, this field is required")
        values = self.model_dump(exclude={"call_type"})
        values["metadata"] = values["metadata"] or {}
        values["early_media"] = bool(values["early_media"])
        values["record"] = bool(values["record"])
        return DialRequest(**values, tenant=tenant)


class CreatePhoneCall(CreateCall):
    """``POST /api/calls/outbound``: a phone call, whatever else is said or not."""

    call_type: Literal["sip"] = "sip"

    @model_validator(mode="before")
    @classmethod
    def _say_type(cls, given: Any) -> Any:
        """Take null for the only type there is."""
        if isinstance(given, Mapping) and given.get("call_type") is None:
            return {**given, "call_type": "sip"}
        return given

    @classmethod
    def _conflicts(
        cls, values: Mapping[str, Any], wrong: Collection[str]
    ) -> Iterator[tuple[str, str]]:
        return super()._conflicts({**values, "call_type": "sip"}, set(wrong) - {"call_type"})


def _is_sip(values: Mapping[str, Any]) -> bool:
    kind = values.get("call_type")
    return kind == "sip" or (kind is None and values.get("phone_number") is not None)


def _line(error: ErrorDetails) -> InitErrorDetails:
    """Return one of pydantic's errors as it is made into another."""
    line = InitErrorDetails(type=error["type"], loc=error["loc"], input=error["input"])
    if "ctx" in error:
        line["ctx"] = error["ctx"]
    return line


def _conflict(field: str, text: str, values: Mapping[str, Any]) -> InitErrorDetails:
    wrong = PydanticCustomError("wrong", "{text}", {"field": field, "text": text})
    return InitErrorDetails(type=wrong, loc=(field,), input=values.get(field))


class CallAccepted(BaseModel):
    """``201`` of ``POST /api/v1/calls``: join *room_name* at *url* with *token*."""

    call_id: str = Field(json_schema_extra={"format": "uuid"})
    room_name: str
    url: str
    token: str
    status: str

    @classmethod
    def of(cls, accepted: Accepted) -> Self:
        """Return what is told of a call that was accepted."""
        return cls(
            call_id=accepted.call_id,
            room_name=accepted.room_name,
            url=accepted.url,
            token=accepted.token,
            status=accepted.status,
        )


class Digits(BaseModel):
    """``POST /api/v1/calls/{id}/dtmf``"""

    model_config = ConfigDict(extra="forbid")

    digits: Annotated[
        str,
        Field(
            pattern=r"^[0-9*#A-Dw]{1,64}$",
            description="1 to 64 of 0-9 * # A-D w; w waits half a second.",
        ),
    ]


class TransferTarget(BaseModel):
    """``POST /api/v1/calls/{id}/transfer``"""

    model_config = ConfigDict(extra="forbid")

    to: Annotated[
        str,
        Field(
            max_length=256,
            description="A phone number, a tel: or a sip: URI; or call: and a call's id.",
        ),
    ]

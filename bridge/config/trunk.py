"""Carrier accounts and where their calls go: ``[[trunk]]``, ``[[route]]``, ``[[workflow]]``."""

# ruff: noqa: RUF012 (pydantic copies a default)

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import (
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from bridge.config.values import (
    HEADER_NAME,
    Codec,
    Count,
    Name,
    Port,
    Positive,
    Seconds,
    Section,
    checked_host,
    checked_network,
    checked_text,
)
from bridge.trunk.profiles import profile_of

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class WorkflowConfig(Section):
    """``[[workflow]]``"""

    slug: Name
    agent: str = ""
    trunk: str = ""
    metadata: dict[str, Any] = {}


class TrunkConfig(Section):
    """``[[trunk]]``: one carrier account. The profile sets the defaults below."""

    name: Name
    profile: Literal["exotel", "plivo", "telnyx", "vobiz", "airtel", "twilio", "generic"] = (
        "generic"
    )
    host: str
    port: Port = 5060
    transport: Literal["tcp", "udp", "tls"] = "tcp"
    tls_ca_file: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_verify: bool = True
    tls_alpn: Annotated[str, Field(max_length=255, pattern=r"^[!-~]*$")] = ""
    outbound_proxy: str = ""
    domain: str = ""
    username: str = ""
    password: SecretStr = SecretStr("")
    register_: bool = Field(default=False, alias="register")
    caller_id: str = ""
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] = "IN"
    number_format: Literal["e164", "bare", "national-0"] = "e164"
    user_phone: bool = False
    codecs: Annotated[list[Codec], Field(min_length=1)] = ["PCMA", "PCMU"]
    srtp: Literal["off", "optional", "required"] = "off"
    allow: list[str] = []
    reject: Literal["silent", "403"] = "silent"
    media_allow: list[str] = []
    max_calls: Positive = 100
    calls_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3
    ring_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 45
    max_duration: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 14400
    agent_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20
    agent_gone_timeout: Seconds = 10
    media_timeout_initial: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30
    media_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30
    session_timer: Count = 1800
    options_interval: Seconds = 0
    keepalive: Literal["off", "crlf", "options"] = "off"
    hold_music: bool = False
    refer_in: bool = False
    transfer_allow: list[str] = []
    control: Literal["agents", "anyone"] = "agents"
    headers: dict[str, str] = {}
    header_attributes: list[str] = ["X-*"]

    @model_validator(mode="before")
    @classmethod
    def _apply_profile(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            profile = profile_of(str(values.get("profile", "generic")))
            known = profile.defaults
            if values.get("transport") == "tls":
                known["port"] = profile.tls_port
            if known.get("port") in (None, 5060):
                # The usual port is no reason not to ask DNS: see `dialled_port`.
                known.pop("port", None)
            return {**known, **values}
        return values

    @field_validator("host", "domain")
    @classmethod
    def _check_host(cls, value: str) -> str:
        return value and checked_host(value)

    @field_validator("username", "caller_id")
    @classmethod
    def _check_text(cls, value: str) -> str:
        return checked_text(value)

    @field_validator("outbound_proxy")
    @classmethod
    def _check_proxy(cls, value: str) -> str:
        if value:
            host, _, port = value.rpartition(":") if ":" in value else (value, "", "")
            checked_host(host or value)
            if port and not (port.isdigit() and 1 <= int(port) <= 65535):
                raise ValueError(f"{value!r} is not a proxy, allowed: HOST or HOST:PORT")
        return value

    @field_validator("allow", "media_allow")
    @classmethod
    def _check_networks(cls, value: list[str]) -> list[str]:
        return [checked_network(text) for text in value]

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not HEADER_NAME.match(name):
                raise ValueError(f"{name!r} is not a header name")
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"{name!r} is written by the bridge itself")
            checked_text(text)
        return value

    @field_validator("session_timer")
    @classmethod
    def _check_timer(cls, value: int) -> int:
        if 0 < value < 90:
            raise ValueError(f"{value} is too short, allowed: 0 (off) or at least 90 (RFC 4028)")
        return value

    @field_validator("codecs")
    @classmethod
    def _check_codecs(cls, value: list[Codec]) -> list[Codec]:
        if len(set(value)) < len(value):
            raise ValueError("the same codec twice")
        return value

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if not self.host:
            raise ValueError("host: empty, allowed: a host name or address")
        if self.register_ and not self.username:
            raise ValueError("register is true but username is empty")
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("tls_cert_file and tls_key_file: only one of the two is given")
        if self.transport == "tls" and "port" not in self.model_fields_set:
            self.__dict__["port"] = 5061  # a default: still not set
        return self

    @property
    def dialled_port(self) -> int | None:
        """The port to dial. None: none is given, DNS decides (SRV, RFC 3263 4.2), else 5060."""
        return self.port if "port" in self.model_fields_set else None

    @property
    def registered_user(self) -> str:
        """The user of our registered addresses; "" when the trunk does not register.

        Of ``user@realm`` what stands before the at sign.
        """
        if not self.register_:
            return ""
        return quote(self.username.partition("@")[0], safe="-_.!~*'()&=+$,;?/")

    @property
    def from_domain(self) -> str:
        """Host of From and To."""
        return self.domain or self.host


_OWN_HEADERS = frozenset(
    (
        *("via", "from", "to", "call-id", "cseq", "contact", "max-forwards", "route"),
        *("content-length", "content-type", "record-route", "allow", "supported", "require"),
        *("proxy-require", "authorization", "proxy-authorization", "session-expires", "min-se"),
    )
)


class RouteConfig(Section):
    """``[[route]]``: inbound number to agent and room; the first match wins."""

    trunk: str = ""
    number: Annotated[str, Field(min_length=1)] = "*"
    agent: str = ""
    room: Annotated[str, Field(min_length=1)] = "call-{call_id}"
    metadata: dict[str, Any] = {}
    answer: Literal["agent", "now"] = "agent"

    @field_validator("room")
    @classmethod
    def _check_room(cls, value: str) -> str:
        for name in _PLACEHOLDER.findall(value):
            if name not in ("call_id", "number", "caller"):
                raise ValueError(
                    f"{{{name}}} is unknown, allowed: {{call_id}} {{number}} {{caller}}"
                )
        return value

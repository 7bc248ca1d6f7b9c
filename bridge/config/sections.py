"""The configuration's sections, each checked by itself: contract, section 3."""

# ruff: noqa: RUF012 (pydantic copies a default)

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from bridge.config.values import (
    HEADER_NAME,
    Count,
    ListenAddress,
    Name,
    Positive,
    Seconds,
    Section,
    checked_host,
    checked_text,
    checked_url,
    host_and_port,
    is_loopback,
)
from bridge.webhook.address import check_url


class LiveKitConfig(Section):
    """``[livekit]``"""

    url: str = "ws://127.0.0.1:7880"
    public_url: str = ""
    api_key: str = "devkey"
    api_secret: SecretStr = SecretStr("devsecret")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return checked_url(value, ("ws", "wss", "http", "https"))

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        return value and checked_url(value, ("ws", "wss", "http", "https"))

    @property
    def told_url(self) -> str:
        """What browsers are told: always a WebSocket's URL."""
        url = self.public_url or self.url
        return f"ws{url.removeprefix('http')}" if url.startswith("http") else url


class SipConfig(Section):
    """``[sip]``"""

    listen: list[str] = ["tcp:0.0.0.0:5070"]
    advertise: str = ""
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_client_ca_file: str = ""
    user_agent: Annotated[str, Field(max_length=200)] = "trunkbridge"
    max_calls: Positive = 1000

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("empty, allowed: at least one address such as tcp:0.0.0.0:5070")
        parsed = [ListenAddress.parse(text) for text in value]
        if len({str(a) for a in parsed if a.port}) < len([a for a in parsed if a.port]):
            raise ValueError("the same address twice")
        return value

    @field_validator("advertise")
    @classmethod
    def _check_advertise(cls, value: str) -> str:
        return value and checked_host(value)

    @field_validator("user_agent")
    @classmethod
    def _check_user_agent(cls, value: str) -> str:
        return checked_text(value)

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if any(a.transport == "tls" for a in self.addresses) and not (
            self.tls_cert_file and self.tls_key_file
        ):
            raise ValueError("listen has tls: but tls_cert_file or tls_key_file is missing")
        return self

    @property
    def addresses(self) -> list[ListenAddress]:
        """The listen addresses, parsed."""
        return [ListenAddress.parse(text) for text in self.listen]


class MediaConfig(Section):
    """``[media]``"""

    engine: Literal["auto", "direct", "sdk"] = "auto"
    listen: str = "0.0.0.0"  # noqa: S104 (the documented default)
    advertise: str = ""
    ports: str = "20000-29999"
    threads: Positive = 1
    controllers: list[str] = []

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value.strip("[]")))
        except ValueError:
            raise ValueError(f"{value!r} is not an address, allowed: IPv4 or [IPv6]") from None

    @field_validator("advertise")
    @classmethod
    def _check_advertise(cls, value: str) -> str:
        return value and checked_host(value)

    @field_validator("ports")
    @classmethod
    def _check_ports(cls, value: str) -> str:
        match = re.match(r"^(\d{1,5})-(\d{1,5})$", value)
        if match is None or not 1024 <= int(match[1]) < int(match[2]) <= 65535:
            raise ValueError(
                f"{value!r} is not a port range, allowed: FIRST-LAST within 1024-65535"
            )
        if int(match[1]) + int(match[1]) % 2 >= int(match[2]):
            raise ValueError(f"{value!r} has no even port with the next one, allowed: 20000-20001")
        return value


class HttpKey(Section):
    """``[[http.key]]``"""

    name: Name
    key: SecretStr
    tenant: str = ""
    plan: str = "enterprise"
    permissions: list[Literal["stt", "tts", "llm", "admin"]] = ["stt", "tts", "llm"]
    credit: Annotated[float, Field(allow_inf_nan=False)] = 0

    @field_validator("key")
    @classmethod
    def _check_key(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value():
            raise ValueError("empty, allowed: any non-empty text")
        return value


class HttpConfig(Section):
    """``[http]``"""

    listen: str = "127.0.0.1:8080"
    jwt_secret: SecretStr = SecretStr("")
    key: list[HttpKey] = []
    cors_origins: list[str] = []

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, value: str) -> str:
        host_and_port(value)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (
                parts.scheme not in ("http", "https")
                or not parts.hostname
                or origin != f"{parts.scheme}://{parts.netloc}"
                or "@" in parts.netloc
            ):
                raise ValueError(
                    f"{origin!r} is no origin, allowed: https://app.example.com (no path), *"
                )
        return value

    @model_validator(mode="after")
    def _check_open(self) -> Self:
        if not self.key and not self.jwt_secret.get_secret_value() and not is_loopback(self.host):
            raise ValueError(
                "listen is not loopback and there is no [[http.key]]: "
                "add a key or listen on 127.0.0.1"
            )
        names = [key.name for key in self.key]
        if len(set(names)) < len(names):
            raise ValueError("key: the same name twice")
        return self

    @property
    def host(self) -> str:
        """The host of ``listen``."""
        return host_and_port(self.listen)[0]

    @property
    def port(self) -> int:
        """The port of ``listen``; 0 takes a free one."""
        return host_and_port(self.listen)[1]


class PlanConfig(Section):
    """``[[plan]]``"""

    name: Name
    sessions: Count = 20
    creates_per_minute: Count = 10
    min_credit: Annotated[float, Field(allow_inf_nan=False)] = 0


PLANS: Final = tuple(
    PlanConfig(name=name, sessions=sessions)
    for name, sessions in (("free", 1), ("starter", 5), ("pro", 20), ("enterprise", 0))
)
"""What a plan of these names is unless the file says otherwise (seed 004, Limits).

0 sessions: unlimited.
"""


class StoreConfig(Section):
    """``[store]``"""

    url: str = "sqlite:///trunkbridge.db"
    journal: Annotated[str, Field(min_length=1)] = "journal.db"
    instance: str = ""

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return checked_url(value, ("sqlite", "postgresql"))

    @property
    def instance_name(self) -> str:
        """The name of this instance; the host's by default."""
        return self.instance or socket.gethostname()


class DaemonConfig(Section):
    """``[daemon]``"""

    drain_timeout: Seconds = 300


class LogConfig(Section):
    """``[log]``"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class CaptureConfig(Section):
    """``[capture]``: whole SIP messages, numbers included, to a capture server or into files."""

    hep: str = ""  # HOST:PORT of a HEP3 server, over UDP
    hep_agent: Annotated[int, Field(ge=0, lt=2**32)] = 2001
    hep_password: SecretStr = SecretStr("")
    pcap: str = ""  # a folder: one file per call
    pcap_calls: Positive = 1000

    @field_validator("hep")
    @classmethod
    def _check_hep(cls, value: str) -> str:
        if value:
            host_and_port(value)
        return value


class PrivacyConfig(Section):
    """``[privacy]``"""

    mask_numbers: bool = False
    retention_days: Count = 90


class WebhookConfig(Section):
    """``[webhook]``"""

    url: str = ""
    secret: SecretStr = SecretStr("")
    header_prefix: str = "X-Trunkbridge-"
    allow_private: bool = False

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return value and checked_url(value, ("http", "https"))

    @field_validator("header_prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        if not HEADER_NAME.match(value):
            raise ValueError(f"{value!r} cannot begin a header name")
        return value

    @model_validator(mode="after")
    def _check_secret(self) -> Self:
        if self.url and not self.secret.get_secret_value():
            raise ValueError("url is set but secret is missing: deliveries are always signed")
        if self.url:
            check_url(self.url, allow_private=self.allow_private)
        return self


class SessionsConfig(Section):
    """``[sessions]``"""

    agent: str = ""


class QueueConfig(Section):
    """``[queue]``"""

    size: Count = 1000
    max_wait: Seconds = 300


class RecordingConfig(Section):
    """``[recording]``"""

    url: str = ""
    format: Literal["ogg", "wav"] = "ogg"

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        scheme, slashes, rest = value.partition("://")
        if slashes and (scheme not in ("s3", "file") or not rest.strip("/")):
            raise ValueError(f"{value!r} is no place, allowed: a folder, s3://BUCKET/PREFIX")
        return value

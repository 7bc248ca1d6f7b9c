"""The configuration: contract, section 3. Nothing else reads the environment.

`load` returns a `Config` or raises `ConfigError`, which holds one line per wrong
key: ``file:key: what is wrong, what is allowed``.
"""

from __future__ import annotations

import copy
import ipaddress
import json
import os
import re
import socket
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args, get_origin
from urllib.parse import quote, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bridge import native
from bridge.errors import BridgeError
from bridge.trunk.profiles import profile_of
from bridge.webhook.address import check_url

ENV_PREFIX = "TRUNKBRIDGE_"
SEARCH_PATH = (Path("trunkbridge.toml"), Path("/etc/trunkbridge/trunkbridge.toml"))

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Codec = Literal["PCMA", "PCMU"]

_HOST = re.compile(r"^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_HEADER_NAME = re.compile(r"^[A-Za-z0-9!%*_+`'~.-]+$")


class ConfigError(BridgeError):
    """The configuration is wrong; ``lines`` holds one line per error."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _cidr(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"{value!r} is not a network, allowed: an address or CIDR") from None


def _host(value: str) -> str:
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if not _HOST.match(value):
            raise ValueError(f"{value!r} is not a host name or address") from None
    return bare


def _url(value: str, schemes: tuple[str, ...]) -> str:
    if not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        allowed = ", ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"{value!r} is not a URL, allowed: {allowed}")
    return value


def _no_line_breaks(value: str) -> str:
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError("control characters are not allowed")
    return value


class ListenAddress(BaseModel):
    """One ``transport:host:port`` of ``[sip] listen``."""

    model_config = ConfigDict(frozen=True)

    transport: Literal["tcp", "udp", "tls"]
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what *text* says. Raises ``ValueError`` with what is allowed."""
        match = re.match(r"^(tcp|udp|tls):(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):(\d{1,5})$", text)
        if match is None or int(match[3]) > 65535:
            raise ValueError(
                f"{text!r} is not a listen address, allowed: tcp:HOST:PORT, udp: or tls:, "
                "HOST an IPv4 address or [IPv6]"
            )
        host = match[2].strip("[]")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(
                f"{text!r}: {host!r} is not an address, allowed: IPv4 or [IPv6]"
            ) from None
        return cls(transport=match[1], host=host, port=int(match[3]))  # type: ignore[arg-type]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"


def host_and_port(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``. Raises ``ValueError``."""
    match = re.match(r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):(\d{1,5})$", text)
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"{text!r} is not an address, allowed: HOST:PORT")
    return match[1].strip("[]"), int(match[2])


def is_loopback(host: str) -> bool:
    """Whether *host* can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LiveKitConfig(_Section):
    """``[livekit]``"""

    url: str = "ws://127.0.0.1:7880"
    public_url: str = ""
    api_key: str = "devkey"
    api_secret: SecretStr = SecretStr("devsecret")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return _url(value, ("ws", "wss", "http", "https"))

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str) -> str:
        return value and _url(value, ("ws", "wss", "http", "https"))

    @property
    def told_url(self) -> str:
        """What browsers are told: always a WebSocket's URL."""
        url = self.public_url or self.url
        return f"ws{url.removeprefix('http')}" if url.startswith("http") else url


class SipConfig(_Section):
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
        return value and _host(value)

    @field_validator("user_agent")
    @classmethod
    def _check_user_agent(cls, value: str) -> str:
        return _no_line_breaks(value)

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


class MediaConfig(_Section):
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
        return value and _host(value)

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


class HttpKey(_Section):
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


class HttpConfig(_Section):
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


class PlanConfig(_Section):
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


class StoreConfig(_Section):
    """``[store]``"""

    url: str = "sqlite:///trunkbridge.db"
    journal: Annotated[str, Field(min_length=1)] = "journal.db"
    instance: str = ""

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return _url(value, ("sqlite", "postgresql"))

    @property
    def instance_name(self) -> str:
        """The name of this instance; the host's by default."""
        return self.instance or socket.gethostname()


class DaemonConfig(_Section):
    """``[daemon]``"""

    drain_timeout: Seconds = 300


class LogConfig(_Section):
    """``[log]``"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class CaptureConfig(_Section):
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


class PrivacyConfig(_Section):
    """``[privacy]``"""

    mask_numbers: bool = False
    retention_days: Count = 90


class WebhookConfig(_Section):
    """``[webhook]``"""

    url: str = ""
    secret: SecretStr = SecretStr("")
    header_prefix: str = "X-Trunkbridge-"
    allow_private: bool = False

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return value and _url(value, ("http", "https"))

    @field_validator("header_prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        if not _HEADER_NAME.match(value):
            raise ValueError(f"{value!r} cannot begin a header name")
        return value

    @model_validator(mode="after")
    def _check_secret(self) -> Self:
        if self.url and not self.secret.get_secret_value():
            raise ValueError("url is set but secret is missing: deliveries are always signed")
        if self.url:
            check_url(self.url, allow_private=self.allow_private)
        return self


class SessionsConfig(_Section):
    """``[sessions]``"""

    agent: str = ""


class QueueConfig(_Section):
    """``[queue]``"""

    size: Count = 1000
    max_wait: Seconds = 300


class RecordingConfig(_Section):
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


class WorkflowConfig(_Section):
    """``[[workflow]]``"""

    slug: Name
    agent: str = ""
    trunk: str = ""
    metadata: dict[str, Any] = {}


class TrunkConfig(_Section):
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
        return value and _host(value)

    @field_validator("username", "caller_id")
    @classmethod
    def _check_text(cls, value: str) -> str:
        return _no_line_breaks(value)

    @field_validator("outbound_proxy")
    @classmethod
    def _check_proxy(cls, value: str) -> str:
        if value:
            host, _, port = value.rpartition(":") if ":" in value else (value, "", "")
            _host(host or value)
            if port and not (port.isdigit() and 1 <= int(port) <= 65535):
                raise ValueError(f"{value!r} is not a proxy, allowed: HOST or HOST:PORT")
        return value

    @field_validator("allow", "media_allow")
    @classmethod
    def _check_networks(cls, value: list[str]) -> list[str]:
        return [_cidr(text) for text in value]

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _HEADER_NAME.match(name):
                raise ValueError(f"{name!r} is not a header name")
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"{name!r} is written by the bridge itself")
            _no_line_breaks(text)
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


class RouteConfig(_Section):
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


class Config(BaseSettings):
    """The whole configuration, checked and immutable."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        validate_default=True,
    )

    livekit: LiveKitConfig = LiveKitConfig()
    sip: SipConfig = SipConfig()
    media: MediaConfig = MediaConfig()
    http: HttpConfig = HttpConfig()
    plan: list[PlanConfig] = []
    store: StoreConfig = StoreConfig()
    daemon: DaemonConfig = DaemonConfig()
    log: LogConfig = LogConfig()
    capture: CaptureConfig = CaptureConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    webhook: WebhookConfig = WebhookConfig()
    sessions: SessionsConfig = SessionsConfig()
    queue: QueueConfig = QueueConfig()
    recording: RecordingConfig = RecordingConfig()
    workflow: list[WorkflowConfig] = []
    trunk: list[TrunkConfig] = []
    route: list[RouteConfig] = []

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file; its ``_FILE`` variables have been read by then."""

        def environment() -> dict[str, Any]:
            values = env_settings()
            for name in _ARRAYS:  # a variable for a part of one is an error told elsewhere
                if isinstance(values.get(name), dict):
                    del values[name]
            for section, key in _SECRETS:
                for _, table in _tables(values, section):
                    table.pop(f"{key}_file", None)
            return values

        return environment, init_settings  # type: ignore[return-value]

    def trunk_named(self, name: str) -> TrunkConfig | None:
        """Return the trunk called *name*, or None."""
        return next((trunk for trunk in self.trunk if trunk.name == name), None)

    def workflow_of(self, slug: str) -> WorkflowConfig | None:
        """Return the workflow with *slug*, or None."""
        return next((workflow for workflow in self.workflow if workflow.slug == slug), None)

    def plan_named(self, name: str) -> PlanConfig | None:
        """Return the plan called *name*, the file's before ours, or None."""
        return next((plan for plan in (*self.plan, *PLANS) if plan.name == name), None)

    def dump(self) -> dict[str, Any]:
        """Return the effective settings as plain data, secrets masked."""
        dumped = self.model_dump(mode="json", by_alias=True)
        dumped["store"]["url"] = re.sub(r"(//[^:/@]+:)[^@]+@", r"\1**********@", self.store.url)
        return dumped


def find_config(explicit: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the config file to use: *explicit*, the environment's, or the first that exists."""
    chosen = explicit or environ.get("TRUNKBRIDGE_CONFIG")
    if chosen:
        return Path(chosen)
    return next((path for path in SEARCH_PATH if path.is_file()), None)


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration of *path* (None: defaults) with the environment on top.

    Raises `ConfigError`.
    """
    return _checked(_read(path), path, str(path) if path else "environment", environ)


def load_http(path: Path | None, environ: Mapping[str, str] = os.environ) -> HttpConfig:
    """Return ``[http]`` of *path* alone, whatever else is wrong: how the daemon is reached.

    Raises `ConfigError`.
    """
    values = {k: v for k, v in _read(path).items() if k in ("http", "plan")}
    return _checked(values, path, str(path) if path else "environment", environ).http


def from_values(values: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration that plain data describes, as a file would.

    Raises `ConfigError`.
    """
    return _checked(copy.deepcopy(dict(values)), None, "config", environ)


def _checked(
    values: dict[str, Any], path: Path | None, label: str, environ: Mapping[str, str]
) -> Config:
    unreadable = list(_unreadable_variables(environ))
    errors = [
        *_stray_variables(environ),
        *unreadable,
        *_resolve_secrets(values, path, label, environ),
    ]
    config: Config | None = None
    try:
        config = Config(**values)
    except ValidationError as failure:
        errors.extend(_explain(failure, label, environ))
    except ValueError as failure:
        if not unreadable:
            errors.append(f"environment:{failure}")
    errors.extend(f"{label}:{line}" for line in _cross_check(values))
    if errors or config is None:
        raise ConfigError(errors)
    return config


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as failure:
        raise ConfigError([f"{path}: cannot be read: {failure.strerror}"]) from failure
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise ConfigError([f"{path}: not TOML: {failure}"]) from failure


_ARRAYS: Final = ("plan", "workflow", "trunk", "route")


def _stray_variables(environ: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and "__" in name:
            section = name.removeprefix(ENV_PREFIX).split("__")[0].lower()
            if section not in Config.model_fields:
                allowed = " ".join(sorted(Config.model_fields))
                yield f"environment:{name}: unknown section, allowed: {allowed}"


def _unreadable_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line per variable that has to be JSON (a list, a table) and is none."""
    for name in sorted(environ):
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        if not name.startswith(ENV_PREFIX) or section not in Config.model_fields:
            continue
        annotation: Any = Config.model_fields[section].annotation
        if key and section in _ARRAYS:
            allowed = f'{ENV_PREFIX}{section.upper()}=[{{"KEY": …}}]'
            yield f"environment:{name}: a part of an array of tables, allowed: {allowed}"
            continue
        if key:
            field = getattr(annotation, "model_fields", {}).get(key)
            if field is None or get_origin(field.annotation) not in (list, dict):
                continue
            annotation = field.annotation
        try:
            json.loads(environ[name])
        except ValueError:
            allowed = '["ONE", "OTHER"]' if get_origin(annotation) is list else '{"KEY": …}'
            yield f"environment:{name}: not JSON, allowed: {allowed}"


_SECRETS: tuple[tuple[str, str], ...] = (
    ("livekit", "api_key"),
    ("livekit", "api_secret"),
    ("http", "jwt_secret"),
    ("http.key", "key"),
    ("capture", "hep_password"),
    ("webhook", "secret"),
    ("trunk", "password"),
    ("store", "url"),
)


def _tables(values: dict[str, Any], section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    node: Any = values
    for part in section.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, dict):
        yield section, node
    elif isinstance(node, list):
        for index, entry in enumerate(node):
            if isinstance(entry, dict):
                yield f"{section}[{index}]", entry


def _resolve_secrets(
    values: dict[str, Any], path: Path | None, label: str, environ: Mapping[str, str]
) -> Iterator[str]:
    """Replace every ``KEY_file`` by ``KEY`` with the file's content, in place.

    The environment wins here, too: its ``…__KEY`` and ``…__KEY_FILE`` over both of the file.
    """
    folders = [Path(environ["CREDENTIALS_DIRECTORY"])] if "CREDENTIALS_DIRECTORY" in environ else []
    folders.append(path.parent if path else Path())
    for section, key in _SECRETS:
        variable = f"{ENV_PREFIX}{section.upper()}__{key.upper()}"
        source = f"environment:{variable}_FILE" if f"{variable}_FILE" in environ else ""
        if source and isinstance(table := values.setdefault(section, {}), dict):
            table.pop(key, None)
            table[f"{key}_file"] = environ[f"{variable}_FILE"]
        for where, table in _tables(values, section):
            if f"{key}_file" not in table:
                continue
            name = table.pop(f"{key}_file")
            origin = source or f"{label}:{where}.{key}_file"
            if key in table or (source and variable in environ):
                yield f"{origin}: {key} is given too, allowed: one of them"
                continue
            if variable in environ:
                continue
            found = next((f / str(name) for f in folders if (f / str(name)).is_file()), None)
            if found is None:
                yield f"{origin}: no such file in {' or '.join(map(str, folders))}"
                table[key] = "sqlite://missing"  # fit for every secret: this is the one line
                continue
            table[key] = found.read_text("utf-8").rstrip("\r\n")


def _explain(failure: ValidationError, label: str, environ: Mapping[str, str]) -> Iterator[str]:
    for error in failure.errors(include_url=False):
        key = ""
        for part in error["loc"]:
            key += f"[{part}]" if isinstance(part, int) else f"{'.' if key else ''}{part}"
        variable = ENV_PREFIX + "__".join(str(part).upper() for part in error["loc"][:2])
        where = f"environment:{variable}" if variable in environ else f"{label}:{key}"
        yield f"{where}: {_sentence(error)}"


def _keys_beside(location: Iterable[int | str]) -> str:
    """Return the keys of the table that *location* names a key of."""
    model: Any = Config
    for part in list(location)[:-1]:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            model = next(iter(get_args(annotation)), annotation)
    return " ".join(field.alias or name for name, field in model.model_fields.items())


def _sentence(error: Any) -> str:
    context = error.get("ctx") or {}
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key, allowed: {_keys_beside(error['loc'])}"
        case "model_type" | "dict_type":
            return "not a table, allowed: a table"
        case "list_type" if len(error["loc"]) == 1 and error["loc"][0] in _ARRAYS:
            return f"not an array of tables, allowed: [[{error['loc'][0]}]]"
        case "list_type" if error["loc"] == ("http", "key"):
            return "not an array of tables, allowed: [[http.key]]"
        case "missing":
            return "missing, this key is required"
        case "literal_error":
            return f"{error['input']!r} is not allowed, allowed: {context['expected']}"
        case "value_error":
            return str(context["error"])
        case _:
            secret = any(error["loc"] and error["loc"][-1] == key for _, key in _SECRETS)
            hidden = secret or isinstance(error["input"], dict)
            shown = "" if hidden else f"{error['input']!r}: "
            return f"{shown}{error['msg'][:1].lower()}{error['msg'][1:]}"


def _cross_check(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong between sections; on plain data, so that one error hides no other."""
    for section, key in (("trunk", "name"), ("workflow", "slug"), ("plan", "name")):
        names = [entry.get(key) for _, entry in _tables(dict(values), section)]
        for index, name in enumerate(names):
            if name is not None and name in names[:index]:
                yield f"{section}[{index}].{key}: {name!r} is defined twice"
    trunks = [entry.get("name") for _, entry in _tables(dict(values), "trunk")]
    known = " ".join(map(str, trunks)) or "(no [[trunk]] is defined)"
    for section in ("workflow", "route"):
        for where, entry in _tables(dict(values), section):
            name = entry.get("trunk")
            if name and name not in trunks:
                yield f"{where}.trunk: no trunk {name!r}, allowed: {known}"
    ours = {plan.name for plan in PLANS}
    plans = {*ours, *(str(entry.get("name")) for _, entry in _tables(dict(values), "plan"))}
    for where, entry in _tables(dict(values), "http.key"):
        if entry.get("plan", "enterprise") not in plans:
            allowed = " ".join(sorted(plans))
            yield f"{where}.plan: no plan {entry['plan']!r}, allowed: {allowed}"


def not_yet(config: Config) -> Iterator[str]:
    """Yield one line per setting that is understood but not served by this version."""
    if config.media.engine == "direct" and not native.is_built():
        yield (
            "media.engine: direct needs the native core (trunkbridge-native), which is not "
            "installed, allowed: sdk, auto"
        )


def advice(config: Config) -> Iterator[str]:
    """Yield one line per setting that is served, but perhaps not as one would think."""
    if config.recording.url and config.route:
        yield (
            "recording.url: every call that comes in is recorded, and those of /call/outbound: "
            "tell the people, or leave it empty"
        )
    for index, trunk in enumerate(config.trunk):
        if trunk.register_ and not trunk.allow:
            yield (
                f"trunk[{index}].allow: empty, so no call comes in although the trunk registers: "
                "new calls need the carrier's addresses in allow"
            )


def clear_keys(config: Config) -> Iterator[str]:
    """Yield one line per trunk whose SRTP keys can be read by whoever reads its SIP.

    RFC 4568 8.3: the crypto attribute needs a secured signalling path.
    """
    for index, trunk in enumerate(config.trunk):
        if trunk.srtp != "off" and trunk.transport != "tls":
            yield f"trunk[{index}].srtp: its keys are sent in clear over {trunk.transport}, use tls"


def cannot_start(config: Config) -> list[str]:
    """Return the `not_yet` lines that make a start impossible rather than poorer."""
    return [line for line in not_yet(config) if not line.endswith("ignored")]

"""What values of the configuration may be: addresses, hosts, networks, names."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Codec = Literal["PCMA", "PCMU"]
_HOST = re.compile(r"^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$")
HEADER_NAME = re.compile(r"^[A-Za-z0-9!%*_+`'~.-]+$")


class Section(BaseModel):
    """A table of the configuration: no unknown keys, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def checked_network(value: str) -> str:
    """Return *value* as a network in its usual form. Raises ``ValueError``."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"{value!r} is not a network, allowed: an address or CIDR") from None


def checked_host(value: str) -> str:
    """Return *value*, a host name or an address, without brackets. Raises ``ValueError``."""
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        if not _HOST.match(value):
            raise ValueError(f"{value!r} is not a host name or address") from None
    return bare


def checked_url(value: str, schemes: tuple[str, ...]) -> str:
    """Return *value* when it begins with one of *schemes*. Raises ``ValueError``."""
    if not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        allowed = ", ".join(f"{scheme}://" for scheme in schemes)
        raise ValueError(f"{value!r} is not a URL, allowed: {allowed}")
    return value


def checked_text(value: str) -> str:
    """Return *value* when it has no control characters. Raises ``ValueError``."""
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

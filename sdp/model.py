"""What an SDP body says, as values (RFC 8866).

Attributes are kept in order and as written; what offer/answer needs of them
is read by properties, so that a description survives a round trip whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_PORT: Final = 65535


class SdpError(ValueError):
    """The text is not an SDP body (or a value cannot be written as one)."""


class Direction(StrEnum):
    """Which way media flows, seen from whoever wrote the SDP (RFC 8866 6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        """Whether the writer sends."""
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        """Whether the writer receives."""
        return self in (Direction.SENDRECV, Direction.RECVONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """``o=``. The numbers stay text: peers write more than 64 bits, or words."""

    username: str = "-"
    session_id: str
    version: str
    network_type: str = "IN"
    address_type: str = "IP4"
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """``c=``. ``suffix`` is what follows the address: ``/ttl`` or ``/ttl/count``."""

    network_type: str = "IN"
    address_type: str = "IP4"
    address: str
    suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """``a=name`` (``value`` None) or ``a=name:value``."""

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpMap:
    """``a=rtpmap``: what a payload type carries. ``encoding`` is upper case."""

    payload_type: int
    encoding: str
    clock_rate: int
    channels: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaDescription:
    """One ``m=`` section. ``port`` 0: refused or disabled."""

    media: str
    port: int
    port_count: int = 1
    protocol: str
    formats: tuple[str, ...]
    connection: Connection | None = None
    attributes: tuple[Attribute, ...] = ()

    @property
    def direction(self) -> Direction | None:
        """The direction written in this section, None without one."""
        return last_direction(self.attributes)

    @property
    def ptime(self) -> int | None:
        """``a=ptime`` in ms, None when absent or senseless."""
        return last_number(self.attributes, "ptime")

    @property
    def maxptime(self) -> int | None:
        """``a=maxptime`` in ms, None when absent or senseless."""
        return last_number(self.attributes, "maxptime")

    @property
    def rtcp_port(self) -> int | None:
        """The port of ``a=rtcp`` (RFC 3605), None when absent or senseless."""
        port = last_number(self.attributes, "rtcp")
        return port if port is not None and 0 < port <= MAX_PORT else None

    def rtpmaps(self) -> dict[int, RtpMap]:
        """Return the readable ``a=rtpmap`` lines by payload type; the first one counts."""
        maps: dict[int, RtpMap] = {}
        for attribute in self.attributes:
            if attribute.name.lower() == "rtpmap" and attribute.value is not None:
                found = read_rtpmap(attribute.value)
                if found is not None:
                    maps.setdefault(found.payload_type, found)
        return maps


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDescription:
    """A whole body. ``origin`` is None when the peer left it out or garbled it."""

    origin: Origin | None
    name: str = "-"
    connection: Connection | None = None
    timing: str = "0 0"
    attributes: tuple[Attribute, ...] = ()
    media: tuple[MediaDescription, ...] = ()

    @property
    def direction(self) -> Direction | None:
        """The direction written at session level, None without one."""
        return last_direction(self.attributes)


def last_direction(attributes: tuple[Attribute, ...]) -> Direction | None:
    """Return the last direction attribute, which is the one that peers act on."""
    for attribute in reversed(attributes):
        if attribute.value is None:
            try:
                return Direction(attribute.name.lower())
            except ValueError:
                continue
    return None


def last_number(attributes: tuple[Attribute, ...], name: str) -> int | None:
    """Return the number that the last readable attribute *name* begins with."""
    for attribute in reversed(attributes):
        if attribute.name.lower() == name and attribute.value:
            number = decimal(attribute.value.split(maxsplit=1)[0].partition(".")[0])
            if number is not None:
                return number
    return None


def read_rtpmap(value: str) -> RtpMap | None:
    """Return ``<pt> <encoding>/<rate>[/<channels>]`` as a value, None when it is not one."""
    fields = value.split()
    if len(fields) < 2:
        return None
    encoding, _, rest = fields[1].partition("/")
    rate_text, _, channels_text = rest.partition("/")
    payload_type, rate = decimal(fields[0]), decimal(rate_text)
    channels = decimal(channels_text) if channels_text else 1
    if payload_type is None or payload_type > 127 or rate is None or channels is None:
        return None
    return RtpMap(
        payload_type=payload_type, encoding=encoding.upper(), clock_rate=rate, channels=channels
    )


def decimal(text: str) -> int | None:
    """Return *text* as a number of at most nine ASCII digits, None when it is not one."""
    return int(text) if 0 < len(text) <= 9 and text.isascii() and text.isdigit() else None

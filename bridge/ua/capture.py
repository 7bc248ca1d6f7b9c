"""What leaves this process of the SIP it hears: the frame of one message, secrets blanked.

A capture shows whole messages, numbers and bodies included: whoever switches it on says so.
Keys never leave all the same: what opens the sound of a call, or a door, is blanked in equal
length, so that every length in the message stays true.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from bridge.sip.flow import Flow

Address = IPv4Address | IPv6Address

_CALL_ID = re.compile(rb"\r\n(?:call-id|i)[ \t]*:[ \t]*([^\r\n]{1,256})", re.IGNORECASE)
_ANY: dict[int, Address] = {4: IPv4Address(0), 6: IPv6Address(0)}
_SECRETS = re.compile(
    rb"(?P<head>inline:)(?P<key>[A-Za-z0-9+/=]+)"
    rb"|(?P<digest>\b(?:response|cnonce)[ \t]*=[ \t]*\"?)(?P<value>[^\",;\r\n]+)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """One whole message on its way. ``at`` is wall time in seconds."""

    at: float
    transport: str
    source: tuple[Address, int]
    destination: tuple[Address, int]
    call_id: str
    message: bytes


def capture(message: bytes, flow: Flow, *, came: bool, wall: Callable[[], float]) -> Captured:
    """Return *message* as it came from, or went to, the peer of *flow*."""
    local, remote = _pair(flow.local), _pair(flow.remote)
    if local[0].version != remote[0].version:  # a wildcard of the other family
        local = (_ANY[remote[0].version], local[1])
    found = _CALL_ID.search(message)
    return Captured(
        at=wall(),
        transport=flow.transport,
        source=remote if came else local,
        destination=local if came else remote,
        call_id=found[1].strip().decode(errors="replace") if found else "",
        message=blanked(message),
    )


def blanked(message: bytes) -> bytes:
    """Return *message* with SRTP keys (RFC 4568) and digest answers (RFC 7616) blanked."""
    return _SECRETS.sub(_blank, message)


def _blank(found: re.Match[bytes]) -> bytes:
    head = found["head"] or found["digest"]
    return head + b"x" * (len(found[0]) - len(head))


def _pair(address: tuple[str, int]) -> tuple[Address, int]:
    return ip_address(address[0].partition("%")[0]), address[1]


class Capture:
    """A tap that hands every whole message on, as `Captured`; *take* must not block."""

    def __init__(
        self, take: Callable[[Captured], None], *, wall: Callable[[], float] = time.time
    ) -> None:
        self._take = take
        self._wall = wall

    def received(self, message: bytes, flow: Flow) -> None:
        """A message came."""
        self._take(capture(message, flow, came=True, wall=self._wall))

    def sent(self, message: bytes, flow: Flow) -> None:
        """A message was given to the transport."""
        self._take(capture(message, flow, came=False, wall=self._wall))

"""Where RTP may come from and where it goes: latching with probation (RFC 7362 section 4).

A source outside the signalled one is learnt only inside a *window*, after
`PROBATION` consecutive packets, and from allowed networks; so nobody can take a
call's audio by sending first, or at any later moment.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Source = tuple[str, int]
"""An address in its canonical text, and a port."""

PROBATION = 3
"""Consecutive valid packets before a source is latched."""
RETURN_PROBATION = 50
"""The same for the source locked until ``c=`` or the port changed: it may only be its tail."""
WINDOW = 3.0
"""Seconds a window stays open over a source that is still heard."""
SILENT_AFTER = 2.0
"""Seconds without a packet of the locked source after which the window opens."""
MAX_CANDIDATES = 8

_UNTRUSTED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
"""Loopback, private, shared and link-local: only where ``media_allow`` names them."""

_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8")
)
"""Unspecified, multicast, reserved and broadcast."""


@functools.lru_cache(maxsize=4096)
def _address(text: str) -> Address | None:
    """Return the address in *text* (IPv4-mapped IPv6 as IPv4), or None."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def canonical(address: str) -> str:
    """Return *address* in the text form used for comparison; unchanged when not an address."""
    parsed = _address(address)
    return address if parsed is None else str(parsed)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks of *texts* (CIDR). Raises ``ValueError`` for what is none."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def around(address: str) -> tuple[Network, ...]:
    """Return the /24 (IPv6: /64) that *address* is in; nothing when it is no address."""
    parsed = _address(address)
    if parsed is None:
        return ()
    return (ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 64), strict=False),)


def _inside(address: Address, nets: Iterable[Network]) -> bool:
    return any(address in net for net in nets)


def trusted(address: str, allow: tuple[Network, ...]) -> bool:
    """Tell whether media may ever go to or come from *address*.

    Loopback, private and link-local addresses only when *allow* has them;
    multicast and the like never.
    """
    parsed = _address(address)
    if parsed is None or _inside(parsed, _NEVER):
        return False
    return not _inside(parsed, _UNTRUSTED) or _inside(parsed, allow)


@dataclass(slots=True)
class _Candidate:
    ssrc: int
    sequence: int
    count: int


class Latch:
    """The accepted source of one stream, and the target of ours.

    *signalling* is the address of the SIP peer, *allow* further networks, *own*
    tells ports of this process. Every method takes canonical addresses.
    """

    def __init__(
        self,
        *,
        signalling: str,
        allow: tuple[Network, ...],
        own: Callable[[str, int], bool],
    ) -> None:
        self.locked: Source | None = None
        self.heard_at = 0.0  # when the locked source sent last
        self._allow = allow
        self._own = own
        self._signalled: Source | None = None
        self._permitted: Source | None = None  # the signalled address, if media may go there
        self._near = around(signalling)
        self._signalling_near = self._near
        self._left: Source | None = None
        self._open_until = 0.0
        self._candidates: dict[Source, _Candidate] = {}

    @property
    def target(self) -> Source | None:
        """Where our packets go: the latched source, else the signalled one."""
        return self.locked or self._permitted

    def expect(self, address: str, port: int, now: float) -> None:
        """Take the address and port of their SDP; a change opens the window.

        No address, a zero one, or port 0 is nowhere: what was learnt stays.
        """
        source = (canonical(address), port)
        parsed = _address(address)
        if parsed is None or parsed.is_unspecified or not 0 < port < 65536:
            return
        if source == self._signalled:
            return
        self._signalled = source
        usable = trusted(source[0], self._allow) and not self._own(*source)
        self._permitted = source if usable else None
        self._near = self._signalling_near + around(address)
        left = self.locked or self._left
        self._left = left if left != source else None
        self.locked = None
        self.open(now)

    def open(self, now: float) -> None:
        """Open the window for a while; a locked source stays until another is latched."""
        self._open_until = now + WINDOW
        self._candidates.clear()

    def accept(self, source: Source, ssrc: int, sequence: int, now: float) -> bool:
        """Tell whether a valid packet (parsed, known payload type) of *source* counts."""
        if source == self.locked:
            self.heard_at = now
            return True
        if source == self._signalled:
            # Contract: the SDP address is accepted from the first packet.
            return self._permitted is not None and self._lock(source, now)
        if not self._window_open(now) or not self._allowed(source):
            return False
        return self._probation(source, ssrc, sequence) and self._lock(source, now)

    def _window_open(self, now: float) -> bool:
        return self.locked is None or now < self._open_until or now - self.heard_at >= SILENT_AFTER

    def _allowed(self, source: Source) -> bool:
        address = _address(source[0])
        if address is None or not trusted(source[0], self._allow) or self._own(*source):
            return False
        return _inside(address, self._near) or _inside(address, self._allow)

    def _probation(self, source: Source, ssrc: int, sequence: int) -> bool:
        """Count consecutive packets of *source*; tell whether it has passed."""
        candidate = self._candidates.get(source)
        if candidate is None:
            if len(self._candidates) >= MAX_CANDIDATES:
                del self._candidates[next(iter(self._candidates))]
            self._candidates[source] = _Candidate(ssrc, sequence, 1)
            return False
        following = candidate.ssrc == ssrc and sequence == (candidate.sequence + 1) & 0xFFFF
        candidate.count = candidate.count + 1 if following else 1
        candidate.ssrc, candidate.sequence = ssrc, sequence
        return candidate.count >= (RETURN_PROBATION if source == self._left else PROBATION)

    def _lock(self, source: Source, now: float) -> bool:
        self.locked = source
        self.heard_at = now
        self._open_until = 0.0
        self._left = None
        self._candidates.clear()
        return True

"""The only binder of media ports: pairs of an even RTP port and the RTCP port after it."""

from __future__ import annotations

import errno
import functools
import random
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable

from bridge.errors import BridgeError
from bridge.media.seam import Lease
from rtp.latch import canonical
from rtp.net.socket import open_udp

REST = 5.0
"""Seconds a used port rests, so that late packets of one call never reach the next."""
MAX_ATTEMPTS = 100
"""Ports tried for one lease; more taken by others means that the range is not ours."""


class PortsExhausted(BridgeError):
    """No pair of media ports is free."""


class Ports:
    """Leases port pairs out of *span* (``"20000-29999"``), at random.

    *own* are further addresses that lead to us (the one advertised in SDP);
    *rest* seconds pass before a port is used again. Raises ``ValueError`` for a
    span without a pair.
    """

    def __init__(
        self,
        span: str,
        *,
        own: Iterable[str] = (),
        rest: float = REST,
        now: Callable[[], float] = time.monotonic,
        choice: random.Random | None = None,
    ) -> None:
        self._span = span
        self._free = _pairs(span)
        self._resting: deque[tuple[float, int]] = deque()
        self._taken: set[int] = set()  # leased or resting
        self._own = {canonical(address) for address in own}
        self._rest = rest
        self._now = now
        self._random = choice or random.SystemRandom()

    @property
    def available(self) -> int:
        """Pairs that could be leased now, if no other process has them."""
        self._wake()
        return len(self._free)

    @property
    def resting(self) -> int:
        """Pairs that were used and rest."""
        self._wake()
        return len(self._resting)

    @property
    def used(self) -> int:
        """Pairs that are leased."""
        return len(self._taken) - len(self._resting)

    def lease(self, address: str) -> Lease:
        """Bind a pair on *address* and return it. Raises `PortsExhausted`.

        Also when nothing can be bound on *address*: it is not ours, no more files.
        """
        self._wake()
        for _ in range(min(len(self._free), MAX_ATTEMPTS)):
            port = self._pick()
            try:
                rtp, rtcp = _bind(address, port)
            except OSError as error:
                self._retire(port)
                if error.errno != errno.EADDRINUSE:
                    raise PortsExhausted(
                        f"a media port cannot be bound: {error.strerror}"
                    ) from error
                continue
            self._taken.add(port)
            return Lease(
                rtp=rtp,
                rtcp=rtcp,
                address=address,
                port=port,
                # RFC 3550 5.1: the initial values of sequence and timestamp SHOULD be random.
                ssrc=secrets.randbits(32),
                # RFC 3711 3.3.1: below 2**15, so that packets lost at the start never
                # leave the two ends with different rollover counters.
                sequence=secrets.randbits(15),
                timestamp=secrets.randbits(32),
            )
        raise PortsExhausted(f"no free pair of media ports in {self._span}")

    def release(self, lease: Lease) -> None:
        """Close the sockets; the port rests. A second time does nothing."""
        if lease.rtp.fileno() == -1:
            return
        lease.rtp.close()
        lease.rtcp.close()
        self._retire(lease.port)

    def is_own(self, address: str, port: int) -> bool:
        """Tell whether *address* and *port* are a media port of ours, in use or resting."""
        self._wake()
        if port & ~1 not in self._taken:
            return False
        return address in self._own or _is_local(address)

    def _pick(self) -> int:
        """Take a free port at random out of the list."""
        index = self._random.randrange(len(self._free))
        self._free[index], self._free[-1] = self._free[-1], self._free[index]
        return self._free.pop()

    def _retire(self, port: int) -> None:
        self._taken.add(port)
        self._resting.append((self._now() + self._rest, port))

    def _wake(self) -> None:
        """Take the ports that have rested back into the free list."""
        now = self._now()
        while self._resting and self._resting[0][0] <= now:
            _, port = self._resting.popleft()
            self._taken.discard(port)
            self._free.append(port)


def _pairs(span: str) -> list[int]:
    """Return the even ports of *span* whose successor is in it as well."""
    low, dash, high = span.partition("-")
    if not dash or not low.isdecimal() or not high.isdecimal():
        raise ValueError(f"{span!r} is not a range of ports such as 20000-29999")
    first, last = int(low), int(high)
    pairs = list(range(first + first % 2, last, 2))
    if not pairs or first < 1 or last > 65535:
        raise ValueError(f"{span!r} has no even port with its next one between 1 and 65535")
    return pairs


def _bind(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    rtp = open_udp(address, port)
    try:
        return rtp, open_udp(address, port + 1)
    except BaseException:
        rtp.close()
        raise


@functools.lru_cache(maxsize=1024)
def _is_local(address: str) -> bool:
    """Tell whether *address* is one of this machine's: whether it can be bound."""
    try:
        open_udp(address, 0).close()
    except (OSError, ValueError):
        return False
    return True

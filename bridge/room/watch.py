"""Watches a LiveKit server while something is amiss, once for all calls on it.

Nothing runs while every room is up. While one is away, one task asks the server's
HTTP port every `INTERVAL`, over a new connection each time, and tells all who wait.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakKeyDictionary

import aiohttp
import structlog

from bridge.room.absence import Absence, Sign

log = structlog.get_logger(__name__)

INTERVAL: Final = 0.15
"""Seconds from one probe to the next."""

PROBE_TIMEOUT: Final = 1.0

_NOBODY: Final = frozenset((errno.ECONNREFUSED, errno.ECONNRESET))

Probe = Callable[[], Awaitable[Sign]]
"""Asks the server once; raises nothing."""


class ServerWatch:
    """The watch on one server. *probe* and *clock* are for tests."""

    def __init__(
        self,
        url: str,
        *,
        probe: Probe | None = None,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe = probe or _http_probe(url)
        self._interval = interval
        self._clock = clock
        self._away: dict[Away, None] = {}
        self._waiting: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def away(self, on_return: Callable[[], None]) -> Away:
        """A room went away: call *on_return*, once, when it is to be joined anew."""
        away = Away(self, on_return)
        self._away[away] = None
        self._start()
        return away

    async def answering(self, timeout: float) -> bool:
        """Wait until the server answers, at most *timeout* seconds; tell whether it does."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        self._start()
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(waiter)
        return True

    def forget(self, away: Away) -> None:
        """Nobody waits for *away* any more."""
        self._away.pop(away, None)

    @property
    def idle(self) -> bool:
        """Whether nothing is watched."""
        return self._task is None

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        since = self._clock()
        try:
            while self._away or self._waiting:
                began = self._clock()
                self._tell(await self._probe())
                await asyncio.sleep(max(0.0, began + self._interval - self._clock()))
        finally:
            self._task = None
            log.debug("room.watch_ended", ms=round((self._clock() - since) * 1000))

    def _tell(self, sign: Sign) -> None:
        now = self._clock()
        if sign is Sign.ANSWERED:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
        for away in list(self._away):
            if away in self._away and away.absence.take(sign, now):
                self.forget(away)
                try:
                    away.on_return()
                except Exception:  # one call's bug is not the others'
                    log.exception("room.return_failed")


class Away:
    """One room that is away, and what to call when it is to be joined anew."""

    __slots__ = ("_watch", "absence", "on_return")

    def __init__(self, watch: ServerWatch, on_return: Callable[[], None]) -> None:
        self._watch = watch
        self.absence = Absence()
        self.on_return = on_return

    def over(self) -> None:
        """It is back, or nobody wants it any more."""
        self._watch.forget(self)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, ServerWatch]] = WeakKeyDictionary()


def watch_of(url: str) -> ServerWatch:
    """Return the one watch of the running loop on the server at *url*."""
    watches = _watches.setdefault(asyncio.get_running_loop(), {})
    if url not in watches:
        watches[url] = ServerWatch(url)
    return watches[url]


def _http_probe(url: str) -> Probe:
    """Return a probe of the HTTP port behind the WebSocket *url*."""
    address = "http" + url.removeprefix("ws") if url.startswith("ws") else url
    limits = aiohttp.ClientTimeout(total=PROBE_TIMEOUT)

    async def probe() -> Sign:
        # A connection of its own: one kept from earlier would tell of an earlier server.
        connector = aiohttp.TCPConnector(force_close=True, use_dns_cache=False)
        try:
            async with (
                aiohttp.ClientSession(timeout=limits, connector=connector) as session,
                session.get(address, allow_redirects=False) as reply,
            ):
                # 5xx is a proxy's word that nobody is behind it.
                return Sign.ANSWERED if reply.status < 500 else Sign.REFUSED
        except aiohttp.ClientConnectorDNSError:
            return Sign.SILENT
        except aiohttp.ClientConnectorError as error:
            return Sign.REFUSED if error.os_error.errno in _NOBODY else Sign.SILENT
        except aiohttp.ServerDisconnectedError:
            return Sign.REFUSED
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Sign.SILENT

    return probe

"""One attempt: a signed POST to a receiver that may be slow, dead or hostile.

aiohttp rather than httpx: its connector asks us for each socket with the address that it will
be connected to, a public seam. So what is checked is the address itself, whatever the URL
was, DNS said a moment ago, or says next (DNS rebinding); Host and SNI stay the name's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from bridge.webhook.address import check_address, check_url
from bridge.webhook.outbox import Claimed
from bridge.webhook.retry import Answer, retry_after, signed_headers

_log = structlog.get_logger(__name__)

TIMEOUT: Final = 10.0
"""Seconds from the look-up of the name to the head of the answer."""

_READ: Final = 4096  # bytes of an answer's body that are read, so that the connection can stay
_READ_TIME: Final = 1.0  # seconds that may take
_IDLE: Final = 3.0  # seconds a connection is kept: less than the servers in use keep theirs
_LOOKUPS: Final = 64  # names that are looked up at the same time; one may take long

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``[webhook]`` as far as it concerns the sending."""

    secret: str
    header_prefix: str = "X-Trunkbridge-"
    allow_private: bool = False
    user_agent: str = "trunkbridge"

    def __repr__(self) -> str:
        """Show no secret."""
        return f"Settings(header_prefix={self.header_prefix!r})"


class ReceiverRefused(OSError):
    """The name stands for an address that no webhook may go to."""


class _Names(AbstractResolver):
    """DNS in threads of its own: a name server that is slow costs nobody else a thread."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="webhook-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of *host*. Raises ``OSError``."""

        def look_up() -> list[ResolveResult]:
            found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            return [
                ResolveResult(
                    hostname=host,
                    host=str(where[0]),
                    port=int(where[1]),
                    family=kind,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
                for kind, _, proto, _, where in found
            ]

        return await asyncio.get_running_loop().run_in_executor(self._threads, look_up)

    async def close(self) -> None:
        """Wait for no look-up."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Sender:
    """Sends deliveries, each once; use it as a context on the loop it runs on.

    *connections* at the same time. Nothing of an answer but its status and ``Retry-After`` is
    used; redirects are not followed, proxies and ``.netrc`` of the environment not used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float],
        connections: int,
        timeout: float = TIMEOUT,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._connections = connections
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open what the attempts share."""
        connector = aiohttp.TCPConnector(
            resolver=_Names(),
            socket_factory=self._socket,
            limit=self._connections,
            keepalive_timeout=_IDLE,
            ttl_dns_cache=10,
        )
        self._http = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=self._timeout,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        if self._http is not None:
            await self._http.close()

    def _socket(self, info: AddressInfo) -> socket.socket:
        """Return the socket for an address, if a webhook may go there."""
        family, kind, protocol, _, where = info
        try:
            check_address(str(where[0]), allow_private=self._settings.allow_private)
        except ValueError as failure:
            raise ReceiverRefused(str(failure)) from failure
        return socket.socket(family, kind, protocol)

    async def send(self, claimed: Claimed) -> Answer:
        """POST *claimed* once and return what came of it. Raises nothing but a cancellation."""
        try:
            check_url(claimed.url, allow_private=self._settings.allow_private)
        except ValueError:
            return Answer(error="address refused", hopeless=True)
        try:
            return await self._post(claimed)
        except TimeoutError:
            return Answer(error="timeout")
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            return Answer(error=_word(failure))
        except Exception as failure:  # a library's bug is a failed attempt, and told
            _log.exception("webhook.sender_failed", delivery=claimed.id)
            return Answer(error=type(failure).__name__)

    async def _post(self, claimed: Claimed) -> Answer:
        if self._http is None:
            return Answer(error="closed")
        body = claimed.body.encode()
        headers = signed_headers(
            prefix=self._settings.header_prefix,
            secret=self._settings.secret,
            user_agent=self._settings.user_agent,
            delivery=claimed.id,
            event=claimed.event,
            body=body,
        )
        async with self._http.post(
            URL(claimed.url), data=body, headers=headers, allow_redirects=False
        ) as response:
            asked = retry_after(response.headers.get("Retry-After"), self._clock())
            await _read_a_little(response)
            return Answer(status=response.status, retry_after=asked)


async def _read_a_little(response: aiohttp.ClientResponse) -> None:
    """Read a short body to its end, so that the connection can serve again; else close it."""
    try:
        async with asyncio.timeout(_READ_TIME):
            left = _READ
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)
    except (aiohttp.ClientError, OSError, TimeoutError):
        left = 0  # the status counts, and that was said
    if left <= 0 or not response.content.at_eof():
        response.close()


def _word(failure: BaseException) -> str:
    """Return the kind of *failure* in a few words of ours, without name, address or URL."""
    seen: BaseException | None = failure
    while seen is not None:
        for kind, word in _WORDS:
            if isinstance(seen, kind):
                return word
        seen = getattr(seen, "os_error", None) or seen.__cause__
    return type(failure).__name__


_WORDS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ReceiverRefused, "address refused"),
    (socket.gaierror, "name not found"),
    (aiohttp.ClientConnectorCertificateError, "certificate refused"),
    (ssl.SSLCertVerificationError, "certificate refused"),
    (ssl.SSLError, "tls failed"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionResetError, "connection reset"),
    (aiohttp.ServerDisconnectedError, "connection closed"),
    (aiohttp.ClientPayloadError, "connection closed"),
    (aiohttp.ClientResponseError, "no http"),
    (aiohttp.InvalidURL, "no url"),
)

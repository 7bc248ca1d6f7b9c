"""One WebRTC transport of the tests' peer: aioice, then aiortc's DTLS, SRTP and SCTP.

aiortc's own `RTCPeerConnection` refuses the single answer of LiveKit's signalling, and aioice
offers no loopback address; so its transports are used below both. An ICE restart makes a new
aioice connection under the same DTLS session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aioice
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsTransport
from aiortc.rtcicetransport import RTCIceCandidate, candidate_from_aioice, candidate_to_aioice
from aiortc.sdp import candidate_from_sdp

RECEIVE_LIMIT = 4096
"""Datagrams that wait for DTLS before the newest are dropped, as by a socket."""


class _Connection(aioice.Connection):
    """An ICE agent that uses one given local address."""

    def __init__(self, address: str, *, controlling: bool) -> None:
        super().__init__(ice_controlling=controlling)
        self._address = address

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[aioice.Candidate]:
        del addresses
        return await super().get_component_candidates(component, [self._address], timeout)


class Path:
    """The datagrams of one transport: what `RTCDtlsTransport` needs of ICE.

    *changed* is told True when a path stands (also after a restart) and False when it is lost.
    ``cut`` loses every datagram both ways, STUN excepted, which goes past it.
    """

    role = "controlling"  # aiortc asks only when the DTLS role is open; ours never is
    state = "completed"

    def __init__(self, address: str, changed: Callable[[bool], None]) -> None:
        self._address = address
        self._changed = changed
        self._connection: _Connection | None = None  # the one that carries
        self._next: _Connection | None = None  # not yet connected
        self._received: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._early: list[RTCIceCandidate] = []  # the server's, before our first socket
        self._remote = ""
        self.cut = False

    async def gather(self, *, controlling: bool) -> None:
        """Make new credentials and a socket.

        RFC 8445 6.1.1: who offers is controlling, and so is who meets a lite agent.
        """
        if self._next is not None:
            await self._next.close()
        self._next = _Connection(self._address, controlling=controlling)
        await self._next.gather_candidates()
        for candidate in self._early:
            await self._next.add_remote_candidate(candidate_to_aioice(candidate))
        self._early.clear()

    @property
    def credentials(self) -> tuple[str, str]:
        """Our newest user fragment and password."""
        newest = self._next or self._connection
        assert newest is not None
        return newest.local_username, newest.local_password

    @property
    def candidates(self) -> list[RTCIceCandidate]:
        """Our newest socket."""
        newest = self._next or self._connection
        assert newest is not None
        return [candidate_from_aioice(one) for one in newest.local_candidates]

    async def add_candidate(self, text: str) -> None:
        """Take a server's candidate (``candidate:…``); what is not UDP is passed over."""
        try:
            candidate = candidate_from_sdp(text.removeprefix("a=").removeprefix("candidate:"))
        except (AssertionError, ValueError, IndexError):
            return
        if candidate.protocol.lower() != "udp" or self._closed:
            return
        newest = self._next or self._connection
        if newest is None:
            self._early.append(candidate)
        else:
            await newest.add_remote_candidate(candidate_to_aioice(candidate))

    def is_new(self, username: str) -> bool:
        """Tell whether the server's user fragment belongs to a new ICE session."""
        return username != self._remote

    async def connect(self, username: str, password: str, *, lite: bool) -> None:
        """Connect with the server's credentials and go over to the new path."""
        connection = self._next
        if connection is None:
            return
        self._remote = username
        connection.remote_username, connection.remote_password = username, password
        connection.remote_is_lite = lite
        await connection.connect()
        if self._next is not connection or self._closed:
            await connection.close()
            return
        old, self._connection, self._next = self._connection, connection, None
        self._spawn(self._pump(connection))
        if old is not None:
            await old.close()
        self._changed(True)

    async def _pump(self, connection: _Connection) -> None:
        try:
            while True:
                data = await connection.recv()
                if not self.cut and self._received.qsize() < RECEIVE_LIMIT:
                    self._received.put_nowait(data)
        except ConnectionError:
            if connection is self._connection and not self._closed:
                self._changed(False)

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recv(self) -> bytes:
        data = await self._received.get()
        if data is None:
            raise ConnectionError
        return data

    async def _send(self, data: bytes) -> None:
        if self._connection is None or self.cut:
            return
        try:
            await self._connection.send(data)
        except ConnectionError:
            return  # lost: consent has told so, or will

    async def close(self) -> None:
        """Free the sockets."""
        self._closed = True
        self._received.put_nowait(None)
        for connection in (self._next, self._connection):
            if connection is not None:
                await connection.close()
        if self._tasks:
            await asyncio.wait(self._tasks)


class Dtls(RTCDtlsTransport):
    """DTLS, SRTP and the demultiplexing of one transport; media goes to two callables."""

    def __init__(
        self,
        path: Path,
        certificate: RTCCertificate,
        on_rtp: Callable[[bytes], None],
        on_rtcp: Callable[[bytes], None],
    ) -> None:
        super().__init__(path, [certificate])  # type: ignore[arg-type]
        self._on_rtp, self._on_rtcp = on_rtp, on_rtcp

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        del arrival_time_ms
        self._on_rtp(data)

    async def _handle_rtcp_data(self, data: bytes) -> None:
        self._on_rtcp(data)

    def set_role(self, role: str) -> None:
        """Be DTLS ``client`` or ``server``."""
        self._set_role(role)

    async def send_media(self, packet: bytes) -> None:
        """Protect and send one RTP or RTCP packet; nothing before the handshake is over."""
        if self.state == "connected":
            await self._send_rtp(packet)

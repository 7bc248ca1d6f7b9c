"""SIP over TCP: listeners, dialled connections, reuse, caps and back-pressure.

No protocol decision is made here: bytes go up as they come, and whether a peer
may talk at all is asked of the owner before the first byte is read.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import structlog

from bridge.sip.flow import Flow
from bridge.transport.flow import (
    Address,
    Bound,
    ListenError,
    Owner,
    SendError,
    canonical,
    family_of,
    listener_for,
    next_flow_id,
    route_address,
)

log = structlog.get_logger(__name__)

_BACKLOG = 512
_CLOSE_GRACE = 5.0  # seconds a closing connection may take to take our last bytes
_SWEEP = 5.0
_PIECE = 8 * 1024  # bytes of one connection handed up in one turn of the loop


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpLimits:
    """Bounds of one TCP transport. Durations in seconds, sizes in bytes."""

    accepted: int = 4096  # connections the peers opened, all together
    accepted_per_address: int = 1024  # some carriers open one per call
    write_buffer: int = 1024 * 1024
    connect_timeout: float = 10.0
    idle: float = 3600.0
    spare: float = 64.0  # silent for longer than any transaction: closed when there is no room


class _Connection(asyncio.Protocol):
    """One TCP connection, accepted or dialled."""

    def __init__(
        self, owner: TcpTransport, *, listener: Bound | None = None, remote: Address | None = None
    ) -> None:
        self._owner = owner
        self.listener = listener  # None: we dialled
        self.remote = remote  # None: the peer did
        self.flow: Flow | None = None
        self.transport: asyncio.Transport | None = None
        self.active_at = 0.0
        self._waiting: deque[bytes] = deque()  # read, and not handed up yet
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        if self.listener is not None:
            self._owner.accepted(self, self.listener)
        elif self.remote is not None:
            self._owner.dialled(self, self.remote)

    def data_received(self, data: bytes) -> None:
        """Hand up a piece at a time, so that nobody has the loop for himself.

        While pieces wait nothing is read: the peer's kernel holds it back.
        """
        if self.flow is None:
            return
        if len(data) <= _PIECE and not self._waiting:
            self._owner.read(self, data)
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._next_piece)
            assert self.transport is not None
            self.transport.pause_reading()
        self._waiting.extend(data[at : at + _PIECE] for at in range(0, len(data), _PIECE))

    def _next_piece(self) -> None:
        self._owner.read(self, self._waiting.popleft())
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next_piece)
        elif self._gone:
            self._owner.dropped(self)
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._gone = True
        if not self._waiting:  # else what was read comes first
            self._owner.dropped(self)


class TcpTransport:
    """Every TCP connection of the process."""

    def __init__(
        self,
        owner: Owner,
        *,
        limits: TcpLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owner = owner
        self._limits = limits or TcpLimits()
        self._clock = clock
        self._servers: list[asyncio.Server] = []
        self._bound: list[Bound] = []
        self._connections: dict[int, _Connection] = {}
        self._dialled: dict[Address, int] = {}
        self._dials: dict[Address, list[Callable[[Flow | None], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepted: Counter[str] = Counter()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def bound(self) -> list[Bound]:
        """The listeners with the ports the kernel gave."""
        return list(self._bound)

    @property
    def listening(self) -> bool:
        """Whether every listener that was opened takes connections."""
        return all(server.is_serving() for server in self._servers)

    @property
    def flows(self) -> Iterator[Flow]:
        """The open connections."""
        return (c.flow for c in list(self._connections.values()) if c.flow is not None)

    @property
    def counts(self) -> dict[str, int]:
        """How many connections are open, by who opened them."""
        accepted = self._accepted.total()
        return {"accepted": accepted, "dialled": len(self._connections) - accepted}

    async def listen(self, host: str, port: int) -> Bound:
        """Listen on one address. Port 0 takes a free one. Raises `ListenError`."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(family_of(host), socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if sock.family == socket.AF_INET6:
                # 0.0.0.0 and [::] may then be listened on side by side.
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            bound = Bound(transport="tcp", host=canonical(host), port=sock.getsockname()[1])
            server = await loop.create_server(
                lambda: _Connection(self, listener=bound), sock=sock, backlog=_BACKLOG
            )
        except OSError as failure:
            sock.close()
            where = Bound(transport="tcp", host=host, port=port)
            raise ListenError(f"{where}: {failure.strerror or failure}") from failure
        self._servers.append(server)
        self._bound.append(bound)
        self._arm()
        return bound

    def find(self, address: str, port: int) -> Flow | None:
        """Return the open connection that we dialled to exactly this remote, if any."""
        flow_id = self._dialled.get((canonical(address), port))
        connection = self._connections.get(flow_id) if flow_id is not None else None
        if connection is None or connection.transport is None or connection.transport.is_closing():
            return None
        return connection.flow

    def connect(self, address: str, port: int, done: Callable[[Flow | None], None]) -> None:
        """Give *done* a connection to *address* (a literal): an open one, or a new one.

        *done* is called once, with None when the dial failed or took longer than
        ``connect_timeout``; at once when an open connection is reused. Concurrent
        dials to one remote are one dial.
        """
        flow = self.find(address, port)
        if flow is not None:
            done(flow)
            return
        remote = (canonical(address), port)
        if remote in self._dials:
            self._dials[remote].append(done)
            return
        self._dials[remote] = [done]
        task = asyncio.get_running_loop().create_task(self._dial(remote))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_dialled(self, flow: Flow) -> bool:
        """Whether we opened this connection."""
        connection = self._connections.get(flow.id)
        return connection is not None and connection.listener is None

    async def _dial(self, remote: Address) -> None:
        flow: Flow | None = None
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                flow = await self._open(remote)
        except (OSError, TimeoutError) as failure:
            log.info("tcp.dial_failed", remote=remote[0], port=remote[1], error=str(failure))
        finally:
            waiting = self._dials.pop(remote, [])
        for done in waiting:
            # The first listener may have closed it again.
            done(flow if flow is not None and flow.id in self._connections else None)

    async def _open(self, remote: Address) -> Flow | None:
        connection = _Connection(self, remote=remote)
        source = self._source(remote[0])
        await asyncio.get_running_loop().create_connection(
            lambda: connection,
            remote[0],
            remote[1],
            local_addr=(source, 0) if source is not None else None,
        )
        return connection.flow

    def dialled(self, connection: _Connection, remote: Address) -> None:
        """Make the flow of a connection that was just established, before it can be read."""
        assert connection.transport is not None
        if self._closed:
            connection.transport.abort()
            return
        local = connection.transport.get_extra_info("sockname")
        listener = listener_for(remote[0], self._bound)
        flow = self._admit(
            connection,
            # The port that peers can reach us on, for Via and Contact; not the ephemeral one.
            local=(canonical(local[0]), listener.port if listener is not None else local[1]),
            remote=remote,
            sources=self._owner.admit(remote[0]) or (frozenset(), frozenset()),
        )
        self._dialled[remote] = flow.id
        self._owner.opened(flow)

    def _source(self, address: str) -> str | None:
        """The local address to dial from; None leaves it to the route."""
        listener = listener_for(address, self._bound)
        return None if listener is None or listener.wildcard else listener.host

    def local_address(self, address: str, port: int) -> str | None:
        """Return the local address a connection to *address* (a literal) would have."""
        return self._source(address) or route_address(address, port)

    def accepted(self, connection: _Connection, listener: Bound) -> None:
        """Decide on a connection that a peer opened, before a byte of it is read."""
        transport = connection.transport
        assert transport is not None
        peer = transport.get_extra_info("peername")
        local = transport.get_extra_info("sockname")
        address = canonical(peer[0]) if peer else ""
        sources = self._owner.admit(address) if address and not self._closed else None
        if sources is None:
            # Contract 3, Sources: an unknown source is closed unread.
            log.info("tcp.refused", remote=address, why="unknown_source")
            transport.abort()
            return
        full = (
            self._accepted.total() >= self._limits.accepted
            or self._accepted[address] >= self._limits.accepted_per_address
        )
        if not local or (full and not self._make_room(address)):
            log.warning("tcp.refused", remote=address, why="too_many_connections")
            transport.abort()
            return
        self._accepted[address] += 1
        flow = self._admit(
            connection,
            local=(canonical(local[0]), listener.port),
            remote=(address, peer[1]),
            sources=sources,
        )
        self._owner.opened(flow)

    def _make_room(self, address: str) -> bool:
        """Close the connection from *address* that was silent longest, if one was for long.

        Some carriers open one per call and leave it. A closed connection ends no call.
        """
        silent_since = self._clock() - self._limits.spare
        idle = [
            connection
            for connection in self._connections.values()
            if connection.listener is not None
            and connection.active_at <= silent_since
            and connection.flow is not None
            and connection.flow.remote[0] == address
        ]
        oldest = min(idle, key=lambda connection: connection.active_at, default=None)
        if oldest is None or oldest.flow is None:
            return False
        log.info("tcp.idle", remote=address)
        self.close(oldest.flow)
        return True

    def _admit(
        self,
        connection: _Connection,
        *,
        local: Address,
        remote: Address,
        sources: tuple[frozenset[str], frozenset[str]],
    ) -> Flow:
        assert connection.transport is not None
        _set_options(connection.transport.get_extra_info("socket"))
        connection.active_at = self._clock()
        flow = connection.flow = Flow(
            id=next_flow_id(),
            transport="tcp",
            local=local,
            remote=remote,
            trunks=sources[0],
            new_call_trunks=sources[1],
        )
        self._connections[flow.id] = connection
        return flow

    def read(self, connection: _Connection, data: bytes) -> None:
        """Hand a chunk up, unless the flow was given up in the meantime."""
        flow = connection.flow
        if flow is None or flow.id not in self._connections:
            return
        connection.active_at = self._clock()
        self._owner.received(data, flow)

    def send(self, flow: Flow, data: bytes) -> None:
        """Write *data*. Raises `SendError` when the connection is gone or does not drain.

        A peer that does not read is closed when ``write_buffer`` bytes wait for
        it; `Owner.lost` is then called before the error is raised.
        """
        connection = self._connections.get(flow.id)
        if connection is None or connection.transport is None or connection.transport.is_closing():
            raise SendError("the connection is closed")
        if connection.transport.get_write_buffer_size() + len(data) > self._limits.write_buffer:
            log.warning("tcp.write_buffer_full", remote=flow.remote[0])
            connection.transport.abort()
            self.dropped(connection)
            raise SendError("the peer does not read")
        connection.active_at = self._clock()
        connection.transport.write(data)

    def close(self, flow: Flow) -> None:
        """Close after what was written; nothing more is read. `Owner.lost` follows."""
        connection = self._connections.get(flow.id)
        if connection is None or connection.transport is None:
            return
        self._forget_dialled(flow)
        connection.transport.close()
        asyncio.get_running_loop().call_later(_CLOSE_GRACE, connection.transport.abort)

    def abort(self, flow: Flow) -> None:
        """Close at once, without sending what waits. `Owner.lost` follows."""
        connection = self._connections.get(flow.id)
        if connection is not None and connection.transport is not None:
            connection.transport.abort()

    def dropped(self, connection: _Connection) -> None:
        """Forget a connection and tell the owner, once."""
        flow = connection.flow
        if flow is None or self._connections.pop(flow.id, None) is None:
            return
        self._forget_dialled(flow)
        if connection.listener is not None:
            address = flow.remote[0]
            self._accepted[address] -= 1
            if self._accepted[address] <= 0:
                del self._accepted[address]
        if not self._closed:
            self._owner.lost(flow)

    def _forget_dialled(self, flow: Flow) -> None:
        if self._dialled.get(flow.remote) == flow.id:
            del self._dialled[flow.remote]

    def readmit(self) -> None:
        """Ask the owner again about every connection; ids stay, nothing is closed."""
        for connection in self._connections.values():
            if connection.flow is not None:
                trunks, new_call = self._owner.admit(connection.flow.remote[0]) or (
                    frozenset(),
                    frozenset(),
                )
                connection.flow = replace(connection.flow, trunks=trunks, new_call_trunks=new_call)

    def _arm(self) -> None:
        if self._sweeper is None and not self._closed:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(min(_SWEEP, self._limits.idle), self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        silent_since = self._clock() - self._limits.idle
        for connection in list(self._connections.values()):
            if connection.active_at <= silent_since and connection.flow is not None:
                log.info("tcp.idle", remote=connection.flow.remote[0])
                self.close(connection.flow)
        self._arm()

    async def stop(self) -> None:
        """Close every listener and connection; the owner is told nothing more."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._connections.values()):
            if connection.transport is not None:
                connection.transport.close()  # what was written still goes out
        await asyncio.sleep(0)
        for connection in list(self._connections.values()):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)
        for server in self._servers:
            await server.wait_closed()


def _set_options(sock: Any) -> None:
    """Small messages at once; a peer that vanished is noticed by the kernel."""
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", None), 60),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), 15),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), 4),
        # Unacknowledged bytes: give the connection up before Timer B (32 s) does.
        (socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), 15_000),
    ]
    for level, name, value in options:
        if name is not None:
            with suppress(OSError):
                sock.setsockopt(level, name, value)

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
from typing import Any, ClassVar, cast

import structlog

from bridge.sip.flow import Flow
from bridge.transport.flow import (
    Address,
    Admitted,
    Bound,
    Dial,
    ListenError,
    Owner,
    SendError,
    Sparing,
    canonical,
    family_of,
    listener_for,
    next_flow_id,
    route_address,
)

log = structlog.get_logger(__name__)

_BACKLOG = 512
_CLOSE_GRACE = 2.0  # seconds a closing connection may take to take our last bytes
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
    handshake: float = 10.0  # of TLS, from the first byte that could be sent


class Connection(asyncio.Protocol):
    """One TCP connection, accepted or dialled; a subclass may have a layer of its own in it."""

    def __init__(
        self, owner: TcpTransport, *, listener: Bound | None = None, dial: Dial | None = None
    ) -> None:
        self.owner = owner
        self.listener = listener  # None: we dialled
        self.dial = dial  # None: the peer did
        self.flow: Flow | None = None
        self.transport: asyncio.Transport | None = None
        self.sources: Admitted = (frozenset(), frozenset())
        self.remote: Address = ("", 0)
        self.counted = False  # against the caps of accepted connections
        self.failure = ""  # why it never became a flow
        self.forgotten = False
        self.parting = False  # nothing more is written, and what comes is not read
        self.active_at = 0.0
        self._waiting: deque[bytes] = deque()  # read, and not handed up yet
        self._gone = False
        self._finished = False  # the peer has nothing more to say
        loop = asyncio.get_running_loop()
        self.settled: asyncio.Future[None] = loop.create_future()  # a flow, or never one

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        if self.listener is not None:
            welcome = self.owner.accepted(self)
        else:
            welcome = self.dial is not None and self.owner.dialled(self, self.dial)
        if welcome:
            self.begin()

    def begin(self) -> None:
        """Do what comes before the first byte of SIP: for TCP nothing."""
        self.owner.ready(self)

    def data_received(self, data: bytes) -> None:
        if self.flow is not None:
            self.hand_up(data)

    def hand_up(self, data: bytes) -> None:
        """Hand up a piece at a time, so that nobody has the loop for himself.

        While pieces wait nothing is read: the peer's kernel holds it back.
        """
        if len(data) <= _PIECE and not self._waiting:
            self.owner.read(self, data)
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._next_piece)
            assert self.transport is not None
            self.transport.pause_reading()
        self._waiting.extend(data[at : at + _PIECE] for at in range(0, len(data), _PIECE))

    def _next_piece(self) -> None:
        self.owner.read(self, self._waiting.popleft())
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next_piece)
        elif self._gone:
            self.owner.dropped(self)
        elif self._finished:
            self.part()
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self.failure:
            self.failure = str(exc)
        self._gone = True
        if not self._waiting:  # else what was read comes first
            self.owner.dropped(self)

    @property
    def usable(self) -> bool:
        """Whether something can be written."""
        if self.parting or self.transport is None:
            return False
        return not self.transport.is_closing()

    @property
    def waiting(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def write(self, data: bytes) -> None:
        """Send *data*."""
        if self.transport is not None:
            self.transport.write(data)

    def close(self) -> None:
        """Close after what was written, if the peer has nothing to say meanwhile."""
        if self.transport is not None:
            self.transport.close()

    def part(self) -> None:
        """Close so that the peer gets our last words, whatever it still sends.

        To close with bytes unread resets the connection (RFC 1122 4.2.2.13), and a reset
        takes back what the peer has not read: so we end our half, and read on for a while.
        """
        if self.parting or self.transport is None or self.transport.is_closing():
            return
        self.parting = True
        try:
            self.transport.write_eof()
        except (OSError, RuntimeError):  # the peer was faster
            self.transport.close()
        loop = asyncio.get_running_loop()
        loop.call_later(_CLOSE_GRACE, self.abort)
        loop.call_soon(self.owner.parted, self)  # its owner may be in the midst of it

    def finish(self) -> None:
        """Part once everything that was read is handed up."""
        self._finished = True
        if not self._waiting:
            self.part()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()


class TcpTransport:
    """Every TCP connection of the process."""

    name: ClassVar[str] = "tcp"

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
        self._refusals = Sparing(most=10)
        self._servers: list[asyncio.Server] = []
        self._bound: list[Bound] = []
        self._connections: dict[int, Connection] = {}
        self._flowless: set[Connection] = set()  # which have no flow yet, or none any more
        self._dialled: dict[Dial, int] = {}
        self._dials: dict[Dial, list[Callable[[Flow | None], None]]] = {}
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
        # The accepted ones include those in a handshake, or parting, which have no flow.
        dialled = sum(c.dial is not None for c in self._connections.values())
        return {"accepted": self._accepted.total(), "dialled": dialled}

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
            bound = Bound(transport=self.name, host=canonical(host), port=sock.getsockname()[1])
            server = await loop.create_server(
                lambda: self._accept(bound), sock=sock, backlog=_BACKLOG
            )
        except OSError as failure:
            sock.close()
            where = Bound(transport=self.name, host=host, port=port)
            raise ListenError(f"{where}: {failure.strerror or failure}") from failure
        self._servers.append(server)
        self._bound.append(bound)
        self._arm()
        return bound

    def _accept(self, listener: Bound) -> Connection:
        return Connection(self, listener=listener)

    def _call(self, dial: Dial) -> Connection:
        """Make the protocol of a connection of ours. Raises `OSError` when that cannot be."""
        return Connection(self, dial=dial)

    def find(self, dial: Dial) -> Flow | None:
        """Return the open connection that we dialled to exactly this remote, if any."""
        flow_id = self._dialled.get(dial)
        connection = self._connections.get(flow_id) if flow_id is not None else None
        return None if connection is None or not connection.usable else connection.flow

    def connect(self, address: str, port: int, done: Callable[[Flow | None], None]) -> None:
        """Give *done* a connection to *address* (a literal): an open one, or a new one."""
        self.reach(Dial((canonical(address), port)), done)

    def reach(self, dial: Dial, done: Callable[[Flow | None], None]) -> None:
        """Give *done* a connection as *dial* wants it: an open one, or a new one.

        *done* is called once, with None when the dial failed or took longer than
        ``connect_timeout``; at once when an open connection is reused. Concurrent
        dials to one remote are one dial.
        """
        flow = self.find(dial)
        if flow is not None:
            done(flow)
            return
        if dial in self._dials:
            self._dials[dial].append(done)
            return
        self._dials[dial] = [done]
        task = asyncio.get_running_loop().create_task(self._dial(dial))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_dialled(self, flow: Flow) -> bool:
        """Whether we opened this connection."""
        connection = self._connections.get(flow.id)
        return connection is not None and connection.listener is None

    async def _dial(self, dial: Dial) -> None:
        flow: Flow | None = None
        host, port = dial.remote
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                flow = await self._open(dial)
        except (OSError, TimeoutError) as failure:
            why = str(failure) or "it took too long"
            log.info("tcp.dial_failed", remote=host, port=port, transport=self.name, error=why)
            self._owner.unreachable(dial, why)
        finally:
            waiting = self._dials.pop(dial, [])
        for done in waiting:
            # The first listener may have closed it again.
            done(flow if flow is not None and flow.id in self._connections else None)

    async def _open(self, dial: Dial) -> Flow | None:
        connection = self._call(dial)
        source = self._source(dial.remote[0])
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                *dial.remote,
                local_addr=(source, 0) if source is not None else None,
            )
            await connection.settled
        except BaseException:
            connection.abort()
            raise
        if connection.flow is None and connection.failure:
            raise OSError(connection.failure)
        return connection.flow

    def dialled(self, connection: Connection, dial: Dial) -> bool:
        """Take a connection that was just established; tell whether it is still wanted."""
        if self._closed:
            connection.abort()
            return False
        connection.remote = dial.remote
        connection.sources = self._owner.admit(dial.remote[0]) or connection.sources
        self._flowless.add(connection)
        return True

    def _source(self, address: str) -> str | None:
        """The local address to dial from; None leaves it to the route."""
        listener = listener_for(address, self._bound)
        return None if listener is None or listener.wildcard else listener.host

    def local_address(self, address: str, port: int) -> str | None:
        """Return the local address a connection to *address* (a literal) would have."""
        return self._source(address) or route_address(address, port)

    def accepted(self, connection: Connection) -> bool:
        """Decide on a connection that a peer opened, before a byte of it is read."""
        transport = connection.transport
        assert transport is not None
        peer = transport.get_extra_info("peername")
        local = transport.get_extra_info("sockname")
        address = canonical(peer[0]) if peer else ""
        sources = self._owner.admit(address) if address and not self._closed else None
        if sources is None:
            # Contract 3, Sources: an unknown source is closed unread.
            self._tell_refused(address, "unknown_source")
            transport.abort()
            return False
        full = (
            self._accepted.total() >= self._limits.accepted
            or self._accepted[address] >= self._limits.accepted_per_address
        )
        if not local or (full and not self._make_room(address)):
            self._tell_refused(address, "too_many_connections")
            transport.abort()
            return False
        self._accepted[address] += 1
        connection.counted = True
        connection.remote = (address, peer[1])
        connection.sources = sources
        self._flowless.add(connection)
        return True

    def ready(self, connection: Connection) -> None:
        """Make the flow of a connection that may be read now, and tell the owner."""
        assert connection.transport is not None
        self._flowless.discard(connection)
        host, port = connection.transport.get_extra_info("sockname")[:2]
        listener = connection.listener or listener_for(connection.remote[0], self._bound)
        _set_options(connection.transport.get_extra_info("socket"))
        connection.active_at = self._clock()
        flow = connection.flow = Flow(
            id=next_flow_id(),
            transport=self.name,
            # The port that peers can reach us on, for Via and Contact; not the ephemeral one.
            local=(canonical(host), port if listener is None else listener.port),
            remote=connection.remote,
            trunks=connection.sources[0],
            new_call_trunks=connection.sources[1],
            name=self._name_of(connection),
        )
        self._connections[flow.id] = connection
        if connection.dial is not None:
            self._dialled[connection.dial] = flow.id
        if not connection.settled.done():
            connection.settled.set_result(None)
        self._owner.opened(flow)

    def _name_of(self, connection: Connection) -> str:  # noqa: ARG002
        """The host whose certificate the peer has; TCP has none."""
        return ""

    def _tell_refused(self, address: str, why: str) -> None:
        more = self._refusals.more(self._clock())
        if more is None:
            return
        if why == "unknown_source":  # of which the network is full
            log.info("tcp.refused", remote=address, why=why, more=more)
        else:
            log.warning("tcp.refused", remote=address, why=why, more=more)

    def _make_room(self, address: str) -> bool:
        """Close the connection from *address* that was silent longest, if one was for long.

        Some carriers open one per call and leave it. A closed connection ends no call.
        """
        silent_since = self._clock() - self._limits.spare
        idle = [
            connection
            for connection in self._connections.values()
            if connection.listener is not None
            and connection.usable  # one that is closing has made room already
            and connection.active_at <= silent_since
            and connection.flow is not None
            and connection.flow.remote[0] == address
        ]
        oldest = min(idle, key=lambda connection: connection.active_at, default=None)
        if oldest is None or oldest.flow is None:
            return False
        log.info("tcp.idle", remote=address)
        self._forget_dialled(oldest)
        oldest.close()
        return True

    def read(self, connection: Connection, data: bytes) -> None:
        """Hand a chunk up, unless the flow was given up in the meantime."""
        flow = connection.flow
        if flow is None or connection.parting or flow.id not in self._connections:
            return
        connection.active_at = self._clock()
        self._owner.received(data, flow)

    def send(self, flow: Flow, data: bytes) -> None:
        """Write *data*. Raises `SendError` when the connection is gone or does not drain.

        A peer that does not read is closed when ``write_buffer`` bytes wait for
        it; `Owner.lost` is then called before the error is raised.
        """
        connection = self._connections.get(flow.id)
        if connection is None or not connection.usable:
            raise SendError("the connection is closed")
        if connection.waiting + len(data) > self._limits.write_buffer:
            log.warning("tcp.write_buffer_full", remote=flow.remote[0])
            connection.abort()
            self.dropped(connection)
            raise SendError("the peer does not read")
        connection.active_at = self._clock()
        connection.write(data)

    def close(self, flow: Flow) -> None:
        """Close after what was written; nothing more is read. `Owner.lost` follows."""
        connection = self._connections.get(flow.id)
        if connection is None:
            return
        self._forget_dialled(connection)
        connection.part()

    def abort(self, flow: Flow) -> None:
        """Close at once, without sending what waits. `Owner.lost` follows."""
        connection = self._connections.get(flow.id)
        if connection is not None:
            connection.abort()

    def parted(self, connection: Connection) -> None:
        """Nothing comes or goes any more: to the owner it is gone."""
        if connection.forgotten:
            return
        self._flowless.add(connection)  # until it is gone indeed
        self._forget(connection)

    def dropped(self, connection: Connection) -> None:
        """Forget a connection and tell the owner, once."""
        connection.forgotten = True
        self._flowless.discard(connection)
        if connection.counted:
            connection.counted = False
            address = connection.remote[0]
            self._accepted[address] -= 1
            if self._accepted[address] <= 0:
                del self._accepted[address]
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        if not connection.settled.done():
            connection.failure = connection.failure or "the connection was closed"
            connection.settled.set_result(None)
        flow = connection.flow
        if flow is None or self._connections.pop(flow.id, None) is None:
            return
        self._forget_dialled(connection)
        if not self._closed:
            self._owner.lost(flow)

    def _forget_dialled(self, connection: Connection) -> None:
        dial, flow = connection.dial, connection.flow
        if dial is not None and flow is not None and self._dialled.get(dial) == flow.id:
            del self._dialled[dial]

    def readmit(self) -> None:
        """Ask the owner again about every connection; ids stay, nothing is closed."""
        for connection in (*self._connections.values(), *self._flowless):
            sources = self._owner.admit(connection.remote[0]) or (frozenset(), frozenset())
            connection.sources = sources
            if connection.flow is not None:
                connection.flow = replace(
                    connection.flow, trunks=sources[0], new_call_trunks=sources[1]
                )

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
        for connection in list(self._flowless):
            connection.abort()
        for connection in list(self._connections.values()):
            connection.close()  # what was written still goes out
        await asyncio.sleep(0)
        for connection in list(self._connections.values()):
            connection.abort()
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

"""SIP over UDP: one socket per listen address, one flow per peer of a listener."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

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

_MAX_DATAGRAM = 65_535
_BATCH = 64  # datagrams read in one turn of the loop
_RECEIVE_BUFFER = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpLimits:
    """Bounds of one UDP transport. Durations in seconds."""

    heard: int = 4096  # peers that spoke first; the longest silent one is forgotten
    dialled: int = 4096  # peers we spoke to first; a table of its own, so that forged
    # sources cannot push them out
    idle: float = 18_000.0  # longer than the longest call


@dataclass(slots=True)
class _Peer:
    flow: Flow
    active_at: float


class _Listener:
    """One socket."""

    def __init__(self, owner: UdpTransport, sock: socket.socket, bound: Bound) -> None:
        self._owner = owner
        self.sock = sock
        self.bound = bound
        self.heard: OrderedDict[Address, _Peer] = OrderedDict()
        self.dialled: OrderedDict[Address, _Peer] = OrderedDict()

    def peer(self, remote: Address) -> _Peer | None:
        return self.dialled.get(remote) or self.heard.get(remote)

    def touch(self, remote: Address, now: float) -> None:
        for table in (self.dialled, self.heard):
            if remote in table:
                table[remote].active_at = now
                table.move_to_end(remote)

    def forget_silent(self, since: float) -> None:
        for table in (self.dialled, self.heard):
            while table and next(iter(table.values())).active_at < since:
                table.popitem(last=False)

    def readable(self) -> None:
        for _ in range(_BATCH):
            try:
                data, peer = self.sock.recvfrom(_MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as failure:
                # An ICMP error of an earlier datagram: it concerns no message here.
                log.debug("udp.receive_failed", error=str(failure))
                return
            self._owner.read(self, data, (canonical(peer[0]), peer[1]))


class UdpTransport:
    """Every UDP socket of the process.

    A flow never ends: its id stays valid for sending even after the peer was
    forgotten, because there is no connection to lose. `Owner.lost` is never called.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        limits: UdpLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owner = owner
        self._limits = limits or UdpLimits()
        self._clock = clock
        self._listeners: list[_Listener] = []

    @property
    def bound(self) -> list[Bound]:
        """The listeners with the ports the kernel gave."""
        return [listener.bound for listener in self._listeners]

    @property
    def listening(self) -> bool:
        """Whether every socket that was opened is open."""
        return all(listener.sock.fileno() >= 0 for listener in self._listeners)

    async def listen(self, host: str, port: int) -> Bound:
        """Listen on one address. Port 0 takes a free one. Raises `ListenError`."""
        sock = socket.socket(family_of(host), socket.SOCK_DGRAM)
        try:
            sock.settimeout(0)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            sock.bind((host, port))
        except OSError as failure:
            sock.close()
            where = Bound(transport="udp", host=host, port=port)
            raise ListenError(f"{where}: {failure.strerror or failure}") from failure
        bound = Bound(transport="udp", host=canonical(host), port=sock.getsockname()[1])
        listener = _Listener(self, sock, bound)
        asyncio.get_running_loop().add_reader(sock, listener.readable)
        self._listeners.append(listener)
        return bound

    def read(self, listener: _Listener, data: bytes, remote: Address) -> None:
        """Hand a datagram up, when its source is known."""
        now = self._clock()
        peer = listener.peer(remote)
        if peer is None:
            sources = self._owner.admit(remote[0])
            local = self._local(listener, remote) if sources is not None else None
            if sources is None or local is None:
                return  # contract 3, Sources: dropped; not logged, UDP sources are forged
            peer = self._enter(listener, listener.heard, remote, local, sources)
            self._owner.opened(peer.flow)
        else:
            listener.touch(remote, now)
        self._owner.received(data, peer.flow)

    def connect(self, address: str, port: int) -> Flow | None:
        """Return the flow to *address* (a literal); None when no listener can reach it."""
        remote = (canonical(address), port)
        bound = listener_for(remote[0], self.bound)
        listener = next((one for one in self._listeners if one.bound is bound), None)
        local = self._local(listener, remote) if listener is not None else None
        if listener is None or local is None:
            return None
        known = listener.dialled.get(remote) or listener.heard.get(remote)
        if known is not None and known.flow.local != local:
            # Our address towards this peer has changed: what we write about ourselves, too.
            listener.dialled.pop(remote, None)
            listener.heard.pop(remote, None)
            known = None
        if known is not None and remote not in listener.dialled:
            # Same flow, now protected from eviction.
            listener.heard.pop(remote)
            listener.dialled[remote] = known
        if known is not None:
            listener.touch(remote, self._clock())
            return known.flow
        sources = self._owner.admit(remote[0]) or (frozenset(), frozenset())
        peer = self._enter(listener, listener.dialled, remote, local, sources)
        self._owner.opened(peer.flow)
        return peer.flow

    def _local(self, listener: _Listener, remote: Address) -> Address | None:
        """The address a peer sees us at: of the route when the listener is a wildcard."""
        host = route_address(*remote) if listener.bound.wildcard else listener.bound.host
        return (host, listener.bound.port) if host is not None else None

    def local_address(self, address: str, port: int) -> str | None:
        """Return the local address a datagram to *address* (a literal) would come from."""
        bound = listener_for(address, self.bound)
        if bound is None or bound.wildcard:
            return route_address(address, port)
        return bound.host

    def _enter(
        self,
        listener: _Listener,
        table: OrderedDict[Address, _Peer],
        remote: Address,
        local: Address,
        sources: tuple[frozenset[str], frozenset[str]],
    ) -> _Peer:
        now = self._clock()
        listener.forget_silent(now - self._limits.idle)
        limit = self._limits.heard if table is listener.heard else self._limits.dialled
        while len(table) >= limit:
            table.popitem(last=False)
        flow = Flow(
            id=next_flow_id(),
            transport="udp",
            local=local,
            remote=remote,
            trunks=sources[0],
            new_call_trunks=sources[1],
        )
        peer = table[remote] = _Peer(flow, now)
        return peer

    def send(self, flow: Flow, data: bytes) -> None:
        """Send one datagram. Raises `SendError`; a full socket buffer is a lost datagram."""
        listener = self._listener_of(flow)
        if listener is None:
            raise SendError("the listener is closed")
        try:
            listener.sock.sendto(data, flow.remote)
        except (BlockingIOError, InterruptedError):
            log.warning("udp.send_buffer_full", remote=flow.remote[0])
        except OSError as failure:
            if failure.errno == errno.ECONNREFUSED:
                return  # an ICMP error of an earlier datagram, to whomever
            raise SendError(str(failure)) from failure
        listener.touch(flow.remote, self._clock())

    def _listener_of(self, flow: Flow) -> _Listener | None:
        port, family = flow.local[1], family_of(flow.remote[0])
        same = [one for one in self._listeners if one.bound.port == port]
        same = [one for one in same if family_of(one.bound.host) is family]
        exact = next((one for one in same if one.bound.host == flow.local[0]), None)
        return exact or next((one for one in same if one.bound.wildcard), None)

    def readmit(self) -> None:
        """Ask the owner again about every peer; ids stay, unknown heard peers are forgotten."""
        for listener in self._listeners:
            for remote, peer in list(listener.heard.items()):
                sources = self._owner.admit(remote[0])
                if sources is None:
                    del listener.heard[remote]
                    continue
                peer.flow = replace(peer.flow, trunks=sources[0], new_call_trunks=sources[1])
            for remote, peer in listener.dialled.items():
                trunks, new_call = self._owner.admit(remote[0]) or (frozenset(), frozenset())
                peer.flow = replace(peer.flow, trunks=trunks, new_call_trunks=new_call)

    async def stop(self) -> None:
        """Close every socket."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener.sock)
            listener.sock.close()
        self._listeners.clear()

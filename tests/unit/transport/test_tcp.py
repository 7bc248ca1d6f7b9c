"""TCP over loopback: admission, reuse, splits, bounds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from bridge.sip.flow import Flow
from bridge.transport.flow import Admitted, Dial, ListenError, SendError, Sparing
from bridge.transport.tcp import TcpLimits, TcpTransport

pytestmark = pytest.mark.unit

HOST = "127.0.0.1"
KNOWN: Admitted = (frozenset({"t"}), frozenset({"t"}))


@dataclass
class Recorder:
    """An owner that notes what it is told and can be waited for."""

    admitted: Admitted | None = KNOWN
    flows: asyncio.Queue[Flow] = field(default_factory=asyncio.Queue)
    chunks: asyncio.Queue[tuple[bytes, Flow]] = field(default_factory=asyncio.Queue)
    gone: asyncio.Queue[Flow] = field(default_factory=asyncio.Queue)
    asked: list[str] = field(default_factory=list)
    failures: list[tuple[Dial, str]] = field(default_factory=list)

    def admit(self, address: str) -> Admitted | None:
        self.asked.append(address)
        return self.admitted

    def opened(self, flow: Flow) -> None:
        self.flows.put_nowait(flow)

    def received(self, data: bytes, flow: Flow) -> None:
        self.chunks.put_nowait((data, flow))

    def lost(self, flow: Flow) -> None:
        self.gone.put_nowait(flow)

    def unreachable(self, dial: Dial, why: str) -> None:
        self.failures.append((dial, why))

    async def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += (await asyncio.wait_for(self.chunks.get(), 9))[0]
        return data


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def owner() -> Recorder:
    return Recorder()


@pytest.fixture
async def tcp(owner: Recorder, peers: Peers) -> AsyncIterator[TcpTransport]:
    transport = TcpTransport(owner)
    yield transport
    await transport.stop()


async def dial(tcp: TcpTransport, port: int, host: str = HOST) -> Flow | None:
    done: asyncio.Future[Flow | None] = asyncio.get_running_loop().create_future()
    tcp.connect(host, port, done.set_result)
    return await asyncio.wait_for(done, 15)


class Peers:
    """The other side: clients and silent servers, all closed at the end of a test."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []
        self._servers: list[asyncio.Server] = []

    async def connect(
        self, port: int, host: str = HOST
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(host, port)
        self._writers.append(writer)
        return reader, writer

    async def serve(self, greeting: bytes = b"") -> tuple[int, asyncio.Queue[asyncio.StreamWriter]]:
        """Accept and read little; returns the port and what was accepted."""
        writers: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            writer.write(greeting)
            writers.put_nowait(writer)

        server = await asyncio.start_server(accept, HOST, 0, limit=1024)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port, writers

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for _ in range(3):
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.sleep(0)


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    peers = Peers()
    yield peers
    await peers.close()


async def test_bytes_of_a_known_peer_go_up_with_its_flow(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    bound = await tcp.listen(HOST, 0)
    assert bound.port > 0
    _, writer = await peers.connect(bound.port)
    writer.write(b"hello")
    flow = await asyncio.wait_for(owner.flows.get(), 9)
    assert await owner.read(5) == b"hello"
    assert flow.transport == "tcp"
    assert flow.local == (HOST, bound.port)
    assert flow.remote == writer.get_extra_info("sockname")
    assert flow.trunks == flow.new_call_trunks == frozenset({"t"})
    writer.close()
    assert await asyncio.wait_for(owner.gone.get(), 9) == flow


async def test_a_wildcard_listener_names_the_address_the_peer_used(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    """Failure 7.2: zero address in Contact or Via."""
    bound = await tcp.listen("0.0.0.0", 0)
    _, writer = await peers.connect(bound.port)
    flow = await asyncio.wait_for(owner.flows.get(), 9)
    assert flow.local == ("127.0.0.1", bound.port)
    writer.close()
    await writer.wait_closed()


async def test_an_unknown_source_is_closed_without_an_answer_and_unread(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    """Threat 5.1: Scanners."""
    owner.admitted = None
    bound = await tcp.listen(HOST, 0)
    reader, writer = await peers.connect(bound.port)
    writer.write(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
    try:
        answer = await asyncio.wait_for(reader.read(), 9)
    except ConnectionResetError:  # closed with our bytes unread: a reset
        answer = b""
    assert answer == b""
    assert owner.asked == [HOST]
    assert owner.chunks.empty()
    assert owner.flows.empty()
    assert owner.gone.empty()


async def test_connections_over_the_cap_of_one_address_are_closed(
    owner: Recorder, peers: Peers
) -> None:
    """Threat 5.1: TCP abuse."""
    tcp = TcpTransport(owner, limits=TcpLimits(accepted_per_address=2))
    bound = await tcp.listen(HOST, 0)
    writers = [(await peers.connect(bound.port))[1] for _ in range(2)]
    for _ in writers:
        await asyncio.wait_for(owner.flows.get(), 9)
    reader, _refused = await peers.connect(bound.port)
    assert await asyncio.wait_for(reader.read(), 9) == b""
    writers.pop().close()
    await asyncio.wait_for(owner.gone.get(), 9)
    _, _again = await peers.connect(bound.port)
    await asyncio.wait_for(owner.flows.get(), 9)
    writers.pop().close()
    await tcp.stop()


async def test_over_the_cap_the_connection_that_was_silent_longest_makes_room(
    owner: Recorder, peers: Peers
) -> None:
    tcp = TcpTransport(owner, limits=TcpLimits(accepted_per_address=2, spare=0.0))
    bound = await tcp.listen(HOST, 0)
    first, first_writer = await peers.connect(bound.port)
    await asyncio.wait_for(owner.flows.get(), 9)
    second, second_writer = await peers.connect(bound.port)
    await asyncio.wait_for(owner.flows.get(), 9)
    first_writer.write(b"still here")
    await asyncio.wait_for(owner.chunks.get(), 9)
    _, third_writer = await peers.connect(bound.port)
    await asyncio.wait_for(owner.flows.get(), 9)
    assert await asyncio.wait_for(second.read(), 9) == b""
    assert not first.at_eof()
    for writer in (first_writer, second_writer, third_writer):
        writer.close()
    await tcp.stop()


async def test_a_connection_makes_room_for_one_other_and_not_for_a_burst(
    owner: Recorder, peers: Peers
) -> None:
    """Threat 5.1: TCP abuse."""
    clock = Clock()
    tcp = TcpTransport(owner, limits=TcpLimits(accepted_per_address=2), clock=clock)
    bound = await tcp.listen(HOST, 0)
    for _ in range(2):
        await peers.connect(bound.port)
        await asyncio.wait_for(owner.flows.get(), 9)
    clock.now += 100
    # All of them are accepted in one turn of the loop.
    burst = [socket.create_connection((HOST, bound.port)) for _ in range(8)]
    for _ in range(2):
        await asyncio.wait_for(owner.gone.get(), 9)
    last, _ = await peers.connect(bound.port)  # the burst is before it
    try:
        assert await asyncio.wait_for(last.read(), 9) == b""
        assert tcp.counts == {"accepted": 2, "dialled": 0}
    finally:
        for sock in burst:
            sock.close()
        await tcp.stop()


async def test_a_connection_that_parts_is_not_counted_twice(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    bound = await tcp.listen(HOST, 0)
    await peers.connect(bound.port)
    flow = await asyncio.wait_for(owner.flows.get(), 9)
    assert tcp.counts == {"accepted": 1, "dialled": 0}
    tcp.close(flow)
    await asyncio.wait_for(owner.gone.get(), 9)
    assert tcp.counts["dialled"] == 0  # the peer has not closed its half yet


async def test_an_open_dialled_connection_is_reused(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    port, writers = await peers.serve()
    first = await dial(tcp, port)
    second = await dial(tcp, port)
    assert first is not None
    assert first is second
    assert writers.qsize() == 1


async def test_concurrent_dials_to_one_remote_are_one_dial(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    port, writers = await peers.serve()
    flows = await asyncio.gather(*(dial(tcp, port) for _ in range(5)))
    assert len({flow.id for flow in flows if flow}) == 1
    await asyncio.wait_for(writers.get(), 9)
    assert writers.empty()


async def test_a_connection_the_peer_opened_is_not_reused_for_dialling(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    bound = await tcp.listen(HOST, 0)
    _, writer = await peers.connect(bound.port)
    await asyncio.wait_for(owner.flows.get(), 9)
    remote = writer.get_extra_info("sockname")
    assert tcp.find(Dial(remote)) is None


async def test_a_dialled_flow_names_the_listeners_port_for_via_and_contact(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    bound = await tcp.listen(HOST, 0)
    port, _ = await peers.serve()
    flow = await dial(tcp, port)
    assert flow is not None
    assert flow.local == (HOST, bound.port)
    assert flow.remote == (HOST, port)


async def test_what_a_dialled_peer_says_first_is_not_missed(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    port, _ = await peers.serve(greeting=b"OPTIONS")
    flow = await dial(tcp, port)
    assert await owner.read(7) == b"OPTIONS"
    assert owner.flows.get_nowait() is flow


async def test_a_connection_is_dialled_from_the_address_that_is_listened_on(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    await tcp.listen("127.0.0.9", 0)
    port, writers = await peers.serve()
    flow = await dial(tcp, port)
    assert flow is not None
    assert flow.local[0] == "127.0.0.9"
    writer = await asyncio.wait_for(writers.get(), 9)
    assert writer.get_extra_info("peername")[0] == "127.0.0.9"
    assert tcp.local_address(HOST, port) == "127.0.0.9"


async def test_a_refused_dial_says_so(tcp: TcpTransport, owner: Recorder, peers: Peers) -> None:
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        port = closed.getsockname()[1]
    assert await dial(tcp, port) is None
    assert owner.flows.empty()


async def test_a_dial_that_is_not_answered_ends_at_the_deadline(
    owner: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*args: object, **kwargs: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never, raising=False)
    tcp = TcpTransport(owner, limits=TcpLimits(connect_timeout=0.05))
    assert await dial(tcp, 9) is None
    await tcp.stop()


async def test_a_connection_closed_by_the_peer_is_lost_once_and_dialled_anew(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    port, writers = await peers.serve()
    first = await dial(tcp, port)
    assert first is not None
    (await asyncio.wait_for(writers.get(), 9)).close()
    assert await asyncio.wait_for(owner.gone.get(), 9) == first
    with pytest.raises(SendError):
        tcp.send(first, b"late")
    second = await dial(tcp, port)
    assert second is not None
    assert second.id != first.id
    assert owner.gone.empty()


async def test_a_peer_that_does_not_read_is_closed_at_the_bound(
    owner: Recorder, peers: Peers
) -> None:
    """Threat 5.1: TCP abuse."""
    tcp = TcpTransport(owner, limits=TcpLimits(write_buffer=100_000))
    port, writers = await peers.serve()
    flow = await dial(tcp, port)
    assert flow is not None
    writer = await asyncio.wait_for(writers.get(), 9)
    writer.transport.pause_reading()  # type: ignore[attr-defined]

    def fill() -> None:
        for _ in range(5000):
            tcp.send(flow, b"x" * 10_000)

    with pytest.raises(SendError, match="does not read"):
        fill()
    assert owner.gone.get_nowait() == flow
    with pytest.raises(SendError, match="closed"):
        tcp.send(flow, b"x")
    await asyncio.sleep(0)
    assert owner.gone.empty()
    writer.transport.abort()
    await tcp.stop()


def test_a_flood_of_refused_connections_is_told_sparingly() -> None:
    sparing = Sparing(most=2)
    assert [sparing.more(now) for now in (0.0, 0.1, 0.2, 0.9)] == [0, 0, None, None]
    assert [sparing.more(now) for now in (1.0, 1.1, 1.2)] == [2, 0, None]
    assert sparing.more(9.0) == 1


async def test_one_connection_with_much_to_say_leaves_turns_to_the_others(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    """Threat 5.1: TCP abuse."""
    bound = await tcp.listen(HOST, 0)
    _, loud = await peers.connect(bound.port)
    first = await owner.flows.get()
    turns = 0
    most = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    loop = asyncio.get_running_loop()
    said = b"".join(b"%07d\n" % n for n in range(100_000))
    loud.write(said)
    heard, seen = b"", 0
    loop.call_soon(turn)
    while len(heard) < len(said):
        data, flow = await asyncio.wait_for(owner.chunks.get(), 9)
        assert flow == first
        most = max(most, len(data))
        heard += data
        seen += 1
    assert heard == said
    assert most <= 8 * 1024
    assert turns >= seen - 1


async def test_what_was_said_before_a_close_is_handled_before_the_loss_is_told(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    bound = await tcp.listen(HOST, 0)
    _, writer = await peers.connect(bound.port)
    flow = await owner.flows.get()
    writer.write(b"x" * 100_000)
    writer.write_eof()
    assert await asyncio.wait_for(owner.gone.get(), 9) == flow
    heard = b""
    while not owner.chunks.empty():
        heard += owner.chunks.get_nowait()[0]
    assert len(heard) == 100_000


async def test_close_delivers_what_was_written_first(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    bound = await tcp.listen(HOST, 0)
    reader, _writer = await peers.connect(bound.port)
    flow = await asyncio.wait_for(owner.flows.get(), 9)
    tcp.send(flow, b"400 and goodbye")
    tcp.close(flow)
    assert await asyncio.wait_for(reader.read(), 9) == b"400 and goodbye"
    assert await asyncio.wait_for(owner.gone.get(), 9) == flow


async def test_close_delivers_what_was_written_to_a_peer_that_still_talks(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    """Row 2. A connection closed with bytes unread would be reset, and the 400 lost with it."""
    bound = await tcp.listen(HOST, 0)
    reader, writer = await peers.connect(bound.port)
    flow = await asyncio.wait_for(owner.flows.get(), 9)
    tcp.send(flow, b"400 and goodbye")
    tcp.close(flow)
    writer.write(b"still talking " * 1000)
    assert await asyncio.wait_for(owner.gone.get(), 9) == flow
    assert tcp.find(Dial(flow.remote)) is None
    with pytest.raises(SendError):
        tcp.send(flow, b"late")
    assert await asyncio.wait_for(reader.read(), 9) == b"400 and goodbye"
    assert owner.chunks.empty()  # what comes after the good-bye is nobody's


def test_a_connection_of_a_trunk_may_be_silent_for_longer_than_half_an_hour() -> None:
    """Row 8. A silent call needs its connection; a minute has wedged CUCM."""
    assert TcpLimits().idle >= 1800


async def test_an_idle_connection_is_closed_and_a_used_one_is_not(
    owner: Recorder, peers: Peers
) -> None:
    """Row 8. Threat 5.1: TCP abuse. Failure 7.2: idle close."""
    assert TcpLimits().idle >= 1800
    clock = Clock()
    tcp = TcpTransport(owner, limits=TcpLimits(idle=1800), clock=clock)
    bound = await tcp.listen(HOST, 0)
    _, _idle = await peers.connect(bound.port)
    idle_flow = await asyncio.wait_for(owner.flows.get(), 9)
    _, used = await peers.connect(bound.port)
    used_flow = await asyncio.wait_for(owner.flows.get(), 9)
    clock.now += 1799
    used.write(b"\r\n\r\n")
    await owner.read(4)
    clock.now += 1
    tcp._sweep()
    assert await asyncio.wait_for(owner.gone.get(), 9) == idle_flow
    assert [flow.id for flow in tcp.flows] == [used_flow.id]
    await tcp.stop()


async def test_a_taken_port_is_one_clear_error(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    bound = await tcp.listen(HOST, 0)
    with pytest.raises(ListenError, match=rf"tcp:127\.0\.0\.1:{bound.port}: "):
        await tcp.listen(HOST, bound.port)


async def test_ipv6_and_ipv4_wildcards_share_a_port(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    for _ in range(20):  # until a port is free in both families
        four = await tcp.listen("0.0.0.0", 0)
        with suppress(ListenError):
            six = await tcp.listen("::", four.port)
            break
    _, _writer = await peers.connect(six.port, "::1")
    flow = await asyncio.wait_for(owner.flows.get(), 9)
    assert flow.local == ("::1", six.port)
    assert owner.asked == ["::1"]


async def test_readmitted_connections_keep_their_id(
    tcp: TcpTransport, owner: Recorder, peers: Peers
) -> None:
    bound = await tcp.listen(HOST, 0)
    _, writer = await peers.connect(bound.port)
    before = await asyncio.wait_for(owner.flows.get(), 9)
    owner.admitted = (frozenset({"new"}), frozenset())
    tcp.readmit()
    writer.write(b"x")
    _, after = await asyncio.wait_for(owner.chunks.get(), 9)
    assert after.id == before.id
    assert after.trunks == frozenset({"new"})


async def test_stop_closes_connections_and_tells_nobody(owner: Recorder, peers: Peers) -> None:
    tcp = TcpTransport(owner)
    bound = await tcp.listen(HOST, 0)
    reader, writer = await peers.connect(bound.port)
    flow = await asyncio.wait_for(owner.flows.get(), 9)
    tcp.send(flow, b"bye")
    await tcp.stop()
    assert await asyncio.wait_for(reader.read(), 9) == b"bye"
    assert owner.gone.empty()
    writer.close()

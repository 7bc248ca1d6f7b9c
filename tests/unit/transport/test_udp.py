"""UDP over loopback: admission, one flow per peer, bounds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

from bridge.sip.flow import Flow
from bridge.transport.flow import Admitted, Dial, ListenError, SendError
from bridge.transport.udp import UdpLimits, UdpTransport

pytestmark = pytest.mark.unit

HOST = "127.0.0.1"
KNOWN: Admitted = (frozenset({"t"}), frozenset({"t"}))


@dataclass
class Recorder:
    """Admits the addresses in *known* and notes what it is told."""

    known: dict[str, Admitted] = field(default_factory=lambda: {HOST: KNOWN})
    flows: list[Flow] = field(default_factory=list)
    datagrams: asyncio.Queue[tuple[bytes, Flow]] = field(default_factory=asyncio.Queue)
    asked: list[str] = field(default_factory=list)

    def admit(self, address: str) -> Admitted | None:
        self.asked.append(address)
        return self.known.get(address)

    def opened(self, flow: Flow) -> None:
        self.flows.append(flow)

    def received(self, data: bytes, flow: Flow) -> None:
        self.datagrams.put_nowait((data, flow))

    def lost(self, flow: Flow) -> None:
        raise AssertionError("a UDP flow is never lost")

    def unreachable(self, dial: Dial, why: str) -> None:
        raise AssertionError("nobody dials UDP")

    async def next(self) -> tuple[bytes, Flow]:
        return await asyncio.wait_for(self.datagrams.get(), 20)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def owner() -> Recorder:
    return Recorder()


@pytest.fixture
async def udp(owner: Recorder) -> AsyncIterator[UdpTransport]:
    transport = UdpTransport(owner)
    yield transport
    await transport.stop()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        sock.setblocking(False)
        yield sock


async def receive(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sock, readable.set)  # uvloop has no sock_recvfrom
    try:
        await asyncio.wait_for(readable.wait(), 20)
    finally:
        loop.remove_reader(sock)
    data, peer = sock.recvfrom(65535)
    return data, peer


async def test_datagrams_of_one_peer_share_a_flow(
    udp: UdpTransport, owner: Recorder, peer: socket.socket
) -> None:
    bound = await udp.listen(HOST, 0)
    peer.sendto(b"one", (HOST, bound.port))
    peer.sendto(b"two", (HOST, bound.port))
    first, flow = await owner.next()
    second, same = await owner.next()
    assert (first, second) == (b"one", b"two")
    assert flow is same
    assert owner.flows == [flow]
    assert flow.transport == "udp"
    assert flow.local == (HOST, bound.port)
    assert flow.remote == peer.getsockname()
    assert owner.asked == [HOST]


async def test_an_answer_leaves_by_the_listener_that_was_spoken_to(
    udp: UdpTransport, owner: Recorder, peer: socket.socket
) -> None:
    await udp.listen(HOST, 0)
    bound = await udp.listen(HOST, 0)
    peer.sendto(b"hello", (HOST, bound.port))
    _, flow = await owner.next()
    udp.send(flow, b"answer")
    assert await receive(peer) == (b"answer", (HOST, bound.port))


async def test_an_unknown_source_is_dropped_without_an_answer(
    udp: UdpTransport, owner: Recorder, peer: socket.socket
) -> None:
    """Threat 5.1: Scanners."""
    bound = await udp.listen("0.0.0.0", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.66", 0))
        stranger.setblocking(False)
        stranger.sendto(b"INVITE", (HOST, bound.port))
        peer.sendto(b"known", (HOST, bound.port))
        data, _ = await owner.next()  # the stranger's datagram came first
        assert data == b"known"
        with pytest.raises(BlockingIOError):
            stranger.recv(100)
    assert owner.asked == ["127.0.0.66", HOST]
    assert len(owner.flows) == 1


async def test_a_wildcard_listener_never_names_the_wildcard(
    udp: UdpTransport, owner: Recorder, peer: socket.socket
) -> None:
    """Failure 7.2: zero address in Contact or Via."""
    bound = await udp.listen("0.0.0.0", 0)
    peer.sendto(b"x", (HOST, bound.port))
    _, flow = await owner.next()
    assert flow.local == (HOST, bound.port)
    assert udp.local_address(HOST, 5060) == HOST


async def test_a_dialled_peer_may_answer_although_no_trunk_names_it(
    udp: UdpTransport, owner: Recorder, peer: socket.socket
) -> None:
    owner.known = {}
    bound = await udp.listen(HOST, 0)
    flow = udp.connect(*peer.getsockname())
    assert flow is not None
    assert flow.local == (HOST, bound.port)
    udp.send(flow, b"INVITE")
    assert (await receive(peer))[0] == b"INVITE"
    peer.sendto(b"200", (HOST, bound.port))
    assert await owner.next() == (b"200", flow)


async def test_dialling_again_gives_the_same_flow(
    udp: UdpTransport, owner: Recorder, peer: socket.socket
) -> None:
    await udp.listen(HOST, 0)
    assert udp.connect(*peer.getsockname()) is udp.connect(*peer.getsockname())


async def test_a_peer_we_reach_from_another_address_now_is_a_flow_of_its_own(
    udp: UdpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 99. What we write about ourselves, and register, follows the route."""
    routes = ["192.0.2.1"]
    await udp.listen(HOST, 0)
    monkeypatch.setattr(udp, "_local", lambda listener, _: (routes[0], listener.bound.port))
    first = udp.connect("127.0.0.1", 5099)
    assert first is not None
    assert udp.connect("127.0.0.1", 5099) == first
    routes[0] = "192.0.2.2"
    second = udp.connect("127.0.0.1", 5099)
    assert second is not None
    assert (second.local[0], second.id != first.id) == ("192.0.2.2", True)
    assert udp.connect("127.0.0.1", 5099) == second


async def test_a_peer_that_spoke_first_keeps_its_flow_when_dialled(
    udp: UdpTransport, owner: Recorder, peer: socket.socket
) -> None:
    bound = await udp.listen(HOST, 0)
    peer.sendto(b"x", (HOST, bound.port))
    _, flow = await owner.next()
    assert udp.connect(*peer.getsockname()) is flow


async def test_peers_that_speak_first_push_out_each_other_but_never_a_dialled_one(
    owner: Recorder, peer: socket.socket
) -> None:
    udp = UdpTransport(owner, limits=UdpLimits(heard=2))
    bound = await udp.listen(HOST, 0)
    dialled = udp.connect(*peer.getsockname())
    others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for other in [*others, others[0]]:
        other.sendto(b"x", (HOST, bound.port))
    flows = [(await owner.next())[1] for _ in range(4)]
    assert flows[0].remote == flows[3].remote
    assert flows[0].id != flows[3].id  # had been forgotten
    peer.sendto(b"x", (HOST, bound.port))
    assert (await owner.next())[1] is dialled
    udp.send(flows[0], b"still valid")
    assert (await receive_blocking(others[0])) == b"still valid"
    for other in others:
        other.close()
    await udp.stop()


async def receive_blocking(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    return (await receive(sock))[0]


async def test_a_silent_peer_is_forgotten_after_the_idle_time(
    owner: Recorder, peer: socket.socket
) -> None:
    clock = Clock()
    udp = UdpTransport(owner, limits=UdpLimits(idle=60), clock=clock)
    bound = await udp.listen(HOST, 0)
    peer.sendto(b"x", (HOST, bound.port))
    _, before = await owner.next()
    clock.now += 61
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(b"x", (HOST, bound.port))  # a new peer makes room
        await owner.next()
    peer.sendto(b"x", (HOST, bound.port))
    _, after = await owner.next()
    assert after.id != before.id
    await udp.stop()


async def test_a_datagram_that_is_too_large_is_an_error(
    udp: UdpTransport, owner: Recorder, peer: socket.socket
) -> None:
    await udp.listen(HOST, 0)
    flow = udp.connect(*peer.getsockname())
    assert flow is not None
    with pytest.raises(SendError):
        udp.send(flow, bytes(70_000))


async def test_no_listener_of_the_family_means_no_flow(udp: UdpTransport, owner: Recorder) -> None:
    await udp.listen(HOST, 0)
    assert udp.connect("::1", 5060) is None


async def test_after_readmission_an_unwanted_peer_is_forgotten_and_others_keep_their_id(
    udp: UdpTransport, owner: Recorder, peer: socket.socket
) -> None:
    bound = await udp.listen("0.0.0.0", 0)
    owner.known["127.0.0.7"] = KNOWN
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unwanted:
        unwanted.bind(("127.0.0.7", 0))
        unwanted.sendto(b"x", (HOST, bound.port))
        await owner.next()
        peer.sendto(b"x", (HOST, bound.port))
        _, before = await owner.next()
        owner.known = {HOST: (frozenset({"t", "u"}), frozenset())}
        udp.readmit()
        unwanted.sendto(b"again", (HOST, bound.port))
        peer.sendto(b"again", (HOST, bound.port))
        _, after = await owner.next()
    assert after.id == before.id
    assert after.trunks == frozenset({"t", "u"})


async def test_sending_after_stop_is_an_error(owner: Recorder, peer: socket.socket) -> None:
    udp = UdpTransport(owner)
    await udp.listen(HOST, 0)
    flow = udp.connect(*peer.getsockname())
    assert flow is not None
    await udp.stop()
    with pytest.raises(SendError, match="listener is closed"):
        udp.send(flow, b"x")


async def test_a_taken_port_is_one_clear_error(udp: UdpTransport, owner: Recorder) -> None:
    bound = await udp.listen(HOST, 0)
    with pytest.raises(ListenError, match=rf"udp:127\.0\.0\.1:{bound.port}: "):
        await udp.listen(HOST, bound.port)

"""The driver against a recording core, over loopback sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.config.trunk import TrunkConfig
from bridge.config.values import ListenAddress
from bridge.sip.events import (
    CloseFlow,
    Connect,
    Output,
    PassUp,
    Probed,
    Resolve,
    Send,
    SessionId,
    SipEvent,
)
from bridge.sip.flow import Flow
from bridge.sip.framing import Frame, StreamFramer
from bridge.sip.message import Request, parse
from bridge.sip.screening import Refusal
from bridge.transport.flow import ListenError
from bridge.trunk.admission import Admission, Gcra
from bridge.trunk.gate import Gate
from bridge.ua.tap import Ladder
from bridge.ua.user_agent import UserAgent

pytestmark = pytest.mark.unit

HOST = "127.0.0.1"
OPTIONS = (
    b"OPTIONS sip:+919876543210@127.0.0.1 SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"
    b"From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: one\r\nCSeq: 1 OPTIONS\r\n"
    b"Content-Length: 4\r\n\r\nbody"
)


@dataclass
class Core:
    """Records inputs; its outputs are put in by the test."""

    inputs: asyncio.Queue[tuple[Any, ...]] = field(default_factory=asyncio.Queue)
    outputs: list[Output] = field(default_factory=list)
    deadline: float | None = None
    on_input: Callable[[tuple[Any, ...]], None] | None = None
    framers: dict[int, StreamFramer] = field(default_factory=dict)

    def _take(self, *entry: Any) -> None:
        self.inputs.put_nowait(entry)
        if self.on_input is not None:
            self.on_input(entry)

    def receive(self, data: bytes, flow: Flow, now: float) -> list[Frame]:
        self._take("receive", data, flow)
        if not flow.reliable:
            return [data]
        return self.framers.setdefault(flow.id, StreamFramer()).feed(data)

    def is_between_messages(self, flow: Flow) -> bool:
        return self.framers.setdefault(flow.id, StreamFramer()).idle

    def flow_opened(self, flow: Flow, now: float) -> None:
        self._take("flow_opened", flow)

    def flow_lost(self, flow: Flow, now: float) -> None:
        self._take("flow_lost", flow)

    def send_failed(self, flow: Flow, now: float) -> None:
        self._take("send_failed", flow)

    def connected(self, attempt: int, flow: Flow, now: float) -> None:
        self._take("connected", attempt, flow)

    def connect_failed(self, attempt: int, now: float) -> None:
        self._take("connect_failed", attempt)

    def resolved(self, query: int, addresses: Sequence[tuple[str, int]], now: float) -> None:
        self._take("resolved", query, list(addresses))

    def tick(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self._take("tick", now)

    def poll(self, now: float) -> list[Output]:
        outputs, self.outputs = self.outputs, []
        return outputs

    def next_deadline(self) -> float | None:
        return self.deadline

    def ring(self, session: SessionId, now: float) -> None:
        self._take("ring", session)

    def reject(
        self, session: SessionId, status: int, now: float, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._take("reject", session, status, headers)

    async def next(self, name: str) -> tuple[Any, ...]:
        """Return the next input called *name*, passing over others."""
        async with asyncio.timeout(30):
            while True:
                entry = await self.inputs.get()
                if entry[0] == name:
                    return entry


def trunk(**settings: Any) -> TrunkConfig:
    return TrunkConfig(**{"name": "t", "host": HOST, "allow": ["127.0.0.1"], **settings})


@asynccontextmanager
async def driving(
    core: Any,
    *listen: str,
    trunks: Sequence[TrunkConfig] | None = None,
    on_event: Callable[[SipEvent], None] = lambda event: None,
    **settings: Any,
) -> AsyncIterator[UserAgent]:
    agent = UserAgent(
        core,
        Admission([trunk()] if trunks is None else trunks),
        listen=[ListenAddress.parse(text) for text in listen],
        on_event=on_event,
        **settings,
    )
    await agent.start()
    try:
        yield agent
    finally:
        await agent.stop()


@asynccontextmanager
async def client(
    port: int, host: str = HOST, source: str | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    local = (source, 0) if source else None
    reader, writer = await asyncio.open_connection(host, port, local_addr=local)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@pytest.fixture
def core() -> Core:
    return Core()


async def frames_of(core: Core, wanted: int) -> list[bytes]:
    framer, frames = StreamFramer(), []
    while len(frames) < wanted:
        _, data, _ = await core.next("receive")
        frames += [frame for frame in framer.feed(data) if isinstance(frame, bytes)]
    return frames


async def test_a_message_cut_at_any_byte_and_glued_to_others_arrives_whole(core: Core) -> None:
    async with driving(core, "tcp:127.0.0.1:0") as agent:
        for cut in range(1, len(OPTIONS), 7):
            async with client(agent.bound[0].port) as (_, writer):
                await core.next("flow_opened")
                writer.write(OPTIONS + OPTIONS[:cut])
                await core.next("receive")  # the cut is real: the rest is not written before
                writer.write(OPTIONS[cut:])
                _, data, _ = await core.next("receive")
                assert OPTIONS.endswith(data)
    assert cut > 100


async def test_one_byte_at_a_time_is_one_message_in_the_ladder(core: Core) -> None:
    ladder = Ladder(wall=lambda: 5.0)
    async with (
        driving(core, "tcp:127.0.0.1:0", tap=ladder) as agent,
        client(agent.bound[0].port) as (_, writer),
    ):
        for index in range(len(OPTIONS)):
            writer.write(OPTIONS[index : index + 1])
            await asyncio.sleep(0)
        assert await frames_of(core, 1) == [OPTIONS]
    rungs = ladder.of("one")
    assert [rung.first_line for rung in rungs] == ["OPTIONS sip:***@127.0.0.1 SIP/2.0"]
    assert rungs[0].direction == "in"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_an_unknown_source_gets_nothing(core: Core, transport: str) -> None:
    """Threat 5.1: Scanners."""
    async with driving(
        core, f"{transport}:127.0.0.1:0", trunks=[trunk(allow=["10.0.0.0/8"], host="10.0.0.1")]
    ) as agent:
        port = agent.bound[0].port
        if transport == "tcp":
            async with client(port) as (reader, writer):
                writer.write(OPTIONS)
                try:
                    answer = await asyncio.wait_for(reader.read(), 9)
                except ConnectionResetError:
                    answer = b""
                assert answer == b""
        else:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.connect((HOST, port))
                sock.send(OPTIONS)
                heard = asyncio.get_running_loop().sock_recv(sock, 100)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(heard, 0.05)
    assert core.inputs.empty()


async def test_answers_go_out_by_the_flow_the_request_came_on(core: Core) -> None:
    def answer(entry: tuple[Any, ...]) -> None:
        if entry[0] == "receive":
            core.outputs.append(Send(flow=entry[2], data=b"answer"))

    core.on_input = answer
    async with driving(core, "tcp:127.0.0.1:0", "udp:127.0.0.1:0") as agent:
        tcp, udp = agent.bound
        async with client(tcp.port) as (reader, writer):
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(6), 9) == b"answer"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((HOST, udp.port))
            sock.send(b"x")
            loop = asyncio.get_running_loop()
            assert await asyncio.wait_for(loop.sock_recv(sock, 100), 9) == b"answer"


async def test_connect_reuses_a_connection_and_a_lost_one_is_reported(core: Core) -> None:
    other = Core()
    async with (
        driving(core, "tcp:127.0.0.1:0") as agent,
        driving(other, "tcp:127.0.0.1:0") as peer,
    ):
        port = peer.bound[0].port
        for attempt in (1, 2):
            core.outputs.append(Connect(attempt=attempt, transport="tcp", address=HOST, port=port))
        agent._flush()
        _, first, flow = await core.next("connected")
        _, second, same = await core.next("connected")
        assert ({first, second}, flow) == ({1, 2}, same)
        assert flow.local == (HOST, agent.bound[0].port)
        assert flow.trunks == frozenset({"t"})
        core.outputs.append(Send(flow=flow, data=OPTIONS))
        agent._flush()
        _, data, arrived = await other.next("receive")
        assert data == OPTIONS
        other.outputs.append(CloseFlow(flow=arrived))
        peer._flush()
        assert (await core.next("flow_lost"))[1] == flow
        core.outputs.append(Send(flow=flow, data=OPTIONS))
        agent._flush()
        assert (await core.next("send_failed"))[1] == flow


async def test_udp_connects_at_once(core: Core) -> None:
    async with driving(core, "udp:0.0.0.0:0") as agent:
        core.outputs.append(Connect(attempt=7, transport="udp", address=HOST, port=5999))
        agent._flush()
        _, attempt, flow = await core.next("connected")
        assert (attempt, flow.local) == (7, (HOST, agent.bound[0].port))


async def test_what_cannot_be_reached_is_a_failed_attempt(core: Core) -> None:
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        port = closed.getsockname()[1]
    async with driving(core, "tcp:127.0.0.1:0") as agent:
        core.outputs += [
            Connect(attempt=1, transport="tcp", address=HOST, port=port),
            Connect(attempt=2, transport="tls", address=HOST, port=port),
            Connect(attempt=3, transport="udp", address=HOST, port=port),
            Connect(attempt=4, transport="tcp", address="a.name", port=port),
            Connect(attempt=5, transport="tcp", address=HOST, port=70_000),
        ]
        agent._flush()
        failed = {(await core.next("connect_failed"))[1] for _ in range(5)}
        assert failed == {1, 2, 3, 4, 5}


async def test_names_and_literals_are_resolved(core: Core) -> None:
    async with driving(core, "tcp:127.0.0.1:0") as agent:
        core.outputs += [
            Resolve(query=1, transport="tcp", host="192.0.2.7", port=None),
            Resolve(query=2, transport="tcp", host="localhost", port=5070),
        ]
        agent._flush()
        assert await core.next("resolved") == ("resolved", 1, [("192.0.2.7", 5060)])
        assert await core.next("resolved") == ("resolved", 2, [(HOST, 5070)])


async def test_the_timer_fires_at_the_cores_deadline_and_follows_an_earlier_one(
    core: Core,
) -> None:
    async with driving(core, "tcp:127.0.0.1:0") as agent:
        core.deadline = time.monotonic() + 3600
        agent._flush()
        core.deadline = due = time.monotonic() + 0.02
        agent._flush()
        _, now = await core.next("tick")
        assert now >= due


async def test_a_listener_that_raises_does_not_stop_the_driver(core: Core) -> None:
    heard: list[SipEvent] = []

    def on_event(event: SipEvent) -> None:
        heard.append(event)
        raise RuntimeError("listener")

    async with driving(core, "tcp:127.0.0.1:0", on_event=on_event) as agent:
        events = [Probed(session=SessionId(n), alive=True) for n in (1, 2)]
        core.outputs += [PassUp(event=event) for event in events]
        agent._flush()
        assert heard == events


async def test_a_core_that_raises_does_not_stop_the_driver(core: Core) -> None:
    def fail(entry: tuple[Any, ...]) -> None:
        if entry[:2] == ("receive", b"bad"):
            raise ValueError("core")

    core.on_input = fail
    async with (
        driving(core, "tcp:127.0.0.1:0") as agent,
        client(agent.bound[0].port) as (_, writer),
    ):
        writer.write(b"bad")
        await core.next("receive")
        writer.write(b"good")
        assert (await core.next("receive"))[1] == b"good"


async def test_a_verb_called_from_a_listener_is_carried_out_in_the_same_turn(core: Core) -> None:
    agent: UserAgent

    def on_event(event: SipEvent) -> None:
        agent.ring(SessionId(1))

    def react(entry: tuple[Any, ...]) -> None:
        if entry[0] == "ring" and core.inputs.qsize() < 3:
            core.outputs.append(PassUp(event=Probed(session=SessionId(1), alive=True)))

    core.on_input = react
    async with driving(core, "tcp:127.0.0.1:0", on_event=on_event) as agent:
        core.outputs.append(PassUp(event=Probed(session=SessionId(1), alive=True)))
        agent._flush()
        assert core.inputs.qsize() == 3


async def test_a_core_that_never_ends_asking_leaves_turns_to_the_loop(core: Core) -> None:
    agent: UserAgent
    endless = True

    def on_event(event: SipEvent) -> None:
        if endless:
            core.outputs.append(PassUp(event=event))

    async with driving(core, "tcp:127.0.0.1:0", on_event=on_event) as agent:
        core.outputs.append(PassUp(event=Probed(session=SessionId(1), alive=True)))
        agent._flush()
        endless = False  # reached at all: that is the assertion
        assert core.outputs


async def test_new_calls_over_the_rate_of_a_source_are_refused_and_not_passed_on(
    core: Core,
) -> None:
    invite = parse(OPTIONS.replace(b"OPTIONS", b"INVITE"))
    assert isinstance(invite, Request)
    flow = Flow(
        id=9,
        transport="udp",
        local=(HOST, 1),
        remote=(HOST, 2),
        trunks=frozenset(("t",)),
        new_call_trunks=frozenset(("t",)),
    )
    asked: list[Request] = []
    refused: list[tuple[str, str]] = []
    async with driving(
        core,
        "tcp:127.0.0.1:0",
        gate=Gate(sources=Gcra(rate=0.5, burst=2)),
        screen=lambda request, _: asked.append(request),
        on_refused=lambda *what: refused.append(what),
    ) as agent:
        answers = [agent.screen(invite, flow, 100.0) for _ in range(3)]
    assert answers == [None, None, Refusal(503, (("Retry-After", "2"),))]
    assert asked == [invite, invite]
    assert refused == [("t", "source_rate")]


@pytest.mark.parametrize("beginning", [b"", b"OPTIONS sip:", OPTIONS[:-1]])
async def test_a_connection_that_sends_no_whole_message_is_closed(
    core: Core, beginning: bytes
) -> None:
    """Threat 5.1: TCP abuse."""
    async with (
        driving(core, "tcp:127.0.0.1:0", patience=0.1) as agent,
        client(agent.bound[0].port) as (reader, writer),
    ):
        writer.write(beginning)
        try:
            answer = await asyncio.wait_for(reader.read(), 9)
        except ConnectionResetError:
            answer = b""
        assert answer == b""
        await core.next("flow_lost")


async def test_a_silent_connection_that_has_sent_a_message_stays_open(core: Core) -> None:
    async with (
        driving(core, "tcp:127.0.0.1:0", patience=0.1) as agent,
        client(agent.bound[0].port) as (quiet, writer),
        client(agent.bound[0].port) as (slow, _),
    ):
        writer.write(OPTIONS)
        await core.next("receive")
        assert await asyncio.wait_for(slow.read(), 9) == b""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(quiet.read(), 0.2)


async def test_a_reload_lets_new_sources_in_and_keeps_connections(core: Core) -> None:
    async with driving(core, "tcp:0.0.0.0:0") as agent:
        port = agent.bound[0].port
        async with client(port) as (_, old), client(port, source="127.0.0.5") as (reader, _):
            before = (await core.next("flow_opened"))[1]
            assert await asyncio.wait_for(reader.read(), 9) == b""
            agent.reload(Admission([trunk(name="u", host="127.0.0.5", allow=["127.0.0.5"])]))
            old.write(b"x")
            after = (await core.next("receive"))[2]
            assert (after.id, after.trunks) == (before.id, frozenset())
            async with client(port, source="127.0.0.5"):
                flow = (await core.next("flow_opened"))[1]
                assert flow.new_call_trunks == frozenset({"u"})


class Learning(Admission):
    """Tells when it has learned something."""

    def __init__(self, trunks: Sequence[TrunkConfig]) -> None:
        super().__init__(trunks)
        self.learned = asyncio.Event()

    def learn(self, trunk: str, addresses: Iterable[str], now: float) -> bool:
        new = super().learn(trunk, addresses, now)
        self.learned.set()
        return new


async def test_the_hosts_of_trunks_are_resolved_at_the_start_and_after_a_reload(
    core: Core,
) -> None:
    async with driving(core, "udp:127.0.0.1:0", trunks=[]) as agent:
        assert agent.admit(HOST) is None
        admission = Learning([trunk(host="localhost", allow=[])])
        agent.reload(admission)
        await asyncio.wait_for(admission.learned.wait(), 9)
        assert agent.admit(HOST) == (frozenset({"t"}), frozenset())


async def test_local_addresses_are_never_wildcards(core: Core) -> None:
    async with driving(core, "tcp:0.0.0.0:0", "udp:127.0.0.3:0") as agent:
        assert agent.local_address_for(HOST, 5060, "tcp") == HOST
        assert agent.local_address_for(HOST, 5060, "udp") == "127.0.0.3"
        assert agent.local_address_for("unheard-of.example", 5060, "tcp") != "0.0.0.0"


async def test_a_start_that_fails_leaves_nothing_open(core: Core) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        agent = UserAgent(
            core,
            Admission([trunk()]),
            listen=[
                ListenAddress.parse(f"tcp:{HOST}:{port}"),
                ListenAddress.parse(f"tcp:{HOST}:{taken.getsockname()[1]}"),
            ],
            on_event=lambda event: None,
        )
        with pytest.raises(ListenError, match="in use"):
            await agent.start()
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind((HOST, port))

"""Two user agents with the real core make calls over loopback sockets."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import pytest

from bridge.config.trunk import TrunkConfig
from bridge.config.values import ListenAddress
from bridge.sip.endpoint import Endpoint, EndpointConfig, OutgoingInvite
from bridge.sip.events import (
    Answered,
    Cancelled,
    Confirmed,
    Ended,
    Failed,
    FailureCause,
    IncomingInvite,
    Probed,
    Progressed,
    Reoffered,
    SessionChanged,
    SessionId,
    SipEvent,
    TrunkProbed,
)
from bridge.sip.probe import TrunkQuestion
from bridge.sip.transaction import Timers
from bridge.trunk.admission import Admission
from bridge.trunk.gate import Gate
from bridge.ua.tap import Ladder
from bridge.ua.user_agent import UserAgent
from sdp.model import Direction
from sdp.negotiate import LocalMedia, OfferAnswer

pytestmark = pytest.mark.unit

HOST = "127.0.0.1"
E = TypeVar("E", bound=SipEvent)


class Phone:
    """A user agent whose events can be waited for."""

    def __init__(self, transport: str, host: str = HOST, *, t1: float = 0.1) -> None:
        self.host = host
        self.transport = transport
        self.events: asyncio.Queue[SipEvent] = asyncio.Queue()
        self.probed: asyncio.Queue[TrunkProbed] = asyncio.Queue()
        self.heard_at: list[float | None] = []
        self.ladder = Ladder()
        admission = Admission([TrunkConfig(name="peer", host="127.0.0.1", allow=["127.0.0.0/8"])])
        self.gate = Gate()
        self.agent = UserAgent(
            Endpoint(
                EndpointConfig(timers=Timers(t1=t1)),
                tokens=lambda: secrets.token_hex(8),
                next_hop_allowed=lambda host, trunk: self.agent.next_hop_allowed(host, trunk),
                screen=lambda request, flow, now: self.agent.screen(request, flow, now),
            ),
            admission,
            listen=[ListenAddress.parse(f"{transport}:{host}:0")],
            on_event=self._heard,
            on_probed=self.probed.put_nowait,
            tap=self.ladder,
            gate=self.gate,
        )

    def overload(self, is_behind: Callable[[], bool]) -> None:
        """Have the gate ask *is_behind*."""
        self.gate._overloaded = is_behind

    def _heard(self, event: SipEvent) -> None:
        self.heard_at.append(self.agent.heard_at)
        self.events.put_nowait(event)

    @property
    def port(self) -> int:
        return self.agent.bound[0].port

    def media(self) -> OfferAnswer:
        local = LocalMedia(address=HOST, port=20000, codecs=("PCMA", "PCMU"), session_id=1)
        return OfferAnswer(local, destination_allowed=lambda _address, _port: True)

    def dial(self, host: str, port: int, transport: str | None = None) -> SessionId:
        return self.agent.dial(
            OutgoingInvite(
                trunk="peer",
                next_hop=(transport or self.transport, host, port),
                request_uri=f"sip:+919876543210@{host}:{port}",
                from_=f"<sip:+912222222222@{HOST}>",
                to=f"<sip:+919876543210@{host}>",
                offer_answer=self.media(),
            )
        )

    async def next(self, kind: type[E]) -> E:
        """Return the next event, which must be of *kind*."""
        event = await asyncio.wait_for(self.events.get(), 20)
        assert isinstance(event, kind)
        return event

    def take(self, incoming: IncomingInvite) -> None:
        """Ring and answer."""
        self.agent.adopt(incoming.session, self.media(), "peer")
        self.agent.ring(incoming.session)
        self.agent.answer(incoming.session)


@pytest.fixture
async def started() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def phones(stack: AsyncExitStack, transport: str) -> tuple[Phone, Phone]:
    pair = Phone(transport), Phone(transport, "127.0.0.2")
    for phone in pair:
        await phone.agent.start()
        stack.push_async_callback(phone.agent.stop)
    return pair


async def connected(alice: Phone, bob: Phone) -> tuple[SessionId, SessionId]:
    ours = alice.dial(bob.host, bob.port)
    incoming = await bob.next(IncomingInvite)
    bob.take(incoming)
    assert (await alice.next(Progressed)).status == 180
    assert (await alice.next(Answered)).negotiated.codec == "PCMA"
    await bob.next(Confirmed)
    return ours, incoming.session


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_trunk_is_asked_and_draining_is_told(
    started: AsyncExitStack, transport: str
) -> None:
    alice, bob = await phones(started, transport)
    question = TrunkQuestion(
        trunk="peer",
        next_hop=(transport, bob.host, bob.port),
        request_uri=f"sip:{bob.host}",
        from_=f"<sip:ping@{HOST}>",
        to=f"<sip:{bob.host}>",
    )
    for status in (200, 503):
        alice.agent.ask_trunk(question)
        async with asyncio.timeout(30):
            answer = await alice.probed.get()
        assert (answer.trunk, answer.status) == ("peer", status)
        assert 0 < answer.seconds < 30
        bob.agent.set_draining(draining=True)


async def test_while_an_event_is_told_the_time_its_message_came_is_known(
    started: AsyncExitStack,
) -> None:
    alice, bob = await phones(started, "tcp")
    await connected(alice, bob)
    assert alice.heard_at
    assert all(at is not None and at > 0 for at in alice.heard_at)
    assert alice.agent.heard_at is None


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_call_is_answered_held_resumed_and_ended(
    started: AsyncExitStack, transport: str
) -> None:
    alice, bob = await phones(started, transport)
    ours, theirs = await connected(alice, bob)
    details = alice.agent.details(ours)
    assert details is not None

    bob.agent.reoffer(theirs, Direction.SENDONLY)
    assert (await alice.next(SessionChanged)).negotiated.hold is not None
    await bob.next(SessionChanged)
    assert (await bob.next(Reoffered)).ok
    bob.agent.reoffer(theirs, Direction.SENDRECV)
    assert (await alice.next(SessionChanged)).negotiated.hold is None
    await bob.next(SessionChanged)
    assert (await bob.next(Reoffered)).ok
    alice.agent.probe(ours)
    assert (await alice.next(Probed)).alive
    bob.agent.bye(theirs)
    await alice.next(Ended)
    assert alice.agent.details(ours) is None

    lines = [
        (rung.direction, rung.first_line.split()[0:2], rung.sdp)
        for rung in alice.ladder.of(details.call_id)
    ]
    seen = [(way, words[0] if words[0] != "SIP/2.0" else words[1]) for way, words, _ in lines]
    for wanted in (
        ("out", "INVITE"),
        ("in", "200"),
        ("out", "ACK"),
        ("in", "INVITE"),
        ("in", "BYE"),
    ):
        assert wanted in seen
    assert ("in", "sendonly") in [(way, sdp) for way, _, sdp in lines]


async def test_the_caller_gives_up_and_the_callee_hears_it(started: AsyncExitStack) -> None:
    alice, bob = await phones(started, "tcp")
    session = alice.dial(bob.host, bob.port)
    incoming = await bob.next(IncomingInvite)
    bob.agent.ring(incoming.session)
    await alice.next(Progressed)
    alice.agent.cancel(session)
    await bob.next(Cancelled)
    assert (await alice.next(Failed)).cause is FailureCause.CANCELLED


async def test_a_closed_connection_ends_no_call_and_the_bye_dials_anew(
    started: AsyncExitStack,
) -> None:
    """Rows 6, 7. A TCP close is no BYE; the next request makes a new connection."""
    alice, bob = await phones(started, "tcp")
    ours, theirs = await connected(alice, bob)
    for flow in list(bob.agent._tcp.flows):
        bob.agent._tcp.abort(flow)
    bob.agent.probe(theirs)  # by a connection of its own, to Contact
    assert (await bob.next(Probed)).alive
    alice.agent.bye(ours)
    await bob.next(Ended)
    assert alice.events.empty()


async def test_one_connection_carries_many_calls(started: AsyncExitStack) -> None:
    alice, bob = await phones(started, "tcp")
    dialled = [alice.dial(bob.host, bob.port) for _ in range(20)]
    incoming = [await bob.next(IncomingInvite) for _ in dialled]
    assert len({invite.flow.id for invite in incoming}) == 1
    assert {invite.flow.new_call_trunks for invite in incoming} == {frozenset({"peer"})}
    for invite in incoming:
        bob.agent.reject(invite.session, 486)
    failed = [await alice.next(Failed) for _ in dialled]
    assert {event.session for event in failed} == set(dialled)
    assert {event.status for event in failed} == {486}


async def test_a_peer_that_does_not_listen_is_unreachable(started: AsyncExitStack) -> None:
    alice, _ = await phones(started, "tcp")
    with socket.socket() as closed:
        closed.bind((HOST, 0))
        port = closed.getsockname()[1]
    alice.dial(HOST, port)
    assert (await alice.next(Failed)).cause is FailureCause.UNREACHABLE


async def test_a_udp_peer_that_does_not_answer_is_given_up_by_the_timer(
    started: AsyncExitStack,
) -> None:
    alice = Phone("udp", t1=0.005)
    await alice.agent.start()
    started.push_async_callback(alice.agent.stop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        alice.dial(HOST, silent.getsockname()[1])
        assert (await alice.next(Failed)).cause is FailureCause.NO_RESPONSE


async def test_a_stream_that_is_no_sip_is_closed(started: AsyncExitStack) -> None:
    _, bob = await phones(started, "tcp")
    reader, writer = await asyncio.open_connection(bob.host, bob.port)
    writer.write(b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n")
    try:
        answer = await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        answer = b""
    assert b"HTTP" not in answer
    writer.close()


async def test_a_ping_is_answered_with_a_pong(started: AsyncExitStack) -> None:
    """Row 3. RFC 5626 4.4.1: a double CRLF is answered with a single one."""
    _, bob = await phones(started, "tcp")
    reader, writer = await asyncio.open_connection(bob.host, bob.port)
    writer.write(b"\r\n\r\n")
    assert await asyncio.wait_for(reader.readexactly(2), 20) == b"\r\n"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_while_overloaded_new_calls_and_options_get_503_and_a_running_call_goes_on(
    started: AsyncExitStack, transport: str
) -> None:
    """Row 39. Threat 5.1: INVITE and REGISTER flood. RFC 3261 11: as an INVITE is answered."""
    overloaded = False
    alice, bob = Phone(transport), Phone(transport, "127.0.0.2")
    bob.overload(lambda: overloaded)
    for phone in (alice, bob):
        await phone.agent.start()
        started.push_async_callback(phone.agent.stop)
    ours, _ = await connected(alice, bob)
    overloaded = True
    alice.dial(bob.host, bob.port)
    assert (await alice.next(Failed)).status == 503
    alice.agent.ask_trunk(
        TrunkQuestion(
            trunk="peer",
            next_hop=(transport, bob.host, bob.port),
            request_uri=f"sip:{bob.host}",
            from_=f"<sip:ping@{HOST}>",
            to=f"<sip:{bob.host}>",
        )
    )
    assert (await asyncio.wait_for(alice.probed.get(), 20)).status == 503
    alice.agent.probe(ours)
    assert (await alice.next(Probed)).alive
    alice.agent.bye(ours)
    await bob.next(Ended)
    assert bob.events.empty()


async def test_draining_leaves_new_calls_to_the_listener_and_keeps_running_ones(
    started: AsyncExitStack,
) -> None:
    alice, bob = await phones(started, "tcp")
    ours, theirs = await connected(alice, bob)
    bob.agent.set_draining(draining=True)
    alice.dial(bob.host, bob.port)
    bob.agent.reject((await bob.next(IncomingInvite)).session, 503)
    assert (await alice.next(Failed)).status == 503
    bob.agent.probe(theirs)
    assert (await bob.next(Probed)).alive
    alice.agent.bye(ours)
    await bob.next(Ended)

"""A name with three servers behind it, over a real resolver, real sockets and real listeners."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from typing import TypeVar

import pytest

from bridge.config.trunk import TrunkConfig
from bridge.config.values import ListenAddress
from bridge.sip.endpoint import Endpoint, EndpointConfig, OutgoingInvite
from bridge.sip.events import Answered, Failed, FailureCause, IncomingInvite, SipEvent
from bridge.sip.transaction import Timers
from bridge.transport.resolver import Resolver
from bridge.trunk.admission import Admission
from bridge.ua.user_agent import UserAgent
from sdp.negotiate import LocalMedia, OfferAnswer
from tests.unit.transport.name_server import NameServer, serve

pytestmark = pytest.mark.unit

E = TypeVar("E", bound=SipEvent)
NAME = "trunk.example.com"
TRUNK = TrunkConfig(name="peer", host=NAME, allow=["127.0.0.0/8"])


class Server:
    """A user agent that answers every call in one way, or one that calls."""

    def __init__(self, transport: str, host: str, status: int = 200, port: int = 0) -> None:
        self.host = host
        self.status = status
        self.headers: tuple[tuple[str, str], ...] = ()
        self.events: asyncio.Queue[SipEvent] = asyncio.Queue()
        self.invites: list[IncomingInvite] = []
        self.agent = UserAgent(
            Endpoint(EndpointConfig(timers=Timers(t1=0.05)), tokens=lambda: secrets.token_hex(8)),
            Admission([TRUNK]),
            listen=[ListenAddress.parse(f"{transport}:{host}:{port}")],
            on_event=self._heard,
            resolver=Resolver(nameservers=["127.0.0.1"], timeout=2.0),
        )

    def _heard(self, event: SipEvent) -> None:
        if not isinstance(event, IncomingInvite):
            self.events.put_nowait(event)
            return
        self.invites.append(event)
        if self.status >= 300:
            self.agent.reject(event.session, self.status, self.headers)
            return
        self.agent.adopt(event.session, media(self.host), "peer")
        self.agent.answer(event.session)

    @property
    def port(self) -> int:
        return self.agent.bound[0].port

    def dial(self, transport: str, **options: object) -> None:
        self.agent.dial(
            OutgoingInvite(
                trunk="peer",
                next_hop=(transport, NAME, None),
                request_uri=f"sip:+919876543210@{NAME}",
                from_=f"<sip:+912222222222@{NAME}>",
                to=f"<sip:+919876543210@{NAME}>",
                offer_answer=media(self.host),
                **options,  # type: ignore[arg-type]
            )
        )

    async def next(self, kind: type[E]) -> E:
        event = await asyncio.wait_for(self.events.get(), 15)
        assert isinstance(event, kind), event
        return event


def media(host: str) -> OfferAnswer:
    local = LocalMedia(address=host, port=20000, codecs=("PCMA",), session_id=1)
    return OfferAnswer(local, destination_allowed=lambda _address, _port: True)


def refusing_port(host: str) -> int:
    """A port at which nobody listens."""
    with closing(socket.socket()) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def name_server(stack: AsyncExitStack) -> NameServer:
    server = await serve()
    stack.callback(server.transport.close)
    return server


async def up(stack: AsyncExitStack, server: Server, names: NameServer) -> Server:
    server.agent._resolver._dns.port = names.port  # type: ignore[union-attr]
    await server.agent.start()
    stack.push_async_callback(server.agent.stop)
    return server


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_srv_leads_past_a_dead_server_and_a_full_one_to_the_third(
    stack: AsyncExitStack, transport: str
) -> None:
    """Row 16. RFC 3263 4.2, 4.3: refused (UDP: silent, Timer B), 503, answered."""
    names = await name_server(stack)
    caller = await up(stack, Server(transport, "127.0.0.1"), names)
    full = await up(stack, Server(transport, "127.0.0.3", 503), names)
    good = await up(stack, Server(transport, "127.0.0.4"), names)
    names.zone = {
        (NAME, "NAPTR"): (
            60,
            [
                f'1 1 "s" "SIP+D2{transport[0].upper()}" "" _sip._{transport}.pool.example.com.',
                '1 0 "s" "SIPS+D2T" "" _sips._tcp.pool.example.com.',
            ],
        ),
        (f"_sip._{transport}.pool.example.com", "SRV"): (
            60,
            [
                f"3 0 {good.port} c.example.com.",
                f"2 0 {full.port} b.example.com.",
                f"1 0 {refusing_port('127.0.0.2')} a.example.com.",
            ],
        ),
        ("a.example.com", "A"): (60, ["127.0.0.2"]),
        ("b.example.com", "A"): (60, ["127.0.0.3"]),
        ("c.example.com", "A"): (60, ["127.0.0.4"]),
    }
    caller.dial(transport)
    await caller.next(Answered)
    first, second = full.invites[0].request, good.invites[0].request
    assert first.top_via.branch != second.top_via.branch
    assert (first.call_id, first.cseq, first.from_.tag) == (
        second.call_id,
        second.cseq,
        second.from_.tag,
    )
    assert len(full.invites) == len(good.invites) == 1


async def test_the_only_server_that_wants_rest_is_not_called_again(stack: AsyncExitStack) -> None:
    """Row 46. 503 with Retry-After."""
    names = await name_server(stack)
    caller = await up(stack, Server("tcp", "127.0.0.1"), names)
    full = await up(stack, Server("tcp", "127.0.0.3", 503), names)
    full.headers = (("Retry-After", "60"),)
    names.zone = {
        ("_sip._tcp.trunk.example.com", "SRV"): (60, [f"1 0 {full.port} b.example.com."]),
        ("b.example.com", "A"): (60, ["127.0.0.3"]),
    }
    caller.dial("tcp")
    assert (await caller.next(Failed)).retry_after == 60
    caller.dial("tcp")
    assert (await caller.next(Failed)).cause is FailureCause.RESTING
    assert len(full.invites) == 1


async def test_a_large_invite_reaches_a_carrier_that_has_udp_only(stack: AsyncExitStack) -> None:
    """Row 9. RFC 3261 18.1.1: TCP is refused, UDP is used."""
    names = await name_server(stack)
    caller = await up(stack, Server("udp", "127.0.0.1"), names)
    good = await up(stack, Server("udp", "127.0.0.4"), names)
    names.zone = {
        ("_sip._udp.trunk.example.com", "SRV"): (60, [f"1 0 {good.port} c.example.com."]),
        ("c.example.com", "A"): (60, ["127.0.0.4"]),
    }
    caller.dial("udp", headers=(("X-Padding", "p" * 1400),))
    await caller.next(Answered)
    assert good.invites[0].request.top_via.transport == "UDP"
    assert good.invites[0].flow.transport == "udp"

"""The carrier: listens on TCP and UDP, dials, answers; many legs in one process."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import ssl
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from bridge.carrier import script as language
from bridge.carrier.call import Leg
from bridge.carrier.dialog import Dialog, new_tag
from bridge.carrier.exchange import LIFETIME, Behaviour
from bridge.carrier.media import clip_source
from bridge.carrier.registrar import Registrar
from bridge.carrier.report import LegReport, Seen
from bridge.carrier.steps import Script
from bridge.carrier.wire import Datagrams, Peer, Stream
from bridge.errors import MisuseError
from bridge.sip.message import Headers, ParseError, Request, Response, response_to
from bridge.sip.uri import SipUri, TelUri, parse_uri, write_hostport

CONNECT_TIMEOUT = 10.0  # seconds
MAX_REPORTS = 10_000
STOP_GRACE = 3.0  # seconds for the BYEs when the carrier stops


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """The carrier's TLS: what it serves with, what it calls with, whom it wants to reach."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    name: str  # of the host that it calls, for SNI and its certificate


class Carrier:
    """A carrier on loopback. Use it as an async context manager.

    ``scripts`` maps called numbers to scripts, ``default`` is for all others; with neither,
    calls wait for :meth:`incoming`. ``credentials`` (user, password): INVITE and REGISTER are
    challenged. ``allow``: calls from other networks get 403. ``inner_contact``: our Contact is
    not reachable, as Exotel's (TLS, another port), so that requests which do not follow the
    Record-Route are lost. With *security* it listens on ``tls_port`` too, and its TLS calls are
    reached there. *datagram_loss* is the share of SIP datagrams, each way, that are lost.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        scripts: Mapping[str, str] | None = None,
        default: str | None = None,
        behaviour: Behaviour | None = None,
        record_route: bool = True,
        inner_contact: bool = True,
        credentials: tuple[str, str] | None = None,
        allow: Sequence[str] = (),
        registrar: Registrar | None = None,
        voice_hertz: int = 440,
        voice: array[int] | None = None,
        security: Security | None = None,
        datagram_loss: float = 0.0,
        tap: Callable[[Seen], None] | None = None,
        ended: Callable[[Leg], None] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.tls_port = 0
        self.security = security
        self.datagram_loss = datagram_loss
        self.media_address = host
        self.behaviour = behaviour or Behaviour()
        self.record_route = record_route
        self.inner_contact = inner_contact and record_route
        self.credentials = credentials
        self._allow = [ipaddress.ip_network(network, strict=False) for network in allow]
        self.voice_hertz = voice_hertz
        self.reports: list[LegReport] = []
        self.rejected: list[str] = []  # what could not be read as SIP
        self.registrar = registrar or Registrar()
        self._voice = voice
        self._scripts = {number: language.parse(text) for number, text in (scripts or {}).items()}
        self._default = language.parse(default) if default is not None else None
        self._tap = tap
        self._ended = ended
        self._legs: dict[str, Leg] = {}  # by our tag
        self._callers: dict[tuple[str, str | None], Leg] = {}  # Call-ID and From tag of callers
        self._incoming: asyncio.Queue[Leg] = asyncio.Queue()
        self._server: asyncio.Server | None = None
        self._secure_server: asyncio.Server | None = None
        self._datagrams: Datagrams | None = None
        self._streams: set[Stream] = set()
        self._dialled: dict[tuple[str, str, int], Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Carrier:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on TCP and UDP, on the same port; on TLS on another."""
        await self._start_plain()
        if self.security is not None:
            self._secure_server = await asyncio.get_running_loop().create_server(
                self._secure_stream, self.host, 0, ssl=self.security.server
            )
            self.tls_port = self._secure_server.sockets[0].getsockname()[1]

    async def _start_plain(self) -> None:
        loop = asyncio.get_running_loop()
        for attempt in range(20):
            server = await loop.create_server(self._stream, self.host, self.port)
            bound = server.sockets[0].getsockname()[1]
            try:
                _, datagrams = await loop.create_datagram_endpoint(
                    lambda: Datagrams(self._receive, self._reject, loss=self.datagram_loss),
                    local_addr=(self.host, bound),
                )
            except OSError:
                server.close()
                if self.port or attempt == 19:
                    raise
                continue
            self._server, self._datagrams, self.port = server, datagrams, bound
            return

    async def stop(self) -> None:
        """End all calls, close all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        legs = list(self._legs.values())
        ending = [asyncio.ensure_future(leg.finish()) for leg in legs if not leg.closed]
        if ending:
            _, late = await asyncio.wait(ending, timeout=STOP_GRACE)
            for unfinished in late:
                unfinished.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for leg in legs:
            leg.close()
            leg.forget()
            if leg.timer is not None:
                leg.timer.cancel()
        servers = [server for server in (self._server, self._secure_server) if server is not None]
        for server in servers:
            server.close()
        streams = list(self._streams)
        for stream in streams:
            stream.close()
        for stream in streams:
            await stream.wait_closed()
        if self._datagrams is not None:
            await self._datagrams.close()
        for server in servers:
            await server.wait_closed()

    # dialling

    async def dial(
        self,
        to: str,
        *,
        from_: str = "+919876543210",
        behaviour: Behaviour | None = None,
        fresh: bool = False,
        called: str = "",
    ) -> Leg:
        """Return a leg to the SIP URI *to*; its INVITE goes out when a script runs on it.

        *fresh*: on a connection of its own. With *called*, *to* is an address of record
        that is registered here: the call goes by the connection of its REGISTER to its
        Contact, and *called* is the number in To.
        """
        uri = parse_uri(to)
        if not isinstance(uri, SipUri):
            raise MisuseError("a carrier dials sip: addresses")
        binding = self.registrar.bindings[str(uri)] if called else None
        remote = f"<{uri.scheme}:{_user(uri)}{uri.hostport}>"
        if binding is not None:
            remote = f"<sip:{called}@{uri.hostport}>"
            found = parse_uri(binding.contact)
            assert isinstance(found, SipUri)
            uri, peer = found, binding.peer
            transport = peer.transport_name
        else:
            transport = (uri.transport or "tcp").upper()
            port = uri.port or (5061 if transport == "TLS" else 5060)
            peer = await self.connect(uri.host, port, transport, fresh=fresh)
        kept = behaviour or self.behaviour
        tag = new_tag()
        dialog = Dialog(
            call_id=f"{secrets.token_hex(16)}@{self.host}",
            local=f"<sip:{from_}@{self._sent_by(transport)}>;tag={tag}",
            local_tag=tag,
            remote=remote,
            target=str(uri),
            contact=self._contact(from_, transport),
            sent_by=self._sent_by(transport),
            record_route=self._route(transport),
        )
        leg = Leg(self, dialog, number=uri.user or "", behaviour=kept)
        leg.peer = peer
        self._adopt(leg)
        return leg

    async def call(
        self,
        to: str,
        script: str,
        *,
        from_: str = "+919876543210",
        behaviour: Behaviour | None = None,
        fresh: bool = False,
        called: str = "",
    ) -> LegReport:
        """Dial, run *script*, hang up, return the report."""
        language.parse(script)
        leg = await self.dial(to, from_=from_, behaviour=behaviour, fresh=fresh, called=called)
        await leg.run(script)
        return await leg.finish()

    async def incoming(self, timeout: float = 10.0) -> Leg:
        """Return the next call that no script answers."""
        return await asyncio.wait_for(self._incoming.get(), timeout)

    async def settled(self, timeout: float = 60.0) -> None:
        """Wait until no scripted call runs any more."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout)

    async def connect(self, host: str, port: int, transport: str, *, fresh: bool = False) -> Peer:
        """Return a peer: the UDP address, the shared connection to there, or a fresh one."""
        if transport == "UDP":
            assert self._datagrams is not None
            return self._datagrams.peer((host, port))
        if transport != "TCP" and (transport != "TLS" or self.security is None):
            raise MisuseError(f"the carrier does not speak {transport}")
        known = self._dialled.get((transport, host, port))
        if known is not None and not known.closed and not fresh:
            return known
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT):
            if transport == "TLS" and self.security is not None:
                _, stream = await loop.create_connection(
                    self._secure_stream,
                    host,
                    port,
                    ssl=self.security.client,
                    server_hostname=self.security.name,
                )
            else:
                _, stream = await loop.create_connection(self._stream, host, port)
        if not fresh:
            self._dialled[(transport, host, port)] = stream
        return stream

    def _sent_by(self, transport: str) -> str:
        return write_hostport(self.host, self.tls_port if transport == "TLS" else self.port)

    def _contact(self, user: str, transport: str) -> str:
        if self.inner_contact:
            # Exotel: the Contact names a TLS port that only its own proxy reaches.
            return f"<sip:{user}@{write_hostport(self.host, 1)};transport=tls>"
        return f"<sip:{user}@{self._sent_by(transport)};transport={transport.lower()}>"

    def _route(self, transport: str) -> str | None:
        if not self.record_route:
            return None
        return f"<sip:{self._sent_by(transport)};transport={transport.lower()};lr>"

    # what legs call

    def saw(self, seen: Seen) -> None:
        """Tell the tap."""
        if self._tap is not None:
            self._tap(seen)

    def ended(self, leg: Leg) -> None:
        """Keep the report; keep answering retransmissions for 64 * T1."""
        if leg.reported:
            return
        leg.reported = True
        if len(self.reports) < MAX_REPORTS:
            self.reports.append(leg.report)
        if self._ended is not None:
            self._ended(leg)
        loop = asyncio.get_running_loop()
        leg.timer = loop.call_later(LIFETIME, self._forget, leg)

    def _forget(self, leg: Leg) -> None:
        leg.forget()
        self._legs.pop(leg.dialog.local_tag, None)
        if leg.invite is not None:
            self._callers.pop((leg.invite.call_id, leg.invite.from_.tag), None)

    def _adopt(self, leg: Leg) -> None:
        if self._voice is not None:
            voice = self._voice
            leg.voice = lambda: clip_source(voice, repeat=True)
        self._legs[leg.dialog.local_tag] = leg

    # messages

    def _stream(self) -> Stream:
        stream = Stream(self._receive, self._reject, self._streams.discard)
        self._streams.add(stream)
        return stream

    def _secure_stream(self) -> Stream:
        stream = Stream(self._receive, self._reject, self._streams.discard, transport_name="TLS")
        self._streams.add(stream)
        return stream

    def _reject(self, error: ParseError) -> None:
        if len(self.rejected) < 100:
            self.rejected.append(str(error))

    def _receive(self, message: Request | Response, peer: Peer) -> None:
        try:
            self._route_message(message, peer)
        except ParseError as error:  # in a header that only now was looked at
            self._reject(error)
            leg = self._legs.get(message.from_.tag or "") or self._legs.get(message.to.tag or "")
            if leg is not None:
                leg.violate(str(error))

    def _route_message(self, message: Request | Response, peer: Peer) -> None:
        if isinstance(message, Response):
            leg = self._legs.get(message.from_.tag or "")
            if leg is not None:
                leg.receive_response(message)
            return
        leg = self._legs.get(message.to.tag or "")
        if leg is None and message.to.tag is None:
            leg = self._called(message)
        if leg is not None:
            if message.method == "INVITE" and message.to.tag is None:
                if not leg.reinvited(message, peer):
                    self._answer(message, peer, 482)
                return
            leg.receive_request(message, peer)
            return
        self._outside(message, peer)

    def _called(self, request: Request) -> Leg | None:
        """Return the leg of an INVITE or CANCEL without To tag."""
        return self._callers.get((request.call_id, request.from_.tag))

    def _outside(self, request: Request, peer: Peer) -> None:
        """Answer a request outside any dialog."""
        match request.method:
            case "ACK":
                return
            case "INVITE" if request.to.tag is None and not self._is_known(peer):
                self._answer(request, peer, 403)
            case "INVITE" if request.to.tag is None:
                self._ring_up(request, peer)
            case "OPTIONS":
                self._answer(request, peer, 200)
            case "REGISTER":
                self._register(request, peer)
            case "CANCEL":
                self._answer(request, peer, 481)
            case _:
                self._answer(request, peer, 481 if request.to.tag is not None else 405)

    def _is_known(self, peer: Peer) -> bool:
        """Whether calls from *peer* are taken: a carrier that asks for no credentials."""
        source = ipaddress.ip_address(peer.remote[0])
        return not self._allow or any(source in network for network in self._allow)

    def _ring_up(self, invite: Request, peer: Peer) -> None:
        uri = parse_uri(invite.uri)
        number = (uri.user if isinstance(uri, SipUri) else None) or ""
        if isinstance(uri, TelUri):
            number = uri.number
        tag = new_tag()
        dialog = Dialog(
            call_id=invite.call_id,
            local=f"{invite.headers.get('To')};tag={tag}",
            local_tag=tag,
            remote=invite.headers.get("From") or "",
            target=str(invite.from_.uri),
            contact=self._contact(number or "carrier", peer.transport_name),
            sent_by=self._sent_by(peer.transport_name),
            record_route=self._route(peer.transport_name),
        )
        leg = Leg(self, dialog, number=number, behaviour=self.behaviour, invite=invite)
        leg.see(invite, "received")
        try:
            leg.accept(invite, peer)
        except ParseError as error:
            self._reject(error)
            self._answer(invite, peer, 400)
            return
        self._adopt(leg)
        self._callers[(invite.call_id, invite.from_.tag)] = leg
        steps = self._scripts.get(number, self._default)
        if steps is None:
            self._incoming.put_nowait(leg)
            return
        task = asyncio.get_running_loop().create_task(_perform(leg, steps))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _register(self, request: Request, peer: Peer) -> None:
        """Take a registration, challenged when we have credentials."""
        headers = self.registrar.challenge(request, self.credentials)
        if headers is not None:
            self._answer(request, peer, 401, headers)
            return
        status, headers = self.registrar.take(request, peer)
        self._answer(request, peer, status, headers)

    def _answer(
        self,
        request: Request,
        peer: Peer,
        status: int,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        response = response_to(request, status, to_tag=new_tag(), headers=Headers(headers))
        source = request.top_via.with_source(*peer.remote)
        response.headers.replace_first("Via", str(source))
        if self._tap is not None:
            for direction, line in (
                ("received", f"{request.method} {request.uri} SIP/2.0"),
                ("sent", f"SIP/2.0 {status} {response.reason}"),
            ):
                seen = Seen(
                    at=time.time(),
                    direction=direction,
                    first_line=line,
                    call_id=request.call_id,
                    cseq=str(request.cseq),
                )
                self._tap(seen)
        peer.send(response.encode())


async def _perform(leg: Leg, steps: Script) -> None:
    await leg.run(steps)
    await leg.finish()


def _user(uri: SipUri) -> str:
    return f"{uri.user}@" if uri.user else ""

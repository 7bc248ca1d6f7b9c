"""The one driver of the SIP core: sockets and timers in, outputs carried out.

Everything runs on the event loop's thread. Inputs and verbs are synchronous: each
is followed by a flush that carries out what the core asks for, in order, and never
awaits. What takes time (a dial, a DNS question) ends in another input.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, assert_never

import structlog

from bridge.sip.digest import Credentials
from bridge.sip.endpoint import Endpoint, OutgoingInvite, SessionDetails
from bridge.sip.events import (
    CloseFlow,
    Connect,
    Output,
    PassUp,
    RegistrationChanged,
    Resolve,
    Send,
    SessionId,
    SipEvent,
    TrunkProbed,
)
from bridge.sip.flow import Flow
from bridge.sip.message import Request
from bridge.sip.probe import TrunkQuestion
from bridge.sip.registration import RegistrationSettings
from bridge.sip.screening import Refusal
from bridge.transport.certificates import Certificates
from bridge.transport.flow import (
    SOMEWHERE,
    Admitted,
    Bound,
    Dial,
    ListenError,
    SendError,
    canonical,
    is_literal,
    route_address,
)
from bridge.transport.resolver import Resolved, Resolver
from bridge.transport.tcp import TcpLimits, TcpTransport
from bridge.transport.tls import TlsTransport
from bridge.transport.udp import UdpLimits, UdpTransport
from bridge.trunk.admission import Admission, Gcra
from bridge.trunk.gate import Gate, TurnedAway
from bridge.trunk.overload import RETRY_AFTER
from bridge.ua.tap import Tap
from bridge.ua.watch import StreamWatch
from sdp.model import Direction
from sdp.negotiate import OfferAnswer, Rejected
from sdp.negotiated import Negotiated

log = structlog.get_logger(__name__)

_MAX_ROUNDS = 1000  # of one flush, before the loop gets a turn
_SWEEP = 1.0
_REFRESH_MIN, _REFRESH_MAX = 5.0, 60.0


class ListenSetting(Protocol):
    """One entry of ``[sip] listen``. Port 0 takes a free one."""

    @property
    def transport(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


class UserAgent:
    """Drives one `Endpoint` over TCP, TLS and UDP.

    *on_event* hears what the core passes up, synchronously and in order; it may
    call every verb. What it raises is logged. *clock* is monotonic, in seconds.
    *on_unreachable* hears the trunk (``""`` for none) of a connection of ours that failed,
    and why.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        admission: Admission,
        *,
        listen: Sequence[ListenSetting],
        on_event: Callable[[SipEvent], None],
        on_probed: Callable[[TrunkProbed], None] = lambda _: None,
        on_registered: Callable[[RegistrationChanged], None] = lambda _: None,
        on_unreachable: Callable[[str, str], None] = lambda _trunk, _why: None,
        certificates: Certificates | None = None,
        tap: Tap | None = None,
        resolver: Resolver | None = None,
        gate: Gate | None = None,
        screen: Callable[[Request, Flow], Refusal | None] = lambda _request, _flow: None,
        on_refused: Callable[[str, str], None] = lambda _trunk, _reason: None,
        tcp_limits: TcpLimits | None = None,
        udp_limits: UdpLimits | None = None,
        patience: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._admission = admission
        self._listen = listen
        self._on_event = on_event
        self._on_probed = on_probed
        self._on_registered = on_registered
        self._on_unreachable = on_unreachable
        self._tap = tap
        self._resolver = resolver or Resolver(clock=clock)
        self._gate = gate or Gate()
        self._screen = screen
        self._on_refused = on_refused
        self._telling = Gcra(rate=1, burst=1, keys=256)  # a flood is told once a second
        self._untold = 0
        self._patience = patience
        self._clock = clock
        self._tcp = TcpTransport(self, limits=tcp_limits, clock=clock)
        self._tls = TlsTransport(self, limits=tcp_limits, clock=clock)
        self._tls.certificates = certificates or Certificates()
        self._udp = UdpTransport(self, limits=udp_limits, clock=clock)
        self._watches: dict[int, tuple[Flow, StreamWatch]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing = False
        self._running = False
        self.heard_at: float | None = None  # when the bytes came that are being handled

    # Life.

    async def start(self) -> None:
        """Open every listener. Raises `ListenError`; nothing stays open then."""
        self._running = True
        try:
            for setting in self._listen:
                match setting.transport:
                    case "tcp":
                        await self._tcp.listen(setting.host, setting.port)
                    case "tls":
                        await self._tls.listen(setting.host, setting.port)
                    case "udp":
                        await self._udp.listen(setting.host, setting.port)
                    case other:
                        raise ListenError(f"{other}:{setting.host}: {other} is not served")
        except ListenError:
            await self.stop()
            raise
        self._resolver.families = frozenset(6 if ":" in b.host else 4 for b in self.bound)
        self._spawn(self._refresh_hosts())
        self._sweep()
        self._flush()

    async def stop(self) -> None:
        """Close every socket and forget every timer. What was written still goes out."""
        self._running = False
        for handle in (self._timer, self._sweeper):
            if handle is not None:
                handle.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._resolver.stop()
        await self._tcp.stop()
        await self._tls.stop()
        await self._udp.stop()
        self._watches.clear()

    def reload(self, admission: Admission, certificates: Certificates | None = None) -> None:
        """Take new trunks. Running connections stay, whoever they belong to now.

        New *certificates* are for new connections.
        """
        admission.inherit(self._admission)
        self._admission = admission
        if certificates is not None:
            self._tls.take(certificates)
        self._readmit()
        if self._running:
            self._spawn(self._refresh_hosts())

    @property
    def bound(self) -> list[Bound]:
        """The listeners, with the ports the kernel gave."""
        return [*self._tcp.bound, *self._tls.bound, *self._udp.bound]

    @property
    def connections(self) -> dict[str, int]:
        """How many connections are open, by who opened them."""
        tcp, tls = self._tcp.counts, self._tls.counts
        return {who: count + tls[who] for who, count in tcp.items()}

    @property
    def listening(self) -> bool:
        """Whether it runs and every listener is open."""
        transports = (self._tcp, self._tls, self._udp)
        return self._running and all(transport.listening for transport in transports)

    @property
    def failed_handshakes(self) -> Mapping[str, int]:
        """TLS handshakes that failed since the start: ``in`` that peers began, ``out`` ours."""
        return self._tls.failed_handshakes

    @property
    def certificate_expiry(self) -> Mapping[str, float]:
        """When our certificates end, in seconds since 1970; see `Certificates`."""
        return self._tls.certificates.expiry

    def local_address_for(self, host: str, port: int | None, transport: str) -> str:
        """Return the local address that a peer at *host* sees us at.

        *host* is a literal or a name; of a name the last known address counts, else
        the default route. Never a wildcard.
        """
        address = self.known_address(host, port, transport)
        chosen = self._udp if transport == "udp" else self._stream(transport)
        candidates = [address] if address is not None else list(SOMEWHERE)
        for candidate in candidates:
            local = chosen.local_address(candidate, port or 0)
            if local is not None:
                return local
        named = [b.host for b in self.bound if not b.wildcard]
        return named[0] if named else route_address("127.0.0.1", port or 0) or "127.0.0.1"

    def known_address(self, host: str, port: int | None, transport: str) -> str | None:
        """Return the last known address of *host*, itself when it is a literal; None: unknown."""
        for wanted in (port, None):
            known = self._resolver.cached(transport, host, wanted)
            if known is not None and known.addresses:
                return known.addresses[0][0]
        return None

    def next_hop_allowed(self, host: str, trunk: str) -> bool:
        """Whether a message of a peer may send us to *host*; for the endpoint.

        A name is allowed: its addresses are asked about one by one.
        """
        return not is_literal(host) or self._admission.may_dial(host, trunk, self._clock())

    # Verbs: the endpoint's commands, carried out at once. A session that is gone is ignored.

    def dial(self, invite: OutgoingInvite) -> SessionId:
        """Send an INVITE. MisuseError or ParseError when it cannot be written."""
        with self._command() as now:
            return self._endpoint.dial(invite, now)

    def adopt(
        self,
        session: SessionId,
        offer_answer: OfferAnswer,
        trunk: str,
        credentials: Credentials | None = None,
        session_timer: int = 0,
    ) -> Negotiated | Rejected | None:
        """Give an incoming call its media and trunk, and run its offer; see the endpoint."""
        with self._command() as now:
            return self._endpoint.adopt(
                session, offer_answer, trunk, now, credentials, session_timer
            )

    def ring(self, session: SessionId) -> None:
        """Send 180 for an incoming call."""
        with self._command() as now:
            self._endpoint.ring(session, now)

    def answer(self, session: SessionId) -> None:
        """Send 200 for an adopted incoming call; `Confirmed` follows."""
        with self._command() as now:
            self._endpoint.answer(session, now)

    def reject(
        self, session: SessionId, status: int, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Refuse an incoming call; no event follows."""
        with self._command() as now:
            self._endpoint.reject(session, status, now, headers)

    def cancel(self, session: SessionId) -> None:
        """Give up a call of ours before its answer; `Failed` follows."""
        with self._command() as now:
            self._endpoint.cancel(session, now)

    def bye(self, session: SessionId, headers: Sequence[tuple[str, str]] = ()) -> None:
        """End a call; no event follows once it was answered."""
        with self._command() as now:
            self._endpoint.bye(session, now, headers)

    def probe(self, session: SessionId) -> None:
        """Send an OPTIONS in the dialog; `Probed` or `Ended` follows.

        While a session timer runs nothing is sent: its refreshes tell.
        """
        with self._command() as now:
            self._endpoint.probe(session, now)

    def ask_trunk(self, question: TrunkQuestion) -> None:
        """Send an OPTIONS outside any dialog; *on_probed* is told the answer."""
        with self._command() as now:
            self._endpoint.ask_trunk(question, now)

    def register(self, settings: RegistrationSettings) -> None:
        """Keep a trunk registered; *on_registered* is told how that goes."""
        with self._command() as now:
            self._endpoint.register(settings, now)

    def unregister(self, trunk: str) -> None:
        """Take a trunk's registration back; *on_registered* is told."""
        with self._command() as now:
            self._endpoint.unregister(trunk, now)

    def keep_alive(self, trunks: frozenset[str]) -> None:
        """Ping by the connections of these trunks from now on, and of no others."""
        with self._command():
            self._endpoint.keep_alive(trunks)

    def moved(self, trunk: str) -> None:
        """Register *trunk* anew: our address has changed."""
        with self._command() as now:
            self._endpoint.moved(trunk, now)

    def reoffer(self, session: SessionId, direction: Direction) -> None:
        """Send a re-INVITE; `SessionChanged` follows when it changed something."""
        with self._command() as now:
            self._endpoint.reoffer(session, direction, now)

    def refer(self, session: SessionId, target: str, replaces: SessionId | None = None) -> None:
        """Ask the far end to call *target*; `ReferAnswered` follows, or the end."""
        with self._command() as now:
            self._endpoint.refer(session, target, now, replaces)

    def allow_refer(self, session: SessionId) -> None:
        """Pass the far end's REFERs up, as `ReferAsked`; without this they get 603."""
        with self._command() as now:
            self._endpoint.allow_refer(session, now)

    def answer_refer(self, session: SessionId, status: int) -> None:
        """Answer the far end's REFER: 202, or a refusal."""
        with self._command() as now:
            self._endpoint.answer_refer(session, status, now)

    def tell_referred(self, session: SessionId, status: int) -> None:
        """Notify how far the call is that the far end's REFER has asked for."""
        with self._command() as now:
            self._endpoint.tell_referred(session, status, now)

    def details(self, session: SessionId) -> SessionDetails | None:
        """Tell about a session; None when it is gone."""
        return self._endpoint.details(session)

    def set_draining(self, *, draining: bool) -> None:
        """Answer OPTIONS with 503, or no longer; new calls are still passed up."""
        with self._command():
            self._endpoint.set_draining(draining=draining)

    @contextmanager
    def _command(self) -> Iterator[float]:
        try:
            yield self._clock()
        finally:
            self._flush()

    # The transports' owner.

    def admit(self, address: str) -> Admitted | None:
        """Decide on a source before anything of it is read."""
        return self._admission.admit(address, self._clock())

    def opened(self, flow: Flow) -> None:
        """A flow appeared."""
        now = self._clock()
        if flow.reliable:
            dialled = self._stream(flow.transport).is_dialled(flow)
            watch = StreamWatch(accepted=not dialled, now=now, patience=self._patience)
            self._watches[flow.id] = (flow, watch)
        self._feed(self._endpoint.flow_opened, flow, now)

    def received(self, data: bytes, flow: Flow) -> None:
        """Bytes of an admitted peer came."""
        now = self.heard_at = self._clock()
        try:
            frames = self._endpoint.receive(data, flow, now)
        except Exception:  # a failure in the core is ours: logged, and the driver goes on
            log.exception("ua.core_failed", entry="receive")
            frames = []
        watched = self._watches.get(flow.id)
        if watched is not None:
            idle = self._endpoint.is_between_messages(flow)
            watched[1].took(frames, now, idle=idle)
        # After the core had it, before what it answers is shown.
        for frame in frames:
            if isinstance(frame, bytes):
                self._show(frame, flow, came=True)
        self._flush()
        self.heard_at = None

    def lost(self, flow: Flow) -> None:
        """A connection is gone."""
        self._watches.pop(flow.id, None)
        self._feed(self._endpoint.flow_lost, flow, self._clock())

    def unreachable(self, dial: Dial, why: str) -> None:
        """A connection could not be made; the core is told next."""
        try:
            self._on_unreachable(dial.trunk, why)
        except Exception:
            log.exception("ua.listener_failed", sip_event="unreachable")

    def _feed(self, entry: Callable[..., None], *args: Any) -> None:
        """Give the core an input. A failure in it is ours: logged, and the driver goes on."""
        try:
            entry(*args)
        except Exception:
            log.exception("ua.core_failed", entry=entry.__name__)
        self._flush()

    def _show(self, message: bytes, flow: Flow, *, came: bool) -> None:
        if self._tap is None:
            return
        try:
            (self._tap.received if came else self._tap.sent)(message, flow)
        except Exception:
            log.exception("ua.tap_failed")

    # Outputs.

    def _flush(self) -> None:
        """Carry out what the core asks for, until it asks for nothing more."""
        if self._flushing or not self._running:
            return  # called from within: the outer flush goes on
        self._flushing = True
        try:
            for _ in range(_MAX_ROUNDS):
                outputs = self._endpoint.poll(self._clock())
                if not outputs:
                    break
                for output in outputs:
                    self._act(output)
            else:
                log.error("ua.flush_endless")
                asyncio.get_running_loop().call_soon(self._flush)
        except Exception:
            log.exception("ua.core_failed", entry="poll")
        finally:
            self._flushing = False
        self._arm()

    def _stream(self, transport: str) -> TcpTransport:
        """The transport that has the connections of *transport*."""
        return self._tls if transport == "tls" else self._tcp

    def _act(self, output: Output) -> None:
        match output:
            case Send():
                self._send(output)
            case Resolve():
                self._resolve(output)
            case Connect():
                self._connect(output)
            case CloseFlow():
                if output.flow.reliable:
                    self._stream(output.flow.transport).close(output.flow)
            case PassUp():
                self._pass_up(output.event)
            case _:
                assert_never(output)

    def _send(self, output: Send) -> None:
        flow = output.flow
        transport = self._stream(flow.transport) if flow.reliable else self._udp
        try:
            transport.send(output.flow, output.data)
        except SendError as failure:
            log.info("ua.send_failed", remote=output.flow.remote[0], error=str(failure))
            self._feed(self._endpoint.send_failed, output.flow, self._clock())
            return
        self._show(output.data, output.flow, came=False)

    def _resolve(self, output: Resolve) -> None:
        known = self._resolver.cached(output.transport, output.host, output.port)
        if known is not None:
            self._resolved(output, known)
        else:
            self._spawn(self._look_up(output))

    async def _look_up(self, output: Resolve) -> None:
        try:
            found = await self._resolver.resolve(output.transport, output.host, output.port)
        except Exception:  # the core waits for an answer, whatever went wrong
            log.exception("ua.resolver_failed", host=output.host)
            found = Resolved(addresses=(), ttl=0)
        self._resolved(output, found)

    def _resolved(self, output: Resolve, found: Resolved) -> None:
        for host in self._admission.hosts:
            if host.host.lower() == output.host.lower():
                self._learn(host.trunk, found.addresses)
        self._feed(self._endpoint.resolved, output.query, found.addresses, self._clock())

    def _connect(self, output: Connect) -> None:
        now = self._clock()
        address = canonical(output.address)
        if not is_literal(address) or not 0 < output.port < 65536:
            self._connected(output.attempt, None)
            return
        self._admission.reached(address, now)
        match output.transport:
            case "udp":
                self._connected(output.attempt, self._udp.connect(address, output.port))
            case "tcp" | "tls" as transport:
                trunk = output.trunk
                if transport == "tls" and not trunk:  # a response: whoever is at that address
                    known = self._admission.admit(address, now) or (frozenset(), frozenset())
                    trunk = self._tls.speaks(known[0])
                dial = Dial((address, output.port), trunk=trunk, name=output.name)
                self._stream(transport).reach(
                    dial, lambda flow: self._connected(output.attempt, flow)
                )
            case other:
                log.warning("ua.dial_refused", remote=address, why=f"{other}_not_served")
                self._connected(output.attempt, None)

    def _connected(self, attempt: int, flow: Flow | None) -> None:
        now = self._clock()
        if flow is None:
            self._feed(self._endpoint.connect_failed, attempt, now)
        else:
            self._feed(self._endpoint.connected, attempt, flow, now)

    def _pass_up(self, event: SipEvent | TrunkProbed | RegistrationChanged) -> None:
        try:
            if isinstance(event, TrunkProbed):
                self._on_probed(event)
            elif isinstance(event, RegistrationChanged):
                self._on_registered(event)
            else:
                self._on_event(event)
        except Exception:
            log.exception("ua.listener_failed", sip_event=type(event).__name__)

    # New calls, before they cost anything.

    def screen(self, request: Request, flow: Flow, now: float) -> Refusal | None:
        """Decide on a request of a known source that is in no dialog; for the endpoint."""
        if request.method != "INVITE":
            turned_away = self._not_asked(request, flow, now)
        else:
            turned_away = self._gate.refusal(flow.remote[0], flow.new_call_trunks, now)
        if turned_away is not None:
            self._tell_refused(turned_away, flow, now)
            return Refusal(503, (("Retry-After", str(turned_away.retry_after)),))
        if request.method != "INVITE":
            return None
        try:
            return self._screen(request, flow)
        except Exception:
            log.exception("ua.listener_failed", sip_event="screen")
            return None

    def _not_asked(self, request: Request, flow: Flow, now: float) -> TurnedAway | None:
        if not self._gate.may_ask(flow.remote[0], now):
            return TurnedAway("request_rate", 1)
        if request.method == "OPTIONS" and self._gate.overloaded:
            return TurnedAway("overload", RETRY_AFTER)
        return None

    def _tell_refused(self, turned_away: TurnedAway, flow: Flow, now: float) -> None:
        trunk = min(flow.new_call_trunks or flow.trunks, default="")
        self._on_refused(trunk, turned_away.reason)
        if not self._telling.allow(flow.remote[0], now):
            self._untold += 1
            return
        more, self._untold = self._untold, 0
        log.warning("ua.invite_refused", remote=flow.remote[0], why=turned_away.reason, more=more)

    # Time.

    def _arm(self) -> None:
        """Keep the one timer at the core's next deadline."""
        if not self._running:
            return
        deadline = self._endpoint.next_deadline()
        at = math.inf if deadline is None else deadline
        if at == self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = at
        if at < math.inf:
            # Never 0: a loop clock coarser than ours would spin.
            delay = max(0.001, at - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        self._feed(self._endpoint.tick, self._clock())

    def _sweep(self) -> None:
        """Close streams whose peer takes too long over a message."""
        now = self._clock()
        for flow, watch in list(self._watches.values()):
            if watch.overdue(now):
                log.info("tcp.too_slow", remote=flow.remote[0])
                self._stream(flow.transport).abort(flow)
        if self._running:
            delay = min(_SWEEP, self._patience / 2)
            self._sweeper = asyncio.get_running_loop().call_later(delay, self._sweep)

    # The trunks' hosts.

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _refresh_hosts(self) -> None:
        """Keep the addresses of the trunks' hosts known, until a reload replaces them."""
        admission = self._admission
        while self._running and admission is self._admission and admission.hosts:
            found = await asyncio.gather(
                *(self._resolver.resolve(h.transport, h.host, h.port) for h in admission.hosts)
            )
            if admission is not self._admission:
                return
            for host, resolved in zip(admission.hosts, found, strict=True):
                self._learn(host.trunk, resolved.addresses)
            shortest = min(resolved.ttl for resolved in found)
            await asyncio.sleep(min(max(shortest, _REFRESH_MIN), _REFRESH_MAX))

    def _learn(self, trunk: str, addresses: Sequence[tuple[str, int]]) -> None:
        now = self._clock()
        if self._admission.learn(trunk, [address for address, _ in addresses], now):
            self._readmit()

    def _readmit(self) -> None:
        self._tcp.readmit()
        self._tls.readmit()
        self._udp.readmit()

"""One call leg: its dialog, its transactions and its media, without a plan of its own.

The plan is a script (:mod:`bridge.carrier.perform`). What must happen whatever the script
does happens here and at once: BYE, CANCEL, OPTIONS, INFO and re-INVITEs are answered, 2xx are
acknowledged and retransmitted until acknowledged, retransmissions are answered again.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.carrier import bodies
from bridge.carrier.challenge import Guard, Refusal
from bridge.carrier.dialog import Dialog, ack_for, cancel_for, info_digit
from bridge.carrier.exchange import Behaviour, Exchange, StepFailed, Unacked
from bridge.carrier.media import Media, Source, tone_source
from bridge.carrier.refer import Transfers, notified, referred
from bridge.carrier.report import LegReport, Seen
from bridge.carrier.resend import acknowledge, persist, repeat_final
from bridge.carrier.session import Session
from bridge.carrier.steps import Script
from bridge.carrier.wire import Peer
from bridge.sip.headers import q850_cause
from bridge.sip.message import Headers, ParseError, Request, Response, response_to

if TYPE_CHECKING:
    from bridge.carrier.carrier import Carrier

_REMEMBERED = 64


class Leg:
    """One call. Made by :class:`Carrier` only; scripts run on it with :meth:`run`."""

    def __init__(
        self,
        carrier: Carrier,
        dialog: Dialog,
        *,
        number: str,
        behaviour: Behaviour,
        invite: Request | None = None,
    ) -> None:
        self.carrier = carrier
        self.dialog = dialog
        self.behaviour = behaviour
        self.report = LegReport(number=number, call_id=dialog.call_id, dialled=invite is None)
        self.media = Media(carrier.media_address, on_packet=self._notify)
        self.session = Session(self.media, behaviour)
        self.invite = invite  # the far end's, still unanswered or answered
        self.invited: Exchange | None = None  # ours
        self.last: Exchange | None = None  # the last request of ours that expectations mean
        self.peer: Peer | None = None
        self.last_request: Request | None = invite  # the far end's
        self.requests_seen: dict[str, int] = {}
        self.requests_expected: dict[str, int] = {}
        self.directions: dict[str, str | None] = {}  # of the SDP in their last request
        self.early = False
        self.over = False
        self.closed = False
        self.reported = False
        self.timer: asyncio.TimerHandle | None = None  # of being forgotten
        self.digits_expected = 0
        self.guard = Guard()
        self.transfers = Transfers()
        self.voice: Callable[[], Source] = lambda: tone_source(carrier.voice_hertz)
        self._exchanges: OrderedDict[tuple[str, str], Exchange] = OrderedDict()
        self._answered: OrderedDict[tuple[str, str], tuple[bytes, Peer]] = OrderedDict()
        self._unacked: dict[int, Unacked] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._started = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()

    # what tests and the carrier call

    async def run(self, script: str | Script) -> LegReport:
        """Run *script* on this leg; the call stays up afterwards unless the script ended it.

        The first failure ends the script and the call, and stands in ``report.failed``.
        """
        from bridge.carrier.perform import run

        await run(self, script)
        return self.report

    async def finish(self) -> LegReport:
        """End the call when it is still up, release the media, complete the report."""
        from bridge.carrier.perform import finish

        await finish(self)
        return self.report

    def fail(self, reason: str) -> None:
        """Note the first failure."""
        if self.report.failed is None:
            self.report.failed = reason
        self._notify()

    def violate(self, what: str) -> None:
        """Note a breach of the protocol by the far end: it fails the leg."""
        if len(self.report.violations) < 100:
            self.report.violations.append(what)
        self.fail(what)

    # waiting

    async def until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until *done*; raises StepFailed with *what* after *seconds*."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not done():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise StepFailed(what)
            await self._changed(left)

    async def sleep(self, seconds: float, what: str) -> None:
        """Let *seconds* pass; raises StepFailed when the far end ends the call meanwhile."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not self.over:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await self._changed(left)
        raise StepFailed(f"the far end hung up during {what}")

    async def _changed(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await asyncio.wait((waiter,), timeout=seconds)
        if not waiter.done():
            self._waiters.remove(waiter)

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # our requests

    async def reach(self, *, new_connection: bool = False) -> Peer:
        """Return the peer for the next request: the dialog's, or a fresh connection."""
        if self.peer is not None and not self.peer.closed and not new_connection:
            return self.peer
        host, port, transport = self.dialog.next_hop()
        peer = await self.carrier.connect(host, port, transport, fresh=True)
        if not new_connection:
            self.peer = peer
        return peer

    def send(
        self,
        method: str,
        peer: Peer,
        *,
        body: bytes = b"",
        content_type: str = "application/sdp",
        headers: tuple[tuple[str, str], ...] = (),
        late_body: str | None = None,
    ) -> Exchange:
        """Send a request of the dialog, retransmitted over UDP until it is answered."""
        request = self.dialog.request(
            method, peer.transport_name, body=body, content_type=content_type, headers=headers
        )
        exchange = Exchange(request=request, data=request.encode(), peer=peer, late_body=late_body)
        self._exchanges[(request.top_via.branch or "", method)] = exchange
        while len(self._exchanges) > _REMEMBERED:
            self._exchanges.popitem(last=False)
        if method not in ("CANCEL", "BYE", "NOTIFY"):
            self.last = exchange
        self._transmit(request, exchange.data, peer)
        persist(self, exchange)
        return exchange

    async def answered(self, exchange: Exchange) -> Response:
        """Wait for the final response to a request of ours."""
        method = exchange.request.method
        await self.until(
            lambda: exchange.final is not None,
            self.behaviour.step_timeout,
            f"{method} was not answered",
        )
        assert exchange.final is not None
        return exchange.final

    def cancel(self) -> None:
        """Send CANCEL for our INVITE."""
        exchange = self.invited
        if exchange is None or exchange.final is not None:
            return
        invite = exchange.request
        request = cancel_for(invite)
        self.report.cancelled = True
        data = request.encode()
        cancel = Exchange(request=request, data=data, peer=exchange.peer)
        self._exchanges[(invite.top_via.branch or "", "CANCEL")] = cancel
        self._transmit(request, data, exchange.peer)
        persist(self, cancel)

    def _transmit(self, message: Request | Response, data: bytes, peer: Peer) -> None:
        self.see(message, "sent")
        peer.send(data)

    def see(self, message: Request | Response, direction: str) -> None:
        """Put a message on the ladder; *direction* is ``sent`` or ``received``."""
        sdp = message.sdp
        if isinstance(message, Request):
            line = f"{message.method} {message.uri} SIP/2.0"
        else:
            line = f"SIP/2.0 {message.status} {message.reason}"
        seen = Seen(
            at=time.time(),
            direction=direction,
            first_line=line,
            call_id=self.dialog.call_id,
            cseq=str(message.cseq),
            sdp=bodies.read(sdp).wording if sdp is not None else None,
        )
        self.report.see(seen)
        self.carrier.saw(seen)

    # responses of the far end

    def receive_response(self, response: Response) -> None:
        """Take a response to a request of ours."""
        self.see(response, "received")
        key = (response.top_via.branch or "", response.cseq.method)
        exchange = self._exchanges.get(key)
        if exchange is None:
            return
        if exchange.final is not None:
            acknowledge(self, exchange)
            return
        exchange.responses.append(response)
        if exchange.timer is not None and response.status >= 200:
            exchange.timer.cancel()
        if response.cseq.method == "INVITE":
            self._invite_response(exchange, response)
        elif response.cseq.method == "UPDATE" and 200 <= response.status < 300:
            self.dialog.refresh(response)
            self.session.described(response.sdp)
        self._notify()

    def _invite_response(self, exchange: Exchange, response: Response) -> None:
        first = exchange is self.invited
        if first:
            self.report.status = response.status
        if response.status < 200:
            if response.status > 100 and response.sdp is not None:
                self.session.described(response.sdp)
            return
        if response.status >= 300:
            self._acknowledge_failure(exchange, response)
            if first:
                self.end("us" if self.report.cancelled else "them")
            return
        self.dialog.answered(response)
        self.session.described(response.sdp)
        if response.sdp is None:
            self.violate("the 200 to our INVITE carries no SDP")
        body = b""
        if exchange.late_body is not None:
            theirs = self.session.theirs
            if exchange.late_body == "answer" and theirs:
                body = self.session.answer(theirs[-1])
            else:
                body = self.session.describe(exchange.late_body)
        if first:
            self._confirmed()
        ack = self.dialog.request(
            "ACK",
            exchange.peer.transport_name,
            body=body,
            cseq=exchange.request.cseq.number,
        )
        exchange.ack = ack.encode()
        self.see(ack, "sent")
        acknowledge(self, exchange)
        self.apply_media()

    def _acknowledge_failure(self, exchange: Exchange, response: Response) -> None:
        ack = ack_for(exchange.request, response)
        exchange.ack = ack.encode()
        self._transmit(ack, exchange.ack, exchange.peer)

    # requests of the far end

    def receive_request(self, request: Request, peer: Peer) -> None:
        """Take a request of the far end and answer what has only one answer."""
        self.see(request, "received")
        key = (request.top_via.branch or "", request.method)
        if request.method == "ACK":
            self._acked(request)
            return
        known = self._answered.get(key)
        if known is not None:
            peer.send(known[0])
            return
        if request.method == "CANCEL":
            self._cancelled(request, peer)
            return
        if request.to.tag is not None:
            for fault in self.dialog.faults(request):
                self.violate(fault)
        self.last_request = request
        name = "REINVITE" if request.method == "INVITE" else request.method
        refusal = self.refusal(name, request)
        if refusal is not None:
            if refusal.fault is not None:
                self.violate(f"{request.method}: {refusal.fault}")
            self.respond(request, peer, refusal.status, headers=refusal.headers)
            return
        self.requests_seen[name] = self.requests_seen.get(name, 0) + 1
        sdp = request.sdp
        self.directions[name] = bodies.read(sdp).wording if sdp is not None else None
        self._respond_in_dialog(request, peer)
        self._notify()

    def refusal(self, kind: str, request: Request) -> Refusal | None:
        """Return how a request is refused for its credentials; None when it may pass."""
        refusal = self.guard.refusal(kind, request, self.carrier.credentials)
        if refusal is not None and refusal.fault is None:
            self.report.challenges += 1
        return refusal

    def _respond_in_dialog(self, request: Request, peer: Peer) -> None:
        match request.method:
            case "BYE":
                self.respond(request, peer, 200)
                self.end("them")
                self.report.cause = q850_cause(request.headers)
            case "INVITE" | "UPDATE":
                self._reoffered(request, peer)
            case "INFO":
                self.report.info_digits += info_digit(request)
                self.respond(request, peer, 200)
            case "REFER":
                referred(self, request, peer)
            case "OPTIONS":
                self.respond(request, peer, 200, headers=(("Allow", self.dialog.allow),))
            case "MESSAGE" | "NOTIFY" | "PRACK":
                notified(self, request, peer)
            case _:
                self.respond(request, peer, 501)

    def _reoffered(self, request: Request, peer: Peer) -> None:
        """Answer a re-INVITE or UPDATE of the far end."""
        if self._inviting():
            self.respond(request, peer, 491)
            return
        self.dialog.refresh(request)
        raw = request.sdp
        if raw is not None:
            self.session.described(request.sdp)
            body = self.session.answer(self.session.theirs[-1])
        else:
            body = self.session.describe("offer") if request.method == "INVITE" else b""
        self.respond(request, peer, 200, body=body)
        self.apply_media()

    def _inviting(self) -> bool:
        return any(
            exchange.request.method in ("INVITE", "UPDATE") and exchange.final is None
            for exchange in self._exchanges.values()
        )

    def reinvited(self, invite: Request, peer: Peer) -> bool:
        """Take an INVITE outside the dialog with our Call-ID: a retransmission, or one anew.

        Returns whether the leg takes it: anew only after our 401, 407 or 422.
        """
        known = self._answered.get((invite.top_via.branch or "", "INVITE"))
        if known is not None:
            self.see(invite, "received")
            peer.send(known[0])
            return True
        if self.invite is None or invite.cseq.number <= self.invite.cseq.number:
            return False
        self.see(invite, "received")
        self.accept(invite, peer)
        self._notify()
        return True

    def accept(self, invite: Request, peer: Peer) -> None:
        """Take the far end's initial INVITE: 100, and its offer noted."""
        self.invite = self.last_request = invite
        self.peer = peer
        self.dialog.called(invite)
        self.session.theirs.clear()
        if invite.sdp is not None:
            self.session.described(invite.sdp)
        self.respond(invite, peer, 100)

    def respond(
        self,
        request: Request,
        peer: Peer,
        status: int,
        *,
        reason: str | None = None,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Answer a request; final answers to INVITE are repeated until their ACK."""
        extra = Headers(headers)
        if request.method in ("INVITE", "UPDATE") and 100 < status < 300:
            extra.add("Contact", self.dialog.contact)
            extra.add("Allow", self.dialog.allow)
            extra.extend(self.session.lifetime.granted(request))
        extra.add("Server", self.dialog.user_agent)
        if body:
            extra.add("Content-Type", "application/sdp")
        tag = self.dialog.local_tag if status > 100 else None
        response = response_to(request, status, reason, to_tag=tag, headers=extra, body=body)
        source = request.top_via.with_source(*peer.remote)
        response.headers.replace_first("Via", str(source))
        route = self.dialog.record_route
        initial = request.method == "INVITE" and request.to.tag is None
        if route is not None and initial and 100 < status < 300:
            response.headers.prepend("Record-Route", route)
        data = response.encode()
        self._remember((request.top_via.branch or "", request.method), data, peer)
        if request.method == "INVITE" and status >= 200:
            self._await_ack(request, data, peer, status)
        if peer.closed:
            self.spawn(self._respond_elsewhere(request, response, data))
        else:
            self._transmit(response, data, peer)

    async def _respond_elsewhere(self, request: Request, response: Response, data: bytes) -> None:
        """RFC 3261 18.2.2: the connection is closed, so open one to the sent-by of the Via."""
        via = request.top_via
        peer = await self.carrier.connect(via.host, via.port or 5060, "TCP")
        self.peer = peer
        unacked = self._unacked.get(request.cseq.number)
        if unacked is not None and request.method == "INVITE":
            unacked.peer = peer
        self._transmit(response, data, peer)

    def respond_invite(
        self,
        status: int,
        *,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Answer the initial INVITE."""
        assert self.invite is not None
        assert self.peer is not None
        self.report.status = status
        self.respond(self.invite, self.peer, status, body=body, headers=headers)
        if 200 <= status < 300:
            self.report.answered = True
            self.report.setup_seconds = time.monotonic() - self._started
        elif status >= 300 and status not in (401, 407):
            self.end("us")

    def _remember(self, key: tuple[str, str], data: bytes, peer: Peer) -> None:
        self._answered[key] = (data, peer)
        while len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)

    def _await_ack(self, request: Request, data: bytes, peer: Peer, status: int) -> None:
        """RFC 3261 13.3.1.4: the 2xx is repeated over any transport until its ACK."""
        number = request.cseq.number
        unacked = Unacked(request=request, data=data, peer=peer, since=time.monotonic())
        self._unacked[number] = unacked

        def given_up() -> None:
            del self._unacked[number]
            self.violate(f"the {status} was never acknowledged")

        def waits() -> bool:
            return number in self._unacked

        repeat_final(self, unacked, status, waits, given_up)

    @property
    def unacknowledged(self) -> bool:
        """Whether a final response of ours still waits for its ACK."""
        return bool(self._unacked)

    def _acked(self, ack: Request) -> None:
        unacked = self._unacked.pop(ack.cseq.number, None)
        if unacked is None:
            return
        if unacked.timer is not None:
            unacked.timer.cancel()
        if unacked.data.startswith(b"SIP/2.0 2"):
            for fault in (*self.dialog.faults(ack), *self.guard.faults(ack)):
                self.violate(fault)
            self.session.described(ack.sdp)
            if not self.session.theirs:
                self.violate("the ACK carries no answer to our offer")
            if self.invite is not None and ack.cseq.number == self.invite.cseq.number:
                self._no_early_rtp()
            self.apply_media()
        self._notify()

    def _cancelled(self, request: Request, peer: Peer) -> None:
        self.respond(request, peer, 200)
        if self.invite is not None and (self.report.status or 0) < 200:
            self.report.cancelled = True
            self.report.cause = q850_cause(request.headers)
            self.respond_invite(487)
            self.report.ended_by = "them"
        self._notify()

    # media

    def _confirmed(self) -> None:
        self.report.answered = True
        self.report.setup_seconds = time.monotonic() - self._started
        if self.session.theirs and self.session.body in bodies.ANSWERS:
            wanted = bodies.ANSWERS[self.session.body]
            for fault in self.session.answer_faults(self.session.theirs[-1], wanted):
                self.violate(f"the answer to our INVITE {fault}")
        self._no_early_rtp()

    def _no_early_rtp(self) -> None:
        """Contract 4, Gate: no RTP leaves the far end before its 200 or ACK."""
        early = self.media.heard.before(time.time() - self.behaviour.overtaking)
        if early:
            self.violate(f"{early} RTP packets came before the call was answered")

    @property
    def confirmed(self) -> bool:
        """Whether the call is answered and up."""
        return self.report.answered and not self.over

    def apply_media(self) -> None:
        """Send RTP, or stop, as both sides agreed."""
        self.session.apply(up=not self.over and (self.early or self.report.answered))

    # the end

    def end(self, by: str) -> None:
        """Note that the call is over, ended by ``us`` or ``them``."""
        if self.report.ended_by is None:
            self.report.ended_by = by
        self.over = True
        self.media.stop()
        self._notify()

    def close(self) -> None:
        """Release everything; the report is complete then."""
        if self.closed:
            return
        self.closed = self.over = True
        for exchange in self._exchanges.values():
            if exchange.timer is not None:
                exchange.timer.cancel()
        for task in self._tasks:
            task.cancel()
        self.report.media = self.media.report()
        self.media.close()
        self._notify()

    def forget(self) -> None:
        """Stop waiting for ACKs, too."""
        for unacked in self._unacked.values():
            if unacked.timer is not None:
                unacked.timer.cancel()
        self._unacked.clear()

    def spawn(self, work: object) -> None:
        """Do *work* beside the script; what it fails with fails the leg."""

        async def guarded() -> None:
            try:
                await work  # type: ignore[misc]
            except (StepFailed, ParseError, OSError) as error:
                self.fail(str(error))

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

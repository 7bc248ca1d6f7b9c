"""The four transaction machines, with the Accepted states of RFC 6026.

Every input takes `now` (seconds on any steady clock) and returns what to do. A machine is
driven by ``start`` once, then ``receive``, ``respond`` (servers), ``send_failed`` and
``tick``; ``next_deadline`` says when ``tick`` has something to do. After `TxDone` it is
spent: every input returns nothing.

RFC 3261 17; RFC 6026 7, 8.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, TypeVar

from bridge.errors import MisuseError
from bridge.sip.flow import Flow
from bridge.sip.message import Headers, Message, Request, Response, read

MAX_FORWARDS = "70"
# RFC 3261 22.1: "UACs creating an ACK message will duplicate all of the Authorization and
# Proxy-Authorization header field values that appeared in the INVITE".
CREDENTIALS = ("Authorization", "Proxy-Authorization")
# RFC 3261 17.1.1.2: "The client transaction SHOULD start timer D when it enters the
# "Completed" state, with a value of at least 32 seconds for unreliable transports".
TIMER_D = 32.0
# RFC 3261 16.6: Timer C "MUST be larger than 3 minutes". Proxies keep it for every INVITE; we
# for our re-INVITEs, whose answer nobody has to be called to the phone for.
TIMER_C = 185.0


@dataclass(frozen=True, slots=True)
class Timers:
    """The base intervals in seconds (RFC 3261 17.1.1.1 and table 4)."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0

    @property
    def patience(self) -> float:
        """64*T1: Timers B, F, H, J, L and M."""
        return 64 * self.t1


DEFAULT_TIMERS = Timers()


@dataclass(frozen=True, slots=True)
class TxSend:
    """Write *data* to the flow of the transaction."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TxPass:
    """Give the message to the transaction user."""

    message: Message


@dataclass(frozen=True, slots=True)
class TxTimeout:
    """Nobody answered (Timers B, F), or nobody acknowledged (Timer H)."""


@dataclass(frozen=True, slots=True)
class TxTransportError:
    """A message of this transaction could not be sent."""


@dataclass(frozen=True, slots=True)
class TxDone:
    """The machine is spent; always the last output."""


TxOutput = TxSend | TxPass | TxTimeout | TxTransportError | TxDone


class State(Enum):
    """States of all four machines, in RFC 3261's words."""

    INITIAL = "initial"  # before start
    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"  # RFC 6026
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionSnapshot:
    """A machine written down. Deadlines are wall time, so they survive a restart.

    ``request`` and ``response`` (a server's last) are wire bytes; ``interval`` is the
    current one of Timer A, E or G in seconds.
    """

    kind: str
    state: str
    request: bytes
    response: bytes | None
    interval: float
    deadlines: tuple[tuple[str, float], ...]


M = TypeVar("M", bound="Transaction")


class Transaction(ABC):
    """What the four machines share: a state, a request, a flow and lettered deadlines."""

    kind: ClassVar[str]
    retransmission: ClassVar[str]  # the letter of the timer that sends again
    failure: ClassVar[str]  # the letters of timers that give up; the others just end

    __slots__ = ("_deadlines", "_interval", "flow", "request", "state", "timers")

    def __init__(
        self, request: Request, flow: Flow, now: float, timers: Timers = DEFAULT_TIMERS
    ) -> None:
        del now  # nothing runs before start
        self.request = request
        self.flow = flow
        self.timers = timers
        self.state = State.INITIAL
        self._interval = timers.t1
        self._deadlines: dict[str, float] = {}

    @property
    def done(self) -> bool:
        """Whether the machine is spent."""
        return self.state is State.TERMINATED

    def next_deadline(self) -> float | None:
        """When `tick` has something to do; None when nothing is awaited."""
        return min(self._deadlines.values(), default=None)

    def deadlines(self) -> dict[str, float]:
        """The running timers by letter."""
        return dict(self._deadlines)

    def start(self, now: float) -> list[TxOutput]:
        """Begin; once."""
        if self.state is not State.INITIAL:
            raise MisuseError("Transaction was started already")
        return self._start(now)

    def tick(self, now: float) -> list[TxOutput]:
        """Fire what is due. However late, at most one retransmission is made."""
        due = [letter for letter, at in self._deadlines.items() if at <= now]
        ending = [letter for letter in due if letter != self.retransmission]
        if ending:
            gives_up = any(letter in self.failure for letter in ending)
            return self._terminate(*([TxTimeout()] if gives_up else []))
        if not due:
            return []
        self._interval = self._longer()
        self._deadlines[self.retransmission] = now + self._interval
        return self._again()

    @abstractmethod
    def receive(self, message: Message, now: float) -> list[TxOutput]:
        """Take a message that matches this transaction."""

    def send_failed(self, now: float) -> list[TxOutput]:
        """Take the news that a `TxSend` did not reach the network."""
        del now  # no timer depends on it
        return self._failed()

    @abstractmethod
    def _start(self, now: float) -> list[TxOutput]: ...

    @abstractmethod
    def _failed(self) -> list[TxOutput]: ...

    @abstractmethod
    def _again(self) -> list[TxOutput]:
        """Send what was sent last once more."""

    def _longer(self) -> float:
        """The next interval of the retransmission timer."""
        return min(self._interval * 2, self.timers.t2)

    def _enter(self, state: State, **deadlines: float) -> None:
        """Change state; timers of the old one stop, those given run."""
        self.state = state
        self._deadlines = {letter.upper(): at for letter, at in deadlines.items()}

    def _terminate(self, *outputs: TxOutput) -> list[TxOutput]:
        self._enter(State.TERMINATED)
        return [*outputs, TxDone()]

    def _linger(
        self, state: State, letter: str, seconds: float, now: float, *outputs: TxOutput
    ) -> list[TxOutput]:
        """Absorb retransmissions for a while; a reliable transport has none to absorb."""
        if self.flow.reliable:
            return self._terminate(*outputs)
        self._enter(state, **{letter: now + seconds})
        return list(outputs)

    def snapshot(self, now: float, wall: float) -> TransactionSnapshot:
        """Write the machine down; *wall* is the wall time of *now*, both in seconds."""
        return TransactionSnapshot(
            kind=self.kind,
            state=self.state.value,
            request=self.request.encode(),
            response=self._remembered(),
            interval=self._interval,
            deadlines=tuple((letter, wall + (at - now)) for letter, at in self._deadlines.items()),
        )

    @classmethod
    def restore(
        cls: type[M],
        snapshot: TransactionSnapshot,
        flow: Flow,
        now: float,
        wall: float,
        timers: Timers = DEFAULT_TIMERS,
    ) -> M:
        """Return the machine as it was, on *flow*; overdue deadlines fire at the next tick.

        Raises ParseError when the bytes are no message, MisuseError when it is another kind.
        """
        request = read(snapshot.request)
        if snapshot.kind != cls.kind or not isinstance(request, Request):
            raise MisuseError("Snapshot is of another kind of transaction")
        machine = cls(request, flow, now, timers)
        machine.state = State(snapshot.state)
        machine._interval = snapshot.interval
        machine._deadlines = {letter: now + (at - wall) for letter, at in snapshot.deadlines}
        machine._remember(snapshot.response)
        return machine

    def _remembered(self) -> bytes | None:
        return None

    def _remember(self, response: bytes | None) -> None:
        del response


class ClientTransaction(Transaction):
    """A request of ours."""

    __slots__ = ("_wire",)

    def __init__(
        self, request: Request, flow: Flow, now: float, timers: Timers = DEFAULT_TIMERS
    ) -> None:
        super().__init__(request, flow, now, timers)
        self._wire = request.encode()

    def receive(self, message: Message, now: float) -> list[TxOutput]:
        """Take a response that matches this transaction."""
        if not isinstance(message, Response):
            return []
        if message.status < 200:
            return self._provisional(message, now)
        return self._final(message, now)

    @abstractmethod
    def _provisional(self, response: Response, now: float) -> list[TxOutput]: ...

    @abstractmethod
    def _final(self, response: Response, now: float) -> list[TxOutput]: ...

    def _again(self) -> list[TxOutput]:
        return [TxSend(self._wire)]


class InviteClient(ClientTransaction):
    """An INVITE of ours (RFC 3261 17.1.1, RFC 6026 7.2).

    Acknowledges 3xx-6xx itself. A 2xx is acknowledged by the session, as often as it comes.
    """

    kind = "invite-client"
    retransmission = "A"
    failure = "BC"

    __slots__ = ("proceeding_limit",)

    def __init__(
        self, request: Request, flow: Flow, now: float, timers: Timers = DEFAULT_TIMERS
    ) -> None:
        super().__init__(request, flow, now, timers)
        # Seconds from a provisional response to the next or the final one (Timer C). None for
        # a phone that rings: how long it may is the session's to say.
        self.proceeding_limit: float | None = None

    def _start(self, now: float) -> list[TxOutput]:
        self._enter(State.CALLING, b=now + self.timers.patience)
        if not self.flow.reliable:
            self._deadlines["A"] = now + self._interval
        return [TxSend(self._wire)]

    def _provisional(self, response: Response, now: float) -> list[TxOutput]:
        if self.state not in (State.CALLING, State.PROCEEDING):
            return []
        # RFC 3261 17.1.1.2: "If the client transaction receives a provisional response while
        # in the "Calling" state, it transitions to the "Proceeding" state. In the
        # "Proceeding" state, the client transaction SHOULD NOT retransmit the request any
        # longer."
        self._enter(State.PROCEEDING)
        if self.proceeding_limit is not None:
            self._deadlines["C"] = now + self.proceeding_limit
        return [TxPass(response)]

    def _final(self, response: Response, now: float) -> list[TxOutput]:
        success = response.status < 300
        match self.state:
            case State.CALLING | State.PROCEEDING if success:
                # RFC 6026 7.2: Timer M is 64*T1 on every transport.
                self._enter(State.ACCEPTED, m=now + self.timers.patience)
                return [TxPass(response)]
            case State.CALLING | State.PROCEEDING:
                ack = TxSend(ack_to(self.request, response).encode())
                return self._linger(State.COMPLETED, "d", TIMER_D, now, ack, TxPass(response))
            case State.ACCEPTED if success:
                return [TxPass(response)]
            case State.COMPLETED if not success:
                # RFC 3261 17.1.1.2: "Any retransmissions of the final response that are
                # received while in the "Completed" state MUST cause the ACK to be re-passed
                # to the transport layer for retransmission".
                return [TxSend(ack_to(self.request, response).encode())]
            case _:
                return []

    def _failed(self) -> list[TxOutput]:
        # RFC 3261 17.1.4. An INVITE that rings has arrived, whatever failed later.
        if self.state in (State.CALLING, State.COMPLETED):
            return self._terminate(TxTransportError())
        return []

    def _longer(self) -> float:
        return self._interval * 2


class NonInviteClient(ClientTransaction):
    """Any other request of ours but ACK (RFC 3261 17.1.2)."""

    kind = "non-invite-client"
    retransmission = "E"
    failure = "F"

    __slots__ = ()

    def _start(self, now: float) -> list[TxOutput]:
        self._enter(State.TRYING, f=now + self.timers.patience)
        if not self.flow.reliable:
            self._deadlines["E"] = now + self._interval
        return [TxSend(self._wire)]

    def _provisional(self, response: Response, now: float) -> list[TxOutput]:
        del now
        if self.state not in (State.TRYING, State.PROCEEDING):
            return []
        self.state = State.PROCEEDING  # Timers E and F go on
        return [TxPass(response)]

    def _final(self, response: Response, now: float) -> list[TxOutput]:
        if self.state not in (State.TRYING, State.PROCEEDING):
            return []
        return self._linger(State.COMPLETED, "k", self.timers.t4, now, TxPass(response))

    def _failed(self) -> list[TxOutput]:
        if self.state in (State.TRYING, State.PROCEEDING):
            return self._terminate(TxTransportError())
        return []

    def _longer(self) -> float:
        # RFC 3261 17.1.2.2: in Proceeding Timer E is reset to T2.
        return self.timers.t2 if self.state is State.PROCEEDING else super()._longer()


class ServerTransaction(Transaction):
    """A request of the peer. ``start`` passes it up."""

    first: ClassVar[State]

    __slots__ = ("_last",)

    def __init__(
        self, request: Request, flow: Flow, now: float, timers: Timers = DEFAULT_TIMERS
    ) -> None:
        super().__init__(request, flow, now, timers)
        self._last: bytes | None = None

    def receive(self, message: Message, now: float) -> list[TxOutput]:
        """Take a retransmission of the request."""
        del now
        replays = self.state in (State.PROCEEDING, State.COMPLETED)
        return self._again() if replays and isinstance(message, Request) else []

    @abstractmethod
    def respond(self, response: Response, now: float) -> list[TxOutput]:
        """Send a response; MisuseError after a final one, nothing once spent."""

    def _start(self, now: float) -> list[TxOutput]:
        del now  # no timer runs before the first final response
        self._enter(self.first)
        return [TxPass(self.request)]

    def _send(self, response: Response) -> TxSend:
        self._last = response.encode()
        return TxSend(self._last)

    def _again(self) -> list[TxOutput]:
        return [] if self._last is None else [TxSend(self._last)]

    def _remembered(self) -> bytes | None:
        return self._last

    def _remember(self, response: bytes | None) -> None:
        self._last = response


class InviteServer(ServerTransaction):
    """An INVITE of the peer (RFC 3261 17.2.1, RFC 6026 7.1).

    The 100 is the user's to send. So are copies of the 2xx: they pass through `respond`.
    """

    kind = "invite-server"
    retransmission = "G"
    failure = "H"
    first = State.PROCEEDING

    __slots__ = ()

    def receive(self, message: Message, now: float) -> list[TxOutput]:
        """Take an INVITE or ACK that matches this transaction."""
        if isinstance(message, Request) and message.method == "ACK":
            return self._acknowledged(message, now)
        # RFC 6026 7.1: retransmissions of the INVITE are absorbed in Accepted (the session
        # sends its 2xx again by itself), and in Confirmed.
        return super().receive(message, now)

    def _acknowledged(self, ack: Request, now: float) -> list[TxOutput]:
        match self.state:
            case State.COMPLETED:
                return self._linger(State.CONFIRMED, "i", self.timers.t4, now)
            case State.ACCEPTED:
                # RFC 6026 7.1: "Any ACKs received from the network while in the "Accepted"
                # state MUST be passed directly to the TU and not absorbed."
                return [TxPass(ack)]
            case _:
                return []

    def respond(self, response: Response, now: float) -> list[TxOutput]:
        """Send a response; see `ServerTransaction.respond`."""
        success = 200 <= response.status < 300
        match self.state:
            case State.TERMINATED:
                return []
            case State.PROCEEDING if response.status < 200:
                return [self._send(response)]
            case State.PROCEEDING if success:
                # RFC 6026 7.1: Timer L is 64*T1 on every transport.
                self._enter(State.ACCEPTED, l=now + self.timers.patience)
                return [self._send(response)]
            case State.PROCEEDING:
                self._enter(State.COMPLETED, h=now + self.timers.patience)
                if not self.flow.reliable:
                    self._deadlines["G"] = now + self._interval
                return [self._send(response)]
            case State.ACCEPTED if success:
                return [self._send(response)]
            case _:
                raise MisuseError("Response does not fit the transaction state")

    def _failed(self) -> list[TxOutput]:
        # RFC 6026 7.1: the user is told, the state stays.
        if self.state in (State.PROCEEDING, State.ACCEPTED, State.COMPLETED):
            return [TxTransportError()]
        return []


class NonInviteServer(ServerTransaction):
    """Any other request of the peer but ACK (RFC 3261 17.2.2)."""

    kind = "non-invite-server"
    retransmission = ""
    failure = ""
    first = State.TRYING

    __slots__ = ()

    def respond(self, response: Response, now: float) -> list[TxOutput]:
        """Send a response; see `ServerTransaction.respond`."""
        if self.state is State.TERMINATED:
            return []
        if self.state not in (State.TRYING, State.PROCEEDING):
            raise MisuseError("Response does not fit the transaction state")
        if response.status < 200:
            self.state = State.PROCEEDING
            return [self._send(response)]
        sent = self._send(response)
        return self._linger(State.COMPLETED, "j", self.timers.patience, now, sent)

    def _failed(self) -> list[TxOutput]:
        # RFC 3261 17.2.4: the user is told and the transaction ends.
        if self.state in (State.PROCEEDING, State.COMPLETED):
            return self._terminate(TxTransportError())
        return []


_KINDS: dict[str, type[Transaction]] = {
    kind.kind: kind for kind in (InviteClient, NonInviteClient, InviteServer, NonInviteServer)
}


def restore(
    snapshot: TransactionSnapshot,
    flow: Flow,
    now: float,
    wall: float,
    timers: Timers = DEFAULT_TIMERS,
) -> Transaction:
    """Return the machine a snapshot describes; see `Transaction.restore`."""
    kind = _KINDS.get(snapshot.kind)
    if kind is None:
        raise MisuseError("Snapshot is of an unknown kind of transaction")
    return kind.restore(snapshot, flow, now, wall, timers)


def ack_to(invite: Request, response: Response) -> Request:
    """Return the ACK of a 3xx-6xx, which belongs to the INVITE's transaction.

    RFC 3261 17.1.1.3.
    """
    # "The ACK MUST contain a single Via header field, and this MUST be equal to the top Via
    # header field of the original request." "the To header field in the ACK MUST equal the
    # To header field in the response being acknowledged".
    ack = _hop_by_hop(invite, "ACK", response.headers.get("To") or "")
    ack.headers.extend(invite.headers.copied(*CREDENTIALS))
    return ack


def cancel_to(invite: Request) -> Request:
    """Return the CANCEL of an INVITE of ours (RFC 3261 9.1); a transaction of its own.

    Only to be sent after a provisional response.
    """
    # "The Request-URI, Call-ID, To, the numeric part of CSeq, and From header fields in the
    # CANCEL request MUST be identical to those in the request being cancelled".
    return _hop_by_hop(invite, "CANCEL", invite.headers.get("To") or "")


def _hop_by_hop(invite: Request, method: str, to: str) -> Request:
    headers = Headers([("Via", invite.headers.values("Via")[0])])
    headers.extend(invite.headers.copied("Route"))
    headers.add("Max-Forwards", MAX_FORWARDS)
    headers.extend(invite.headers.copied("From"))
    headers.add("To", to)
    headers.extend(invite.headers.copied("Call-ID"))
    headers.add("CSeq", f"{invite.cseq.number} {method}")
    return Request(method, invite.uri, headers)

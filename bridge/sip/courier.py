"""The courier: living flows, outputs, and the walk of each delivery to its flow.

What arrives, or never will, is told to a `Recipient`. RFC 3261 18; RFC 3263 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, assert_never

from bridge.sip.agenda import Agenda
from bridge.sip.delivery import Delivery, Payload, Purpose
from bridge.sip.events import CloseFlow, Connect, Output, Resolve, Send
from bridge.sip.flow import Flow
from bridge.sip.matching import TransactionKey
from bridge.sip.standing import Standings, Target, target_of
from bridge.sip.target import FlowHop, Hop, HostHop, default_port, is_address

AgendaKey = tuple[str, TransactionKey | int]
"""What is due: a ``client`` or ``server`` transaction, a ``delivery``, a ``session``,
a ``registration``, a flow's ``keepalive``."""

MAX_ADDRESSES = 8  # tried for one hop
ATTEMPT_PATIENCE = 4.0  # seconds for a connection while there are other ways


class Recipient(Protocol):
    """Who is told the fate of deliveries."""

    def on_arrived(self, delivery: Delivery, flow: Flow, now: float) -> None:
        """There is a flow."""

    def on_undeliverable(self, delivery: Delivery, now: float) -> None:
        """No hop worked, or it took longer than *patience*."""


class Courier:
    """Flows and deliveries of an endpoint. *patience* (seconds) bounds every delivery."""

    def __init__(
        self,
        recipient: Recipient,
        *,
        next_hop_allowed: Callable[[str, str], bool],
        patience: float,
        max_deliveries: int,
    ) -> None:
        self.recipient = recipient
        self.next_hop_allowed = next_hop_allowed
        self.patience = patience
        self.max_deliveries = max_deliveries
        self.outputs: list[Output] = []
        self.flows: dict[int, Flow] = {}  # living connections
        self.deliveries: dict[int, Delivery] = {}
        self.of_session: dict[int, dict[int, Delivery]] = {}
        self.waiting: dict[int, int] = {}  # query or attempt -> delivery
        self.agenda: Agenda[AgendaKey] = Agenda()
        self.standings = Standings()
        self.counter = 0

    def next_id(self) -> int:
        """A number that was not used before."""
        self.counter += 1
        return self.counter

    # Flows

    def is_alive(self, flow: Flow) -> bool:
        """Whether *flow* can be written to; UDP always can."""
        return not flow.reliable or flow.id in self.flows

    def opened(self, flow: Flow) -> None:
        """Learn of a connection."""
        if flow.reliable:
            self.flows[flow.id] = flow

    def lost(self, flow: Flow) -> None:
        """Forget a connection."""
        self.flows.pop(flow.id, None)

    def write(self, flow: Flow, data: bytes) -> None:
        """Write bytes to a flow."""
        self.outputs.append(Send(flow=flow, data=data))

    def close(self, flow: Flow) -> None:
        """Give a connection up."""
        self.outputs.append(CloseFlow(flow=flow))

    # Deliveries

    def dispatch(self, payload: Payload, trunk: str, hops: Iterable[Hop], now: float) -> None:
        """Bring *payload* to the first of *hops* that works."""
        delivery = Delivery(
            id=self.next_id(),
            payload=payload,
            trunk=trunk,
            hops=list(hops),
            until=now + self.patience,
        )
        if len(self.deliveries) >= self.max_deliveries:
            self.recipient.on_undeliverable(delivery, now)
            return
        self.enter(delivery)
        self._schedule(delivery)
        self._advance(delivery, now)

    def enter(self, delivery: Delivery) -> None:
        """Take a delivery into the tables; it is not begun by that."""
        self.deliveries[delivery.id] = delivery
        errand = delivery.errand
        if errand is not None:
            self.of_session.setdefault(errand.session, {})[delivery.id] = delivery

    def abandon(self, session: int, *purposes: Purpose) -> bool:
        """Drop the deliveries of a session's errands; tell whether there was one."""
        found = [
            delivery
            for delivery in self.of_session.get(session, {}).values()
            if (errand := delivery.errand) is not None and errand.purpose in purposes
        ]
        for delivery in found:
            self._drop(delivery)
        return bool(found)

    def expire(self, delivery_id: int, now: float) -> None:
        """Give up what took too long, or only the way that it is trying."""
        delivery = self.deliveries.get(delivery_id)
        if delivery is None:
            return
        if now >= delivery.until:
            self._give_up(delivery, now)
        else:
            self.waiting.pop(delivery.waiting, None)
            self._failed(delivery, now)

    def ask_again(self, now: float) -> None:
        """Begin the current hop of every delivery anew."""
        for delivery in list(self.deliveries.values()):
            self.waiting.pop(delivery.waiting, None)
            if delivery.hop is not None:
                delivery.hops.insert(0, delivery.hop)
            delivery.addresses = []
            delivery.trying = delivery.attempt_until = None
            self._schedule(delivery)
            self._advance(delivery, now)

    def resolved(self, query: int, addresses: Sequence[tuple[str, int]], now: float) -> None:
        """Go on with the addresses of a host; a late answer is ignored."""
        delivery = self._awaited(query)
        if delivery is None or delivery.hop is None:
            return
        self._choose(delivery, delivery.hop, addresses, now)
        self._advance(delivery, now)

    def _choose(
        self,
        delivery: Delivery,
        hop: HostHop,
        addresses: Iterable[tuple[str, int]],
        now: float,
    ) -> None:
        """Put the addresses of *hop* in the order to try them, without those not to be tried."""
        # A name from a peer's Contact or Route may lead anywhere: look where it ends.
        permitted: list[Target] = [
            (hop.transport, address, port)
            for address, port in addresses
            if hop.trusted or self.next_hop_allowed(address, delivery.trunk)
        ]
        ordered = self.standings.order(permitted, now)
        delivery.addresses = [
            (address, port)
            for transport, address, port in ordered
            if self._takes(delivery, (transport, address, port), now)
        ][:MAX_ADDRESSES]

    def _takes(self, delivery: Delivery, target: Target, now: float) -> bool:
        """Whether *target* may be sent this: it was not tried, and a new call leaves it its rest.

        What belongs to a call that is up goes also to a server that wants no more calls.
        """
        letter = delivery.letter
        if letter is None:
            return True
        if target in letter.tried:
            return False
        if letter.errand.purpose is not Purpose.INVITE:
            return True
        rest = self.standings.rests_for(target, now)
        if rest and (delivery.rests is None or rest < delivery.rests):
            delivery.rests = rest
        return not rest

    def connected(self, attempt: int, flow: Flow, now: float) -> None:
        """Deliver to a flow that was asked for; a late one is only remembered."""
        self.opened(flow)
        delivery = self._awaited(attempt)
        if delivery is not None:
            self._arrive(delivery, flow, now)

    def connect_failed(self, attempt: int, now: float) -> None:
        """Try the next address or hop."""
        delivery = self._awaited(attempt)
        if delivery is not None:
            self._failed(delivery, now)

    def _failed(self, delivery: Delivery, now: float) -> None:
        """Go on from a target that cannot be connected to."""
        if delivery.trying is not None:
            self.standings.failed(delivery.trying, now)
        delivery.trying = delivery.attempt_until = None
        self._schedule(delivery)
        self._advance(delivery, now)

    def _schedule(self, delivery: Delivery) -> None:
        self.agenda.set(("delivery", delivery.id), delivery.due)

    def _advance(self, delivery: Delivery, now: float) -> None:
        """Take the next address, or the next hop."""
        while True:
            if delivery.addresses:
                self._connect(delivery, now)
                return
            if not delivery.hops:
                self._give_up(delivery, now)
                return
            hop = delivery.hops.pop(0)
            delivery.hop = None
            match hop:
                case FlowHop():
                    if self.is_alive(hop.flow) and self._takes(delivery, target_of(hop.flow), now):
                        delivery.at_any_size = hop.at_any_size
                        self._arrive(delivery, hop.flow, now)
                        return
                case HostHop():
                    delivery.hop = hop
                    if not is_address(hop.host):
                        self._resolve(delivery, hop)
                        return
                    port = hop.port or default_port(hop.transport)
                    self._choose(delivery, hop, [(hop.host, port)], now)
                case _:
                    assert_never(hop)

    def _await(self, delivery: Delivery) -> int:
        self.waiting.pop(delivery.waiting, None)
        delivery.waiting = self.next_id()
        self.waiting[delivery.waiting] = delivery.id
        return delivery.waiting

    def _awaited(self, number: int) -> Delivery | None:
        return self.deliveries.get(self.waiting.pop(number, 0))

    def _resolve(self, delivery: Delivery, hop: HostHop) -> None:
        query = self._await(delivery)
        self.outputs.append(
            Resolve(query=query, transport=hop.transport, host=hop.host, port=hop.port)
        )

    def _connect(self, delivery: Delivery, now: float) -> None:
        address, port = delivery.addresses.pop(0)
        hop = delivery.hop
        transport = hop.transport if hop is not None else "tcp"
        secure = hop is not None and transport == "tls"
        delivery.trying = (transport, address, port)
        if delivery.addresses or delivery.hops:
            delivery.attempt_until = now + ATTEMPT_PATIENCE
        self._schedule(delivery)
        self.outputs.append(
            Connect(
                attempt=self._await(delivery),
                transport=transport,
                address=address,
                port=port,
                name=(hop.name or hop.host) if hop is not None and secure else "",
                trunk=delivery.trunk if secure else "",
            )
        )

    def _drop(self, delivery: Delivery) -> None:
        if self.deliveries.pop(delivery.id, None) is not None:
            self._leave_session(delivery)
        self.waiting.pop(delivery.waiting, None)
        self.agenda.set(("delivery", delivery.id), None)

    def _leave_session(self, delivery: Delivery) -> None:
        errand = delivery.errand
        if errand is None:
            return
        others = self.of_session[errand.session]
        del others[delivery.id]
        if not others:
            del self.of_session[errand.session]

    def _arrive(self, delivery: Delivery, flow: Flow, now: float) -> None:
        self._drop(delivery)
        self.recipient.on_arrived(delivery, flow, now)

    def _give_up(self, delivery: Delivery, now: float) -> None:
        self._drop(delivery)
        self.recipient.on_undeliverable(delivery, now)

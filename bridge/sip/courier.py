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
from bridge.sip.target import FlowHop, Hop, HostHop, default_port, is_address
from bridge.sip.transaction import TransactionKey

AgendaKey = tuple[str, TransactionKey | int]
"""What is due: a ``client`` or ``server`` transaction, a ``delivery``, a ``session``."""

MAX_ADDRESSES = 8  # tried for one hop


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
        self.waiting: dict[int, int] = {}  # query or attempt -> delivery
        self.agenda: Agenda[AgendaKey] = Agenda()
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
        self.deliveries[delivery.id] = delivery
        self.agenda.set(("delivery", delivery.id), delivery.until)
        self._advance(delivery, now)

    def abandon(self, session: int, *purposes: Purpose) -> bool:
        """Drop the deliveries of a session's errands; tell whether there was one."""
        found = [
            delivery
            for delivery in self.deliveries.values()
            if (errand := delivery.errand) is not None
            and errand.session == session
            and errand.purpose in purposes
        ]
        for delivery in found:
            self._drop(delivery)
        return bool(found)

    def expire(self, delivery_id: int, now: float) -> None:
        """Give up what took too long."""
        delivery = self.deliveries.get(delivery_id)
        if delivery is not None:
            self._give_up(delivery, now)

    def ask_again(self, now: float) -> None:
        """Begin the current hop of every delivery anew."""
        for delivery in list(self.deliveries.values()):
            self.waiting.pop(delivery.waiting, None)
            if delivery.hop is not None:
                delivery.hops.insert(0, delivery.hop)
            delivery.addresses = []
            self._advance(delivery, now)

    def resolved(self, query: int, addresses: Sequence[tuple[str, int]], now: float) -> None:
        """Go on with the addresses of a host; a late answer is ignored."""
        delivery = self._awaited(query)
        if delivery is None or delivery.hop is None:
            return
        trusted = delivery.hop.trusted
        delivery.addresses = [
            (address, port)
            for address, port in addresses
            # A name from a peer's Contact or Route may lead anywhere: look where it ends.
            if trusted or self.next_hop_allowed(address, delivery.trunk)
        ][:MAX_ADDRESSES]
        self._advance(delivery, now)

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
            self._advance(delivery, now)

    def _advance(self, delivery: Delivery, now: float) -> None:
        """Take the next address, or the next hop."""
        while True:
            if delivery.addresses:
                self._connect(delivery)
                return
            if not delivery.hops:
                self._give_up(delivery, now)
                return
            hop = delivery.hops.pop(0)
            delivery.hop = None
            match hop:
                case FlowHop():
                    if self.is_alive(hop.flow):
                        self._arrive(delivery, hop.flow, now)
                        return
                case HostHop():
                    delivery.hop = hop
                    if not is_address(hop.host):
                        self._resolve(delivery, hop)
                        return
                    port = hop.port or default_port(hop.transport)
                    delivery.addresses = [(hop.host, port)]
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

    def _connect(self, delivery: Delivery) -> None:
        address, port = delivery.addresses.pop(0)
        hop = delivery.hop
        transport = hop.transport if hop is not None else "tcp"
        secure = hop is not None and transport == "tls"
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
        self.deliveries.pop(delivery.id, None)
        self.waiting.pop(delivery.waiting, None)
        self.agenda.set(("delivery", delivery.id), None)

    def _arrive(self, delivery: Delivery, flow: Flow, now: float) -> None:
        self._drop(delivery)
        self.recipient.on_arrived(delivery, flow, now)

    def _give_up(self, delivery: Delivery, now: float) -> None:
        self._drop(delivery)
        self.recipient.on_undeliverable(delivery, now)

"""What a leg sends again: over UDP by timers, over TCP when its connection is gone.

A connection may be shared by many calls and may close at any time; none of them ends by it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.carrier.exchange import LIFETIME, T1, T2, Exchange, Unacked

if TYPE_CHECKING:
    from bridge.carrier.call import Leg


def persist(leg: Leg, exchange: Exchange) -> None:
    """Send a request again until it is answered."""
    if exchange.peer.transport_name == "UDP":
        _retransmit(exchange, T1, time.monotonic())
    else:
        _watch_connection(leg, exchange, time.monotonic())


def acknowledge(leg: Leg, exchange: Exchange) -> None:
    """Send the ACK of a final answer, where the dialog leads when the INVITE's way is closed."""
    if exchange.ack is None:
        return
    if exchange.peer.closed:
        leg.spawn(_send_elsewhere(leg, exchange, exchange.ack))
    else:
        exchange.peer.send(exchange.ack)


def repeat_final(
    leg: Leg,
    unacked: Unacked,
    status: int,
    waits: Callable[[], bool],
    given_up: Callable[[], None],
) -> None:
    """RFC 3261 13.3.1.4: the 2xx is repeated over any transport until its ACK."""

    def again() -> None:
        if not waits():
            return
        if time.monotonic() - unacked.since > LIFETIME:
            given_up()
            return
        if unacked.peer.closed:
            leg.spawn(_answer_elsewhere(leg, unacked))
        elif status < 300 or unacked.peer.transport_name == "UDP":
            unacked.peer.send(unacked.data)
        unacked.interval = min(2 * unacked.interval, T2)
        unacked.timer = asyncio.get_running_loop().call_later(unacked.interval, again)

    unacked.timer = asyncio.get_running_loop().call_later(T1, again)


def _retransmit(exchange: Exchange, interval: float, since: float) -> None:
    """Timers A and E. RFC 3261 17.1.1.2, 17.1.2.2."""
    invite = exchange.request.method == "INVITE"

    def again() -> None:
        stopped = exchange.responses if invite else exchange.final
        if stopped or time.monotonic() - since > LIFETIME or exchange.peer.closed:
            return
        exchange.peer.send(exchange.data)
        _retransmit(exchange, interval * 2 if invite else min(interval * 2, T2), since)

    exchange.timer = asyncio.get_running_loop().call_later(interval, again)


def _watch_connection(leg: Leg, exchange: Exchange, since: float) -> None:
    def look() -> None:
        if exchange.final or leg.closed or time.monotonic() - since > LIFETIME:
            return
        if exchange.peer.closed:
            leg.spawn(_send_elsewhere(leg, exchange, exchange.data))
        _watch_connection(leg, exchange, since)

    exchange.timer = asyncio.get_running_loop().call_later(2 * T1, look)


async def _send_elsewhere(leg: Leg, exchange: Exchange, data: bytes) -> None:
    """Send *data*, byte by byte the same, where the dialog leads now."""
    exchange.peer = await leg.reach()
    exchange.peer.send(data)


async def _answer_elsewhere(leg: Leg, unacked: Unacked) -> None:
    """RFC 3261 18.2.2: the connection is closed, so open one to the sent-by of the Via."""
    via = unacked.request.top_via
    unacked.peer = await leg.carrier.connect(via.host, via.port or 5060, "TCP")
    unacked.peer.send(unacked.data)

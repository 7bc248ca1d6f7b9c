"""Calls that wait for room on their trunk: in order, over restarts, cancelled, too late."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx
import pytest

from bridge.carrier.report import Seen
from tests.system.harness import Bridge, Desk, until

pytestmark = pytest.mark.system

CALL = "answer; wait 500ms; hangup"


def number(place: int) -> str:
    return f"+9190000001{place:02}"


async def accept(bridge: Bridge, count: int) -> list[str]:
    """Ask for *count* calls, one after the other."""
    return [(await bridge.dial(number(n), agent="")).id for n in range(count)]


class Dialled:
    """Whom a carrier was asked to call, in order: every INVITE that begins a call."""

    def __init__(self) -> None:
        self._by_call: dict[str, str] = {}

    def __call__(self, seen: Seen) -> None:
        if seen.direction == "received" and seen.first_line.startswith("INVITE sip:"):
            number, _, _ = seen.first_line.removeprefix("INVITE sip:").partition("@")
            self._by_call.setdefault(seen.call_id, number)

    @property
    def numbers(self) -> list[str]:
        return list(self._by_call.values())


async def left(bridge: Bridge) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        return list((await http.get("/api/v1/calls/active")).json())


async def test_six_calls_on_a_trunk_for_two_are_all_dialled_in_order(desk: Desk) -> None:
    dialled = Dialled()
    carrier = await desk.carrier(default=CALL, tap=dialled)
    bridge = await desk.bridge(carrier, trunk={"max_calls": 2})
    calls = await accept(bridge, 6)
    assert [call["status"] for call in await left(bridge)][-3:] == ["pending"] * 3
    for call_id in calls:
        ended = await bridge.ended(call_id, 30)
        assert (ended["outcome"], ended["reason"]) == ("completed", "remote_hangup")
    # Two at a time begin together; of two, either may be through with its room first.
    assert [set(dialled.numbers[n : n + 2]) for n in (0, 2, 4)] == [
        {number(n), number(n + 1)} for n in (0, 2, 4)
    ]
    assert len(dialled.numbers) == 6
    assert await left(bridge) == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_calls_that_wait_are_dialled_by_the_next_start_each_once(
    desk: Desk, end: signal.Signals
) -> None:
    dialled = Dialled()
    carrier = await desk.carrier(tap=dialled)
    bridge = await desk.bridge(carrier, trunk={"max_calls": 1})
    first, second, third = await accept(bridge, 3)
    leg = await carrier.incoming()
    await leg.run("answer")
    await bridge.seen(first, "call_answered")
    bridge.signal(end)
    await bridge.exited()
    await bridge.start()
    ended = await bridge.ended(first)
    reason = {signal.SIGKILL: "crash", signal.SIGTERM: "shutdown"}[end]
    assert (ended["outcome"], ended["reason"]) == ("dropped", reason)
    for call_id in (second, third):
        again = await carrier.incoming()
        await again.run(CALL)
        assert (await bridge.ended(call_id))["outcome"] == "completed"
    assert sorted(dialled.numbers) == [number(n) for n in range(3)]


async def test_a_call_that_waits_can_be_cancelled_or_waits_too_long(desk: Desk) -> None:
    dialled = Dialled()
    carrier = await desk.carrier(default="answer; stay", tap=dialled)
    bridge = await desk.bridge(
        carrier, trunk={"max_calls": 1}, sections={"queue": {"size": 2, "max_wait": 3}}
    )
    first, second, third = await accept(bridge, 3)
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        refused = await http.post(
            "/api/v1/calls",
            json={"phone_number": number(9), "trunk": "carrier", "agent": ""},
        )
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await http.delete(f"/api/v1/calls/{second}")).status_code == 202
    cancelled = await bridge.ended(second)
    assert (cancelled["outcome"], cancelled["ended_by"]) == ("cancelled", "api")
    late = await bridge.ended(third)
    assert (late["outcome"], late["reason"]) == ("failed", "queue_timeout")
    resource = await bridge.resource(third)
    assert (resource["status"], resource["started_at"]) == ("failed", None)
    await bridge.client.call(first).hangup()
    await bridge.ended(first)
    assert dialled.numbers == [number(0)]


async def test_a_busy_trunk_makes_nobody_wait_for_another(desk: Desk) -> None:
    dialled = Dialled()
    carrier = await desk.carrier(default="answer; stay", tap=dialled)
    other = {
        "name": "other",
        "host": "127.0.0.1",
        "port": carrier.port,
        "media_allow": ["127.0.0.0/8"],
    }
    bridge = await desk.bridge(carrier, trunk={"max_calls": 1}, trunks=[other])
    await accept(bridge, 2)
    call = await bridge.dial(number(7), agent="", trunk="other")
    await bridge.seen(call.id, "call_answered")
    await until(lambda: len(dialled.numbers) == 2, "both are dialled")
    assert number(1) not in dialled.numbers
    for one in await left(bridge):
        await bridge.client.call(one["id"]).hangup()
    await asyncio.gather(*(bridge.ended(one) for one in [call.id]))

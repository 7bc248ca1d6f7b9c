"""Two daemons on one PostgreSQL: they share the queue, ask each other, and end only their own."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from bridge.carrier.carrier import Carrier
from tests.postgres import Postgres
from tests.system.harness import Bridge, Desk, until
from tests.system.test_queue import Dialled, number

pytestmark = pytest.mark.system


async def pair(desk: Desk, carrier: Carrier, postgres: Postgres) -> list[Bridge]:
    """Start two daemons with room for one call each."""
    url = postgres.new_database()
    return [
        await desk.bridge(
            carrier,
            trunk={"max_calls": 1},
            sections={"store": {"url": url, "instance": f"bridge-{name}"}},
        )
        for name in "ab"
    ]


async def outcome(bridge: Bridge, call_id: str) -> str | None:
    """Return how a call ended, as *bridge* tells, whoever ran it; None while it has not."""
    reply = await bridge.client.call(call_id).status()
    return None if reply["outcome"] is None else f"{reply['outcome']}/{reply['reason']}"


async def test_what_waits_at_one_is_dialled_by_the_other_each_once(
    desk: Desk, postgres: Postgres
) -> None:
    dialled = Dialled()
    carrier = await desk.carrier(default="answer; stay", tap=dialled)
    one, other = await pair(desk, carrier, postgres)
    calls = [(await one.dial(number(n), agent="")).id for n in range(3)]
    await one.seen(calls[0], "call_answered")
    # The other has room: it takes the second, and nobody takes the third.
    await other.seen(calls[1], "call_answered")
    assert dialled.numbers == [number(0), number(1)]

    async def active() -> bool:
        return bool((await one.resource(calls[1]))["status"] == "active")

    await until(active, "the one hears of it from the store")
    assert (await other.resource(calls[2]))["status"] == "pending"
    # Asked at the one, done at the other.
    async with httpx.AsyncClient(base_url=one.url) as http:
        held = await http.post(f"/api/v1/calls/{calls[1]}/hold")
        assert held.status_code == 202, held.text
        resumed = await http.post(f"/api/v1/calls/{calls[1]}/resume")
        assert resumed.status_code == 202, resumed.text
        assert (await http.delete(f"/api/v1/calls/{calls[1]}")).status_code == 202

    async def ended() -> bool:
        return await outcome(one, calls[1]) == "completed/api_hangup"

    await until(ended, "the call ends at the other")
    await other.seen(calls[2], "call_answered")
    await one.client.call(calls[2]).hangup()
    await one.client.call(calls[0]).hangup()
    for call_id in calls:
        await until(lambda c=call_id: outcome(other, c), "every call has its end")  # type: ignore[misc]
    assert dialled.numbers == [number(n) for n in range(3)]


async def test_one_is_killed_and_starts_again_and_neither_ends_the_others_calls(
    desk: Desk, postgres: Postgres
) -> None:
    dialled = Dialled()
    carrier = await desk.carrier(default="answer; stay", tap=dialled)
    one, other = await pair(desk, carrier, postgres)
    calls = [(await one.dial(number(n), agent="")).id for n in range(3)]
    await other.seen(calls[1], "call_answered")
    await one.kill()
    await one.start()
    # Its own call is over, the one it had accepted for the other goes on, the last is dialled.
    ended = await one.ended(calls[0])
    assert (ended["outcome"], ended["reason"]) == ("dropped", "crash")
    await until(lambda: number(2) in dialled.numbers, "the third is dialled", 20)
    await asyncio.sleep(3)  # what would end it wrongly has had its turn
    assert await outcome(other, calls[1]) is None
    assert (await one.resource(calls[1]))["status"] == "active"
    for call_id in calls[1:]:
        await other.client.call(call_id).hangup()

    async def over() -> bool:
        found = [await outcome(other, call_id) for call_id in calls[1:]]
        return found == ["completed/api_hangup"] * 2

    await until(over, "both end as they were asked to")
    assert sorted(dialled.numbers) == [number(n) for n in range(3)]


async def test_one_key_at_both_at_once_is_one_call_and_both_stream_it(
    desk: Desk, postgres: Postgres
) -> None:
    dialled = Dialled()
    carrier = await desk.carrier(default="answer; stay", tap=dialled)
    both = await pair(desk, carrier, postgres)
    body = {"phone_number": number(0), "trunk": "carrier", "agent": ""}
    once = {"Idempotency-Key": "both"}
    async with (
        httpx.AsyncClient(base_url=both[0].url, timeout=20) as one,
        httpx.AsyncClient(base_url=both[1].url, timeout=20) as other,
    ):
        asked = (http.post("/api/v1/calls", json=body, headers=once) for http in (one, other))
        made = await asyncio.gather(*asked)
        assert [reply.status_code for reply in made] == [201, 201]
        assert made[0].json() == made[1].json()
        call_id = made[0].json()["call_id"]

        async def answered() -> bool:
            pages = [await http.get("/api/v1/events") for http in (one, other)]
            assert {page.status_code for page in pages} == {200}
            if "call_answered" not in [event["event"] for event in pages[0].json()]:
                return False
            return bool(pages[0].json() == pages[1].json())

        await until(answered, "both tell the same events")
        assert (await other.delete(f"/api/v1/calls/{call_id}")).status_code == 202
    await until(lambda: outcome(both[0], call_id), "it has its end")
    assert dialled.numbers == [number(0)]

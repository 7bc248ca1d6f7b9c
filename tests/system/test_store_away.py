"""The store goes away in mid-call, or is shared: the calls do not notice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from bridge.carrier.call import Leg
from bridge.store.fold import shown
from tests import postgres
from tests.kill.places import in_store
from tests.system.harness import AGENT_HERTZ, Bridge, Desk, now_number, until

pytestmark = pytest.mark.system

STORED = 40.0  # seconds until the store has what the journal has


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    with postgres.server() as running:
        yield running


def fine(leg: Leg) -> None:
    assert leg.report.failed is None, leg.report.failed


async def dialled(desk: Desk, bridge: Bridge, carrier: Any) -> tuple[Any, Leg]:
    """Return a call of ours that was answered, and the carrier's side."""
    call = await bridge.dial("+919000000007")
    leg = await carrier.incoming()
    await leg.run("answer; talk")
    fine(leg)
    await bridge.seen(call.id, "call_answered")
    return call, leg


async def stored(url: str, call_id: str) -> dict[str, Any]:
    """Wait until the store has the end of a call; return its record there."""

    async def there() -> Any:
        found = await asyncio.to_thread(in_store, url)
        record = found.records.get(call_id)
        return record if record is not None and record["outcome"] is not None else None

    record: dict[str, Any] = await until(there, f"the end of {call_id} is stored", STORED, 0.5)
    return record


async def test_a_store_that_is_stopped_in_mid_call_costs_no_event_and_no_record(
    desk: Desk, server: postgres.Postgres
) -> None:
    """Design, Reliability: the store is a projection that no call waits for."""
    url = server.new_database()
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, sections={"store": {"url": url}})
    bridge.expect_log("store.away")
    call, leg = await dialled(desk, bridge, carrier)
    agent = await desk.agent(call.accepted["room_name"])
    await agent.event("call_answered")
    await leg.run(f"expect audio {AGENT_HERTZ} within 10s")
    server.stop()
    await leg.run("hold sendonly")
    fine(leg)
    await agent.event("call_hold")
    # A call that begins, and ends, while there is no store.
    other = await carrier.dial(bridge.sip_uri(now_number()), from_="+919810000999", fresh=True)
    await other.run("talk; expect rtp within 12s; hangup")
    fine(other)
    again = await bridge.dial("+919000000008")
    taken = await carrier.incoming()
    await taken.run("busy")
    assert (await bridge.ended(again.id))["outcome"] == "busy"
    await leg.run("resume; hangup")
    fine(leg)
    await agent.event("call_ended")
    assert (await bridge.resource(call.id))["outcome"] == "completed"
    server.start()
    record = await stored(url, call.id)
    assert shown(record) == await bridge.resource(call.id)
    assert (await stored(url, again.id))["outcome"] == "busy"
    found = await asyncio.to_thread(in_store, url)
    assert found.events[call.id] == await bridge.events(call.id)
    callers = [one["phone_number"] for one in found.records.values()]
    assert callers.count("+919810000999") == 1


async def test_a_store_that_stands_still_holds_no_call_no_reader_and_no_stop(
    desk: Desk, server: postgres.Postgres
) -> None:
    """No answer and no error: a server that is stopped, a network that swallows all."""
    url = server.new_database()
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, sections={"store": {"url": url}})
    bridge.expect_log("store.away")
    call, leg = await dialled(desk, bridge, carrier)
    agent = await desk.agent(call.accepted["room_name"])
    await agent.event("call_answered")
    server.freeze()
    try:
        await leg.run("hold sendonly")
        fine(leg)
        await agent.event("call_hold")
        body = {"phone_number": "+919000000008", "trunk": "carrier", "agent": ""}
        once = {"Idempotency-Key": "frozen"}
        async with httpx.AsyncClient(base_url=bridge.url, timeout=30) as http:
            made, again = [
                await http.post("/api/v1/calls", json=body, headers=once) for _ in range(2)
            ]
            assert made.status_code == 201, made.text
            assert again.json() == made.json()
            taken = await carrier.incoming()
            await taken.run("busy")
            read = await http.get("/api/v1/calls")
            assert read.status_code == 503
            assert read.headers["Content-Type"] == "application/problem+json"
            assert (
                await http.get("/api/v1/calls/00000000-0000-4000-8000-0000000000aa")
            ).status_code == 503

            async def not_ready() -> bool:
                return (await http.get("/readyz")).status_code == 503

            await until(not_ready, "the daemon says that it has no store")
        assert (await bridge.ended(made.json()["call_id"]))["outcome"] == "busy"
        await leg.run("resume; hangup")
        fine(leg)
        await agent.event("call_ended")
        assert (await bridge.resource(call.id))["outcome"] == "completed"
        bridge.signal(signal.SIGTERM)
        assert await bridge.exited(30) == 0
    finally:
        server.thaw()
    await bridge.start()
    assert (await stored(url, call.id))["outcome"] == "completed"
    assert (await stored(url, made.json()["call_id"]))["outcome"] == "busy"
    found = await asyncio.to_thread(in_store, url)
    assert found.events[call.id] == await bridge.events(call.id)


async def test_of_two_instances_on_one_store_neither_ends_the_others_calls(
    desk: Desk, server: postgres.Postgres
) -> None:
    url = server.new_database()
    carrier = await desk.carrier()
    one, two = [
        await desk.bridge(carrier, sections={"store": {"url": url, "instance": name}})
        for name in ("one", "two")
    ]
    first, first_leg = await dialled(desk, one, carrier)
    second, second_leg = await dialled(desk, two, carrier)
    await one.kill()
    # It starts again within its lease: what it left it ends itself, and nobody else's.
    await one.start()
    ended = await one.ended(first.id)
    assert (ended["outcome"], ended["reason"]) == ("dropped", "crash")
    assert (await stored(url, first.id))["reason"] == "crash"
    assert (await two.resource(second.id))["status"] == "active"
    await second_leg.run("options; hangup")
    fine(second_leg)
    assert (await two.ended(second.id))["outcome"] == "completed"
    assert (await stored(url, second.id))["outcome"] == "completed"
    await first_leg.run("hangup")  # 481: the new process does not know the dialog
    # Now one is killed and stays away: the other ends its call once its lease is over.
    third, third_leg = await dialled(desk, one, carrier)
    fourth, fourth_leg = await dialled(desk, two, carrier)
    async with httpx.AsyncClient(base_url=two.url) as http:

        async def known() -> bool:
            return (await http.get(f"/api/v1/calls/{third.id}")).status_code == 200

        await until(known, "the store has the call of the one")
    await one.kill()
    left = await stored(url, third.id)
    assert (left["outcome"], left["reason"]) == ("dropped", "crash")
    assert (await two.resource(third.id))["outcome"] == "dropped"
    assert (await two.resource(fourth.id))["status"] == "active"
    await third_leg.run("hangup")
    await fourth_leg.run("options; hangup")
    fine(fourth_leg)
    assert (await two.ended(fourth.id))["outcome"] == "completed"

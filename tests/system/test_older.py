"""Seed 001's Exotel flow by the older bridge's routes, on real parts."""

from __future__ import annotations

import httpx
import pytest

from bridge.call.record import workflow_id
from tests.system.calls import fine
from tests.system.harness import AGENT_HERTZ, CALLER_HERTZ, Desk

pytestmark = pytest.mark.system

WORKFLOW = '\n[[workflow]]\nslug = "daily"\nmetadata = {tone = "kind"}\n'


async def test_an_assistant_calls_a_phone_is_held_and_resumed_and_has_its_record(
    desk: Desk,
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"profile": "exotel"})
    with bridge.config.open("a") as file:
        file.write(WORKFLOW)
    await bridge.client.reload()
    async with httpx.AsyncClient(base_url=bridge.url) as http:
        asked = await http.post(
            "/call/outbound",
            json={
                "assistant_id": workflow_id("daily"),
                "trunk_id": "carrier",
                "to_number": "+919876543210",
                "call_service": "exotel",
                "metadata": {"lead": 7},
            },
        )
        assert asked.status_code == 202, asked.text
        assert asked.json()["data"]["status"] == "queued"
        queue_id = asked.json()["data"]["queue_id"]
        leg = await carrier.incoming()
        agent = await desk.agent(f"call-{queue_id}")
        await leg.run("answer; talk")
        await agent.event("call_answered")
        await leg.run(f"expect audio {AGENT_HERTZ} within 15s")
        await agent.hears(CALLER_HERTZ)
        await leg.run("hold sendonly")
        await agent.event("call_hold")
        await leg.run("resume")
        await agent.event("call_resume")
        queued = (await http.get(f"/call/queue/{queue_id}")).json()["data"]
        assert (queued["status"], queued["call_service"]) == ("dispatched", "exotel")
        await leg.run("hangup")
        fine(leg)
        await bridge.ended(queue_id)
        found = (await http.get("/call/records", params={"call_status": "completed"})).json()
    (record,) = found["data"]["records"]
    assert (record["queue_id"], record["room_name"]) == (queue_id, f"call-{queue_id}")
    assert (record["assistant_id"], record["assistant_name"]) == (workflow_id("daily"), "daily")
    assert (record["to_number"], record["call_service"]) == ("+919876543210", "exotel")
    assert (record["call_end_reason"], record["sip_status_text"]) == ("remote_hangup", "OK")
    assert record["is_passthrough"] is False
    assert record["billable_duration_minutes"] == 1

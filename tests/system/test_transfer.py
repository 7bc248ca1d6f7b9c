"""A transfer from end to end: an agent or the API asks, the far end takes the call or does not.

The built-in carrier judges the REFER on the wire and tells of its progress; baresip makes the
call it is referred to. The room, the journal and the record say what came of it.
"""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

import pytest

from tests.system.calls import fine
from tests.system.harness import AGENT_HERTZ, CALLER_HERTZ, Desk
from tests.system.test_baresip import NUMBER, baresip, call_id
from tests.system.test_controls import connected, refused
from trunkbridge.client import ApiError

pytestmark = pytest.mark.system

TO = "+918045678900"
ALLOWED = {"transfer_allow": ["+9180*", "sip:*@127.0.0.1:*"]}


async def test_an_agent_transfers_its_caller_who_is_told_off_by_nobody(desk: Desk) -> None:
    """Row 96. REFER, 202, NOTIFY 100, 180, 200 and their BYE."""
    carrier = await desk.carrier()
    trunk = {**ALLOWED, "number_format": "national-0", "domain": "carrier.example"}
    bridge = await desk.bridge(carrier, trunk=trunk)
    leg, agent = await connected(desk, bridge, carrier, "inbound")
    assert "transfer_allow" in await refused(agent, "bridge.Transfer", '{"to":"+912245678900"}')
    script = leg.run(
        "expect refer; expect header Refer-To <sip:08045678900@carrier.example>; accept refer; "
        "notify 100; notify 180; notify 200; hangup; notify 200 answered 481"
    )
    carried = asyncio.create_task(script)
    assert await agent.rpc("bridge.Transfer", '{"to":"080 4567 8900"}') == "{}"
    ended = await agent.event("call_ended")
    await carried
    fine(leg)
    assert (ended["outcome"], ended["reason"], ended["ended_by"]) == (
        "completed",
        "transferred",
        "agent",
    )
    told = agent.named("call_transfer")
    assert [(event["to"], event["status"]) for event in told] == [(TO, 100), (TO, 180), (TO, 200)]


async def test_a_call_goes_on_after_a_refused_and_a_failed_transfer_until_one_succeeds(
    desk: Desk,
) -> None:
    """Row 96. 603 to the REFER; 486 notified; then 200 (attended), and the BYE is ours."""
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk=ALLOWED)
    leg, agent = await connected(desk, bridge, carrier, "outbound")
    call = bridge.client.call(await call_id(agent))

    async def ask(to: str = TO) -> int:
        try:
            await call.transfer(to)
        except ApiError as failure:
            return failure.status
        return 202

    assert [await ask("+912245678900"), await ask("bob")] == [403, 422]
    asked = asyncio.create_task(ask())
    await leg.run("refuse refer 603")
    assert await asked == 502
    asked = asyncio.create_task(ask())
    await leg.run("accept refer; notify 486")
    assert await asked == 202
    await leg.run(f"expect audio {AGENT_HERTZ} within 5s")
    other = await bridge.dial(TO, room=desk.room())
    second = await carrier.incoming()
    await second.run("ring; answer; talk; expect rtp within 10s")
    await bridge.seen(other.id, "call_answered")
    asked = asyncio.create_task(ask(f"call:{other.id}"))
    await leg.run("accept refer; notify 180")
    assert await ask() == 409
    assert leg.last_request is not None
    refer_to = unquote(leg.last_request.headers.get("Refer-To") or "")
    replaced = f"Replaces={second.dialog.call_id};to-tag={second.dialog.local_tag};from-tag="
    assert replaced in refer_to
    await second.run("hangup")
    await leg.run("notify 200; expect hangup within 20s cause 16")
    assert await asked == 202
    fine(leg)
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["reason"], ended["ended_by"]) == (
        "completed",
        "transferred",
        "api",
    )
    events = await bridge.events(call.id)
    told = [event["status"] for event in events if event["event"] == "call_transfer"]
    assert told == [603, 486, 180, 200]
    assert await ask() == 409


async def test_baresip_calls_whom_it_is_referred_to(desk: Desk) -> None:
    """Row 96. A stack that is not ours, and a third party that answers."""
    other = await desk.carrier()
    peer = await baresip(desk)
    bridge = await desk.bridge(peer.port, trunk=ALLOWED)
    room = desk.room()
    agent = await desk.agent(room, kind="agent")
    call = await bridge.dial(NUMBER, room=room)
    await agent.hears(CALLER_HERTZ)
    target = f"sip:desk@127.0.0.1:{other.port};transport=tcp"
    await call.transfer(target)
    leg = await other.incoming()
    await leg.run("ring; answer; talk; expect rtp within 10s")
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["reason"]) == ("completed", "transferred")
    told = agent.named("call_transfer")
    assert told[-1]["status"] == 200
    assert all(event["to"] == target for event in told)
    await leg.run("hangup")


async def test_a_far_end_that_refers_us_gets_the_target_into_the_room(desk: Desk) -> None:
    """Row 95. REFER in by policy: a call of our own, told by NOTIFY; 603 for what is not."""
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={**ALLOWED, "refer_in": True})
    leg, agent = await connected(desk, bridge, carrier, "inbound")
    first = await call_id(agent)
    await leg.run("rtp off")  # what the other hears is then one tone
    await leg.run("refer +912245678900; expect status 603; refer 08045678900; expect status 202")
    fine(leg)
    other = await carrier.incoming()
    assert other.report.number == TO
    await other.run(f"ring; answer; talk; expect audio {AGENT_HERTZ} within 15s")
    fine(other)
    await leg.run("expect notify 100; expect notify 180; expect notify 200; hangup")
    fine(leg)
    ended = await bridge.ended(first)
    assert (ended["outcome"], ended["reason"], ended["ended_by"]) == (
        "completed",
        "transferred",
        "caller",
    )
    told = [event["status"] for event in agent.named("call_transfer")]
    assert told == [180, 200]
    new = next(call for call in await bridge.client.active() if call["id"] != first)
    assert new["metadata"] == {"referred_by": first}
    await other.run(f"expect audio {AGENT_HERTZ} within 5s; hangup")
    fine(other)
    assert (await bridge.ended(new["id"]))["reason"] == "remote_hangup"

"""What a call lives through, and how it ends when it does not."""

from __future__ import annotations

import signal
import time

import pytest

from tests.system.calls import fine, inbound, the_call
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Desk,
    RoomAgent,
    delete_room,
    now_number,
    room_exists,
    until,
)

pytestmark = pytest.mark.system

PAUSE = 0.5  # seconds


# --- connections -------------------------------------------------------------------------


async def test_a_call_outlives_its_connection_and_ends_by_a_bye_on_a_new_one(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    await leg.run(f"close connection; expect audio {AGENT_HERTZ} within 5s; wait 1s")
    await leg.run(f"expect audio {AGENT_HERTZ} within 5s; hangup on new connection")
    fine(leg)
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")


async def test_a_call_outlives_its_connection_and_is_held_on_a_new_one(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    await leg.run("close connection; hold sendonly on new connection; expect silence 1s")
    fine(leg)
    await agent.event("call_hold")
    resumed_at = time.monotonic()
    await leg.run(f"resume on new connection; expect audio {AGENT_HERTZ} within 5s")
    fine(leg)
    await agent.hears(CALLER_HERTZ, since=resumed_at)
    await leg.run("hangup")
    fine(leg)
    await agent.event("call_ended")


async def test_the_bridge_hangs_up_a_call_whose_connection_is_gone(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    await leg.run("close connection")
    await bridge.client.call(await the_call(agent)).hangup()
    await leg.run("expect hangup within 5s")
    fine(leg)


# --- a paused process --------------------------------------------------------------------


async def test_a_call_outlives_a_pause_of_the_whole_process(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    bridge.expect_lag()
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    bridge.signal(signal.SIGSTOP)
    await leg.run(f"wait {int(PAUSE * 1000)}ms")
    bridge.signal(signal.SIGCONT)
    awake_at = time.monotonic()
    await leg.run(f"expect audio {AGENT_HERTZ} within 5s")
    fine(leg)
    await agent.until(
        lambda: (
            awake_at < (agent.saw("heard") or [{"at": 0.0}])[-1]["at"]
            or (agent.saw("heard") or [{"hertz": 0}])[-1]["hertz"] == CALLER_HERTZ
        ),
        "the caller is heard again",
        1.0,
    )
    await leg.run("options; hold sendonly; resume; hangup")
    fine(leg)
    ended = await agent.event("call_ended")
    assert ended["outcome"] == "completed"


# --- agents who come and go --------------------------------------------------------------


async def test_a_late_joiner_is_told_what_it_missed_and_nobody_is_told_twice(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    await leg.run("hold sendonly")
    fine(leg)
    await agent.event("call_hold")
    late = await desk.agent(agent.room, "late")
    await late.event("call_hold")
    assert [event["event"] for event in late.events] == ["call_answered", "call_hold"]
    first = {e["event"]: raw["text"] for e, raw in zip(agent.events, data(agent), strict=True)}
    again = {e["event"]: raw["text"] for e, raw in zip(late.events, data(late), strict=True)}
    assert again == {name: first[name] for name in again}
    assert late.attributes["bridge.hold"] == "true"
    assert late.attributes["sip.callStatus"] == "active"
    assert late.muted is True
    await leg.run("resume")
    await late.event("call_resume")
    later = await desk.agent(agent.room, "later")
    await later.event("call_answered")
    await leg.run("hangup")
    fine(leg)
    for one in (agent, late, later):
        await one.event("call_ended")
    assert [e["event"] for e in later.events] == ["call_answered", "call_ended"]
    assert [e["event"] for e in agent.events] == [
        "call_ringing",
        "call_answered",
        "call_hold",
        "call_resume",
        "call_ended",
    ]


def data(agent: RoomAgent) -> list[dict[str, str]]:
    """Return the raw events as they came."""
    return agent.saw("data", topic="sip_bridge_events")


async def test_a_call_whose_agent_is_gone_ends_after_the_timeout(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"agent_gone_timeout": 1.5})
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    call_id = await the_call(agent)
    await agent.leave()
    await leg.run("expect hangup within 6s")
    fine(leg)
    ended = await bridge.ended(call_id)
    assert (ended["outcome"], ended["reason"]) == ("completed", "agent_gone")


async def test_an_agent_that_comes_back_in_time_keeps_the_call(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"agent_gone_timeout": 3})
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    await agent.leave()
    other = await desk.agent(agent.room, "other")
    await other.event("call_answered")
    await leg.run(f"expect audio {AGENT_HERTZ} within 3s; wait 4s; options; hangup")
    fine(leg)


async def test_a_call_whose_room_is_deleted_ends(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    call_id = await the_call(agent)
    await delete_room(desk.server, agent.room)
    await leg.run("expect hangup within 5s")
    fine(leg)
    ended = await bridge.ended(call_id)
    assert (ended["outcome"], ended["reason"]) == ("completed", "room_deleted")


async def test_an_agent_ends_the_call_by_rpc(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    await agent.rpc("lk.sip.EndCall", "{}")
    await leg.run("expect hangup within 5s")
    fine(leg)
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "agent")


# --- ends from outside -------------------------------------------------------------------


async def test_delete_hangs_up_an_answered_call(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    call = bridge.client.call(await the_call(agent))
    await call.hangup()
    await leg.run("expect hangup within 5s")
    fine(leg)
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "api")
    await call.hangup()  # also when it has ended


async def test_delete_cancels_a_ringing_call(desk: Desk) -> None:
    carrier = await desk.carrier(default="no answer")
    bridge = await desk.bridge(carrier)
    call = await bridge.dial("+919000000006")
    await bridge.seen(call.id, "call_ringing")
    await call.hangup()
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["ended_by"]) == ("cancelled", "api")
    await carrier.settled()
    (report,) = carrier.reports
    assert report.failed is None
    assert report.cancelled


async def test_sigterm_drains_and_then_hangs_up(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, sections={"daemon": {"drain_timeout": 2}})
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    bridge.signal(signal.SIGTERM)
    refused = await carrier.dial(bridge.sip_uri(now_number()), fresh=True)
    await refused.run("expect status 503 within 5s")
    assert refused.report.failed is None, refused.report.failed
    await leg.run("expect hangup within 8s")
    fine(leg)
    ended = await agent.event("call_ended")
    assert ended["reason"] == "shutdown"
    assert await bridge.exited() == 0


async def test_a_call_that_ends_while_draining_lets_the_daemon_go(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, sections={"daemon": {"drain_timeout": 60}})
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    bridge.signal(signal.SIGTERM)
    await leg.run(f"wait 500ms; expect audio {AGENT_HERTZ} within 5s; hangup")
    fine(leg)
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")
    assert await bridge.exited() == 0


async def test_a_daemon_killed_in_mid_call_ends_the_call_and_its_room_at_the_next_start(
    desk: Desk,
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    call = await bridge.dial("+919000000007")
    leg = await carrier.incoming()
    await leg.run("answer")
    agent = await desk.agent(call.accepted["room_name"])
    await agent.event("call_answered")
    await bridge.kill()
    assert await room_exists(desk.server, agent.room)
    await bridge.start()
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["reason"]) == ("dropped", "crash")
    resource = await call.status()
    assert (resource["status"], resource["outcome"]) == ("disconnected", "dropped")

    async def gone() -> bool:
        return not await room_exists(desk.server, agent.room)

    await until(gone, "the room is gone")
    await leg.run("hangup")  # 481: the new process does not know the dialog
    fine(leg)

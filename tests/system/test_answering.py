"""Who is answered, when, and with what; and what re-INVITEs change."""

from __future__ import annotations

from functools import partial

import pytest

from bridge.carrier.carrier import Carrier
from tests.system.calls import fine, inbound, the_call
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Bridge,
    Desk,
    agent_number,
    now_number,
    room_of,
    until,
)

pytestmark = pytest.mark.system


async def test_an_inbound_call_without_an_agent_is_refused_with_480(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"agent_timeout": 1})
    leg = await carrier.dial(bridge.sip_uri(agent_number()))
    await leg.run("expect status 180 within 2s; expect status 480 within 5s")
    fine(leg)


async def test_an_agent_without_a_track_answers_by_saying_that_it_is_ready(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    number = agent_number()
    agent = await desk.agent(room_of(number), hertz=None)
    leg = await carrier.dial(bridge.sip_uri(number))
    await leg.run("expect status 180 within 5s")
    fine(leg)
    assert not leg.report.answered
    await agent.rpc("bridge.Ready")
    await leg.run("expect status 200 within 3s; talk")
    fine(leg)
    await agent.event("call_answered")
    await agent.hears(CALLER_HERTZ)
    await agent.talk()
    await leg.run(f"expect audio {AGENT_HERTZ} within 3s; hangup")
    fine(leg)


async def test_an_outbound_call_whose_agent_never_comes_is_hung_up(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"agent_timeout": 1})
    call = await bridge.dial("+919000000010", agent="nobody-of-this-name")
    leg = await carrier.incoming()
    await leg.run("answer; expect hangup within 6s")
    fine(leg)
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["reason"]) == ("failed", "no_agent")


async def test_a_full_trunk_refuses_with_486_and_a_full_bridge_with_503(desk: Desk) -> None:
    carrier = await desk.carrier()
    one_trunk = await desk.bridge(carrier, trunk={"max_calls": 1})
    one_call = await desk.bridge(carrier, sections={"sip": {"max_calls": 1}})
    for bridge, status in ((one_trunk, 486), (one_call, 503)):
        leg, _ = await inbound(desk, bridge.sip_uri, carrier)
        refused = await carrier.dial(bridge.sip_uri(now_number()), fresh=True)
        await refused.run(f"expect status {status} within 3s")
        fine(refused)
        await leg.run("hangup")
        fine(leg)
        await until(partial(_accepted, carrier, bridge), "a call fits again", poll=0.2)


async def _accepted(carrier: Carrier, bridge: Bridge) -> bool:
    """Tell whether a call is answered now; a line is free a moment after its call's end."""
    leg = await carrier.dial(bridge.sip_uri(now_number()), fresh=True)
    await leg.run("expect status 200 within 5s; hangup")
    return leg.report.failed is None


async def test_a_call_over_udp_is_heard_both_ways_and_held(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"transport": "udp"})
    room = desk.room()
    agent = await desk.agent(room)
    await bridge.dial("+919000000011", room=room)
    leg = await carrier.incoming()
    await leg.run(f"ring; answer; talk; expect audio {AGENT_HERTZ} within 5s")
    fine(leg)
    await agent.hears(CALLER_HERTZ)
    await leg.run(f"hold inactive 500ms; resume; expect audio {AGENT_HERTZ} within 2s; hangup")
    fine(leg)
    await agent.event("call_ended")
    assert [event["event"] for event in agent.events][2:] == [
        "call_hold",
        "call_resume",
        "call_ended",
    ]


@pytest.mark.parametrize("body", ["sendonly", "inactive", "zero-address"])
async def test_a_call_that_begins_held_says_so_right_after_the_answer(
    desk: Desk, body: str
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    number = now_number()
    agent = await desk.agent(room_of(number))
    leg = await carrier.dial(bridge.sip_uri(number))
    await leg.run(f"invite {body}; talk; expect silence 500ms")
    fine(leg)
    held = await agent.event("call_hold")
    assert held["direction"] == body
    assert [event["event"] for event in agent.events] == ["call_answered", "call_hold"]
    await agent.is_muted(True)
    await leg.run(f"resume; expect audio {AGENT_HERTZ} within 2s")
    fine(leg)
    await agent.is_muted(False)
    await agent.hears(CALLER_HERTZ)
    await leg.run("hangup")
    fine(leg)


async def test_a_delayed_offer_is_answered_with_a_full_offer(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    number = now_number()
    agent = await desk.agent(room_of(number))
    leg = await carrier.dial(bridge.sip_uri(number))
    await leg.run(f"invite offerless; talk; expect audio {AGENT_HERTZ} within 5s")
    fine(leg)
    await agent.hears(CALLER_HERTZ)
    await leg.run("hangup")
    fine(leg)


async def test_what_changes_nothing_publishes_nothing_and_what_cannot_be_is_refused(
    desk: Desk,
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    await leg.run("reinvite; reinvite offer; reinvite t38; hold sendonly; hold inactive")
    await leg.run(f"resume; move; expect audio {AGENT_HERTZ} within 2s; hangup")
    fine(leg)
    await agent.event("call_ended")
    names = [event["event"] for event in agent.events]
    assert names == ["call_ringing", "call_answered", "call_hold", "call_resume", "call_ended"]


async def test_a_call_that_falls_silent_without_a_hold_is_dropped(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"media_timeout": 2, "media_timeout_initial": 2})
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    call_id = await the_call(agent)
    await leg.run("rtp off; expect hangup within 8s")
    fine(leg)
    ended = await bridge.ended(call_id)
    assert (ended["outcome"], ended["reason"]) == ("dropped", "media_timeout")
    assert (await bridge.resource(call_id))["status"] == "disconnected"


async def test_a_call_ends_at_its_longest_duration(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    room = desk.room()
    await desk.agent(room)
    call = await bridge.dial("+919000000012", room=room, max_duration=2)
    leg = await carrier.incoming()
    await leg.run("answer; talk; expect hangup within 6s")
    fine(leg)
    ended = await bridge.ended(call.id)
    assert (ended["outcome"], ended["reason"]) == ("completed", "max_duration")

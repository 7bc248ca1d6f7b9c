"""Keys, the gate, and what the phone looks like to an agent."""

from __future__ import annotations

import json

import pytest

from tests.system.calls import fine, inbound
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Desk,
    agent_number,
    now_number,
    room_of,
)

pytestmark = pytest.mark.system


async def test_keys_go_both_ways_once_each(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    await leg.run("dtmf 12*#")
    fine(leg)
    await agent.until(lambda: len(agent.saw("dtmf")) >= 4, "four keys")
    await agent.event("call_dtmf", 4)
    assert [key["digit"] for key in agent.saw("dtmf")] == ["1", "2", "*", "#"]
    assert [event["digit"] for event in agent.named("call_dtmf")] == ["1", "2", "*", "#"]
    await agent.press("90#")
    await leg.run("expect dtmf 90# within 5s; dtmf 7 by info")
    fine(leg)
    fifth = await agent.event("call_dtmf", 5)
    assert fifth["digit"] == "7"
    await leg.run("hangup")
    fine(leg)


async def test_nothing_the_agent_says_before_the_answer_reaches_the_carrier(desk: Desk) -> None:
    """The agent talks from the start; the far end sends early media and answers later."""
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    room = desk.room()
    agent = await desk.agent(room)
    call = await bridge.dial("+919000000008", room=room)
    leg = await carrier.incoming()
    await leg.run("early media 425; expect silence 2s")
    fine(leg)
    ringing = await agent.event("call_ringing")
    assert ringing["early_media"] is True
    assert leg.media.heard.packets == 0
    await leg.run(f"answer; talk; expect audio {AGENT_HERTZ} within 5s")
    fine(leg)
    answered = await agent.event("call_answered")
    heard_at = await agent.hears(CALLER_HERTZ)
    assert not agent.heard(0, answered["received"]), "early media in the room"
    assert heard_at > answered["received"]
    first = await bridge.events(call.id)
    assert [event["event"] for event in first[:2]] == ["call_ringing", "call_answered"]
    await leg.run("hangup")
    fine(leg)


async def test_no_audio_of_the_caller_reaches_the_room_before_call_answered(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    number = now_number()
    agent = await desk.agent(room_of(number))
    leg = await carrier.dial(bridge.sip_uri(number))
    await leg.run("talk")
    heard_at = await agent.hears(CALLER_HERTZ)
    answered = await agent.event("call_answered")
    assert answered["received"] < heard_at
    await leg.run("hangup")
    fine(leg)


async def test_the_phone_of_an_inbound_call_is_what_unmodified_agents_expect(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    number = agent_number()
    agent = await desk.agent(room_of(number))
    leg = await carrier.dial(bridge.sip_uri(number), from_="+919876543210")
    await leg.run("talk")
    fine(leg)
    phone = await agent.phone()
    await agent.attribute("sip.callStatus", "active")
    (track,) = agent.saw("track", identity=phone["identity"])
    shown = agent.attributes
    assert phone["identity"] == "sip-in-+919876543210"
    assert phone["name"] == "Phone +919876543210"
    assert phone["kind"] == "PARTICIPANT_KIND_SIP"
    assert (track["name"], track["source"]) == ("sip_audio", "SOURCE_MICROPHONE")
    answered = await agent.event("call_answered")
    metadata = json.loads(phone["metadata"])
    assert metadata == {
        "source": "trunkbridge",
        "call_id": answered["call_id"],
        "trunk": "carrier",
        "direction": "inbound",
    }
    assert shown["sip.callID"] == answered["call_id"]
    assert shown["sip.callIDFull"] == leg.dialog.call_id
    assert shown["sip.phoneNumber"] == "+919876543210"
    assert shown["sip.trunkPhoneNumber"] == number
    assert shown["sip.trunkID"] == "carrier"
    assert shown["bridge.hold"] == "false"
    assert "sip.ruleID" in shown
    assert "sip.callTag" in shown
    await leg.run("hangup")
    fine(leg)
    await agent.event("call_ended")
    await agent.until(lambda: agent.saw("left", identity=phone["identity"]), "the phone leaves")


async def test_the_phone_of_an_outbound_call_says_that_it_dials_and_then_that_it_is_active(
    desk: Desk,
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    room = desk.room()
    agent = await desk.agent(room)
    call = await bridge.dial("+919000000009", room=room)
    assert call.accepted["room_name"] == room
    leg = await carrier.incoming()
    phone = await agent.phone()
    assert phone["identity"] == "sip-+919000000009"
    assert phone["attributes"]["sip.callStatus"] == "dialing"
    assert "sip.ruleID" not in phone["attributes"]
    await leg.run("ring")
    await agent.attribute("sip.callStatus", "ringing")
    await leg.run("answer")
    await agent.attribute("sip.callStatus", "active")
    await leg.run("hangup")
    fine(leg)
    await agent.event("call_ended")
    await agent.attribute("sip.callStatus", "hangup")

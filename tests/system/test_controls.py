"""What an agent does to the call: our own hold, keys, hanging up; and who may not.

The carrier judges the re-INVITEs and the RTP on the wire, a stock participant of kind AGENT
calls the RPCs, another of kind STANDARD is refused.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from bridge.sip.message import Request
from tests.system.calls import fine
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Bridge,
    Desk,
    RoomAgent,
    agent_number,
    room_of,
)

pytestmark = pytest.mark.system

MEDIA_TIMEOUT = 2  # seconds; our hold lasts longer
HELD_FOR = 4
REPLY_WITHIN = (5, 8.5)  # seconds an RPC waits for an answer that does not come
PROBE_WITHIN = (57, 65)  # seconds of a hold until the first OPTIONS
PAUSE = 0.5  # seconds, of one w


async def connected(
    desk: Desk, bridge: Bridge, carrier: Carrier, direction: str
) -> tuple[Leg, RoomAgent]:
    """Return a call heard at both ends, with an agent of kind AGENT."""
    if direction == "inbound":
        number = agent_number()
        agent = await desk.agent(room_of(number), kind="agent")
        leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    else:
        room = desk.room()
        agent = await desk.agent(room, kind="agent")
        await bridge.dial("+919000000021", room=room)
        leg = await carrier.incoming()
        await leg.run("ring; answer")
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
    fine(leg)
    await agent.hears(CALLER_HERTZ)
    return leg, agent


async def refused(agent: RoomAgent, method: str, payload: str = "") -> str:
    """Call a method that must fail; return the error's text."""
    with pytest.raises(RuntimeError) as failure:
        await agent.rpc(method, payload)
    return str(failure.value)


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
async def test_our_hold_is_a_sendonly_reinvite_and_silence_and_the_resume_brings_all_back(
    desk: Desk, direction: str
) -> None:
    """Row 70. From outside."""
    carrier = await desk.carrier()
    trunk = {"media_timeout": MEDIA_TIMEOUT, "media_timeout_initial": MEDIA_TIMEOUT}
    bridge = await desk.bridge(carrier, trunk=trunk)
    leg, agent = await connected(desk, bridge, carrier, direction)

    assert await agent.rpc("bridge.Hold") == "{}"
    held_at = time.monotonic() + 0.3
    await leg.run(
        "expect reinvite sendonly within 5s; expect version +1; expect rtp within 5s; "
        f"expect quiet {HELD_FOR}s"
    )
    fine(leg)
    assert "already" in await refused(agent, "bridge.Hold")
    assert not agent.heard(held_at, time.monotonic()), "the caller is heard on our hold"

    resumed_at = time.monotonic()
    assert await agent.rpc("bridge.Resume") == "{}"
    await leg.run(
        f"expect reinvite sendrecv within 5s; expect version +1; "
        f"expect audio {AGENT_HERTZ} within 5s"
    )
    fine(leg)
    await agent.hears(CALLER_HERTZ, since=resumed_at)
    assert "not on our hold" in await refused(agent, "bridge.Resume")
    assert await agent.rpc("lk.sip.EndCall") == "{}"
    await leg.run("expect hangup within 5s")
    fine(leg)
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "agent")
    assert [event["event"] for event in agent.events] == [
        "call_ringing",
        "call_answered",
        "call_ended",
    ]
    assert agent.muted is False
    assert not agent.saw("muted")


async def test_a_hold_of_the_carrier_on_top_of_ours_is_told_and_both_end_apart(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await connected(desk, bridge, carrier, "inbound")
    await agent.rpc("bridge.Hold")
    await leg.run("hold inactive without rtp; expect silence 1s")
    fine(leg)
    assert (await agent.event("call_hold"))["direction"] == "inactive"
    await agent.is_muted(True)
    await leg.run(
        "reinvite recvonly; expect answer sendonly; expect rtp within 5s; expect quiet 1s"
    )
    fine(leg)
    await agent.event("call_resume")
    await agent.is_muted(False)
    await agent.rpc("bridge.Resume")
    await leg.run(f"expect audio {AGENT_HERTZ} within 5s; hangup")
    fine(leg)
    await agent.event("call_ended")


async def test_a_hold_that_the_carrier_refuses_changes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows 36, 70. 488 to our re-INVITE."""
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await connected(desk, bridge, carrier, "inbound")
    with monkeypatch.context() as patch:
        patch.setattr(leg, "_reoffered", lambda invite, peer: leg.respond(invite, peer, 488))
        assert "nothing changed" in await refused(agent, "bridge.Hold")
    await leg.run(f"expect reinvite sendonly within 5s; expect audio {AGENT_HERTZ} within 5s")
    fine(leg)
    await agent.rpc("bridge.Hold")
    await leg.run("expect reinvite sendonly within 5s; expect quiet 1s; hangup")
    fine(leg)
    await agent.event("call_ended")


async def test_a_hold_answered_too_late_has_failed_and_is_undone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await connected(desk, bridge, carrier, "inbound")
    unanswered: list[tuple[Request, Any]] = []
    with monkeypatch.context() as patch:
        patch.setattr(leg, "_reoffered", lambda invite, peer: unanswered.append((invite, peer)))
        asked_at = time.monotonic()
        holding = asyncio.create_task(refused(agent, "bridge.Hold"))
        await leg.run("expect reinvite sendonly within 5s")
        fine(leg)
        assert "under way" in await refused(agent, "bridge.Resume")
        assert "in time" in await holding
        assert REPLY_WITHIN[0] <= time.monotonic() - asked_at <= REPLY_WITHIN[1]
    await leg.run(f"expect audio {AGENT_HERTZ} within 5s")
    leg._reoffered(*unanswered[0])
    await leg.run(f"expect reinvite sendrecv within 5s; expect audio {AGENT_HERTZ} within 5s")
    fine(leg)
    assert await agent.rpc("bridge.Hold") == "{}"
    await leg.run("expect reinvite sendonly within 5s; expect quiet 1s; hangup")
    fine(leg)
    await agent.event("call_ended")


@pytest.mark.timeout(150)
@pytest.mark.engines("auto")  # a minute, and nothing of the media's
async def test_held_calls_are_probed_every_minute_and_a_481_ends_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 36. 481 to a probe."""
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    theirs, there = await connected(desk, bridge, carrier, "inbound")
    ours, gone = await connected(desk, bridge, carrier, "outbound")
    await theirs.run("hold sendonly without rtp")
    fine(theirs)
    await gone.rpc("bridge.Hold")
    answer = ours._respond_in_dialog

    def forgets(request: Request, peer: Any) -> None:
        if request.method == "OPTIONS":
            ours.respond(request, peer, 481)
        else:
            answer(request, peer)

    monkeypatch.setattr(ours, "_respond_in_dialog", forgets)
    held_at = time.monotonic()
    await theirs.run(f"expect options within {PROBE_WITHIN[1]}s")
    fine(theirs)
    assert time.monotonic() - held_at > PROBE_WITHIN[0]
    ended = await gone.event("call_ended")
    assert (ended["outcome"], ended["reason"], ended["sip_status"]) == ("dropped", "peer_gone", 481)
    assert "BYE" not in ours.requests_seen
    await theirs.run(f"resume; expect audio {AGENT_HERTZ} within 5s; hangup")
    fine(theirs)
    assert (await there.event("call_ended"))["outcome"] == "completed"


async def test_keys_of_the_agent_reach_the_carrier_as_telephone_events(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await connected(desk, bridge, carrier, "inbound")
    started = time.monotonic()
    assert await agent.rpc("bridge.SendDTMF", '{"digits":"12w#"}') == "{}"
    await leg.run("expect dtmf 12# within 5s")
    fine(leg)
    assert time.monotonic() - started > PAUSE, "the pause was left out"
    await agent.press("*0")
    await leg.run("expect dtmf *0 within 5s")
    fine(leg)
    assert leg.media.heard.digits == "12#*0"
    assert leg.report.info_digits == ""
    assert "digits" in await refused(agent, "bridge.SendDTMF", '{"digits":"1x"}')
    await leg.run(f"hold sendonly; expect answer recvonly; wait {PAUSE}s")
    await agent.press("1")
    # What comes after the key on the same channel was answered: the key is no longer on its way.
    assert "hold" in await refused(agent, "bridge.SendDTMF", '{"digits":"1"}')
    await leg.run(f"resume; expect audio {AGENT_HERTZ} within 5s; hangup")
    fine(leg)
    assert leg.media.heard.digits == "12#*0"
    await agent.event("call_ended")


async def test_only_agents_control_and_anyone_may_ask_for_headers(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await connected(desk, bridge, carrier, "inbound")
    visitor = await desk.agent(agent.room, identity="visitor", hertz=None)
    for method, payload in (
        ("bridge.Hold", ""),
        ("bridge.Resume", ""),
        ("bridge.SendDTMF", '{"digits":"1"}'),
        ("bridge.Transfer", '{"to":"+919000000001"}'),
    ):
        assert "only agents" in await refused(visitor, method, payload)
    await leg.run(f"wait {PAUSE}s; expect audio {AGENT_HERTZ} within 5s")
    fine(leg)
    assert "REINVITE" not in leg.requests_seen
    assert leg.media.heard.digits == ""
    headers = json.loads(await visitor.rpc("lk.sip.GetRemoteHeaders"))["headers"]
    assert any(name.lower() == "user-agent" for name in headers), headers
    assert await visitor.rpc("lk.sip.EndCall") == "{}"
    await leg.run("expect hangup within 5s")
    fine(leg)
    await agent.event("call_ended")


@pytest.mark.parametrize("setting", ["controllers", "anyone"])
async def test_others_control_when_the_configuration_says_so(desk: Desk, setting: str) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(
        carrier,
        trunk={"control": "anyone"} if setting == "anyone" else {},
        sections={"media": {"controllers": ["boss"]}} if setting == "controllers" else {},
    )
    leg, agent = await connected(desk, bridge, carrier, "inbound")
    boss = await desk.agent(agent.room, identity="boss", hertz=None)
    assert await boss.rpc("bridge.Hold") == "{}"
    await leg.run("expect reinvite sendonly within 5s; expect quiet 1s; hangup")
    fine(leg)
    await agent.event("call_ended")

"""One call in, one call out, seen from both ends."""

from __future__ import annotations

import pytest

from tests.system.harness import AGENT_HERTZ, CALLER_HERTZ, Desk, agent_number, room_of

pytestmark = pytest.mark.system


async def test_an_inbound_call_is_answered_when_the_agent_is_there_and_is_heard_both_ways(
    desk: Desk,
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    called = agent_number()
    agent = await desk.agent(room_of(called))
    leg = await carrier.dial(bridge.sip_uri(called))
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within 10s")
    assert leg.report.failed is None
    await agent.hears(CALLER_HERTZ)
    await leg.run("hangup")
    ended = await agent.event("call_ended")
    assert [event["event"] for event in agent.events] == [
        "call_ringing",
        "call_answered",
        "call_ended",
    ]
    assert [event["seq"] for event in agent.events] == [1, 2, 3]
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")
    assert leg.report.failed is None

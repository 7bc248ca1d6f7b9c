"""Calls that many tests begin with."""

from __future__ import annotations

from collections.abc import Callable

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Desk,
    RoomAgent,
    agent_number,
    room_of,
)

TALK = f"talk; expect audio {AGENT_HERTZ} within 10s"


def fine(leg: Leg) -> None:
    """Fail with what the carrier complains about."""
    assert leg.report.failed is None, leg.report.failed


async def inbound(
    desk: Desk, sip_uri: Callable[[str], str], carrier: Carrier, number: str = ""
) -> tuple[Leg, RoomAgent]:
    """Return a call that came in to *number*, heard at both ends."""
    number = number or agent_number()
    agent = await desk.agent(room_of(number))
    leg = await carrier.dial(sip_uri(number), fresh=True)
    await leg.run(TALK)
    fine(leg)
    await agent.hears(CALLER_HERTZ)
    return leg, agent


async def the_call(agent: RoomAgent) -> str:
    """Return the id of the call in the agent's room."""
    return str((await agent.phone())["attributes"]["sip.callID"])

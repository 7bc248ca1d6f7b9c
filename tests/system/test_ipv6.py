"""Calls over IPv6, signalling and media, while IPv4 is served beside it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ports import free_port
from tests.system.calls import fine
from tests.system.harness import AGENT_HERTZ, CALLER_HERTZ, Desk, agent_number, room_of

pytestmark = pytest.mark.system


def both_families(port: int) -> dict[str, dict[str, Any]]:
    """Listen on both, and leave it to each call where its media is."""
    hosts = ("[::1]", "127.0.0.1")
    listen = [f"{transport}:{host}:{port}" for host in hosts for transport in ("tcp", "udp")]
    return {
        "sip": {"listen": listen, "advertise": "127.0.0.1"},  # to peers of IPv4
        "media": {"listen": "0.0.0.0"},
    }


SIX = {"host": "::1", "allow": ["::1/128"], "media_allow": ["::1/128"]}


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_call_over_ipv6_is_held_while_another_runs_over_ipv4(
    desk: Desk, transport: str
) -> None:
    """Row 17. RFC 5118: literals in brackets, IN IP6, media ports of the offer's family."""
    port = free_port()
    six = await desk.carrier(host="::1")
    four = await desk.carrier()
    legacy = {"name": "legacy", "host": "127.0.0.1", "port": four.port, "allow": ["127.0.0.0/8"]}
    legacy["media_allow"] = ["127.0.0.0/8"]
    await desk.bridge(six, trunk=SIX, trunks=[legacy], sections=both_families(port))
    legs = []
    for carrier, host in ((six, "[::1]"), (four, "127.0.0.1")):
        number = agent_number()
        agent = await desk.agent(room_of(number))
        leg = await carrier.dial(f"sip:{number}@{host}:{port};transport={transport}")
        await leg.run(f"talk; expect audio {AGENT_HERTZ} within 15s")
        fine(leg)
        await agent.hears(CALLER_HERTZ)
        legs.append((leg, agent))
    for leg, agent in legs:
        await leg.run("hold sendonly; expect version +1; resume; expect version +1; hangup")
        fine(leg)
        assert (await agent.event("call_ended"))["outcome"] == "completed"


async def test_a_call_is_made_over_ipv6(desk: Desk) -> None:
    carrier = await desk.carrier(host="::1", default="ring; answer after 1s; talk; stay")
    port = free_port()
    bridge = await desk.bridge(carrier, trunk=SIX, sections=both_families(port))
    room = desk.room()
    agent = await desk.agent(room)
    call = await bridge.dial("+919000000001", room=room)
    await agent.event("call_answered")
    await agent.hears(CALLER_HERTZ)
    await call.hangup()
    assert (await agent.event("call_ended"))["outcome"] == "completed"

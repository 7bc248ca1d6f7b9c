"""Kamailio between us and the carrier, writing Record-Route twice; rtpengine for the media."""

from __future__ import annotations

import asyncio

import pytest

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from bridge.carrier.exchange import Behaviour
from tests.system.between import Kamailio, RtpEngine
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

NUMBER = "+919000000061"


async def between(desk: Desk, transport: str, control: int = 0) -> tuple[Bridge, Carrier, Kamailio]:
    """Return a bridge and a carrier that know each other by Kamailio alone."""
    # RTP goes straight, or by rtpengine, while the ACK waits for its turn in Kamailio.
    carrier = await desk.carrier(record_route=False, behaviour=Behaviour(overtaking=5))
    kamailio = Kamailio(
        folder=desk.folder / "kamailio", carrier=carrier.port, side=transport, control=control
    )
    desk._stack.push_async_callback(kamailio.stop)
    bridge = await desk.bridge(kamailio.inner, trunk={"transport": transport})
    await kamailio.start(bridge.sip_port)
    return bridge, carrier, kamailio


async def inbound(desk: Desk, carrier: Carrier, kamailio: Kamailio) -> tuple[Leg, RoomAgent]:
    """The carrier calls, by way of Kamailio."""
    number = agent_number()
    agent = await desk.agent(room_of(number), kind="agent")
    leg = await carrier.dial(f"sip:{number}@127.0.0.1:{kamailio.outer};transport=tcp")
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within 20s")
    fine(leg)
    await agent.hears(CALLER_HERTZ)
    return leg, agent


async def outbound(desk: Desk, carrier: Carrier, bridge: Bridge) -> tuple[Leg, RoomAgent]:
    """We call the carrier, by way of Kamailio."""
    room = desk.room()
    agent = await desk.agent(room, kind="agent")
    await bridge.dial(NUMBER, room=room)
    leg = await carrier.incoming(20)
    await leg.run(f"ring; answer; talk; expect audio {AGENT_HERTZ} within 20s")
    fine(leg)
    await agent.hears(CALLER_HERTZ)
    return leg, agent


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_kamailio_that_records_its_route_twice_sees_every_request(
    desk: Desk, transport: str
) -> None:
    """Rows 21, 23, 24. RFC 3261 12.2.1.1, 16.12: in and out, holds and BYE of both sides."""
    bridge, carrier, kamailio = await between(desk, transport)
    (first, there), (second, here) = await asyncio.gather(
        inbound(desk, carrier, kamailio), outbound(desk, carrier, bridge)
    )
    for leg, agent in ((first, there), (second, here)):
        assert len(leg.dialog.routes) == 2, leg.dialog.routes
        await leg.run("hold sendonly")
        await agent.event("call_hold")
        await leg.run("resume")
        await agent.event("call_resume")
        for method, direction in (("bridge.Hold", "sendonly"), ("bridge.Resume", "sendrecv")):
            assert await agent.rpc(method) == "{}"
            await leg.run(f"expect reinvite {direction} within 20s")
            fine(leg)

    await first.run("hangup")
    ended = await there.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")
    await here.rpc("lk.sip.EndCall", "{}")
    await second.run("expect hangup within 20s")
    fine(second)
    assert (await here.event("call_ended"))["ended_by"] == "agent"

    # Each has called once and held and resumed twice, as has the other; each ended one call.
    wanted = {"INVITE": 5, "ACK": 5, "BYE": 1}
    assert kamailio.passed(bridge.sip_port) == wanted, kamailio.story()
    assert kamailio.passed(carrier.port) == wanted, kamailio.story()


async def test_rtpengine_relays_the_media_through_holds_and_a_moved_port(desk: Desk) -> None:
    """Row 66. RFC 3264 8.3.1: neither end knows an address but rtpengine's."""
    relay = RtpEngine(folder=desk.folder / "rtpengine")
    desk._stack.push_async_callback(relay.stop)
    await relay.start()
    bridge, carrier, kamailio = await between(desk, "udp", relay.control)
    calls = await asyncio.gather(inbound(desk, carrier, kamailio), outbound(desk, carrier, bridge))
    for leg, agent in calls:
        remote = leg.media.remote
        assert remote is not None
        assert relay.first <= remote[1] <= relay.last
        await leg.run(f"hold sendonly; resume; expect audio {AGENT_HERTZ} within 20s")
        fine(leg)
        resumed = await agent.event("call_resume")
        await agent.hears(CALLER_HERTZ, since=resumed["received"])
        await leg.run(f"move; expect audio {AGENT_HERTZ} within 20s; dtmf 5")
        fine(leg)
        await agent.until(lambda a=agent: [k["digit"] for k in a.saw("dtmf")] == ["5"], "a key")
        await leg.run("hangup")
        fine(leg)
        assert (await agent.event("call_ended"))["outcome"] == "completed"

"""Rooms that break in other ways than with their server: cut lines, removals, agents that go."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from livekit import api
from livekit.rtc.room import SimulateScenarioKind

from bridge.carrier.carrier import Carrier
from bridge.config.loading import load
from bridge.daemon import Daemon
from tests.ports import free_port
from tests.system.cable import Cable
from tests.system.calls import fine, inbound
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    AgentHost,
    Bridge,
    Desk,
    RoomAgent,
    agent_number,
    now_number,
    room_of,
    room_service,
    until,
)

pytestmark = pytest.mark.system


def seqs(agent: RoomAgent) -> list[int]:
    """Return the numbers of the events that the agent was sent."""
    return [int(event["seq"]) for event in agent.events]


# --- a line that is cut ------------------------------------------------------------------


@pytest.fixture
async def cable(desk: Desk) -> AsyncIterator[Cable]:
    """The daemon's way to the server."""
    made = Cable(int(desk.server.http_url.rpartition(":")[2]))
    await made.plug()
    yield made
    await made.unplug()


async def behind(desk: Desk, cable: Cable, carrier: Carrier) -> Bridge:
    """Return a daemon that reaches its server by *cable*."""
    url = {"livekit": {"url": f"ws://127.0.0.1:{cable.port}"}}
    return await desk.bridge(carrier, sections=url)


async def test_a_cut_line_is_left_to_the_sdk_which_resumes(desk: Desk, cable: Cable) -> None:
    carrier = await desk.carrier()
    bridge = await behind(desk, cable, carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    for count in (1, 2):
        cable.cut()
        await leg.run("hold sendonly; wait 1s; resume")
        fine(leg)
        await agent.event("call_resume", count)
    resumed_at = time.monotonic()
    await leg.run(f"expect audio {AGENT_HERTZ} within 8s; hold inactive")
    await agent.event("call_hold", 3)
    await agent.attribute("bridge.hold", "true")
    await agent.is_muted(True)
    await leg.run("hangup")
    fine(leg)
    await agent.event("call_ended")
    assert seqs(agent) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert not agent.saw("left", resumed_at - 60)[:-1], "the phone left once, at the end"
    assert len(agent.saw("participant")) == 1, "the same participant all the time"
    assert not [line for line in bridge.logs if line.event == "room.given_up"]


@pytest.mark.parametrize("way", ["refused", "silent"])
async def test_a_server_that_cannot_be_reached_is_joined_anew_without_doubles(
    desk: Desk, cable: Cable, way: str
) -> None:
    carrier = await desk.carrier()
    bridge = await behind(desk, cable, carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    if way == "refused":
        await cable.unplug()
    else:
        cable.stall()
    await leg.run("hold sendonly; wait 2s; resume; hold inactive")
    fine(leg)
    if way == "refused":
        await cable.plug()
    else:
        cable.go_on()
    await agent.event("call_hold", 2)
    await agent.attribute("bridge.hold", "true")
    await agent.is_muted(True)
    back_at = time.monotonic()
    await leg.run(f"resume; expect audio {AGENT_HERTZ} within 8s")
    fine(leg)
    await agent.hears(CALLER_HERTZ, since=back_at)
    await leg.run("hangup")
    fine(leg)
    await agent.event("call_ended")
    assert seqs(agent) == [1, 2, 3, 4, 5, 6, 7]
    left = [line["reason"] for line in agent.saw("left")]
    assert "CLIENT_INITIATED" not in left[:-1], "at that an agent would close its session"


# --- the SDK's own simulations, in a whole call ------------------------------------------


@contextlib.asynccontextmanager
async def daemon_here(desk: Desk, carrier: Carrier, folder: Path) -> AsyncIterator[Any]:
    """Run a daemon in this process, where its rooms can be reached; yield it and its address."""
    await asyncio.to_thread(folder.mkdir)
    outside = Bridge(folder, desk.server, carrier_port=carrier.port)
    daemon = Daemon(load(outside.config), path=outside.config)
    await daemon.start()
    try:
        yield daemon, outside.sip_uri
    finally:
        await daemon.hang_up_all()
        await daemon.stop()
        await outside.client.aclose()


@pytest.mark.engines("sdk")
@pytest.mark.parametrize(
    "scenario",
    [
        SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT,
        SimulateScenarioKind.SIMULATE_FULL_RECONNECT,
    ],
)
async def test_a_simulated_reconnect_keeps_call_hold_attributes_and_mute(
    desk: Desk, tmp_path: Path, scenario: int
) -> None:
    carrier = await desk.carrier()
    async with daemon_here(desk, carrier, tmp_path / "here") as (daemon, sip_uri):
        leg, agent = await inbound(desk, sip_uri, carrier)
        await leg.run("hold sendonly")
        await agent.event("call_hold")
        (call,) = daemon.service._calls.values()
        room = call.media.room._link._room
        back = asyncio.Event()
        room.on("reconnected", back.set)
        begun_at = time.monotonic()
        await room.simulate_scenario(scenario)
        await asyncio.wait_for(back.wait(), 15)
        late = await desk.agent(agent.room, "late")
        await late.event("call_hold")
        assert late.attributes["bridge.hold"] == "true"
        assert late.attributes["sip.callStatus"] == "active"
        await late.is_muted(True)
        await leg.run("resume")
        await agent.event("call_resume")
        await agent.hears(CALLER_HERTZ, since=begun_at)
        await leg.run(f"expect audio {AGENT_HERTZ} within 8s; hangup")
        fine(leg)
        await agent.event("call_ended")
        assert seqs(agent) == [1, 2, 3, 4, 5]


# --- removal, agents that go -------------------------------------------------------------


async def test_a_call_whose_participant_is_removed_ends(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    phone = await agent.phone()
    async with room_service(desk.server) as service:
        await service.room.remove_participant(
            api.RoomParticipantIdentity(room=agent.room, identity=phone["identity"])
        )
    await leg.run("expect hangup within 5s")
    fine(leg)
    ended = await bridge.ended(phone["attributes"]["sip.callID"])
    assert (ended["outcome"], ended["reason"]) == ("completed", "participant_removed")


async def test_a_call_outlives_one_crashed_agent_and_not_the_last(
    desk: Desk, tmp_path: Path
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"agent_gone_timeout": 2})
    leg, agent = await inbound(desk, bridge.sip_uri, carrier)
    call_id = (await agent.phone())["attributes"]["sip.callID"]
    other_host = AgentHost(tmp_path / "other-agents.log")
    try:
        other = RoomAgent(other_host, desk.server, agent.room, "other")
        await other.join()
        await other.event("call_answered")
        await agent.leave()
        await leg.run(f"wait 4s; expect audio {AGENT_HERTZ} within 2s; options")
        fine(leg)
        other_host.kill()
        await leg.run("expect hangup within 40s")
        fine(leg)
    finally:
        other_host.stop()
    ended = await bridge.ended(call_id)
    assert (ended["outcome"], ended["reason"]) == ("completed", "agent_gone")


async def test_an_agent_back_after_its_replacement_was_asked_has_it_recalled(
    private_desk: Desk, private_livekit: Any
) -> None:
    carrier = await private_desk.carrier()
    number = now_number()
    route = {"number": number, "room": "in-{number}", "answer": "now", "agent": "helper"}
    bridge = await private_desk.bridge(carrier, routes=[route])
    room = room_of(number)
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await leg.run("talk; wait 200ms")
    agent = await private_desk.agent(room, kind="agent")
    await agent.hears(CALLER_HERTZ)
    private_livekit.kill()
    await agent.leave()
    assert await asyncio.to_thread(private_livekit.start)

    async def asked(times: int) -> bool:
        async with room_service(private_desk.server) as service:
            if not (await service.room.list_rooms(api.ListRoomsRequest(names=[room]))).rooms:
                return False
            found = await service.agent_dispatch.list_dispatch(room)
        return sum(one.agent_name == "helper" for one in found) == times

    await until(lambda: asked(1), "another agent is asked", 8)
    back = await private_desk.agent(room, kind="agent")
    await until(lambda: asked(0), "it is recalled", 8)
    await back.hears(CALLER_HERTZ)
    await leg.run(f"expect audio {AGENT_HERTZ} within 8s; hangup")
    fine(leg)


# --- several who speak -------------------------------------------------------------------


def share(samples: array[int], hertz: int) -> float:
    """Return which part of the energy of *samples* is at *hertz*."""
    turn = 2 * math.pi * hertz / 8000
    real = sum(x * math.cos(turn * i) for i, x in enumerate(samples))
    imaginary = sum(x * math.sin(turn * i) for i, x in enumerate(samples))
    energy = sum(x * x for x in samples) or 1
    return 2 * (real * real + imaginary * imaginary) / (len(samples) * energy)


async def test_three_agents_and_a_human_are_mixed(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    voices = {"a": 600, "b": 1000, "c": 1700, "human": 2300}
    number = now_number()
    for identity, hertz in voices.items():
        kind = "standard" if identity == "human" else "agent"
        await desk.agent(room_of(number), identity, hertz=hertz, kind=kind, rate=8000)
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await leg.run("talk")
    fine(leg)

    def all_heard() -> bool:
        last = leg.media.heard.samples()[-4000:]
        return len(last) == 4000 and all(share(last, hertz) > 0.1 for hertz in voices.values())

    await until(all_heard, "all four voices", poll=0.3)
    await leg.run("hangup")
    fine(leg)


# --- a peer that is gone while held ------------------------------------------------------

IN_SECONDS = (
    "import bridge.call.peer as peer, bridge.sip.transaction as transaction;"
    "peer.PROBE_INTERVAL = 1.0;"  # for 60 s
    "transaction.Timers.patience = property(lambda _: 1.0);"  # for 64*T1
    "from bridge.__main__ import main; main()"
)


@pytest.mark.engines("auto")
@pytest.mark.parametrize("scenario", ["uac-held-gone", "uac-held-silent"])
async def test_a_peer_that_is_gone_while_it_holds_ends_the_call(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, scenario: str
) -> None:
    monkeypatch.setattr(Bridge, "program", ("-c", IN_SECONDS))
    bridge = await desk.bridge()
    number = agent_number()
    agent = await desk.agent(room_of(number))
    sipp = desk.sipp(
        scenario,
        target=f"127.0.0.1:{bridge.sip_port}",
        port=free_port(),
        keys={"number": number, "caller": "+919876543210"},
    )
    await sipp.start()
    await sipp.reached("talking")
    await sipp.go_on()
    await sipp.reached("held")
    await agent.event("call_hold")
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["reason"]) == ("dropped", "peer_gone")
    await sipp.passed()

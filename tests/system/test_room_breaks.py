"""What breaks between the direct engine and its room, and how long it is not heard.

The daemon's signalling goes by a cable that can be cut, its media by a relay that can be
blocked; what each end did not hear is measured in what it recorded, printed, and judged with
much room, as the machines of tests are slow.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from livekit.protocol.rtc import SignalRequest, SimulateScenario

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from tests.soak.census import SOON, Census, SeenBridge, take
from tests.system.cable import Cable
from tests.system.calls import fine, inbound
from tests.system.conftest import PrivateLiveKit
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    Bridge,
    Desk,
    RoomAgent,
    now_number,
    until,
)
from tests.system.meter import judge
from tests.system.relay import Relay, relayed

CALLS = int(os.environ.get("TRUNKBRIDGE_CHURN", "60"))
AT_A_TIME = int(os.environ.get("TRUNKBRIDGE_AT_A_TIME", "4"))
BACK_WITHIN = 1.0  # seconds after the peer is reachable again
SLACK = 1.5  # seconds more, for a busy machine
SMALL = 0.5  # seconds at most for what is repaired beside the media: a busy machine stalls too
AWAY = 2.0  # seconds
BLOCKED = 8.0  # seconds without media: longer than a path is trusted
OTHER_HERTZ = 1700
RSS_ROOM_MB = 24.0
RSS_PER_CALL_KB = 20.0

pytestmark = [
    pytest.mark.system,
    pytest.mark.engines("direct"),
    pytest.mark.timeout(120 + CALLS),
]


@dataclass(frozen=True, kw_only=True)
class Way:
    """Between the daemon and its room."""

    cable: Cable
    relay: Relay
    bridge: Bridge
    carrier: Carrier


@asynccontextmanager
async def way(desk: Desk, *, old: bool = False) -> AsyncIterator[Way]:
    """Start a daemon behind a cable and a relay."""
    real = desk.server.udp_port
    async with relayed() as relay:
        http = int(desk.server.http_url.rpartition(":")[2])
        cable = Cable(http, media=(real, await relay.open(real)), old=old)
        await cable.plug()
        carrier = await desk.carrier()
        url = {"livekit": {"url": f"ws://127.0.0.1:{cable.port}"}}
        bridge = await desk.bridge(carrier, sections=url)
        try:
            yield Way(cable=cable, relay=relay, bridge=bridge, carrier=carrier)
        finally:
            await cable.unplug()


@asynccontextmanager
async def missed(what: str, leg: Leg, agent: RoomAgent, most: float) -> AsyncIterator[None]:
    """Let both ends listen to what happens in here; neither may miss more than *most* seconds."""
    before = len(leg.media.heard.samples())
    await agent.keep()
    await leg.run("wait 300ms")
    begun_at = time.monotonic()
    yield
    await leg.run(f"expect audio {AGENT_HERTZ} within 10s; wait 1s")
    fine(leg)
    seconds = time.monotonic() - begun_at
    phone = judge(leg.media.heard.samples()[before:])
    room = await agent.kept()
    sys.stdout.write(f"{what}: missed by the phone {phone['gap_ms']:.0f} ms, ")
    sys.stdout.write(f"by the agent {room['gap_ms']:.0f} ms\n")
    assert phone["gap_ms"] <= 1000 * most, phone
    assert room["gap_ms"] <= 1000 * most, room
    # From sound before to sound after: what was missed lies between.
    assert phone["seconds"] > seconds
    assert room["seconds"] > seconds - 0.3


async def ended_well(leg: Leg, agent: RoomAgent) -> None:
    """Hang up a call that was answered once, and whose phone left once."""
    assert len(agent.saw("participant")) == 1, "the same participant all the time"
    assert not agent.saw("left")
    await leg.run("hangup")
    fine(leg)
    ended = await agent.event("call_ended")
    assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")


async def test_a_cut_signalling_socket_is_resumed_and_nobody_misses_anything(
    lite_desk: Desk,
) -> None:
    async with way(lite_desk) as there:
        leg, agent = await inbound(lite_desk, there.bridge.sip_uri, there.carrier, now_number())
        async with missed("socket cut", leg, agent, SMALL):
            for _ in range(3):
                before = there.cable.accepted
                there.cable.cut()
                await until(lambda before=before: there.cable.accepted > before, "a new socket")
                await leg.run("wait 500ms")
        await leg.run("hold sendonly")
        await agent.event("call_hold")
        await agent.is_muted(True)
        await leg.run("resume")
        await agent.event("call_resume")
        await ended_well(leg, agent)


async def test_an_ice_restart_of_the_server_is_answered_and_nobody_misses_anything(
    lite_desk: Desk,
) -> None:
    """On a server without ``/rtc/v1``: only of its own connection it restarts ICE."""
    async with way(lite_desk, old=True) as there:
        leg, agent = await inbound(lite_desk, there.bridge.sip_uri, there.carrier, now_number())
        restart = SignalRequest(simulate=SimulateScenario(switch_candidate_protocol=0))  # type: ignore[arg-type]
        async with missed("ICE restarted by the server", leg, agent, SMALL):
            for _ in range(3):
                there.cable.say(restart.SerializeToString())
                await leg.run("wait 800ms")
        await ended_well(leg, agent)


async def test_a_path_that_was_gone_is_repaired_by_an_ice_restart_of_ours(
    lite_desk: Desk,
) -> None:
    async with way(lite_desk) as there:
        leg, agent = await inbound(lite_desk, there.bridge.sip_uri, there.carrier, now_number())
        longest = BLOCKED + BACK_WITHIN + SLACK
        async with missed(f"no path for {BLOCKED:g} s", leg, agent, longest):
            await there.relay.ask("block")
            await leg.run(f"wait {BLOCKED:g}s")
            await there.relay.ask("unblock")
        await ended_well(leg, agent)


async def test_audio_is_back_within_a_second_of_the_servers_and_the_agents_return(
    lite_desk: Desk, lite_livekit: PrivateLiveKit
) -> None:
    async with way(lite_desk) as there:
        leg, agent = await inbound(lite_desk, there.bridge.sip_uri, there.carrier, now_number())
        lite_livekit.kill()
        await agent.leave()
        successor = lite_desk.waiting_agent(agent.room, "successor")
        joining = asyncio.create_task(successor.join(when_up=True))
        await leg.run(f"wait {AWAY:g}s")
        assert await asyncio.to_thread(lite_livekit.start)
        await joining
        there_at, wall = time.monotonic(), time.time()
        agent_at = await successor.hears(CALLER_HERTZ)
        await until(
            lambda: leg.media.heard.sounding(wall, AGENT_HERTZ), "the phone hears", poll=0.02
        )
        phone, room = time.monotonic() - there_at, agent_at - there_at
        sys.stdout.write(f"server restarted: back for the phone after {phone:.2f} s, ")
        sys.stdout.write(f"for the agent after {room:.2f} s of its own return\n")
        assert phone <= BACK_WITHIN + SLACK
        assert room <= BACK_WITHIN + SLACK
        await leg.run("hangup")
        fine(leg)
        ended = await successor.event("call_ended")
        assert (ended["outcome"], ended["ended_by"]) == ("completed", "caller")


async def test_an_agent_that_publishes_anew_ten_times_is_heard_each_time(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent = await inbound(desk, bridge.sip_uri, carrier, now_number())
    took = []
    for round_ in range(10):
        hertz = AGENT_HERTZ if round_ % 2 else OTHER_HERTZ
        await agent.publish_anew(hertz)
        published_at = time.monotonic()
        await leg.run(f"expect audio {hertz} within 5s")
        fine(leg)
        took.append(time.monotonic() - published_at)
    sys.stdout.write(f"published anew: heard after {', '.join(f'{one:.2f}' for one in took)} s\n")
    assert max(took) <= BACK_WITHIN + SLACK
    await agent.hears(CALLER_HERTZ)
    assert len(agent.saw("left")) == 0
    await leg.run("hangup")
    fine(leg)
    await agent.event("call_ended")


# --- many calls --------------------------------------------------------------------------


async def churn(desk: Desk, bridge: Bridge, calls: int) -> None:
    """Make short calls, several at a time; to every tenth there is an agent."""
    left = iter(range(calls))

    async def one_after_another(carrier: Carrier) -> None:
        for index in left:
            if index % 10 == 0:
                leg, agent = await inbound(desk, bridge.sip_uri, carrier, now_number())
                await leg.run("hangup")
                await agent.event("call_ended")
                await agent.leave()
            else:
                leg = await carrier.dial(bridge.sip_uri(now_number()))
                await leg.run("talk 300ms; hangup")
            fine(leg)

    async with Carrier() as carrier:
        await asyncio.gather(*(one_after_another(carrier) for _ in range(AT_A_TIME)))


async def settled(bridge: SeenBridge, desk: Desk, before: Census | None) -> Census:
    """Wait until nothing of any call is left, and count with care."""
    deadline = time.monotonic() + 60
    while left := (await take(bridge, desk.server)).not_back(before, SOON):
        assert time.monotonic() < deadline, f"left over: {', '.join(left)}"
        await asyncio.sleep(0.5)  # another process's state
    return await take(bridge, desk.server, deep=True)


async def test_after_many_short_calls_no_socket_thread_memory_or_room_is_left(
    lite_desk: Desk, tmp_path: Path
) -> None:
    """``TRUNKBRIDGE_CHURN=2000`` for as many, ``TRUNKBRIDGE_AT_A_TIME=8`` for more at once."""
    folder = tmp_path / "bridge"
    folder.mkdir()
    bridge = SeenBridge(folder, lite_desk.server)
    lite_desk.bridges.append(bridge)
    await bridge.start()
    await churn(lite_desk, bridge, 2 * AT_A_TIME)
    before = await settled(bridge, lite_desk, None)
    began = time.monotonic()
    await churn(lite_desk, bridge, CALLS)
    seconds = time.monotonic() - began
    after = await settled(bridge, lite_desk, before)
    grown = after.rss - before.rss
    sys.stdout.write(f"{CALLS} calls in {seconds:.0f} s: memory {before.rss:.1f} -> ")
    sys.stdout.write(f"{after.rss:.1f} MB, {1024 * grown / CALLS:.1f} kB a call\n")
    assert grown <= RSS_ROOM_MB + RSS_PER_CALL_KB * CALLS / 1024

"""``engine = "auto"``: direct where it can be, else the SDK engine by itself, with the reason."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from tests.system.calls import fine, the_call
from tests.system.conftest import started_server
from tests.system.engines import need
from tests.system.harness import (
    AGENT_HERTZ,
    CALLER_HERTZ,
    AgentHost,
    Bridge,
    Desk,
    RoomAgent,
    now_number,
    room_of,
)
from tests.system.test_room_breaks import way

pytestmark = [pytest.mark.system, pytest.mark.engines("auto")]

PATIENT = 30  # seconds: a path that is not there is waited for before another is tried


@pytest.fixture(autouse=True)
def native() -> None:
    """Without the native module there is no choice."""
    need("direct")


@pytest.fixture
async def opus_desk(agent_host: AgentHost, engine: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """A server whose operator allows Opus only."""
    assert engine == "auto"
    private = started_server(tmp_path, room=", enabled_codecs: [{mime: audio/opus}]")
    folder = tmp_path / "desk"
    folder.mkdir()
    try:
        async with Desk(private.server, agent_host, folder) as made:
            yield made
    finally:
        private.stop()


async def carried(
    desk: Desk, bridge: Bridge, carrier: Carrier
) -> tuple[Leg, RoomAgent, tuple[str, str]]:
    """Return a call that is heard at both ends, its engine and the reason."""
    number = now_number()
    agent = await desk.agent(room_of(number))
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await leg.run(f"talk; expect audio {AGENT_HERTZ} within {PATIENT}s")
    fine(leg)
    await agent.hears(CALLER_HERTZ, within=PATIENT)
    record = await bridge.resource(await the_call(agent))
    return leg, agent, (record["media_engine"], record["media_engine_reason"])


async def test_a_call_is_carried_by_the_direct_engine(desk: Desk) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    leg, agent, engine = await carried(desk, bridge, carrier)
    assert engine == ("direct", None)
    await leg.run("hangup")
    await agent.event("call_ended")


async def test_a_call_over_an_old_signalling_path_is_carried_by_the_direct_engine(
    lite_desk: Desk,
) -> None:
    async with way(lite_desk, old=True) as there:
        leg, agent, engine = await carried(lite_desk, there.bridge, there.carrier)
        assert engine == ("direct", None)
        await leg.run("hangup")
        await agent.event("call_ended")


async def test_where_udp_is_blocked_calls_are_carried_by_the_sdk_engine(lite_desk: Desk) -> None:
    async with way(lite_desk) as there:
        await there.relay.ask("block")
        for _ in range(2):  # the second at once: the reason is remembered
            leg, agent, engine = await carried(lite_desk, there.bridge, there.carrier)
            assert engine == ("sdk", "udp_blocked")
            await leg.run("hangup")
            await agent.event("call_ended")


async def test_where_g711_is_disabled_calls_are_carried_by_the_sdk_engine(opus_desk: Desk) -> None:
    carrier = await opus_desk.carrier()
    bridge = await opus_desk.bridge(carrier)
    leg, agent, engine = await carried(opus_desk, bridge, carrier)
    assert engine == ("sdk", "codec_disabled")
    await leg.run("hangup")
    await agent.event("call_ended")

"""Agents that know nothing of trunkbridge: unmodified ones, and one for an older bridge."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.carrier.carrier import Carrier
from tests.agents.older import HERTZ
from tests.system.calls import fine
from tests.system.conftest import LiveKitServer, PrivateLiveKit
from tests.system.gateway import GREETING, REPLY, VOICE_HERTZ, Gateway
from tests.system.harness import ROOT, AgentHost, Bridge, Desk, now_number, until
from tests.system.workers import Worker, now, working

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

NUMBER = "+919000000031"


# Unmodified livekit-agents: every room of the server is theirs, so the server is the test's.


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    made = Gateway()
    async with made.open():
        yield made


@pytest.fixture
async def own_desk(
    private_livekit: PrivateLiveKit, agent_host: AgentHost, tmp_path: Path
) -> AsyncIterator[Desk]:
    async with Desk(private_livekit.server, agent_host, tmp_path) as made:
        yield made


async def on_the_phone(
    desk: Desk, gateway: Gateway, file: Path, direction: str, agent: str = ""
) -> None:
    """Run an agent's file by its own command line, in its mode for development, for one call.

    A worker that has just registered: on a busy machine it gets no second job.
    """
    carrier = await desk.carrier()
    answer = {"answer": "agent", "agent": agent} if agent else {"answer": "now"}
    bridge = await desk.bridge(carrier, routes=[{"number": "*", "room": "in-{number}", **answer}])
    worker = Worker(
        desk.server, [str(file), "dev"], env={"LIVEKIT_INFERENCE_URL": gateway.url}, cwd=file.parent
    )
    worker.start()
    try:
        await worker.ready("registered worker")
        if direction == "outbound":
            await out(desk, bridge, carrier, gateway, agent)
        else:
            await into(bridge, carrier, gateway)
    finally:
        worker.stop()


async def out(desk: Desk, bridge: Bridge, carrier: Carrier, gateway: Gateway, agent: str) -> None:
    """The agent greets after the answer, replies, and ends the call when it has a tool for it."""
    call = await bridge.dial(NUMBER, room=desk.room(), agent=agent or None)
    leg = await carrier.incoming()
    await leg.run("ring")
    # The model is asked for the greeting while it rings; nobody is there to hear it.
    await until(lambda: gateway.said, "the agent greets", 30)
    await leg.run("wait 1s")
    assert leg.media.heard.packets == 0
    await leg.run(f"answer; expect audio {VOICE_HERTZ} within 10s; wait 1s")
    fine(leg)
    assert gateway.said[0].startswith(GREETING.split(".")[0])
    await leg.run(f"wait 1s; tone 440 700ms; expect audio {VOICE_HERTZ} within 15s")
    fine(leg)
    assert any(text.startswith(REPLY.split(".")[0]) for text in gateway.said)
    await leg.run("wait 2s; tone 440 700ms")
    if gateway.knows("end_call"):
        await leg.run("stay 20s")
        fine(leg)
        ended = await bridge.ended(call.id, 20)
        assert (ended["outcome"], ended["ended_by"]) == ("completed", "agent")
        assert len(gateway.said) > 2  # and a farewell
    else:
        await leg.run("hangup")
        fine(leg)
        assert (await bridge.ended(call.id))["ended_by"] == "callee"


async def into(bridge: Bridge, carrier: Carrier, gateway: Gateway) -> None:
    """The agent greets, outlives a hold, replies; the caller hangs up."""
    leg = await carrier.dial(bridge.sip_uri(now_number()))
    await leg.run(f"expect audio {VOICE_HERTZ} within 30s; wait 2s")
    await leg.run("hold sendonly; expect silence 1s; resume; wait 500ms")
    fine(leg)
    await leg.run(f"tone 440 700ms; expect audio {VOICE_HERTZ} within 15s; hangup")
    fine(leg)
    assert gateway.heard


both = pytest.mark.parametrize("direction", ["inbound", "outbound"])


@both
async def test_a_plain_agent_of_livekit_agents_is_on_the_phone(
    own_desk: Desk, gateway: Gateway, direction: str
) -> None:
    await on_the_phone(own_desk, gateway, ROOT / "tests" / "agents" / "plain.py", direction)


if EXAMPLES := os.environ.get("LIVEKIT_AGENTS_EXAMPLES"):

    @both
    @pytest.mark.parametrize(
        ("example", "agent"),
        [
            ("voice_agents/basic_agent.py", ""),
            ("telephony/basic_dtmf_agent.py", "my-telephony-agent"),
        ],
    )
    async def test_an_unmodified_example_of_livekit_agents_is_on_the_phone(
        own_desk: Desk, gateway: Gateway, tmp_path: Path, direction: str, example: str, agent: str
    ) -> None:
        """``LIVEKIT_AGENTS_EXAMPLES``: the folder ``examples`` of a checkout of livekit/agents."""
        file = tmp_path / Path(example).name
        shutil.copyfile(Path(EXAMPLES) / example, file)
        await on_the_phone(own_desk, gateway, file, direction, agent)


# An agent for the older bridge.


async def test_an_agent_that_knows_topic_and_events_only_waits_holds_and_leaves(
    desk: Desk, livekit: LiveKitServer
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    with working(livekit, "older") as worker:
        await worker.ready()
        for late in (0, 4):
            await older_call(desk, bridge, carrier, worker, late)


async def older_call(
    desk: Desk, bridge: Bridge, carrier: Carrier, worker: Worker, late: float
) -> None:
    """One call; *late* seconds pass before the agent joins, by then it is answered and held."""
    began = now()
    await bridge.dial(NUMBER, room=desk.room(), agent="older", metadata={"late": late})
    leg = await carrier.incoming()
    if late:
        await leg.run("answer; hold sendonly")
    else:
        await leg.run("ring; wait 2s")
        assert not worker.saw("speaks", began)
        await leg.run(f"answer; expect audio {HERTZ} within 10s; hold inactive")
    fine(leg)
    await worker.sees("event", name="call_hold", since=began)
    await leg.run("expect silence 2s")
    fine(leg)
    resumed_at = now()
    await leg.run(f"resume; expect audio {HERTZ} within 5s; hangup")
    fine(leg)
    await worker.sees("leaves", since=resumed_at)
    names = [line["name"] for line in worker.saw("event", began)]
    expected = ["call_answered", "call_hold", "call_resume", "call_ended"]
    assert [name for name in names if name != "call_ringing"] == expected

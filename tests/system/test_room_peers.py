"""Who else may be in the room: every kind of participant hears the caller, and is heard.

PCMU and PCMA calls; both ways the frequency, the level, and no gap. Each listens for
`SECONDS`; ``TRUNKBRIDGE_LISTEN=60`` for a minute.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Behaviour
from tests.system.calls import fine
from tests.system.conftest import LiveKitServer
from tests.system.harness import AGENT_HERTZ, CALLER_HERTZ, Desk, now_number, room_of
from tests.system.meter import judge
from tests.system.room_peers import VOICE_DBOV, RoomPeer, browser_peer, go_peer
from tests.system.workers import Worker, now, working

SECONDS = float(os.environ.get("TRUNKBRIDGE_LISTEN", "3"))
LONGEST_GAP = 60.0 if SECONDS >= 60 else 200.0
"""ms. One stall of a machine that does other things as well ends a short look, not a long one."""
CALLER_DBOV = -13.5  # of the carrier's tone
NEAR = 1.5  # dB
HIGH = 0.02  # of a frequency

pytestmark = [
    pytest.mark.system,
    pytest.mark.engines("direct"),
    pytest.mark.timeout(100 + 2 * SECONDS),
]
laws = pytest.mark.parametrize("law", ["PCMU", "PCMA"])


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call that talks in one law."""

    leg: Leg
    room: str

    async def judged(self) -> None:
        """Let the phone listen for `SECONDS`, and judge what it heard."""
        before = len(self.leg.media.heard.samples())
        await self.leg.run(f"wait {SECONDS:g}s")
        fine(self.leg)
        good("the phone", judge(self.leg.media.heard.samples()[before:]), AGENT_HERTZ, VOICE_DBOV)


def good(who: str, heard: dict[str, Any], hertz: int, dbov: float) -> None:
    """Judge what somebody heard of a tone."""
    sys.stdout.write(f"{who}: {heard}\n")
    assert heard["seconds"] >= 0.7 * SECONDS, heard
    assert heard["hertz"] == pytest.approx(hertz, rel=HIGH), heard
    assert heard["dbov"] == pytest.approx(dbov, abs=NEAR), heard
    assert heard["gap_ms"] <= LONGEST_GAP, heard


@asynccontextmanager
async def called(desk: Desk, law: str, **options: Any) -> AsyncIterator[Call]:
    """Call, talk in *law*, and hang up at the end."""
    carrier = await desk.carrier(behaviour=Behaviour(codecs=(law,)))
    bridge = await desk.bridge(carrier, trunk={"codecs": [law]}, **options)
    number = now_number()
    leg = await carrier.dial(bridge.sip_uri(number), fresh=True)
    await leg.run("talk")
    fine(leg)
    yield Call(leg=leg, room=room_of(number))
    await leg.run("hangup")
    fine(leg)


async def both_hear(call: Call, peer: RoomPeer, codec: str) -> None:
    """Let *peer* and the phone listen to each other."""
    await call.leg.run(f"expect audio {AGENT_HERTZ} within 15s")
    fine(call.leg)
    await peer.measure()
    await call.judged()
    heard = await peer.report()
    good("the peer", heard, CALLER_HERTZ, CALLER_DBOV)
    assert heard["codec"] == codec


@laws
async def test_a_stock_sdk_participant_hears_the_caller_and_is_heard(desk: Desk, law: str) -> None:
    async with called(desk, law) as call:
        agent = await desk.agent(call.room)
        await agent.hears(CALLER_HERTZ)
        await call.leg.run(f"expect audio {AGENT_HERTZ} within 10s")
        fine(call.leg)
        await agent.keep()
        await call.judged()
        good("the agent", await agent.kept(), CALLER_HERTZ, CALLER_DBOV)


@laws
async def test_chromium_with_livekit_client_hears_the_caller_and_is_heard(
    desk: Desk, tmp_path: Path, law: str, engine: str
) -> None:
    async with called(desk, law) as call, browser_peer(desk.server, call.room, tmp_path) as peer:
        await both_hear(call, peer, "audio/opus" if engine == "sdk" else f"audio/{law}")


@laws
async def test_the_go_sdk_hears_the_caller_and_is_heard(
    desk: Desk, tmp_path: Path, law: str
) -> None:
    """It decodes G.711 only: the caller's own octets."""
    async with called(desk, law) as call, go_peer(desk.server, call.room, tmp_path) as peer:
        await both_hear(call, peer, f"audio/{law}")


@pytest.fixture(scope="module")
def listener(livekit: LiveKitServer) -> Iterator[Worker]:
    """A worker of livekit-agents."""
    with working(livekit, "listener") as made:
        yield made


@laws
async def test_a_livekit_agents_session_hears_the_caller_and_is_heard(
    desk: Desk, listener: Worker, law: str
) -> None:
    await listener.ready()
    began = now()
    route = {
        "number": "*",
        "room": "in-{number}",
        "answer": "now",
        "agent": "listener",
        "metadata": {"seconds": SECONDS},
    }
    async with called(desk, law, routes=[route]) as call:
        await call.leg.run(f"expect audio {AGENT_HERTZ} within 20s")
        fine(call.leg)
        await call.judged()
        heard = await listener.sees("sound", since=began, within=SECONDS + 15)
        good("the session", heard, CALLER_HERTZ, CALLER_DBOV)

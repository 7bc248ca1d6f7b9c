"""`phone.follow(session)` on real calls: a live AgentSession with models of ours, held for real.

The carrier holds and resumes; while it holds, the agent keeps asking for speech in every
way there is, and the carrier plays hold music.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from tests.agents.models import VOICE_HERTZ
from tests.system.conftest import LiveKitServer
from tests.system.harness import Bridge, Desk
from tests.system.test_survival import fine
from tests.system.workers import Line, Worker, now

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

AWAY = 1.5  # seconds
MUSIC_HERTZ = 660


@pytest.fixture(scope="module")
def running(livekit: LiveKitServer) -> Iterator[Worker]:
    made = Worker(livekit, ["-m", "tests.agents.followed", "start"])
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
async def worker(running: Worker) -> Worker:
    """The agents of this module; a test looks at what they print from its own beginning on."""
    await running.ready()
    return running


async def dialled(desk: Desk, bridge: Bridge, carrier: Carrier, **metadata: Any) -> Leg:
    """Return a ringing call of the bridge, with the agent on its way."""
    await bridge.dial(
        "+919000000021", room=desk.room(), agent="followed", metadata={"away": AWAY, **metadata}
    )
    return await carrier.incoming()


def unwanted(worker: Worker, since: float, until: float) -> list[Line]:
    """Return what must not happen on hold."""
    held = [line for line in worker.lines if since <= line["at"] < until]
    return [
        line
        for line in held
        if line["saw"] in ("transcript", "item")
        or (line["saw"], line.get("state")) in (("user", "away"), ("agent", "speaking"))
    ]


async def held_and_resumed(leg: Leg, worker: Worker, began: float) -> Line:
    """Hold for more than twice the time-out with music on the line, resume, judge."""
    await leg.run(
        f"hold sendonly; tone {MUSIC_HERTZ} 2s; expect silence {2.2 * AWAY:.1f}s; tone 700 2s"
    )
    fine(leg)
    held = await worker.sees("hold", since=began)
    await worker.sees("chatter", since=held["at"])
    resumed_at = now()
    await leg.run("resume")
    fine(leg)
    resumed = await worker.sees("resume", since=resumed_at)
    return {"held": held, "resumed": resumed}


async def the_same_as_before(leg: Leg, worker: Worker, since: float) -> None:
    """A turn of the caller, the agent's answer, and the user who is away after a while."""
    await leg.run(f"tone 440 600ms; expect audio {VOICE_HERTZ} within 10s")
    fine(leg)
    said = await worker.sees("transcript", since=since)
    await worker.sees("agent", state="speaking", since=said["at"] - 0.2)
    await worker.sees("user", state="away", since=said["at"], within=10)


@pytest.mark.parametrize("music", [False, True], ids=["muted", "hold music"])
@pytest.mark.parametrize("mode", ["pipeline", "realtime"])
async def test_a_held_session_hears_says_and_waits_for_nothing(
    desk: Desk, worker: Worker, mode: str, music: bool
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier, trunk={"hold_music": music})
    began = now()
    leg = await dialled(desk, bridge, carrier, mode=mode, long=True)
    await leg.run(f"answer; expect audio {VOICE_HERTZ} within 15s")
    fine(leg)
    await worker.sees("item", role="assistant", since=began)
    spoken = await worker.sees("agent", state="speaking", since=began)
    both = await held_and_resumed(leg, worker, spoken["at"])
    held, resumed = both["held"], both["resumed"]
    cut = await worker.sees("long speech", since=held["at"] - 0.2)
    assert cut["interrupted"]
    assert cut["at"] - held["at"] < 1.0
    # What the interrupted speech had said is noted as said within the first moment.
    assert unwanted(worker, held["at"] + 1.0, resumed["at"]) == []
    assert all(all(one["interrupted"]) for one in worker.saw("chatter", since=held["at"]))
    for frames in ("stt_frames", "vad_frames", "realtime_frames", "transcripts"):
        assert resumed[frames] == held[frames], frames
    await the_same_as_before(leg, worker, resumed["at"])
    await leg.run("hangup")
    fine(leg)
    await worker.sees("ended", since=resumed["at"], outcome="completed")
    await worker.sees("closed", since=resumed["at"])


async def test_attributes_alone_hold_and_resume_a_session(desk: Desk, worker: Worker) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    began = now()
    leg = await dialled(desk, bridge, carrier, deaf=True)
    await leg.run(f"answer; expect audio {VOICE_HERTZ} within 15s")
    fine(leg)
    both = await held_and_resumed(leg, worker, began)
    held, resumed = both["held"], both["resumed"]
    assert held["direction"] is None, "an event reached the kit"
    assert unwanted(worker, held["at"] + 0.5, resumed["at"]) == []
    assert resumed["stt_frames"] == held["stt_frames"]
    await the_same_as_before(leg, worker, resumed["at"])
    await leg.run("hangup")
    fine(leg)
    await worker.sees("ended", since=resumed["at"])


async def test_a_filler_that_runs_stops(desk: Desk, worker: Worker) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    began = now()
    leg = await dialled(desk, bridge, carrier, tool=True)
    await leg.run("answer")
    await worker.sees("tool", since=began)
    since = now()
    await worker.sees("agent", state="speaking", since=since)  # the filler
    both = await held_and_resumed(leg, worker, began)
    held, resumed = both["held"], both["resumed"]
    assert unwanted(worker, held["at"] + 1.0, resumed["at"]) == []
    await the_same_as_before(leg, worker, resumed["at"])
    await leg.run("hangup")
    fine(leg)
    await worker.sees("ended", since=resumed["at"])

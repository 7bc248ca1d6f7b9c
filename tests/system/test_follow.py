"""`phone.follow(session)` on real calls: a live AgentSession with models of ours, held for real.

The carrier holds and resumes; while it holds, the agent keeps asking for speech in every
way there is, and the carrier plays hold music.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from livekit import api, rtc

from bridge.carrier.call import Leg
from bridge.carrier.carrier import Carrier
from bridge.room.tokens import LiveKitKeys, bridge_token
from tests.agents.models import VOICE_HERTZ
from tests.system.calls import fine
from tests.system.conftest import LiveKitServer
from tests.system.harness import Bridge, Desk, room_service
from tests.system.workers import Line, Worker, now, working

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

AWAY = 1.2  # seconds
UNDER_WAY = 3  # frames on their way to a model; a hold of these tests is worth fifty and more
MUSIC_HERTZ = 660


@pytest.fixture(scope="module")
def running(livekit: LiveKitServer) -> Iterator[Worker]:
    with working(livekit, "followed") as made:
        yield made


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
        f"hold sendonly; tone {MUSIC_HERTZ} 1s; expect silence {2 * AWAY:.1f}s; tone 700 500ms"
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
    for frames in ("stt_frames", "vad_frames", "realtime_frames"):
        # Some were under way to the models when the hold came.
        assert resumed[frames] - held[frames] <= UNDER_WAY, frames
    assert resumed["transcripts"] == held["transcripts"]
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


async def test_a_call_that_is_held_when_it_is_answered_is_followed_from_the_start(
    desk: Desk, worker: Worker
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    began = now()
    leg = await dialled(desk, bridge, carrier)
    await leg.run("ring")
    await worker.sees("started", since=began)
    await leg.run("answer sendonly")
    fine(leg)
    held = await worker.sees("hold", since=began)
    await leg.run(f"tone {MUSIC_HERTZ} 1s; expect silence {2 * AWAY:.1f}s")
    fine(leg)
    resumed_at = now()
    await leg.run("resume")
    fine(leg)
    resumed = await worker.sees("resume", since=resumed_at)
    # The greeting was under way, unheard: it is cut as soon as its track has a listener.
    assert unwanted(worker, held["at"] + 0.5, resumed["at"]) == []
    await the_same_as_before(leg, worker, resumed["at"])
    await leg.run("hangup")
    fine(leg)
    await worker.sees("ended", since=resumed["at"])


# livekit/sip: a participant of kind SIP with sip.callStatus, no events, no RPC of ours.


class Stranger:
    """A phone of livekit/sip: attributes and a track, nothing else."""

    def __init__(self, server: LiveKitServer, room: str) -> None:
        self.room = rtc.Room()
        self._server = server
        self._name = room
        self._source = rtc.AudioSource(8000, 1, queue_size_ms=100)
        self._track = rtc.LocalAudioTrack.create_audio_track("sip", self._source)

    async def join(self) -> None:
        token = bridge_token(
            LiveKitKeys(api_key=self._server.api_key, api_secret=self._server.api_secret),
            room=self._name,
            identity="sip_+919000000022",
            name="Phone +919000000022",
            metadata="",
            attributes={
                "sip.callID": "SCL_abc",
                "sip.callStatus": "ringing",
                "sip.phoneNumber": "+919000000022",
            },
        )
        await self.room.connect(self._server.url, token)
        await self.room.local_participant.publish_track(
            self._track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        )

    async def show(self, status: str) -> None:
        await self.room.local_participant.set_attributes({"sip.callStatus": status})

    async def talk(self, seconds: float) -> None:
        """A tone, and a second of silence after it."""
        samples = [int(9000 * math.sin(math.tau * 440 / 8000 * i)) for i in range(8000)]
        second = struct.pack("<8000h", *samples)
        for number in range(int((seconds + 1) * 50)):
            at = number % 50 * 320
            pcm = second[at : at + 320] if number < seconds * 50 else bytes(320)
            await self._source.capture_frame(rtc.AudioFrame(pcm, 8000, 1, 160))

    def mute(self) -> None:
        self._track.mute()

    def unmute(self) -> None:
        self._track.unmute()


async def test_a_phone_of_livekit_sip_is_answered_talks_and_ends(
    livekit: LiveKitServer, worker: Worker
) -> None:
    name = livekit.room_name("sip")
    began = now()
    phone = Stranger(livekit, name)
    async with room_service(livekit) as service:
        await phone.join()
        await service.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(
                agent_name="followed", room=name, metadata=json.dumps({"away": AWAY})
            )
        )
        attached = await worker.sees("attached", since=began)
        assert attached["call_id"] == "SCL_abc"
        await worker.sees("started", since=began)
        assert not worker.saw("answered", began)
        await phone.show("active")
        await worker.sees("answered", since=began)
        await worker.sees("item", role="assistant", since=began)  # good morning
        await a_turn(phone, worker)
        # A mute is no hold here: the user goes away as in every room, and comes back.
        phone.mute()
        muted_at = now()
        await worker.sees("user", state="away", since=muted_at, within=10)
        phone.unmute()
        await a_turn(phone, worker)
        assert not worker.saw("hold", began)
        await phone.show("hangup")
        await phone.room.disconnect()
        await worker.sees("ended", since=began)
        await worker.sees("closed", since=began)


async def a_turn(phone: Stranger, worker: Worker) -> None:
    since = now()
    await phone.talk(0.6)
    said = await worker.sees("transcript", since=since)
    answer = await worker.sees("agent", state="speaking", since=said["at"])
    await worker.sees("agent", state="listening", since=answer["at"])

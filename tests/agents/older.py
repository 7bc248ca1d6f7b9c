"""An agent written for an older bridge: it knows the data topic and its four events, no more.

It joins, publishes a voice, says nothing until ``call_answered``, is quiet between
``call_hold`` and ``call_resume`` and leaves at ``call_ended``. Attributes, RPCs, sequence
numbers and everything else that came later it has never heard of; of an event it reads the
name only.
"""

import asyncio
import json

from livekit import rtc
from livekit.agents import AutoSubscribe, JobContext, cli

from tests.agents.lines import note
from tests.agents.models import tone
from tests.agents.worker import worker

RATE = 48_000
FRAME = RATE // 50
HERTZ = 1200
SOUND = tone(FRAME / RATE, HERTZ, RATE)
SILENCE = bytes(2 * FRAME)

server = worker()


@server.rtc_session(agent_name="older")
async def entrypoint(ctx: JobContext) -> None:
    late = json.loads(ctx.job.metadata or "{}").get("metadata", {}).get("late", 0)
    await asyncio.sleep(late)
    answered, held, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def on_data(packet: rtc.DataPacket) -> None:
        if packet.topic != "sip_bridge_events":
            return
        event = json.loads(packet.data.decode())["event"]
        note("event", name=event)
        match event:
            case "call_answered":
                answered.set()
            case "call_hold":
                held.set()
            case "call_resume":
                held.clear()
            case "call_ended":
                over.set()

    ctx.room.on("data_received", on_data)
    await ctx.connect(auto_subscribe=AutoSubscribe.AUDIO_ONLY)
    source = rtc.AudioSource(RATE, 1, queue_size_ms=100)
    track = rtc.LocalAudioTrack.create_audio_track("agent", source)
    await ctx.room.local_participant.publish_track(track)
    await asyncio.wait_for(answered.wait(), 60)
    note("speaks")
    while not over.is_set():
        pcm = SILENCE if held.is_set() else SOUND
        await source.capture_frame(rtc.AudioFrame(pcm, RATE, 1, FRAME))
    note("leaves")
    ctx.shutdown("the call is over")


if __name__ == "__main__":
    cli.run_app(server)

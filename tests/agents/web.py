"""An agent of web calls and voice sessions: says a tone to whoever is there, ends with them."""

import asyncio
import json

from livekit import rtc
from livekit.agents import AutoSubscribe, JobContext, cli

from tests.agents.lines import note
from tests.agents.models import tone
from tests.agents.worker import worker

RATE = 48_000
FRAME = RATE // 50
HERTZ = 1000
SOUND = tone(FRAME / RATE, HERTZ, RATE)

server = worker()


@server.rtc_session(agent_name="helper")
async def entrypoint(ctx: JobContext) -> None:
    note("job", room=ctx.room.name, metadata=json.loads(ctx.job.metadata or "{}"))
    gone = asyncio.Event()
    ctx.room.on("disconnected", lambda *_: gone.set())
    ctx.room.on("participant_disconnected", lambda *_: gone.set())
    await ctx.connect(auto_subscribe=AutoSubscribe.AUDIO_ONLY)
    source = rtc.AudioSource(RATE, 1, queue_size_ms=100)
    track = rtc.LocalAudioTrack.create_audio_track("agent", source)
    await ctx.room.local_participant.publish_track(track)
    while not gone.is_set():
        await source.capture_frame(rtc.AudioFrame(SOUND, RATE, 1, FRAME))
    note("leaves", room=ctx.room.name)
    ctx.shutdown("the user is gone")


if __name__ == "__main__":
    cli.run_app(server)

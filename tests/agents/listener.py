"""An agent of the kit that says one long tone and judges what its session hears meanwhile.

The job's metadata says for how many ``seconds`` from the first sound on.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, JobContext, cli

from tests.agents.lines import note
from tests.agents.models import LOUD, RATE, Counts, EarSTT, EarVAD, MindLLM, ToneTTS, rms, tone
from tests.agents.worker import worker
from tests.system.meter import judge

FRAME = RATE // 50  # samples, 20 ms

server = worker()


class Listener(Agent):
    """Tells after a while what came to its ears."""

    def __init__(self, seconds: float) -> None:
        super().__init__(instructions="listen")
        self._seconds = seconds

    async def stt_node(self, audio: AsyncIterable[rtc.AudioFrame], model_settings: Any) -> Any:
        """Hear what the session hears."""
        async for event in Agent.default.stt_node(self, self._heard(audio), model_settings):
            yield event

    async def _heard(self, audio: AsyncIterable[rtc.AudioFrame]) -> AsyncIterator[rtc.AudioFrame]:
        samples, told = array("h"), False
        async for frame in audio:
            yield frame
            if samples or rms(frame) >= LOUD:
                samples.extend(array("h", bytes(frame.data)))
            if not told and len(samples) >= self._seconds * frame.sample_rate:
                told = True
                note("sound", rate=frame.sample_rate, **judge(samples, frame.sample_rate))


async def voice(seconds: float) -> AsyncIterator[rtc.AudioFrame]:
    """Say the tone of `tests.agents.models`."""
    second = tone(1.0)
    for at in range(int(seconds * 50)):
        start = 2 * FRAME * (at % 50)
        yield rtc.AudioFrame(second[start : start + 2 * FRAME], RATE, 1, FRAME)


@server.rtc_session(agent_name="listener")
async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    given = json.loads(ctx.job.metadata or "{}")
    seconds = float((given.get("metadata") or given)["seconds"])
    counts = Counts()
    session: AgentSession[Any] = AgentSession(
        llm=MindLLM(counts), stt=EarSTT(counts), tts=ToneTTS(), vad=EarVAD(counts)
    )
    session.on("close", lambda _: note("closed"))
    await session.start(Listener(seconds), room=ctx.room)
    session.say("a tone", audio=voice(seconds + 5), allow_interruptions=False)


if __name__ == "__main__":
    cli.run_app(server)

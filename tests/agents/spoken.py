"""An agent that knows no bridge, with models of ours: its transcripts are what tests look for.

It greets, answers what it hears, and when told by the job's metadata says something long.
"""

from __future__ import annotations

import json
from typing import Any

from livekit.agents import (
    Agent,
    AgentSession,
    JobContext,
    cli,
    function_tool,
)

from tests.agents.lines import note
from tests.agents.models import Counts, EarSTT, EarVAD, MindLLM, ToneTTS
from tests.agents.worker import worker

server = worker()


class Talker(Agent):
    """Has one tool."""

    def __init__(self) -> None:
        super().__init__(instructions="talk")

    @function_tool
    async def look_up(self) -> str:
        """Look it up."""
        return "found"


@server.rtc_session(agent_name="spoken")
async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    given = json.loads(ctx.job.metadata or "{}")
    wanted = {**(given.get("metadata") or {}), **(given.get("user_context") or {})}
    counts = Counts()
    session: AgentSession[Any] = AgentSession(
        llm=MindLLM(counts),
        stt=EarSTT(counts),
        tts=ToneTTS(),
        vad=EarVAD(counts),
        session_close_transcript_timeout=0.1,
        turn_handling={"endpointing": {"min_delay": 0.2, "max_delay": 0.4}},
    )

    def added(event: Any) -> None:
        if event.item.type == "message":
            note("item", role=event.item.role, text=event.item.text_content)

    session.on("conversation_item_added", added)
    session.on("close", lambda _: note("closed"))
    await session.start(Talker(), room=ctx.room)
    note("started", room=ctx.room.name)
    await ctx.wait_for_participant()
    await session.say("good morning").wait_for_playout()
    note("greeted")
    if wanted.get("long"):
        speech = session.say("and now for something much longer " * 4)
        await speech.wait_for_playout()
        note("long speech", interrupted=speech.interrupted)
    if wanted.get("tool"):
        session.generate_reply(user_input="look up my order")


if __name__ == "__main__":
    cli.run_app(server)

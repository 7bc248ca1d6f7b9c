"""An agent of the kit with models of ours: ``phone.follow(session)`` on real calls.

While the call is held it never stops talking to the line: speech, replies, a tool with a
filler. The job's metadata says how: ``mode`` (pipeline, realtime), ``away`` (seconds),
``deaf`` (the bridge's events do not reach the kit, only attributes do).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from livekit.agents import (
    Agent,
    AgentSession,
    JobContext,
    RunContext,
    cli,
    function_tool,
)

from tests.agents.lines import note
from tests.agents.models import Counts, EarSTT, EarVAD, MindLLM, OneRealtimeModel, ToneTTS
from tests.agents.worker import worker
from trunkbridge.agent import CallEnded, PhoneCall

server = worker()


class Talker(Agent):
    """Has one slow tool."""

    def __init__(self) -> None:
        super().__init__(instructions="talk")

    @function_tool
    async def look_up(self, context: RunContext[Any]) -> str:
        """Look it up."""
        note("tool")
        async with context.with_filler("one moment please", delay=0.3, interval=0.3):
            await asyncio.sleep(3)
        return "found"


def build(mode: str, away: float, counts: Counts) -> AgentSession[Any]:
    """Return a session with models of ours."""
    models: dict[str, Any] = {
        "llm": MindLLM(counts),
        "stt": EarSTT(counts),
        "tts": ToneTTS(),
        "vad": EarVAD(counts),
    }
    if mode == "realtime":
        models = {"llm": OneRealtimeModel(counts, reply_seconds=1.5)}
    return AgentSession(
        user_away_timeout=away,
        session_close_transcript_timeout=0.1,
        # An answer comes before the user is taken for away.
        turn_handling={"endpointing": {"min_delay": 0.2, "max_delay": 0.4}},
        **models,
    )


def watch(session: AgentSession[Any]) -> None:
    """Tell everything that the session tells."""

    def spoke(event: Any) -> None:
        if event.transcript:
            note("transcript", text=event.transcript)

    def added(event: Any) -> None:
        if event.item.type == "message":
            note("item", role=event.item.role)

    session.on("user_state_changed", lambda event: note("user", state=event.new_state))
    session.on("agent_state_changed", lambda event: note("agent", state=event.new_state))
    session.on("user_input_transcribed", spoke)
    session.on("conversation_item_added", added)
    session.on("close", lambda _: note("closed"))


async def chatter(session: AgentSession[Any]) -> None:
    """Talk to a held line by every way there is."""
    while True:
        await asyncio.sleep(0.3)
        speeches = [
            session.generate_reply(instructions="say something"),
            session.generate_reply(instructions="insist", allow_interruptions=False),
            session.say("is anybody there"),
        ]
        note("chatter", interrupted=[speech.interrupted for speech in speeches])


@server.rtc_session(agent_name="followed")
async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    given = json.loads(ctx.job.metadata or "{}")
    wanted: Mapping[str, Any] = given.get("metadata") or given
    counts = Counts()
    phone = await PhoneCall.attach(ctx)
    if phone is None:
        note("no phone")
        return
    if wanted.get("deaf"):
        ctx.room.off("data_received", phone._on_data)
    note("attached", call_id=phone.call_id, number=phone.number, held=phone.held)
    session = build(wanted.get("mode", "pipeline"), wanted.get("away", 1.5), counts)
    watch(session)
    talking: list[asyncio.Task[None]] = []

    def talk() -> None:
        if not talking:
            talking.append(asyncio.create_task(chatter(session)))

    @phone.on("hold")
    def hold(event: Mapping[str, Any]) -> None:
        note("hold", direction=event.get("direction"), **vars(counts))
        talk()

    @phone.on("resume")
    def resume(_: Mapping[str, Any]) -> None:
        note("resume", **vars(counts))
        while talking:
            talking.pop().cancel()

    @phone.on("ended")
    def ended(event: Mapping[str, Any]) -> None:
        note("ended", outcome=event.get("outcome"))

    phone.follow(session)
    await session.start(Talker(), room=ctx.room)
    note("started")
    try:
        await phone.answered()
    except CallEnded as failure:
        note("never answered", outcome=failure.outcome)
        return
    note("answered", held=phone.held, **vars(counts))
    if phone.held:  # by the attribute: the event may still be on its way
        talk()
    await session.say("good morning").wait_for_playout()
    if wanted.get("long"):
        speech = session.say("and now for something much longer " * 4)
        await speech.wait_for_playout()
        note("long speech", interrupted=speech.interrupted)
    if wanted.get("tool"):
        session.generate_reply(user_input="look up my order")


if __name__ == "__main__":
    cli.run_app(server)

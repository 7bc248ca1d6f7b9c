"""A voice agent as the first page of livekit-agents' documentation shows one.

It has never heard of a bridge: it is dispatched to every room, greets whoever is there and
ends the call when told to.
"""

from livekit import api
from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    RunContext,
    cli,
    get_job_context,
    inference,
)
from livekit.agents.llm import function_tool


class Assistant(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="You are a helpful voice assistant.")

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Greet the user.")

    @function_tool
    async def end_call(self, context: RunContext) -> None:  # type: ignore[type-arg]
        """Called when the user says goodbye."""
        await self.session.generate_reply(instructions="Say goodbye.")
        job = get_job_context()
        await job.api.room.delete_room(api.DeleteRoomRequest(room=job.room.name))


server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    session: AgentSession[None] = AgentSession(
        stt=inference.STT("deepgram/nova-3", language="en"),
        llm=inference.LLM("openai/gpt-4.1-mini"),
        tts=inference.TTS("cartesia/sonic-3"),
    )
    await session.start(agent=Assistant(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)

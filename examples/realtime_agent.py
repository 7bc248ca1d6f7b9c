"""A phone agent with one realtime model for ears, mind and voice.

    pip install "trunkbridge[agent]" livekit-plugins-openai
    export LIVEKIT_URL=ws://127.0.0.1:7880 LIVEKIT_API_KEY=devkey LIVEKIT_API_SECRET=secret
    export OPENAI_API_KEY=…
    python realtime_agent.py start

The phone is the same as for a pipeline of models: nothing is said before the answer, and on
hold the model hears nothing and says nothing.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, RunContext, cli, room_io
from livekit.agents.llm import function_tool
from livekit.plugins import openai

from trunkbridge.agent import CallEnded, PhoneCall

KEYS = ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "OPENAI_API_KEY")

server = AgentServer()


class Receptionist(Agent):
    """Talks, and hangs up when it is done."""

    def __init__(self, phone: PhoneCall) -> None:
        super().__init__(
            instructions="You are the receptionist of a small hotel, on the phone. Be brief."
        )
        self._phone = phone

    @function_tool
    async def hang_up(self, context: RunContext[Any]) -> None:
        """End the call, after the goodbyes."""
        await context.wait_for_playout()
        await self._phone.hangup()


def build_session() -> AgentSession[None]:
    """Return a session with its model; its key comes from the environment."""
    return AgentSession(llm=openai.realtime.RealtimeModel(voice="marin"))


@server.rtc_session(agent_name="receptionist")
async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    phone = await PhoneCall.attach(ctx)
    if phone is None:
        ctx.shutdown("no phone in the room")
        return
    session = build_session()
    phone.follow(session)
    phone.report(session)
    phone.on("resume", lambda _: greet(session, "The caller is back from hold: welcome them back."))
    options = room_io.RoomOptions(participant_identity=phone.identity)
    await session.start(agent=Receptionist(phone), room=ctx.room, room_options=options)
    try:
        await phone.answered()
    except CallEnded as ended:
        ctx.shutdown(f"never answered: {ended.outcome or 'no reason given'}")
        return
    greet(session, "Greet the caller.")


def greet(session: AgentSession[None], instructions: str) -> None:
    """Have the model speak first."""
    session.generate_reply(instructions=instructions)


def main() -> None:
    """Check that the keys are there and run the worker."""
    missing = [name for name in KEYS if not os.environ.get(name)]
    if missing and "--help" not in sys.argv:
        sys.exit(f"realtime_agent: set {', '.join(missing)}")
    cli.run_app(server)


if __name__ == "__main__":
    main()

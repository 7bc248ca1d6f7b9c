"""A support agent on the phone: Deepgram hears, OpenAI thinks, Cartesia speaks.

    pip install "trunkbridge[agent]" livekit-plugins-deepgram livekit-plugins-openai \
        livekit-plugins-cartesia livekit-plugins-silero
    export LIVEKIT_URL=ws://127.0.0.1:7880 LIVEKIT_API_KEY=devkey LIVEKIT_API_SECRET=secret
    export DEEPGRAM_API_KEY=… OPENAI_API_KEY=… CARTESIA_API_KEY=…
    python support_agent.py start

It waits for the answer, is quiet on hold and greets again afterwards, takes keys, presses
keys in menus, hangs up, and asks to be transferred when SUPPORT_NUMBER is set. In a web
call, where there is no phone, it is the same agent without those tools.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    JobProcess,
    RunContext,
    UserStateChangedEvent,
    cli,
    room_io,
)
from livekit.agents.llm import function_tool
from livekit.plugins import cartesia, deepgram, openai, silero

from trunkbridge.agent import CallEnded, PhoneCall, Refused

KEYS = (
    "LIVEKIT_URL",
    "LIVEKIT_API_KEY",
    "LIVEKIT_API_SECRET",
    "DEEPGRAM_API_KEY",
    "OPENAI_API_KEY",
    "CARTESIA_API_KEY",
)

INSTRUCTIONS = """\
You answer the phone for a small shop. You hear the caller and speak to them: short
sentences, no lists, no markup. Ask what they need, answer, and ask whether that was all.
When the caller says goodbye, say goodbye and hang up."""

server = AgentServer()


class Support(Agent):
    """The agent of a web call: it talks."""

    def __init__(self) -> None:
        super().__init__(instructions=INSTRUCTIONS)


class PhoneSupport(Support):
    """The agent of a phone call: it can also do what a phone can."""

    def __init__(self, phone: PhoneCall) -> None:
        super().__init__()
        self._phone = phone

    @function_tool
    async def hang_up(self, context: RunContext[Any]) -> None:
        """End the call, after the goodbyes."""
        await context.wait_for_playout()
        await self._phone.hangup()

    @function_tool
    async def press_keys(self, digits: str) -> str:
        """Press keys of the phone, for a menu at the other end.

        Args:
            digits: the keys, of 0-9 * #; w waits half a second
        """
        return await said(self._phone.send_dtmf(digits), "pressed")

    @function_tool
    async def transfer_to_a_person(self) -> str:
        """Hand the caller over to a person, when they ask for one."""
        number = os.environ.get("SUPPORT_NUMBER", "")
        if not number:
            return "nobody is there now"
        return await said(self._phone.transfer(number), "the caller is being transferred")


async def said(asked: Any, done: str) -> str:
    """Return *done*, or why it was refused, for the model to tell the caller."""
    try:
        await asked
    except Refused as refused:
        return f"not possible: {refused.reason}"
    return done


def build_session(vad: silero.VAD) -> AgentSession[None]:
    """Return a session with its models; their keys come from the environment."""
    return AgentSession(
        vad=vad,
        stt=deepgram.STT(model="nova-3", language="multi"),
        llm=openai.LLM(model="gpt-4.1-mini"),
        tts=cartesia.TTS(),
        user_away_timeout=12.5,
    )


def prewarm(process: JobProcess) -> None:
    """Load what is slow before there is a call."""
    process.userdata["vad"] = silero.VAD.load()


server.setup_fnc = prewarm


@server.rtc_session(agent_name="support")
async def entrypoint(ctx: JobContext) -> None:
    """One call."""
    phone = await PhoneCall.attach(ctx)  # connects, finds the phone, tells the bridge: ready
    session = build_session(ctx.proc.userdata["vad"])

    @session.on("user_state_changed")
    def on_user_state(event: UserStateChangedEvent) -> None:
        if event.new_state == "away":  # never on hold: `follow` stops the countdown
            session.generate_reply(instructions="Ask briefly whether the caller is still there.")

    if phone is None:
        await session.start(agent=Support(), room=ctx.room)
    else:
        options = room_io.RoomOptions(participant_identity=phone.identity)
        await session.start(agent=PhoneSupport(phone), room=ctx.room, room_options=options)
        phone.follow(session)
        phone.report(session)
        listen_to(phone, session)
        try:
            await phone.answered()
        except CallEnded as ended:
            ctx.shutdown(f"never answered: {ended.outcome or 'no reason given'}")
            return
    session.generate_reply(instructions="Greet the caller and ask what you can do for them.")


def listen_to(phone: PhoneCall, session: AgentSession[None]) -> None:
    """Answer the phone's own events: keys, and the caller's return from hold."""
    keyed: list[str] = []

    @phone.on("dtmf")
    def on_key(event: Mapping[str, Any]) -> None:
        if event["digit"] != "#":
            keyed.append(event["digit"])
            return
        session.generate_reply(user_input=f"(The caller keyed {''.join(keyed)} and #.)")
        keyed.clear()

    @phone.on("resume")
    def on_resume(_: Mapping[str, Any]) -> None:
        session.generate_reply(instructions="The caller is back from hold. Pick up where you were.")


def main() -> None:
    """Check that the keys are there and run the worker."""
    missing = [name for name in KEYS if not os.environ.get(name)]
    if missing and "--help" not in sys.argv:
        sys.exit(f"support_agent: set {', '.join(missing)}")
    cli.run_app(server)


if __name__ == "__main__":
    main()

"""A live AgentSession of livekit-agents without a room: fake models, ears and a mouth of ours."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, RunContext, function_tool
from livekit.agents.voice import io

from tests.agents.models import (
    RATE,
    Counts,
    EarSTT,
    EarVAD,
    MindLLM,
    OneRealtimeModel,
    ToneTTS,
    tone,
)

AWAY = 0.2  # seconds
FRAME = 0.02
SILENCE = bytes(int(RATE * FRAME) * 2)
SOUND = tone(FRAME, 500)


class Ears(io.AudioInput):
    """What the caller says: frames that a test feeds."""

    def __init__(self) -> None:
        super().__init__(label="ears")
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()
        self._attached = True

    def on_attached(self) -> None:
        self._attached = True

    def on_detached(self) -> None:
        self._attached = False

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()

    async def hear(self, pcm: bytes, seconds: float) -> None:
        """Feed *seconds* of a frame's sound at once; a detached input drops it, as RoomIO's."""
        for _ in range(round(seconds / FRAME)):
            if self._attached:
                self._frames.put_nowait(rtc.AudioFrame(pcm, RATE, 1, len(pcm) // 2))
        await asyncio.sleep(0)


class Mouth(io.AudioOutput):
    """Plays in real time and counts the seconds that sounded."""

    def __init__(self) -> None:
        super().__init__(
            label="mouth",
            capabilities=io.AudioOutputCapabilities(pause=False),
            sample_rate=RATE,
        )
        self.played: list[float] = []  # moments of frames
        self.heard: asyncio.Future[None] | None = None  # by a first listener, as RoomIO has it
        self.waits = asyncio.Event()
        self._until = 0.0
        self._pushed = 0.0
        self._started = 0.0
        self._finish: asyncio.TimerHandle | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        if self.heard is not None:
            self.waits.set()
            await self.heard
        await super().capture_frame(frame)
        now = time.monotonic()
        self.played.append(now)
        if not self._pushed:
            self._started = now
            self.on_playback_started(created_at=time.time())
        self._pushed += frame.duration

    def flush(self) -> None:
        super().flush()
        if self._pushed:
            left = max(0.0, self._started + self._pushed - time.monotonic())
            self._finish = asyncio.get_running_loop().call_later(left, self._done, False)

    def clear_buffer(self) -> None:
        if self._finish is not None:
            self._finish.cancel()
        if self._pushed:
            self._done(True)

    def _done(self, interrupted: bool) -> None:
        position = min(self._pushed, time.monotonic() - self._started)
        self._pushed, self._finish = 0.0, None
        self.on_playback_finished(playback_position=position, interrupted=interrupted)


class Talker(Agent):
    """Greets on entering when told to, and has a slow tool with a filler."""

    def __init__(self, greeting: str = "", name: str = "talker") -> None:
        super().__init__(instructions="talk", id=name)
        self.greeting = greeting
        self.tool = asyncio.Event()

    async def on_enter(self) -> None:
        if self.greeting:
            self.session.say(self.greeting)

    @function_tool
    async def look_up(self, context: RunContext[Any]) -> str:
        """Look it up."""
        async with context.with_filler("one moment", delay=0.1, interval=0.1):
            await self.tool.wait()
        return "found"


class Stage:
    """A session, what it told, and its models' counts."""

    def __init__(self, mode: str, *, away: float | None = AWAY) -> None:
        self.counts = Counts()
        self.ears, self.mouth = Ears(), Mouth()
        models: dict[str, Any] = {
            "llm": MindLLM(self.counts),
            "stt": EarSTT(self.counts),
            "tts": ToneTTS(),
            "vad": EarVAD(self.counts),
        }
        if mode == "realtime":
            models = {"llm": OneRealtimeModel(self.counts, reply_seconds=0.4)}
        self.session: AgentSession[Any] = AgentSession(
            user_away_timeout=away,
            session_close_transcript_timeout=0.01,
            turn_handling={"endpointing": {"min_delay": 0.05, "max_delay": 0.2}},
            **models,
        )
        self.told: list[tuple[float, str]] = []
        self._changed = asyncio.Event()
        self.session.on("user_state_changed", lambda e: self._tell(f"user {e.new_state}"))
        self.session.on("agent_state_changed", lambda e: self._tell(f"agent {e.new_state}"))
        self.session.on(
            "user_input_transcribed", lambda e: self._tell("transcript") if e.transcript else None
        )
        self.session.on("conversation_item_added", self._on_item)

    def _on_item(self, event: Any) -> None:
        if event.item.type == "message":
            self._tell(f"{event.item.role} item")

    def _tell(self, what: str) -> None:
        self.told.append((time.monotonic(), what))
        self._changed.set()

    def since(self, moment: float) -> list[str]:
        """Return what was told from *moment* on."""
        return [what for at, what in self.told if at >= moment]

    async def tells(self, what: str, since: float, within: float = 20.0) -> None:
        """Wait until *what* is told."""
        async with asyncio.timeout(within):
            while what not in self.since(since):
                self._changed.clear()
                await self._changed.wait()

    async def start(self, agent: Agent | None = None) -> None:
        self.session.input.audio = self.ears
        self.session.output.audio = self.mouth
        await self.session.start(agent or Talker())

    async def caller_says(self) -> None:
        """The caller speaks for a moment and is quiet again."""
        await self.ears.hear(SOUND, 0.2)
        await self.ears.hear(SILENCE, 0.5)

    async def converse(self) -> None:
        """One turn of the caller, answered by the agent's voice."""
        since = time.monotonic()
        await self.caller_says()
        await self.tells("transcript", since)
        await self.tells("agent speaking", since)
        await self.tells("agent listening", max(at for at, what in self.told if "speak" in what))


@contextlib.asynccontextmanager
async def stage(mode: str, **options: Any) -> AsyncIterator[Stage]:
    """A stage that is cleared at the end."""
    made = Stage(mode, **options)
    try:
        yield made
    finally:
        await made.session.aclose()

"""Models without a cloud, on livekit-agents' public base classes: ears, a mind, a voice.

They do with sound what the real ones do. What is loud is speech, and every stretch of it
becomes a transcript; a reply is a tone. `Counts` tells what reached each of them.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import struct
from array import array
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

from livekit import rtc
from livekit.agents import llm, stt, tts, utils, vad
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
)

RATE = 24_000
VOICE_HERTZ = 1000
LOUD = 500.0  # RMS of 16-bit samples
PAUSE = 0.3  # seconds of quiet that end an utterance
SHORTEST = 0.06  # seconds that are speech
LETTER = 0.05  # seconds that the voice takes for a letter


@dataclass(kw_only=True)
class Counts:
    """What reached the models so far."""

    stt_frames: int = 0
    vad_frames: int = 0
    realtime_frames: int = 0
    transcripts: int = 0
    replies: int = 0


def rms(frame: rtc.AudioFrame) -> float:
    """Return the level of a frame of 16-bit samples."""
    samples = array("h", bytes(frame.data))
    return math.sqrt(sum(s * s for s in samples) / len(samples)) if samples else 0.0


def tone(seconds: float, hertz: int = VOICE_HERTZ, rate: int = RATE) -> bytes:
    """Return a tone as 16-bit PCM."""
    turn = 2 * math.pi * hertz / rate
    count = int(seconds * rate)
    return struct.pack(f"<{count}h", *(int(9000 * math.sin(turn * i)) for i in range(count)))


class Utterance:
    """Finds stretches of speech in frames: ``"start"`` and ``"end"`` when one begins, ends."""

    def __init__(self) -> None:
        self.loud = 0.0
        self.quiet = 0.0
        self.speaking = False

    def hear(self, frame: rtc.AudioFrame) -> Literal["start", "end"] | None:
        """Take the next frame."""
        if rms(frame) >= LOUD:
            self.loud += frame.duration
            self.quiet = 0.0
            if not self.speaking and self.loud >= SHORTEST:
                self.speaking = True
                return "start"
            return None
        self.quiet += frame.duration
        if self.speaking and self.quiet >= PAUSE:
            self.speaking, self.loud = False, 0.0
            return "end"
        if not self.speaking:
            self.loud = 0.0
        return None


# Ears.


class EarVAD(vad.VAD):
    """Voice activity by level."""

    def __init__(self, counts: Counts) -> None:
        super().__init__(capabilities=vad.VADCapabilities(update_interval=0.05))
        self.counts = counts

    def stream(self) -> vad.VADStream:
        return _EarVADStream(self)


class _EarVADStream(vad.VADStream):
    def __init__(self, ear: EarVAD) -> None:
        self._counts = ear.counts
        super().__init__(ear)

    async def _main_task(self) -> None:
        heard, at = Utterance(), 0
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame):
                heard = Utterance()
                continue
            self._counts.vad_frames += 1
            at += frame.samples_per_channel
            change = heard.hear(frame)
            if change is not None:
                kind = {
                    "start": vad.VADEventType.START_OF_SPEECH,
                    "end": vad.VADEventType.END_OF_SPEECH,
                }[change]
                self._tell(kind, heard, frame, at)
            self._tell(vad.VADEventType.INFERENCE_DONE, heard, frame, at)

    def _tell(
        self, kind: vad.VADEventType, heard: Utterance, frame: rtc.AudioFrame, at: int
    ) -> None:
        self._event_ch.send_nowait(
            vad.VADEvent(
                type=kind,
                samples_index=at,
                timestamp=at / frame.sample_rate,
                speech_duration=heard.loud,
                silence_duration=heard.quiet,
                frames=[frame],
                probability=1.0 if heard.speaking else 0.0,
                speaking=heard.speaking,
                raw_accumulated_silence=heard.quiet,
                raw_accumulated_speech=heard.loud,
            )
        )


class EarSTT(stt.STT[str]):
    """Transcribes every stretch of sound: ``words 1``, ``words 2``, …"""

    def __init__(self, counts: Counts) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))
        self.counts = counts

    async def _recognize_impl(self, *_: Any, **__: Any) -> stt.SpeechEvent:
        raise NotImplementedError("streams only")

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        return _EarSTTStream(self, conn_options)


class _EarSTTStream(stt.RecognizeStream):
    def __init__(self, ear: EarSTT, conn_options: APIConnectOptions) -> None:
        self._counts = ear.counts
        super().__init__(stt=ear, conn_options=conn_options)

    async def _run(self) -> None:
        heard = Utterance()
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame):
                continue
            self._counts.stt_frames += 1
            match heard.hear(frame):
                case "start":
                    self._tell(stt.SpeechEventType.INTERIM_TRANSCRIPT, "wor")
                case "end":
                    self._counts.transcripts += 1
                    text = f"words {self._counts.transcripts}"
                    self._tell(stt.SpeechEventType.FINAL_TRANSCRIPT, text)

    def _tell(self, kind: stt.SpeechEventType, text: str) -> None:
        data = stt.SpeechData(language="en", text=text, confidence=1.0)  # type: ignore[arg-type]
        self._event_ch.send_nowait(stt.SpeechEvent(type=kind, alternatives=[data]))


# A mind.


def last_words(context: llm.ChatContext) -> str:
    """Return the last thing that was said or told to the mind."""
    for item in reversed(context.items):
        if item.type == "message" and item.text_content:
            return item.text_content
        if item.type == "function_call_output":
            return "output"
    return ""


class MindLLM(llm.LLM[str]):
    """Answers ``reply 1.``, ``reply 2.``, …; calls the tool ``look_up`` when told ``look up``."""

    def __init__(self, counts: Counts, *, padding: str = "") -> None:
        super().__init__()
        self.counts = counts
        self.padding = padding

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        **_: Any,
    ) -> llm.LLMStream:
        return _MindStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _MindStream(llm.LLMStream):
    async def _run(self) -> None:
        mind = self._llm
        assert isinstance(mind, MindLLM)
        mind.counts.replies += 1
        delta = llm.ChoiceDelta(
            role="assistant", content=f"reply {mind.counts.replies}.{mind.padding}"
        )
        if self._tools and "look up" in last_words(self._chat_ctx):
            call = llm.FunctionToolCall(name="look_up", arguments="{}", call_id=utils.shortuuid())
            delta = llm.ChoiceDelta(role="assistant", tool_calls=[call])
        self._event_ch.send_nowait(llm.ChatChunk(id="mind", delta=delta))
        self._event_ch.send_nowait(
            llm.ChatChunk(
                id="mind",
                usage=llm.CompletionUsage(completion_tokens=2, prompt_tokens=5, total_tokens=7),
            )
        )


# A voice.


class ToneTTS(tts.TTS[str]):
    """Says each text as a tone of its length."""

    def __init__(self, hertz: int = VOICE_HERTZ) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False), sample_rate=RATE, num_channels=1
        )
        self.hertz = hertz

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _ToneStream(tts=self, input_text=text, conn_options=conn_options)


class _ToneStream(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, ToneTTS)
        output_emitter.initialize(
            request_id="tone", sample_rate=RATE, num_channels=1, mime_type="audio/pcm"
        )
        output_emitter.push(tone(LETTER * len(self._input_text), voice.hertz))
        output_emitter.flush()


# Ears, mind and voice in one.


class OneRealtimeModel(llm.RealtimeModel):
    """A realtime model: its own turn detection, transcripts and voice."""

    def __init__(self, counts: Counts, *, reply_seconds: float = 1.0) -> None:
        super().__init__(
            capabilities=llm.RealtimeCapabilities(
                message_truncation=False,
                turn_detection=True,
                user_transcription=True,
                auto_tool_reply_generation=False,
                audio_output=True,
                manual_function_calls=False,
                mutable_chat_context=True,
                mutable_instructions=True,
                mutable_tools=True,
                supports_say=True,
            )
        )
        self.counts = counts
        self.reply_seconds = reply_seconds
        self.sessions: list[OneRealtimeSession] = []

    def session(self, *, turn_detection_disabled: bool = False) -> OneRealtimeSession:
        made = OneRealtimeSession(self)
        self.sessions.append(made)
        return made

    async def aclose(self) -> None:
        """Nothing is open."""


class OneRealtimeSession(llm.RealtimeSession[str]):
    """What the model's server does, in this process."""

    def __init__(self, model: OneRealtimeModel) -> None:
        super().__init__(model)
        self._model = model
        self._heard = Utterance()
        self._context = llm.ChatContext.empty()
        self._known_tools = llm.ToolContext.empty()
        self._numbers = itertools.count(1)
        self._speaking = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def chat_ctx(self) -> llm.ChatContext:
        return self._context

    @property
    def tools(self) -> llm.ToolContext:
        return self._known_tools

    async def update_instructions(self, instructions: str) -> None:
        """Nothing listens to them."""

    async def update_chat_ctx(self, chat_ctx: llm.ChatContext) -> None:
        self._context = chat_ctx.copy()

    async def update_tools(self, tools: list[llm.Tool]) -> None:
        self._known_tools = llm.ToolContext(tools)

    def update_options(self, *, tool_choice: Any = NOT_GIVEN) -> None:
        """There are none."""

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        self._model.counts.realtime_frames += 1
        match self._heard.hear(frame):
            case "start":
                self.emit("input_speech_started", llm.InputSpeechStartedEvent())
            case "end":
                self.emit(
                    "input_speech_stopped",
                    llm.InputSpeechStoppedEvent(user_transcription_enabled=True),
                )
                self._take_turn()

    def _take_turn(self) -> None:
        self._model.counts.transcripts += 1
        number = self._model.counts.transcripts
        self.emit(
            "input_audio_transcription_completed",
            llm.InputTranscriptionCompleted(
                item_id=f"user-{number}", transcript=f"words {number}", is_final=True
            ),
        )
        self.emit("generation_created", self._generation(user_initiated=False))

    def push_video(self, frame: rtc.VideoFrame) -> None:
        """It is blind."""

    def generate_reply(self, **_: Any) -> asyncio.Future[llm.GenerationCreatedEvent]:
        future: asyncio.Future[llm.GenerationCreatedEvent] = asyncio.Future()
        event = self._generation(user_initiated=True)
        self.emit("generation_created", event)
        future.set_result(event)
        return future

    def say(self, text: str | AsyncIterable[str]) -> asyncio.Future[llm.GenerationCreatedEvent]:
        return self.generate_reply()

    def _generation(self, *, user_initiated: bool) -> llm.GenerationCreatedEvent:
        self._model.counts.replies += 1
        number = next(self._numbers)
        self._speaking = speaking = asyncio.Event()
        modalities: asyncio.Future[list[Literal["text", "audio"]]] = asyncio.Future()
        modalities.set_result(["text", "audio"])
        message = llm.MessageGeneration(
            message_id=f"reply-{number}",
            text_stream=_once(f"reply {number}."),
            audio_stream=_frames(tone(self._model.reply_seconds), speaking.is_set),
            modalities=modalities,
        )
        return llm.GenerationCreatedEvent(
            message_stream=_once(message),
            function_stream=_nothing(),
            user_initiated=user_initiated,
            response_id=f"response-{number}",
        )

    def commit_audio(self) -> None:
        """The model finds the turns itself."""

    def clear_audio(self) -> None:
        self._heard = Utterance()

    def interrupt(self) -> None:
        self._speaking.set()

    def truncate(self, **_: Any) -> None:
        """It keeps no history."""

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()


async def _once(item: Any) -> AsyncIterator[Any]:
    yield item


async def _nothing() -> AsyncIterator[Any]:
    return
    yield


async def _frames(pcm: bytes, stopped: Callable[[], bool]) -> AsyncIterator[rtc.AudioFrame]:
    step = RATE // 50
    for at in range(0, len(pcm), 2 * step):
        if stopped():
            return
        part = pcm[at : at + 2 * step]
        yield rtc.AudioFrame(part, RATE, 1, len(part) // 2)

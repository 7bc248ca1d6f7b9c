"""A stand-in for the inference gateway that livekit-agents' ``inference`` classes speak to.

It hears a tone as words, answers with a line, and says each line as a tone; told goodbye,
it calls the tool ``end_call``. Whatever it does not know (turn detection, barge-in) is 404,
for which livekit-agents has its own models.
"""

from __future__ import annotations

import array
import base64
import itertools
import json
import math
import struct
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

from tests.serving import serving

VOICE_HERTZ = 1500
LOUD = 500.0  # RMS of 16-bit samples
LETTER = 0.04  # seconds of sound for a letter
SAYINGS = ("hello there", "that is all, goodbye")
GREETING = "Hello, this is the agent."
REPLY = "That is good to hear."
FAREWELL = "Goodbye then."


class Gateway:
    """The server; ``url`` goes to ``LIVEKIT_INFERENCE_URL``. Notes what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.heard: list[str] = []
        self.said: list[str] = []
        self.asked: list[dict[str, Any]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve until the end of the block."""
        app = web.Application()
        app.router.add_get("/v1/stt", self._stt)
        app.router.add_get("/v1/tts", self._tts)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        async with serving(app) as port:
            self.url = f"http://127.0.0.1:{port}/v1"
            yield

    def knows(self, tool: str) -> bool:
        """Tell whether the agent has ever offered *tool* to its model."""
        return any(
            one["function"]["name"] == tool
            for asked in self.asked
            for one in asked.get("tools", ())
        )

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})

    # Ears.

    async def _stt(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        rate, loud, quiet = 16000, 0.0, 0.0
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                continue
            told = json.loads(message.data)
            match told["type"]:
                case "session.create":
                    rate = int(told["settings"]["sample_rate"])
                    await socket.send_json({"type": "session.created"})
                case "session.close":
                    await socket.send_json({"type": "session.closed"})
                case "input_audio":
                    pcm = array.array("h", base64.b64decode(told["audio"]))
                    seconds = len(pcm) / rate
                    if pcm and math.sqrt(sum(s * s for s in pcm) / len(pcm)) >= LOUD:
                        loud, quiet = loud + seconds, 0.0
                    elif loud:
                        quiet += seconds
                    if loud >= 0.2 and quiet >= 0.3:
                        await self._transcribe(socket, loud)
                        loud = quiet = 0.0
        return socket

    async def _transcribe(self, socket: web.WebSocketResponse, seconds: float) -> None:
        words = SAYINGS[len(self.heard) % len(SAYINGS)]
        self.heard.append(words)
        for kind in ("start_of_speech", "interim_transcript", "final_transcript"):
            await socket.send_json(
                {
                    "type": kind,
                    "transcript": words,
                    "language": "en",
                    "start": 0.0,
                    "duration": seconds,
                    "confidence": 1.0,
                }
            )

    # A mind.

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        delta = self._answer(asked)
        head = {"id": uuid.uuid4().hex, "created": int(time.time()), "model": "stand-in"}
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        finish = "tool_calls" if "tool_calls" in delta else "stop"
        if not asked.get("stream"):
            choice = {"index": 0, "message": delta, "finish_reason": finish}
            return web.json_response(
                {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
            {"choices": [], "usage": usage},
        ]
        for chunk in chunks:
            line = json.dumps({**head, "object": "chat.completion.chunk", **chunk})
            await response.write(f"data: {line}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        messages = asked["messages"]
        tools = [tool["function"]["name"] for tool in asked.get("tools", ())]
        said = [str(message.get("content")) for message in messages if message["role"] == "user"]
        if any(message["role"] == "tool" for message in messages):
            return {"role": "assistant", "content": FAREWELL}
        if said and "goodbye" in said[-1] and "end_call" in tools:
            function = {"name": "end_call", "arguments": "{}"}
            call = {"index": 0, "id": uuid.uuid4().hex, "type": "function", "function": function}
            return {"role": "assistant", "tool_calls": [call]}
        return {"role": "assistant", "content": REPLY if said else GREETING}

    # A voice.

    async def _tts(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        rate, numbers = 24000, itertools.count(1)
        session = f"voice-{next(numbers)}"
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                continue
            told = json.loads(message.data)
            match told["type"]:
                case "session.create":
                    rate = int(told["sample_rate"])
                case "input_transcript":
                    text = str(told["transcript"]).strip()
                    self.said.append(text)
                    sound = base64.b64encode(_tone(LETTER * len(text), rate)).decode()
                    await socket.send_json(
                        {"type": "output_audio", "session_id": session, "audio": sound}
                    )
                case "session.flush":
                    await socket.send_json({"type": "done", "session_id": session})
                    session = f"voice-{next(numbers)}"
        return socket


def _tone(seconds: float, rate: int) -> bytes:
    turn = 2 * math.pi * VOICE_HERTZ / rate
    count = int(seconds * rate)
    return struct.pack(f"<{count}h", *(int(9000 * math.sin(turn * i)) for i in range(count)))

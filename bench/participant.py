"""The bench's hold on `bench.agent` processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livekit import api

from tests.system.harness import Server

PATIENCE = 20.0


class Participants:
    """A process of stock participants, each in a room of its own; its lines in order."""

    def __init__(self, process: asyncio.subprocess.Process, log: Any) -> None:
        self._process = process
        self._log = log
        self._lines: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls, server: Server, rooms: Sequence[str], identity: str, *, hertz: int, log: Path
    ) -> Participants:
        """Start the process; `joined` tells when all are in their rooms."""
        sink = log.open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("agent.py")),
            server.url,
            *(_token(server, room, identity) for room in rooms),
            f"--hertz={hertz}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=sink,
        )
        return cls(process, sink)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    async def joined(self) -> None:
        """Wait until all are in their rooms and publish."""
        await self.line(lambda line: "joined" in line)

    async def send(self, who: int, text: str, topic: str) -> float:
        """Have one send a data message; return when, by the clock of all processes."""
        already = len(self._lines)
        assert self._process.stdin is not None
        wanted = {"who": who, "text": text, "topic": topic}
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        line = await self.line(lambda line: "sent" in line, after=already)
        return float(line["sent"])

    async def line(
        self, wanted: Callable[[dict[str, Any]], bool], *, count: int = 1, after: int = 0
    ) -> dict[str, Any]:
        """Wait for the *count*-th line that is *wanted*; the first *after* do not count."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self._changed.clear()
                found = [line for line in self._lines[after:] if wanted(line)]
                if len(found) >= count:
                    return found[count - 1]
                await self._changed.wait()

    async def stop(self) -> None:
        """Have them leave, and wait for the end of the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader
        self._log.close()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            self._lines.append(json.loads(raw))
            self._changed.set()


@dataclass(frozen=True, slots=True)
class Participant:
    """One of them."""

    among: Participants
    who: int

    async def heard_of(self, event: str, count: int) -> float:
        """Return when the *count*-th event *event* of the phone was received."""
        name = f'"event":"{event}"'
        line = await self.among.line(
            lambda line: line.get("who") == self.who and name in line["text"], count=count
        )
        return float(line["at"])

    async def heard(self, text: str) -> float:
        """Return when the message *text* was received."""
        line = await self.among.line(
            lambda line: line.get("who") == self.who and line["text"] == text
        )
        return float(line["at"])

    async def send(self, text: str, topic: str) -> float:
        """Send a data message; return when."""
        return await self.among.send(self.who, text, topic)


def _token(server: Server, room: str, identity: str) -> str:
    return (
        api.AccessToken(server.api_key, server.api_secret)
        .with_identity(identity)
        .with_grants(api.VideoGrants(room_join=True, room=room))
        .to_jwt()
    )

"""A daemon that can be asked from outside, by the soak and the benches.

The stock command and the stock `Daemon`; beside it a Unix socket, at the path that `DOOR`
names. It takes lines and answers each with one of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from bridge.cli import run as command
from bridge.daemon import Daemon

DOOR = "DAEMON_DOOR"
"""The environment variable with the socket's path."""


class OpenDaemon(Daemon):
    """A daemon with a door; who derives from it says what is answered."""

    async def start(self) -> None:
        """Start, then open the door."""
        await super().start()
        self._door = await asyncio.start_unix_server(self._enter, os.environ[DOOR])

    async def stop(self) -> None:
        """Close it first."""
        if hasattr(self, "_door"):
            self._door.close()
        await super().stop()

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := (await reader.readline()).decode().split():
            writer.write(json.dumps(self.answer(*asked)).encode() + b"\n")
            await writer.drain()
        writer.close()

    def answer(self, what: str, how: str = "") -> Any:
        """Return what is answered to *what*."""
        raise NotImplementedError


def run_as(daemon: type[OpenDaemon]) -> None:
    """Let the command run *daemon* instead of the stock one."""
    command.Daemon = daemon  # type: ignore[attr-defined]

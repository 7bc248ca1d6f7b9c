"""A daemon process with the door of `tests.door`."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from tests.door import DOOR
from tests.system.harness import Bridge


class OpenBridge(Bridge):
    """Runs a program with a door, and asks there."""

    async def start(self, within: float = 30.0) -> None:
        """Start it, and know its door."""
        self._door = str(self.folder / "door")
        os.environ[DOOR] = self._door
        try:
            await super().start(within)
        finally:
            del os.environ[DOOR]

    async def ask(self, text: str) -> Any:
        """Say *text* at the door and return what is answered."""
        reader, writer = await asyncio.open_unix_connection(self._door, limit=1 << 20)
        writer.write(text.encode() + b"\n")
        writer.write_eof()
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return json.loads(answer)

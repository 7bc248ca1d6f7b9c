"""Debian's Chromium without a screen, driven by its own protocol."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.system.harness import missing, until


class Page:
    """One page, driven by the browser's own protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = 0
        self.complaints: list[str] = []

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Have the browser do something; note what it complains about meanwhile."""
        self._ids += 1
        await self._socket.send_json({"id": self._ids, "method": method, "params": params})
        while True:
            message = json.loads((await self._socket.receive(20)).data)
            if message.get("id") == self._ids:
                result: dict[str, Any] = message.get("result", message)
                return result
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(message["params"]))
            if message.get("method") == "Log.entryAdded":
                entry = message["params"]["entry"]
                if entry["source"] in ("security", "javascript", "violation"):
                    self.complaints.append(entry["text"])

    async def run(self, script: str) -> Any:
        """Run *script* in the page; return its value."""
        answer = await self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def text(self, selector: str) -> str:
        """Return what a person sees there; nothing while the page is on its way."""
        return str(await self.run(f"document.querySelector({selector!r})?.innerText ?? ''"))

    async def shows(self, selector: str, word: str, within: float = 10.0) -> None:
        """Wait until *word* is seen there."""

        async def seen() -> bool:
            return word in await self.text(selector)

        await until(seen, f"{word!r} in {selector}", within)

    async def waits(self, condition: str, what: str, within: float = 20.0) -> None:
        """Wait until *condition* is true in the page."""

        async def true() -> bool:
            return bool(await self.run(condition))

        await until(true, what, within)


@asynccontextmanager
async def browser(url: str, folder: Path, *arguments: str) -> AsyncIterator[Page]:
    """Open *url* in Debian's Chromium; *arguments* of its command line besides the usual."""
    binary = shutil.which("chromium")
    if binary is None:
        missing("chromium")
    assert binary is not None
    process = await asyncio.create_subprocess_exec(
        *(binary, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--remote-debugging-port=0"),
        *(f"--user-data-dir={folder / 'profile'}", *arguments, url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    port_file = folder / "profile" / "DevToolsActivePort"
    try:
        await until(lambda: port_file.exists() and port_file.read_text(), "chromium listens", 30)
        port = port_file.read_text().splitlines()[0]
        async with aiohttp.ClientSession() as session:

            async def page() -> str | None:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    found = [t for t in await answer.json() if t["type"] == "page"]
                return str(found[0]["webSocketDebuggerUrl"]) if found else None

            address = await until(page, "a page", 20)
            async with session.ws_connect(address, max_msg_size=0) as socket:
                made = Page(socket)
                await made.ask("Runtime.enable")
                await made.ask("Log.enable")
                yield made
    finally:
        process.terminate()
        await process.wait()

"""The console in a real browser, with real calls."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.system.harness import Desk, missing, until
from tests.system.test_streams import connected

pytestmark = pytest.mark.system


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


@asynccontextmanager
async def browser(url: str, folder: Path) -> AsyncIterator[Page]:
    """Open *url* in Debian's Chromium."""
    binary = shutil.which("chromium")
    if binary is None:
        missing("chromium")
    assert binary is not None
    process = await asyncio.create_subprocess_exec(
        *(binary, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--remote-debugging-port=0"),
        *(f"--user-data-dir={folder / 'profile'}", url),
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


async def test_a_call_is_seen_held_resumed_and_hung_up_in_the_browser(
    desk: Desk, tmp_path: Path
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    async with browser(f"{bridge.url}/", tmp_path) as page:
        await page.shows("#state", "0 calls now", 20)
        leg, call_id = await connected(desk, bridge, carrier)
        await page.shows("#rows", "active")
        await page.shows("#facts", call_id)
        await page.shows("#events", "answered")
        await leg.run("hold sendonly")
        await page.shows("#rows", "on hold", 2)
        await page.shows("#events", "direction sendonly", 2)
        await leg.run("resume")
        await page.shows("#rows", "active", 2)
        await page.run("document.querySelector('#ladder summary').click()")
        await page.shows("#rung-rows", "INVITE sip:***@")
        await page.run("document.querySelector('#hangup').click()")
        await leg.run("expect hangup within 5s")
        assert leg.report.failed is None, leg.report.failed
        await page.shows("#rows", "completed (api hangup)")
        await page.shows("#state", "0 calls now")
        await page.shows("#rung-rows", "BYE sip:")
        assert await page.run("document.querySelector('#hangup').hidden") is True
        assert page.complaints == []


async def test_the_page_asks_for_a_key_and_comes_back_after_a_restart(
    desk: Desk, tmp_path: Path
) -> None:
    carrier = await desk.carrier()
    bridge = await desk.bridge(carrier)
    _, call_id = await connected(desk, bridge, carrier)
    with bridge.config.open("a") as file:
        file.write('\n[[http.key]]\nname = "app"\nkey = "s3cret"\n')
    await bridge.client.reload()
    async with browser(f"{bridge.url}/", tmp_path) as page:
        await page.shows("#state", "a key is needed", 20)
        give = "document.querySelector('#key').value = '{}';"
        give += "document.querySelector('#key-form').requestSubmit()"
        await page.run(give.format("wrong"))
        await page.shows("#state", "not accepted")
        await page.run(give.format("s3cret"))
        await page.shows("#state", "1 call now")
        await page.shows("#facts", call_id)
        await bridge.kill()
        await page.shows("#state", "cannot be reached")
        await bridge.start()
        await page.shows("#rows", "dropped (crash)", 20)
        await page.shows("#state", "0 calls now")
        assert "s3cret" not in await page.run("document.documentElement.outerHTML")

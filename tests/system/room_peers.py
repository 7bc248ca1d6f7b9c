"""Participants that are no Python SDK: the Go SDK's, and Chromium with livekit-client.

`scripts/room_peers.sh` builds and fetches them. Each says a tone and judges the phone's, by
the words of `meter.judge`.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from aiohttp import web
from livekit import api

from tests.serving import serving
from tests.system.chromium import Page, browser
from tests.system.harness import AGENT_HERTZ, DEADLINE, ROOT, Server, missing

GO_PEER = ROOT / ".cache" / "bin" / "go-peer"
LIVEKIT_CLIENT = ROOT / ".cache" / "peers" / "browser" / "livekit-client.umd.js"
PAGE = Path(__file__).with_name("browser_peer")
LEVEL = 9000  # amplitude of the voices, of 32767
VOICE_DBOV = -14.2  # what that is
RATE = 48000


class RoomPeer(Protocol):
    """A participant that says `AGENT_HERTZ`."""

    async def measure(self) -> None:
        """Wait until the phone is subscribed to; begin to measure it."""

    async def report(self) -> dict[str, Any]:
        """Return what was heard since, as `meter.judge` does."""


def token(server: Server, room: str, identity: str) -> str:
    """Return a token for a participant."""
    made = api.AccessToken(server.api_key, server.api_secret).with_identity(identity)
    return made.with_grants(api.VideoGrants(room_join=True, room=room)).to_jwt()


def write_opus(path: Path, hertz: int = AGENT_HERTZ, seconds: int = 10) -> None:
    """Write a tone as Opus packets of 20 ms, each after its length in two octets."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.format, encoder.layout = RATE, av.AudioFormat("s16"), "mono"
    encoder.options = {"frame_duration": "20", "application": "audio"}
    samples = LEVEL * np.sin(2 * np.pi * hertz / RATE * np.arange(seconds * RATE))
    packets = []
    for at in range(0, len(samples), RATE // 50):
        block = samples[at : at + RATE // 50].astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, at
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    path.write_bytes(b"".join(struct.pack("!H", len(one)) + one for one in packets))


# --- Go -----------------------------------------------------------------------------------


class GoPeer:
    """The program of ``go_peer/``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.codec = ""

    async def said(self, what: str, within: float = DEADLINE) -> dict[str, Any]:
        """Wait for its line *what*."""
        assert self._process.stdout is not None
        async with asyncio.timeout(within):
            while line := await self._process.stdout.readline():
                told: dict[str, Any] = json.loads(line)
                if told["saw"] == "subscribed":
                    self.codec = told["codec"]
                if told["saw"] == what:
                    return told
        raise AssertionError(f"the Go peer ended before it said {what}")

    async def _ask(self, command: str, answer: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        await self._process.stdin.drain()
        return await self.said(answer)

    async def measure(self) -> None:
        if not self.codec:
            await self.said("subscribed")
        await self._ask("measure", "measuring")

    async def report(self) -> dict[str, Any]:
        return {**await self._ask("report", "sound"), "codec": self.codec}


@asynccontextmanager
async def go_peer(server: Server, room: str, folder: Path) -> AsyncIterator[GoPeer]:
    """Put a participant on the Go SDK into *room*."""
    if not os.access(GO_PEER, os.X_OK):
        missing("the Go SDK's participant (scripts/room_peers.sh)")
    voice = folder / "voice.opus"
    await asyncio.to_thread(write_opus, voice)
    with (folder / "go-peer.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(str(GO_PEER), server.url, token(server, room, "agent"), str(voice)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        peer = GoPeer(process)
        await peer.said("joined")
        yield peer
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


# --- the browser --------------------------------------------------------------------------


class BrowserPeer:
    """The page of ``browser_peer/``."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def measure(self) -> None:
        await self._page.waits("peer.meter !== undefined", "the phone is subscribed to")
        await self._page.run("peer.measure()")

    async def report(self) -> dict[str, Any]:
        told: dict[str, Any] = await self._page.run("peer.report()")
        return told

    async def leave(self) -> None:
        """Leave the room, as closing the page in good order does."""
        await self._page.run("peer.room.disconnect()")


@asynccontextmanager
async def browser_peer(
    server: Server, room: str, folder: Path, *, given_token: str = ""
) -> AsyncIterator[BrowserPeer]:
    """Put Chromium with livekit-client into *room*, by the token it was given or one of ours."""
    if not LIVEKIT_CLIENT.exists():
        missing("livekit-client (scripts/room_peers.sh)")
    site = web.Application()
    for file in (*PAGE.glob("*.html"), *PAGE.glob("*.js"), LIVEKIT_CLIENT):
        site.router.add_get(f"/{file.name}", _sends(file))
    flags = ("--autoplay-policy=no-user-gesture-required", "--allow-loopback-in-peer-connection")
    async with (
        serving(site) as port,
        browser(f"http://127.0.0.1:{port}/index.html", folder, *flags) as page,
    ):
        await page.waits("typeof peer === 'object'", "the page is there")
        by = given_token or token(server, room, "agent")
        given = (server.url, by, AGENT_HERTZ, LEVEL / 32767)
        state = await page.run(f"peer.join(...{json.dumps(given)})")
        assert state == "running", f"WebAudio is {state}"
        yield BrowserPeer(page)


def _sends(file: Path) -> Any:
    async def send(_: web.Request) -> web.FileResponse:
        return web.FileResponse(file)

    return send

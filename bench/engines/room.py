"""The agents of an arm at a real livekit-server, each in a room of its own; media is native.

Signalling is the least that gets a participant into a room with one track and the other's audio
(``/rtc/v1``, one PeerConnection); nothing of the bridge is imported.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import aiohttp
from livekit import api
from livekit.protocol import models, rtc

from bench.engines.tools import LOAD, Answer, NoTools, Tool
from tests.system.conftest import LiveKitServer, livekit_server_binary, started_server

PATIENCE = 20.0


@contextmanager
def server() -> Iterator[tuple[LiveKitServer, int]]:
    """Run a livekit-server off the measured core; give it and its process. Raises `NoTools`."""
    if livekit_server_binary() is None:
        raise NoTools("no livekit-server (make sets it up in .cache/bin)")
    before = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="trunkbridge-bench-") as folder:
        os.sched_setaffinity(0, LOAD)
        try:
            private = started_server(Path(folder))
        finally:
            os.sched_setaffinity(0, before)
        try:
            assert private.process is not None
            yield private.server, private.process.pid
        finally:
            private.stop()


Kind = Literal["standard", "sip"]


def token(server: LiveKitServer, room: str, identity: str, *, kind: Kind = "standard") -> str:
    """Return the right to join *room*."""
    made = (
        api.AccessToken(server.api_key, server.api_secret)
        .with_identity(identity)
        .with_grants(
            api.VideoGrants(
                room_join=True,
                room=room,
                can_publish=True,
                can_subscribe=True,
                can_publish_data=True,
                can_update_own_metadata=True,
            )
        )
    )
    return made.with_kind(kind).to_jwt()


def line_of(sdp: str) -> str:
    """Return *sdp* as the native tool takes it."""
    return sdp.replace("\r\n", "\x1f")


class Agents:
    """Participants whose media one native tool carries. Their numbers are the rooms' places."""

    def __init__(self, media: Tool, server: LiveKitServer, rooms: list[str]) -> None:
        self._media = media
        self._server = server
        self.rooms = rooms
        self._members: dict[int, _Member] = {}
        media.told["offer"] = self._offered
        media.told["connected"] = self._connected

    async def join(self) -> None:
        """Bring all in, some at a time; each has its media up."""
        gate = asyncio.Semaphore(4)

        async def one(number: int, room: str) -> None:
            async with gate:
                member = self._members[number] = _Member(self._media, number)
                await member.join(self._server, room, f"agent-{number}")

        await asyncio.gather(*(one(n, room) for n, room in enumerate(self.rooms)))

    async def leave(self) -> None:
        """Take all out."""
        await asyncio.gather(*(member.leave() for member in self._members.values()))

    def _offered(self, told: Answer) -> None:
        self._members[told["offer"]].offered(told["sdp"])

    def _connected(self, told: Answer) -> None:
        self._members[told["connected"]].connected.set()


class _Member:
    def __init__(self, media: Tool, number: int) -> None:
        self._media = media
        self._number = number
        self._offer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._count = 0
        self.connected = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()
        self._socket: aiohttp.ClientWebSocketResponse
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self, server: LiveKitServer, room: str, identity: str) -> None:
        self._media.order(f"join {self._number}")
        async with asyncio.timeout(PATIENCE):
            sdp = await self._offer
            wanted = rtc.JoinRequest(
                client_info=models.ClientInfo(
                    sdk=models.ClientInfo.SDK.UNKNOWN, protocol=16, os="linux"
                ),
                connection_settings=rtc.ConnectionSettings(auto_subscribe=True),
                add_track_requests=[
                    rtc.AddTrackRequest(
                        cid="mic",
                        name="voice",
                        type=models.TrackType.AUDIO,
                        source=models.TrackSource.MICROPHONE,
                        disable_dtx=True,
                        disable_red=True,
                    )
                ],
                publisher_offer=rtc.SessionDescription(type="offer", sdp=sdp, id=self._next()),
            )
            wrapped = rtc.WrappedJoinRequest(join_request=wanted.SerializeToString())
            packed = base64.urlsafe_b64encode(wrapped.SerializeToString()).decode()
            client = await self._stack.enter_async_context(aiohttp.ClientSession())
            self._socket = await self._stack.enter_async_context(
                client.ws_connect(
                    f"{server.url}/rtc/v1?{urlencode({'join_request': packed})}",
                    headers={"Authorization": f"Bearer {token(server, room, identity)}"},
                )
            )
            self._start(self._read())
            await self.connected.wait()

    async def leave(self) -> None:
        self._media.order(f"close {self._number}")
        leave = rtc.LeaveRequest(reason=models.DisconnectReason.CLIENT_INITIATED)
        with contextlib.suppress(Exception):  # the server may be gone
            await self._socket.send_bytes(rtc.SignalRequest(leave=leave).SerializeToString())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def offered(self, sdp: str) -> None:
        if not self._offer.done():
            self._offer.set_result(sdp)
            return
        offer = rtc.SessionDescription(type="offer", sdp=sdp, id=self._next())
        self._send(rtc.SignalRequest(offer=offer))

    def _next(self) -> int:
        self._count += 1
        return self._count

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                continue
            told = rtc.SignalResponse.FromString(message.data)
            match told.WhichOneof("message"):
                case "join":
                    self._start(self._ping(told.join.ping_interval or 5))
                case "answer":
                    sdp = line_of(told.answer.sdp)
                    self._media.order(f"answer {self._number} {sdp}")
                case "trickle":
                    # Only theirs are needed: the server learns us as peer-reflexive.
                    candidate = json.loads(told.trickle.candidateInit).get("candidate", "")
                    if candidate:
                        self._media.order(f"candidate {self._number} {candidate}")
                case "media_sections_requirement":
                    wanted = told.media_sections_requirement.num_audios
                    self._media.order(f"more {self._number} {wanted}")
                case "leave":
                    return

    async def _ping(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            ping = rtc.Ping(timestamp=int(time.time() * 1000))
            await self._socket.send_bytes(rtc.SignalRequest(ping_req=ping).SerializeToString())

    def _send(self, request: rtc.SignalRequest) -> None:
        self._start(self._socket.send_bytes(request.SerializeToString()))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))


@asynccontextmanager
async def agents(media: Tool, server: LiveKitServer, calls: int) -> AsyncIterator[Agents]:
    """Have *calls* agents in rooms of their own."""
    name = uuid.uuid4().hex[:8]
    made = Agents(media, server, [f"bench-{name}-{n}" for n in range(calls)])
    try:
        await made.join()
        yield made
    finally:
        await made.leave()

"""A scripted LiveKit server for tests: a real websocket on loopback, and a WebRTC stack of air."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from livekit.protocol import rtc
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from bridge.room.seam import RoomNotice
from bridge.room.signal.port import (
    AnswerMade,
    ChannelOpened,
    DataDelivered,
    OfferMade,
    PeerConnected,
    PeerEvent,
    Side,
)
from tests.unit.room.signal.wire import CID, answer, join, join_request, published, reconnect

DEADLINE = 20.0
T = TypeVar("T")


@dataclass
class Script:
    """What the server does. ``statuses``: HTTP answers before the first websocket, in order."""

    statuses: list[int] = field(default_factory=list)
    body: str = ""
    unknown: tuple[str, ...] = ()  # paths that are not found
    greeting: list[bytes] = field(default_factory=lambda: [join(), answer(), published()])
    resumption: list[bytes] = field(default_factory=lambda: [reconnect()])


class ScriptedServer:
    """Takes websockets one after the other and keeps what it is told."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.url = ""
        self.attempts: list[Request] = []
        self.paths: list[str] = []  # of websockets
        self.tokens: list[str] = []
        self.received: asyncio.Queue[rtc.SignalRequest] = asyncio.Queue()
        self.opened: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self.last: ServerConnection | None = None
        self._server: Server | None = None
        self._tls: ssl.SSLContext | None = None
        self._port = 0

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls or self._tls
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self._port,
            process_request=self._greet,
            ssl=self._tls,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"{'wss' if self._tls else 'ws'}://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """End as a crash would."""
        if self._server is not None:
            if self.last is not None:
                self.last.transport.abort()
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def _greet(self, connection: ServerConnection, request: Request) -> Response | None:
        self.attempts.append(request)
        if urlsplit(request.path).path in self.script.unknown:
            return connection.respond(404, self.script.body)
        if "Upgrade" in request.headers and self.script.statuses:
            return connection.respond(self.script.statuses.pop(0), self.script.body)
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        path = connection.request.path
        self.paths.append(path)
        self.tokens.append(connection.request.headers["Authorization"])
        self.last = connection
        first = len(self.paths) == 1
        for message in self.script.greeting if first else self.script.resumption:
            await connection.send(await self._ours(message, connection))
        self.opened.put_nowait(connection)
        try:
            async for data in connection:
                assert isinstance(data, bytes)
                request = rtc.SignalRequest.FromString(data)
                self.received.put_nowait(request)
                if request.WhichOneof("message") == "leave":
                    return
        except ConnectionClosed:
            return

    async def _ours(self, message: bytes, connection: ServerConnection) -> bytes:
        """Return *message*, what is said of our track under the client's id of it."""
        response = rtc.SignalResponse.FromString(message)
        if response.track_published.cid != CID:
            return message
        path = self.paths[-1]
        if path.startswith("/rtc/v1?"):
            cid = join_request(path).add_track_requests[0].cid
        else:
            data = await connection.recv()
            assert isinstance(data, bytes)
            cid = rtc.SignalRequest.FromString(data).add_track.cid
        response.track_published.cid = cid
        return response.SerializeToString()

    async def connection(self) -> ServerConnection:
        """Return the next websocket that is open."""
        return await asyncio.wait_for(self.opened.get(), DEADLINE)

    async def told(self, kind: str) -> Any:
        """Return the next message of *kind*, and drop those before it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                request = await self.received.get()
                if request.WhichOneof("message") == kind:
                    return getattr(request, kind)


@asynccontextmanager
async def scripted(
    script: Script | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """Run a scripted server."""
    server = ScriptedServer(script or Script())
    await server.start(tls)
    try:
        yield server
    finally:
        await server.stop()


class AirPeer:
    """A `PeerPort` that has no network: it offers, answers and connects at once."""

    def __init__(self, notify: Callable[[PeerEvent], None]) -> None:
        self.notify = notify
        self.calls: list[tuple[Any, ...]] = []
        self.sent: list[bytes] = []
        self.offers = 0
        self.offering = True
        self.connecting = True
        self.delivering = True
        self.sides: set[Side] = set()

    def tell(self, event: PeerEvent) -> None:
        asyncio.get_running_loop().call_soon(self.notify, event)

    def _offer(self, side: Side) -> None:
        if self.offering:
            self.offers += 1
            self.tell(OfferMade(side=side, sdp=f"offer {self.offers}"))

    def open(self, side: Side, *, address: str, track: str | None, receivers: int) -> None:
        self.calls.append(("open", side, address, track, receivers))
        self.sides.add(side)
        if side is Side.PUBLISHER:
            self._offer(side)

    def accept_answer(self, side: Side, sdp: str) -> None:
        self.calls.append(("answer", side))
        self.connect(side)

    def connect(self, side: Side) -> None:
        if self.connecting:
            self.tell(PeerConnected(side=side))
            if side is Side.PUBLISHER:
                self.tell(ChannelOpened(side=side, label="_reliable", stream=0))

    def accept_offer(self, side: Side, sdp: str) -> None:
        self.calls.append(("offer", side))
        self.tell(AnswerMade(side=side, sdp=f"answer to {sdp}"))
        self.connect(side)

    def add_candidate(self, side: Side, candidate: str) -> None:
        self.calls.append(("candidate", side))

    def add_receivers(self, side: Side, count: int) -> None:
        self.calls.append(("receivers", side, count))
        self._offer(side)

    def restart_ice(self, side: Side) -> None:
        self.calls.append(("restart", side))
        self._offer(side)

    def send(self, label: str, data: bytes) -> None:
        self.sent.append(data)
        if self.delivering:
            self.tell(DataDelivered(side=Side.PUBLISHER, label=label, count=1))

    def mute(self, muted: bool) -> None:
        self.calls.append(("mute", muted))

    def close(self, side: Side) -> None:
        self.calls.append(("close", side))
        self.sides.discard(side)


class Notices:
    """What a session told, with a way to wait for it."""

    def __init__(self) -> None:
        self.seen: list[RoomNotice] = []
        self._changed = asyncio.Event()

    def __call__(self, notice: RoomNotice) -> None:
        self.seen.append(notice)
        self._changed.set()

    async def of(self, kind: type[T]) -> T:
        """Wait for the first notice of a kind."""
        async with asyncio.timeout(DEADLINE):
            while True:
                for notice in self.seen:
                    if isinstance(notice, kind):
                        return notice
                self._changed.clear()
                await self._changed.wait()

"""The messages of a call's room: what we publish, the keys and RPCs of others.

A shell around `RoomData`: it knows whose turn it is, and this has the clock, the futures of
those who wait, and the RPC handlers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, assert_never

import structlog

from bridge.room import convention
from bridge.room.joining import conclude, retrieve
from bridge.room.seam import (
    DtmfRequested,
    RoomError,
    RoomHandlers,
    RoomNotice,
    RoomStream,
    RpcRefused,
)
from bridge.room.signal.data import (
    RELIABLE,
    DataFailed,
    DataSent,
    DtmfReceived,
    Output,
    RoomData,
    SendData,
    UserReceived,
)
from bridge.room.signal.port import (
    ChannelOpened,
    DataDelivered,
    DataReceived,
    PeerClosed,
    PeerEvent,
    Side,
)
from bridge.room.signal.rpc import RpcAsked, RpcCode, RpcExpired, RpcKey
from bridge.room.signal.streams import TextReceived

log = structlog.get_logger(__name__)

ANSWER_PATIENCE: Final = 0.15
"""Seconds that a leave waits for RPC handlers under way."""


class Exchange:
    """The messages of one call, over reconnects and rejoins.

    *transmit* gives the transport one message for a data channel, *kind_of* finds out what a
    caller is, *told* hears the notices, *speaker* knows the kind of whom words are, by identity
    and transcribed track.
    """

    def __init__(
        self,
        handlers: RoomHandlers,
        *,
        transmit: Callable[[str, bytes], None],
        kind_of: Callable[[str], Awaitable[str]],
        told: Callable[[RoomNotice], None],
        speaker: Callable[[str, str], str] = lambda _identity, _track: "unknown",
    ) -> None:
        self._rpc = handlers.rpc
        self._stream = handlers.stream
        self._speaker = speaker
        self._transmit = transmit
        self._kind_of = kind_of
        self._told = told
        topics = () if handlers.stream is None else handlers.topics
        self._data = RoomData(methods=handlers.rpc, topics=topics)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._answering: dict[RpcKey, asyncio.Task[None]] = {}
        self._refusal: RoomError | None = None
        self._failure = RoomError("the room is away")
        self._timer: asyncio.TimerHandle | None = None
        self._arrived: asyncio.Future[None] | None = None
        self.moved_at = float("-inf")  # when a message left or arrived, of the loop's clock

    # What we send.

    def publish(self, payload: bytes, topic: str, to: Sequence[str]) -> Awaitable[None]:
        """Send a message in its turn, which may be now; the result is done when it is sent."""
        return self._sent(lambda: self._data.publish(payload, topic, to))

    def publish_dtmf(self, digit: str) -> Awaitable[None]:
        """Send one key in its turn."""
        return self._sent(lambda: self._data.publish_dtmf(digit))

    def _sent(self, put: Callable[[], int]) -> Awaitable[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(retrieve)
        if self._refusal is not None:
            done.set_exception(self._refusal)
            return done
        try:
            ticket = put()
        except RoomError as error:
            done.set_exception(error)
            return done
        self._waiting[ticket] = done
        self._run()
        return asyncio.shield(done)

    # The connection.

    def renew(self) -> None:
        """Let messages wait: a connection is being made."""
        self._refusal = None
        self._data.hold()

    def joined(self, identity: str) -> None:
        """We are in, as a new participant."""
        self._data.joined(identity)
        self._run()

    def hold(self) -> None:
        """Let messages wait: the connection is being repaired."""
        self._data.hold()

    def release(self) -> None:
        """Let them go, in order."""
        self._data.release()
        self._run()

    def resumed(self, last_message: int) -> None:
        """The server took us back, and has seen our packets up to this number."""
        self._data.resumed(last_message)

    def receive_states(self) -> list[tuple[str, int]]:
        """Return what we have seen of the others' packets, for the server."""
        return self._data.receive_states()

    def present(self, identity: str) -> None:
        """*identity* is in the room: send what may not have reached it before we were lost."""
        self._data.present(identity)
        self._run()

    def lose(self, others: Sequence[str]) -> None:
        """Fail what waits: on another connection it may have to go to others.

        What was sent and may be lost goes again to *others*, who were there, as they come back.
        """
        self._data.channel_closed()
        self._data.lose(others)
        self._fail(RoomError("the room is away"))

    def close(self, error: RoomError) -> None:
        """Fail all that waits and all that comes, until `renew`."""
        self._refusal = error
        self._data.forget()
        self._fail(error)

    def _fail(self, error: RoomError) -> None:
        self._data.hold()
        self._failure = error
        self._data.fail_waiting()
        self._run()

    async def finish(self, until: float) -> None:
        """Have RPCs under way answered, or refused, and what was sent delivered: we leave.

        *until* bounds it, of the loop's clock. SCTP may confirm the last message 0.2 s late.
        """
        loop = asyncio.get_running_loop()
        if self._answering:
            await asyncio.wait(set(self._answering.values()), timeout=ANSWER_PATIENCE)
        self._data.leave()
        self._run()
        if self._data.under_way:
            self._arrived = loop.create_future()
            await asyncio.wait({self._arrived}, timeout=max(0.0, until - loop.time()))
            self._arrived = None
        self._data.channel_closed()

    # What comes.

    def peer_event(self, event: PeerEvent) -> None:
        """Take what concerns the data channels."""
        match event:
            case DataReceived():
                now = asyncio.get_running_loop().time()
                self._data.receive(event.label, event.data, now)
            case DataDelivered(side=Side.PUBLISHER):
                self._data.delivered(event.label, event.count)
                self.moved_at = asyncio.get_running_loop().time()
            case ChannelOpened(side=Side.PUBLISHER, label=label) if label == RELIABLE:
                self._data.channel_opened()
            case PeerClosed(side=Side.PUBLISHER):
                self._data.channel_closed()
            case _:
                return
        self._run()
        if self._arrived is not None and not self._arrived.done() and not self._data.under_way:
            self._arrived.set_result(None)

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for output in self._data.poll(loop.time()):
            self._perform(output, loop.time())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._data.next_deadline()
        if due is not None:
            self._timer = loop.call_at(due, self._run)

    def _perform(self, output: Output, now: float) -> None:
        match output:
            case SendData():
                self.moved_at = now
                self._transmit(output.label, output.data)
            case DataSent():
                self._conclude(output.ticket, None)
            case DataFailed():
                self._conclude(output.ticket, self._failure)
            case DtmfReceived():
                self._told(DtmfRequested(digit=output.digit))
            case RpcAsked():
                work = asyncio.get_running_loop().create_task(self._serve(output))
                self._answering[output.key] = work
                work.add_done_callback(lambda _task: self._answering.pop(output.key, None))
            case RpcExpired():
                pass  # its handler may have begun what must not end in the middle
            case TextReceived():
                self._streamed(output)
            case UserReceived():
                pass
            case _:
                assert_never(output)

    def _streamed(self, text: TextReceived) -> None:
        if self._stream is not None:
            track = text.attributes.get(convention.TRANSCRIBED_TRACK, "")
            self._stream(
                RoomStream(
                    topic=text.topic,
                    identity=text.identity,
                    kind=self._speaker(text.identity, track),
                    text=text.text,
                    data=text.data,
                    attributes=text.attributes,
                    lasted=text.lasted,
                    whole=text.whole,
                )
            )

    def _conclude(self, ticket: int, error: RoomError | None) -> None:
        done = self._waiting.pop(ticket, None)
        if done is not None:
            conclude(done, error)

    async def _serve(self, asked: RpcAsked) -> None:
        try:
            kind = "unknown" if asked.from_server else await self._kind_of(asked.caller)
            reply = await self._rpc[asked.method](asked.caller, kind, asked.payload)
        except RpcRefused as refusal:
            self._data.refuse(asked.key, refusal.code, str(refusal))
        except Exception:
            log.exception("room.rpc_failed", method=asked.method)
            self._data.refuse(asked.key, RpcCode.APPLICATION_ERROR, "internal error")
        else:
            self._data.answer(asked.key, reply)
        self._run()

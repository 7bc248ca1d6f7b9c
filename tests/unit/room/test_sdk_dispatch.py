"""FFI events by handle: what is ours is taken out, everything else goes the SDK's way."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from livekit import rtc
from livekit.rtc._ffi_client import FfiQueue
from livekit.rtc._proto import ffi_pb2
from structlog.testing import capture_logs

from bridge.room import sdk_dispatch
from bridge.room.sdk_dispatch import (
    CAPTURES_LIMIT,
    FIRST_ID,
    Dispatcher,
    PublishRefused,
    Unusable,
    check,
    check_queue,
)

pytestmark = pytest.mark.unit

FRAME = bytes(range(160))
SOURCE, TRACK, STREAM, PARTICIPANT, ROOM = 11, 12, 13, 14, 15


class Native:
    """Stands in for the native half: reads requests as it would, and answers."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.pcm: list[bytes] = []
        self.payloads: list[bytes] = []
        self.dropped: list[int] = []
        self.on_stream: Callable[[], None] = lambda: None
        self.renumbers = False
        self.refuses = False

    def exchange(self, wire: bytes) -> bytes:
        if self.refuses:
            raise Unusable("no response")
        request = ffi_pb2.FfiRequest.FromString(wire)
        self.requests.append(request)
        response = ffi_pb2.FfiResponse()
        match request.WhichOneof("message"):
            case "capture_audio_frame":
                wanted = request.capture_audio_frame
                size = wanted.buffer.samples_per_channel * 2
                self.pcm.append(ctypes.string_at(wanted.buffer.data_ptr, size))
                response.capture_audio_frame.async_id = (
                    7 if self.renumbers else wanted.request_async_id
                )
            case "publish_data":
                told = request.publish_data
                self.payloads.append(ctypes.string_at(told.data_ptr, told.data_len))
                response.publish_data.async_id = told.request_async_id
            case "new_audio_stream":
                self.on_stream()
                response.new_audio_stream.stream.handle.id = STREAM
            case "new_audio_source":
                response.new_audio_source.source.handle.id = SOURCE
        return response.SerializePartialToString()

    def tell(self, wire: bytes) -> None:
        self.exchange(wire)

    def drop(self, handle: int) -> bool:
        self.dropped.append(handle)
        return True


class Bench:
    """A dispatcher before the SDK's own queue."""

    def __init__(self) -> None:
        self.native = Native()
        self.queue: FfiQueue[Any] = FfiQueue()
        self.made = Dispatcher(self.queue, ffi_pb2, native=self.native, quick=self.native)
        self.made.install()

    def tell(self, event: Any) -> None:
        """Tell *event* on a thread of the native half, and return when it was taken."""
        thread = threading.Thread(target=self.queue.put, args=(event,))
        thread.start()
        thread.join()


@pytest.fixture
async def bench() -> Bench:
    return Bench()


def captured(number: int, error: str | None = None) -> Any:
    event = ffi_pb2.FfiEvent()
    event.capture_audio_frame.async_id = number
    if error:
        event.capture_audio_frame.error = error
    return event


def published(number: int, error: str | None = None) -> Any:
    event = ffi_pb2.FfiEvent()
    event.publish_data.async_id = number
    if error:
        event.publish_data.error = error
    return event


def frame(stream: int, pcm: bytes, handle: int) -> Any:
    """Return the event of a frame; *pcm* must outlive it."""
    event = ffi_pb2.FfiEvent()
    event.audio_stream_event.stream_handle = stream
    told = event.audio_stream_event.frame_received.frame
    told.handle.id = handle
    told.info.data_ptr = sdk_dispatch.address(pcm)
    told.info.num_channels = 1
    told.info.sample_rate = 8000
    told.info.samples_per_channel = len(pcm) // 2
    return event


def end_of(stream: int) -> Any:
    event = ffi_pb2.FfiEvent()
    event.audio_stream_event.stream_handle = stream
    event.audio_stream_event.eos.SetInParent()
    return event


def in_room(handle: int) -> Any:
    event = ffi_pb2.FfiEvent()
    event.room_event.room_handle = handle
    event.room_event.reconnecting.SetInParent()
    return event


def invoked(participant: int) -> Any:
    event = ffi_pb2.FfiEvent()
    event.rpc_method_invocation.local_participant_handle = participant
    for name in ("method", "request_id", "caller_identity", "payload"):
        setattr(event.rpc_method_invocation, name, name)
    event.rpc_method_invocation.invocation_id = 1
    event.rpc_method_invocation.response_timeout_ms = 1
    return event


def waiting(queue: asyncio.Queue[Any]) -> list[str]:
    return [str(queue.get_nowait().WhichOneof("message")) for _ in range(queue.qsize())]


# Captures.


async def test_frames_are_sent_after_the_turn_that_pushed_them(bench: Bench) -> None:
    source = bench.made.source(SOURCE, rate=8000, frame_bytes=160)
    assert source.push(FRAME)
    assert source.push(FRAME[::-1])
    assert bench.native.pcm == []
    await asyncio.sleep(0)
    assert bench.native.pcm == [FRAME, FRAME[::-1]]
    sent = bench.native.requests[0].capture_audio_frame
    assert (sent.source_handle, sent.buffer.sample_rate, sent.buffer.num_channels) == (
        SOURCE,
        8000,
        1,
    )
    assert sent.request_async_id >= FIRST_ID


async def test_the_end_of_a_capture_wakes_nobody(bench: Bench) -> None:
    stock = bench.queue.subscribe()
    source = bench.made.source(SOURCE, rate=8000, frame_bytes=160)
    source.push(FRAME)
    await asyncio.sleep(0)
    assert source.outstanding == 1
    bench.tell(captured(bench.native.requests[0].capture_audio_frame.request_async_id))
    await asyncio.sleep(0)
    assert source.outstanding == 0
    assert waiting(stock) == []


async def test_only_so_many_frames_are_on_their_way(bench: Bench) -> None:
    source = bench.made.source(SOURCE, rate=8000, frame_bytes=160)
    taken = [source.push(FRAME) for _ in range(CAPTURES_LIMIT + 3)]
    await asyncio.sleep(0)
    assert taken == [True] * CAPTURES_LIMIT + [False] * 3
    assert len(bench.native.pcm) == CAPTURES_LIMIT
    number = bench.native.requests[0].capture_audio_frame.request_async_id
    bench.tell(captured(number))
    assert source.push(FRAME)


async def test_a_refused_frame_is_logged_ever_more_rarely(bench: Bench) -> None:
    source = bench.made.source(SOURCE, rate=8000, frame_bytes=160)
    source.push(FRAME)
    await asyncio.sleep(0)
    number = bench.native.requests[0].capture_audio_frame.request_async_id
    with capture_logs() as logs:
        for _ in range(5):
            source.settled("no")
        bench.queue.put(captured(number, "no"))
    assert [line["count"] for line in logs] == [1, 2, 4]


async def test_a_source_that_is_gone_counts_its_frames_as_done(bench: Bench) -> None:
    source = bench.made.source(SOURCE, rate=8000, frame_bytes=160)
    bench.native.refuses = True
    source.push(FRAME)
    await asyncio.sleep(0)
    assert source.outstanding == 0


async def test_a_closed_source_sends_nothing_and_its_late_ends_reach_nobody(bench: Bench) -> None:
    stock = bench.queue.subscribe()
    source = bench.made.source(SOURCE, rate=8000, frame_bytes=160)
    source.push(FRAME)
    await asyncio.sleep(0)
    number = bench.native.requests[0].capture_audio_frame.request_async_id
    source.push(FRAME)
    source.close()
    assert not source.push(FRAME)
    await asyncio.sleep(0)
    assert len(bench.native.pcm) == 1
    bench.tell(captured(number))
    await asyncio.sleep(0)
    assert waiting(stock) == []


async def test_a_frame_of_another_size_is_not_sent(bench: Bench) -> None:
    source = bench.made.source(SOURCE, rate=8000, frame_bytes=160)
    assert not source.push(FRAME * 2)


async def test_captures_of_others_go_the_sdks_way(bench: Bench) -> None:
    stock = bench.queue.subscribe()
    bench.made.source(SOURCE, rate=8000, frame_bytes=160)
    bench.tell(captured(3))
    await asyncio.sleep(0)
    assert waiting(stock) == ["capture_audio_frame"]


# Messages.


async def test_a_message_is_with_the_native_half_before_publish_returns(bench: Bench) -> None:
    stock = bench.queue.subscribe()
    done = bench.made.publish(PARTICIPANT, b"hold", topic="events", to=["agent"])
    assert bench.native.payloads == [b"hold"]
    sent = bench.native.requests[0].publish_data
    assert (sent.local_participant_handle, sent.topic, sent.reliable) == (
        PARTICIPANT,
        "events",
        True,
    )
    assert list(sent.destination_identities) == ["agent"]
    assert not done.done()
    bench.tell(published(sent.request_async_id))
    await done
    assert waiting(stock) == []


async def test_a_refused_message_says_why(bench: Bench) -> None:
    done = bench.made.publish(PARTICIPANT, b"", topic="events", to=[])
    bench.tell(published(bench.native.requests[0].publish_data.request_async_id, "closed"))
    with pytest.raises(PublishRefused, match="closed"):
        await done


async def test_the_end_of_a_message_that_nobody_awaits_any_more_reaches_nobody(
    bench: Bench,
) -> None:
    stock = bench.queue.subscribe()
    done = bench.made.publish(PARTICIPANT, b"hold", topic="events", to=[])
    done.cancel()
    await asyncio.sleep(0)
    bench.tell(published(bench.native.requests[0].publish_data.request_async_id))
    bench.tell(published(5))  # somebody else's
    await asyncio.sleep(0)
    assert waiting(stock) == ["publish_data"]


async def test_a_message_that_the_native_half_does_not_take_raises(bench: Bench) -> None:
    bench.native.refuses = True
    with pytest.raises(Unusable):
        bench.made.publish(PARTICIPANT, b"hold", topic="events", to=[])


# Streams.


async def test_frames_reach_their_listener_and_are_freed(bench: Bench) -> None:
    heard: list[bytes] = []
    stock = bench.queue.subscribe()
    bench.made.listen(TRACK, heard.append, rate=8000, frame_ms=20)
    asked = bench.native.requests[0].new_audio_stream
    assert (asked.track_handle, asked.sample_rate, asked.frame_size_ms) == (TRACK, 8000, 20)
    assert asked.queue_size_frames > 0
    bench.tell(frame(STREAM, FRAME, 100))
    await asyncio.sleep(0)
    assert heard == [FRAME]
    assert bench.native.dropped == [100]
    assert waiting(stock) == []


async def test_a_frame_that_comes_before_its_streams_handle_is_not_lost(bench: Bench) -> None:
    heard: list[bytes] = []
    stock = bench.queue.subscribe()

    def early() -> None:
        bench.tell(frame(STREAM, FRAME, 100))
        bench.tell(frame(99, FRAME, 101))  # of somebody else's stream

    bench.native.on_stream = early
    bench.made.listen(TRACK, heard.append, rate=8000, frame_ms=20)
    await asyncio.sleep(0)
    assert heard == [FRAME]
    assert bench.native.dropped == [100]
    assert waiting(stock) == ["audio_stream_event"]


async def test_what_comes_after_the_close_is_freed_and_not_heard(bench: Bench) -> None:
    heard: list[bytes] = []
    stock = bench.queue.subscribe()
    stream = bench.made.listen(TRACK, heard.append, rate=8000, frame_ms=20)
    stream.close()
    stream.close()
    assert bench.native.dropped == [STREAM]
    bench.tell(frame(STREAM, FRAME, 100))
    bench.tell(end_of(STREAM))
    assert heard == []
    assert bench.native.dropped == [STREAM, 100]
    bench.tell(frame(STREAM, FRAME, 101))  # ended: not ours any more
    await asyncio.sleep(0)
    assert waiting(stock) == ["audio_stream_event"]


async def test_a_stream_that_is_refused_raises_and_holds_nothing_back(bench: Bench) -> None:
    stock = bench.queue.subscribe()
    bench.native.refuses = True
    with pytest.raises(Unusable):
        bench.made.listen(TRACK, lambda _pcm: None, rate=8000, frame_ms=20)
    bench.tell(frame(STREAM, FRAME, 100))
    await asyncio.sleep(0)
    assert waiting(stock) == ["audio_stream_event"]


# Rooms.


def room(bench: Bench, handle: int, participant: int) -> Any:
    """Return what a connected `rtc.Room` is to the dispatcher."""
    queue = bench.queue.subscribe(
        filter_fn=lambda e: e.WhichOneof("message") != "audio_stream_event"
    )
    local = SimpleNamespace(_ffi_handle=SimpleNamespace(handle=participant))
    return SimpleNamespace(
        _ffi_queue=queue, _ffi_handle=SimpleNamespace(handle=handle), local_participant=local
    )


async def test_a_room_of_ours_hears_its_own_events_only(bench: Bench) -> None:
    ours, stock = room(bench, ROOM, PARTICIPANT), room(bench, ROOM + 100, PARTICIPANT + 100)
    assert bench.made.own(ours)
    track = ffi_pb2.FfiEvent()
    track.publish_track.async_id = 3
    track.publish_track.error = ""
    told = [
        in_room(ROOM),
        in_room(ROOM + 100),
        invoked(PARTICIPANT),
        invoked(PARTICIPANT + 100),
        captured(3),
        published(3),
        track,
    ]
    for event in told:
        bench.tell(event)
    await asyncio.sleep(0)
    assert waiting(ours._ffi_queue) == ["room_event", "rpc_method_invocation", "publish_track"]
    assert len(waiting(stock._ffi_queue)) == len(told)


async def test_a_room_of_another_shape_is_left_alone(bench: Bench) -> None:
    strange = room(bench, ROOM, PARTICIPANT)
    strange._ffi_queue = asyncio.Queue()
    assert not bench.made.own(strange)
    del strange._ffi_queue
    assert not bench.made.own(strange)


async def test_an_unsubscribed_room_is_told_nothing(bench: Bench) -> None:
    ours = room(bench, ROOM, PARTICIPANT)
    bench.made.own(ours)
    bench.queue.unsubscribe(ours._ffi_queue)
    bench.tell(in_room(ROOM))
    await asyncio.sleep(0)
    assert waiting(ours._ffi_queue) == []


# Whether it can be used.


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(sdk_dispatch, "_looked", False)
    monkeypatch.setattr(sdk_dispatch, "_found", None)
    return monkeypatch


def stand_in(monkeypatch: pytest.MonkeyPatch, native: Native) -> FfiQueue[Any]:
    """Put *native* in the place of the SDK's native half."""
    from livekit.rtc import _ffi_client

    queue: FfiQueue[Any] = FfiQueue()
    client = SimpleNamespace(queue=queue, _ffi_lib=None)
    monkeypatch.setattr(_ffi_client, "FfiClient", SimpleNamespace(instance=client))
    monkeypatch.setattr(sdk_dispatch, "Native", lambda _library, *, held: native)
    return queue


def test_the_installed_sdk_is_shaped_as_expected() -> None:
    check(ffi_pb2)
    check_queue(FfiQueue())


def test_it_is_tried_before_it_is_used(fresh: pytest.MonkeyPatch) -> None:
    native = Native()
    queue = stand_in(fresh, native)
    found = sdk_dispatch.dispatcher()
    assert found is not None
    assert sdk_dispatch.dispatcher() is found
    assert "put" in vars(queue)
    assert native.dropped == [SOURCE]


def test_an_sdk_that_numbers_requests_itself_is_used_the_public_way(
    fresh: pytest.MonkeyPatch,
) -> None:
    native = Native()
    native.renumbers = True
    queue = stand_in(fresh, native)
    with capture_logs() as logs:
        assert sdk_dispatch.dispatcher() is None
        assert sdk_dispatch.dispatcher() is None
    assert [line["event"] for line in logs] == ["room.sdk_dispatch_off"]
    assert "put" not in vars(queue)


def test_another_queue_is_left_alone(fresh: pytest.MonkeyPatch) -> None:
    queue = stand_in(fresh, Native())
    queue._subscribers = {}  # type: ignore[assignment]
    with capture_logs():
        assert sdk_dispatch.dispatcher() is None
    assert "put" not in vars(queue)


def test_a_queue_that_somebody_else_changed_is_left_alone(fresh: pytest.MonkeyPatch) -> None:
    queue = stand_in(fresh, Native())
    theirs = queue.put
    queue.put = theirs  # type: ignore[method-assign]
    with capture_logs():
        assert sdk_dispatch.dispatcher() is None
    assert queue.put is theirs


def test_a_protocol_without_a_field_is_refused() -> None:
    fields = dict(ffi_pb2.FfiRequest.DESCRIPTOR.fields_by_name)
    del fields["publish_data"]
    older = SimpleNamespace(DESCRIPTOR=SimpleNamespace(name="FfiRequest", fields_by_name=fields))
    with pytest.raises(Unusable, match="publish_data"):
        check(SimpleNamespace(FfiRequest=older, FfiEvent=ffi_pb2.FfiEvent))


async def test_without_it_messages_go_the_public_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk_dispatch, "dispatcher", lambda: None)
    sent: list[tuple[Any, ...]] = []

    class Local:
        _ffi_handle = SimpleNamespace(handle=PARTICIPANT)

        async def publish_data(self, payload: bytes, **options: Any) -> None:
            sent.append((payload, options))

    await sdk_dispatch.send_data(Local(), b"hold", topic="events", to=["agent"])  # type: ignore[arg-type]
    options = {"reliable": True, "destination_identities": ["agent"], "topic": "events"}
    assert sent == [(b"hold", options)]


def test_rooms_without_it_are_left_to_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk_dispatch, "dispatcher", lambda: None)
    with capture_logs() as logs:
        sdk_dispatch.own_events(object())  # type: ignore[arg-type]
    assert logs == []
    assert rtc.__version__


def test_a_loop_that_ended_early_leaves_nothing_stuck() -> None:
    bench = Bench()
    source = bench.made.source(SOURCE, rate=8000, frame_bytes=160)

    def push_and_stop() -> None:
        source.push(FRAME)
        loop.stop()

    loop = asyncio.new_event_loop()
    loop.call_soon(push_and_stop)
    loop.run_forever()
    loop.close()
    assert bench.native.pcm == []

    async def push_and_stay() -> None:
        source.push(FRAME)
        await asyncio.sleep(0)

    asyncio.run(push_and_stay())
    assert bench.native.pcm == [FRAME, FRAME]

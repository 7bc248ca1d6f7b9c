"""FFI events of the livekit SDK by handle, beside its own way, which is to all.

The SDK (1.1.21) gives every event of its native half to every room, every
stream and every request that waits: with N calls each frame of one of them
wakes all N. This dispatcher stands before that fan-out and takes out what is
ours by handle or by number; everything else, and every other user of the SDK in
the process, goes the old way.

It uses private names. `dispatcher` looks at each of them and tries them once;
where anything is not as expected it returns None, says so once in the log, and
callers take the SDK's public way.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
from livekit import rtc

log = structlog.get_logger(__name__)

FIRST_ID: Final = 1 << 62
"""Our requests' numbers begin here; the SDK's own count from 1."""
CAPTURES_LIMIT: Final = 20
"""10 ms frames that may be on their way into one source; what comes on top is dropped."""
STREAM_QUEUE: Final = 10
"""Frames that the native half keeps for one stream; the oldest go first."""
THREADS_LIMIT: Final = 32
"""Native threads whose Python state is kept; there are a handful that carry audio."""

LOCK_KEPT: Final = frozenset({"1.1.21"})
"""Versions whose native half was read and found never to wait for Python while it takes a
frame or a message, or frees a buffer (livekit-ffi 0.12.74: requests.rs, audio_source.rs)."""

_PROBE_RATE: Final = 8000


class PublishRefused(Exception):
    """The native half did not take a data message."""


class Unusable(Exception):
    """This version of the SDK is not shaped as this module expects."""


class Native:
    """The native half's two C functions.

    *held* calls it with the interpreter lock in hand: a call of some microseconds that gives
    the lock away gets it back only after the callbacks that wait for it, each a change of
    threads. That is sound only where the native half is known never to wait for the lock.
    """

    def __init__(self, library: Any, *, held: bool) -> None:
        if held:
            library = ctypes.PyDLL(library._name, handle=library._handle)
        else:
            library = ctypes.CDLL(library._name, handle=library._handle)
        self._request = library.livekit_ffi_request
        self._request.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.POINTER(ctypes.c_void_p),
            ctypes.POINTER(ctypes.c_size_t),
        ]
        self._request.restype = ctypes.c_uint64
        self.drop: Callable[[int], bool] = library.livekit_ffi_drop_handle
        library.livekit_ffi_drop_handle.argtypes = [ctypes.c_uint64]
        library.livekit_ffi_drop_handle.restype = ctypes.c_bool

    def exchange(self, request: bytes) -> bytes:
        """Send a request; return the response. Raises `Unusable` when it is refused."""
        place, length = ctypes.c_void_p(), ctypes.c_size_t()
        handle = self._request(request, len(request), ctypes.byref(place), ctypes.byref(length))
        if not handle:
            raise Unusable("no response")
        response = ctypes.string_at(place.value or 0, length.value)
        self.drop(handle)
        return response

    def tell(self, request: bytes) -> None:
        """Send a request whose response says nothing. Raises `Unusable` when it is refused."""
        handle = self._request(request, len(request), ctypes.c_void_p(), ctypes.c_size_t())
        if not handle:
            raise Unusable("no response")
        self.drop(handle)


class Dispatcher:
    """Stands before the SDK's queue of events; made once per process by `dispatcher`.

    *queue* is that queue, *messages* the SDK's protobuf module; *quick* is for requests and
    frames that take microseconds, *native* for all others.
    """

    def __init__(self, queue: Any, messages: Any, *, native: Any, quick: Any) -> None:
        self._request_type = messages.FfiRequest
        self._response_type = messages.FfiResponse
        self._native = native
        self._quick = quick
        self._queue = queue
        self._stock_put: Callable[[Any], None] = queue.put
        self._ids = itertools.count(FIRST_ID)
        self._sources: dict[int, Source] = {}  # by the number of their captures
        self._pushed: list[tuple[Source, bytes]] = []
        self._flusher: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = {}
        self._streams: dict[int, Stream] = {}  # by handle
        self._opening = 0
        self._early: list[Any] = []  # events of streams whose handle is not known yet
        self._lock = threading.Lock()
        self._threads = {threading.get_ident()}

    def install(self) -> None:
        """Stand before the SDK's queue from now on."""
        self._queue.put = self._put

    def remove(self) -> None:
        """Leave the SDK's queue as it was."""
        del self._queue.put  # the class's own is there again

    def request(self, request: Any) -> Any:
        """Send a request to the native half; return its response. Raises `Unusable`."""
        return self._response_type.FromString(self._native.exchange(request.SerializeToString()))

    # What we ask for.

    def source(self, handle: int, *, rate: int, frame_bytes: int) -> Source:
        """Return a way to push frames of PCM into the native source *handle*."""
        number = next(self._ids)
        place = ctypes.create_string_buffer(frame_bytes)
        request = self._request_type()
        wanted = request.capture_audio_frame
        wanted.source_handle = handle
        wanted.request_async_id = number
        wanted.buffer.data_ptr = ctypes.addressof(place)
        wanted.buffer.sample_rate = rate
        wanted.buffer.num_channels = 1
        wanted.buffer.samples_per_channel = frame_bytes // 2
        source = Source(self, number, place, request.SerializeToString())
        self._sources[number] = source
        return source

    def forget_source(self, number: int) -> None:
        """Expect nothing more of a source."""
        self._sources.pop(number, None)

    def capture(self, source: Source, pcm: bytes) -> None:
        """Send a frame at the end of this turn of the loop, after what must not wait for it."""
        loop = asyncio.get_running_loop()
        if self._flusher is not loop:  # none is scheduled, or it was on a loop that has ended
            self._flusher = loop
            loop.call_soon(self.flush)
        self._pushed.append((source, pcm))

    def flush(self) -> None:
        """Send what was pushed."""
        self._flusher = None
        pushed, self._pushed = self._pushed, []
        for source, pcm in pushed:
            source.send(pcm, self._quick)

    def publish(
        self, participant: int, payload: bytes, *, topic: str, to: Sequence[str]
    ) -> asyncio.Future[None]:
        """Send a reliable data message now; the future is done when the SDK has sent it.

        The future raises `PublishRefused`.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        number = next(self._ids)
        request = self._request_type()
        wanted = request.publish_data
        wanted.local_participant_handle = participant
        wanted.data_ptr = address(payload)
        wanted.data_len = len(payload)
        wanted.reliable = True
        wanted.topic = topic
        wanted.destination_identities.extend(to)
        wanted.request_async_id = number
        self._waiting[number] = (loop, done)
        done.add_done_callback(lambda _: self._waiting.pop(number, None))
        try:
            self._quick.tell(request.SerializeToString())  # the payload is copied
        except BaseException:
            self._waiting.pop(number, None)
            raise
        return done

    def listen(
        self, track: int, sink: Callable[[bytes], None], *, rate: int, frame_ms: int
    ) -> Stream:
        """Open a stream of the native track *track*.

        *sink* is called on a thread of the native half with each frame, and must
        return at once.
        """
        request = self._request_type()
        wanted = request.new_audio_stream
        wanted.track_handle = track
        wanted.type = 0  # AUDIO_STREAM_NATIVE
        wanted.sample_rate = rate
        wanted.num_channels = 1
        wanted.frame_size_ms = frame_ms
        wanted.queue_size_frames = STREAM_QUEUE
        with self._lock:
            self._opening += 1
        stream = None
        try:
            opened = self.request(request).new_audio_stream.stream
            stream = Stream(self, opened.handle.id, sink)
        finally:
            with self._lock:
                self._opening -= 1
                if stream is not None:
                    self._streams[stream.handle] = stream
                early, self._early = self._early, []
            for event in early:
                self._put(event)
        return stream

    def own(self, room: rtc.Room) -> bool:
        """Keep events of other rooms from waking *room*, which is connected."""
        queue = getattr(room, "_ffi_queue", None)
        handle = getattr(getattr(room, "_ffi_handle", None), "handle", None)
        local = getattr(getattr(room.local_participant, "_ffi_handle", None), "handle", None)
        if queue is None or handle is None or local is None:
            return False
        wanted = _only(handle, local)
        with self._queue._lock:
            for index, (known, loop, _) in enumerate(self._queue._subscribers):
                if known is queue:
                    self._queue._subscribers[index] = (known, loop, wanted)
                    return True
        return False

    def drop(self, handle: int) -> None:
        """Free a native object."""
        self._native.drop(handle)

    def drop_frame(self, handle: int) -> None:
        """Free a native frame."""
        self._quick.drop(handle)

    # What the native half tells, on its threads.

    def _put(self, event: Any) -> None:
        match event.WhichOneof("message"):
            case "audio_stream_event":
                self._settle_in()
                if self._stream_event(event):
                    return
            case "capture_audio_frame":
                self._settle_in()
                if self._captured(event.capture_audio_frame):
                    return
            case "publish_data":
                if self._published(event.publish_data):
                    return
        self._stock_put(event)

    def _settle_in(self) -> None:
        """Keep the Python state of the native thread we are on, once per thread.

        Else CPython makes one for each event and frees it after: two system calls and, worse,
        an interruption of every other core that runs this process.
        """
        thread = threading.get_ident()
        if thread not in self._threads and len(self._threads) < THREADS_LIMIT:
            self._threads.add(thread)
            ctypes.pythonapi.PyGILState_Ensure()  # never released: the state stays

    def _stream_event(self, event: Any) -> bool:
        told = event.audio_stream_event
        stream = self._streams.get(told.stream_handle)
        if stream is None:
            with self._lock:
                stream = self._streams.get(told.stream_handle)
                if stream is None and self._opening:
                    self._early.append(event)
                    return True
        if stream is None:
            return False
        if told.HasField("frame_received"):
            stream.take(told.frame_received.frame)
        else:
            self._streams.pop(told.stream_handle, None)
        return True

    def _captured(self, told: Any) -> bool:
        source = self._sources.get(told.async_id)
        if source is not None:
            source.settled(told.error)
        return bool(told.async_id >= FIRST_ID)

    def _published(self, told: Any) -> bool:
        waiting = self._waiting.pop(told.async_id, None)
        if waiting is None:
            return bool(told.async_id >= FIRST_ID)  # ours, and nobody waits any more
        loop, done = waiting
        try:
            loop.call_soon_threadsafe(_settle, done, told.error)
        except RuntimeError:  # the loop is closed
            return True
        return True


class Source:
    """Pushes 10 ms frames into one native source and waits for none of them.

    The frame and the request have a place of their own: what is sent is the same each time.
    """

    def __init__(
        self, dispatcher: Dispatcher, number: int, place: ctypes.Array[ctypes.c_char], wire: bytes
    ) -> None:
        self._dispatcher = dispatcher
        self._number = number
        self._place = place
        self._wire = wire
        self._sent = 0  # counted on the loop's thread
        self._done = 0  # counted on the native half's
        self._refused = 0
        self._closed = False

    @property
    def outstanding(self) -> int:
        """Frames on their way."""
        return self._sent - self._done

    def push(self, pcm: bytes) -> bool:
        """Send one frame; False when too many are on their way, and this one is dropped."""
        if self._closed or self.outstanding >= CAPTURES_LIMIT or len(pcm) != len(self._place):
            return False
        self._sent += 1
        self._dispatcher.capture(self, pcm)
        return True

    def send(self, pcm: bytes, native: Any) -> None:
        """Give the native half a frame that was pushed; it copies it."""
        if self._closed:
            return
        ctypes.memmove(self._place, pcm, len(pcm))
        try:
            native.tell(self._wire)
        except Unusable:
            self.settled("the source is gone")

    def close(self) -> None:
        """Send nothing more; what was pushed and not sent is dropped."""
        self._closed = True
        self._dispatcher.forget_source(self._number)

    def settled(self, error: str) -> None:
        """A frame was taken, or refused with *error*."""
        self._done += 1
        if error:
            self._refused += 1
            if self._refused & (self._refused - 1) == 0:
                log.debug("room.frame_refused", error="refused", count=self._refused)


class Stream:
    """The frames of one track, from `Dispatcher.listen`."""

    def __init__(self, dispatcher: Dispatcher, handle: int, sink: Callable[[bytes], None]) -> None:
        self.handle = handle
        self._dispatcher = dispatcher
        self._sink: Callable[[bytes], None] | None = sink

    def take(self, frame: Any) -> None:
        """Hand a frame on and free it, also when nobody listens any more."""
        sink = self._sink
        if sink is not None:
            info = frame.info
            size = info.num_channels * info.samples_per_channel * 2
            sink(ctypes.string_at(info.data_ptr, size))
        self._dispatcher.drop_frame(frame.handle.id)

    def close(self) -> None:
        """Listen no more; the end that the native half tells forgets the stream."""
        if self._sink is not None:
            self._sink = None
            self._dispatcher.drop(self.handle)


def address(data: bytes) -> int:
    """Return where *data* lies; it must live while that is used."""
    found = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
    assert found is not None
    return found


def _only(room: int, participant: int) -> Callable[[Any], bool]:
    """Return whether an event is of this room, or of a kind that a room must see."""

    def wanted(event: Any) -> bool:
        match event.WhichOneof("message"):
            case "room_event":
                return bool(event.room_event.room_handle == room)
            case "rpc_method_invocation":
                invoked = event.rpc_method_invocation.local_participant_handle
                return bool(invoked == participant)
            case "audio_stream_event" | "video_stream_event":
                return False
            case "capture_audio_frame" | "publish_data" | "set_local_attributes":
                return False  # answers to requests, which wait for them by themselves
        return True

    return wanted


def _settle(done: asyncio.Future[None], error: str) -> None:
    if done.done():
        return
    if error:
        done.set_exception(PublishRefused(error))
    else:
        done.set_result(None)


# For rooms, whichever way works.


def own_events(room: rtc.Room) -> None:
    """Keep events of other rooms from waking *room*, which is connected."""
    found = dispatcher()
    if found is not None and not found.own(room):
        log.warning("room.sdk_room_shared")


def send_data(
    local: rtc.LocalParticipant, payload: bytes, *, topic: str, to: Sequence[str] = ()
) -> Awaitable[None]:
    """Send a reliable data message, where it can be in this very turn of the loop.

    The result is done when the SDK has sent it.
    """
    handle = getattr(getattr(local, "_ffi_handle", None), "handle", None)
    found = None if handle is None else dispatcher()
    if found is None or handle is None:
        return local.publish_data(
            payload, reliable=True, destination_identities=list(to), topic=topic
        )
    return found.publish(handle, payload, topic=topic, to=to)


# Whether this SDK can be used that way.

_found: Dispatcher | None = None
_looked = False


def dispatcher() -> Dispatcher | None:
    """Return the process's dispatcher, or None where the SDK is not as expected."""
    global _found, _looked
    if not _looked:
        _looked = True
        _found = _look()
    return _found


def _look() -> Dispatcher | None:
    try:
        from livekit.rtc import _ffi_client
        from livekit.rtc._proto import ffi_pb2

        check(ffi_pb2)
        client = _ffi_client.FfiClient.instance
        check_queue(client.queue)
        made = Dispatcher(
            client.queue,
            ffi_pb2,
            native=Native(client._ffi_lib, held=False),
            quick=Native(client._ffi_lib, held=rtc.__version__ in LOCK_KEPT),
        )
        made.install()
        try:
            _probe(made)
        except BaseException:
            made.remove()
            raise
    except Exception as error:  # whatever a strange version does, calls go the public way
        log.warning("room.sdk_dispatch_off", sdk=rtc.__version__, error=f"{error!r:.200}")
        return None
    return made


_REQUESTS: Final = {
    "capture_audio_frame": ("source_handle", "buffer", "request_async_id"),
    "publish_data": (
        "local_participant_handle", "data_ptr", "data_len", "reliable", "topic",
        "destination_identities", "request_async_id",
    ),
    "new_audio_stream": (
        "track_handle", "type", "sample_rate", "num_channels", "frame_size_ms", "queue_size_frames",
    ),
    "new_audio_source": ("type", "sample_rate", "num_channels", "queue_size_ms"),
}  # fmt: skip
_EVENTS: Final = {
    "capture_audio_frame": ("async_id", "error"),
    "publish_data": ("async_id", "error"),
    "audio_stream_event": ("stream_handle", "frame_received", "eos"),
    "room_event": ("room_handle",),
    "rpc_method_invocation": ("local_participant_handle",),
}


def check(messages: Any) -> None:
    """Raise `Unusable` when the SDK's protocol lacks a field that is used here."""
    for whole, wanted in ((messages.FfiRequest, _REQUESTS), (messages.FfiEvent, _EVENTS)):
        for name, fields in wanted.items():
            known = whole.DESCRIPTOR.fields_by_name.get(name)
            have = () if known is None else known.message_type.fields_by_name
            missing = [field for field in fields if field not in have]
            if known is None or missing:
                raise Unusable(f"{whole.DESCRIPTOR.name}.{name} lacks {missing}")


def check_queue(queue: Any) -> None:
    """Raise `Unusable` when the SDK's queue of events is another one than is known."""
    if not isinstance(queue._subscribers, list) or "put" in vars(queue):
        raise Unusable("another queue")
    with queue._lock:
        for subscriber in queue._subscribers:
            _known, loop, wanted = subscriber
            if not hasattr(loop, "call_soon_threadsafe") or not (
                wanted is None or callable(wanted)
            ):
                raise Unusable("another subscriber")


def _probe(made: Dispatcher) -> None:
    """Push 10 ms into a source of nobody: whether requests are numbered by us."""
    request = made._request_type()
    wanted = request.new_audio_source
    wanted.type = 0  # AUDIO_SOURCE_NATIVE
    wanted.sample_rate = _PROBE_RATE
    wanted.num_channels = 1
    wanted.queue_size_ms = 0
    handle = made.request(request).new_audio_source.source.handle.id
    try:
        request = made._request_type()
        request.ParseFromString(made.source(handle, rate=_PROBE_RATE, frame_bytes=160)._wire)
        number = request.capture_audio_frame.request_async_id
        if made.request(request).capture_audio_frame.async_id != number:
            raise Unusable("requests are not numbered by us")
    finally:
        made.drop(handle)

"""RPC calls of others on our participant: LiveKit's protocol, version 1. PURE.

A request is acknowledged at once, whatever becomes of it; its caller gives up after a few
seconds without. Then follows one response: a payload, or an error with one of LiveKit's codes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NewType

from livekit.protocol import models

VERSION: Final = 1
PAYLOAD_LIMIT: Final = 15 * 1024
"""Bytes of a request's and of a response's payload."""

MESSAGE_LIMIT: Final = 256
"""Bytes of an error's text."""

ID_LIMIT: Final = 128
RUNNING_LIMIT: Final = 64
RUNNING_PER_CALLER: Final = 16
SEEN_LIMIT: Final = 1024
"""Requests that are remembered, so that none is run twice."""

DEFAULT_TIMEOUT: Final = 15.0
LONGEST_TIMEOUT: Final = 3600.0

RpcKey = NewType("RpcKey", int)
"""Names one request that runs."""


class RpcCode(IntEnum):
    """LiveKit's error codes, those that the called side uses."""

    UNSUPPORTED_METHOD = 1400
    REQUEST_PAYLOAD_TOO_LARGE = 1402
    UNSUPPORTED_VERSION = 1404
    APPLICATION_ERROR = 1500
    RESPONSE_TIMEOUT = 1502
    RECIPIENT_DISCONNECTED = 1503
    RESPONSE_PAYLOAD_TOO_LARGE = 1504


_TEXTS: Final = {
    RpcCode.UNSUPPORTED_METHOD: "Method not supported at destination",
    RpcCode.REQUEST_PAYLOAD_TOO_LARGE: "Request payload too large",
    RpcCode.UNSUPPORTED_VERSION: "Unsupported RPC version",
    RpcCode.APPLICATION_ERROR: "Application error in method handler",
    RpcCode.RESPONSE_TIMEOUT: "Response timeout",
    RpcCode.RECIPIENT_DISCONNECTED: "Recipient disconnected",
    RpcCode.RESPONSE_PAYLOAD_TOO_LARGE: "Response payload too large",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcAsked:
    """Run *method* and give `RoomData.answer` or `RoomData.refuse` what came of it.

    ``from_server``: by the server's own API; ``caller`` is then no participant but the request.
    """

    key: RpcKey
    caller: str
    method: str
    payload: str
    from_server: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcExpired:
    """The caller no longer waits (it was told): nothing that this request brings is sent."""

    key: RpcKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcReply:
    """Send this packet, an acknowledgement or a response."""

    packet: models.DataPacket


RpcOutput = RpcReply | RpcAsked | RpcExpired


@dataclass(frozen=True, slots=True)
class _Running:
    caller: str
    request: str
    deadline: float


class RpcServer:
    """The requests on our participant; *methods* are those that it serves."""

    def __init__(self, methods: Collection[str]) -> None:
        self._methods = frozenset(methods)
        self._keys = 0
        self._running: dict[RpcKey, _Running] = {}
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def request(self, caller: str, request: models.RpcRequest, now: float) -> list[RpcOutput]:
        """Take a request of the participant *caller*."""
        # Without a caller the response would have no destination, and go to everyone.
        if not caller or not request.id or len(request.id.encode()) > ID_LIMIT:
            return []
        acknowledgement = RpcReply(packet=_to(caller, rpc_ack=models.RpcAck(request_id=request.id)))
        if (caller, request.id) in self._seen:
            return [acknowledgement]
        self._remember(caller, request.id)
        refusal = self._refusal(caller, request)
        if refusal is not None:
            return [acknowledgement, _error(caller, request.id, refusal, _TEXTS[refusal])]
        self._keys += 1
        key = RpcKey(self._keys)
        self._running[key] = _Running(caller, request.id, now + _timeout(request))
        asked = RpcAsked(
            key=key,
            caller=caller,
            method=request.method,
            payload=request.payload,
            from_server=caller == request.id,
        )
        return [acknowledgement, asked]

    def refuse_stream(self, caller: str, request: str) -> list[RpcOutput]:
        """Refuse a request of version 2, which comes as a stream; we never say that we know it."""
        if not caller or not request or len(request.encode()) > ID_LIMIT:
            return []
        code = RpcCode.UNSUPPORTED_VERSION
        acknowledgement = RpcReply(packet=_to(caller, rpc_ack=models.RpcAck(request_id=request)))
        return [acknowledgement, _error(caller, request, code, _TEXTS[code])]

    def _remember(self, caller: str, request: str) -> None:
        self._seen[caller, request] = None
        if len(self._seen) > SEEN_LIMIT:
            self._seen.popitem(last=False)

    def _refusal(self, caller: str, request: models.RpcRequest) -> RpcCode | None:
        if request.version != VERSION:
            return RpcCode.UNSUPPORTED_VERSION
        if len(request.payload.encode()) > PAYLOAD_LIMIT:
            return RpcCode.REQUEST_PAYLOAD_TOO_LARGE
        if request.method not in self._methods:
            return RpcCode.UNSUPPORTED_METHOD
        of_caller = sum(one.caller == caller for one in self._running.values())
        if of_caller >= RUNNING_PER_CALLER or len(self._running) >= RUNNING_LIMIT:
            return RpcCode.APPLICATION_ERROR
        return None

    def answer(self, key: RpcKey, payload: str) -> list[RpcOutput]:
        """Respond with *payload*; nothing when the request is over."""
        running = self._running.pop(key, None)
        if running is None:
            return []
        data = payload.encode(errors="replace")
        if len(data) > PAYLOAD_LIMIT:
            code = RpcCode.RESPONSE_PAYLOAD_TOO_LARGE
            return [_error(running.caller, running.request, code, _TEXTS[code])]
        response = models.RpcResponse(request_id=running.request, payload=data.decode())
        return [RpcReply(packet=_to(running.caller, rpc_response=response))]

    def refuse(self, key: RpcKey, code: int, text: str = "") -> list[RpcOutput]:
        """Respond with an error; one of LiveKit's codes brings its own text if *text* is empty."""
        running = self._running.pop(key, None)
        if running is None:
            return []
        if not 0 <= code < 1 << 32:
            code = RpcCode.APPLICATION_ERROR
        return [_error(running.caller, running.request, code, text or _text(code))]

    def poll(self, now: float) -> list[RpcOutput]:
        """Tell the callers whose time is over."""
        late = [key for key, one in self._running.items() if one.deadline <= now]
        return [
            output
            for key in late
            for output in (*self.refuse(key, RpcCode.RESPONSE_TIMEOUT), RpcExpired(key=key))
        ]

    def next_deadline(self) -> float | None:
        """Return when the next caller gives up."""
        return min((one.deadline for one in self._running.values()), default=None)

    def leave(self) -> list[RpcOutput]:
        """Tell all who wait that we leave."""
        return [
            output
            for key in list(self._running)
            for output in (*self.refuse(key, RpcCode.RECIPIENT_DISCONNECTED), RpcExpired(key=key))
        ]

    def forget(self) -> list[RpcOutput]:
        """We are another participant now: those who called the one before have been told."""
        expired: list[RpcOutput] = [RpcExpired(key=key) for key in self._running]
        self._running.clear()
        self._seen.clear()
        return expired


def _timeout(request: models.RpcRequest) -> float:
    seconds: float = request.response_timeout_ms / 1000
    return min(seconds or DEFAULT_TIMEOUT, LONGEST_TIMEOUT)


def _text(code: int) -> str:
    try:
        return _TEXTS[RpcCode(code)]
    except ValueError:
        return ""


def _error(caller: str, request: str, code: int, text: str) -> RpcReply:
    short = text.encode(errors="replace")[:MESSAGE_LIMIT].decode(errors="ignore")
    error = models.RpcError(code=code, message=short)
    response = models.RpcResponse(request_id=request, error=error)
    return RpcReply(packet=_to(caller, rpc_response=response))


def _to(
    caller: str,
    rpc_ack: models.RpcAck | None = None,
    rpc_response: models.RpcResponse | None = None,
) -> models.DataPacket:
    return models.DataPacket(
        kind=models.DataPacket.RELIABLE,
        destination_identities=[caller],
        rpc_ack=rpc_ack,
        rpc_response=rpc_response,
    )

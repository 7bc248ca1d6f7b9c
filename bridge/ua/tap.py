"""The ladder: which SIP messages passed, per Call-ID, without bodies and numbers."""

from __future__ import annotations

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from bridge.sip.flow import Flow

_MAX_LINE = 160
_MAX_CALL_ID = 256
_DIGITS = re.compile(r"[0-9]{5,}")
_NUMBER = re.compile(r"[0-9]{6,}")  # after the user part, where a port is no number
_CALL_ID = re.compile(rb"\r\n(?:call-id|i)[ \t]*:[ \t]*([^\r\n]+)", re.IGNORECASE)
_DIRECTION = re.compile(rb"^a=(sendrecv|sendonly|recvonly|inactive)[ \t]*\r?$", re.MULTILINE)
_ZERO = re.compile(rb"^c=IN (?:IP4 0\.0\.0\.0|IP6 ::)[ \t]*\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One message. ``at`` is wall time in seconds; ``sdp`` None: no session description."""

    at: float
    direction: Literal["in", "out"]
    first_line: str
    call_id: str
    sdp: str | None
    transport: str
    peer: str


class Tap(Protocol):
    """Hears every whole message. Must not block; what it raises is logged and ignored."""

    def received(self, message: bytes, flow: Flow) -> None:
        """A message came."""

    def sent(self, message: bytes, flow: Flow) -> None:
        """A message was given to the transport."""


class Ladder:
    """The last messages of the last calls; both bounded."""

    def __init__(
        self,
        *,
        calls: int = 2000,
        messages: int = 200,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._calls = calls
        self._messages = messages
        self._wall = wall
        self._rungs: OrderedDict[str, deque[Rung]] = OrderedDict()

    def received(self, message: bytes, flow: Flow) -> None:
        """Note a message that came."""
        self._note("in", message, flow)

    def sent(self, message: bytes, flow: Flow) -> None:
        """Note a message that went."""
        self._note("out", message, flow)

    def of(self, call_id: str) -> list[Rung]:
        """Return the messages of a Call-ID, oldest first."""
        return list(self._rungs.get(call_id[:_MAX_CALL_ID], ()))

    def _note(self, direction: Literal["in", "out"], message: bytes, flow: Flow) -> None:
        head, _, body = message.partition(b"\r\n\r\n")
        found = _CALL_ID.search(head)
        if found is None:
            return  # a keep-alive, or nothing that belongs to a call
        call_id = found[1].strip().decode(errors="replace")[:_MAX_CALL_ID]
        rungs = self._rungs.get(call_id)
        if rungs is None:
            while len(self._rungs) >= self._calls:
                self._rungs.popitem(last=False)
            rungs = self._rungs[call_id] = deque(maxlen=self._messages)
        self._rungs.move_to_end(call_id)
        rungs.append(
            Rung(
                at=self._wall(),
                direction=direction,
                first_line=masked(head.partition(b"\r\n")[0].decode(errors="replace")),
                call_id=call_id,
                sdp=sdp_direction(body),
                transport=flow.transport,
                peer=flow.remote[0],
            )
        )


def masked(line: str) -> str:
    """Return a start line without numbers, control characters, or anything unexpected."""
    first, _, rest = line.partition(" ")
    if first == "SIP/2.0":
        shown = f"{first} {_DIGITS.sub('***', rest)}"
    else:
        uri, _, version = rest.rpartition(" ")
        shown = f"{first} {_masked_uri(uri)} {version}"
    shown = shown[:_MAX_LINE]
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else "?" for c in shown)


def _masked_uri(uri: str) -> str:
    scheme, _, rest = uri.partition(":")
    user, at, host = rest.rpartition("@")
    if scheme.lower() not in ("sip", "sips") or not (at or "." in rest or "[" in rest):
        # tel:, a URI we do not know, or a number in the place of the host.
        return f"{scheme}:***"
    if any(c.isdigit() for c in user):
        user = "***"
    return f"{scheme}:{user}{at}{_NUMBER.sub('***', host)}"


def sdp_direction(body: bytes) -> str | None:
    """Return the direction a session description asks for; None when there is none.

    What stands last wins (media level after session level); a zero address is
    shown as such. Only for reading: negotiation decides by the whole of it.
    """
    start = body.find(b"v=0")
    if start < 0:
        return None
    text = body[start:]
    if _ZERO.search(text):
        return "zero-address"
    found = _DIRECTION.findall(text)
    return found[-1].decode() if found else "sendrecv"

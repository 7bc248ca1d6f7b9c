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
_OF_INVITE = re.compile(rb"\r\ncseq[ \t]*:[ \t]*[0-9]+[ \t]+INVITE", re.IGNORECASE)
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
    """The last messages of the last calls; both bounded.

    A Call-ID that is heard of for the first time stands apart, with a quarter of the room,
    until an INVITE of it is dialled, rings or is answered: a flood of refused calls pushes
    out others like it, and no call that runs.
    """

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
        self._passing: OrderedDict[str, deque[Rung]] = OrderedDict()

    def received(self, message: bytes, flow: Flow) -> None:
        """Note a message that came."""
        self._note("in", message, flow)

    def sent(self, message: bytes, flow: Flow) -> None:
        """Note a message that went."""
        self._note("out", message, flow)

    def of(self, call_id: str) -> list[Rung]:
        """Return the messages of a Call-ID, oldest first."""
        call_id = call_id[:_MAX_CALL_ID]
        return list(self._rungs.get(call_id) or self._passing.get(call_id) or ())

    def _note(self, direction: Literal["in", "out"], message: bytes, flow: Flow) -> None:
        head, _, body = message.partition(b"\r\n\r\n")
        found = _CALL_ID.search(head)
        if found is None:
            return  # a keep-alive, or nothing that belongs to a call
        call_id = found[1].strip().decode(errors="replace")[:_MAX_CALL_ID]
        self._place(call_id, direction, head).append(
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

    def _place(self, call_id: str, direction: str, head: bytes) -> deque[Rung]:
        """Return where the next message of a Call-ID goes."""
        rungs = self._rungs.get(call_id)
        if rungs is not None:
            self._rungs.move_to_end(call_id)
            return rungs
        rungs = self._passing.pop(call_id, None)
        if rungs is None:
            rungs = deque(maxlen=self._messages)
        table, most = self._passing, max(1, self._calls // 4)
        if _becomes_call(direction, head):
            table, most = self._rungs, self._calls
        while len(table) >= most:
            table.popitem(last=False)
        table[call_id] = rungs
        return rungs


def _becomes_call(direction: str, head: bytes) -> bool:
    """Whether a message says that there is more to come: we dial, it rings, it was answered."""
    if head.startswith(b"SIP/2.0 "):
        return b"101" <= head[8:11] <= b"299" and _OF_INVITE.search(head) is not None
    return direction == "out" and head.startswith(b"INVITE ")


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

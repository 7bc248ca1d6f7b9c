"""How long a stream may take over a message. Pure.

Defence against connections that are opened and never used, and against
messages that trickle in byte by byte (slow-loris).
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.sip.framing import Frame, KeepAlive


class StreamWatch:
    """Follows the frames of one stream.

    *patience* is in seconds: for the first message or keep-alive ping of a
    connection that a peer opened (*accepted*), and for every message from its
    first byte to its last.
    """

    __slots__ = ("_patience", "_waiting_since")

    def __init__(self, *, accepted: bool, now: float, patience: float = 10.0) -> None:
        self._patience = patience
        # A peer that opened a connection has something to say; one we dialled may be silent.
        self._waiting_since = now if accepted else None

    def took(self, frames: Sequence[Frame], now: float, *, idle: bool) -> None:
        """Note what was completed by the last bytes; *idle*: nothing unfinished is left."""
        completed = any(frame is KeepAlive.PING or isinstance(frame, bytes) for frame in frames)
        if idle:
            if completed:
                self._waiting_since = None
        elif completed or self._waiting_since is None:
            self._waiting_since = now

    def overdue(self, now: float) -> bool:
        """Whether the peer took too long."""
        return self._waiting_since is not None and now - self._waiting_since >= self._patience

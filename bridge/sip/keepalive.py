"""Keep-alive of the connections we make: a double CRLF now and then.

RFC 5626 3.5.1, 4.4.1. It holds NAT bindings and idle timers; that a peer is gone is only
concluded where it has shown that it answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridge.sip.core import UserAgentCore
from bridge.sip.flow import Flow

PING = b"\r\n\r\n"
# RFC 5626 4.4.1: "If the Flow-Timer header field is not present [...] a random number between 95
# and 120 seconds" over connections; 4.4.2: 24 to 29 seconds over UDP.
STREAM_INTERVAL = (95.0, 120.0)
UDP_INTERVAL = (24.0, 29.0)
PONG_PATIENCE = 10.0  # 4.4.1: "If a pong is not received within 10 seconds"
MAX_FLOWS = 16  # of one trunk; those of most recent use
_SHARES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """One flow that is kept alive. Times in seconds on the clock of the endpoint.

    ``asked``: a ping was sent that no pong has answered. ``answers``: the peer has answered
    one by this flow; from then on ``pong_by`` is when the next answer is due.
    """

    flow: Flow
    trunk: str
    due_at: float
    asked: bool = False
    answers: bool = False
    pong_by: float | None = None

    @property
    def deadline(self) -> float:
        """When something is due."""
        return self.due_at if self.pong_by is None else min(self.due_at, self.pong_by)


class KeepAliveCore:
    """Pings by the flows that requests outside dialogs of some trunks have left by."""

    def __init__(self, core: UserAgentCore) -> None:
        self.core = core
        self.layer = core.layer
        self.trunks: frozenset[str] = frozenset()
        self.beats: dict[int, Beat] = {}

    def configure(self, trunks: frozenset[str]) -> None:
        """Keep the connections of these trunks alive from now on, and of no others."""
        self.trunks = trunks
        for beat in [beat for beat in self.beats.values() if beat.trunk not in trunks]:
            self.forget(beat.flow)

    def used(self, flow: Flow, trunk: str, now: float) -> None:
        """A request of ours outside dialogs left by *flow*."""
        if trunk not in self.trunks:
            return
        known = self.beats.pop(flow.id, None)
        self.beats[flow.id] = known or Beat(flow=flow, trunk=trunk, due_at=self._next(flow, now))
        own = [beat for beat in self.beats.values() if beat.trunk == trunk]
        for beat in own[:-MAX_FLOWS]:
            self.forget(beat.flow)
        self._schedule(flow)

    def forget(self, flow: Flow) -> None:
        """A connection is gone, or is kept alive no more."""
        if self.beats.pop(flow.id, None) is not None:
            self.layer.agenda.set(("keepalive", flow.id), None)

    def pong(self, flow: Flow) -> None:
        """A single CRLF came."""
        beat = self.beats.get(flow.id)
        if beat is not None and beat.asked:
            self.beats[flow.id] = replace(beat, asked=False, answers=True, pong_by=None)
            self._schedule(flow)

    def due(self, number: int, now: float) -> Flow | None:
        """Send what is due; return the flow that has failed, if it has."""
        beat = self.beats.get(number)
        if beat is None:
            return None
        if beat.pong_by is not None and beat.pong_by <= now:
            # RFC 5626 4.4.1: "the client MUST treat the flow as failed."
            self.forget(beat.flow)
            return beat.flow
        if beat.due_at <= now:
            self.layer.courier.write(beat.flow, PING)
            expects = beat.answers and beat.flow.reliable
            self.beats[number] = replace(
                beat,
                due_at=self._next(beat.flow, now),
                asked=True,
                pong_by=now + PONG_PATIENCE if expects else None,
            )
        self._schedule(beat.flow)
        return None

    def enter(self, beat: Beat) -> None:
        """Take a flow of an earlier process."""
        self.beats[beat.flow.id] = beat

    def _next(self, flow: Flow, now: float) -> float:
        first, last = STREAM_INTERVAL if flow.reliable else UDP_INTERVAL
        return now + first + (last - first) * self.core.draw(_SHARES) / _SHARES

    def _schedule(self, flow: Flow) -> None:
        beat = self.beats.get(flow.id)
        self.layer.agenda.set(("keepalive", flow.id), None if beat is None else beat.deadline)


def moved(beat: Beat, seconds: float) -> Beat:
    """Return *beat* on a clock that is *seconds* ahead."""
    pong_by = None if beat.pong_by is None else beat.pong_by + seconds
    return replace(beat, due_at=beat.due_at + seconds, pong_by=pong_by)

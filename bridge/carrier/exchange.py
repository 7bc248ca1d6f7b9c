"""What a leg waits for: its own requests, the ACKs to its answers; and how it behaves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from bridge.carrier import bodies
from bridge.carrier.secure import PROFILES, Srtp
from bridge.carrier.wire import Peer
from bridge.errors import BridgeError
from bridge.sip.message import Request, Response

T1 = 0.5  # seconds, RFC 3261 17.1.1.1
T2 = 4.0
LIFETIME = 64 * T1


class StepFailed(BridgeError):
    """A step did not go as the script says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a leg is, apart from its script.

    ``answers``: the direction every answer of ours has, right or wrong; None: the mirror.
    ``deaf_to_hold``: RTP goes on although the far end holds us. Both are for tests that
    prove that a wrong peer is noticed. ``srtp``: ``optional`` is RTP/AVP with keys,
    ``required`` RTP/SAVP; ``suites`` in our order; ``mki``: our packets name their key.
    ``overtaking``: seconds by which RTP may overtake the 200 or ACK on the way to us; much
    more behind a proxy that RTP does not pass.
    """

    codecs: tuple[str, ...] = ("PCMA", "PCMU")
    telephone_event: int | None = bodies.TELEPHONE_EVENT
    headers: tuple[tuple[str, str], ...] = ()
    answers: str | None = None
    deaf_to_hold: bool = False
    srtp: Srtp = "off"
    suites: tuple[str, ...] = tuple(PROFILES)
    mki: bool = False
    overtaking: float = 0.03
    answer_timeout: float = 90.0
    step_timeout: float = LIFETIME


@dataclass(slots=True, kw_only=True, eq=False)
class Exchange:
    """A request of ours and what came back."""

    request: Request
    data: bytes
    peer: Peer
    late_body: str | None = None  # template of the ACK's answer, when we sent no offer
    responses: list[Response] = field(default_factory=list)
    ack: bytes | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def final(self) -> Response | None:
        """Return the final response."""
        last = self.responses[-1] if self.responses else None
        return last if last is not None and last.status >= 200 else None


@dataclass(slots=True, kw_only=True, eq=False)
class Unacked:
    """A final response to an INVITE that waits for its ACK."""

    request: Request
    data: bytes
    peer: Peer
    since: float
    interval: float = T1
    timer: asyncio.TimerHandle | None = None

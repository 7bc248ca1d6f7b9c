"""What an offer/answer machine knows, as frozen values that can be stored."""

from __future__ import annotations

from dataclasses import dataclass

from sdp.crypto import UNPROTECTED, Protection
from sdp.model import Direction, SessionDescription
from sdp.negotiated import Negotiated


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalMedia:
    """What we bring. ``address`` and ``port``: of our RTP, as the far end reaches it.

    ``codecs``: the trunk's list, best first. ``session_id``: of ``o=``,
    constant for the dialog. ``ptime``: ms. ``dtmf_payload_type``: of
    telephone-event in our offers. ``protection``: of SRTP, with our keys.
    """

    address: str
    port: int
    codecs: tuple[str, ...]
    session_id: int
    ptime: int = 20
    dtmf_payload_type: int = 101
    protection: Protection = UNPROTECTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """Both sides of a finished exchange. ``remote`` is without its origin, name and time."""

    local: SessionDescription
    remote: SessionDescription
    negotiated: Negotiated


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """Our outstanding offer, and what was agreed when it was made."""

    local: SessionDescription
    direction: Direction
    before: Agreed | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferAnswerSnapshot:
    """The whole state. ``version``: the highest of ``o=`` that we have sent; 0 for none.

    ``wanted``: our own wish, the direction of our last offer that was
    answered; sendrecv unless we hold the far end.
    """

    local: LocalMedia
    agreed: Agreed | None = None
    offered: Offered | None = None
    last_sent: SessionDescription | None = None
    version: int = 0
    wanted: Direction = Direction.SENDRECV

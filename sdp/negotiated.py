"""What an offer/answer exchange settled."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from sdp.crypto import Crypto


class Hold(StrEnum):
    """How the far end put us on hold; the first that applies, in this order."""

    NO_MEDIA = "no-media"
    INACTIVE = "inactive"
    ZERO_ADDRESS = "zero-address"
    SENDONLY = "sendonly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiated:
    """The session as both sides now see it, from our point of view.

    ``remote_address`` and ``remote_port`` say where our RTP goes: ``""`` and 0
    when there is nowhere to send (all ports 0). Payload types of packets we
    *send* come from *their* SDP; those we *receive* from ours (RFC 3264 5.1).
    ``ptime`` is the packet time in ms that we send. ``send`` and ``receive``
    are what the directions allow us to do; ``hold`` is set when the far end
    holds us. ``recvonly`` (they will not send, we may) is not a hold. ``crypto``
    is None for plain RTP; it has keys, and is therefore never written down.
    """

    remote_address: str
    remote_port: int
    remote_rtcp_port: int
    codec: str
    payload_type: int
    receive_codecs: tuple[tuple[int, str], ...]
    dtmf_payload_type: int | None
    receive_dtmf_payload_type: int | None
    ptime: int
    send: bool
    receive: bool
    hold: Hold | None
    crypto: Crypto | None = field(default=None, metadata={"secret": True})

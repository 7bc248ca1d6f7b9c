"""The one audio stream of a call: codecs, payload types, packet time, far address."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sdp.crypto import CryptoLine, SrtpPolicy, choose_crypto
from sdp.direction import connection_of, is_zero_address, literal_address
from sdp.model import (
    MAX_PORT,
    MediaDescription,
    RtpMap,
    SessionDescription,
    decimal,
    last_number,
)

G711: Final = {"PCMU": 0, "PCMA": 8}
EVENT: Final = "TELEPHONE-EVENT"
CLOCK_RATE: Final = 8000
DYNAMIC: Final = range(96, 128)
# RFC 3551 6: the payload types that mean something without a=rtpmap and that we use.
STATIC: Final = {
    number: RtpMap(payload_type=number, encoding=name, clock_rate=CLOCK_RATE)
    for name, number in G711.items()
}
# RFC 4585 3.4: AVP and AVPF parties understand each other, AVPF only times RTCP otherwise.
PROTOCOLS: Final = ("RTP/AVP", "RTP/AVPF")
# The same with SRTP, keyed by a=crypto (RFC 4568 4, RFC 5124); not by DTLS.
SECURE_PROTOCOLS: Final = ("RTP/SAVP", "RTP/SAVPF")
MIN_PTIME, MAX_PTIME, PTIME_STEP = 10, 60, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioLine:
    """The audio section chosen among those of an offer or answer.

    ``codecs`` are (payload type, name) in the writer's order, only those of
    the trunk; ``event`` is the payload type of telephone-event/8000; ``crypto``
    is the writer's key for SRTP, None when the line is plain RTP.
    """

    index: int
    codecs: tuple[tuple[int, str], ...]
    event: int | None
    crypto: CryptoLine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where our RTP goes. The RTCP port is 0 when RTCP may go nowhere."""

    address: str
    port: int
    rtcp_port: int


def choose_audio(
    description: SessionDescription,
    codecs: Sequence[str],
    *,
    disabled: bool = False,
    srtp: SrtpPolicy = SrtpPolicy.OFF,
    suites: Sequence[str] = (),
) -> AudioLine | None:
    """Return the first audio section that we can use, None without one.

    *codecs* is the trunk's list. *disabled* asks for sections with port 0
    instead of those with a port. With *srtp* optional the first that can be
    protected by one of *suites* goes before those that cannot.
    """
    plain: AudioLine | None = None
    for index, media in enumerate(description.media):
        if (media.port == 0) is not disabled or not is_audio(media, srtp):
            continue
        line = read_audio(index, media, codecs)
        if not line.codecs:
            continue
        if srtp is SrtpPolicy.OFF or disabled:
            return line
        crypto = choose_crypto(media, suites)
        if crypto is not None:
            return replace(line, crypto=crypto)
        if srtp is SrtpPolicy.OPTIONAL and is_plain_audio(media):
            plain = plain or line
    return plain


def is_audio(media: MediaDescription, srtp: SrtpPolicy) -> bool:
    """Tell whether *media* is audio over a profile that a trunk with *srtp* knows."""
    if is_plain_audio(media):
        return True
    return srtp is not SrtpPolicy.OFF and is_secure_audio(media)


def is_plain_audio(media: MediaDescription) -> bool:
    """Tell whether *media* is audio over unencrypted RTP, whatever its port."""
    return media.media.lower() == "audio" and media.protocol.upper() in PROTOCOLS


def is_secure_audio(media: MediaDescription) -> bool:
    """Tell whether *media* is audio over SRTP with ``a=crypto``, whatever its port."""
    return media.media.lower() == "audio" and media.protocol.upper() in SECURE_PROTOCOLS


def read_audio(index: int, media: MediaDescription, codecs: Sequence[str]) -> AudioLine:
    """Return what of *media* we can use."""
    usable: list[tuple[int, str]] = []
    event: int | None = None
    for mapped in payload_types(media):
        if mapped.clock_rate != CLOCK_RATE or mapped.channels != 1:
            continue
        if mapped.encoding in G711 and mapped.encoding in codecs:
            usable.append((mapped.payload_type, mapped.encoding))
        elif mapped.encoding == EVENT and event is None:
            event = mapped.payload_type
    return AudioLine(index=index, codecs=tuple(usable), event=event)


def payload_types(media: MediaDescription) -> Iterator[RtpMap]:
    """Yield what the formats of *media* mean, in order, each once."""
    maps = media.rtpmaps()
    for text in dict.fromkeys(media.formats):
        number = decimal(text)
        mapped = None if number is None else maps.get(number) or STATIC.get(number)
        if mapped is not None:
            yield mapped


def packet_time(description: SessionDescription, media: MediaDescription, default: int) -> int:
    """Return the ms of audio per packet that the author of *media* wants from us.

    Theirs or *default*, never above their ``maxptime``, within 10 to 60 and a
    multiple of 10. RFC 8866 6.4.
    """
    ptime = media.ptime or last_number(description.attributes, "ptime") or default
    maxptime = media.maxptime or last_number(description.attributes, "maxptime") or MAX_PTIME
    wanted = min(ptime, maxptime)
    return max(MIN_PTIME, min(MAX_PTIME, wanted - wanted % PTIME_STEP))


def destination(
    description: SessionDescription,
    media: MediaDescription,
    allowed: Callable[[str, int], bool],
    *,
    local: str,
) -> Destination | None:
    """Return where *media* wants its RTP, None when we must not send there.

    A zero address passes: nothing is ever sent to it. A name, multicast, and
    an address of another family than *local* do not. RTCP goes to ``a=rtcp``
    (RFC 3605) or the next port (RFC 3550 11), or nowhere if that is refused.
    """
    connection = connection_of(description, media)
    address = None if connection is None else literal_address(connection.address)
    if address is None:
        return None
    rtcp_port = media.rtcp_port or media.port + 1
    if is_zero_address(connection):
        return Destination(address=str(address), port=media.port, rtcp_port=0)
    ours = literal_address(local)
    if address.is_multicast or (ours is not None and ours.version != address.version):
        return None
    if not allowed(str(address), media.port):
        return None
    rtcp_allowed = rtcp_port <= MAX_PORT and allowed(str(address), rtcp_port)
    return Destination(
        address=str(address), port=media.port, rtcp_port=rtcp_port if rtcp_allowed else 0
    )


def dynamic_types(description: SessionDescription) -> dict[int, str]:
    """Return what the dynamic payload types of all audio sections stand for."""
    return {
        mapped.payload_type: mapped.encoding
        for media in description.media
        if media.media.lower() == "audio"
        for mapped in payload_types(media)
        if mapped.payload_type in DYNAMIC
    }

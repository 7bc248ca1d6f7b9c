"""Our own SDP: sections, payload types, whole offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Final

from sdp.audio import DYNAMIC, EVENT, G711, dynamic_types, is_audio
from sdp.crypto import SrtpPolicy
from sdp.model import Attribute, Connection, Direction, MediaDescription, SessionDescription
from sdp.secure import offered_crypto, offered_protocol
from sdp.state import Agreed, LocalMedia

OUR_MAXPTIME: Final = 150


def audio_section(
    *,
    port: int,
    protocol: str,
    codecs: Sequence[tuple[int, str]],
    event: int | None,
    ptime: int,
    maxptime: int | None,
    direction: Direction,
    crypto: Sequence[Attribute] = (),
) -> MediaDescription:
    """Return our audio section: every payload type with its ``rtpmap``."""
    attributes = [_attribute("rtpmap", f"{number} {name}/8000") for number, name in codecs]
    formats = [str(number) for number, _ in codecs]
    if event is not None:
        formats.append(str(event))
        attributes.append(_attribute("rtpmap", f"{event} telephone-event/8000"))
        attributes.append(_attribute("fmtp", f"{event} 0-15"))
    attributes.append(_attribute("ptime", str(ptime)))
    if maxptime is not None:
        attributes.append(_attribute("maxptime", str(maxptime)))
    attributes.extend(crypto)
    attributes.append(Attribute(name=direction.value))
    return MediaDescription(
        media="audio",
        port=port,
        protocol=protocol,
        formats=tuple(formats),
        attributes=tuple(attributes),
    )


def refused(media: MediaDescription) -> MediaDescription:
    """Return *media* as a section with port 0 and its formats (RFC 3264 6)."""
    return MediaDescription(
        media=media.media, port=0, protocol=media.protocol, formats=media.formats or ("0",)
    )


def offered_types(
    codecs: Sequence[str], *, event: int, used: Sequence[tuple[int, str]], theirs: dict[int, str]
) -> tuple[tuple[tuple[int, str], ...], int]:
    """Return the payload types of our offer: those of *codecs*, and of telephone-event.

    *used* are the types this session already has, kept; *theirs* what the far
    end's last SDP means by a dynamic number, so that ours never means another.
    """
    # RFC 3264 8.3.2: the mapping from a particular dynamic payload type number to a
    # particular codec within that media stream MUST NOT change for the duration of a session.
    known = {name: number for number, name in used}
    ours = dict(used)
    taken = {**theirs, **ours}

    def number_of(name: str, preferred: int) -> int:
        candidates = [known.get(name, preferred), preferred, *DYNAMIC]
        # A peer that has taken all 32 dynamic types shares one; ours stay distinct.
        number: int = next(
            number
            for meanings in (taken, ours)
            for number in candidates
            if meanings.get(number, name) == name
        )
        taken[number] = ours[number] = name
        return number

    types = tuple((number_of(name, G711[name]), name) for name in codecs)
    return types, number_of(EVENT, event)


def local_connection(address: str) -> Connection:
    """Return the ``c=`` of our own *address*."""
    return Connection(address_type=address_type(address), address=address)


def address_type(address: str) -> str:
    """Return ``IP4`` or ``IP6``; a host name counts as ``IP4``."""
    try:
        return f"IP{ip_address(address).version}"
    except ValueError:
        return "IP4"


def _attribute(name: str, value: str) -> Attribute:
    return Attribute(name=name, value=value)


def our_session(local: LocalMedia, media: tuple[MediaDescription, ...]) -> SessionDescription:
    """Return a description of ours; its ``o=`` is numbered when it is known to be new."""
    return SessionDescription(origin=None, connection=local_connection(local.address), media=media)


def redirected(
    sections: tuple[MediaDescription, ...], direction: Direction
) -> tuple[MediaDescription, ...]:
    """Return our *sections* with *direction* on the enabled one."""
    names = frozenset(Direction)
    return tuple(
        replace(
            section,
            attributes=tuple(
                Attribute(name=direction.value) if attribute.name in names else attribute
                for attribute in section.attributes
            ),
        )
        for section in sections
    )


def offer_content(
    local: LocalMedia, before: Agreed | None, direction: Direction
) -> SessionDescription:
    """Return a full offer that keeps the lines of the session so far.

    RFC 3264 8: if a previous session had N media streams, the new SDP MUST
    have at least N "m=" lines, in the same order.
    """
    slots: tuple[MediaDescription, ...] = ()
    used: tuple[tuple[int, str], ...] = ()
    theirs: dict[int, str] = {}
    if before is not None:
        slots = before.local.media
        theirs = dynamic_types(before.remote)
        negotiated = before.negotiated
        used = negotiated.receive_codecs
        if negotiated.receive_dtmf_payload_type is not None:
            used = (*used, (negotiated.receive_dtmf_payload_type, EVENT))
    codecs, event = offered_types(
        local.codecs, event=local.dtmf_payload_type, used=used, theirs=theirs
    )
    index = audio_slot(slots, local.protection.policy)
    slot = slots[index] if index < len(slots) else None
    agreed = None if before is None else before.negotiated.crypto
    section = audio_section(
        port=local.port,
        protocol=offered_protocol(local.protection.policy, slot, agreed),
        codecs=codecs,
        event=event,
        ptime=local.ptime,
        maxptime=OUR_MAXPTIME,
        direction=direction,
        crypto=offered_crypto(local.protection, slot, agreed),
    )
    sections = [refused(slot) for slot in slots]
    sections[index : index + 1] = [section]
    return our_session(local, tuple(sections))


def audio_slot(slots: tuple[MediaDescription, ...], srtp: SrtpPolicy) -> int:
    """Return where our audio goes: the enabled line, another audio line, or a new one."""
    for index, slot in enumerate(slots):
        if slot.port:
            return index
    for index, slot in enumerate(slots):
        if is_audio(slot, srtp):
            return index
    return len(slots)

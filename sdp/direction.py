"""Directions, and every dialect of hold (RFC 3264 6.1 and 8.4, RFC 6337 5.3 and 5.4)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from sdp.model import Connection, Direction, MediaDescription, SessionDescription
from sdp.negotiated import Hold

REVERSED: Final = {
    Direction.SENDRECV: Direction.SENDRECV,
    Direction.SENDONLY: Direction.RECVONLY,
    Direction.RECVONLY: Direction.SENDONLY,
    Direction.INACTIVE: Direction.INACTIVE,
}


def direction_from(*, sends: bool, receives: bool) -> Direction:
    """Return the direction that sends and receives exactly so."""
    if sends:
        return Direction.SENDRECV if receives else Direction.SENDONLY
    return Direction.RECVONLY if receives else Direction.INACTIVE


def answer_direction(offered: Direction, wanted: Direction) -> Direction:
    """Return the direction to place in an answer.

    An offer of ``sendonly`` may only be answered ``recvonly`` or ``inactive``;
    *wanted* narrows the result and never widens it.

    RFC 3264 6.1.
    """
    ours = REVERSED[offered]
    return direction_from(
        sends=ours.sends and wanted.sends, receives=ours.receives and wanted.receives
    )


def hold_answer_direction(offered: Direction, wanted: Direction, *, zero: bool) -> Direction:
    """Return the answer's direction, *zero* telling that the offer's ``c=`` is a zero address.

    A zero address with ``sendrecv`` asks us to be silent: ``recvonly`` says
    that we understood (RFC 6337 5.4 allows ``sendrecv`` too).
    """
    if zero and offered is Direction.SENDRECV:
        offered = Direction.SENDONLY
    return answer_direction(offered, wanted)


def direction_of(description: SessionDescription, media: MediaDescription) -> Direction:
    """Return *media*'s direction: its own, else the session's, else sendrecv (RFC 8866 6.7)."""
    return media.direction or description.direction or Direction.SENDRECV


def connection_of(description: SessionDescription, media: MediaDescription) -> Connection | None:
    """Return *media*'s ``c=``: its own, else the session's (RFC 8866 5.7)."""
    return media.connection or description.connection


def literal_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return *text* as an address, None for a name, a scoped address or nonsense.

    An IPv4 address in IPv6 clothes (``::ffff:192.0.2.1``) comes out as IPv4.
    """
    if "%" in text:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_zero_address(connection: Connection | None) -> bool:
    """Tell whether *connection* is ``0.0.0.0`` or ``::``, in any spelling."""
    if connection is None:
        return False
    address = literal_address(connection.address)
    return address is not None and address.is_unspecified


def all_disabled(description: SessionDescription) -> bool:
    """Tell whether there are media lines and every one has port 0."""
    return bool(description.media) and all(media.port == 0 for media in description.media)


def hold_of(description: SessionDescription, media: MediaDescription | None = None) -> Hold | None:
    """Return how the author of *description* holds the reader, None when not at all.

    The first that applies, in the order of `Hold`. *media* is the section that
    was chosen; without one the first enabled audio section counts. The
    address of ``o=`` is irrelevant; ``recvonly`` is not a hold.
    """
    if all_disabled(description):
        return Hold.NO_MEDIA
    media = media or first_audio(description)
    if media is None:
        return None
    direction = direction_of(description, media)
    if direction is Direction.INACTIVE:
        return Hold.INACTIVE
    if is_zero_address(connection_of(description, media)):
        return Hold.ZERO_ADDRESS
    return Hold.SENDONLY if direction is Direction.SENDONLY else None


def first_audio(description: SessionDescription) -> MediaDescription | None:
    """Return the first audio section with a port."""
    for media in description.media:
        if media.media.lower() == "audio" and media.port:
            return media
    return None

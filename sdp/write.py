"""Values to SDP text, strictly as RFC 8866 5 has it."""

from __future__ import annotations

from collections.abc import Iterator

from sdp.model import Attribute, Connection, MediaDescription, SdpError, SessionDescription


def write(description: SessionDescription) -> bytes:
    """Return the body, every line ended by CRLF.

    Raises `SdpError` without an origin, and for a value that holds a line
    end: it would smuggle in a line of its own.
    """
    lines = list(session_lines(description))
    if any("\r" in line or "\n" in line or "\0" in line for line in lines):
        raise SdpError("line end inside a value")
    return "".join(f"{line}\r\n" for line in lines).encode()


def session_lines(description: SessionDescription) -> Iterator[str]:
    """Yield every line of a body. Raises `SdpError` when ``o=`` is missing."""
    origin = description.origin
    if origin is None:
        raise SdpError("no origin")
    yield "v=0"
    yield (
        f"o={origin.username} {origin.session_id} {origin.version}"
        f" {origin.network_type} {origin.address_type} {origin.address}"
    )
    yield f"s={description.name}"
    if description.connection is not None:
        yield connection_line(description.connection)
    yield f"t={description.timing}"
    yield from map(attribute_line, description.attributes)
    for media in description.media:
        yield from media_lines(media)


def media_lines(media: MediaDescription) -> Iterator[str]:
    """Yield the lines of one media section."""
    port = f"{media.port}" if media.port_count == 1 else f"{media.port}/{media.port_count}"
    yield " ".join((f"m={media.media} {port} {media.protocol}", *media.formats))
    if media.connection is not None:
        yield connection_line(media.connection)
    yield from map(attribute_line, media.attributes)


def connection_line(connection: Connection) -> str:
    """Return a ``c=`` line."""
    return (
        f"c={connection.network_type} {connection.address_type}"
        f" {connection.address}{connection.suffix}"
    )


def attribute_line(attribute: Attribute) -> str:
    """Return an ``a=`` line."""
    return (
        f"a={attribute.name}"
        if attribute.value is None
        else f"a={attribute.name}:{attribute.value}"
    )

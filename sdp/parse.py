"""SDP text to values: lenient where the field is sloppy, bounded, one pass.

Tolerated: no ``s=``, ``t=`` or ``o=``; LF or CR line ends; blank lines and
trailing spaces; lines of a section in any order; unknown lines and
attributes. Never: a body that does not begin with ``v=0``, an ``m=`` or
``c=`` line that cannot be read, more than the limits below.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sdp.model import (
    MAX_PORT,
    Attribute,
    Connection,
    MediaDescription,
    Origin,
    SdpError,
    SessionDescription,
    decimal,
)

MAX_BYTES: Final = 64 * 1024
MAX_MEDIA: Final = 64
MAX_ATTRIBUTES: Final = 400  # of one part; a WebRTC offer has 200
MAX_FORMATS: Final = 256


def parse(data: bytes) -> SessionDescription:
    """Return what *data* says.

    Raises `SdpError` and nothing else, whatever the bytes. Linear in their
    number. RFC 8866 5 and 9.
    """
    if len(data) > MAX_BYTES:
        raise SdpError("body longer than 65536 bytes")
    lines = split_lines(data)
    # RFC 8866 5: the version comes first; anything else is not SDP.
    if not lines or lines[0] != ("v", "0"):
        raise SdpError("body does not begin with v=0")
    return assemble(lines[1:])


def split_lines(data: bytes) -> list[tuple[str, str]]:
    """Return the lines as (type, value), without blank ones and outer spaces."""
    data = data.rstrip(b"\0")
    if b"\0" in data:
        raise SdpError("NUL in body")
    text = data.decode("utf-8", errors="replace").replace("\r", "\n")
    lines = []
    for line in text.split("\n"):
        line = line.strip()
        if not line:
            continue
        if len(line) < 2 or line[1] != "=":
            raise SdpError("line is not <type>=<value>")
        lines.append((line[0], line[2:].strip()))
    return lines


@dataclass(slots=True)
class Section:
    """The part being read: the session (``m_line`` None), then each media."""

    m_line: MediaDescription | None = None
    connection: Connection | None = None
    attributes: list[Attribute] = field(default_factory=list)

    def media(self, m_line: MediaDescription) -> MediaDescription:
        """Return *m_line* with what followed it."""
        return MediaDescription(
            media=m_line.media,
            port=m_line.port,
            port_count=m_line.port_count,
            protocol=m_line.protocol,
            formats=m_line.formats,
            connection=self.connection,
            attributes=tuple(self.attributes),
        )


def assemble(lines: list[tuple[str, str]]) -> SessionDescription:
    """Return the description that *lines*, after ``v=``, make."""
    origin: Origin | None = None
    name = timing = ""
    session = section = Section()
    sections: list[Section] = []
    attributes = 0
    for kind, value in lines:
        match kind:
            case "m":
                if len(sections) == MAX_MEDIA:
                    raise SdpError("more than 64 media lines")
                section = Section(m_line=read_media(value))
                sections.append(section)
            case "a":
                attributes += 1
                if attributes > MAX_ATTRIBUTES:
                    raise SdpError(f"more than {MAX_ATTRIBUTES} attributes")
                append_attribute(section.attributes, value)
            case "c":
                # Several are for layered multicast only (RFC 8866 5.7): the first counts.
                section.connection = section.connection or read_connection(value)
            case "o":
                origin = origin or read_origin(value)
            case "s":
                name = name or value
            case "t":
                timing = timing or " ".join(value.split())
            case _:
                pass  # RFC 8866 5: what we do not understand is ignored
    return SessionDescription(
        origin=origin,
        name=name or "-",
        connection=session.connection,
        timing=timing or "0 0",
        attributes=tuple(session.attributes),
        media=tuple(part.media(part.m_line) for part in sections if part.m_line is not None),
    )


def read_origin(value: str) -> Origin | None:
    """Return ``o=``; None when garbled: nothing we do depends on a peer's origin."""
    fields = value.split()
    if len(fields) != 6:
        return None
    username, session_id, version, network_type, address_type, address = fields
    return Origin(
        username=username,
        session_id=session_id,
        version=version,
        network_type=network_type,
        address_type=address_type,
        address=address,
    )


def read_connection(value: str) -> Connection:
    """Return ``<nettype> <addrtype> <address>[/ttl[/count]]``."""
    fields = value.split()
    if len(fields) != 3:
        raise SdpError("malformed c= line")
    address, slash, suffix = fields[2].partition("/")
    if not address:
        raise SdpError("malformed c= line")
    return Connection(
        network_type=fields[0], address_type=fields[1], address=address, suffix=slash + suffix
    )


def read_media(value: str) -> MediaDescription:
    """Return ``<media> <port>[/<count>] <proto> <fmt>...`` without its section."""
    fields = value.split()
    if len(fields) < 3:
        raise SdpError("malformed m= line")
    if len(fields) > 3 + MAX_FORMATS:
        raise SdpError("more than 256 formats in an m= line")
    port_text, slash, count_text = fields[1].partition("/")
    port = decimal(port_text)
    count = decimal(count_text) if slash else 1
    if port is None or port > MAX_PORT or count is None:
        raise SdpError("malformed port in m= line")
    return MediaDescription(
        media=fields[0],
        port=port,
        port_count=count,
        protocol=fields[2],
        formats=tuple(fields[3:]),
    )


def append_attribute(attributes: list[Attribute], text: str) -> None:
    """Add ``name`` or ``name:value`` to *attributes*; one without a name is left out."""
    name, colon, value = text.partition(":")
    name = name.strip()
    if name:
        attributes.append(Attribute(name=name, value=value.strip() if colon else None))

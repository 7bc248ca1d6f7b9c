"""Finding the session description in a message body.

RFC 3261 7.4, RFC 5621 (multipart), RFC 2046 5.1.
"""

from __future__ import annotations

from bridge.sip.grammar import LWS, ParseError, find_param, parse_params

_MAX_DEPTH = 3
_MAX_PARTS = 32
_MAX_BOUNDARY = 70  # characters, RFC 2046 5.1.1


def find_sdp(content_type: str | None, body: bytes) -> bytes | None:
    """Return the first ``application/sdp`` body; None when there is none.

    A body without Content-Type counts when it begins like one. Never raises.
    """
    return _find(content_type, body, 0)


def _find(content_type: str | None, body: bytes, depth: int) -> bytes | None:
    if content_type is None:
        return body if body.startswith(b"v=0") else None
    media_type, _, rest = content_type.partition(";")
    media_type = media_type.strip(LWS).lower()
    if media_type == "application/sdp":
        return body
    if not media_type.startswith("multipart/") or depth == _MAX_DEPTH:
        return None
    for part_type, part in _parts(rest, body):
        found = _find(part_type, part, depth + 1)
        if found is not None:
            return found
    return None


def _parts(params: str, body: bytes) -> list[tuple[str, bytes]]:
    """Return the type and content of every part of a multipart body."""
    try:
        boundary = find_param(parse_params(params), "boundary") or ""
    except ParseError:
        return []
    if not 0 < len(boundary) <= _MAX_BOUNDARY:
        return []
    # RFC 2046 5.1.1: the line break before a delimiter belongs to the delimiter. The body
    # begins with one that has none, so it is given one.
    delimiter = b"\n--" + boundary.encode("utf-8", "surrogateescape")
    pieces = (b"\n" + body).split(delimiter, _MAX_PARTS)
    parts: list[tuple[str, bytes]] = []
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            break
        _, newline, part = piece.partition(b"\n")
        if newline:
            parts.append(_split_part(part.removesuffix(b"\r")))
    return parts


def _split_part(part: bytes) -> tuple[str, bytes]:
    """Return Content-Type (``text/plain`` unless given, RFC 2046 5.2) and content."""
    if part.startswith((b"\r\n", b"\n")):
        return "text/plain", part.partition(b"\n")[2]
    separator = b"\r\n\r\n" if b"\r\n\r\n" in part else b"\n\n"
    head, _, content = part.partition(separator)
    for line in head.decode("utf-8", "surrogateescape").split("\n"):
        name, _, value = line.partition(":")
        if name.strip(LWS).lower() == "content-type":
            return value.strip(" \t\r"), content
    return "text/plain", content

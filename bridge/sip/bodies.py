"""Finding the session description in a message body.

RFC 3261 7.4 and 20.11, RFC 5621 (multipart, Content-Disposition), RFC 2046 5.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.sip.grammar import LWS, ParseError, find_param, parse_params

_MAX_DEPTH = 3
_MAX_PARTS = 32
_MAX_BOUNDARY = 70  # characters, RFC 2046 5.1.1

# RFC 3261 20.11: without a disposition an application/sdp body is the session's. Others, such
# as early-session (RFC 3959) or recording-session (RFC 7866), describe something else.
_SESSION = ("", "session", "render")


@dataclass(frozen=True, slots=True)
class Part:
    """A body, or one of its parts, with what its header says. None: no such field."""

    content_type: str | None
    disposition: str | None
    content: bytes

    @property
    def media_type(self) -> str:
        """Type and subtype, ``""`` without any."""
        return (self.content_type or "").partition(";")[0].strip(LWS).lower()

    @property
    def is_multipart(self) -> bool:
        """Whether there are parts in it."""
        return self.media_type.startswith("multipart/")

    @property
    def is_session(self) -> bool:
        """Whether it describes the session; without Content-Type when it begins like SDP."""
        if (self.disposition or "").partition(";")[0].strip(LWS).lower() not in _SESSION:
            return False
        if self.content_type is None:
            return self.content.startswith(b"v=0")
        return self.media_type == "application/sdp"

    @property
    def handling(self) -> str:
        """``required`` or ``optional``, ``""`` where nothing (readable) is said."""
        try:
            params = parse_params((self.disposition or "").partition(";")[2])
        except ParseError:
            return ""
        return (find_param(params, "handling") or "").lower()


def find_sdp(content_type: str | None, body: bytes, disposition: str | None = None) -> bytes | None:
    """Return the session description; None when there is none. Never raises.

    Of several the first counts; of a ``multipart/alternative`` the last, for RFC 2046
    5.1.4 wants them "in increasing order of preference".
    """
    found = _find(Part(content_type, disposition, body), 0)
    return None if found is None else found.content


def _find(part: Part, depth: int) -> Part | None:
    if not part.is_multipart:
        return part if part.is_session else None
    found: Part | None = None
    for inner in parts_of(part) if depth < _MAX_DEPTH else ():
        found = _find(inner, depth + 1) or found
        if found is not None and part.media_type != "multipart/alternative":
            return found
    return found


def is_beyond_us(content_type: str | None, body: bytes, disposition: str | None) -> bool:
    """Whether the body has something that must be understood and is not.

    DEVIATION: RFC 3261 20.11 and RFC 5621 5 take a part without ``handling`` for required.
    Gateways put ISUP, location and others beside the SDP without saying that they may be
    ignored, and expect the call to go through: what says nothing is ignored beside an SDP.
    """
    whole = Part(content_type, disposition, body)
    if whole.is_session:
        return False
    beside_sdp = _find(whole, 0) is not None
    return _is_beyond(whole, 0, silent_passes=beside_sdp)


def _is_beyond(part: Part, depth: int, *, silent_passes: bool) -> bool:
    if part.is_session or part.handling == "optional":
        return False
    if not part.is_multipart or depth == _MAX_DEPTH:
        return part.handling == "required" or not silent_passes
    inner = parts_of(part)
    verdicts = [_is_beyond(each, depth + 1, silent_passes=silent_passes) for each in inner]
    if part.media_type == "multipart/alternative":
        return all(verdicts)
    return any(verdicts) or not inner


def parts_of(whole: Part) -> list[Part]:
    """Return the parts of a multipart body; none when it cannot be taken apart."""
    return list(_parts((whole.content_type or "").partition(";")[2], whole.content))


def _parts(params: str, body: bytes) -> Iterator[Part]:
    try:
        boundary = find_param(parse_params(params), "boundary") or ""
    except ParseError:
        return
    if not 0 < len(boundary) <= _MAX_BOUNDARY:
        return
    # RFC 2046 5.1.1: the line break before a delimiter belongs to the delimiter. The body
    # begins with one that has none, so it is given one.
    delimiter = b"\n--" + boundary.encode("utf-8", "surrogateescape")
    pieces = (b"\n" + body).split(delimiter, _MAX_PARTS)
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            return
        _, newline, part = piece.partition(b"\n")
        if newline:
            yield _split_part(part.removesuffix(b"\r"))


def _split_part(part: bytes) -> Part:
    """Return a part; ``text/plain`` unless it says otherwise (RFC 2046 5.2)."""
    if part.startswith((b"\r\n", b"\n")):
        return Part("text/plain", None, part.partition(b"\n")[2])
    separator = b"\r\n\r\n" if b"\r\n\r\n" in part else b"\n\n"
    head, _, content = part.partition(separator)
    fields: dict[str, str] = {}
    for line in _unfolded(head.decode("utf-8", "surrogateescape")):
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(LWS).lower(), value.strip(" \t\r"))
    return Part(
        fields.get("content-type", "text/plain"), fields.get("content-disposition"), content
    )


def _unfolded(head: str) -> list[str]:
    lines: list[list[str]] = []
    for line in head.split("\n"):
        if line[:1] in (" ", "\t") and lines:
            lines[-1].append(line)
        else:
            lines.append([line])
    # Joined once: a line may be folded as often as there is room for.
    return ["".join([*(p.rstrip("\r") for p in line[:-1]), line[-1]]) for line in lines]

"""SDP as text: bodies from the templates in ``dialects/``, and what stands in a received one.

On purpose without the ``sdp`` package: what a peer wrote is judged on its raw bytes, so that
the carrier cannot share a mistake with the bridge's own negotiation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template

CODECS = {"PCMU": 0, "PCMA": 8}
TELEPHONE_EVENT = 96

# The direction a correct answer to each offer has (contract section 4; RFC 3264 6.1).
ANSWERS = {
    "offer": "sendrecv",
    "no-direction": "sendrecv",
    "recvonly": "sendonly",
    "sendonly": "recvonly",
    "sendonly-session": "recvonly",
    "inactive": "inactive",
    "inactive-session": "inactive",
    "zero-address": "recvonly",
    "zero-address-sendonly": "recvonly",
    "zero-address-inactive": "inactive",
    "zero-address-ipv6": "recvonly",
    "no-media": "port0",
}
MIRROR = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}
# Bodies after which we still send RTP: music on hold is RTP.
SENDING = frozenset(
    {
        "offer",
        "no-direction",
        "sendonly",
        "sendonly-session",
        "zero-address",
        "zero-address-sendonly",
        "zero-address-ipv6",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What our side writes into a body."""

    address: str
    port: int
    session: int
    version: int
    codecs: tuple[str, ...] = ("PCMA", "PCMU")
    telephone_event: int | None = TELEPHONE_EVENT
    protocol: str = "RTP/AVP"
    crypto: tuple[str, ...] = ()  # values of a=crypto


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A received SDP, as far as a telephone call needs it. Only the first audio line counts."""

    address: str | None
    port: int | None
    direction: str  # sendrecv when none is written, as RFC 4566 6 says
    version: int | None
    formats: tuple[int, ...]
    telephone_event: int | None
    protocol: str = ""
    crypto: tuple[str, ...] = ()  # values of a=crypto

    @property
    def zero_address(self) -> bool:
        """Whether the address is a hold of RFC 2543."""
        return self.address in ("0.0.0.0", "::")  # noqa: S104 - not bound, read

    @property
    def wording(self) -> str:
        """Return the direction, or ``port0``, as expectations name it."""
        return "port0" if self.port in (0, None) else self.direction

    @property
    def codec(self) -> str | None:
        """Return the first G.711 codec of the media line."""
        for payload_type in self.formats:
            for name, number in CODECS.items():
                if number == payload_type:
                    return name
        return None


@cache
def _template(name: str) -> Template:
    text = (files(__package__) / "dialects" / f"{name}.sdp").read_text("ascii")
    return Template("\r\n".join(text.splitlines()) + "\r\n")


def write(name: str, ours: Ours) -> bytes:
    """Return the body *name* (a file of ``dialects/``) with our values filled in."""
    numbers = [str(CODECS[codec]) for codec in ours.codecs]
    lines = [f"a=rtpmap:{CODECS[codec]} {codec}/8000" for codec in ours.codecs]
    if ours.telephone_event is not None:
        numbers.append(str(ours.telephone_event))
        lines.append(f"a=rtpmap:{ours.telephone_event} telephone-event/8000")
        lines.append(f"a=fmtp:{ours.telephone_event} 0-15")
    lines.extend(f"a=crypto:{value}" for value in ours.crypto)
    text = _template(name).substitute(
        address=ours.address,
        port=ours.port,
        session=ours.session,
        version=ours.version,
        formats=" ".join(numbers),
        codecs="".join(f"{line}\r\n" for line in lines),
    )
    return text.replace(" RTP/AVP ", f" {ours.protocol} ").encode("ascii")


def read(raw: bytes) -> Body:
    """Return what *raw* says; never raises, missing parts are None."""
    session, _, rest = raw.partition(b"\nm=audio ")
    media = rest.partition(b"\nm=")[0] if rest else b""
    line = re.match(rb"(\d{1,5})(?:/\d+)? (\S+)((?: \d{1,3})*)", media)
    address = _first(rb"\nc=IN IP[46] ([0-9A-Fa-f.:]+)", b"\n" + media, b"\n" + session)
    version = _first(rb"\no=\S+ \d+ (\d{1,20}) ", b"\n" + session)
    direction = _first(rb"\na=(sendrecv|sendonly|recvonly|inactive)\s", *_lines(media, session))
    event = _first(rb"\na=rtpmap:(\d{1,3}) telephone-event/8000", b"\n" + media)
    return Body(
        address=address,
        port=int(line[1]) if line else None,
        direction=direction or "sendrecv",
        version=int(version) if version is not None else None,
        formats=tuple(int(number) for number in line[3].split()) if line else (),
        telephone_event=int(event) if event is not None else None,
        protocol=line[2].decode("ascii", "replace") if line else "",
        crypto=tuple(
            found.decode("ascii", "replace")
            for found in re.findall(rb"\na=crypto:([^\r\n]+)", b"\n" + media)
        ),
    )


def answer_faults(answer: Body, wanted: str) -> list[str]:
    """Return what is wrong with *answer* when *wanted* is its right direction (contract 4)."""
    if answer.wording != wanted:
        return [f"says {answer.wording}, {wanted} expected"]
    if wanted == "port0":
        return []
    found = []
    if answer.zero_address or answer.address is None:
        found.append(f"has the address {answer.address}, a real one expected")
    g711 = [number for number in answer.formats if number in CODECS.values()]
    if len(g711) != 1:
        found.append(f"has {len(g711)} G.711 codecs, one expected")
    return found


def mirror(offer: Body) -> str:
    """Return the direction a dumb but correct answer has; zero address: ``recvonly``."""
    if offer.zero_address and offer.direction == "sendrecv":
        return "recvonly"
    return MIRROR[offer.direction]


def answer_to(offer: Body, ours: Ours, direction: str | None = None) -> bytes:
    """Return the answer of a dumb phone: the codec we like best of theirs, mirrored direction."""
    numbers = [codec for codec in ours.codecs if CODECS[codec] in offer.formats]
    chosen = Ours(
        address=ours.address,
        port=0 if offer.port in (0, None) else ours.port,
        session=ours.session,
        version=ours.version,
        codecs=tuple(numbers[:1]) or ours.codecs[:1],
        telephone_event=offer.telephone_event,
        protocol=offer.protocol or ours.protocol,
        crypto=ours.crypto,
    )
    wanted = direction or mirror(offer)
    return write("offer", chosen).replace(b"a=sendrecv", f"a={wanted}".encode("ascii"))


def _lines(*parts: bytes) -> Sequence[bytes]:
    return [b"\n" + part + b"\n" for part in parts]


def _first(pattern: bytes, *texts: bytes) -> str | None:
    """Return group 1 of the first text that has it: media level before session level."""
    for text in texts:
        match = re.search(pattern, text)
        if match is not None:
            return match[1].decode("ascii")
    return None

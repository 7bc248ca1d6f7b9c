"""From when until when a certificate is valid: the one thing `ssl` does not tell of our own.

RFC 5280 4.1; X.690 (DER), as far as the way there. Pure.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime

_PEM = re.compile(
    rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----(.+?)-----END (?:TRUSTED |X509 )?CERTIFICATE",
    re.DOTALL,
)
_SEQUENCE, _VERSION, _UTC_TIME, _TIME = 0x30, 0xA0, 0x17, 0x18


class NotACertificate(ValueError):
    """There is no certificate in what was given."""


@dataclass(frozen=True, slots=True)
class Validity:
    """Seconds since 1970."""

    since: float
    until: float


def validity_of(pem: bytes) -> Validity:
    """Return that of the first certificate in a PEM file. Raises `NotACertificate`."""
    found = _PEM.search(pem)
    if found is None:
        raise NotACertificate("no PEM certificate")
    try:
        # Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { version [0], serialNumber,
        # signature, issuer, validity SEQUENCE { notBefore, notAfter } ...
        whole = _inside(b64decode(found[1]), _SEQUENCE)
        fields = _elements(_inside(whole, _SEQUENCE))
        if fields[0][0] == _VERSION:
            fields = fields[1:]
        kind, value = fields[3]
        times = _elements(value) if kind == _SEQUENCE else []
        return Validity(_seconds(*times[0]), _seconds(*times[1]))
    except (IndexError, ValueError, OverflowError, binascii.Error) as failure:
        raise NotACertificate("not understood") from failure


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Return tag, contents and what follows of the first element. Raises `IndexError`."""
    tag, size, start = data[0], data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start])
    if len(data) < start + size:
        raise IndexError("element is cut")
    return tag, data[start : start + size], data[start + size :]


def _inside(data: bytes, wanted: int) -> bytes:
    tag, contents, _ = _element(data)
    if tag != wanted:
        raise ValueError("unexpected element")
    return contents


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while data:
        tag, contents, data = _element(data)
        found.append((tag, contents))
    return found


def _seconds(tag: int, text: bytes) -> float:
    """RFC 5280 4.1.2.5: UTCTime with years 1950 to 2049, or GeneralizedTime; both end in Z."""
    written = text.decode("ascii")
    if tag == _UTC_TIME:
        written = ("19" if int(written[:2]) >= 50 else "20") + written
    elif tag != _TIME:
        raise ValueError("not a time")
    return datetime.strptime(written, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
